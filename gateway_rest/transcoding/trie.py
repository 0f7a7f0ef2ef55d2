"""Finds the binding of a path: literal before variable before `**`, whatever the order of declaration. Works on the raw path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

from gateway_rest.transcoding.templates import Template

ANY_METHOD = "*"
_NOTHING_SPECIAL = re.compile(rb"[A-Za-z0-9_-]+")
"""A last segment that needs no decoding and has no verb."""


class Routed(Protocol):
    """What the trie needs to know of a binding."""

    @property
    def method(self) -> str:
        """HTTP method in capitals, or `*`."""

    @property
    def template(self) -> Template:
        """Where it listens."""


B = TypeVar("B", bound=Routed)


class Duplicate(Exception):
    """Two bindings listen to the same method and paths; `first` came first."""

    def __init__(self, first: Routed) -> None:
        super().__init__(first.template.text)
        self.first = first


class _Node(Generic[B]):
    __slots__ = ("leaves", "literals", "star", "tails")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[B]] = {}
        self.star: _Node[B] | None = None
        self.tails: dict[tuple[str, ...], _Node[B]] = {}
        """After `**`: the literals that must end the path, the longest first."""
        self.leaves: dict[str, dict[str, B]] = {}
        """Verb to method to binding."""


class Trie(Generic[B]):
    """All bindings, by path."""

    def __init__(self) -> None:
        self._root: _Node[B] = _Node()
        self._fixed: dict[tuple[str, bytes], B] = {}
        """Paths without wildcards, found without a walk."""
        self._ids: dict[tuple[str, bytes], tuple[B, dict[str, _Node[B]]]] = {}
        """Paths that end in their one wildcard, as most do, by what is before it; with the literals that would come first."""

    def add(self, binding: B) -> None:
        """Adds a binding.

        Raises:
            Duplicate: the method and shape are taken.
        """
        template = binding.template
        node = self._root
        for index, segment in enumerate(template.segments):
            if segment == "**":
                parent, node = node, node.tails.setdefault(template.segments[index + 1 :], _Node())
                parent.tails = dict(sorted(parent.tails.items(), key=lambda item: -len(item[0])))
                break
            if segment == "*":
                node.star = node = node.star or _Node()
            else:
                node = node.literals.setdefault(segment, _Node())
        methods = node.leaves.setdefault(template.verb, {})
        if binding.method in methods:
            raise Duplicate(methods[binding.method])
        methods[binding.method] = binding
        if not {"*", "**"} & set(template.segments) and binding.method != ANY_METHOD and "%" not in template.text:
            self._fixed[(binding.method, template.text.encode())] = binding
        before = template.segments[:-1]
        ends_in_id = template.segments[-1:] == ("*",) and not {"*", "**"} & set(before) and not template.verb
        if ends_in_id and before and binding.method != ANY_METHOD:
            path = "/" + "/".join(before)
            if "%" not in path:
                self._ids[(binding.method, path.encode())] = (binding, self._node(before).literals)

    def find(self, method: str, raw_path: bytes) -> tuple[B | None, list[bytes], frozenset[str]]:
        """The binding for a method and an undecoded path, with the raw segments of the path.

        Without a binding the third item tells the methods the path does have; empty means that there is no such path.
        HEAD finds GET.
        """
        if method == "HEAD":
            method = "GET"
        fixed = self._fixed.get((method, raw_path))
        if fixed is not None:
            return fixed, [], frozenset()
        before, _, last = raw_path.rpartition(b"/")
        by_id = self._ids.get((method, before))
        if by_id is not None and _NOTHING_SPECIAL.fullmatch(last) and last.decode() not in by_id[1]:
            return by_id[0], raw_path[1:].split(b"/"), frozenset()
        path = raw_path.rstrip(b"/")
        raw = path[1:].split(b"/") if len(path) > 1 else []
        allowed: set[str] = set()
        if raw:
            stem, colon, verb = raw[-1].rpartition(b":")
            if colon and verb and not raw_path.endswith(b"/"):
                with_verb = [*raw[:-1], stem]
                found = self._walk(with_verb, _plain(verb), method, allowed)
                if found is not None:
                    return found, with_verb, frozenset()
        # No template has such a verb for this method: the colon is ordinary text then. Where the verb exists for other methods,
        # they are what the path has; the same text as somebody's id is not what is asked for.
        plain: set[str] = set()
        return self._walk(raw, "", method, plain), raw, frozenset(allowed or plain)

    def _node(self, literals: Iterable[str]) -> _Node[B]:
        node = self._root
        for literal in literals:
            node = node.literals[literal]
        return node

    def _walk(self, raw: list[bytes], verb: str, method: str, allowed: set[str]) -> B | None:
        plain = [_plain(segment) for segment in raw]
        for node in _leaves(self._root, plain, 0):
            methods = node.leaves.get(verb)
            if methods is None:
                continue
            binding = methods.get(method) or methods.get(ANY_METHOD)
            if binding is not None:
                return binding
            allowed.update(methods)
        return None


def _plain(segment: bytes) -> str:
    """The segment as literals are written. What is no UTF-8 equals none of them; who binds it tells, with the field's name."""
    return (unquote_to_bytes(segment) if b"%" in segment else segment).decode("utf-8", "surrogateescape")


def _leaves(node: _Node[B], segments: list[str], index: int) -> Iterator[_Node[B]]:
    """The nodes where the path may end, the most specific first."""
    if index == len(segments):
        yield node
    elif segments[index]:
        literal = node.literals.get(segments[index])
        if literal is not None:
            yield from _leaves(literal, segments, index + 1)
        if node.star is not None:
            yield from _leaves(node.star, segments, index + 1)
    for tail, leaf in node.tails.items():
        covered = len(segments) - len(tail)
        if covered >= index and tuple(segments[covered:]) == tail and all(segments[index:covered]):
            yield leaf
