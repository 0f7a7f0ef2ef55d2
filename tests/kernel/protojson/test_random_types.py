"""The codec on message types nobody wrote: every kind of field under every label, and what json_format makes of the same."""

from __future__ import annotations

from itertools import count
from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel import protojson

from .strategies import messages

WELL_KNOWN = (any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
WORDS = [
    *("Timestamp", "Duration", "Struct", "Value", "ListValue", "Any", "Empty", "BoolValue", "StringValue", "BytesValue"),
    *("DoubleValue", "FloatValue", "Int32Value", "UInt32Value", "Int64Value", "UInt64Value"),
]
SCALARS: list[Any] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17, 18]
KEYS: list[Any] = [3, 4, 5, 6, 7, 8, 9, 13, 15, 16, 17, 18]
ENUM: Any = 14
MESSAGE: Any = 11
# Words of Python, names that differ in case only after conversion, and names with digits and underscores in odd places.
NAMES = ["a", "class", "b_c", "_d", "e__f", "g_1h", "None", "from", "i9", "j_", "self", "m", "v", "p", "c", "o", "K_l"]
numbers = count(1)


@st.composite
def files(draw: st.DrawFn) -> FileDescriptorProto:
    package = f"random{next(numbers)}"
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    file.dependency.extend(module.DESCRIPTOR.name for module in WELL_KNOWN)
    # Lower case and without a common beginning, so that we print the names that json_format reads.
    file.enum_type.append(EnumDescriptorProto(name="Kind"))
    for number, name in ((0, "none"), (1, "one"), (-5, "minus_five"), (2147483647, "most")):
        file.enum_type[0].value.add(name=name, number=number)
    kinds = [f".{package}.M{index}" for index in range(draw(st.integers(1, 3)))]
    for kind in kinds:
        message = file.message_type.add(name=kind.rpartition(".")[2])
        for number, name in enumerate(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True)), start=1):
            _add_field(draw, message, kind, kinds, name, number)
        _sort_out_oneofs(message)
    return file


def _add_field(draw: st.DrawFn, message: DescriptorProto, kind: str, kinds: list[str], name: str, number: int) -> None:
    field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    label = draw(st.sampled_from(["plain", "plain", "optional", "repeated", "map", "oneof"]))
    if label == "map":
        entry = message.nested_type.add(name=f"{_camel(name)}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=FieldDescriptorProto.LABEL_OPTIONAL, type=draw(st.sampled_from(KEYS)))
        _type_of(draw, entry.field.add(name="value", number=2, label=FieldDescriptorProto.LABEL_OPTIONAL), kinds)
        field.label, field.type, field.type_name = FieldDescriptorProto.LABEL_REPEATED, MESSAGE, f"{kind}.{entry.name}"
        return
    _type_of(draw, field, kinds)
    if label == "repeated":
        field.label = FieldDescriptorProto.LABEL_REPEATED
    elif label == "oneof":
        field.oneof_index = 0
    elif label == "optional" and field.type != MESSAGE:
        field.proto3_optional = True


def _camel(name: str) -> str:
    words = [part for part in name.split("_") if part]
    return "".join(word[0].upper() + word[1:] for word in words)


def _type_of(draw: st.DrawFn, field: FieldDescriptorProto, kinds: list[str]) -> None:
    field.type = draw(st.sampled_from([*SCALARS, ENUM, MESSAGE, MESSAGE]))
    if field.type == ENUM:
        field.type_name = kinds[0].rpartition(".")[0] + ".Kind"
    elif field.type == MESSAGE:
        field.type_name = draw(st.sampled_from([*kinds, *(f".google.protobuf.{name}" for name in WORDS)]))


def _sort_out_oneofs(message: DescriptorProto) -> None:
    """Real oneofs come first, then one for each optional field, as protoc writes them."""
    if any(field.HasField("oneof_index") for field in message.field):
        message.oneof_decl.add(name="choice")
    for field in message.field:
        if field.proto3_optional:
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")


def classes(file: FileDescriptorProto) -> tuple[Any, Any]:
    """The first message class of a file, in a pool of its own, and the pool."""
    pool = descriptor_pool.DescriptorPool()
    for module in WELL_KNOWN:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.M0")), pool


def wire(message: Any) -> bytes:
    serialised: bytes = message.SerializeToString(deterministic=True)
    return serialised


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(files(), st.data())
def test_each_reads_what_the_other_prints(file: FileDescriptorProto, data: st.DataObject) -> None:
    message_class, pool = classes(file)
    for _ in range(3):
        message = data.draw(messages(message_class))
        ours = protojson.encode(message)
        assert wire(protojson.decode(ours, message_class)) == wire(message)
        assert wire(json_format.Parse(ours, message_class(), descriptor_pool=pool)) == wire(message)
        for snake in (True, False):
            theirs = json_format.MessageToJson(message, preserving_proto_field_name=snake, descriptor_pool=pool)
            assert wire(protojson.decode(theirs.encode(), message_class)) == wire(message)
