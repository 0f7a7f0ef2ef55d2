"""Words and JSON values for each kind of field: right ones first, nearly right ones after them, hostile ones last."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

_INTEGERS = [
    *("0", "1", "-1", "7", "42", "2147483647", "-2147483648", "9007199254740993"),
    *("2147483648", "-2147483649", "4294967295", "4294967296", "9223372036854775807", "9223372036854775808"),
    *("18446744073709551615", "18446744073709551616", "-9223372036854775808", "9" * 30),
    *("007", "-0", "+5", "1.0", "1e3", "1_000", " 1", "1 ", "", "0x10", "٣", "1.5", "true", "null", "-", "1e400", "NaN"),
]
_FLOATS = [
    *("0", "1", "-1.5", "1e3", "1E+3", "0.1", "3.4028235e38", "-0.0", "1e-7", "123456789.125"),
    *("3.5e38", "1e400", "-1e400", "1e-400", "NaN", "Infinity", "-Infinity", "nan", "inf", "infinity", "+1", ".5", "5."),
    *("", "0x1p3", "1,5", "1_0", " 1", "1f", "true", "007", "1e", "--1"),
]
_BOOLEANS = ["true", "false", "true", "false", "TRUE", "False", "1", "0", "t", "yes", "on", "", "null", "2", " true", '"true"']
_TEXTS = [
    *("a", "b", "beras", "kopi susu", "a+b", "ünï", "日本", "💥", "special", "a.b", "a,b", "a;b", "a=b", "a&b", "~", "'", "(x)"),
    *("a/b", "a//b", "/", "a:b", "a:", ":a", "x:peek", "x:archive", "a:b:peek", "x:nope", "a%b", "%", "%25", "%2F", "..", "."),
    *(
        "*",
        "**",
        "{x}",
        "a?b",
        "a#b",
        "",
        " ",
        "\0",
        "a\tb",
        "a\r\nb",
        "\u2028",
        "\x7f",
        "x" * 1000,
        "$",
        "@",
        "!",
        "[0]",
        '"',
        "\\",
    ),
]
_BYTES = ["AAEC", "QQ==", "QQ", "_-8", "/+8=", "//79", "", "A", "!!!!", "QQ=", "QQ===", "Q Q=", "QR", "_+8", "=", "ünï", "AAE"]
_ENUM = [
    "COLOR_RED",
    "COLOR_DARK_BLUE",
    "1",
    "2",
    "0",
    "9",
    "-1",
    "red",
    "dark_blue",
    "color_red",
    "Red",
    "",
    "1.0",
    "COLOR",
    "01",
]
_TIMES = [
    *("2026-11-23T04:05:06Z", "2026-11-23T11:05:06+07:00", "1969-12-31T23:59:59.999999999Z", "2026-11-23T04:05:06.5Z"),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2024-02-29T00:00:00Z", "2026-11-23T04:05:06.123456Z"),
    *("2026-11-23t04:05:06z", "2026-11-23 04:05:06Z", "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-11-23T24:00:00Z"),
    *("2026-11-23T23:59:60Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2026-11-23T04:05:06", "2026-11-23", ""),
    *("2026-11-23T04:05:06.1234567890Z", "2026-11-23T04:05:06.Z", "2026-11-23T04:05:06-00:00", "2026-11-23T04:05:06+24:00"),
    *(
        "2026-11-23T04:05:06+0700",
        "0001-01-01T00:00:00+01:00",
        "yesterday",
        "1763870706",
        "2026-11-23T04:05:06+07",
        "20261123T040506Z",
    ),
]
_WAITS = [
    *("1.5s", "1s", "0s", "-1.5s", "0.000000001s", "315576000000s", "1.50s", "-0.5s", "1.123s"),
    *(
        "315576000001s",
        "1",
        "1m",
        "1h30m",
        "1.0000000001s",
        "",
        "s",
        "1.s",
        ".5s",
        "1 s",
        "+1s",
        "--1s",
        "1e3s",
        "1S",
        "-0s",
        "٣s",
    ),
]
_MASKS = [
    "text",
    "text,i32",
    "sub.text",
    "longName",
    "long_name",
    "sub.longName",
    "",
    "*",
    "a,,b",
    "a b",
    "A",
    "_a",
    "a,",
    "1a",
    "a..b",
]
_STRUCTS = ['{"a":1}', '{"a":{"b":[1,null,"x",true]}}', "{}", "{", "5", "null", "[]", '{"a":1e400}', "x", "", '{"a":NaN}']
_ANYTHING = ["1", '"x"', "x", "null", "true", '{"a":1}', "[1,2]", "{", "", "1.5", "[" * 70 + "]" * 70]

_WHOLE = {
    *(FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32, FieldDescriptor.TYPE_UINT32),
    *(FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64),
    *(FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64),
}
_WORDS: dict[str, list[str]] = {
    "google.protobuf.Timestamp": _TIMES,
    "google.protobuf.Duration": _WAITS,
    "google.protobuf.FieldMask": _MASKS,
    "google.protobuf.Struct": _STRUCTS,
    "google.protobuf.ListValue": _STRUCTS,
    "google.protobuf.Value": _ANYTHING,
}
_JSON = [
    "null",
    "true",
    "0",
    "1.5",
    '"x"',
    "[]",
    "{}",
    "[null]",
    '[""]',
    '{"a":1}',
    "[[]]",
    '"\\ud800"',
    '"\\u0000"',
    "NaN",
    "1e400",
]


def words(field: FieldDescriptor) -> list[str]:
    """Texts for a field, the good ones first."""
    if field.message_type is not None:
        known = _WORDS.get(field.message_type.full_name)
        inner = field.message_type.fields_by_name.get("value")
        return known if known is not None else words(inner) if inner is not None else _TEXTS
    if field.type in _WHOLE:
        return _INTEGERS
    return {
        FieldDescriptor.TYPE_DOUBLE: _FLOATS,
        FieldDescriptor.TYPE_FLOAT: _FLOATS,
        FieldDescriptor.TYPE_BOOL: _BOOLEANS,
        FieldDescriptor.TYPE_BYTES: _BYTES,
        FieldDescriptor.TYPE_ENUM: _ENUM,
    }.get(field.type, _TEXTS)


def word(dice: random.Random, field: FieldDescriptor) -> str:
    """A text for a field; a good one more often than not."""
    choices = words(field)
    return choices[min(dice.randrange(len(choices)), dice.randrange(len(choices)))]


def json_value(dice: random.Random, field: FieldDescriptor, depth: int = 0) -> str:
    """JSON text for a field. Text and not values: what matters here could not be written by a JSON printer."""
    if dice.random() < 0.03:
        return dice.choice(_JSON)
    inner = field.message_type
    if field.is_repeated:
        if inner is not None and inner.GetOptions().map_entry:
            key, value = inner.fields_by_name["key"], inner.fields_by_name["value"]
            pairs = [(quoted(word(dice, key)), _single(dice, value, depth)) for _ in range(dice.randrange(3))]
            return "{" + ",".join(f"{name}:{item}" for name, item in pairs) + "}"
        return "[" + ",".join(_single(dice, field, depth) for _ in range(dice.randrange(3))) + "]"
    return _single(dice, field, depth)


def json_object(dice: random.Random, message: Any, depth: int = 0) -> str:
    """JSON text of a message: a few of its fields in either spelling, now and then a key that is not there or is there twice."""
    pairs = []
    fields = list(message.fields)
    for field in dice.sample(fields, min(len(fields), dice.choice((0, 1, 1, 2, 2, 3)))):
        name = field.name if dice.random() < 0.7 else field.json_name
        if field.name in {"fail", "count"}:
            continue
        pairs.append((name, json_value(dice, field, depth)))
        chance = dice.random()
        if chance < 0.01:
            pairs.append((name, json_value(dice, field, depth)))
        elif chance < 0.02:
            pairs.append((field.json_name, json_value(dice, field, depth)))
    if dice.random() < 0.02:
        pairs.append((dice.choice(("nope", "txt", "Text", "@type", "")), "1"))
    return "{" + ",".join(f"{quoted(name)}:{value}" for name, value in pairs) + "}"


def quoted(text: str) -> str:
    """A JSON string."""
    escapes = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escapes.get(item) or (item if item >= " " else f"\\u{ord(item):04x}") for item in text) + '"'


def _single(dice: random.Random, field: FieldDescriptor, depth: int) -> str:
    inner = field.message_type
    if inner is not None and inner.full_name in {
        "google.protobuf.Struct",
        "google.protobuf.Value",
        "google.protobuf.ListValue",
    }:
        return dice.choice(('{"a":1}', '{"a":{"b":[1,null,"x",true]}}', "{}", "[]", "[1,2]", "5", '"x"', "null", "true", "1e400"))
    if inner is not None and inner.full_name not in _WORDS and not inner.full_name.endswith("Value"):
        return json_object(dice, inner, depth + 1) if depth < 3 else "{}"
    text = word(dice, field)
    # Numbers and booleans both as literals and in quotes, so that each reader is asked for both.
    bare = words(field) in (_INTEGERS, _FLOATS, _BOOLEANS) or (words(field) is _ENUM and text.isdecimal())
    return text if bare and text and dice.random() < 0.7 else quoted(text)
