"""What a field's options say about requests and answers: ours, and the usual ones of google.api."""

from __future__ import annotations

from typing import Any

from google.api import field_behavior_pb2, field_info_pb2
from google.protobuf.descriptor import FieldDescriptor

from gipos.v1 import common_pb2

_BEHAVIOR: Any = field_behavior_pb2
_INFO: Any = field_info_pb2
_CLASSES: dict[int, str] = {common_pb2.DATA_CLASS_PERSONAL: "personal", common_pb2.DATA_CLASS_SECRET: "secret"}
_FORMATS = {1: "uuid", 2: "ipv4", 3: "ipv6", 4: "ip"}
"""Values of google.api.FieldInfo.Format."""


def bounds(field: FieldDescriptor) -> common_pb2.Bounds:
    """What its values must be like; nothing set when nothing was said."""
    found: common_pb2.Bounds = field.GetOptions().Extensions[common_pb2.bounds]
    return found


def is_required(field: FieldDescriptor) -> bool:
    """Whether requests must have it."""
    return _flag(field, common_pb2.required) or _behaves(field, "REQUIRED")


def is_output_only(field: FieldDescriptor) -> bool:
    """Whether only the server sets it."""
    return _flag(field, common_pb2.output_only) or _behaves(field, "OUTPUT_ONLY")


def is_input_only(field: FieldDescriptor) -> bool:
    """Whether answers never have it."""
    return _behaves(field, "INPUT_ONLY")


def is_immutable(field: FieldDescriptor) -> bool:
    """Whether it can be set once only."""
    return _behaves(field, "IMMUTABLE")


def is_always_printed(field: FieldDescriptor) -> bool:
    """Whether every answer has it: fields without presence are printed even when they are empty."""
    return not is_input_only(field) and (not field.has_presence or is_required(field))


def data_class(field: FieldDescriptor) -> str:
    """What kind of field it is for privacy: "personal", "secret" or nothing."""
    number: int = field.GetOptions().Extensions[common_pb2.data_class]
    return _CLASSES.get(number, "")


def text_format(field: FieldDescriptor) -> str:
    """The format that google.api.field_info names; empty when it names none."""
    options: Any = field.GetOptions()
    return _FORMATS.get(options.Extensions[_INFO.field_info].format, "") if options.HasExtension(_INFO.field_info) else ""


def resource(field: FieldDescriptor) -> str:
    """The kind of resource a google.api.resource_reference names; empty when there is none."""
    from google.api import resource_pb2

    resources: Any = resource_pb2
    options: Any = field.GetOptions()
    kind: str = (
        options.Extensions[resources.resource_reference].type if options.HasExtension(resources.resource_reference) else ""
    )
    return kind


def _flag(field: FieldDescriptor, extension: Any) -> bool:
    return bool(field.GetOptions().Extensions[extension])


def _behaves(field: FieldDescriptor, name: str) -> bool:
    options: Any = field.GetOptions()
    return _BEHAVIOR.FieldBehavior.Value(name) in options.Extensions[_BEHAVIOR.field_behavior]
