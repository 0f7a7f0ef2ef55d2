"""What happens when something happened, on one screen.

BEFORE_COMMIT runs in the transaction of the change, SQL only: a committed sale always has its deliveries. After the commit only
wake-ups follow; everything slower reads the log from where it stands, in its own time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cloud.platform.database import AfterCommit, Announcing, BeforeCommit
from cloud.platform.wakeups import Wakeups
from cloud.webhooks import fanout
from cloud.webhooks.delivery import Dispatcher

BEFORE_COMMIT: Sequence[BeforeCommit] = (fanout.enqueue,)


def after_commit(wakeups: Wakeups, dispatcher: Dispatcher) -> Sequence[AfterCommit]:
    """Who is woken."""

    def tell_readers(tx: Announcing) -> Callable[[], None] | None:
        return wakeups.committed(tx)  # the tills' links, the dashboards, GET /api/v1/events:watch

    def deliver(tx: Announcing) -> None:
        if fanout.DELIVERIES in tx.due:
            dispatcher.wake()

    return (tell_readers, deliver)
