"""The supervisor over real little programs: starting, restarting after kill -9, order of stopping, and dying with it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from scripts.stack import ownership
from scripts.stack.programs import Child, Program, last_words
from scripts.stack.supervisor import StartFailed, Supervisor

ROOT = Path(__file__).resolve().parents[2]

# Says that it is there, and on SIGTERM that it goes.
POLITE = """
import pathlib, signal, sys
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
(folder / name).write_text("up")
try:
    signal.pause()
finally:
    with (folder / "goodbyes").open("a") as file:
        file.write(name + "\\n")
"""
STUBBORN = POLITE.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN").replace(
    "signal.pause()", "\n    while True: signal.pause()"
)


class Shop:
    """A folder, a supervisor and what it said."""

    def __init__(self, folder: Path, **options: float) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.changes = 0
        self.supervisor = Supervisor(self._say, self._changed, **options)

    def program(self, name: str, order: int = 0, source: str = POLITE) -> Program:
        async def is_there() -> bool:
            return (self.folder / name).exists()

        command = (sys.executable, "-c", source, str(self.folder), name)
        return Program(name, command, self.folder / f"{name}.log", is_there, order)

    def pids(self) -> dict[str, int]:
        return dict(self.supervisor.processes())

    def _say(self, line: str) -> None:
        self.said.append(line)

    def _changed(self) -> None:
        self.changes += 1

    async def until(self, fact: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not fact():
                await asyncio.sleep(0.01)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path, start_seconds=20, stop_seconds=1, slow_pause=60)
    yield shop
    await shop.supervisor.stop()


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_programs_are_started_together_and_stopped_in_order(shop: Shop) -> None:
    await shop.supervisor.launch([shop.program("database", 2), shop.program("till", 0), shop.program("cloud", 1)])
    pids = shop.pids()
    assert all(is_running(pid) for pid in pids.values())
    await shop.supervisor.stop()
    assert (shop.folder / "goodbyes").read_text().split() == ["till", "cloud", "database"]
    assert not any(is_running(pid) for pid in pids.values())
    assert shop.supervisor.processes() == []


async def test_a_program_killed_with_9_is_started_again_at_once_and_its_new_process_told(shop: Shop) -> None:
    await shop.supervisor.launch([shop.program("cloud")])
    first = shop.pids()["cloud"]
    os.kill(first, signal.SIGKILL)
    await shop.until(lambda: any("is back" in line for line in shop.said))
    assert shop.pids()["cloud"] != first
    assert is_running(shop.pids()["cloud"])
    assert shop.changes == 1
    assert "SIGKILL" in shop.said[0]


async def test_a_program_that_keeps_dying_is_named_with_its_last_words(shop: Shop) -> None:
    doomed = "import os, sys\nif os.path.exists(sys.argv[1] + '/doomed'): sys.exit('no bread today')\n" + POLITE
    await shop.supervisor.launch([shop.program("cloud", source=doomed)])
    (shop.folder / "doomed").touch()
    os.kill(shop.pids()["cloud"], signal.SIGKILL)
    await shop.until(lambda: any("5 times" in line for line in shop.said))
    await shop.until(lambda: any("no bread today" in line for line in shop.said))
    assert any(str(shop.folder / "cloud.log") in line for line in shop.said)


async def test_a_program_that_cannot_start_fails_the_start_with_its_last_words(shop: Shop) -> None:
    broken = shop.program("gateway", source="import sys; print('the port is taken', file=sys.stderr); sys.exit(3)")
    with pytest.raises(StartFailed, match="gateway cannot start: the port is taken"):
        await shop.supervisor.launch([shop.program("cloud"), broken])
    await shop.supervisor.stop()
    assert shop.supervisor.processes() == []


async def test_a_program_that_never_becomes_healthy_fails_the_start(tmp_path: Path) -> None:
    shop = Shop(tmp_path, start_seconds=0.5, stop_seconds=1)
    with pytest.raises(StartFailed, match="till did not become healthy"):
        await shop.supervisor.launch([shop.program("till", source="import signal; signal.pause()")])
    await shop.supervisor.stop()


async def test_a_program_that_does_not_listen_is_killed(shop: Shop) -> None:
    await shop.supervisor.launch([shop.program("till", source=STUBBORN)])
    pid = shop.pids()["till"]
    await shop.supervisor.stop()
    assert not is_running(pid)


async def test_what_a_program_started_goes_with_it(shop: Shop) -> None:
    parent = "import subprocess, sys; subprocess.Popen(['sleep', '300'])\n" + POLITE
    await shop.supervisor.launch([shop.program("till", source=parent)])
    pid = shop.pids()["till"]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1
    await shop.supervisor.stop()
    assert ownership.wait_for_end(int(children[0]), 10)


async def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    source = f"""
import asyncio, pathlib, sys
from scripts.stack.programs import Child, Program
async def main():
    async def healthy(): return True
    folder = pathlib.Path({str(tmp_path)!r})
    command = (sys.executable, "-c", {POLITE!r}, str(folder), "cloud")
    child = await Child.start(Program("cloud", command, folder / "log", healthy, 0))
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(main())
"""
    supervisor = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, cwd=ROOT)
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())
    supervisor.kill()
    supervisor.wait()
    assert ownership.wait_for_end(pid, 10)


async def test_the_words_of_an_earlier_run_are_not_taken_for_this_ones(shop: Shop) -> None:
    (shop.folder / "cloud.log").write_text("yesterday\n")
    child = await Child.start(shop.program("cloud", source="print('today')"))
    await child.wait()
    assert child.output() == "today\n"
    assert (shop.folder / "cloud.log").read_text() == "yesterday\ntoday\n"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("", "it left no message"),
        ("one\n\ntwo \n\n", "two"),
        ('{"event": "cannot bind", "error": "taken", "level": "error"}\n', "cannot bind: taken"),
        ('{"event": "crashed", "exception": "Traceback\\nValueError: no"}\n', "ValueError: no"),
        ("[1]\n", "[1]"),
        ("Traceback (most recent call last):\n  File x\n    y\nValueError: no\n(Background: a page)\n", "ValueError: no"),
    ],
)
def test_the_last_words_of_a_program_are_those_a_person_can_use(output: str, words: str) -> None:
    assert last_words(output) == words
