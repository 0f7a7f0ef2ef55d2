"""Queries against an oracle: the same values put into the message by protobuf's own json_format."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from google.protobuf import json_format, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_rest.transcoding import rules
from gateway_rest.transcoding.query import QueryTable
from kernel.protojson.findings import Enough, Findings

PROTO = Path(__file__).parents[1] / "differential" / "echo.proto"

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
SINGLE: dict[str, st.SearchStrategy[Any]] = {
    "text": words,
    "i32": st.integers(-(2**31), 2**31 - 1),
    "u32": st.integers(0, 2**32 - 1),
    "sf64": st.integers(-(2**63), 2**63 - 1),
    "u64": st.integers(0, 2**64 - 1),
    "ok": st.booleans(),
    "real": st.floats(allow_nan=False, allow_infinity=False),
    "raw": st.binary(max_size=5),
    "color": st.sampled_from(["COLOR_RED", "COLOR_DARK_BLUE"]),
    "sub.text": words,
    "sub.sub.longName": words,
    "sub.sub.sub.sub.i32": st.integers(-9, 9),
    "time": st.sampled_from(["2026-11-23T04:05:06Z", "1969-12-31T23:59:59.5+07:00"]),
    "wait": st.sampled_from(["1.5s", "-3s"]),
    "mask": st.sampled_from(["a", "a,b.c"]),
    "boxedText": words,
    "boxedI64": st.integers(-(2**63), 2**63 - 1),
    "boxedOk": st.booleans(),
    "maybe": st.integers(-9, 9),
    "left": words,
    "tags": st.lists(words, min_size=1, max_size=3),
    "numbers": st.lists(st.integers(-9, 9), min_size=1, max_size=3),
    "times": st.lists(st.sampled_from(["2026-11-23T04:05:06Z", "2024-02-29T00:00:00Z"]), min_size=1, max_size=2),
    "sub.tags": st.lists(words, min_size=1, max_size=2),
    "words": st.dictionaries(words, words, min_size=1, max_size=2),
    "flags": st.dictionaries(st.sampled_from(["true", "false"]), st.integers(-9, 9), min_size=1, max_size=2),
}


@pytest.fixture(scope="module")
def search(compile_proto: Any) -> rules.Binding:
    """The binding in which every field comes from the query."""
    contract = compile_proto(PROTO.read_text(), "echo.v1")
    found, _, _ = rules.load(contract.files, contract.pool, contract.packages).trie.find("GET", b"/d/search")
    assert found is not None
    return found


def written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def urlquote(text: str) -> str:
    return quote(text, safe="")


def snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted names as objects within objects, for json_format."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = name.split(".")
        target = result
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = written(value) if isinstance(value, bytes) else value
    return result


def test_a_query_sets_what_it_says(search: rules.Binding) -> None:
    message_class = message_factory.GetMessageClass(search.input)
    table = QueryTable(search)

    @settings(max_examples=400, deadline=None)
    @given(st.lists(st.sampled_from(list(SINGLE)), max_size=5, unique=True), st.data())
    def check(names: list[str], data: st.DataObject) -> None:
        values = {name: data.draw(SINGLE[name]) for name in names}
        parts = []
        for name, value in values.items():
            spelt = data.draw(st.sampled_from([name, snake(name)]))
            escape: Any = data.draw(st.sampled_from([quote_plus, urlquote]))
            if isinstance(value, dict):
                parts += [f"{spelt}[{escape(key)}]={escape(written(item))}" for key, item in value.items()]
            else:
                parts += [f"{spelt}={escape(written(item))}" for item in (value if isinstance(value, list) else [value])]
        order = (
            data.draw(st.permutations(range(len(parts)))) if not any(isinstance(item, list) for item in values.values()) else None
        )
        query = "&".join(parts if order is None else [parts[index] for index in order])
        request, found = message_class(), Findings(exact_at_hand=False, ignore_unknown=False)
        table.apply(query.encode(), request, found)
        assert found.violations == [], query
        expected = json_format.ParseDict(nested(values), message_class())
        assert request == expected, query

    check()


@pytest.mark.parametrize("query", ["left=a&right=1", "left=a&third.text=b", "third.text=b&left=a", "third.sub.text=b&right=0"])
def test_one_of_several_is_given_once(query: str, search: rules.Binding) -> None:
    request, found = message_factory.GetMessageClass(search.input)(), Findings(exact_at_hand=False, ignore_unknown=False)
    QueryTable(search).apply(query.encode(), request, found)
    assert [violation.reason for violation in found.violations] == ["DUPLICATE_FIELD"]
    assert found.violations[0].field == query.partition("&")[2].partition("=")[0]


def test_no_query_does_more_than_be_refused(search: rules.Binding) -> None:
    message_class = message_factory.GetMessageClass(search.input)
    table = QueryTable(search)
    pieces = st.sampled_from(
        [
            *SINGLE,
            *map(snake, SINGLE),
            "=",
            "&",
            "[",
            "]",
            ".",
            "+",
            "%",
            "%00",
            "%zz",
            "%ed%a0%80",
            "%F0%9F%92%A5",
            "1",
            "a",
            "{",
            "subs",
            ";",
        ]
    )

    @settings(max_examples=600, deadline=None)
    @given(st.lists(pieces, max_size=12).map("".join) | st.binary(max_size=20).map(lambda data: data.decode("latin-1")))
    def check(query: str) -> None:
        request, found = message_class(), Findings(exact_at_hand=False, ignore_unknown=False)
        table.apply(query.encode("latin-1", "replace"), request, found)
        request.SerializeToString()
        assert all(
            violation.reason and violation.message and violation.field.encode() is not None for violation in found.violations
        )

    check()


@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"x{number}=1" for number in range(20_000)),
        "&".join(["tags=a"] * 20_000),
        "i32=" + "9" * 200_000,
        "time=" + "2026-11-23T04:05:06." * 10_000,
        "sub." * 20_000 + "text=1",
        "[" * 50_000 + "]" * 50_000 + "=1",
        "words" + "[a" * 30_000 + "]=%00",
        "value=" + "[" * 60_000,
    ],
    ids=["names", "elements", "digits", "time", "levels", "brackets", "entries", "lists"],
)
def test_a_long_query_is_refused_in_short(query: str, search: rules.Binding) -> None:
    request = message_factory.GetMessageClass(search.input)()
    found = Findings(exact_at_hand=False, ignore_unknown=False)
    try:
        QueryTable(search).apply(query.encode(), request, found)
    except Enough:
        assert len(found.violations) == 1000
    assert found.violations
    assert all(len(violation.field) + len(violation.message) < 300 for violation in found.violations)
