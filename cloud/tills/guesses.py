"""How often somebody may be wrong about a pairing code: by address, and all together. Counted in the database.

So the limits are the same however many processes there are, and nothing is forgotten with one of them. Whoever is looked at
locks the counts until he was judged: guesses that arrive together are judged one after the other. Whose address it is cannot be
read out of the rows. docs/decisions/0026 has the arithmetic of why eight characters are enough with these limits.
"""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform.calls import Call
from cloud.platform.database import Database
from cloud.platform.keyring import Keyring
from cloud.platform.peers import neighbourhood
from kernel.errors import RateLimited

BY_ADDRESS, EACH_SECONDS = 5, 60.0
"""An address may be wrong so often, and once more after so many seconds."""
TOTAL, EACH_OF_TOTAL_SECONDS = 60, 1.0
"""And all addresses together."""

# `full_at` is when nothing of what was wrong counts any more: each wrong one moves it by the seconds it costs.
_HOLD = sa.text(
    """
    INSERT INTO pairing_guesses AS g (place, full_at) VALUES (:place, now())
    ON CONFLICT (place) DO UPDATE SET full_at = g.full_at
    RETURNING extract(epoch FROM full_at - clock_timestamp())
    """
)
_COUNT = sa.text(
    """
    UPDATE pairing_guesses SET full_at = greatest(full_at, clock_timestamp()) + make_interval(secs => :seconds)
    WHERE place = :place
    """
)
_FORGET = sa.text("DELETE FROM pairing_guesses WHERE full_at < now()")


@dataclass(frozen=True)
class Guesses:
    """Wrong codes so far."""

    ring: Keyring

    async def hold(self, connection: AsyncConnection, call: Call) -> None:
        """Lets a try pass before anybody looks whether it is right; the counts are its own until the transaction ends.

        Raises:
            RateLimited: there were too many wrong ones.
        """
        _check(await self._owed(connection, self._address(call)), BY_ADDRESS, EACH_SECONDS, "from this address")
        _check(await self._owed(connection, self._everybody), TOTAL, EACH_OF_TOTAL_SECONDS, "at this cloud")

    async def count(self, connection: AsyncConnection, call: Call) -> None:
        """Notes a wrong one, in the transaction that holds the counts."""
        await connection.execute(_COUNT, {"place": self._address(call), "seconds": EACH_SECONDS})
        await connection.execute(_COUNT, {"place": self._everybody, "seconds": EACH_OF_TOTAL_SECONDS})

    @property
    def _everybody(self) -> bytes:
        return self._place("")

    def _address(self, call: Call) -> bytes:
        return self._place(f"from {neighbourhood(call.address)}")

    def _place(self, text: str) -> bytes:
        return hmac.digest(self.ring.current.derived("pairing guesses"), text.encode(), "sha256")

    async def _owed(self, connection: AsyncConnection, place: bytes) -> float:
        return float((await connection.execute(_HOLD, {"place": place})).scalar_one())


async def forget_old(database: Database) -> int:
    """Removes counts of addresses that are back to none; how many."""
    async with database.across_tenants() as connection:
        return (await connection.execute(_FORGET)).rowcount


def _check(owed: float, most: int, each: float, where: str) -> None:
    wait = owed - (most - 1) * each
    if wait <= 0:
        return
    seconds = math.ceil(wait)
    refusal = RateLimited(
        f"There were too many wrong pairing codes {where}. Wait {seconds} s, then try again.", seconds=str(seconds)
    )
    refusal.retry_seconds = seconds
    raise refusal
