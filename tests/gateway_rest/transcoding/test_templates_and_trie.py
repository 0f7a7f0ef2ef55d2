"""Path templates and the trie, against the grammar and against a matcher that tries everything."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_rest.transcoding.templates import Template, TemplateError, parse
from gateway_rest.transcoding.trie import Duplicate, Trie

VALID = {
    "/": "/",
    "/a/b": "/a/b",
    "/a/{x}": "/a/*",
    "/a/{x=*}:go": "/a/*:go",
    "/a/{x.y=b/*/c}": "/a/b/*/c",
    "/a/**": "/a/**",
    "/a/{x=**}/c": "/a/**/c",
    "/a/{x=b/**}/y/z": "/a/b/**/y/z",
    "/a/{x=b/*/**/y/z}/foo": "/a/b/*/**/y/z/foo",
    "/a%2Fb/c": "/a/b/c",
}
INVALID = [
    "",
    "a/b",
    "/a//b",
    "/a/{x}b",
    "/posts/slug={slug}",
    "/a{x}",
    "/{x={y}}",
    "/{x",
    "/x}",
    "/{}",
    "/{1x}",
    "/{x=}",
    "/a/**/*",
    "/a/**/foo/**",
    "/a/{x=**}/{y}",
    "/{x}/{x}",
    "/a:",
    "/a/b?c",
    "/a/ b",
    "/%2A",
]


@pytest.mark.parametrize(("text", "shape"), VALID.items())
def test_a_template_in_the_grammar_has_a_shape(text: str, shape: str) -> None:
    assert parse(text).shape == shape


@pytest.mark.parametrize("text", INVALID)
def test_a_template_outside_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        parse(text)


def test_a_variable_captures_its_literals() -> None:
    variable = parse("/v1/{name=shelves/*/books/*}").variables[0]
    assert (variable.start, variable.end, variable.is_multi) == (1, 5, True)
    tail = parse("/v1/{name=a/**}/end").variables[0]
    assert (tail.start, tail.end) == (1, -1)


@dataclass(frozen=True)
class Route:
    method: str
    template: Template


def _trie(*texts: str, method: str = "GET") -> Trie[Route]:
    trie: Trie[Route] = Trie()
    for text in texts:
        trie.add(Route(method, parse(text)))
    return trie


PRECEDENCE = [
    ("/users/me", "/users/me"),
    ("/users/you", "/users/{id}"),
    ("/users/me/x", "/users/{id}/x"),
    ("/users/a/b/c", "/users/**"),
    ("/users/me:go", "/users/{id}:go"),
    ("/users/me:stop", "/users/{id}"),
    ("/users", "/users/**"),
    ("/users/a//b", None),
    ("/users/", "/users/**"),
]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("path", "expected"), PRECEDENCE)
def test_the_most_specific_template_wins_in_any_order(path: str, expected: str | None, order: int) -> None:
    trie = _trie(*["/users/**", "/users/{id}", "/users/me", "/users/{id}/x", "/users/{id}:go"][::order])
    found, _, _ = trie.find("GET", path.encode())
    assert (found.template.text if found else None) == expected


def test_a_literal_without_the_method_does_not_hide_a_variable_with_it() -> None:
    trie = _trie("/a/{x}")
    trie.add(Route("POST", parse("/a/b")))
    found, _, _ = trie.find("GET", b"/a/b")
    assert found is not None
    _, _, allowed = trie.find("PUT", b"/a/b")
    assert allowed == {"GET", "POST"}


def test_the_same_shape_twice_is_refused() -> None:
    trie = _trie("/a/{x}")
    with pytest.raises(Duplicate):
        trie.add(Route("GET", parse("/a/{y}")))


segment = st.sampled_from(["a", "b", "*"])
shape = st.builds(
    lambda head, deep, tail: "/" + "/".join([*head, *(["**", *tail] if deep else [])]),
    st.lists(segment, max_size=3),
    st.booleans(),
    st.lists(st.sampled_from(["a", "b"]), max_size=2),
)


def _matches(pattern: tuple[str, ...], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_matches(pattern[1:], path[count:]) for count in range(len(path) + 1))
    return bool(path) and pattern[0] in {"*", path[0]} and _matches(pattern[1:], path[1:])


def _rank(template: Template) -> list[int]:
    """Smaller is more specific, segment by segment; a longer tail after ** is more specific."""
    ranks: list[int] = []
    for index, text in enumerate(template.segments):
        ranks.append({"*": 1, "**": 2}.get(text, 0))
        if text == "**":
            return [*ranks, -len(template.segments[index:])]
    return ranks


@given(st.lists(shape, max_size=8, unique=True), st.lists(st.sampled_from(["a", "b", "c"]), max_size=5))
def test_the_trie_finds_what_a_naive_matcher_finds(shapes: list[str], path: list[str]) -> None:
    trie = _trie(*shapes)
    candidates = [parse(text) for text in shapes if _matches(parse(text).segments, path)]
    found, _, _ = trie.find("GET", ("/" + "/".join(path)).encode())
    if not candidates:
        assert found is None
    else:
        assert found is not None
        assert _rank(found.template) == min(_rank(candidate) for candidate in candidates)


@given(st.binary(max_size=40))
def test_no_path_breaks_the_trie(path: bytes) -> None:
    _trie("/", "/a/{x}", "/{x=**}/b", "/a/{x}:go").find("GET", b"/" + path)
