"""What happens to the cloud and its database: power cuts, standstill, lost connections, an older backup in their place."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg

from scripts.soaking.evidence import read_tablet
from scripts.soaking.faults import Fault, OfTablet


class KillCloud(Fault):
    """The cloud loses its power."""

    kind = "kill-cloud"

    @property
    def target(self) -> str:
        """The cloud."""
        return "cloud"

    async def begin(self) -> str:
        """SIGKILL."""
        await self.world.cloud.kill()
        return "kill -9 of the cloud"

    async def heal(self) -> None:
        """Starts it again."""
        self.world.cloud.start()
        await self.world.cloud_ready()


class PauseCloud(Fault):
    """The cloud stands still."""

    kind = "pause-cloud"

    @property
    def target(self) -> str:
        """The cloud."""
        return "cloud"

    async def begin(self) -> str:
        """SIGSTOP."""
        self.world.cloud.pause()
        return "the cloud is paused"

    async def heal(self) -> None:
        """SIGCONT."""
        self.world.cloud.resume()
        await self.world.cloud_ready()


class KillPostgres(Fault):
    """The database loses its power."""

    kind = "kill-postgres"

    @property
    def target(self) -> str:
        """The database."""
        return "postgres"

    async def begin(self) -> str:
        """SIGKILL to the postmaster."""
        await self.world.postgres.kill()
        return "kill -9 of PostgreSQL's postmaster"

    async def heal(self) -> None:
        """Starts it again."""
        await self.world.start_postgres()


class PausePostgres(Fault):
    """The database stands still."""

    kind = "pause-postgres"

    @property
    def target(self) -> str:
        """The database."""
        return "postgres"

    async def begin(self) -> str:
        """SIGSTOP to all of it."""
        self.world.postgres.pause()
        return f"PostgreSQL is paused, {len(self.world.postgres.paused)} processes"

    async def heal(self) -> None:
        """SIGCONT."""
        self.world.postgres.resume()


class TerminateBackends(Fault):
    """Connections to the database end in the middle of whatever they do, again and again."""

    kind = "terminate-backends"
    excludes = frozenset({"kill-postgres", "pause-postgres", "restore", "kill-cloud"})

    async def begin(self) -> str:
        """Ends all backends, five times."""
        ended = 0
        for _ in range(5):
            with suppress(OSError, asyncpg.PostgresError, TimeoutError):
                connection = await asyncpg.connect(self.world.dsn, timeout=5)
                try:
                    rows = await connection.fetch(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                    )
                    ended += len(rows)
                finally:
                    await connection.close()
            await asyncio.sleep(self.random.uniform(0.02, 0.3))
        return f"{ended} backends are terminated"


class Restore(Fault):
    """The database is put back to an older copy, and the cloud is not told."""

    kind = "restore"
    excludes = frozenset({"kill-postgres", "pause-postgres", "terminate-backends", "retention", "restore-unseen"})

    @property
    def target(self) -> str:
        """The database."""
        return "postgres"

    async def begin(self) -> str:
        """Takes the database away."""
        with_cloud = self.random.random() < 0.5 and self.world.cloud.is_running and not self.world.cloud.paused
        if with_cloud:
            await self.world.cloud.kill()
        await self.world.restore()
        if with_cloud:
            self.world.cloud.start()
            await self.world.cloud_ready()
        return "the cloud is restored from its older backup" + (" and started anew" if with_cloud else " while it runs")


class Backup(Fault):
    """A new backup is made, with the database stopped."""

    kind = "backup"
    excludes = Restore.excludes | {"restore"}

    @property
    def target(self) -> str:
        """The database."""
        return "postgres"

    async def begin(self) -> str:
        """Stops, copies, starts."""
        await self.world.backup()
        return "a backup is made"


class RestoreUnseen(OfTablet):
    """A tablet is off while the cloud is restored, and comes back when the new log is already longer than the one it knew."""

    kind = "restore-unseen"
    excludes = frozenset({*Restore.excludes, "restore", "backup", "kill-cloud", "pause-cloud"})

    async def begin(self) -> str:
        """Backup, some trade, tablet off, restore, trade until the log has grown past the tablet's place."""
        one, world = self.one, self.world
        await world.backup()
        await world.cloud_ready()
        await asyncio.sleep(1.5)
        await one.program.kill()
        place = read_tablet(one.folder, one.name, one.till_id, one.outlet_id).lanes.get(one.outlet_id, (0, 0, 0))
        await world.restore()
        await world.cloud_ready()
        connection = await asyncpg.connect(world.dsn, timeout=10)
        try:
            for _ in range(150):
                query = "SELECT last_seq FROM log_heads WHERE tenant_id = $1 AND lane = $2"
                head = await connection.fetchval(query, world.facts["tenant_id"], one.outlet_id)
                if head > place[1]:
                    break
                await asyncio.sleep(0.1)
        finally:
            await connection.close()
        return f"{one.name} is off at {place[1]} while the cloud is restored, and finds a log that has grown to {head} again"

    async def heal(self) -> None:
        """Starts it again."""
        self.one.program.start()
        await self.one.ready()
