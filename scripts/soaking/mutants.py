"""Planted faults: each is a few words of the product's source replaced in a copy of it. The suite must catch every one."""

from __future__ import annotations

from scripts.soaking.further_mutants import FURTHER
from scripts.soaking.more_mutants import MORE
from scripts.soaking.mutant import Change, Mutant, NotApplicable, plant
from scripts.soaking.subtle_mutants import SUBTLE

__all__ = ["ALL", "BY_NAME", "Change", "Mutant", "NotApplicable", "plant"]


KILLS = ("kill-tablet", "kill-cloud", "kill-postgres", "terminate-backends")
CUTS = ("cut", "cut-up", "cut-down", "kill-cloud", "pause-cloud")

ALL: tuple[Mutant, ...] = (
    Mutant(
        "ack-before-commit",
        "the cloud acknowledges sales before they are committed",
        (
            Change(
                "cloud/sync/streams.py",
                "        outcome = await patiently(self._process.wakeups, storing)\n",
                "        asyncio.get_running_loop().create_task(storing())\n"
                "        outcome = uploads.Outcome(max(operation.op_seq for operation in operations))\n",
            ),
        ),
        ("kill-cloud", "kill-postgres", "terminate-backends"),
    ),
    Mutant(
        "receipt-before-commit",
        "the tablet hands out the receipt before the sale is committed",
        (
            Change(
                "edge/storage/database.py",
                "                result = self._patiently(work)\n",
                "                result = self._patiently(work, future)\n",
            ),
            Change(
                "edge/storage/database.py",
                "            else:\n                future.set_result(result)\n",
                "            else:\n                future.done() or future.set_result(result)\n",
            ),
            Change(
                "edge/storage/database.py",
                "    def _patiently(self, work: Work[T]) -> T:\n        try:\n            return self._transaction(work)\n",
                "    def _patiently(self, work, future):\n        try:\n            return self._transaction(work, future)\n",
            ),
            Change(
                "edge/storage/database.py",
                "    def _transaction(self, work: Work[T]) -> T:\n",
                "    def _transaction(self, work, future=None):\n",
            ),
            Change(
                "edge/storage/database.py",
                '            result = work(self._connection)\n            self._connection.execute("COMMIT")\n',
                "            result = work(self._connection)\n"
                "            if future is not None and type(result).__name__ == 'CheckedOut':\n"
                "                future.set_result(result)\n"
                "                __import__('time').sleep(0.05)\n"
                '            self._connection.execute("COMMIT")\n',
            ),
            Change("edge/till/checkout.py", "        await self._receipts.take_up(done.receipt_key, late=done.repeated)\n", ""),
            Change(
                "edge/till/screen.py",
                "        job = await self.receipts.settled(done.receipt_key, RECEIPT_WAIT_SECONDS if wait else 0)\n",
                "",
            ),
            Change(
                "edge/till/screen.py",
                '                "receipt": views.receipt(job),\n                "repeated": done.repeated,\n',
                '                "repeated": done.repeated,\n',
            ),
        ),
        ("kill-tablet",),
    ),
    Mutant(
        "delete-on-send",
        "the tablet forgets operations when they are sent, not when they are acknowledged",
        (
            Change(
                "edge/link/client.py",
                "            await self._carry_out(session.upload(batch, want), session)\n",
                "            await self._carry_out(session.upload(batch, want), session)\n"
                "            await self._storage.store.write(\n"
                "                lambda connection: connection.execute(\n"
                "                    'DELETE FROM operations WHERE op_seq <= ?', (batch[-1].op_seq,)\n"
                "                )\n"
                "            )\n",
            ),
        ),
        CUTS,
    ),
    Mutant(
        "number-outside",
        "the receipt's number is taken outside of the sale's transaction",
        (
            Change(
                "edge/till/checkout.py",
                "        fingerprint = hashlib.sha256(repr(request).encode()).digest()\n",
                "        fingerprint = hashlib.sha256(repr(request).encode()).digest()\n"
                "        await self._storage.store.write(lambda connection: facts.advance(connection, facts.LAST_RECEIPT_SEQ))\n",
            ),
            Change(
                "edge/till/checkout.py",
                "facts.advance(connection, facts.LAST_RECEIPT_SEQ))\n        operation",
                "facts.number(connection, facts.LAST_RECEIPT_SEQ))\n        operation",
            ),
        ),
        ("kill-tablet", "pause-tablet", "disk-full"),
    ),
    Mutant(
        "floor-off-by-one",
        "a tablet whose next change is just below the floor of the log is let go on",
        (Change("cloud/sync/ranges.py", "place.seq < head.floor_seq - 1 or", "place.seq < head.floor_seq - 2 or"),),
        ("retention",),
    ),
    Mutant(
        "watermark-first",
        "the watermark is committed before the effects it stands for",
        (
            Change(
                "cloud/sync/batches.py",
                "        await bulk.store_many(tx, [_recorded(part.batch, item) for part in parts for item in part.fresh])\n",
                "        LATER.extend(_recorded(part.batch, item) for part in parts for item in part.fresh)\n",
            ),
            Change("cloud/sync/batches.py", "logger = structlog.get_logger()\n", "logger = structlog.get_logger()\nLATER = []\n"),
            Change(
                "cloud/sync/batches.py",
                "    if (usual := await _at_one_stroke(tx, batches)) is not",
                "    if (usual := None) is not",
            ),
            Change(
                "cloud/sync/uploads.py",
                "await self._gathering.make(caller.tenant_id, batch) if batch.is_plain else None\n",
                "await self._gathering.make(caller.tenant_id, batch) if batch.is_plain else None\n"
                "            later, batches.LATER[:] = batches.LATER[:], []\n"
                "            if later:\n"
                "                async with self._database.together(caller.tenant_id) as tx:\n"
                "                    await batches.bulk.store_many(tx, later)\n",
            ),
        ),
        ("kill-cloud", "kill-postgres", "terminate-backends"),
    ),
    Mutant(
        "gap-unseen",
        "the tablet does not check that a frame follows on the one before, and the cloud loses one in ten",
        (
            Change("edge/link/lanes.py", "        if changes.from_exclusive != place.seq:\n", "        if False:\n"),
            Change(
                "edge/storage/lanes.py",
                "or not changes.from_exclusive <= place.seq <= changes.upto_inclusive:",
                "or place.seq > changes.upto_inclusive:",
            ),
            Change(
                "cloud/sync/sessions.py",
                "        lane.frame(upto, now)\n        self.outgoing.append(data)\n",
                "        lane.frame(upto, now)\n"
                "        if upto < 60 or __import__('random').random() < 0.9:\n"
                "            self.outgoing.append(data)\n",
            ),
        ),
        ("pause-tablet", "kill-tablet"),
    ),
    Mutant(
        "position-first",
        "the tablet commits its new position before the rows that belong to it",
        (
            Change(
                "edge/storage/lanes.py",
                "    _put(connection, changes.lane, changes.changes)\n    _move(",
                "    if not apart:\n        return _put(connection, changes.lane, changes.changes)\n    _move(",
            ),
            Change(
                "edge/storage/lanes.py",
                "def apply(connection: apsw.Connection, changes: Changes) -> None:\n",
                "def apply(connection, changes, apart=True):\n    if not apart:\n"
                "        return _put(connection, changes.lane, changes.changes)\n",
            ),
            Change(
                "edge/link/effects.py",
                "                await storage.replica.write(lambda connection: lanes.apply(connection, changes))\n",
                "                await storage.replica.write(lambda connection: lanes.apply(connection, changes))\n"
                "                await __import__('asyncio').sleep(0.05)\n"
                "                await storage.replica.write(lambda connection: lanes.apply(connection, changes, apart=False))\n",
            ),
        ),
        ("kill-tablet",),
    ),
    Mutant(
        "forgets-acknowledged",
        "the tablet throws away what was acknowledged instead of keeping it for a cloud that is restored",
        (
            Change(
                "edge/storage/outbox.py",
                "    if watermark > facts.number(connection, facts.ACKNOWLEDGED_SEQ):\n        op_id =",
                '    connection.execute("DELETE FROM operations WHERE op_seq < ?", (watermark,))\n'
                "    if watermark > facts.number(connection, facts.ACKNOWLEDGED_SEQ):\n        op_id =",
            ),
        ),
        ("restore",),
    ),
    Mutant(
        "epoch-kept",
        "a restored cloud goes on in the same epoch, as if its log were still the one the tablets have copied",
        (
            Change("cloud/sync/restores.py", "    await tx.run(_RAISE, tenant_id=tx.tenant_id, least=0)\n", ""),
            Change("cloud/sync/restores.py", "        if lost:\n", "        if lost and not lost:\n"),
        ),
        ("restore-unseen",),
    ),
    Mutant(
        "duplicates-taken",
        "operations that come again are taken again",
        (
            Change(
                "cloud/sync/batches.py",
                "    fresh = [item for item in batch.items if item.operation.op_seq > standing.watermark]\n",
                "    fresh = list(batch.items)\n",
            ),
            Change(
                "cloud/sync/batches.py",
                "        if item.operation.op_seq != standing.watermark + 1 + place:\n",
                "        if item.operation.op_seq > standing.watermark + 1 + place:\n",
            ),
            Change("cloud/sales/bulk.py", "    left = set(added)\n", "    left = {each.sale.id for each in recorded}\n"),
        ),
        CUTS,
    ),
    Mutant(
        "head-read-late",
        "a snapshot's position is read after its rows, in another transaction",
        (
            Change(
                "cloud/sync/snapshots.py",
                "            await spool.add(wire.part_changes(parts))\n        return snapshot\n",
                "            await spool.add(wire.part_changes(parts))\n"
                "        await asyncio.sleep(0.3)\n"
                "        async with self._database.reading(tenant_id) as connection:\n"
                "            snapshot.head = (await log.heads(connection, tenant_id))[lane]\n"
                "        return snapshot\n",
            ),
        ),
        ("lose-replica", "restore"),
    ),
    Mutant(
        "wakeup-lost",
        "half a minute after a start nobody is woken by commits any more, and nothing polls",
        (
            Change(
                "cloud/platform/wakeups.py",
                "        if tenant_id in self._waiting:\n            for lane, (epoch, seq) in told.items():\n",
                "        if tenant_id in self._waiting and not _is_deaf():\n"
                "            for lane, (epoch, seq) in told.items():\n",
            ),
            Change(
                "cloud/platform/wakeups.py",
                "logger = structlog.get_logger()\n",
                "logger = structlog.get_logger()\nSTARTED = __import__('time').monotonic()\n\n\n"
                "def _is_deaf():\n    return __import__('time').monotonic() - STARTED > 30\n",
            ),
            Change(
                "cloud/platform/wakeups.py",
                "        if not self._waiting:\n            return\n",
                "        if not self._waiting or _is_deaf():\n            return\n",
            ),
        ),
        ("pause-tablet", "kill-tablet", "cut"),
    ),
    Mutant(
        "key-forgotten",
        "an answer is not kept with its idempotency key",
        (Change("cloud/platform/idempotency.py", "    if not key:\n        return await run()\n", "    return await run()\n"),),
        ("kill-cloud", "pause-cloud", "kill-postgres", "terminate-backends"),
    ),
    Mutant(
        "wall-clock-believed",
        "the tablet's sales take their time from its wall clock, although it was measured against the cloud",
        (
            Change(
                "edge/storage/times.py",
                "        return Reading(anchor.true_ms + elapsed, now.wall_ms, uncertainty, ClockState.CLOCK_STATE_SYNCED)\n",
                "        return Reading(now.wall_ms, now.wall_ms, uncertainty, ClockState.CLOCK_STATE_SYNCED)\n",
            ),
        ),
        ("clock-jump",),
    ),
    Mutant(
        "stock-not-announced",
        "the stock that a tablet's sales leave is stored, but not always written into the log",
        (
            Change(
                "cloud/platform/log.py",
                "    for event in events:\n        by_lane[event.lane].append(event)\n",
                "    events = [e for e in events if e.type != 'inventory.updated' or __import__('random').random() < 0.9]\n"
                "    for event in events:\n        by_lane[event.lane].append(event)\n",
            ),
        ),
        ("pause-tablet", "kill-tablet"),
    ),
    *MORE,
    *SUBTLE,
    *FURTHER,
)
BY_NAME = {mutant.name: mutant for mutant in ALL}
