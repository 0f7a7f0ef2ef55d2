"""What became of a request on either side, and every single point in which the two sides differ."""

from __future__ import annotations

import enum
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway_rest.contract import Contract
from gateway_rest.transcoding.rules import Binding

from .cases import Request
from .wires import Answer

_WIDE = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}
_WIDE_MESSAGES = {"google.protobuf.Int64Value", "google.protobuf.UInt64Value"}


@dataclass(frozen=True)
class Outcome:
    """What one side did with a request."""

    answer: Answer
    call: tuple[str, bytes] | None
    """The method that was called and the message it got; None when the service saw nothing."""


class Kind(enum.Enum):
    """In which way two outcomes differ."""

    REFUSED = "we refuse, for this violation, what Envoy hands on or refuses in another way"
    PASSED = "we hand on what Envoy refuses with this status and text"
    UNROUTED = "Envoy finds no method for the path, we do"
    STATUS = "the statuses differ, and nothing else tells why"
    SENT = "the service got another value, or (without a path) another call"
    PRINTED = "the answer has another value, after the house's ways of writing were taken out"


@dataclass(frozen=True)
class Point:
    """One difference of one case."""

    kind: Kind
    path: str = ""
    """The field, as our violation, the request message or the answer names it."""
    reason: str = ""
    """The reason of our violation."""
    text: str = ""
    """The message of our violation, or the text of Envoy's refusal."""
    envoy: Any = None
    ours: Any = None


class Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as they came, twice where they came twice."""


@dataclass(frozen=True)
class Case:
    """A request with its two outcomes."""

    contract: Contract
    request: Request
    binding: Binding | None
    """The binding our gateway finds; None when it finds none."""
    envoy: Outcome
    ours: Outcome

    def points(self) -> Iterator[Point]:
        """Everything in which the outcomes differ."""
        envoy, ours = self.envoy, self.ours
        if self.binding is not None and envoy.call is None and envoy.answer.status == 404:
            # What we say of a request that Envoy did not look at is not a difference between the two.
            yield Point(Kind.UNROUTED, envoy=404, ours=ours.answer.status)
        elif ours.call is None and ours.answer.status >= 400:
            if envoy.call is None and envoy.answer.status == ours.answer.status:
                return
            yield from self._refusals()
        elif envoy.call is None and ours.call is not None:
            text = envoy.answer.body.decode("utf-8", "replace")
            yield Point(Kind.PASSED, text=text, envoy=envoy.answer.status, ours=ours.answer.status)
        elif envoy.call is not None and ours.call is not None:
            yield from self._sent(envoy.call, ours.call)
            if envoy.answer.status != ours.answer.status:
                yield Point(Kind.STATUS, envoy=envoy.answer.status, ours=ours.answer.status)
            elif envoy.call == ours.call and ours.answer.status < 400 and self.request.method != "HEAD":
                yield from self._printed()
        elif envoy.answer.status != ours.answer.status:
            yield Point(Kind.STATUS, envoy=envoy.answer.status, ours=ours.answer.status)

    def _refusals(self) -> Iterator[Point]:
        violations = []
        if self.ours.answer.headers.get("content-type") == "application/problem+json" and self.ours.answer.body:
            violations = json.loads(self.ours.answer.body).get("errors", [])
        for item in violations:
            yield Point(Kind.REFUSED, item["field"], item["reason"], item["message"], self.envoy.answer.status, 400)
        if not violations:
            yield Point(Kind.STATUS, envoy=self.envoy.answer.status, ours=self.ours.answer.status)

    def _sent(self, envoy: tuple[str, bytes], ours: tuple[str, bytes]) -> Iterator[Point]:
        if envoy[0] != ours[0]:
            yield Point(Kind.SENT, envoy=envoy[0], ours=ours[0])
            return
        if envoy[1] == ours[1] or self.binding is None:
            return
        kind = message_factory.GetMessageClass(self.binding.input)
        one, other = _flat(kind.FromString(envoy[1])), _flat(kind.FromString(ours[1]))
        for path in sorted(one.keys() | other.keys()):
            if one.get(path) != other.get(path):
                yield Point(Kind.SENT, path, envoy=one.get(path), ours=other.get(path))

    def _printed(self) -> Iterator[Point]:
        assert self.binding is not None
        output, envoy, ours = self.binding.output, self.envoy.answer, self.ours.answer
        if envoy.headers.get("content-type") != ours.headers.get("content-type") and not self.binding.rpc.server_streaming:
            kinds = envoy.headers.get("content-type"), ours.headers.get("content-type")
            yield Point(Kind.PRINTED, "content-type", envoy=kinds[0], ours=kinds[1])
        elif output.full_name == "google.api.HttpBody":
            if envoy.body != ours.body:
                yield Point(Kind.PRINTED, "body", envoy=envoy.body, ours=ours.body)
        elif self.binding.rpc.server_streaming:
            theirs = [house(output, item) for item in _loaded(envoy.body)]
            yield from different("", theirs, _elements(ours))
        else:
            yield from different("", house(output, _loaded(envoy.body)), _loaded(ours.body))

    # What the request said, for those who judge a point.

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Names and values of the query, form-decoded the lenient way."""
        return parse_qsl(self.request.query, keep_blank_values=True, errors="replace")

    @cached_property
    def parts(self) -> list[str]:
        """The parameters of the query as they were written."""
        return [part for part in self.request.query.split("&") if part]

    @cached_property
    def tree(self) -> Any:
        """The body as JSON with objects as Pairs; None when it is none."""
        try:
            return json.loads(self.request.body, object_pairs_hook=Pairs)
        except (ValueError, RecursionError):
            return None

    def target(self, path: str) -> FieldDescriptor | None:
        """The request field of a dotted path in either spelling, whatever lists lie on the way."""
        if self.binding is None:
            return None
        message: Descriptor | None = self.binding.input
        if self.binding.body not in {"", "*"} and not _has(self.binding.input, re.split(r"[.\[]", path)[0]):
            # The body is this field, and its name is left out of what lies in it.
            message = self.binding.input.fields_by_name[self.binding.body].message_type
            path = re.sub(r"^\[\d+\]\.?", "", path)
        found: FieldDescriptor | None = None
        steps = path.split(".")
        while steps:
            name = steps.pop(0).partition("[")[0]
            if message is None or not _has(message, name):
                return None
            found = next(field for field in message.fields if name in {field.name, field.json_name})
            message = found.message_type
            if message is not None and message.GetOptions().map_entry and steps:
                # The next step is a key.
                steps.pop(0)
                found = message.fields_by_name["value"]
                message = found.message_type
        return found

    def texts(self, path: str) -> list[str]:
        """What the path of the request and its query say for a field."""
        said = [value for name, value in self.pairs if snake(name) == snake(path)]
        if self.binding is not None:
            segments = self.request.path.rstrip("/").split("/")[1:]
            if self.binding.template.verb and segments:
                segments[-1] = segments[-1].rpartition(":")[0]
            for variable in self.binding.template.variables:
                if variable.field in {path, f"{self.binding.body}.{path}"}:
                    parts = segments[variable.start : variable.end]
                    said.append("/".join(unquote(item, errors="replace") for item in parts))
        return said

    def json_at(self, path: str) -> list[Any]:
        """Every value the body has at a path, duplicates included."""
        return list(_at(self.tree, [step for step in path.replace("[", ".[").split(".") if step]))


def _has(message: Descriptor, name: str) -> bool:
    return any(name in {field.name, field.json_name} for field in message.fields)


def _at(tree: Any, steps: list[str]) -> Iterator[Any]:
    if not steps:
        yield tree
    elif steps[0].startswith("[") and isinstance(tree, list) and not isinstance(tree, Pairs):
        index = int(steps[0][1:-1])
        if index < len(tree):
            yield from _at(tree[index], steps[1:])
    elif isinstance(tree, Pairs):
        # A map's key may hold the points that separate steps.
        for count in range(1, len(steps) + 1):
            name = ".".join(steps[:count])
            for key, value in tree:
                if snake(key) == snake(name):
                    yield from _at(value, steps[count:])


