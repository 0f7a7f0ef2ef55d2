"""Log lines: whole, in order, soon; nothing that is logged can fail or hold up what logs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from kernel import loglines
from kernel.loglines import Lines, LineWriter


class Sink:
    """Remembers what is written, and what is to be called later."""

    def __init__(self, *, has_later: bool = True) -> None:
        self.written: list[bytes] = []
        self.later: list[Callable[[], None]] = []
        self.has_later = has_later

    def lines(self) -> Lines:
        return Lines(self.written.append, self._call_later)

    def _call_later(self, _seconds: float, call: Callable[[], None]) -> bool:
        self.later.append(call)
        return self.has_later


def test_lines_wait_for_each_other_and_go_out_in_order() -> None:
    sink = Sink()
    lines = sink.lines()
    for text in (b"a", b"b"):
        lines.add(text, is_urgent=False)
    assert not sink.written
    (flush,) = sink.later
    flush()
    flush()
    assert sink.written == [b"a\nb\n"]
    lines.add(b"c", is_urgent=False)
    lines.add(b"trouble", is_urgent=True)
    assert sink.written == [b"a\nb\n", b"c\ntrouble\n"]


def test_without_a_loop_every_line_goes_out_at_once() -> None:
    sink = Sink(has_later=False)
    sink.lines().add(b"a", is_urgent=False)
    assert sink.written == [b"a\n"]


def test_what_waits_has_a_limit_in_bytes_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Sink()
    lines = sink.lines()
    lines.add(b"x" * (loglines.MOST_BYTES + 1), is_urgent=False)
    assert len(sink.written) == 1
    lines.add(b"a", is_urgent=False)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1)
    # The loop that was to call has ended: the next line takes the first along.
    lines.add(b"b", is_urgent=False)
    assert sink.written[1:] == [b"a\nb\n"]


def written(**event: Any) -> dict[str, Any]:
    sink = Sink(has_later=False)
    LineWriter(sink.lines(), {"program": "test"})(None, "info", event)
    (line,) = sink.written
    assert line.count(b"\n") == 1
    found: dict[str, Any] = orjson.loads(line)
    return found


def test_a_line_has_level_time_program_and_the_traceback() -> None:
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError as error:
        line = written(event="broken", exc_info=error, count=3)
        also = written(event="broken", exc_info=True)
    assert (line["event"], line["level"], line["program"], line["count"]) == ("broken", "info", "test", 3)
    assert line["timestamp"].endswith("Z")
    assert abs(datetime.fromisoformat(line["timestamp"]) - datetime.now(UTC)) < timedelta(hours=1)
    assert "ZeroDivisionError: why" in line["exception"]
    assert "ZeroDivisionError: why" in also["exception"]


@pytest.mark.parametrize("strange", ["\ud800", 2**80, object(), {1: 2}, "line\nbreak"])
def test_nothing_that_is_logged_can_fail(strange: Any) -> None:
    assert written(event="odd", value=strange)["event"].strip("'") == "odd"


@pytest.mark.parametrize("value", [1, "\ud800", 2**80])
def test_what_every_call_notes_has_the_form_of_all_lines(value: Any) -> None:
    sink = Sink(has_later=False)
    LineWriter(sink.lines(), {"program": "test"}).note({"event": "rpc", "value": value})
    (line,) = sink.written
    found, same = orjson.loads(line), written(event="rpc", value=value)
    assert list(found) == list(same)
    assert found | {"timestamp": ""} == same | {"timestamp": ""}
