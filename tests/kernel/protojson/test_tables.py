"""The codec row by row: what is accepted, what is refused and with which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gipos.v1 import catalog_pb2, sales_pb2
from kernel import protojson

READ = [
    ('{"i32":1.0}', "i32", 1),
    ('{"i32":"1e2"}', "i32", 100),
    ('{"i32":1e2}', "i32", 100),
    ('{"i32":-0}', "i32", 0),
    ('{"i64":"9007199254740993"}', "i64", 9007199254740993),
    ('{"i64":9007199254740993}', "i64", 9007199254740993),
    ('{"i64":9007199254740993.0}', "i64", 9007199254740993),
    ('{"i64":-9223372036854775808}', "i64", -(2**63)),
    ('{"u64":18446744073709551615}', "u64", 2**64 - 1),
    ('{"u64":1.8446744073709551615e19}', "u64", 2**64 - 1),
    ('{"real":"NaN"}', "real", "nan"),
    ('{"real":"-Infinity"}', "real", float("-inf")),
    ('{"real":-0.0}', "real", -0.0),
    ('{"real":"1.5"}', "real", 1.5),
    ('{"raw":"_-8"}', "raw", b"\xff\xef"),
    ('{"raw":"/+8="}', "raw", b"\xff\xef"),
    ('{"color":"dark_blue"}', "color", -2),
    ('{"color":"COLOR_RED"}', "color", 1),
    ('{"color":-2}', "color", -2),
    ('{"tags":null}', "tags", []),
    ('{"text":"\\ud83d\\ude00"}', "text", "\U0001f600"),
    ('{"text":"\\u2028\\u0001"}', "text", "\u2028\u0001"),
    ('{"text":"\\":","i32" : 1}', "text", '":'),
    ('{"text":":","i32":1}', "i32", 1),
    ('{"raw":"QQ=="}', "raw", b"A"),
    ('{"raw":"QQ"}', "raw", b"A"),
    ('{"boxedI64":"7"}', "boxed_i64.value", 7),
    ('{"maybe":0}', "maybe", 0),
    ('{"other-Name":"x"}', "renamed", "x"),
    ('{"renamed":"x"}', "renamed", "x"),
    ('{"class":"x"}', "class", "x"),
    ('{"mask":"a.bC,d_e"}', "mask.paths", ["a.b_c", "d_e"]),
    ('{"mask":""}', "mask.paths", []),
    ('{"time":"1969-12-31T23:59:59.999999999Z"}', "time.nanos", 999999999),
    ('{"time":"0001-01-01T00:00:00Z"}', "time.seconds", -62135596800),
    ('{"wait":"-1.5s"}', "wait.nanos", -500000000),
    ('{"single":3.4028234663852886e38}', "single", 3.4028234663852886e38),
]
REFUSED = [
    ('{"i32":1.5}', "i32", "WRONG_TYPE"),
    ('{"i32":""}', "i32", "WRONG_TYPE"),
    ('{"i32":"1_000"}', "i32", "WRONG_TYPE"),
    ('{"i32":" 1"}', "i32", "WRONG_TYPE"),
    ('{"i32":true}', "i32", "WRONG_TYPE"),
    ('{"i32":2147483648}', "i32", "OUT_OF_RANGE"),
    ('{"u32":-1}', "u32", "OUT_OF_RANGE"),
    ('{"i64":1e19}', "i64", "OUT_OF_RANGE"),
    ('{"i64":1e999999999999}', "i64", "OUT_OF_RANGE"),
    ('{"i64":' + "9" * 5000 + "}", "i64", "OUT_OF_RANGE"),
    ('{"real":1e400}', "real", "OUT_OF_RANGE"),
    ('{"real":"1e400"}', "real", "OUT_OF_RANGE"),
    ('{"real":"0x1"}', "real", "WRONG_TYPE"),
    ('{"single":1e39}', "single", "OUT_OF_RANGE"),
    ('{"ok":"true"}', "ok", "WRONG_TYPE"),
    ('{"ok":1}', "ok", "WRONG_TYPE"),
    ('{"text":5}', "text", "WRONG_TYPE"),
    ('{"text":"\\ud800"}', "text", "INVALID_CHARACTER"),
    ('{"text":"\\u0000"}', "text", "INVALID_CHARACTER"),
    ('{"raw":"!!!!"}', "raw", "INVALID_FORMAT"),
    ('{"raw":"A"}', "raw", "INVALID_FORMAT"),
    ('{"raw":"="}', "raw", "INVALID_FORMAT"),
    ('{"raw":"QQ="}', "raw", "INVALID_FORMAT"),
    ('{"raw":"QQ==="}', "raw", "INVALID_FORMAT"),
    ('{"raw":"+_8="}', "raw", "INVALID_FORMAT"),
    ('{"raw":"Q Q="}', "raw", "INVALID_FORMAT"),
    ('{"color":"1"}', "color", "INVALID_ENUM"),
    ('{"color":1.0}', "color", "INVALID_ENUM"),
    ('{"color":9}', "color", "INVALID_ENUM"),
    ('{"color":"RED"}', "color", "INVALID_ENUM"),
    ('{"color":[]}', "color", "WRONG_TYPE"),
    ('{"tags":"a"}', "tags", "WRONG_TYPE"),
    ('{"tags":["a",null]}', "tags[1]", "WRONG_TYPE"),
    ('{"children":[{},null]}', "children[1]", "WRONG_TYPE"),
    ('{"children":[{"child":{"i32":"x"}}]}', "children[0].child.i32", "WRONG_TYPE"),
    ('{"words":{"a":null}}', "words.a", "WRONG_TYPE"),
    ('{"words":[]}', "words", "WRONG_TYPE"),
    ('{"leaves":{"x":{}}}', "leaves.x", "WRONG_TYPE"),
    ('{"leaves":{"1":{"size":"x"}}}', "leaves.1.size", "WRONG_TYPE"),
    ('{"flags":{"yes":1}}', "flags.yes", "WRONG_TYPE"),
    ('{"i64":1,"unknown":2}', "unknown", "UNKNOWN_FIELD"),
    ('{"boxed_i64":1,"boxedI64":2}', "boxedI64", "DUPLICATE_FIELD"),
    ('{"left":1,"right":"x"}', "right", "DUPLICATE_FIELD"),
    ('{"text":"a","text":"b"}', "text", "DUPLICATE_FIELD"),
    ('{"text" :"a","text": "b"}', "text", "DUPLICATE_FIELD"),
    ('{"text"\n:"a",\t"text"\r:"b"}', "text", "DUPLICATE_FIELD"),
    ('{"text":"a","te\\u0078t":"b"}', "text", "DUPLICATE_FIELD"),
    ('{"text":"\\u0022:","tags":[],"tags":[]}', "tags", "DUPLICATE_FIELD"),
    ('{"text":"a","text":null}', "text", "DUPLICATE_FIELD"),
    ('{"child":{"i32":1.0,"i32":2}}', "child.i32", "DUPLICATE_FIELD"),
    ('{"children":[{},{"i32":1,"i32":1}]}', "children[1].i32", "DUPLICATE_FIELD"),
    ('{"words":{"a":"b","a":"b"}}', "words.a", "DUPLICATE_FIELD"),
    ('{"free":{"a":{"b":1,"b":2}}}', "free.a.b", "DUPLICATE_FIELD"),
    ('{"list":[{"b":1,"b":2}]}', "list[0].b", "DUPLICATE_FIELD"),
    ('{"value":{"b":1,"b":2}}', "value.b", "DUPLICATE_FIELD"),
    ('{"any":{"@type":"x/shapes.v1.Leaf","size":1,"size":1}}', "any.size", "DUPLICATE_FIELD"),
    ('{"any":{"@type":"x/google.protobuf.Struct","value":{"a":1,"a":2}}}', "any.value.a", "DUPLICATE_FIELD"),
    ('{"time":"2026-02-30T00:00:00Z"}', "time", "INVALID_FORMAT"),
    ('{"time":"2026-01-01t00:00:00Z"}', "time", "INVALID_FORMAT"),
    ('{"time":"2026-01-01T23:59:60Z"}', "time", "INVALID_FORMAT"),
    ('{"time":"2026-01-01T00:00:00"}', "time", "INVALID_FORMAT"),
    ('{"time":"0001-01-01T00:00:00+01:00"}', "time", "INVALID_FORMAT"),
    ('{"time":5}', "time", "WRONG_TYPE"),
    ('{"wait":"1"}', "wait", "INVALID_FORMAT"),
    ('{"wait":"315576000001s"}', "wait", "INVALID_FORMAT"),
    ('{"mask":{"paths":["a"]}}', "mask", "WRONG_TYPE"),
    ('{"mask":"a,,b"}', "mask", "INVALID_FORMAT"),
    ('{"value":1e400}', "value", "OUT_OF_RANGE"),
    ('{"free":{"a":["\\u0000"]}}', "free.a[0]", "INVALID_CHARACTER"),
    ('{"list":{}}', "list", "WRONG_TYPE"),
    ('{"child":[]}', "child", "WRONG_TYPE"),
    ('{"any":{"a":1}}', "any.@type", "REQUIRED"),
    ('{"any":{"@type":"x/nope"}}', "any.@type", "UNKNOWN_TYPE"),
    ('{"any":{"@type":"x/\\ud800"}}', "any.@type", "INVALID_CHARACTER"),
    ('{"any":{"@type":"\\u0000/shapes.v1.Leaf"}}', "any.@type", "INVALID_CHARACTER"),
    ('{"free":{"\\ud800":1}}', "free.?", "INVALID_CHARACTER"),
    ('{"mask":"a.`\\u0000`"}', "mask", "INVALID_CHARACTER"),
    ('{"mask":"a.`\\ud800`"}', "mask", "INVALID_CHARACTER"),
    ('{"any":{"@type":"x/shapes.v1.Leaf","size":"x"}}', "any.size", "WRONG_TYPE"),
    ("[]", "", "WRONG_TYPE"),
    ('"x"', "", "WRONG_TYPE"),
    ("null", "", "WRONG_TYPE"),
    ("{", "", "MALFORMED_JSON"),
    ("", "", "MALFORMED_JSON"),
    ('{"real":NaN}', "", "MALFORMED_JSON"),
    ('{"i32":01}', "", "MALFORMED_JSON"),
    ("\ufeff{}", "", "MALFORMED_JSON"),
]


def _at(message: Any, path: str) -> Any:
    for name in path.split("."):
        message = getattr(message, name)
    return message


@pytest.mark.parametrize(("text", "path", "expected"), READ)
def test_a_value_is_read(text: str, path: str, expected: Any, shapes: Any) -> None:
    value = _at(protojson.decode(text.encode(), shapes.Shape), path)
    if expected == "nan":
        assert value != value
    else:
        assert (list(value) if isinstance(expected, list) else value) == expected
        assert str(value).startswith("-") == str(expected).startswith("-")


@pytest.mark.parametrize(("text", "field", "reason"), REFUSED)
def test_a_value_is_refused_by_field_and_reason(text: str, field: str, reason: str, shapes: Any) -> None:
    with pytest.raises(protojson.JsonRefused) as caught:
        protojson.decode(text.encode(), shapes.Shape)
    assert [(violation.field, violation.reason) for violation in caught.value.violations] == [(field, reason)]


def test_bytes_that_are_no_utf_8_are_refused_with_their_place(shapes: Any) -> None:
    with pytest.raises(protojson.JsonRefused) as caught:
        protojson.decode(b'{"text":"\xff"}', shapes.Shape)
    assert "position 9" in caught.value.violations[0].message


def test_nothing_of_python_shows_in_a_message(shapes: Any) -> None:
    for text, _, _ in REFUSED:
        with pytest.raises(protojson.JsonRefused) as caught:
            protojson.decode(text.encode(), shapes.Shape)
        words = " ".join(violation.message for violation in caught.value.violations)
        assert not any(word in words for word in ("NoneType", "dict", "int()", "codec", "object at"))


def test_every_violation_is_told_with_a_suggestion_and_the_allowed_values() -> None:
    text = b'{"nmae":"x","price":15000,"tax_class":"pnn","barcodes":["1",2],"activ":true}'
    with pytest.raises(protojson.JsonRefused) as caught:
        protojson.decode(text, catalog_pb2.Product)
    found = {violation.field: violation.message for violation in caught.value.violations}
    assert set(found) == {"nmae", "price", "tax_class", "barcodes[1]", "activ"}
    assert 'did you mean "name"?' in found["nmae"]
    assert '{"amount": 15000, "currency": "IDR"}' in found["price"]
    assert '"non_pkp", "ppn"' in found["tax_class"]


def test_a_hostile_document_has_a_bounded_answer() -> None:
    text = json.dumps({f"x{number}" * 50: 1 for number in range(20_000)}).encode()
    with pytest.raises(protojson.JsonRefused) as caught:
        protojson.decode(text, catalog_pb2.Product)
    assert len(caught.value.violations) == 1000
    assert all(len(violation.field) < 100 for violation in caught.value.violations)


def test_repeated_keys_of_a_body_that_is_one_field_are_told_by_their_place(shapes: Any) -> None:
    for field, text, place in (
        ("child", b'{"i32":1,"i32":2}', "i32"),
        ("children", b'[{},{"child":{"i32":1,"i32":2}}]', "[1].child.i32"),
    ):
        with pytest.raises(protojson.JsonRefused) as caught:
            protojson.Reader(shapes.Shape, field).read(text, shapes.Shape())
        assert [violation.field for violation in caught.value.violations] == [place]


def test_repeated_keys_are_found_among_ignored_ones_too(shapes: Any) -> None:
    assert protojson.decode(b'{"old":{"a":1},"text":"x"}', shapes.Shape, ignore_unknown=True).text == "x"
    with pytest.raises(protojson.JsonRefused):
        protojson.decode(b'{"old":{"a":1,"a":2},"text":"x"}', shapes.Shape, ignore_unknown=True)


MANY = 1_000_000
HOSTILE = {
    "digits": b'{"i64":' + b"9" * (4 * MANY) + b"}",
    "digits in quotes": b'{"i64":"' + b"9" * (4 * MANY) + b'"}',
    "digits of a fraction": b'{"i64":0.' + b"0" * (4 * MANY) + b"1}",
    "digits of a double": b'{"real":' + b"9" * (4 * MANY) + b"}",
    "numbers that must be read twice": b'{"numbers":[' + b"1.5," * (MANY // 2) + b"1]}",
    "nulls": b'{"tags":[' + b"null," * (MANY // 2) + b"null]}",
    "lists": b"[" * MANY,
    "objects": b'{"child":' * (MANY // 2),
    "free lists": b'{"value":' + b"[" * MANY + b"]" * MANY + b"}",
    "unknown keys": b"{" + b",".join(b'"x%d":1' % number for number in range(MANY // 4)) + b"}",
    "repeated keys": b"{" + b",".join([b'"text":"a"'] * (MANY // 4)) + b"}",
    "objects with repeated keys": b'{"children":[' + b",".join([b'{"i32":1,"i32":2}'] * (MANY // 8)) + b"]}",
    "colons in texts": b'{"tags":[' + b",".join([b'":"'] * (MANY // 2)) + b",5]}",
    "half characters": b'{"tags":[' + b",".join([b'"\\ud800"'] * (MANY // 4)) + b"]}",
    "mask": b'{"mask":"' + b"a," * MANY + b'"}',
    "time": b'{"time":"' + b"2026-11-23T04:05:06." + b"0" * MANY + b'"}',
    "base64": b'{"raw":"' + b"A" * (4 * MANY + 1) + b'"}',
    "decimal": b'{"color":"' + b"x" * (4 * MANY) + b'"}',
    "type": b'{"any":{"@type":"' + b"x/" * MANY + b'"}}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_four_megabytes_of_anything_are_refused_in_short(name: str, shapes: Any) -> None:
    with pytest.raises(protojson.JsonRefused) as caught:
        protojson.decode(HOSTILE[name], shapes.Shape)
    assert len(caught.value.violations) <= 1000
    assert all(len(violation.field) + len(violation.message) < 500 for violation in caught.value.violations)


def test_messages_nest_64_deep_and_no_deeper(shapes: Any) -> None:
    def nested(depth: int) -> bytes:
        return b'{"child":' * (depth - 1) + b"{}" + b"}" * (depth - 1)

    protojson.decode(nested(64), shapes.Shape)
    for depth in (65, 1000, 100_000):
        with pytest.raises(protojson.JsonRefused) as caught:
            protojson.decode(nested(depth), shapes.Shape)
        assert caught.value.violations[0].reason == "TOO_DEEP"
    with pytest.raises(protojson.JsonRefused):
        protojson.decode(b'{"value":' + b"[" * 70 + b"]" * 70 + b"}", shapes.Shape)


DECIMALS = [
    ("2", "2"),
    ("1.50", "1.5"),
    ("0.1", "0.1"),
    ("-3.0", "-3"),
    ("-0.0", "0"),
    ("1e3", "1000"),
    ("9007199254740993", "9007199254740993"),
    ("9007199254740993.125", "9007199254740993.125"),
    ("0.1000000000000000055", "0.1000000000000000055"),
    ("18446744073709551616", "18446744073709551616"),
    ('"1.50"', "1.50"),
    ('""', ""),
    ("null", ""),
]


@pytest.mark.parametrize(("text", "expected"), DECIMALS)
def test_a_decimal_keeps_every_digit(text: str, expected: str, shapes: Any) -> None:
    message = protojson.decode(f'{{"amount":{text}}}'.encode(), shapes.House)
    assert message.amount == expected
    if text != "null":
        assert list(protojson.decode(f'{{"amounts":[{text}]}}'.encode(), shapes.House).amounts) == [expected]


@pytest.mark.parametrize("text", ['"1,5"', '"NaN"', '"1e3"', '"abc"', '" 1"', '"+1"', "1e999", "1e-999", "true", "[]"])
def test_what_is_no_decimal_is_refused(text: str, shapes: Any) -> None:
    with pytest.raises(protojson.JsonRefused) as caught:
        protojson.decode(f'{{"amount":{text}}}'.encode(), shapes.House)
    assert [violation.field for violation in caught.value.violations] == ["amount"]
    if text == '"1,5"':
        assert "not a comma" in caught.value.violations[0].message


def test_plain_json_prints_the_resource_without_a_type(shapes: Any) -> None:
    house = shapes.House()
    house.data.Pack(shapes.Leaf(size=3))
    assert protojson.to_dict(house)["data"] == {"size": 3}
    shape = shapes.Shape()
    shape.any.Pack(shapes.Leaf(size=3))
    assert protojson.to_dict(shape)["any"] == {"@type": "type.googleapis.com/shapes.v1.Leaf", "size": 3}


def test_an_any_of_an_unknown_type_keeps_its_bytes(shapes: Any) -> None:
    house = shapes.House()
    house.data.type_url, house.data.value = "x/unknown.Type", b"\x01"
    assert protojson.to_dict(house)["data"] == {"@type": "x/unknown.Type", "value": "AQ=="}


def test_defaults_are_printed_and_absence_is_not(shapes: Any) -> None:
    printed = protojson.to_dict(shapes.Shape())
    assert (printed["i64"], printed["text"], printed["tags"], printed["words"]) == (0, "", [], {})
    assert printed["color"] == "unspecified"
    assert "other-Name" not in printed
    assert not {"child", "maybe", "left", "time", "boxed_i64"} & printed.keys()
    assert protojson.to_dict(shapes.Shape(maybe=0, left=0)).keys() >= {"maybe", "left"}


def test_enums_print_short_names_the_first_of_aliases_and_unknown_numbers(shapes: Any) -> None:
    house = shapes.House(aliased=1, mixed=1)
    assert protojson.to_dict(house)["aliased"] == "first"
    assert protojson.to_dict(house)["mixed"] == "mixed_one"
    assert protojson.decode(b'{"aliased":"second"}', shapes.House).aliased == 1
    assert protojson.to_dict(shapes.House(aliased=7))["aliased"] == 7
    assert protojson.to_dict(sales_pb2.Sale(status=sales_pb2.SALE_STATUS_PARTIALLY_REFUNDED))["status"] == "partially_refunded"


def test_a_value_without_json_form_is_a_failure_of_its_maker(shapes: Any) -> None:
    broken = shapes.Shape()
    broken.time.seconds = 10**15
    with pytest.raises(protojson.EncodingFailed):
        protojson.encode(broken)


def test_one_field_can_be_the_whole_document(shapes: Any) -> None:
    reader = protojson.Reader(shapes.Shape, "children")
    message = shapes.Shape(text="kept")
    tree = reader.read(b'[{"i32":1},{"real":2.5}]', message)
    assert (len(message.children), message.text, tree[0]) == (2, "kept", {"i32": 1})
    with pytest.raises(protojson.JsonRefused) as caught:
        reader.read(b'[{},{"i32":"x"}]', shapes.Shape())
    assert caught.value.violations[0].field == "[1].i32"
    assert protojson.Writer(shapes.Shape, "tags").write(shapes.Shape(tags=["a"])) == b'["a"]'


def test_a_lossless_second_reading_does_not_double_lists(shapes: Any) -> None:
    message = protojson.decode(b'{"children":[{"i32":1.0}],"tags":["a"]}', shapes.Shape)
    assert (len(message.children), list(message.tags)) == (1, ["a"])
    reader = protojson.Reader(shapes.Shape, "children")
    target = shapes.Shape(text="kept")
    reader.read(b'[{"i32":1.0}]', target)
    assert (len(target.children), target.text) == (1, "kept")


def test_parsed_json_is_read_as_well() -> None:
    with pytest.raises(protojson.JsonRefused) as caught:
        protojson.Reader(catalog_pb2.Product).fill({"price": {"amount": "x"}}, catalog_pb2.Product())
    assert caught.value.violations[0].field == "price.amount"
    item = catalog_pb2.ProductImport()
    protojson.Reader(catalog_pb2.ProductImport).fill({"opening_stock": 1.5}, item)
    assert item.opening_stock == "1.5"


def test_unknown_fields_can_be_ignored_on_request() -> None:
    assert protojson.decode(b'{"old":1,"name":"x"}', catalog_pb2.Product, ignore_unknown=True).name == "x"


def test_fields_of_the_wire_that_are_unknown_are_dropped_and_split_lists_are_joined(shapes: Any) -> None:
    leaf = shapes.Leaf.FromString(b"\x08\x05\x98\x06\x01")
    assert protojson.encode(leaf) == b'{"size":5}'
    shape = shapes.Shape.FromString(shapes.Shape(numbers=[1]).SerializeToString() + shapes.Shape(numbers=[2]).SerializeToString())
    assert protojson.to_dict(shape)["numbers"] == [1, 2]
