"""What happens to the cloud and its database: power cuts, standstill, lost connections, an older backup in their place."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg

from scripts.soaking.faults import Fault


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
        await self.world.start_cloud()


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
    excludes = frozenset(
        {"kill-postgres", "pause-postgres", "restore", "restore-twice", "kill-cloud", "second-cloud", "backlog-kill"}
    )

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
    excludes = frozenset({"kill-postgres", "pause-postgres", "terminate-backends", "retention", "restore-unseen", "backlog-kill"})

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
            await self.world.start_cloud()
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


class RestoreTwice(Restore):
    """The database is put back to the same old copy twice, with a little trade in between."""

    kind = "restore-twice"
    excludes = Restore.excludes | {"restore", "backup"}

    async def begin(self) -> str:
        """Restores, lets tablets find out, and restores."""
        first = await super().begin()
        await asyncio.sleep(self.random.uniform(0.2, 2.5))
        await super().begin()
        return f"{first}, and once more"


class BacklogKill(Fault):
    """All tablets were away for a moment and upload at once; then the cloud or its database loses its power."""

    kind = "backlog-kill"
    excludes = frozenset({"kill-postgres", "pause-postgres", "restore", "restore-twice", "backup", "retention", "restore-unseen"})
    seconds = (0.3, 1.0)
    _killed = ""

    @property
    def target(self) -> str:
        """The cloud."""
        return "cloud"

    async def begin(self) -> str:
        """Cuts all, connects all, kills one of the two."""
        cables = [tablet.cable for tablet in self.world.tablets if not tablet.cable.cut]
        for cable in cables:
            cable.sever("up", "down")
        await asyncio.sleep(self.random.uniform(1.0, 3.0))
        for cable in cables:
            cable.mend("up", "down")
        await asyncio.sleep(self.random.uniform(0.1, 1.2))
        self._killed = self.random.choice(("cloud", "PostgreSQL"))
        await (self.world.cloud if self._killed == "cloud" else self.world.postgres).kill()
        return f"kill -9 of {self._killed} while {len(cables)} tablets upload what has piled up"

    async def heal(self) -> None:
        """Starts it again."""
        if self._killed == "PostgreSQL":
            await self.world.start_postgres()
        await self.world.start_cloud()


class SecondCloud(Fault):
    """Two processes of the cloud work on one database; one of them loses its power, and its tablets find the other."""

    kind = "second-cloud"
    excludes = frozenset({"kill-postgres", "pause-postgres", "terminate-backends", "restore", "restore-twice", "backup"})
    seconds = (0.5, 2.5)
    _loses_second = False

    @property
    def target(self) -> str:
        """The cloud."""
        return "cloud"

    async def begin(self) -> str:
        """Starts the second if need be, moves tablets, kills one process and moves its tablets to the other."""
        world, second = self.world, self.world.second
        if not second.program.is_running:
            second.program.start()
            await second.ready()
        movable = [tablet for tablet in world.tablets if not tablet.cable.cut]
        for tablet in self.random.sample(movable, len(movable) // 2):
            tablet.switch()
        await asyncio.sleep(self.random.uniform(0.5, 2.0))
        self._loses_second = self.random.random() < 0.5
        lost = second if self._loses_second else world
        moved = [tablet for tablet in movable if tablet.cable.cloud is lost.place]
        await (second.program if self._loses_second else world.cloud).kill()
        for tablet in moved:
            tablet.switch()
        which = "second" if self._loses_second else "first"
        return f"of two clouds on one database the {which} is killed, and {len(moved)} tablets go to the other"

    async def heal(self) -> None:
        """Starts it again."""
        if self._loses_second:
            self.world.second.program.start()
            await self.world.second.ready()
        else:
            await self.world.start_cloud()