def snake(name: str) -> str:
    """A name in snake_case."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _flat(message: Any, prefix: str = "") -> dict[str, Any]:
    """Path to value of everything that is set."""
    result: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        path = prefix + descriptor.name
        inner = descriptor.message_type
        is_map = inner is not None and inner.GetOptions().map_entry
        if is_map:
            for key in value:
                item = value[key]
                result |= _flat_value(f"{path}.{key}", item)
        elif descriptor.is_repeated:
            for index, item in enumerate(value):
                result |= _flat_value(f"{path}[{index}]", item)
        else:
            result |= _flat_value(path, value)
    return result


def _flat_value(path: str, value: Any) -> dict[str, Any]:
    if not hasattr(value, "ListFields"):
        return {path: value if value == value else "NaN"}
    if value.DESCRIPTOR.full_name.startswith("google.protobuf."):
        return {path: str(value)}
    return {path: "set", **_flat(value, path + ".")}


def _loaded(text: bytes) -> Any:
    """Parsed JSON; Envoy's "-0" keeps its sign."""
    return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


def _elements(answer: Answer) -> list[Any]:
    if answer.headers.get("content-type") == "application/json":
        elements: list[Any] = _loaded(answer.body)
        return elements
    return [_loaded(line) for line in answer.body.splitlines()]


def house(message: Descriptor, printed: Any) -> Any:
    """Canonical ProtoJSON in proto names as our house writes it: wide integers as numbers, enums and masks in snake case."""
    if message.full_name in _WIDE_MESSAGES:
        return int(printed)
    if message.full_name == "google.protobuf.FieldMask":
        return snake(printed)
    if message.full_name.startswith("google.protobuf.") and message.full_name != "google.protobuf.Empty":
        return printed
    result: dict[str, Any] = {}
    for name, value in printed.items():
        descriptor = message.fields_by_name[name]
        inner = descriptor.message_type
        if inner is not None and inner.GetOptions().map_entry:
            result[name] = {key: _house_value(inner.fields_by_name["value"], item) for key, item in value.items()}
        elif descriptor.is_repeated:
            result[name] = [_house_value(descriptor, item) for item in value]
        else:
            result[name] = _house_value(descriptor, value)
    return result


def _house_value(descriptor: FieldDescriptor, value: Any) -> Any:
    if descriptor.message_type is not None:
        return house(descriptor.message_type, value)
    if descriptor.cpp_type in _WIDE:
        return int(value)
    if descriptor.enum_type is not None and isinstance(value, str):
        return value.removeprefix("COLOR_").lower()
    if descriptor.type == FieldDescriptor.TYPE_FLOAT and not isinstance(value, str):
        return Single(value)
    return value


class Single(float):
    """A 32-bit number: two texts of it are the same number when their 32 bits are."""


def different(path: str, envoy: Any, ours: Any) -> Iterator[Point]:
    """Where two JSON trees differ."""
    if isinstance(envoy, dict) and isinstance(ours, dict):
        for key in sorted(envoy.keys() | ours.keys()):
            yield from different(f"{path}.{key}", envoy.get(key, "(absent)"), ours.get(key, "(absent)"))
    elif isinstance(envoy, list) and isinstance(ours, list) and len(envoy) == len(ours):
        for index, (one, other) in enumerate(zip(envoy, ours, strict=True)):
            yield from different(f"{path}[{index}]", one, other)
    elif isinstance(envoy, Single) and isinstance(ours, (int, float)):
        if struct.pack("<f", envoy) != struct.pack("<f", ours):
            yield Point(Kind.PRINTED, path, envoy=envoy, ours=ours)
    elif envoy != ours or isinstance(envoy, bool) is not isinstance(ours, bool):
        yield Point(Kind.PRINTED, path, envoy=envoy, ours=ours)
