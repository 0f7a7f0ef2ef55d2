"""Nets under the streams of a process: what a lost wake-up would have told, and a cloud that was restored beneath them.

Both look at all streams together, once in a while, and wake or end only those that it concerns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import sqlalchemy as sa
import structlog

from cloud.platform.database import Database
from cloud.platform.jobs import DATABASE_ERRORS
from cloud.platform.wakeups import Wakeups
from cloud.sync.processes import Link
from kernel.errors import GiposError

EVERY_SECONDS = 1.0
LOOKS_BACK_SECONDS = 15
"""Mail is looked for that was written so lately: longer than a transaction lasts and clocks of two machines differ."""
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
    SELECT count(*) FROM unnest(CAST(:tenants AS text[]), CAST(:tills AS text[]), CAST(:epochs AS bigint[]),
                                CAST(:sessions AS bigint[]), CAST(:watermarks AS bigint[]))
        AS w (tenant_id, till_id, store_epoch, session, op_watermark)
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
        self._life = wakeups.life

    async def mail(self) -> None:
        """Wakes tills that have a command or a policy of the last seconds, once for each. The net under a lost NOTIFY."""
        async with self._database.across_tenants() as connection:
            letters = {tuple(row) for row in await connection.execute(_MAIL, {"seconds": LOOKS_BACK_SECONDS})}
        fresh, self._seen = letters - self._seen, letters
        if fresh:
            tills, shops = {(each[0], each[1]) for each in fresh}, {(each[0], each[2]) for each in fresh if each[2]}
            for stream in list(self._streams):
                who = stream.who
                if (who.tenant_id, who.till_id) in tills or (who.tenant_id, who.outlet_id) in shops:
                    stream.has_mail()

    async def was_restored(self) -> bool:
        """Whether the database has forgotten what tills here were told; looked up only after its connection was lost or made."""
        life = self._wakeups.life
        if life == self._life:
            return False
        streams = [stream for stream in self._streams if stream.standing is not None]
        for start in range(0, len(streams), AT_ONCE):
            async with self._database.across_tenants() as connection:
                if (await connection.execute(_BEHIND, _columns(streams[start : start + AT_ONCE]))).scalar_one():
                    logger.error("database_forgot_tills")
                    self._life = life
                    return True
        self._life = life
        return False

    async def go(self) -> bool:
        """One round; whether the tills are to say hello again. What fails is tried in the next round."""
        try:
            await self.mail()
            return await self.was_restored()
        except (*DATABASE_ERRORS, GiposError) as error:
            logger.warning("round_not_made", error=repr(error))
            return False


def _columns(streams: Iterable[Link]) -> dict[str, list[object]]:
    rows = [(stream.who.tenant_id, stream.who.till_id, *stream.standing) for stream in streams if stream.standing is not None]
    names = ("tenants", "tills", "epochs", "sessions", "watermarks")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
