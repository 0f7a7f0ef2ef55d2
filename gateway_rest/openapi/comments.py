"""The comments of the contract, by full name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

_SENTENCE = re.compile(r"(.+?[.!?])(?=\s|$)", re.DOTALL)
# Field numbers in descriptor.proto: how a source location names what it belongs to.
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_FIELD, _NESTED, _NESTED_ENUM, _METHOD, _VALUE = 2, 3, 4, 2, 2


class Comments:
    """Looks up the leading comment (else the trailing one) of anything with a name."""

    def __init__(self, files: FileDescriptorSet) -> None:
        self._texts: dict[str, str] = {}
        for file in files.file:
            self._read(file)

    def of(self, full_name: str) -> str:
        """The comment; empty when there is none."""
        return self._texts.get(full_name, "")

    def summary(self, full_name: str) -> tuple[str, str]:
        """The first sentence, and the rest."""
        text = self.of(full_name)
        match = _SENTENCE.match(text)
        if match is None:
            return text, ""
        return " ".join(match[1].split()), text[match.end() :].strip()

    def _read(self, file: FileDescriptorProto) -> None:
        at: dict[tuple[int, ...], str] = {}
        for location in file.source_code_info.location:
            text = location.leading_comments or location.trailing_comments
            if text.strip():
                at[tuple(location.path)] = _clean(text)
        for index, service in enumerate(file.service):
            name = f"{file.package}.{service.name}"
            self._keep(at, (_SERVICE, index), name)
            self._keep_all(at, (_SERVICE, index, _METHOD), name, service.method)
        for index, message in enumerate(file.message_type):
            self._read_message(at, (_MESSAGE, index), file.package, message)
        for index, enum in enumerate(file.enum_type):
            self._keep(at, (_ENUM, index), f"{file.package}.{enum.name}")
            self._keep_all(at, (_ENUM, index, _VALUE), f"{file.package}.{enum.name}", enum.value)

    def _read_message(self, at: dict[tuple[int, ...], str], path: tuple[int, ...], scope: str, message: DescriptorProto) -> None:
        name = f"{scope}.{message.name}"
        self._keep(at, path, name)
        self._keep_all(at, (*path, _FIELD), name, message.field)
        for index, nested in enumerate(message.nested_type):
            self._read_message(at, (*path, _NESTED, index), name, nested)
        for index, enum in enumerate(message.enum_type):
            self._keep(at, (*path, _NESTED_ENUM, index), f"{name}.{enum.name}")
            self._keep_all(at, (*path, _NESTED_ENUM, index, _VALUE), f"{name}.{enum.name}", enum.value)

    def _keep_all(self, at: dict[tuple[int, ...], str], path: tuple[int, ...], scope: str, items: Iterable[Any]) -> None:
        for index, item in enumerate(items):
            self._keep(at, (*path, index), f"{scope}.{item.name}")

    def _keep(self, at: dict[tuple[int, ...], str], path: tuple[int, ...], name: str) -> None:
        if path in at:
            self._texts[name] = at[path]


def _clean(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())
