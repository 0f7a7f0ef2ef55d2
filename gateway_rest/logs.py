"""Structured logs: one JSON line per fact on standard error. Bodies, keys and query strings never get into them."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
from collections.abc import Callable
from contextvars import Context
from typing import Any

import orjson
import structlog

from kernel.loglines import Lines, LineWriter

_logger = structlog.get_logger()


class _Nowhere:
    """The end of structlog's chain: the lines are written already."""

    def msg(self, _message: str) -> None:
        pass

    info = warning = error = critical = exception = debug = msg


def _by_structlog(event: dict[str, Any]) -> None:
    _logger.info(event.pop("event"), **event)


_note: Callable[[dict[str, Any]], None] = _by_structlog


def note(event: dict[str, Any]) -> None:
    """Logs what every request logs, the short way once there is one. The dict is used up."""
    _note(event)


def share(writer: LineWriter) -> None:
    """Lets requests be noted where the rest of the process logs."""
    global _note  # noqa: PLW0603 (one process, one log)
    _note = writer.note


def configure(level: int = logging.INFO) -> None:
    """Sets up structlog, and routes what libraries log to the same place. Lines are written several at a time, soon."""
    lines = Lines(_write, _later)
    atexit.register(lines.flush)
    writer = LineWriter(lines, {})
    if level <= logging.INFO:
        share(writer)
    structlog.configure(
        processors=[writer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Nowhere(),
        cache_logger_on_first_use=True,
    )
    shared: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=lambda value, **_: orjson.dumps(value, default=str).decode()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


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
