"""Paths, queries and bodies, row by row of the tables in the transcoding reference; echoed by a real service."""

from __future__ import annotations

import base64
from typing import Any

import pytest

ACCEPTED = [
    ("tags=a&tags=b", {"tags": ["a", "b"]}),
    ("tags=a,b", {"tags": ["a,b"]}),
    ("attributes[k]=1&attributes[l]=2", {"attributes": {"k": "1", "l": "2"}}),
    ("ok=1", {"ok": True}),
    ("ok=TRUE", {"ok": True}),
    ("ok=False", {"ok": False}),
    ("ok", {"ok": True}),
    ("i32=-5", {"i32": -5}),
    ("i64=9007199254740993", {"i64": 9007199254740993}),
    ("u64=18446744073709551615", {"u64": 18446744073709551615}),
    ("numbers=1&numbers=2", {"numbers": [1, 2]}),
    ("color=red", {"color": "red"}),
    ("color=COLOR_DARK_BLUE", {"color": "dark_blue"}),
    ("color=2", {"color": "dark_blue"}),
    ("raw=" + base64.urlsafe_b64encode(b"\xff\xfe").decode().rstrip("="), {"raw": "//4="}),
    ("time=2026-11-23T04:05:06Z", {"time": "2026-11-23T04:05:06Z"}),
    ("time=2026-11-23T11:05:06%2B07:00", {"time": "2026-11-23T04:05:06Z"}),
    ("time=2026-11-23T11:05:06+07:00", {"time": "2026-11-23T04:05:06Z"}),
    ("wait=1.5s", {"wait": "1.500s"}),
    ("mask=snakeCase,a.b_c", {"mask": "snake_case,a.b_c"}),
    ("word=hi", {"word": "hi"}),
    ("any_json=%5B1,null%5D", {"any_json": [1, None]}),
    ("free=%7B%22a%22:1%7D", {"free": {"a": 1}}),
    ("sub.a=x&sub.inner.b=y", {"sub": {"a": "x", "b": "", "inner": {"a": "", "b": "y"}}}),
    ("name=a+b%2Bc", {"name": "a b+c"}),
    ("snakeCaseName=x", {"snake_case_name": "x"}),
    ("snake_case_name=x", {"snake_case_name": "x"}),
    ("maybe=0", {"maybe": 0}),
    ("amount=1.50", {"amount": "1.50"}),
    ("&&name=x&", {"name": "x"}),
    (
        "sub.inner.inner.inner.a=1",
        {"sub": {"a": "", "b": "", "inner": {"a": "", "b": "", "inner": {"a": "", "b": "", "inner": {"a": "1", "b": ""}}}}},
    ),
    ("real=1e3", {"real": 1000.0}),
    ("fields=name&name=x&i32=5", {"name": "x"}),
]
REFUSED = [
    ("name=a&name=b", "name", "DUPLICATE_FIELD"),
    ("snake_case_name=a&snakeCaseName=b", "snake_case_name", "DUPLICATE_FIELD"),
    ("nope=1", "nope", "UNKNOWN_FIELD"),
    ("subs.a=x", "subs.a", "UNKNOWN_FIELD"),
    ("subs=x", "subs", "UNKNOWN_FIELD"),
    ("sub=x", "sub", "UNKNOWN_FIELD"),
    ("ok=", "ok", "WRONG_TYPE"),
    ("ok=yes", "ok", "WRONG_TYPE"),
    ("i32=", "i32", "WRONG_TYPE"),
    ("i32", "i32", "WRONG_TYPE"),
    ("i32=1.0", "i32", "WRONG_TYPE"),
    ("i32=1e3", "i32", "WRONG_TYPE"),
    ("i32=1_000", "i32", "WRONG_TYPE"),
    ("i32=2147483648", "i32", "OUT_OF_RANGE"),
    ("color=9", "color", "INVALID_ENUM"),
    ("color=Red", "color", "INVALID_ENUM"),
    ("raw=!!!!", "raw", "INVALID_FORMAT"),
    ("time=yesterday", "time", "INVALID_FORMAT"),
    ("wait=1h30m", "wait", "INVALID_FORMAT"),
    ("left=a&right=b", "right", "DUPLICATE_FIELD"),
    ("name=%00", "name", "INVALID_CHARACTER"),
    ("name=%ff", "name", "INVALID_FORMAT"),
    ("name=%zz", "name", "INVALID_FORMAT"),
    ("any_json=%5B1", "any_json", "INVALID_FORMAT"),
    ("amount=abc", "amount", "INVALID_DECIMAL"),
    ("attributes=1", "attributes", "WRONG_TYPE"),
    ("attributes[k]=1&attributes[k]=2", "attributes.k", "DUPLICATE_FIELD"),
    ("name[k]=1", "name[k]", "UNKNOWN_FIELD"),
]


