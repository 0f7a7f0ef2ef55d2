"""A supervisor's PIN lifts the offline limits for some minutes. Guessing is slowed down, and restarts do not help with it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass

import apsw
import structlog

from edge.storage import facts
from edge.storage.folder import Storage
from edge.storage.times import Floor
from edge.till import limits, pins, remarks
from edge.till.refusals import OverrideNotPossible, PinLocked, PinWrong

_log = structlog.get_logger(__name__)

MINUTE_MS = 60_000
FREE_ATTEMPTS = 5
"""So many wrong PINs in a row, then a wait that doubles with each further one."""
FIRST_WAIT_MS, LONGEST_WAIT_MS = 5 * MINUTE_MS, 60 * MINUTE_MS


@dataclass(frozen=True)
class Attempts:
    """Wrong PINs in a row, and when the last was."""

    wrong: int = 0
    last: Floor | None = None

    @property
    def wait_ms(self) -> int:
        """How long after the last one nobody may try."""
        if self.wrong < FREE_ATTEMPTS:
            return 0
        return min(LONGEST_WAIT_MS, FIRST_WAIT_MS << min(10, self.wrong - FREE_ATTEMPTS))


class Supervisors:
    """Overrides of the offline limits."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._one_at_a_time = asyncio.Lock()

    async def permit(self, pin: str) -> int:
        """Lifts the limits; returns for how many minutes.

        Raises:
            OverrideNotPossible: the owner's rules know no PIN.
            PinLocked: too many wrong ones; try later.
            PinWrong: nobody's PIN.
        """
        rules = self._storage.rules
        if not limits.can_override(rules):
            raise OverrideNotPossible(
                "Pemilik belum menetapkan PIN supervisor untuk kasir ini. / The owner has set no supervisor's PIN for this till."
            )
        async with self._one_at_a_time:
            await self._count_attempt()
            known = await asyncio.to_thread(lambda: any(pins.matches(phc, pin) for phc in rules.supervisor_pins))
            if not known:
                _log.warning("supervisor_pin_wrong")
                raise PinWrong("PIN salah. / Wrong PIN.")
            await self._storage.store.write(self._grant)
        _log.warning("offline_limits_lifted", minutes=rules.override_minutes)
        return rules.override_minutes

    def is_permitted(self, connection: apsw.Connection) -> bool:
        """Whether the limits are lifted now."""
        return self.left_ms(connection) > 0

    def left_ms(self, connection: apsw.Connection) -> int:
        """For how long the limits are still lifted."""
        kept = facts.text(connection, facts.OVERRIDE)
        if not kept:
            return 0
        since = self._storage.clock.since_ms(Floor(**json.loads(kept)))
        return max(0, self._storage.rules.override_minutes * MINUTE_MS - since)

    async def _count_attempt(self) -> None:
        """Before the PIN is looked at, so that pulling the plug gives no free guess."""

        def count(connection: apsw.Connection) -> None:
            attempts = _attempts(connection)
            if attempts.last is not None:
                left_ms = attempts.wait_ms - self._storage.clock.since_ms(attempts.last)
                if left_ms > 0:
                    minutes = -(-left_ms // MINUTE_MS)
                    raise PinLocked(
                        f"Terlalu banyak PIN salah. Coba lagi {minutes} menit lagi."
                        f" / Too many wrong PINs. Try again in {minutes} minutes.",
                        minutes=str(minutes),
                    )
            self._storage.clock.save(connection)
            _keep(connection, Attempts(attempts.wrong + 1, self._storage.clock.stamp()))

        await self._storage.store.write(count)

    def _grant(self, connection: apsw.Connection) -> None:
        self._storage.clock.save(connection)
        facts.put(connection, facts.OVERRIDE, json.dumps(asdict(self._storage.clock.stamp())))
        _keep(connection, Attempts())
        remarks.add(connection, remarks.OVERRIDE, self._storage.clock())


def _attempts(connection: apsw.Connection) -> Attempts:
    kept = json.loads(facts.text(connection, facts.ATTEMPTS, "{}"))
    return Attempts(kept["wrong"], Floor(**kept["last"]) if kept["last"] else None) if kept else Attempts()


def _keep(connection: apsw.Connection, attempts: Attempts) -> None:
    facts.put(connection, facts.ATTEMPTS, json.dumps(asdict(attempts)))
