"""How personal data looks to those who may not see it. Decided by the contract's data classes, so that no field is forgotten.

It never guesses what a text holds: only fields that the contract marks are masked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gipos.v1 import common_pb2

M = TypeVar("M", bound=Message)

HIDDEN = "•••"
_BULLETS = "••••"


def phone(value: str) -> str:
    """`+6281234567890` becomes `+62812••••890`: enough to recognise one's own customer by. At least four digits stay hidden."""
    return value[: max(0, min(6, len(value) - 7))] + _BULLETS + (value[-3:] if len(value) >= 7 else "")


def email(value: str) -> str:
    """`siti@contoh.id` becomes `s•••@contoh.id`."""
    local, at, domain = value.rpartition("@")
    return f"{local[:1]}{HIDDEN}@{domain}" if at else HIDDEN


def name(value: str) -> str:
    """`Siti` becomes `S•••`, whatever its length."""
    return value[:1] + HIDDEN


def text(value: str) -> str:  # noqa: ARG001 (nothing of the value may show)
    """Everything is hidden, the length included."""
    return HIDDEN


_FORMS: dict[str, tuple[Callable[[str], str], re.Pattern[str]]] = {
    "phone": (phone, re.compile(r"\+?\d{0,5}••••[^•]{0,3}")),
    "email": (email, re.compile(r"[^@]?•••@[^@\s]*|•••")),
    "name": (name, re.compile(r".?•••", re.DOTALL)),
}
_OTHERWISE = (text, re.compile(HIDDEN))


def of_field(field: str, value: str) -> str:
    """The mask of a field's value; nothing stays nothing."""
    return _FORMS.get(field, _OTHERWISE)[0](value) if value else ""


def is_mask(field: str, value: str) -> bool:
    """Whether this is what `of_field` may have answered, whatever the value was: sent back, it must not be stored."""
    return _FORMS.get(field, _OTHERWISE)[1].fullmatch(value) is not None


def masked(message: M) -> M:
    """A copy without personal data in clear, messages within it included. Says so in its field `masked` where it has one."""
    copy = type(message)()
    copy.CopyFrom(message)
    _hide(copy)
    return copy


def personal_fields(descriptor: Any) -> tuple[str, ...]:
    """The fields of a message that the contract calls personal."""
    return tuple(field.name for field in _plan(descriptor)[0])


def holds(descriptor: Any, *classes: int) -> bool:
    """Whether a message, or one within it, has a field of one of these data classes."""
    return _holds(descriptor, frozenset(classes), frozenset())


def _holds(descriptor: Any, classes: frozenset[int], above: frozenset[str]) -> bool:
    if descriptor.full_name in above:
        return False
    above |= {descriptor.full_name}
    return any(
        data_class(field) in classes or (field.message_type is not None and _holds(field.message_type, classes, above))
        for field in descriptor.fields
    )


def data_class(field: FieldDescriptor) -> int:
    """The data class that the contract gives a field."""
    options: Any = field.GetOptions()
    value: int = options.Extensions[common_pb2.data_class]
    return value


@cache
def _plan(descriptor: Any) -> tuple[tuple[FieldDescriptor, ...], tuple[FieldDescriptor, ...]]:
    """The personal fields of a message, and its fields that are messages with personal fields in them."""
    personal, inner = [], []
    for field in descriptor.fields:
        if data_class(field) == common_pb2.DATA_CLASS_PERSONAL:
            if field.type != FieldDescriptor.TYPE_STRING or field.is_repeated:
                raise TypeError(f"{field.full_name} is personal, and only single texts can be masked")
            personal.append(field)
        elif field.message_type is not None and holds(field.message_type, common_pb2.DATA_CLASS_PERSONAL):
            inner.append(field)
    return tuple(personal), tuple(inner)


def _hide(message: Message) -> None:
    personal, inner = _plan(message.DESCRIPTOR)
    for field in personal:
        setattr(message, field.name, of_field(field.name, getattr(message, field.name)))
    if personal and "masked" in message.DESCRIPTOR.fields_by_name:
        message.masked = True  # type: ignore[attr-defined]  # the line above has looked
    for field in inner:
        value = getattr(message, field.name)
        if not field.is_repeated:
            if message.HasField(field.name):
                _hide(value)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key in value:
                _hide(value[key])
        else:
            for each in value:
                _hide(each)
