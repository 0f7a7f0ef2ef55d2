"""A till's data folder: one daemon at a time, both files open, and what to do when one of them is broken.

store.db holds sales nobody else has: a broken one is kept, and rebuilt from its last copy and what is still readable. A broken
replica.db is renamed aside and fetched again; until then the till sells from what could be read of it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import apsw
import structlog

from edge.storage import facts, lanes, levels, outbox, outlets, papers, policies, print_jobs, products, recovery, salvage, schema
from edge.storage.clocks import Clock
from edge.storage.columns import blob
from edge.storage.database import Database, StorageCramped, StorageDamaged, StorageFull, StorageUnusable, check_library
from edge.storage.policies import BUILT_IN, PolicyRefused, Rules
from edge.storage.space import Space
from edge.storage.times import Reading
from gipos.edge.v1.link_pb2 import ClockState, OfflinePolicy

_log = structlog.get_logger(__name__)

LOCK_NAME = "daemon.lock"
STORE_NAME = "store.db"
REPLICA_NAME = "replica.db"
_CHANCE_MS = 2**31
"""Up to 24 days are added to the number of a life that begins at a time nobody knows."""


@dataclass
class Storage:
    """Both files of a till, open, and the lock that keeps others out."""

    folder: Path
    store: Database
    """Sales, outbox, print jobs, cart, facts. A commit survives power loss."""
    replica: Database
    """Catalogue, stock and positions. The newest commits may vanish with the power; the cloud sends them again."""
    store_epoch: int
    """Which life of store.db this is."""
    _lock: int
    clock: Clock
    """What time it is, as far as that is known."""
    space: Space
    policy_keys: Mapping[str, bytes] = field(default_factory=dict)
    """The cloud's Ed25519 keys by id, as given at enrolment."""
    rules: Rules = BUILT_IN
    """What the till may do without the cloud."""
    damaged: Callable[[], None] = lambda: None
    """Called when something in the files looks broken."""
    _trusted: bool = True
    _refused: str = ""
    """Why the latest offline rules of the cloud were refused, as it was said last."""

    @classmethod
    def open(
        cls,
        folder: Path,
        clock: Clock | None = None,
        *,
        policy_keys: Mapping[str, bytes] | None = None,
        space: Space | None = None,
    ) -> Self:
        """Opens a data folder, creating what is missing and mending what is broken.

        Raises:
            StorageUnusable: another daemon uses the folder, it cannot be written, or the SQLite library is too old.
        """
        check_library(apsw.sqlite_lib_version())
        clock = clock or Clock()
        lock, unclean = _acquire(folder)
        try:
            space = space or Space(folder)
            store = _open_store(folder / STORE_NAME, check=unclean, clock=clock, space=space)
            try:
                store.write_and_wait(clock.load)
                replica = _open_replica(folder / REPLICA_NAME, check=unclean, clock=clock, space=space)
                try:
                    epoch = store.write_and_wait(lambda connection: _begin_life(connection, clock.reading()))
                    identity = store.write_and_wait(papers.find_identity)
                    known = replica.write_and_wait(lambda connection: _match_lives(connection, epoch, identity))
                    if identity is None and known is not None:
                        store.write_and_wait(lambda connection: papers.put_identity(connection, known))
                    policy = store.write_and_wait(papers.find_policy)
                except BaseException:
                    replica.close()
                    raise
            except BaseException:
                store.close()
                raise
        except BaseException:
            os.close(lock)
            raise
        space.keep_reserve()
        storage = cls(folder, store, replica, epoch, lock, clock, space, dict(policy_keys or {}))
        storage.rules = storage._stored_rules(policy, identity or known)
        return storage

    def distrust(self) -> None:
        """Something in the files looked broken: the next start checks them as after a crash."""
        self._trusted = False
        self.damaged()

    async def begin_epoch(self, epoch: int, stored: int | None = None) -> outbox.Standing:
        """Begins a new life of the store, because another till has lived under this till's name. See `outbox.begin_epoch`.

        Args:
            epoch: of the new life.
            stored: the cloud has no operation of the life that ends above this number; None when it did not say.

        Raises:
            StorageFull: the disk is full; nothing was changed.
        """

        def begin(connection: apsw.Connection) -> outbox.Standing:
            if stored is not None:
                outbox.take_back(connection, stored)
            return outbox.begin_epoch(connection, epoch)

        return await self._begin(begin)

    async def begin_anew(self, wanted: int) -> outbox.Standing:
        """Begins a new life of the store, because the cloud asks for operations that are no longer kept. See `outbox.recall`.

        In a new life the numbers begin at 1, so there is none that the cloud misses. What it has it knows by the ids.

        Args:
            wanted: the number from which on the cloud asks for operations of the life that ends.

        Raises:
            StorageFull: the disk is full; nothing was changed.
        """

        def begin(connection: apsw.Connection) -> outbox.Standing:
            outbox.recall(connection, wanted)
            return outbox.begin_epoch(connection, max(self.clock(), facts.number(connection, facts.STORE_EPOCH) + 1))

        return await self._begin(begin)

    async def match_lives(self) -> None:
        """Makes the replica speak of the present life of the store, where the beginning of that was interrupted in the middle.

        Raises:
            StorageFull: the disk is full; the stock is shown as before.
        """
        # By the writer, after a beginning that is still under way though whoever began it was cancelled.
        epoch = await self.store.write(lambda connection: facts.number(connection, facts.STORE_EPOCH))
        self.store_epoch = epoch
        if await self.replica.read(_counted_life) != str(epoch).encode():
            await self.replica.write(lambda connection: _begin_counting(connection, epoch))

    async def _begin(self, begin: Callable[[apsw.Connection], outbox.Standing]) -> outbox.Standing:
        standing = await self.store.write(begin)
        # A failure in here is made up for when the lives are compared: at the next stream, or at the next start.
        await self.match_lives()
        return standing

    async def keep_identity(self) -> None:
        """Copies whose till this is to where a broken replica cannot take it. Call it when the cloud has said it."""
        identity = await self.replica.read(outlets.find)
        if identity is not None:
            await self.store.write(lambda connection: papers.put_identity(connection, identity))

    async def adopt_policy(self, policy: OfflinePolicy) -> str:
        """Takes over offline rules of the cloud if they are genuine, meant for this till and not older than those it has.

        Returns why not, for people; empty if they count now.

        Raises:
            StorageFull: the disk is full; the rules from before stay.
        """
        identity = await self.replica.read(outlets.find)
        try:
            if identity is None:
                raise PolicyRefused("The offline rules came before the cloud had said whose till this is.")
            rules = policies.verify(policy, self.policy_keys)
            policies.check_address(rules, tenant_id=identity.tenant_id, till_id=identity.till.id, version=self.rules.version)
        except PolicyRefused as refusal:
            if str(refusal) != self._refused:  # it comes again with each stream; once is enough for the log
                self._refused = str(refusal)
                _log.error("offline_policy_refused", problem=str(refusal), in_force=self.rules.version)
            return str(refusal)
        self._refused = ""
        await self.store.write(lambda connection: papers.put_policy(connection, policy))
        self.rules = policies.read(rules)
        _log.info("offline_policy_adopted", version=rules.version)
        return ""

    def close(self) -> None:
        """Finishes what was begun, closes both files and notes that the end was clean."""
        self.replica.close()
        self.store.close()
        if self._trusted:
            os.ftruncate(self._lock, 0)
        os.close(self._lock)

    def _stored_rules(self, policy: OfflinePolicy | None, identity: outlets.Identity | None = None) -> Rules:
        """The rules that counted before. Their signature is checked again while the key is known; keys are replaced in time."""
        if policy is None:
            return BUILT_IN
        try:
            known = policy.key_id in self.policy_keys
            rules = policies.verify(policy, self.policy_keys) if known else policies.parse(policy)
            if identity is not None:
                policies.check_address(rules, tenant_id=identity.tenant_id, till_id=identity.till.id, version=0)
            return policies.read(rules)
        except PolicyRefused as refusal:
            _log.error("offline_policy_refused", problem=str(refusal))
            return BUILT_IN


