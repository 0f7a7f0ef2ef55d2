"""A change of the contract that breaks clients does not pass; one that adds does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet

from scripts import build_protos, release_protos

CONTRACT = build_protos.DESCRIPTORS.read_bytes()


def message(files: FileDescriptorSet, name: str) -> DescriptorProto:
    return next(item for file in files.file if file.package == "gipos.v1" for item in file.message_type if item.name == name)


def enum(files: FileDescriptorSet, name: str) -> EnumDescriptorProto:
    return next(item for file in files.file if file.package == "gipos.v1" for item in file.enum_type if item.name == name)


def remove_field(files: FileDescriptorSet) -> None:
    product = message(files, "Product")
    del product.field[[field.name for field in product.field].index("sku")]


def rename_field(files: FileDescriptorSet) -> None:
    field = next(field for field in message(files, "Product").field if field.name == "sku")
    field.name = field.json_name = "code"


def change_type(files: FileDescriptorSet) -> None:
    next(field for field in message(files, "Money").field if field.name == "amount").type = FieldDescriptorProto.TYPE_STRING


def remove_method(files: FileDescriptorSet) -> None:
    service = next(item for file in files.file for item in file.service if item.name == "SaleService")
    del service.method[0]


def remove_value(files: FileDescriptorSet) -> None:
    del enum(files, "SaleStatus").value[-1]


def add_field(files: FileDescriptorSet) -> None:
    message(files, "Product").field.add(
        name="colour",
        json_name="colour",
        number=999,
        type=FieldDescriptorProto.TYPE_STRING,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )


def nothing(files: FileDescriptorSet) -> None:
    del files


def said(change: Callable[[FileDescriptorSet], None], folder: Path) -> str:
    released, changed = folder / "released.binpb", folder / "changed.binpb"
    released.write_bytes(release_protos.stripped(CONTRACT))
    files = FileDescriptorSet.FromString(release_protos.stripped(CONTRACT))
    change(files)
    changed.write_bytes(files.SerializeToString())
    return release_protos.breaks(changed, released)


@pytest.mark.parametrize("change", [remove_field, rename_field, change_type, remove_method, remove_value])
def test_a_breaking_change_does_not_pass(change: Callable[[FileDescriptorSet], None], tmp_path: Path) -> None:
    assert "gipos/v1" in said(change, tmp_path)


@pytest.mark.parametrize("change", [add_field, nothing])
def test_an_addition_passes(change: Callable[[FileDescriptorSet], None], tmp_path: Path) -> None:
    assert said(change, tmp_path) == ""


def test_a_document_that_lost_something_is_told_what() -> None:
    old = release_protos.current()
    assert release_protos.lost(old, old) == []
    new = copy.deepcopy(old)
    del new["calls"]["GET /api/v1/me"]
    new["calls"]["GET /api/v1/products"]["parameters"]["query sku"] = True
    new["schemas"]["Product"]["fields"].remove("sku")
    new["schemas"]["Product"]["required"].remove("name")
    new["schemas"]["ProductInput"]["required"].append("sku")
    new["schemas"]["TaxClass"]["values"].remove("ppn")
    assert release_protos.lost(old, new) == [
        "GET /api/v1/me is gone",
        "GET /api/v1/products: parameter query sku is now required",
        "Product.name is no longer always there",
        "Product.sku is gone",
        "ProductInput.sku is now required",
        "TaxClass: value ppn is gone",
    ]


@pytest.mark.skipif(not release_protos.RELEASED.exists(), reason="nothing was released yet")
def test_the_contract_does_not_break_the_released_one() -> None:
    assert release_protos.breaks(build_protos.DESCRIPTORS, release_protos.RELEASED) == ""
    assert release_protos.lost(json.loads(release_protos.OUTLINE.read_text()), release_protos.current()) == []
