"""What one dashboard has been shown and what it is owed. Pure: no socket, no clock; there is no queue, the newest value wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from gateway_rest.dashboards.lines import frame
from gateway_rest.dashboards.values import Topic, Values, mark_of, position_of

INTERVAL = 0.2
"""Seconds between two messages of one topic: five a second at most, and the first at once."""
HOLD_SECONDS = 5.0
"""How long a dashboard that has seen more than this gateway keeps what it has, before it is shown the older value after all."""
MOST_AT_ONCE = 32 * 1024
"""Bytes after which a dashboard is looked at again before more is taken for it."""


class Screen:
    """One dashboard."""

    __slots__ = ("_ended", "_epoch", "_heartbeat", "_held", "_hello", "_known", "_owed", "_sent_at", "_values")

    def __init__(self, values: Values, epoch: str, versions: Mapping[str, str]) -> None:
        """Before its first message.

        Args:
            values: What it looks at.
            epoch: Where its versions belong to, as it says; empty for none.
            versions: What it has, by topic, as it says.
        """
        self._values = values
        self._epoch = epoch
        self._known = dict(versions)
        self._owed: dict[str, None] = {}
        """In the order in which they became so."""
        self._sent_at: dict[str, float] = {}
        self._held: dict[str, tuple[int, float]] = {}
        """Up to which position, and until when at most."""
        self._hello = b""
        self._heartbeat = b""
        self._ended: dict[str, None] = {}

    def begin(self, hello: bytes, now: float) -> None:
        """The values are there, or begin anew: settles what it is owed. `hello` is the frame that says where they belong to."""
        self._hello = hello
        self._held.clear()
        gone = self._known.keys() - self._values.topics.keys() - self._values.staged.keys()
        goes_on = self._epoch == self._values.epoch
        self._epoch = self._values.epoch
        known = {name: version for name, version in self._known.items() if goes_on and name in self._values.topics}
        self._known = {name: mark_of(version) for name, version in known.items()}
        self._owed.clear()
        for name in sorted(gone):
            self.end(name)
        for name, topic in self._values.topics.items():
            seen = position_of(known.get(name, ""))
            if seen and self._values.is_behind(name, seen):
                self._held[name] = (seen, now + HOLD_SECONDS)
            elif self._known.get(name) != topic.mark:
                self._owed[name] = None

    def changed(self, topics: Iterable[Topic]) -> bool:
        """These topics have newer values; whether there is something to send now."""
        is_owed = False
        for topic in topics:
            name = topic.name
            if name in self._held:
                continue
            if self._known.get(name) == topic.mark:
                self._owed.pop(name, None)
            else:
                self._owed[name] = None
                is_owed = True
        return is_owed

    def release(self, now: float) -> bool:
        """Looks again at what was held back; whether there is something to send now."""
        released = False
        for name, (seen, until) in list(self._held.items()):
            topic = self._values.topics.get(name)
            if topic is None or now >= until or not self._values.is_behind(name, seen):
                del self._held[name]
                released |= topic is not None and self.changed((topic,))
        return released

    def end(self, name: str) -> None:
        """A topic is no more."""
        self._known.pop(name, None)
        self._held.pop(name, None)
        self._owed.pop(name, None)
        self._ended[name] = None

    def beat(self, heartbeat: bytes) -> None:
        """A heartbeat is due; one that was not sent yet is overtaken."""
        self._heartbeat = heartbeat

    @property
    def is_holding(self) -> bool:
        """Whether something is held back."""
        return bool(self._held)

    @property
    def owed_bytes(self) -> int:
        """What would be sent if it could be."""
        return sum(len(self._values.topics[name].frame_from(self._known.get(name, ""))) for name in self._owed)

    def take(self, now: float) -> tuple[bytes, float | None]:
        """The frames to send now, which then count as sent, and when to ask again (None for when told).

        No more at a time than a network takes that is not stuck, or the newest would not win.
        """
        parts: list[bytes] = []
        if self._hello:
            parts.append(self._hello)
            self._hello = b""
        if self._ended:
            parts += [frame(orjson.dumps({"t": "ended", "topic": name})) for name in self._ended]
            self._ended.clear()
        due: float | None = None
        size = 0
        for name in list(self._owed):
            at = self._sent_at.get(name, float("-inf")) + INTERVAL
            if now < at:
                due = at if due is None else min(due, at)
                continue
            topic = self._values.topics[name]
            made = topic.frame_from(self._known.get(name, ""))
            del self._owed[name]
            self._known[name] = topic.mark
            self._sent_at[name] = now
            parts.append(made)
            size += len(made)
            if size >= MOST_AT_ONCE:
                return b"".join(parts), now
        if self._heartbeat:
            parts.append(self._heartbeat)
            self._heartbeat = b""
        return (parts[0] if len(parts) == 1 else b"".join(parts)), due
