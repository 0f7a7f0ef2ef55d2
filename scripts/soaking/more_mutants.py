"""Planted faults of what is beside the sales: counts, changes of products, reservations, quarantine, second tablets."""

from __future__ import annotations

from scripts.soaking.mutant import Change, Mutant

MORE: tuple[Mutant, ...] = (
    Mutant(
        "credit-ignored",
        "the cloud sends on without waiting for what it has sent to be confirmed",
        (Change("cloud/sync/lanes.py", "if not self.dirty or len(self.under_way) >= CREDIT:", "if not self.dirty:"),),
        ("pause-tablet", "kill-tablet"),
    ),
    Mutant(
        "quarantine-drops",
        "an operation that cannot be stored is dropped instead of being put aside",
        (Change("cloud/sync/batches.py", "        if self._puts_aside:\n", "        if not self._puts_aside:\n"),),
        ("kill-tablet", "cut"),
    ),
    Mutant(
        "quarantine-blocks",
        "an operation that cannot be stored stops the queue behind it",
        (
            Change(
                "cloud/sync/batches.py",
                "                    await self._put_aside(item.operation, item.fact.reason, item.fact.message)\n",
                "                    raise OSError(item.fact.message)\n",
            ),
        ),
        ("kill-tablet", "cut"),
    ),
    Mutant(
        "fork-unfenced",
        "nobody compares whose operations have the numbers that come again, so two copies of a tablet pass for one",
        (
            Change("cloud/sync/watermarks.py", "    if not sent:\n        return []\n    rows", "    return []\n    rows"),
            Change("cloud/sync/uploads.py", "is_behind = not is_old and 0 <", "is_behind = is_old and 0 <"),
        ),
        ("fork",),
    ),
    Mutant(
        "count-absolute",
        "a count is taken for the stock of the moment in which it arrives",
        (
            Change(
                "cloud/sync/counts.py",
                "now.get(each.product_id, 0) - others[each.product_id] if each.word is None",
                "now.get(each.product_id, 0) - 0 * others[each.product_id] if each.word is None",
            ),
        ),
        ("slow-cut", "cut", "pause-tablet"),
    ),
    Mutant(
        "tombstone-forgotten",
        "tablets are not told that a product was archived",
        (
            Change(
                "cloud/sync/ranges.py",
                '("product.created", "product.updated", "product.deleted")',
                '("product.created", "product.updated")',
            ),
        ),
        ("pause-tablet", "cut"),
    ),
    Mutant(
        "epoch-of-one-lane",
        "a restored cloud gives a new epoch to the merchant's lane alone",
        (
            Change(
                "cloud/sync/restores.py",
                "CAST(:least AS bigint)) WHERE tenant_id = :tenant_id\n",
                "CAST(:least AS bigint)) WHERE tenant_id = :tenant_id AND lane = 'tenant'\n",
            ),
        ),
        ("restore-unseen", "restore"),
    ),
    Mutant(
        "part-acknowledged",
        "of a long batch the last operation is acknowledged without being stored",
        (
            Change(
                "cloud/sync/batches.py",
                "for part in parts for item in part.fresh])",
                "for part in parts for item in part.fresh[: max(5, len(part.fresh) - 1)]])",
            ),
            Change(
                "cloud/sync/batches.py",
                "    recorded = [_recorded(part.batch, item) for part in parts for item in part.fresh]\n",
                "    recorded = [_recorded(p.batch, item) for p in parts for item in p.fresh[: max(5, len(p.fresh) - 1)]]\n",
            ),
        ),
        ("slow-cut", "long-cut"),
    ),
    Mutant(
        "ids-not-compared",
        "a sale that comes again under another number takes its goods from stock again",
        (Change("cloud/sales/bulk.py", "    left = set(added)\n", "    left = {each.sale.id for each in recorded}\n"),),
        ("fork",),
    ),
    Mutant(
        "one-too-many-pruned",
        "with the events that are too old the oldest one that is to be kept leaves the log",
        (
            Change(
                "cloud/platform/retention.py",
                "AND e.seq < h.floor_seq AND e.seq < :below",
                "AND e.seq <= h.floor_seq AND e.seq <= :below",
            ),
        ),
        ("retention",),
    ),
    Mutant(
        "promise-kept",
        "a reservation whose time is over holds its goods for ever",
        (
            Change(
                "cloud/inventory/promises.py",
                "given[key] = given.get(key, 0) - quantity\n",
                "given[key] = given.get(key, 0) - (0 if status == EXPIRED else quantity)\n",
            ),
        ),
        ("pause-tablet", "kill-tablet"),
    ),
    Mutant(
        "stale-edit-wins",
        "a change made at a till takes the place of a newer one that the till had not seen",
        (
            Change(
                "cloud/catalog/edits.py",
                "for name, version in changed.items() if base >= version or mine.get(name) == version]",
                "for name in changed]",
            ),
        ),
        ("slow-cut", "long-cut", "cut"),
    ),
    Mutant(
        "conflict-dropped",
        "the value of a till that lost against a newer one is thrown away",
        (Change("cloud/catalog/edits.py", "        for name, reason in lost.items()\n", "        for name, reason in ()\n"),),
        ("slow-cut", "long-cut", "cut"),
    ),
    Mutant(
        "life-loses-queue",
        "a tablet that begins a new life because there are two of it throws away what it has not uploaded",
        (
            Change(
                "edge/storage/outbox.py",
                '    connection.execute("DELETE FROM operations WHERE acknowledged_at IS NOT NULL")\n    moving',
                '    connection.execute("DELETE FROM operations")\n    moving',
            ),
        ),
        ("fork",),
    ),
)
