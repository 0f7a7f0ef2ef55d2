"""`scripts/up` and `scripts/down` as a person uses them: the real programs, one life after the other on the same data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmarks.platform import free_port_base

ROOT = Path(__file__).resolve().parents[2]


class Stack:
    """One data folder and one range of ports."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.base = free_port_base()

    def up(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "scripts" / "up"), "--detach", "--data", str(self.data), "--port-base", str(self.base), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=100)

    def down(self) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "scripts" / "down"), "--data", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=100)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.data / "up.json").read_text())
        return state

    def pids(self) -> dict[str, int]:
        return {process["name"]: process["pid"] for process in self.state()["processes"]}

    def products(self) -> list[dict[str, Any]]:
        state = self.state()
        request = urllib.request.Request(f"{state['gateway_url']}/api/v1/products?page_size=200")
        request.add_header("Authorization", f"Bearer {state['api_key']}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            products: list[dict[str, Any]] = json.load(answer)["products"]
        return products

    def running(self) -> list[str]:
        """Command lines of everything that still has to do with this data folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if str(self.data) in command or f":{self.base + 1}" in command:
                found.append(command)
        return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that was started once, with a catalogue of our own, and stopped again."""
    folder = tmp_path_factory.mktemp("my shop")
    (folder / "catalog.csv").write_text(
        "barcode,nama,kategori,satuan,harga_beli,harga_jual,stok\n2000000000015,Kopi tubruk,Minuman,gelas,3500,8000,60\n"
    )
    stack = Stack(folder / "var")
    try:
        done = stack.up("--catalog", str(folder / "catalog.csv"))
        assert done.returncode == 0, done.stderr
        # Instead of the demo catalogue, which a first start otherwise brings.
        assert [product["name"] for product in stack.products()] == ["Kopi tubruk"]
        stack.down()
        yield stack
    finally:
        stack.down()


@pytest.fixture
def up(stack: Stack) -> Iterator[Stack]:
    done = stack.up()
    assert done.returncode == 0, done.stderr
    yield stack
    stack.down()


def eventually(fact: Callable[[], bool]) -> bool:
    waiter = threading.Event()
    for _ in range(600):
        if fact():
            return True
        waiter.wait(0.05)
    return False


def test_the_next_start_has_all_the_data_and_the_same_keys(up: Stack) -> None:
    assert [product["name"] for product in up.products()] == ["Kopi tubruk"]
    first = up.state()
    up.down()
    assert up.up().returncode == 0
    second = up.state()
    assert {**first, "processes": []} == {**second, "processes": []}


def test_everything_healthy_is_in_the_state_file_and_nothing_runs_after_down(up: Stack) -> None:
    pids = up.pids()
    assert set(pids) == {"postgres", "host", "sandboxes", "till-1", "till-2", "till-3"}
    state = up.state()
    for till in state["tills"]:
        with urllib.request.urlopen(f"{till['url']}/status", timeout=10) as answer:
            assert json.load(answer)["link"]["state"] == "online"
        assert Path(till["receipts_dir"]).is_dir()
    done = up.down()
    assert (done.returncode, done.stdout) == (0, f"Stopped; the data stays in {up.data}\n")
    assert not (up.data / "up.json").exists()
    assert up.running() == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
    assert up.down().stdout == "Nothing is running.\n"


def test_a_second_start_on_the_same_data_says_where_the_first_one_is(up: Stack) -> None:
    before = up.pids()
    done = up.up()
    assert done.returncode == 1
    assert "already runs" in done.stderr
    assert f"http://127.0.0.1:{up.base}" in done.stderr
    assert up.pids() == before


def test_whatever_is_killed_comes_back_with_its_new_process_in_the_state_file(up: Stack) -> None:
    before = up.pids()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: all(up.pids()[name] != pid for name, pid in before.items()))

    def serves() -> bool:
        try:
            return len(up.products()) == 1
        except OSError:
            return False

    assert eventually(serves)


def test_nothing_outlives_a_killed_supervisor_for_long_and_the_next_start_works(up: Stack) -> None:
    os.kill(int((up.data / "up.lock").read_text()), signal.SIGKILL)
    done = up.up()
    assert done.returncode == 0, done.stderr
    assert [product["name"] for product in up.products()] == ["Kopi tubruk"]


def test_a_taken_port_stops_the_start_before_anything_runs(stack: Stack) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of earlier tests linger
        taken.bind(("127.0.0.1", stack.base + 12))
        taken.listen()
        done = stack.up()
    assert done.returncode == 1
    assert f"Port {stack.base + 12} is taken by process {os.getpid()}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert stack.running() == []


def test_a_broken_database_stops_the_start_in_one_sentence(stack: Stack, tmp_path: Path) -> None:
    broken = Stack(tmp_path / "broken")
    subprocess.run(["cp", "-a", stack.data, broken.data], check=True)
    (broken.data / "postgres" / "global" / "pg_control").unlink()
    done = broken.up()
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert done.stderr.count("\n") == 1
    assert broken.running() == []
    shutil.rmtree(broken.data)


def test_a_catalogue_that_cannot_be_read_stops_everything_again(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    done = stack.up("--catalog", str(tmp_path / "empty.csv"))
    assert done.returncode == 1
    assert "empty.csv" in done.stderr
    assert stack.running() == []
