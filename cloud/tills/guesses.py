"""How often somebody may be wrong about a pairing code: by address, and all together. In memory of one process.

Eight characters of 32 are 2^40 codes. docs/decisions/0017 has the arithmetic of why that is enough with these limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cloud.accounts.attempts import Attempts
from cloud.platform.calls import Call
from kernel.errors import RateLimited

BY_ADDRESS, EACH_SECONDS = 5, 60.0
TOTAL, TOTAL_PER_SECOND = 60, 1.0

_EVERYBODY = Call("", {}, "", "")


class Guesses:
    """Wrong codes so far."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._by_address = Attempts("wrong pairing codes", BY_ADDRESS, 1 / EACH_SECONDS, clock)
        self._total = Attempts("wrong pairing codes", TOTAL, TOTAL_PER_SECOND, clock)

    def require(self, call: Call) -> None:
        """Lets a try pass before anybody looks whether it is right.

        Raises:
            RateLimited: there were too many wrong ones.
        """
        try:
            self._by_address.require(call)
        except RateLimited as error:
            raise _refusal("from this address", error) from error
        try:
            self._total.require(_EVERYBODY)
        except RateLimited as error:
            raise _refusal("at this cloud", error) from error

    def count(self, call: Call) -> None:
        """Notes a wrong one."""
        self._by_address.count(call)
        self._total.count(_EVERYBODY)


def _refusal(where: str, error: RateLimited) -> RateLimited:
    seconds = str(round(error.retry_seconds))
    refusal = RateLimited(f"There were too many wrong pairing codes {where}. Wait {seconds} s, then try again.", seconds=seconds)
    refusal.retry_seconds = error.retry_seconds
    return refusal
