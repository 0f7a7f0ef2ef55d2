"""Log lines that cost little: one JSON object a line, many lines a write. Pure: where the bytes go is given from outside.

Lines wait a moment for others. What reports trouble does not wait, and neither do many at once; whoever stops a process flushes.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

import orjson

WAIT_SECONDS = 0.05
"""How long a line may wait. A process that is killed loses so much of its log, and nothing else."""
MOST_BYTES = 64 * 1024
_URGENT = {"warning", "error", "critical", "exception"}


class Lines:
    """Gathers lines and writes them together.

    Args:
        write: Takes bytes of whole lines; everything of them.
        later: Calls a function after so many seconds; False when nothing can be called later, which writes at once.
    """

    def __init__(self, write: Callable[[bytes], object], later: Callable[[float, Callable[[], None]], bool]) -> None:
        self._write = write
        self._later = later
        self._waiting: list[bytes] = []
        self._size = 0
        self._since = 0.0

    def add(self, line: bytes, *, is_urgent: bool) -> None:
        """Takes one line, without its end."""
        now = time.monotonic()
        if not self._waiting:
            self._since = now
            if not self._later(WAIT_SECONDS, self.flush):
                is_urgent = True
        self._waiting.append(line)
        self._size += len(line)
        # Late when whoever was to call `flush` has ended, as the event loop of a command does.
        is_late = now - self._since > 2 * WAIT_SECONDS
        if is_urgent or is_late or self._size > MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if self._waiting:
            lines, self._waiting, self._size = self._waiting, [], 0
            lines.append(b"")
            self._write(b"\n".join(lines))


class LineWriter:
    """What structlog calls last: makes the line and hands it on. Takes the place of a chain of processors.

    What every call writes goes to `note` directly: structlog's way here costs five times the line itself.

    Args:
        lines: Where to.
        always: Fields of every line.
    """

    def __init__(self, lines: Lines, always: Mapping[str, Any]) -> None:
        self._lines = lines
        self._always = dict(always)

    def __call__(self, _logger: object, level: str, event: MutableMapping[str, Any]) -> str:
        """One event."""
        event.update(self._always)
        event["level"] = level
        failure = event.pop("exc_info", None)
        if failure:
            event["exception"] = _text_of(failure)
        self._lines.add(_line(event), is_urgent=level in _URGENT)
        return ""

    def note(self, event: dict[str, Any]) -> None:
        """One event of level info, with its name as `event`. The dict belongs to the line from here on."""
        event.update(self._always)
        event["level"] = "info"
        self._lines.add(_line(event), is_urgent=False)


def _line(event: MutableMapping[str, Any]) -> bytes:
    event["timestamp"] = datetime.now(UTC)
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError:
        # A lone surrogate, a number beyond 64 bits: whatever it is, the line must not be lost, nor anything fail for it.
        return orjson.dumps({str(name): repr(value) for name, value in event.items()})


def _text_of(failure: object) -> str:
    if isinstance(failure, BaseException):
        return "".join(traceback.format_exception(failure)).rstrip()
    return traceback.format_exc().rstrip()
