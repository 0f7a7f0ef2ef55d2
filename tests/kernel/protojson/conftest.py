"""The messages of shapes.proto, in a pool of their own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

import gipos

HERE = Path(__file__).parent


def _load() -> Any:
    import tempfile

    roots = [str(HERE), str(Path(next(iter(gipos.__path__))).parent), str(Path(protoc.__file__).parent / "_proto")]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "set.binpb"
        arguments = ["protoc", *(f"-I{root}" for root in roots), "--include_imports", f"-o{target}", "shapes.proto"]
        assert protoc.main(arguments) == 0
        files = FileDescriptorSet.FromString(target.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    names = ("Shape", "Leaf", "House")
    classes = {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"shapes.v1.{name}")) for name in names}
    return SimpleNamespace(**classes, pool=pool)


@pytest.fixture(scope="session")
def shapes() -> Any:
    return _load()
