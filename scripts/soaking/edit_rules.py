"""Rules about changes of products made at tills: none is lost unseen, and none takes the place of what its till had not seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from scripts.soaking.evidence import Cloud, Edit, Goods, TabletFiles, dump
from scripts.soaking.finding import Finding
from scripts.soaking.histories import Histories
from scripts.soaking.journal import Journal
from scripts.soaking.product_rules import TENANT, seen


def edits(journal: Journal, cloud: Cloud, tablets: Sequence[TabletFiles]) -> Iterator[Finding]:
    """A change made at a till is on the tablet; once acknowledged, it is or was to be seen, or is kept as a conflict."""
    values = seen(journal, cloud)
    kept = {(conflict.operation_id, conflict.field): conflict.theirs for conflict in cloud.conflicts}
    aside = {each.op_id for each in cloud.quarantined}
    on_tablets: defaultdict[str, list[Edit]] = defaultdict(list)
    for tablet in tablets:
        on_tablets[tablet.till_id] += tablet.edits
    for tablet in tablets:
        yield from _forgotten(journal, tablet, on_tablets[tablet.till_id])
        for edit in tablet.edits:
            theirs = kept.get((edit.op_id, edit.field), edit.value)
            if edit.field != "barcodes" and theirs != edit.value:
                sentence = f"Of a change of a product's {edit.field} made at {tablet.name} another value was kept."
                yield Finding("EDIT_LOST", sentence, dump([edit.op_id, edit.value, theirs]))
        last: dict[tuple[str, str], Edit] = {}
        for edit in sorted(tablet.edits, key=lambda each: (each.epoch, each.op_seq)):
            if edit.acknowledged and edit.op_id not in aside:
                last[edit.product_id, edit.field] = edit
        for edit in last.values():
            if edit.product_id not in cloud.products or (edit.op_id, edit.field) in kept:
                continue
            if not values[edit.product_id].has(edit.field, edit.value):
                sentence = (
                    f"A change of a product's {edit.field} made at {tablet.name} was acknowledged, and is nowhere to be seen."
                )
                yield Finding("EDIT_LOST", sentence, dump([edit.op_seq, edit.op_id, edit.product_id, edit.value]))
    # Of two tablets under one name the cloud takes what one has seen for seen by the other.
    alone = [tablet for tablet in tablets if tablet.till_id not in journal.forked]
    bases = _Bases(journal, cloud)
    yield from _overwritten(cloud, alone, bases)
    yield from _dropped(cloud, alone, bases)
    yield from _needless(cloud, alone, bases)
    yield from _backwards(journal, cloud)


def _backwards(journal: Journal, cloud: Cloud) -> Iterator[Finding]:
    """A tablet's older change took the place of its newer one. Of a till that lived twice each life hands over what both had."""
    acts = [act for act in journal.acts if act.kind == "edit" and act.done and act.till_id not in journal.forked]
    made = {(act.product_id, act.field, act.value): (act.tablet, number) for number, act in enumerate(acts)}
    last: dict[tuple[str, str], tuple[str, int]] = {}
    for event in cloud.events:
        for name in ("name", "price") if event.goods is not None else ():
            about, value = (event.subject_id, name), str(getattr(event.goods, name))
            now, before = made.get((*about, value), ("", 0)), last.get(about, ("", 0))
            last[about] = now
            if now[0] and now[0] == before[0] and now[1] < before[1]:
                sentence = f"An older change of a product's {name} made at {now[0]} took the place of a newer one made there."
                yield Finding("BACKWARDS", sentence, dump([event.subject_id, acts[before[1]].value, value, event.version]))


def _forgotten(journal: Journal, tablet: TabletFiles, edits: Sequence[Edit]) -> Iterator[Finding]:
    """A tablet has every change that was made at it, or a newer one of its own: of earlier lives only that is handed over."""
    held = {(edit.product_id, edit.field, edit.value) for edit in edits}
    has_lived_twice = tablet.till_id in journal.forked
    newer: set[tuple[str, str]] = set()
    for act in reversed(journal.acts[journal.forgot.get(tablet.name, (0, 0))[1] :]):
        if act.kind != "edit" or not act.done or act.tablet != tablet.name:
            continue
        if (act.product_id, act.field, act.value) in held:
            newer.add((act.product_id, act.field))
        elif not has_lived_twice or (act.product_id, act.field) not in newer:
            sentence = f"{act.tablet} has forgotten that it changed a product."
            yield Finding("FORGOTTEN", sentence, dump([act.product_id, act.value]))


