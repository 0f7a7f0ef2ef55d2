"""Requests out of a seed: for each binding, paths, queries, bodies and headers that fit, nearly fit or mean harm."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway_rest.transcoding.rules import Binding, field_at

from .values import json_object, json_value, word

_UNRESERVED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_PATH_SAFE = "!$&'()*+,;=:@-._~"
_BROKEN = ("%", "%4", "%zz", "%ff", "%C3%28", "%00", "a%", "%2", "%u0041", "%ed%a0%80", "%c0%af")
_LARGEST_DEPTH = 130


@dataclass(frozen=True)
class Request:
    """One HTTP request, as bytes go over the wire."""

    method: str
    target: str
    """Path and query, ASCII."""
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        """Before the question mark."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """After the question mark."""
        return self.target.partition("?")[2]

    def __str__(self) -> str:
        shown = self.body if len(self.body) < 400 else self.body[:400] + b"..."
        return f"{self.method} {self.target[:400]} {dict(self.headers)} {shown!r}"


def generate(bindings: tuple[Binding, ...], seed: int, count: int) -> Iterator[Request]:
    """So many requests; the same for the same seed."""
    dice = random.Random(seed)
    for _ in range(count):
        yield _request(dice, dice.choice(bindings))


def _request(dice: random.Random, binding: Binding) -> Request:
    method = binding.method if binding.method != "*" else dice.choice(("GET", "POST", "PUT", "REPORT"))
    if dice.random() < 0.03:
        method = dice.choice(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "REPORT"))
    path = _path(dice, binding)
    query = _query(dice, binding)
    body, headers = b"", [("content-type", "application/json")]
    if binding.body or dice.random() < 0.02:
        body = _body(dice, binding)
    if dice.random() < 0.02:
        kind = dice.choice(
            ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "", "application/x+json")
        )
        headers = [("content-type", kind)] if kind else []
    if dice.random() < 0.03:
        headers.append(
            dice.choice(
                (
                    ("x-http-method-override", "DELETE"),
                    ("accept", "application/json"),
                    ("accept", "text/html"),
                    ("idempotency-key", "7a2c"),
                    ("if-match", '"3"'),
                    ("content-encoding", "gzip"),
                    ("grpc-timeout", "5S"),
                    ("x-user-bin", "aGk="),
                    ("x-note", "caf\u00e9"),
                )
            )
        )
    return Request(method, path + query, body, tuple(headers))


def _path(dice: random.Random, binding: Binding) -> str:
    kinds: dict[int, FieldDescriptor] = {}
    for variable in binding.template.variables:
        target = field_at(binding.input, variable.field)[-1]
        end = variable.end if variable.end is not None and variable.end > 0 else len(binding.template.segments)
        for index in range(variable.start, end):
            kinds[index] = target
    parts: list[str] = []
    for index, segment in enumerate(binding.template.segments):
        if segment == "**":
            parts += [_segment(dice, kinds.get(index)) for _ in range(dice.choice((0, 1, 1, 2, 3)))]
        elif segment == "*":
            parts.append(_segment(dice, kinds.get(index)))
        else:
            parts.append(_literal(dice, segment))
    path = "/" + "/".join(parts)
    if binding.template.verb:
        path += ":" + _literal(dice, binding.template.verb)
    chance = dice.random()
    if chance < 0.02:
        path += dice.choice(("/", "//", ":", ":peek", "/extra", "/%2F", ";a=b", "/.", "/..", ":archive"))
    elif chance < 0.03:
        path = path.replace("/", dice.choice(("//", "/./", "/../d/", "%2F")), 1)
    return path


def _literal(dice: random.Random, text: str) -> str:
    chance = dice.random()
    if chance < 0.01:
        return text.upper()
    if chance < 0.02:
        return f"%{ord(text[0]):02x}" + text[1:]
    return quote(text, safe=_PATH_SAFE)


def _segment(dice: random.Random, field: FieldDescriptor | None) -> str:
    if dice.random() < 0.03:
        return dice.choice(_BROKEN)
    text = word(dice, field) if field is not None else dice.choice(("a", "b", "z"))
    chance = dice.random()
    if chance < 0.1:
        return "".join(f"%{byte:02{dice.choice('xX')}}" for byte in text.encode())
    return quote(text, safe=_PATH_SAFE if chance < 0.6 else "")


def _query(dice: random.Random, binding: Binding) -> str:
    if binding.body == "*" and dice.random() < 0.9:
        return ""
    counts = (0, 0, 1, 1, 2, 3) if binding.method in {"GET", "REPORT", "*"} else (0, 0, 0, 0, 1, 2)
    pieces = [_parameter(dice, binding) for _ in range(dice.choice(counts))]
    if binding.rpc.server_streaming and dice.random() < 0.7:
        pieces.append(f"count={dice.randrange(4)}")
    if binding.rpc.name != "Update" and dice.random() < 0.05:
        pieces.append(f"fail={dice.randrange(1, 18)}")
    if dice.random() < 0.02:
        pieces.append(
            dice.choice(("", "=", "&", "nope=1", "utm_source=x", "=x", "txt=1", "Text=a", "prettyPrint=true", "%zz=1", "key=1"))
        )
    return "?" + "&".join(pieces) if pieces or dice.random() < 0.02 else ""


def _parameter(dice: random.Random, binding: Binding) -> str:
    names: list[FieldDescriptor] = []
    message: Descriptor | None = binding.input
    field: FieldDescriptor | None = None
    while message is not None and len(names) < 6:
        field = dice.choice([item for item in message.fields if item.name not in {"fail", "count"}])
        names.append(field)
        inner = field.message_type
        message = None
        if inner is not None and (not inner.full_name.startswith("google.") or dice.random() < 0.02):
            message = inner if dice.random() < 0.95 else None
    assert field is not None
    name = ".".join(item.name if dice.random() < 0.7 else item.json_name for item in names)
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        name = f"{name}[{dice.choice(('a', '1', 'true', ''))}]"
    text = word(dice, field)
    chance = dice.random()
    if chance < 0.02:
        return f"{name}={dice.choice(_BROKEN)}"
    if chance < 0.04:
        return name
    if chance < 0.07:
        return f"{name}={quote_plus(text)}&{name}={quote_plus(word(dice, field))}"
    encoded = quote_plus(text) if chance < 0.5 else quote(text, safe="" if chance < 0.7 else "!$'()*,;:@/?+")
    if chance > 0.97:
        name = quote(name, safe="").replace("_", "%5F").replace(".", "%2E")
    return f"{name}={encoded}"


def _body(dice: random.Random, binding: Binding) -> bytes:
    field = None if binding.body in {"", "*"} else binding.input.fields_by_name[binding.body]
    text = json_object(dice, binding.input) if field is None else json_value(dice, field)
    chance = dice.random()
    if chance < 0.9:
        return text.encode("utf-8", "surrogatepass")
    return _damaged(dice, text)


def _damaged(dice: random.Random, text: str) -> bytes:
    depth = dice.choice((5, 20, 29, 30, 31, 32, 33, 62, 63, 64, 65, 66, 98, 99, 100, 101, _LARGEST_DEPTH))
    spoilt: list[Any] = [
        text[: max(0, len(text) - 1)],
        text + "x",
        text + ",",
        " " + text + "\n\t",
        "\ufeff" + text,
        text.replace(":", ": "),
        text.replace('"', "'"),
        text[:-1] + ",}",
        text + "// done",
        text + text,
        text.encode() + b"\xff",
        text.encode("utf-16"),
        b'{"text":"\xff"}',
        b'{"text":"\xed\xa0\x80"}',
        b'{"text":"a\nb"}',
        b'{"text":"\x00"}',
        '{"sub":' * depth + "{}" + "}" * depth,
        '{"value":' + "[" * depth + "]" * depth + "}",
        '{"value":' + '{"a":' * depth + "1" + "}" * depth + "}",
        '{"sub":' * depth,
        "[" * depth,
        '{"i32":' + "9" * 400 + "}",
        '{"real":' + "9" * 400 + "}",
        '{"real":1' + "0" * 30 + "." + "0" * 300 + "1}",
        "",
        " ",
        "null",
        "[]",
        "[{}]",
        '"x"',
        "1",
        "true",
        "nul",
        "{",
        "{}",
        "}",
        '{"text"}',
        '{"text":}',
        "{1:2}",
        "{text:1}",
        '{"i32":01}',
        '{"i32":.5}',
        '{"real":+1}',
        '{"i32":0x10}',
        '{"real":Infinity}',
        '{"te\\u0078t":"x"}',
        '{"te\\xt":"x"}',
        '{"text":"\\x41"}',
        '{"text":"\\ud83d\\ude00"}',
        '{"text":"\\ude00\\ud83d"}',
        '{"text":"\\u00"}',
    ]
    choice = dice.choice(spoilt)
    return choice if isinstance(choice, bytes) else choice.encode()
