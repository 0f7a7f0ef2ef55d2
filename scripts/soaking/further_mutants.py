"""Planted faults of a reviewer's list: days, owners' orders, pages and frames that are cut, words that cover too much."""

from __future__ import annotations

from scripts.soaking.mutant import Change, Mutant

KILLS = ("pause-tablet", "kill-tablet")
CUTS = ("slow-cut", "long-cut", "cut")
FURTHER: tuple[Mutant, ...] = (
    Mutant(
        "day-by-jakarta",
        "a sale counts for the day it is in Jakarta, wherever its outlet is",
        (Change("cloud/sync/facts.py", 'place.time_zone or "Asia/Jakarta")\n        text', '"Asia/Jakarta")\n        text'),),
        KILLS,
    ),
    Mutant(
        "wrong-clock-believed",
        "a sale has the time its till says, also where the till says that its clock is wrong",
        (
            Change(
                "cloud/sync/facts.py",
                "is_right = clock.state != CLOCK_STATE_WRONG and now - OLDEST < happened",
                "is_right = clock.state != CLOCK_STATE_WRONG or happened < now",
            ),
        ),
        KILLS,
    ),
    Mutant(
        "locked-out-goes-on",
        "a stream goes on although its tablet was locked out",
        (
            Change(
                "cloud/accounts/authentication.py",
                "        for subject in known.subjects:\n            self._streams.setdefault(subject, []).append(call)\n",
                "        for subject in known.subjects if not call.caller or not call.caller.till_id else ():\n"
                "            self._streams.setdefault(subject, []).append(call)\n",
            ),
        ),
        ("revoke",),
    ),
    Mutant(
        "suspended-hands-over",
        "a tablet that its owner has suspended hands over its sales all the same",
        (
            Change(
                "edge/link/session.py",
                'self._uploads.is_paused = welcome.till_state == "suspended"',
                "self._uploads.is_paused = False",
            ),
            Change("cloud/sync/watermarks.py", '    if standing.state == "suspended":\n', '    if standing.state == "-":\n'),
            Change("cloud/sync/greetings.py", 'takes_operations=state != "suspended"', "takes_operations=True"),
        ),
        ("suspend",),
    ),
    Mutant(
        "last-rows-not-spooled",
        "a snapshot of several pieces is built without its last rows",
        (Change("cloud/sync/snapshots.py", "        if parts or not len(spool):\n", "        if not len(spool):\n"),),
        ("lose-replica", "restore", "torn-snapshot"),
    ),
    Mutant(
        "cut-one-too-far",
        "a range that is cut because a frame is full covers the first change that is not in it",
        (Change("cloud/sync/ranges.py", "return rows[:number], seq - 1", "return rows[:number], seq"),),
        ("flood",),
    ),
    Mutant(
        "old-rows-stay",
        "a snapshot of the catalogue is put on top of the old one instead of in its place",
        (Change("edge/storage/lanes.py", "        products.clear(connection)\n", "        pass\n"),),
        ("restore", "restore-unseen"),
    ),
    Mutant(
        "codes-replaced",
        "the barcodes of a till take the place of those that others have given meanwhile",
        (Change("cloud/catalog/edits.py", "[*row.barcodes, *proposed.barcodes] if is_union else", "[] if not proposed else"),),
        CUTS,
    ),
    Mutant(
        "given-back-twice",
        "goods of a reservation that has ended are given back once more",
        (
            Change(
                "cloud/inventory/reservations.py",
                "    if row.status != promises.OPEN:\n        return promises",
                "    if row.status == promises.FULFILLED:\n        return promises",
            ),
        ),
        KILLS,
    ),
    Mutant(
        "promised-twice",
        "goods are promised that were promised to somebody else already",
        (
            Change(
                "cloud/inventory/promises.py",
                "l.reserved + d.quantity <= l.on_hand - d.buffer)",
                "d.quantity <= l.on_hand - d.buffer)",
            ),
        ),
        KILLS,
    ),
    Mutant(
        "watermark-forgotten",
        "a range that says nothing of a tablet's own sales makes it forget what the stock contains of them",
        (
            Change(
                "edge/storage/lanes.py",
                "op_watermark = max(op_watermark, excluded.op_watermark)",
                "op_watermark = excluded.op_watermark",
            ),
        ),
        KILLS,
    ),
    Mutant(
        "offset-other-way",
        "what was added to a tablet's wall clock is said with the other sign",
        (Change("edge/storage/times.py", "return self.now_ms - self.device_ms", "return self.device_ms - self.now_ms"),),
        ("clock-jump",),
    ),
    Mutant(
        "older-commit-wins",
        "of two commits that are told in the other order the older one is remembered as what is after the newer",
        (
            Change(
                "cloud/platform/recent.py",
                "        while (event := kept.events.get(seq := seq + 1)) is not None:\n            found.append((seq, event))\n",
                "        found = [(place, event) for place, event in sorted(kept.events.items()) if place > seq]\n",
            ),
        ),
        ("flood", "second-cloud", "pause-tablet"),
    ),
    Mutant(
        "doubt-untold",
        "nobody is told that a sale was made with a wrong clock",
        (Change("cloud/sync/facts.py", '    if is_doubtful:\n        marks.append("CLOCK_SUSPECT")\n', ""),),
        KILLS,
    ),
    Mutant(
        "command-told-once",
        "a command is handed over once, whether or not its tablet has said what became of it",
        (
            Change(
                "cloud/tills/commands.py",
                '_T.status.in_(("waiting", "sent")))\n        .where(',
                '_T.status == "waiting")\n        .where(',
            ),
        ),
        ("cut-down",),
    ),
)
