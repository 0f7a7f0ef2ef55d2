"""Templates that were put together from parts are taken apart into the same parts, and give each variable its own segments."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_rest.transcoding.templates import Template, TemplateError, parse
from gateway_rest.transcoding.trie import Trie

literal = st.sampled_from(["a", "items", "v1.0", "~x", "é", "a b", "a/b", "a:b", "{a}", "50%", "x=y"])
field = st.sampled_from(["id", "sub.id", "a_b.c_d.e", "_x"])


@dataclass(frozen=True)
class Part:
    """A segment or a variable of a template."""

    segments: tuple[str, ...]
    name: str = ""

    def __str__(self) -> str:
        inner = "/".join(item if item in {"*", "**"} else quote(item, safe="") for item in self.segments)
        if not self.name:
            return inner
        return f"{{{self.name}}}" if self.segments == ("*",) else f"{{{self.name}={inner}}}"


@st.composite
def templates(draw: st.DrawFn) -> tuple[list[Part], str]:
    """Parts and a verb. `**` comes once at most, and only literals after it."""
    segment = literal | st.just("*")
    single = st.builds(lambda text: Part((text,)), segment)
    named = st.builds(lambda texts, name: Part(tuple(texts), name), st.lists(segment, min_size=1, max_size=3), field)
    parts = draw(st.lists(single | named, max_size=3))
    if draw(st.booleans()):
        inside = [*draw(st.lists(segment, max_size=2)), "**", *draw(st.lists(literal, max_size=2))]
        parts.append(Part(tuple(inside), draw(st.just("deep") | st.just("")) if len(inside) > 1 else "deep"))
        parts += [Part((text,)) for text in draw(st.lists(literal, max_size=2))]
    names: set[str] = set()
    kept = []
    for part in parts:
        kept.append(Part(part.segments, "") if part.name in names else part)
        names.add(part.name)
    return kept, draw(st.sampled_from(["", "go", "batchGet"]))


def printed(parts: list[Part], verb: str) -> str:
    return "/" + "/".join(map(str, parts)) + (f":{verb}" if verb else "")


@dataclass(frozen=True)
class Route:
    method: str
    template: Template


@given(templates(), st.data())
def test_a_variable_gets_the_segments_it_covers_and_no_others(made: tuple[list[Part], str], data: st.DataObject) -> None:
    parts, verb = made
    template = parse(printed(parts, verb))
    assert template.segments == tuple(segment for part in parts for segment in part.segments)
    assert template.verb == verb
    assert [variable.field for variable in template.variables] == [part.name for part in parts if part.name]
    # A path that fits, made part by part, with what each variable must get.
    path: list[str] = []
    wanted: list[list[str]] = []
    for part in parts:
        covered: list[str] = []
        for segment in part.segments:
            count = 1 if segment != "**" else data.draw(st.integers(0, 3))
            covered += [
                quote(segment, safe="")
                if segment not in {"*", "**"}
                else data.draw(st.sampled_from(["x", "y%2Fz", "%C3%A9", "."]))
                for _ in range(count)
            ]
        path += covered
        if part.name:
            wanted.append(covered)
    if verb and not path:
        return
    trie: Trie[Route] = Trie()
    trie.add(Route("GET", template))
    raw = "/" + "/".join(path) + (f":{verb}" if verb else "")
    found, segments, _ = trie.find("GET", raw.encode())
    assert found is not None, raw
    given_to = [[item.decode() for item in segments[variable.start : variable.end]] for variable in template.variables]
    assert given_to == wanted


@given(st.text(alphabet="ab{}=*/:.%2F ", max_size=16))
def test_any_text_is_a_template_or_is_refused_with_a_reason(text: str) -> None:
    try:
        template = parse("/" + text)
    except TemplateError as error:
        reason = str(error)
    else:
        assert parse(template.text) == template
        return
    assert reason.startswith(("has", "binds", "must"))


@pytest.mark.parametrize("path", ["/caf%C3%A9", "/caf%c3%a9", "/caf\u00e9"])
def test_letters_beyond_ascii_are_compared_as_letters(path: str) -> None:
    trie: Trie[Route] = Trie()
    trie.add(Route("GET", parse("/caf%C3%A9")))
    assert trie.find("GET", path.encode())[0] is not None
    assert trie.find("GET", b"/caf%E9")[0] is None
