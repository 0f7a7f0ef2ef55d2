"""The contract as the gateway sees it: the descriptor file that was compiled with the generated code, comments included."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet

import gipos

PACKAGE = "gipos.v1"
_PUBLIC = re.compile(r"gipos\.v[1-9][0-9]*")
"""The packages REST can reach, a version of the API each. Another one appears by its .proto file alone."""


class ContractMissing(Exception):
    """The descriptor file is not where the generated code is. The message says how to make it."""


@dataclass(frozen=True)
class Contract:
    """Descriptors for the machine and for people."""

    files: FileDescriptorSet
    """With source information: comments are the documentation."""
    pool: descriptor_pool.DescriptorPool
    packages: tuple[str, ...] = (PACKAGE,)
    needs_credentials: bool = False
    """Whether every call needs a key or a token, so that the gateway can refuse one without before it reads the body."""


def installed() -> Contract:
    """The contract of the installed `gipos` package, its generated modules imported so that every Any can be read.

    Raises:
        ContractMissing: the package was not compiled.
    """
    for folder in gipos.__path__:
        file = Path(folder) / "api.binpb"
        if file.is_file():
            break
    else:
        raise ContractMissing("gipos/api.binpb is missing; compile the contract with scripts/build_protos.py.")
    files = FileDescriptorSet.FromString(file.read_bytes())
    packages = sorted({item.package for item in files.file if _PUBLIC.fullmatch(item.package)})
    for item in files.file:
        if item.package in packages:
            importlib.import_module(item.name.removesuffix(".proto").replace("/", ".") + "_pb2")
    return Contract(files, descriptor_pool.Default(), tuple(packages), needs_credentials=True)