def _acquire(folder: Path) -> tuple[int, bool]:
    """Takes the folder's lock. The second value tells whether the daemon before us ended without saying so."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageUnusable(
            f"Folder data {folder} tidak bisa dipakai ({error.strerror}). Pilih folder lain dengan --data, perbaiki izinnya, atau"
            " kosongkan penyimpanan tablet.\n"
            f"The data folder {folder} cannot be used ({error.strerror}). Choose another with --data, correct its permissions, or"
            " make room on the tablet's disk."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise StorageUnusable(
            f"Folder data {folder} sedang dipakai program kasir lain (proses {holder}). Hentikan dulu, atau pilih folder lain"
            " dengan --data.\n"
            f"The data folder {folder} is in use by another till daemon (process {holder}). Stop that one first,"
            " or choose another folder with --data."
        ) from error
    unclean = os.fstat(lock).st_size > 0
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock, unclean


def _open_store(path: Path, *, check: bool, clock: Clock, space: Space) -> Database:
    recovery.finish(path, clock())

    def attempt(*, checks: bool) -> Database:
        return Database(
            path,
            synchronous="full",
            migrations=schema.STORE,
            check=checks,
            backs_up=True,
            checks_log=True,
            relieve=space.give_up,
        )

    try:
        if recovery.is_gone(path):
            # Before SQLite is asked: it takes an empty file for a new one, and deletes the log beside it.
            raise StorageDamaged(f"{path} is damaged (it is missing or empty, and what belongs to it is there).")
        try:
            return attempt(checks=check)
        except StorageCramped:
            if not space.give_up():
                raise
            return attempt(checks=check)
    except StorageDamaged as error:
        _log.error("store_damaged", problem=str(error))
        if path.exists() and space.free() < 3 * path.stat().st_size:
            # The reserve is for moments like this; it is made again once the till is open.
            space.give_up()
        try:
            recovery.rebuild(path, clock())
        except (OSError, apsw.Error, StorageFull, StorageUnusable) as failure:
            reason = str(failure).splitlines()[-1]
            raise StorageUnusable(
                f"{path} rusak dan tidak bisa dipulihkan ({reason}). Tidak ada yang diubah: salin folder {path.parent} ke tempat"
                " aman, kosongkan penyimpanan tablet dan jalankan lagi, atau hubungi bantuan GiPos.\n"
                f"{error} It could not be mended ({reason}). Nothing was changed: copy the folder {path.parent} to a safe place,"
                " free some space on the disk and start again, or call support."
            ) from failure
        return attempt(checks=False)


def _open_replica(path: Path, *, check: bool, clock: Clock, space: Space) -> Database:
    def attempt(*, checks: bool) -> Database:
        return Database(path, synchronous="normal", migrations=schema.REPLICA, check=checks)

    try:
        try:
            return attempt(checks=check)
        except StorageCramped:
            if not space.give_up():
                raise
            return attempt(checks=check)
    except StorageDamaged as error:
        saved = salvage.read_replica(path)
        aside = recovery.set_aside(path, clock())
        _log.warning("replica_rebuilt", problem=str(error), kept_as=str(aside), products=len(saved.products))
        replica = attempt(checks=False)

        def refill(connection: apsw.Connection) -> None:
            # Without a position: the cloud sends everything anew, and meanwhile the till sells from this.
            for product, seq in saved.products:
                products.put(connection, product, seq)
            for level in saved.levels:
                levels.put(connection, level)

        replica.write_and_wait(refill)
        return replica


def _begin_life(connection: apsw.Connection, now: Reading) -> int:
    """The number of this store's life. A new store cannot know the one before it, so it takes the time, which only grows."""
    epoch = facts.number(connection, facts.STORE_EPOCH)
    if not epoch:
        epoch = now.now_ms
        if now.state == ClockState.CLOCK_STATE_WRONG:
            # All tablets that do not know the time begin at the same moment, and must not be taken for one life. So little of
            # chance leaves the number a time, from which the cloud counts on by its own clock.
            epoch += secrets.randbelow(_CHANCE_MS)
        facts.put(connection, facts.STORE_EPOCH, epoch)
    interrupted = print_jobs.interrupt(connection, now.now_ms)
    if interrupted:
        _log.warning("print_jobs_unknown", count=interrupted)
    return epoch


