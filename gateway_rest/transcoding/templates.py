"""Path templates of google.api.http: parsed once at start, refused with a reason when they are not in the grammar."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

# RFC 3986's pchar without "=", "*" and ":", which mean something in a template; they can be written percent-encoded.
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;@]|%[0-9A-Fa-f]{2})+")
_FIELD_PATH = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*(?:\.[a-zA-Z_][a-zA-Z0-9_]*)*")


class TemplateError(ValueError):
    """The text is no path template. The message says what is wrong with it."""


@dataclass(frozen=True)
class Variable:
    """A field of the request that takes its value from the path."""

    field: str
    """Path of the field, for example `product.id`."""
    start: int
    """Index of its first segment."""
    end: int | None
    """Index after its last segment. When it holds `**` it is counted from the end: negative, or None for the end itself."""
    is_multi: bool
    """Whether it may span segments: then `%2F` stays encoded in its value."""


@dataclass(frozen=True)
class Template:
    """A parsed path template."""

    text: str
    segments: tuple[str, ...]
    """Literals (percent-decoded), `*` and `**`."""
    verb: str
    """What follows the colon; empty without one."""
    variables: tuple[Variable, ...]

    @property
    def shape(self) -> str:
        """The template without names: two templates of one shape match the same paths."""
        return "/" + "/".join(self.segments) + (f":{self.verb}" if self.verb else "")


def parse(text: str) -> Template:
    """The template behind a text such as `/api/v1/sales/{id}:refund`.

    Raises:
        TemplateError: the text is not in the grammar.
    """
    if not text.startswith("/"):
        raise TemplateError('must begin with "/"')
    body, verb = _split_verb(text[1:])
    segments: list[str] = []
    variables: list[Variable] = []
    for part in _split_segments(body):
        if part.startswith("{"):
            _variable(part, segments, variables)
        else:
            segments.append(_segment(part))
    _check_order(segments)
    names = [variable.field for variable in variables]
    for name in names:
        if names.count(name) > 1:
            raise TemplateError(f'binds "{name}" twice')
    return Template(text, tuple(segments), verb, tuple(_counted_from_end(variable, segments) for variable in variables))


def _split_verb(text: str) -> tuple[str, str]:
    stem, colon, verb = text.rpartition(":")
    if not colon or "/" in verb or "}" in verb:
        return text, ""
    if not _LITERAL.fullmatch(verb):
        raise TemplateError(f'has a bad verb ":{verb}"')
    return stem, _decoded(verb)


def _split_segments(text: str) -> list[str]:
    """Splits at slashes outside of braces."""
    if not text:
        return []
    parts, depth, current = [], 0, ""
    for character in text:
        if character == "{":
            depth += 1
            if depth > 1:
                raise TemplateError("has a variable within a variable")
        elif character == "}":
            depth -= 1
            if depth < 0:
                raise TemplateError('has a "}" without "{"')
        if character == "/" and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    if depth:
        raise TemplateError('has a "{" without "}"')
    return [*parts, current]


def _variable(part: str, segments: list[str], variables: list[Variable]) -> None:
    if not part.endswith("}"):
        raise TemplateError(f'has text next to a variable in "{part}"; a segment is a literal or a variable')
    name, equals, pattern = part[1:-1].partition("=")
    if not _FIELD_PATH.fullmatch(name):
        raise TemplateError(f'has a bad field path "{name}"')
    inner = [_segment(piece) for piece in pattern.split("/")] if equals else ["*"]
    start = len(segments)
    segments.extend(inner)
    variables.append(Variable(field=name, start=start, end=len(segments), is_multi=inner != ["*"]))


def _segment(text: str) -> str:
    if text in {"*", "**"}:
        return text
    if not _LITERAL.fullmatch(text):
        raise TemplateError(f'has a bad segment "{text}"')
    literal = _decoded(text)
    if literal in {"*", "**"}:
        raise TemplateError("has an encoded wildcard as a literal")
    return literal


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise TemplateError(f'has an escape that is no UTF-8 in "{text}"') from None


def _check_order(segments: list[str]) -> None:
    if "**" in segments and any(segment in {"*", "**"} for segment in segments[segments.index("**") + 1 :]):
        raise TemplateError('has a wildcard after "**"')


def _counted_from_end(variable: Variable, segments: list[str]) -> Variable:
    """The variable, with its end counted from the end of the path when `**` lies before that end."""
    if "**" not in segments or variable.end is None or variable.end <= segments.index("**"):
        return variable
    if variable.start > segments.index("**"):
        raise TemplateError(f'binds "{variable.field}" after "**"')
    return replace(variable, end=variable.end - len(segments) or None)
