"""The values of a merchant's topics as one gateway has them: the newest of each, and how to get there from an older one.

Pure: no socket, no clock. Whatever is sent is made once for all who stand at the same place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import orjson

from gateway_rest.dashboards.lines import frame
from gateway_rest.dashboards.patches import applied, difference

KEPT = 100
"""Older values of a topic that can still be patched."""


def mark_of(version: str) -> str:
    """What marks the content in a version: equal marks, equal values."""
    return version.rpartition("-")[2]


def position_of(version: str) -> int:
    """The position in a version; 0 where there is none."""
    text = version.partition("-")[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


class Topic:
    """One topic's newest value, and the ones before it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = ""
        self.mark = ""
        self.published_at = float("-inf")
        """When it was last published, on the clock of whoever publishes."""
        self._value: Any = None
        self._earlier: dict[str, Any] = {}
        """By mark, oldest first. Values share what did not change between them."""
        self._frames: dict[str, bytes] = {}
        """By the mark they begin at; "" for the whole value."""

    def update(self, version: str, value: bytes) -> None:
        """Takes over a newer value, as JSON."""
        mark = mark_of(version)
        if mark == self.mark:
            return
        newer = orjson.loads(value)
        if self._value is not None:
            self._earlier.pop(self.mark, None)
            self._earlier[self.mark] = self._value
            while len(self._earlier) > KEPT:
                del self._earlier[next(iter(self._earlier))]
            newer = applied(self._value, difference(self._value, newer))
        self._earlier.pop(mark, None)
        self.version, self.mark, self._value = version, mark, newer
        self._frames.clear()

    def frame_from(self, mark: str) -> bytes:
        """A frame with what makes the value of this mark the newest one; the whole value where that is unknown or shorter."""
        if mark not in self._earlier:
            mark = ""
        made = self._frames.get(mark)
        if made is None:
            made = self._frames[mark] = self._make(mark)
        return made

    def _make(self, mark: str) -> bytes:
        whole = frame(orjson.dumps({"t": "value", "topic": self.name, "version": self.version, "value": self._value}))
        if not mark:
            return whole
        patch = difference(self._earlier[mark], self._value)
        message = {"t": "patch", "topic": self.name, "from": mark, "version": self.version, "patch": patch}
        patching = frame(orjson.dumps(message))
        return patching if len(patching) < len(whole) else whole


class Values:
    """All topics of a merchant that a gateway follows."""

    def __init__(self) -> None:
        self.epoch = ""
        """Empty until there is something to show."""
        self.position = 0
        self.topics: dict[str, Topic] = {}
        self.staged: dict[str, tuple[str, bytes]] = {}
        """Newer versions and values that are not published yet."""

    def stage(self, epoch: str, position: int, newer: Iterable[tuple[str, str, bytes]], ended: Collection[str]) -> bool:
        """Takes over what the cloud says; whether the log began anew, so that nobody's older values count any more."""
        begins = epoch != self.epoch
        if begins:
            self.epoch = epoch
            self.topics.clear()
            self.staged.clear()
        self.position = position
        for name, version, value in newer:
            self.staged[name] = (version, value)
        for name in ended:
            self.topics.pop(name, None)
            self.staged.pop(name, None)
        return begins

    def publish(self, now: float, interval: float) -> list[Topic]:
        """Publishes what is staged and was not published within the interval; the topics that changed."""
        changed = []
        for name in list(self.staged):
            topic = self.topics.get(name)
            if topic is None:
                topic = self.topics[name] = Topic(name)
            elif now < topic.published_at + interval:
                continue
            before = topic.mark
            topic.update(*self.staged.pop(name))
            if topic.mark != before:
                topic.published_at = now
                changed.append(topic)
        return changed

    def next_at(self, interval: float) -> float | None:
        """When there is something to publish next."""
        return min((self.topics[name].published_at + interval for name in self.staged), default=None)

    def is_behind(self, name: str, position: int) -> bool:
        """Whether what would be shown of a topic is older than this position."""
        return self.position < position or name in self.staged

    def have(self) -> Iterator[tuple[str, str]]:
        """The newest version of each topic, published or not."""
        for name, topic in self.topics.items():
            if name not in self.staged:
                yield name, topic.version
        for name, (version, _) in self.staged.items():
            yield name, version