@pytest.mark.parametrize(("query", "expected"), ACCEPTED)
async def test_a_query_sets_fields(query: str, expected: dict[str, Any], echo_rest: Any) -> None:
    async with echo_rest("GET", f"/e/search?{query}") as answer:
        body = await answer.json()
        assert answer.status == 200, body
    assert {name: body[name] for name in expected} == expected
    if "fields=" in query:
        assert body == expected


@pytest.mark.parametrize(("query", "field", "reason"), REFUSED)
async def test_a_query_that_makes_no_sense_is_refused_by_name(
    query: str, field: str, reason: str, echo: Any, echo_rest: Any
) -> None:
    async with echo_rest("GET", f"/e/search?{query}") as answer:
        body = await answer.json()
        assert answer.status == 400
    assert [(item["field"], item["reason"]) for item in body["errors"]] == [(field, reason)]
    assert echo.requests == []


async def test_several_bad_parameters_are_all_told(echo_rest: Any) -> None:
    async with echo_rest("GET", "/e/search?i32=x&ok=maybe&nmae=1") as answer:
        body = await answer.json()
    assert {item["field"] for item in body["errors"]} == {"i32", "ok", "nmae"}
    assert 'did you mean "name"?' in str(body["errors"])
    assert body["detail"] == "3 fields are invalid."


async def test_unknown_names_can_be_ignored_on_request(echo_rest: Any) -> None:
    options: dict[str, Any] = {"json": {"i32": 3, "old": 1}}
    async with echo_rest("POST", "/e/star/n?$ignoreUnknown=true", **options) as answer:
        assert answer.status == 200
        assert (await answer.json())["i32"] == 3
    async with echo_rest("GET", "/e/search?utm=1&$ignoreUnknown=true") as answer:
        assert answer.status == 200


PATHS = [
    ("/e/numbers/7", {"i32": 7}),
    ("/e/numbers/7/", {"i32": 7}),
    ("/e/moments/2026-11-23T11:05:06+07:00", {"time": "2026-11-23T04:05:06Z"}),
    ("/e/things/a%2Fb", {"name": "a/b"}),
    ("/e/things/a+b", {"name": "a+b"}),
    ("/e/things/%E2%82%AC", {"name": "€"}),
    ("/e/things/x:other", {"name": "x:other"}),
    ("/e/things/x:archive", {"name": "x:archive"}),
    ("/e/shelves/a%2Fb/books/c%20d", {"name": "shelves/a%2Fb/books/c d"}),
    ("/e/deep/a/b/c", {"name": "a/b/c"}),
    ("/e/deep", {"name": ""}),
    ("/e/deep/a%2fb%25", {"name": "a%2fb%"}),
    ("/e/tail/a/b/end", {"name": "a/b"}),
    ("/e/th%69ngs/x", {"name": "x"}),
    ("/e/things/special", {"name": ""}),
]


@pytest.mark.parametrize(("path", "expected"), PATHS)
async def test_a_path_sets_fields(path: str, expected: dict[str, Any], echo_rest: Any) -> None:
    async with echo_rest("GET", path) as answer:
        body = await answer.json()
        assert answer.status == 200, body
    assert {name: body[name] for name in expected} == expected


