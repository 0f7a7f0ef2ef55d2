"""A real filesystem that is really full, in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from edge.storage.database import Database, StorageFull
from edge.storage.space import Budget, Space

ROOT = Path(__file__).parents[3]
TILL, MENDED = (Path(__file__).with_name(name) for name in ("full_disk.py", "cramped_repair.py"))


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """The beginning of a command that runs the rest of it with 8 MiB at `tmp_path/disk/till`."""
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None:
        pytest.skip("a small filesystem of its own needs root and unshare")
    (tmp_path / "disk" / "till").mkdir(parents=True)
    mount = f'mount -t tmpfs -o size=8m,mode=700 tmpfs "{tmp_path}/disk/till"'
    command = [unshare, "--mount", "sh", "-ec", f'{mount}; exec "$@"', "sh"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    return command


def test_on_a_full_disk_every_answer_is_true(small_disk: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "protos")))}
    command = [*small_disk, sys.executable, str(TILL), str(tmp_path / "disk" / "till")]
    done = subprocess.run(command, check=False, capture_output=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    answered = found["answered"]
    assert found["had_reserve"]
    assert len(answered) >= 3, "what was begun was finished, with the reserve"
    assert len(found["refusals"]) == 3
    assert all("penuh" in text and "full" in text for text in found["refusals"])
    assert found["stored_when_full"] == len(answered) - 1, "no refused sale was stored, no stored sale was refused"
    assert found["stored_after"] == len(answered)
    assert [int(number[-5:]) for number in answered] == list(range(1, len(answered) + 1))
    assert set(found["printed"]) == set(answered)
    assert found["queue_is_dense"]
    assert found["aside"] == []


def test_a_broken_store_is_mended_whole_or_left_as_it_is_however_little_room_there_is(
    small_disk: list[str], tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "protos")))}
    command = [*small_disk, sys.executable, str(MENDED), str(tmp_path / "disk" / "till")]
    done = subprocess.run(command, check=False, capture_output=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()
    turns: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    refused = [turn for turn in turns if turn["problem"]]
    assert refused, "there was too little room at least once"
    assert len(refused) < len(turns), "and enough in the end"
    for turn in refused:
        assert "free some space" in turn["problem"]
        assert turn["left"] == turn["before"], "nothing was changed"
    assert [turn["sales"] for turn in turns] == [200] * len(turns), "all are there, at once or when there is room"
    assert [turn["waiting"] for turn in turns] == [200] * len(turns)


def test_a_write_that_does_not_fit_is_done_again_once_the_reserve_is_given_up(tmp_path: Path) -> None:
    space = Space(tmp_path, Budget(reserve=1024))
    assert space.keep_reserve()
    relieved = 0

    def relieve() -> bool:
        nonlocal relieved
        relieved += 1
        return space.give_up()

    runs = 0

    def work(connection: apsw.Connection) -> None:
        nonlocal runs
        runs += 1
        connection.execute("INSERT INTO a VALUES (zeroblob(100000))")

    with Database(
        tmp_path / "a.db", synchronous="full", migrations=["CREATE TABLE a (x BLOB) STRICT"], check=False, relieve=relieve
    ) as database:
        database.write_and_wait(lambda connection: connection.pragma("max_page_count", 4))
        with pytest.raises(StorageFull):
            database.write_and_wait(work)
        assert (relieved, runs) == (1, 2)
        with pytest.raises(StorageFull):
            database.write_and_wait(work)
        assert (relieved, runs) == (2, 3), "without a reserve there is no second try"
        assert database.write_and_wait(lambda connection: connection.execute("SELECT count(*) FROM a").get) == 0
