"""Rules about what lies between: quarantine, second tablets, the log without holes, and what REST was told."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from scripts.soaking.evidence import Cloud, TabletFiles
from scripts.soaking.finding import Finding
from scripts.soaking.journal import Journal


def put_aside(journal: Journal, cloud: Cloud, tablets: Sequence[TabletFiles]) -> Iterator[Finding]:
    """In quarantine is what nobody can store, each once, and nothing else; the tablet knows of it."""
    planted = {poison.op_id: poison for poison in journal.poisons}
    # A change of a product that a restored cloud does not know any more.
    gone = {edit.op_id for tablet in tablets for edit in tablet.edits if edit.product_id not in cloud.products}
    # What waited on a tablet when it was copied comes from both, each time in another life.
    times = Counter((aside.op_id, aside.epoch if aside.till_id in journal.forked else 0) for aside in cloud.quarantined)
    kept = {aside.op_id for aside in cloud.quarantined}
    for aside in cloud.quarantined:
        if aside.op_id not in planted and aside.op_id not in gone:
            yield Finding(
                "QUARANTINED",
                f"A good operation was put aside: number {aside.op_seq}, {aside.reason}.",
                f"till {aside.till_id}, {aside.op_id}",
            )
        elif aside.op_id in planted and aside.status == "stored":
            sentence = f"An operation that cannot be stored ({planted[aside.op_id].kind}) is said to be stored after all."
            yield Finding("SWALLOWED", sentence, aside.op_id)
    for (op_id, _), count in times.items():
        if count > 1:
            yield Finding("QUARANTINED", f"One operation was put aside {count} times.", op_id)
    sold = {sale.id for sale in cloud.sales} | {count.id for count in cloud.counts}
    for tablet in tablets:
        for op_seq, (op_id, acknowledged) in tablet.operations.items():
            poison = planted.get(op_id)
            if poison is None or not acknowledged:
                continue
            if op_id in sold:
                yield Finding("SWALLOWED", f"An operation that cannot be stored ({poison.kind}) was stored.", op_id)
            elif op_id not in kept:
                sentence = f"Operation {op_seq} of {tablet.name} ({poison.kind}) was acknowledged, and is not in quarantine."
                yield Finding("SWALLOWED", sentence, op_id)
            elif op_id not in tablet.told_aside:
                # It waits until the cloud has acknowledged it, and the same frame says what became of it.
                sentence = f"Operation {op_seq} of {tablet.name} ({poison.kind}) was put aside, and the tablet was not told."
                yield Finding("UNTOLD", sentence, op_id)
        for op_id, life in tablet.past.items():
            if op_id in planted and op_id not in kept:
                sentence = f"An operation of life {life} of {tablet.name} ({planted[op_id].kind}) is not in quarantine any more."
                yield Finding("SWALLOWED", sentence, op_id)
        for op_id, reason in tablet.told_aside.items():
            if op_id not in planted and op_id not in gone:
                yield Finding("QUARANTINED", f"{tablet.name} was told that a good operation was put aside: {reason}.", op_id)


def forked(journal: Journal, cloud: Cloud) -> Iterator[Finding]:
    """Where two tablets have worked under one name, the owner was told."""
    told = {event.subject_id for event in cloud.events if event.type == "device.forked"}
    floor = cloud.heads.get("tenant", (0, 0, 1))[2]
    for till_id, at in journal.forked.items():
        if till_id not in told and at > journal.restored_at and floor <= 1:
            yield Finding("FORKED", f"Two tablets have worked under the name of till {till_id}, and nobody was told.")


def commands(journal: Journal, cloud: Cloud) -> Iterator[Finding]:
    """A command that REST took is kept, and carried out or failed in the middle; nothing else."""
    for fact in journal.facts:
        if fact.kind != "command" or not fact.done or fact.is_void:
            continue
        _, status, message = cloud.commands.get(fact.about, ("", "gone", ""))
        if status not in {"done", "failed"}:
            yield Finding("COMMAND", f"A command to a till is {status}.", f"{fact.about}: {message}")


def holes(cloud: Cloud) -> Iterator[Finding]:
    """The log is without gaps from its floor to its head."""
    lanes: defaultdict[str, list[int]] = defaultdict(list)
    for event in cloud.events:
        lanes[event.lane].append(event.seq)
    for lane, (_, last_seq, floor) in cloud.heads.items():
        seqs = lanes.pop(lane, [])
        if seqs != list(range(floor, last_seq + 1)):
            missing = sorted(set(range(floor, last_seq + 1)) ^ set(seqs))[:10]
            yield Finding(
                "LOG", f"The log has holes, or ends elsewhere than its head says, in lane {lane}.", f"{missing}, head {last_seq}"
            )
    for lane in lanes:
        yield Finding("LOG", f"The log has events in lane {lane}, which has no head.")


def rest(journal: Journal, cloud: Cloud) -> Iterator[Finding]:
    """What REST acknowledged has happened once, what it refused never, what nobody knows at most once."""
    sales = Counter(sale.note for sale in cloud.sales if not sale.till_id)
    marks = Counter(movement.note for movement in cloud.movements if not movement.sale_id)
    for fact in journal.facts:
        if fact.kind not in {"sale", "adjust"}:
            continue
        count = (sales if fact.kind == "sale" else marks)[fact.key]
        if count > 1:
            yield Finding("REST_DOUBLED", f"A {fact.kind} by REST has happened {count} times under one key.", fact.key)
        elif fact.done and not fact.is_void and not count:
            yield Finding("REST_LOST", f"A {fact.kind} that REST acknowledged is not in the cloud.", fact.key)
        elif fact.refused and count:
            yield Finding("REST_INVENTED", f"A {fact.kind} that REST refused is in the cloud: {fact.refused}", fact.key)
        if fact.done and not fact.is_void and cloud.answered.get(fact.key, 0) != 1:
            evidence = f"{fact.key}: {cloud.answered.get(fact.key, 0)} rows"
            yield Finding("REST_KEY", f"The key of a {fact.kind} by REST is not remembered exactly once.", evidence)
