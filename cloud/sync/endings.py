"""What a till is told when its stream ends for a reason of the protocol."""

from __future__ import annotations

from cloud.sync.sessions import MAX_BATCH, Ending
from kernel.errors import Busy, GiposError, Invalid, Violation


def error_of(ending: Ending) -> GiposError | None:
    """What the stream ends with; None when it ends properly."""
    match ending:
        case Ending.DONE:
            return None
        case Ending.SLOW:
            return Busy("The till leaves what it gets unconfirmed for too long, or cannot use it. It may come back at once.")
        case Ending.NO_HELLO:
            return Invalid([Violation("hello", "REQUIRED", "The first frame of a link must be Hello.")])
        case Ending.TOO_MANY:
            return Invalid([Violation("operations", "TOO_MANY", f"A batch has at most {MAX_BATCH} operations.")])
        case Ending.TWICE:
            return Invalid([Violation("hello", "REPEATED", "Hello is said once per link.")])
