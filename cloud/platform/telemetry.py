"""Structured logs: one JSON object a line on standard error, each with the id of the request it belongs to."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from kernel.loglines import Lines, LineWriter

request_id: ContextVar[str] = ContextVar("request_id", default="")

_logger = structlog.get_logger()


class _Nowhere:
    """The end of structlog's chain: the lines are written already."""

    def msg(self, _message: str) -> None:
        pass

    info = warning = error = critical = exception = debug = msg


def _add_request_id(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    if "request_id" not in event and (current := request_id.get()):
        event["request_id"] = current
    return event


def _by_structlog(event: dict[str, Any]) -> None:
    _logger.info(event.pop("event"), **event)


_note: Callable[[dict[str, Any]], None] = _by_structlog


def note(event: dict[str, Any]) -> None:
    """Logs what every call logs, the short way once `configure` has made one. Name the request id; the dict is used up."""
    _note(event)


def configure(program: str) -> LineWriter:
    """Sets up logging for this process. Lines are written several at a time, soon, and all that are left at the end."""
    global _note  # noqa: PLW0603 (one process, one log)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format='{"level": "%(levelname)s", "event": %(message)r}')
    lines = Lines(_write, _later)
    atexit.register(lines.flush)
    writer = LineWriter(lines, {"program": program})
    _note = writer.note
    structlog.configure(
        processors=[_add_request_id, writer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _Nowhere(),
        cache_logger_on_first_use=True,
    )
    return writer


def _write(data: bytes) -> None:
    try:
        descriptor = sys.stderr.fileno()
        while data:
            data = data[os.write(descriptor, data) :]
    except (OSError, ValueError):
        pass  # nobody reads the log any more; the work goes on


def _later(seconds: float, call: Callable[[], None]) -> bool:
    try:
        asyncio.get_running_loop().call_later(seconds, call, context=Context())
    except RuntimeError:
        return False
    return True