class _Bases:
    """Up to which version, as the log is now, a till had seen a product when it changed it."""

    def __init__(self, journal: Journal, cloud: Cloud) -> None:
        self._histories = Histories(journal, cloud)
        self._floor = cloud.heads.get(TENANT, (0, 0, 1))[2]
        self._versions: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for event in cloud.events:
            if event.goods is not None:
                self._versions[event.subject_id].append((event.seq, event.version))

    def of(self, edit: Edit) -> int:
        """The version it names; or the one before the first change that followed on what a restore has left."""
        left = self._histories.left(TENANT, edit.base_epoch)
        if left is None:
            return edit.base_version
        if self._floor > left + 1:
            return 0
        unseen = [version - 1 for seq, version in self._versions[edit.product_id] if seq > left]
        return min([edit.base_version, *unseen])


def _overwritten(cloud: Cloud, tablets: Sequence[TabletFiles], bases: _Bases) -> Iterator[Finding]:
    """A till's value took the place of one that somebody else had set and the till had not seen."""
    made = {
        (edit.product_id, edit.field, edit.value): (tablet.till_id, edit)
        for tablet in tablets
        for edit in tablet.edits
        if edit.field != "barcodes"
    }
    before: defaultdict[str, list[tuple[int, Goods]]] = defaultdict(list)
    for event in cloud.events:
        if event.goods is None:
            continue
        past = before[event.subject_id]
        for name in ("name", "price"):
            now = str(getattr(event.goods, name))
            author = made.get((event.subject_id, name, now))
            if author is None or not past or str(getattr(past[-1][1], name)) == now:
                continue
            till_id, edit = author
            base = bases.of(edit)
            for (_, older), (version, newer) in reversed(list(pairwise(past))):
                value = str(getattr(newer, name))
                if version <= base:
                    break
                if value == str(getattr(older, name)):
                    continue
                other = made.get((event.subject_id, name, value))
                if other is not None and other[0] == till_id:
                    break  # what came before its own change was weighed with that
                evidence = dump([event.subject_id, now, edit.base_version, base, value, version, event.version, edit.op_id])
                yield Finding("OVERWRITTEN", f"A till's {name} took the place of a newer one that it had not seen.", evidence)
        past.append((event.version, event.goods))


def _dropped(cloud: Cloud, tablets: Sequence[TabletFiles], bases: _Bases) -> Iterator[Finding]:
    """A till's barcodes took the place of one that somebody else had given and the till had not seen."""
    made = {
        (edit.product_id, edit.value.rpartition(" ")[2]): (tablet.till_id, edit)
        for tablet in tablets
        for edit in tablet.edits
        if edit.field == "barcodes"
    }
    past: defaultdict[str, list[tuple[int, str, frozenset[str]]]] = defaultdict(list)
    for event in cloud.events:
        if event.goods is None:
            continue
        steps, now = past[event.subject_id], frozenset(event.goods.barcodes)
        before = steps[-1][2] if steps else now
        author = next((made[event.subject_id, code] for code in now - before if (event.subject_id, code) in made), None)
        till_id = author[0] if author is not None else ""
        if author is not None and before - now:
            base = bases.of(author[1])
            for (_, _, older), (version, other, newer) in reversed(list(pairwise(steps))):
                if version <= base or other == till_id:
                    break  # what came before its own change was weighed with that
                if gone := (newer - older) & (before - now):
                    evidence = dump([event.subject_id, sorted(gone), base, version, event.version, author[1].op_id])
                    yield Finding("OVERWRITTEN", "A till's barcodes took the place of one that it had not seen.", evidence)
        if not steps or now != before:
            steps.append((event.version, till_id, now))


def _needless(cloud: Cloud, tablets: Sequence[TabletFiles], bases: _Bases) -> Iterator[Finding]:
    """A till's value was kept as a conflict although nobody else had changed the field since the till had seen it."""
    if cloud.heads.get(TENANT, (0, 0, 1))[2] > 1:
        return  # the log does not say any more who changed what
    authors = {(edit.product_id, edit.field, edit.value): tablet.till_id for tablet in tablets for edit in tablet.edits}
    steps: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    values: dict[tuple[str, str], str] = {}
    for event in cloud.events:
        for name in ("name", "price") if event.goods is not None else ():
            about, value = (event.subject_id, name), str(getattr(event.goods, name))
            if values.get(about) != value:
                steps[about].append((event.version, authors.get((*about, value), "")))
            values[about] = value
    made = {(edit.op_id, edit.field): (tablet, edit) for tablet in tablets for edit in tablet.edits}
    for conflict in cloud.conflicts:
        tablet, edit = made.get((conflict.operation_id, conflict.field), (None, None))
        if tablet is None or edit is None or not conflict.is_changed or conflict.field == "barcodes":
            continue
        before = [step for step in steps[conflict.product_id, conflict.field] if step[0] <= conflict.met_version]
        if not before or before[-1][0] <= bases.of(edit) or before[-1][1] == tablet.till_id:
            evidence = dump([edit.op_id, edit.value, edit.base_version, bases.of(edit), before[-2:], conflict.met_version])
            sentence = (
                f"A change of a product's {edit.field} made at {tablet.name} was put aside, and nobody had changed that since."
            )
            yield Finding("CONFLICT", sentence, evidence)
