"""Compiles the contract: generated Python code next to each .proto, and one descriptor file for everybody else.

Runs three ways: `python scripts/build_protos.py` after editing a .proto, from `scripts/up` and `scripts/test` when a .proto is
newer than the build, and as hatchling's build hook when a wheel is made. It installs nothing.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
DESCRIPTORS = PROTOS / "gipos" / "api.binpb"


def sources() -> list[Path]:
    """All .proto files of ours, in a stable order."""
    return sorted((PROTOS / "gipos").rglob("*.proto"))


def is_fresh() -> bool:
    """Whether the descriptor file is newer than every .proto and this script."""
    if not DESCRIPTORS.exists():
        return False
    built = DESCRIPTORS.stat().st_mtime_ns
    return all(path.stat().st_mtime_ns <= built for path in [*sources(), Path(__file__)])


def build() -> None:
    """Compiles everything. Raises RuntimeError with protoc's words when a .proto is wrong."""
    import google.api.annotations_pb2 as annotations
    from grpc_tools import protoc

    for pattern in ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi"):
        for stale in (PROTOS / "gipos").rglob(pattern):
            stale.unlink()
    # google is a namespace package: the folder above google/api holds the .proto sources too.
    google_protos = Path(annotations.__file__).resolve().parents[2]
    well_known = Path(protoc.__file__).resolve().parent / "_proto"
    scripts = Path(sysconfig.get_path("scripts"))
    temporary = DESCRIPTORS.with_suffix(".tmp")
    arguments = [
        "protoc",
        f"-I{PROTOS}",
        f"-I{google_protos}",
        f"-I{well_known}",
        # The environment need not be activated, so the plug-ins are named by path.
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={PROTOS}",
        f"--grpc_python_out={PROTOS}",
        f"--mypy_out=quiet:{PROTOS}",
        f"--mypy_grpc_out=quiet:{PROTOS}",
        f"--descriptor_set_out={temporary}",
        "--include_imports",
        "--include_source_info",
        *(str(path.relative_to(PROTOS)) for path in sources()),
    ]
    if protoc.main(arguments) != 0:
        message = "The contract in protos/ does not compile; the lines above say where."
        raise RuntimeError(message)
    # Last, by rename: the descriptor file's time stamp says that the build is complete.
    temporary.replace(DESCRIPTORS)


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # not building a wheel
    pass
else:

    class CompileContract(BuildHookInterface[Any]):
        """Compiles the contract whenever hatchling builds or installs the project."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's signature)
            """Called by hatchling before it collects files."""
            if not is_fresh():
                build()


if __name__ == "__main__":
    if "--if-stale" not in sys.argv or not is_fresh():
        build()