@pytest.mark.parametrize("path", ["/e/numbers/x", "/e/things/%zz", "/e/things/%ff", "/e/things/%00", "/e/numbers/1.0"])
async def test_a_path_that_cannot_be_read_is_400(path: str, echo_rest: Any) -> None:
    async with echo_rest("GET", path) as answer:
        assert answer.status == 400
        assert (await answer.json())["errors"]


@pytest.mark.parametrize(
    "path", ["/e//things/x", "/e/things", "/e", "/nope", "/api/v1/products", "/routes.v1.EchoService/Hidden"]
)
async def test_what_is_not_a_route_is_404_as_problem(path: str, echo_rest: Any) -> None:
    async with echo_rest("GET", path) as answer:
        assert answer.status == 404
        assert answer.content_type == "application/problem+json"
        assert (await answer.json())["reason"] == "ROUTE_NOT_FOUND"
        assert answer.headers["X-Request-Id"]


async def test_a_verb_wins_over_text_with_a_colon_for_its_own_method_only(echo: Any, echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/things/a:b:archive", json={}) as answer:
        assert (await answer.json())["name"] == "a:b"
    async with echo_rest("POST", "/e/things/a:archive/", json={}) as answer:
        assert answer.status == 405


async def test_another_method_is_405_with_allow_and_options_tells_the_same(echo_rest: Any) -> None:
    async with echo_rest("DELETE", "/e/things/x") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
        assert (await answer.json())["reason"] == "METHOD_NOT_ALLOWED"
    async with echo_rest("OPTIONS", "/e/things/x") as answer:
        assert answer.status == 204
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_head_is_get_without_the_body(echo: Any, echo_rest: Any) -> None:
    async with echo_rest("GET", "/e/things/x") as answer:
        length = len(await answer.read())
    async with echo_rest("HEAD", "/e/things/x") as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) == length
        assert await answer.read() == b""
    assert len(echo.requests) == 2


