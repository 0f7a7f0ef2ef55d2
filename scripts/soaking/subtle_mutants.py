"""Planted faults that hide well: what epochs mean, what is told again, what a range or a snapshot contains, whose key it is."""

from __future__ import annotations

from scripts.soaking.mutant import Change, Mutant

RESTORES = ("restore", "restore-unseen", "restore-twice")
CUTS = ("slow-cut", "long-cut", "cut")

SUBTLE: tuple[Mutant, ...] = (
    Mutant(
        "seen-epoch-ignored",
        "a count is weighed as if its till had seen the log as it is, although a restore has undone what it had seen",
        (
            Change(
                "cloud/sync/counts.py",
                "undone[each.seen_epoch] = await log.shared_upto(tx, tx.tenant_id, life.outlet_id, each.seen_epoch)",
                "undone[each.seen_epoch] = None",
            ),
        ),
        RESTORES,
    ),
    Mutant(
        "base-epoch-ignored",
        "a change of a product is weighed by its version alone, although a restore has given that version to another change",
        (Change("cloud/catalog/edits.py", "    if not edited.base_epoch:\n", "    if edited.base_epoch or True:\n"),),
        ("restore-unseen",),
    ),
    Mutant(
        "all-unseen-after-restore",
        "after a restore every change made before it loses, whether or not somebody else has changed anything",
        (
            Change(
                "cloud/catalog/edits.py",
                "else min(edited.base_version, first_unseen - 1)",
                "else min(edited.base_version, first_unseen - 1, 0)",
            ),
        ),
        RESTORES,
    ),
    Mutant(
        "restore-noted-wrong",
        "of a restore it is noted that nothing was left of the log",
        (
            Change(
                "cloud/sync/restores.py",
                "SELECT tenant_id, lane, epoch, last_seq, now() FROM raised",
                "SELECT tenant_id, lane, epoch, 0, now() FROM raised",
            ),
        ),
        RESTORES,
    ),
    Mutant(
        "epoch-counted",
        "epochs are counted, so that two restores of one backup lead to the same one",
        (
            Change(
                "cloud/sync/restores.py",
                '_NEXT = "greatest(epoch + 1, CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint))"',
                '_NEXT = "epoch + 1"',
            ),
        ),
        ("restore-twice",),
    ),
    Mutant(
        "told-once",
        "a tablet that missed the answer never hears what of its operations was put aside",
        (
            Change(
                "cloud/sync/quarantine.py",
                "    return [Quarantined(op_seq=row[0], reason=row[1], message=row[2]) for row in rows]\n",
                "    return []\n",
            ),
        ),
        ("cut-down",),
    ),
    Mutant(
        "retried-is-stored",
        "an operation that was put aside counts as stored as soon as somebody tries it again",
        (Change("cloud/sync/retries.py", "        if aside:\n", "        if aside and not row.id:\n"),),
        ("kill-tablet",),
    ),
    Mutant(
        "sales-revived-alone",
        "of what a tablet did in earlier lives a restored cloud gets the sales, and nothing else",
        (
            Change(
                "edge/storage/outbox.py",
                '" WHERE op_id NOT IN (SELECT op_id FROM operations) ORDER BY store_epoch, op_seq"\n',
                "\" WHERE kind = 'sale_recorded' ORDER BY store_epoch, op_seq\"\n",
            ),
        ),
        ("fork",),
    ),
    Mutant(
        "stroke-doubles",
        "a batch that is stored at one stroke takes goods from stock for sales that are there already",
        (
            Change(
                "cloud/platform/migrations/versions/0018_strokes.py",
                "        IF many <> cardinality(bodies) THEN\n",
                "        IF many > cardinality(bodies) THEN\n",
            ),
        ),
        ("fork", "old-image"),
    ),
    Mutant(
        "receipts-again",
        "a tablet that was put back to an image of itself gives receipt numbers out again",
        (
            Change(
                "edge/storage/receipt_numbers.py",
                "    if known > facts.number(connection, facts.LAST_RECEIPT_SEQ):\n",
                "    if known > facts.number(connection, facts.LAST_RECEIPT_SEQ) == 0:\n",
            ),
        ),
        ("old-image",),
    ),
    Mutant(
        "watermark-under-way",
        "what was read of a tablet's watermark while it uploads is taken for true when the upload is over",
        (
            Change(
                "cloud/sync/ranges.py",
                "        if uploads == self.uploads and uploads % 2 == 0:\n",
                "        if uploads == self.uploads:\n",
            ),
            Change(
                "cloud/sync/pipelines.py",
                "        finally:\n            mine =",
                "        finally:\n            await asyncio.sleep(0.05)\n            mine =",
            ),
        ),
        ("slow-cut", "cut"),
    ),
    Mutant(
        "snapshot-marks-of-now",
        "a snapshot that is kept for others tells each tablet the watermark of the moment in which it is sent",
        (
            Change(
                "cloud/sync/snapshots.py",
                "        return self.marks.get((own.till_id, own.store_epoch), 0) if own is not None else 0\n",
                "        known = own.known.op_seq if own is not None and own.known is not None else 0\n"
                "        return max(known, self.marks.get((own.till_id, own.store_epoch), 0)) if own is not None else 0\n",
            ),
        ),
        ("lose-replica",),
    ),
    Mutant(
        "first-of-a-range",
        "of several changes of one thing in a range the first one is sent instead of the last",
        (
            Change(
                "cloud/sync/ranges.py",
                "        latest.pop(row[1], None)  # so that what remains is in the order of positions\n"
                "        latest[row[1]] = row\n",
                "        latest.setdefault(row[1], row)\n",
            ),
        ),
        ("pause-tablet", "cut"),
    ),
    Mutant(
        "last-piece-dropped",
        "a snapshot of several pieces takes the place of the old rows without its last piece",
        (
            Change("cloud/sync/snapshots.py", "PIECE_BYTES = 192 * 1024\n", "PIECE_BYTES = 300\n"),
            Change(
                "edge/storage/lanes.py",
                "    stage(connection, part)\n    pieces =",
                "    if not part.index:\n        stage(connection, part)\n    pieces =",
            ),
        ),
        ("lose-replica", "restore"),
    ),
    Mutant(
        "own-counts-ignored",
        "a count forgets that its till had counted the same shelf before and had not heard of that yet",
        (
            Change(
                "cloud/sync/counts.py",
                "k.op_seq > c.op_seq AND k.op_seq < :before\n",
                "k.op_seq > c.op_seq AND k.op_seq < :before AND false\n",
            ),
        ),
        ("cut-down", "flood"),
    ),
    Mutant(
        "other-value-kept",
        "of a change that lost not the till's value is kept but the one it lost against",
        (
            Change(
                "cloud/catalog/edits.py",
                "ours=products.to_proto(row), theirs=proposed,",
                "ours=products.to_proto(row), theirs=products.to_proto(row),",
            ),
        ),
        CUTS,
    ),
    Mutant(
        "promise-unannounced",
        "tablets are not told that goods were promised to somebody or given free again",
        (
            Change(
                "cloud/inventory/promises.py",
                "    for level in levels.values():\n        movements.announce(tx, level)\n",
                "    for level in () if levels else ():\n        movements.announce(tx, level)\n",
            ),
        ),
        ("pause-tablet", "kill-tablet"),
    ),
    Mutant(
        "key-for-anything",
        "an idempotency key answers whatever comes with it, not only the request it was given for",
        (Change("cloud/platform/idempotency.py", "    if stored.fingerprint != mark:\n", "    if not stored.fingerprint:\n"),),
        ("pause-tablet", "kill-tablet"),
    ),
    Mutant(
        "cost-told",
        "changes of products go to the shop floor with what the goods cost",
        (Change("cloud/sync/ranges.py", "wire.product_change(seq, wire.without_cost(body))", "wire.product_change(seq, body)"),),
        ("pause-tablet", "kill-tablet"),
    ),
)
