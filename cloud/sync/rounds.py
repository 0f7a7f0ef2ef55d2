"""Nets under the streams of a process: what a lost wake-up would have told, and a cloud that was restored beneath them.

Both look at all streams together, once in a while, and wake or end only those that it concerns.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

import sqlalchemy as sa
import structlog

from cloud.platform.database import Database
from cloud.platform.jobs import DATABASE_ERRORS
from cloud.platform.wakeups import Wakeups
from cloud.sync import restores
from cloud.sync.processes import Link
from kernel.errors import GiposError

EVERY_SECONDS = 1.0
LOOKS_BACK_SECONDS = 15
"""Mail is looked for that was written so lately before the last round: longer than a transaction lasts and clocks of two machines
differ."""
AT_ONCE = 1_000
"""Streams whose tills are looked up by one statement."""

_MAIL = sa.text(
    """
    SELECT tenant_id, till_id, '', id FROM till_commands WHERE created_at > now() - make_interval(secs => :seconds)
    UNION ALL
    SELECT tenant_id, '', outlet_id, version::text FROM offline_policies
    WHERE updated_at > now() - make_interval(secs => :seconds)
    """
)
_BEHIND = sa.text(
    """
    SELECT w.place FROM unnest(CAST(:tenants AS text[]), CAST(:tills AS text[]), CAST(:epochs AS bigint[]),
                                CAST(:sessions AS bigint[]), CAST(:watermarks AS bigint[]))
        WITH ORDINALITY AS w (tenant_id, till_id, store_epoch, session, op_watermark, place)
    LEFT JOIN till_links l ON l.tenant_id = w.tenant_id AND l.till_id = w.till_id
    LEFT JOIN till_stores s ON s.tenant_id = w.tenant_id AND s.till_id = w.till_id AND s.store_epoch = w.store_epoch
    WHERE COALESCE(l.session, 0) < w.session OR COALESCE(s.op_watermark, 0) < w.op_watermark
    """
)

Letter = tuple[str, str, str, str]
"""Merchant, till or nothing, outlet or nothing, and what it is."""

logger = structlog.get_logger()


class Rounds:
    """Goes round the streams of a process."""

    def __init__(self, database: Database, wakeups: Wakeups, streams: Collection[Link]) -> None:
        self._database = database
        self._wakeups = wakeups
        self._streams = streams
        self._seen: set[Letter] = set()
        self._looked_at = time.monotonic()
        self._life = wakeups.life

    async def mail(self) -> None:
        """Wakes tills that have a command or a policy of the last seconds, once for each. The net under a lost NOTIFY.

        After a time in which the database could not be asked it looks back over all of it: no stream does that by itself.
        """
        now = time.monotonic()
        async with self._database.across_tenants() as connection:
            rows = await connection.execute(_MAIL, {"seconds": LOOKS_BACK_SECONDS + now - self._looked_at})
            letters = {tuple(row) for row in rows}
        self._looked_at = now
        fresh, self._seen = letters - self._seen, letters
        if fresh:
            tills, shops = {(each[0], each[1]) for each in fresh}, {(each[0], each[2]) for each in fresh if each[2]}
            for stream in list(self._streams):
                who = stream.who
                if (who.tenant_id, who.till_id) in tills or (who.tenant_id, who.outlet_id) in shops:
                    stream.has_mail()

    async def was_restored(self) -> bool:
        """Whether the database has forgotten what tills here were told; looked up only after its connection was lost or made.

        Their merchants' lanes have new epochs then: whatever else was forgotten, and however far the lanes grow before the tills
        are back, whoever has copied what was lost copies anew.
        """
        life = self._wakeups.life
        if life == self._life:
            return False
        streams = list(self._streams)
        behind: list[Link] = []
        for start in range(0, len(streams), AT_ONCE):
            part = [stream for stream in streams[start : start + AT_ONCE] if stream.standing is not None]
            if not part:
                continue  # they have said nothing yet
            # What tills were told was committed before this is asked, so whatever is less was more before.
            columns = _columns(part)
            async with self._database.across_tenants() as connection:
                behind += [part[place - 1] for (place,) in await connection.execute(_BEHIND, columns)]
        if behind:
            logger.error("database_forgot_tills", count=len(behind))
        for tenant_id, copied in _copied(behind).items():
            await restores.lost_history(self._database, tenant_id, copied)
        self._life = life
        return bool(behind)

    async def go(self) -> bool:
        """One round; whether the tills are to say hello again. What fails is tried in the next round."""
        try:
            await self.mail()
            return await self.was_restored()
        except (*DATABASE_ERRORS, GiposError) as error:
            logger.warning("round_not_made", error=repr(error))
            return False


def _copied(behind: Iterable[Link]) -> dict[str, dict[str, int]]:
    """The newest epoch of each lane by merchant, as known to streams of tills that were told more than is stored.

    A till that follows no lane cannot say whether its loss was noticed before. It proves it by its hello, if it has copies.
    """
    copied: dict[str, dict[str, int]] = {}
    for stream in behind:
        for lane, epoch in stream.session.epochs.items():
            mine = copied.setdefault(stream.who.tenant_id, {})
            mine[lane] = max(epoch, mine.get(lane, 0))
    return copied


def _columns(streams: Iterable[Link]) -> dict[str, list[object]]:
    rows = [(stream.who.tenant_id, stream.who.till_id, *stream.standing) for stream in streams if stream.standing is not None]
    names = ("tenants", "tills", "epochs", "sessions", "watermarks")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
