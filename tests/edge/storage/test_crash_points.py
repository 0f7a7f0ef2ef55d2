"""Kills a till at each storage call of what it does, once, and looks at what is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest

from edge.storage import facts, lanes, levels, outbox, outlets, papers
from edge.storage import sales as stored_sales
from edge.storage.folder import Storage
from edge.storage.space import Budget, Space
from gipos.edge.v1.link_pb2 import Change, Operation, SnapshotPart
from gipos.v1.inventory_pb2 import Level
from gipos.v1.sales_pb2 import Sale
from kernel.money import rupiah

ROOT = Path(__file__).parents[3]
TILL = Path(__file__).with_name("crashing_till.py")
CALLS = ("pwrite64", "fsync", "fdatasync", "ftruncate", "unlink", "unlinkat", "rename", "openat")
# Only the file an action is about: calls are counted by thread, and another thread's would come first.
FILES = {"sell": ("store.db",), "acknowledge": ("store.db",), "apply": ("replica.db",), "begin": ("store.db", "replica.db")}
PRICE, OUTLET = 1000, "out_1"
_LINE = re.compile(r"^(\d+) +(\w+)\(")


def prepared(folder: Path, identity: outlets.Identity) -> Storage:
    """A till that has made two sales and stands at position 1."""
    storage = Storage.open(folder, space=Space(folder, Budget(reserve=4096)))
    level = Level(outlet_id=OUTLET, product_id="prd_1", on_hand="1", reserved="0")
    part = SnapshotPart(lane=OUTLET, epoch=1, seq=1, last=True, changes=[Change(seq=1, level=level)])

    def fill(connection: apsw.Connection) -> None:
        papers.put_identity(connection, identity)
        for number in (1, 2):
            sale = Sale(id=f"sal_{number}", number=f"KMG-2611-20000{number}", total=rupiah(PRICE))
            sale.tenders.add(method="cash", amount=rupiah(PRICE))
            facts.put(connection, facts.LAST_RECEIPT_SEQ, number)
            outbox.append(connection, Operation(op_id=sale.id, sale_recorded=sale), {"prd_1": -1000}, 1)
            stored_sales.insert(connection, sale, sold_at_ms=1, request_key=None, request_hash=b"")

    storage.store.write_and_wait(fill)
    storage.replica.write_and_wait(lambda connection: outlets.put(connection, identity))
    storage.replica.write_and_wait(lambda connection: lanes.activate(connection, part))
    return storage


@pytest.fixture(scope="module")
def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed; it is what kills the till at each storage call")
    if subprocess.run([found, "-qq", "-e", "trace=none", "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace may not trace here (no ptrace)")
    return found


class Tills:
    """Makes tills, each a process that waits behind its door."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._turn = threading.Lock()

    def make(self, *words: str) -> int:
        """Its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps(words) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())


@pytest.fixture(scope="module")
def tills() -> Iterator[Tills]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "protos")))}
    command = [sys.executable, str(TILL)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as process:
        yield Tills(process)


class Lab:
    """Copies of one prepared till, each run once under strace."""

    def __init__(self, strace: str, tills: Tills, action: str, origin: Path, work: Path) -> None:
        self._strace, self._tills, self._action, self._origin, self._work = strace, tills, action, origin, work
        self.ended = self.errors = ""

    def run(self, name: str, *options: str) -> Path:
        folder = self._work / name
        shutil.copytree(self._origin, folder / "till")
        (folder / "paper").mkdir()
        door = folder / "door"
        os.mkfifo(door)
        pid = self._tills.make(self._action, *(str(folder / part) for part in ("till", "paper", "door", "errors")))
        names = [f"{file}{suffix}" for file in FILES[self._action] for suffix in ("", "-wal", "-shm")]
        paths = [part for name in names for part in ("-P", str(folder / "till" / name))]
        command = [self._strace, "-f", "-o", str(folder / "trace"), *paths, *options, "-p", str(pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            try:
                assert "attached" in said, said
            finally:
                door.open("wb").close()
            tracer.stderr.read()
        # The process has the number of its first thread.
        (self.ended,) = re.findall(rf"^{pid} +\+\+\+ (.+) \+\+\+$", (folder / "trace").read_text(), re.MULTILINE)
        self.errors = (folder / "errors").read_text()
        return folder

    def points(self) -> list[tuple[str, int]]:
        """Every storage call of the action: its name and the how manieth of its thread."""
        folder = self.run("whole", "-e", f"trace={','.join(CALLS)}")
        assert self.ended == "exited with 0", self.errors
        counts: Counter[tuple[str, str]] = Counter()
        for line in (folder / "trace").read_text().splitlines():
            found = _LINE.match(line)
            if found is not None:
                counts[(found[1], found[2])] += 1
        most = {call: max((count for (_, one), count in counts.items() if one == call), default=0) for call in CALLS}
        return [(call, number) for call, count in most.items() for number in range(1, count + 1)]


def check(folder: Path) -> dict[str, Any]:
    """What holds after every crash; and what is there, for the action's own checks."""
    till = folder / "till"
    storage = Storage.open(till, space=Space(till, Budget(reserve=4096)))
    try:
        assert not list(till.glob("*.broken-*")), "nothing is ever damaged by a crash"

        def look(connection: apsw.Connection) -> dict[str, Any]:
            assert [row[0] for row in connection.execute("PRAGMA integrity_check")] == ["ok"]
            assert not connection.execute("PRAGMA foreign_key_check").fetchall()
            made = [one.sale for one in stored_sales.newest(connection, 100)]
            numbers = sorted(int(sale.number[-5:]) for sale in made)
            assert numbers == list(range(1, len(made) + 1)), "receipt numbers are dense"
            assert facts.number(connection, facts.LAST_RECEIPT_SEQ) == len(made)
            queue = [one.op_seq for one in outbox.batch(connection, 1, 100)]
            assert queue == list(range(1, len(queue) + 1)), "operation numbers are dense"
            assert facts.number(connection, facts.LAST_OP_SEQ) == len(queue)
            cash = sum(tender.amount.amount for sale in made for tender in sale.tenders)
            assert cash == PRICE * len(made)
            deltas = connection.execute("SELECT coalesce(sum(delta), 0) FROM pending_deltas").get
            assert deltas == -1000 * len(queue)
            unsent = outbox.unsent(connection)
            waiting = connection.execute("SELECT op_seq FROM operations WHERE acknowledged_at IS NULL ORDER BY 1").fetchall()
            assert unsent.amount == PRICE * unsent.sales == PRICE * len(waiting)
            assert outbox.waiting(connection) == len(waiting)
            return {"sales": made, "waiting": [number for (number,) in waiting], "epoch": storage.store_epoch}

        found: dict[str, Any] = storage.store.write_and_wait(look)

        def look_at_replica(connection: apsw.Connection) -> None:
            assert [row[0] for row in connection.execute("PRAGMA integrity_check")] == ["ok"]
            place = lanes.position(connection, OUTLET)
            assert place is not None
            level = levels.of_products(connection, OUTLET, ["prd_1"])["prd_1"]
            assert level.on_hand == str(place.seq), "rows and position move together"
            found["seq"] = place.seq

        storage.replica.write_and_wait(look_at_replica)
    finally:
        storage.close()
    printed = b"".join(file.read_bytes() for file in (folder / "paper").iterdir())
    numbers = {sale.number.encode() for sale in found["sales"]}
    assert set(re.findall(rb"KMG-\d{4}-\d{6}", printed)) <= numbers, "what is on paper is in the store"
    return found


