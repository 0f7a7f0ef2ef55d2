"""Reads whole JSON documents into messages: parsing, a second and lossless pass where numbers need it, every violation told."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NoReturn

import orjson
from google.protobuf.message import Message

from kernel.errors import Violation
from kernel.protojson import repeats
from kernel.protojson.decoders import Filler, field_filler, filler
from kernel.protojson.findings import BODY, Enough, Findings, JsonRefused, Path
from kernel.protojson.scalars import parse_number
from kernel.protojson.schemas import describe

_LONGEST_INTEGER = 1000


class Reader:
    """Fills messages of one type from JSON, or one field of them from a document that is just that field."""

    def __init__(self, message_class: type[Message], field: str | None = None) -> None:
        descriptor = describe(message_class)
        self._field = field
        self._path: Path = None if field is None else BODY
        self._fill: Filler = filler(descriptor) if field is None else field_filler(descriptor.fields_by_name[field])

    def read(self, data: bytes, message: Message, *, ignore_unknown: bool = False) -> Any:
        """Fills an empty message and answers the parsed JSON.

        Raises:
            JsonRefused: with every violation found.
        """
        found = Findings(exact_at_hand=True, ignore_unknown=ignore_unknown)
        try:
            tree = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            # Half surrogates and numbers beyond a double are JSON, only not for this parser: let them be told by field.
            tree = _parse_exactly(data, error)
            found.exact_at_hand = False
        self._run(tree, message, self._path, found)
        if found.wants_exact:
            found = Findings(exact_at_hand=False, ignore_unknown=ignore_unknown)
            if self._field is None:
                message.Clear()
            else:
                message.ClearField(self._field)
            tree = _parse_exactly(data, None)
            self._run(tree, message, self._path, found)
        if not found.violations and not repeats.are_excluded(data, found.keys):
            repeats.note(data, self._path if self._field is None else (self._path, self._field), found)
        found.settle()
        return tree

    def fill(self, value: Any, message: Message) -> None:
        """Fills an empty message from parsed JSON.

        Raises:
            JsonRefused: with every violation found.
        """
        found = Findings(exact_at_hand=False, ignore_unknown=False)
        self._run(value, message, self._path, found)
        found.settle()

    def _run(self, tree: Any, message: Message, path: Path, found: Findings) -> None:
        if tree is None and self._field is not None:
            return
        try:
            self._fill(message, tree, path, found)
        except Enough:
            found.settle()


def _parse_exactly(data: bytes, refusal: orjson.JSONDecodeError | None) -> Any:
    try:
        return json.loads(
            data.decode("utf-8"), parse_float=parse_number, parse_int=_parse_integer, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise JsonRefused([Violation("", "TOO_DEEP", "nests too deep")], "The body nests too deep.") from None
    except ValueError as error:
        raise JsonRefused(
            [Violation("", "MALFORMED_JSON", _explanation(data, refusal or error))], "The body is not valid JSON."
        ) from None


def _parse_integer(text: str) -> int | Decimal:
    # Python refuses to convert very long digits, and they are out of every range anyway.
    return int(text) if len(text) < _LONGEST_INTEGER else parse_number(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _explanation(data: bytes, error: ValueError) -> str:
    if not data.strip():
        return "is empty, expected a JSON document"
    if data.startswith(b"\xef\xbb\xbf"):
        return "begins with a byte order mark; send plain UTF-8"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as problem:
        return f"is not UTF-8: bad byte at position {problem.start}"
    line, column = getattr(error, "lineno", 0), getattr(error, "colno", 0)
    return f"is not JSON: see line {line}, column {column}" if line else "is not JSON"