def _match_lives(connection: apsw.Connection, store_epoch: int, identity: outlets.Identity | None) -> outlets.Identity | None:
    """The replica speaks of operations of one life of the store; in another they mean nothing. Returns whose till this is."""
    known = _counted_life(connection)
    if known is not None and known != str(store_epoch).encode():
        _begin_counting(connection, store_epoch)
        if identity is None:
            # A store that remembers nothing does not know which receipt numbers were given out; only the next Welcome tells.
            outlets.forget(connection)
    _begin_counting(connection, store_epoch, forgets=False)
    found = outlets.find(connection)
    if found is None and identity is not None:
        outlets.put(connection, identity)
        found = identity
    return found


def _counted_life(connection: apsw.Connection) -> bytes | None:
    """Which life of the store the watermarks of the replica are about."""
    known = connection.execute("SELECT value FROM facts WHERE name = 'store_epoch'").get
    return None if known is None else blob(known)


def _begin_counting(connection: apsw.Connection, store_epoch: int, *, forgets: bool = True) -> None:
    """Notes which life of the store the watermarks are about."""
    if forgets:
        lanes.forget_watermarks(connection)
    connection.execute(
        "INSERT INTO facts (name, value) VALUES ('store_epoch', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (str(store_epoch).encode(),),
    )
