"""What waits for one till beside the log: commands, its policy. This only rings; what there is, the till's link reads itself."""

from __future__ import annotations

import time

from cloud.platform.wakeups import Wakeups


def box(name: str) -> str:
    """What the link of a till waits for, beside its lanes: one for the till's own id, one for its outlet's."""
    return f"mail:{name}"


def ring(wakeups: Wakeups, tenant_id: str, name: str) -> None:
    """Says, after the commit, that there is something for a till, or for all tills of an outlet. They have it within a second."""
    # A time, because what is told must differ from what was told before, in whichever process.
    wakeups.touch(tenant_id, {box(name): time.time_ns() // 1_000})