async def test_a_method_override_is_never_obeyed(echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/things/x", headers={"X-HTTP-Method-Override": "GET"}) as answer:
        assert answer.status == 405


async def test_any_method_reaches_a_binding_for_all(echo_rest: Any) -> None:
    for method in ("GET", "PUT", "REPORT"):
        async with echo_rest(method, "/e/anything?name=x") as answer:
            assert answer.status == 200
            assert (await answer.json())["name"] == "x"


BODIES = [
    ("/e/star/n", {"i32": 1}, {"name": "n", "i32": 1}),
    ("/e/star/n", {"name": "n"}, {"name": "n"}),
    ("/e/star/n", {"name": None}, {"name": "n"}),
    ("/e/part/n?i32=5", {"a": "x"}, {"name": "n", "i32": 5, "sub": {"a": "x", "b": ""}}),
    ("/e/scalar", 42, {"i64": 42}),
    ("/e/scalar", "42", {"i64": 42}),
]


@pytest.mark.parametrize(("path", "body", "expected"), BODIES)
async def test_a_body_sets_its_part(path: str, body: Any, expected: dict[str, Any], echo_rest: Any) -> None:
    async with echo_rest("POST", path, json=body) as answer:
        result = await answer.json()
        assert answer.status == 200, result
    assert {name: result[name] for name in expected} == expected


async def test_a_list_can_be_the_whole_body_both_ways(echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/many", json=[{"a": "1"}, {"b": "2"}]) as answer:
        assert await answer.json() == [{"a": "1", "b": ""}, {"a": "", "b": "2"}]
    async with echo_rest("POST", "/e/many", json=[{"a": "1"}, {"c": "2"}]) as answer:
        assert [item["field"] for item in (await answer.json())["errors"]] == ["[1].c"]


COLLISIONS = [
    ("/e/star/n", {"name": "other"}, "name", "CONFLICT"),
    ("/e/star/n?i32=5", {}, "i32", "UNKNOWN_FIELD"),
    ("/e/star/n?name=other", {}, "name", "CONFLICT"),
    ("/e/part/n?sub.a=1", {"b": "x"}, "sub.a", "UNKNOWN_FIELD"),
    ("/e/part/n?name=other", {}, "name", "CONFLICT"),
]


@pytest.mark.parametrize(("path", "body", "field", "reason"), COLLISIONS)
async def test_no_source_overrides_another(path: str, body: Any, field: str, reason: str, echo: Any, echo_rest: Any) -> None:
    async with echo_rest("POST", path, json=body) as answer:
        assert answer.status == 400
        assert [(item["field"], item["reason"]) for item in (await answer.json())["errors"]] == [(field, reason)]
    assert echo.requests == []


async def test_a_query_that_repeats_the_path_truthfully_passes(echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/star/n?name=n", json={}) as answer:
        assert answer.status == 200


async def test_an_empty_body_leaves_the_field_unset(echo: Any, echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/part/n") as answer:
        assert answer.status == 200
    assert not echo.requests[0].HasField("sub")
    async with echo_rest("POST", "/e/star/n", data=b"") as answer:
        assert answer.status == 200


async def test_bytes_sent_with_a_rule_without_body_are_ignored(echo_rest: Any) -> None:
    async with echo_rest("GET", "/e/search?name=x", data=b"garbage", headers={"Content-Type": "text/plain"}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", ""])
async def test_a_body_that_is_no_json_is_415(kind: str, echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/star/n", data=b"{}", headers={"Content-Type": kind}) as answer:
        assert answer.status == 415
        assert (await answer.json())["reason"] == "UNSUPPORTED_MEDIA_TYPE"


@pytest.mark.parametrize("kind", ["application/json", "application/vnd.x+json", "application/json; charset=UTF-8"])
async def test_json_by_any_of_its_names_is_read(kind: str, echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/star/n", data=b'{"i32":1}', headers={"Content-Type": kind}) as answer:
        assert answer.status == 200


async def test_a_compressed_body_is_415_not_garbage(echo_rest: Any) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "br"}
    async with echo_rest("POST", "/e/star/n", data=b"{}", headers=headers) as answer:
        assert answer.status == 415


@pytest.mark.parametrize("text", [b"{", b'{"i32":NaN}', b"\xff", b"\xef\xbb\xbf{}", b"nul", b'{"a":1}x', b"[" * 5000])
async def test_malformed_json_is_400(text: bytes, echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/star/n", data=text, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 400
        assert (await answer.json())["reason"] in {"MALFORMED_JSON", "VALIDATION_FAILED"}


async def test_a_body_beyond_the_limit_is_413_whether_announced_or_not(echo_rest: Any) -> None:
    big = b'{"name":"' + b"x" * (4 * 1024 * 1024) + b'"}'

    async def parts() -> Any:
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    for data in (big, parts()):
        async with echo_rest("POST", "/e/star/n", data=data, headers={"Content-Type": "application/json"}) as answer:
            assert answer.status == 413
            assert (await answer.json())["reason"] == "PAYLOAD_TOO_LARGE"


async def test_raw_bytes_keep_their_content_type(echo: Any, echo_rest: Any) -> None:
    from google.protobuf import message_factory

    picture = message_factory.GetMessageClass(echo.contract.pool.FindMessageTypeByName("google.api.HttpBody"))
    echo.answer("Picture", picture(content_type="image/png", data=b"\x89PNG"))
    async with echo_rest("GET", "/e/picture") as answer:
        assert answer.content_type == "image/png"
        assert await answer.read() == b"\x89PNG"


async def test_pretty_print_is_for_people(echo_rest: Any) -> None:
    async with echo_rest("GET", "/e/search?name=x&prettyPrint=true&fields=name,sub") as answer:
        assert await answer.text() == '{\n  "name": "x"\n}'