@pytest.mark.parametrize("action", ["sell", "acknowledge", "apply", "begin"])
@pytest.mark.timeout(240)
def test_killed_at_any_storage_call_nothing_is_lost_doubled_or_half_done(
    strace: str, tills: Tills, action: str, tmp_path: Path, identity: outlets.Identity
) -> None:
    origin = tmp_path / "origin"
    storage = prepared(origin, identity)
    epoch = storage.store_epoch
    storage.close()
    lab = Lab(strace, tills, action, origin, tmp_path)
    points = lab.points()
    whole = check(tmp_path / "whole")
    assert len(points) >= 8, "the action was not traced"
    seen: list[dict[str, Any]] = []
    kills = 0

    def kill(point: tuple[str, int]) -> tuple[dict[str, Any], bool]:
        call, number = point
        own = Lab(strace, tills, action, origin, tmp_path)
        folder = own.run(f"{call}-{number}", "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}")
        found = check(folder)
        shutil.rmtree(folder)
        return found, own.ended == "killed by SIGKILL"

    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        for found, killed in pool.map(kill, points):
            seen.append(found)
            kills += killed
    assert kills >= len(points) * 0.9, "most points must really have been killed"
    match action:
        case "sell":
            assert len(whole["sales"]) == 3
            assert {len(found["sales"]) for found in seen} == {2, 3}, "a kill before and after the commit"
        case "acknowledge":
            assert whole["waiting"] == []
            assert {tuple(found["waiting"]) for found in seen} == {(1, 2), (2,), ()}
        case "apply":
            assert whole["seq"] == 3
            assert {found["seq"] for found in seen} == {1, 2, 3}
        case "begin":
            assert whole["epoch"] == epoch + 1
            assert {found["epoch"] for found in seen} == {epoch, epoch + 1}
    assert all(len(found["sales"]) >= 2 for found in seen), "what was sold before stays sold"
