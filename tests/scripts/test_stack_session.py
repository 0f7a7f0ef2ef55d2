"""What surrounds the supervisor: one holder per folder, leftovers, ports, watching files, and how things read on the console."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.stack import arguments, banner, lines, ownership, plan, ports, session, watching
from scripts.stack.arguments import Layout
from scripts.stack.session import Session

ROOT = Path(__file__).resolve().parents[2]

DEMO = {
    "tenant_id": "ten_1",
    "api_key": "gipos_test_x",
    "outlets": [{"id": "out_1", "name": "Kemang"}, {"id": "out_2", "name": "Depok"}],
    "tills": [{"id": f"til_{n}", "outlet_id": "out_1" if n < 3 else "out_2", "token": "t", "number": n} for n in (1, 2, 3)],
    "webhook_secret": "whsec_x",
    "webhook_id": "whk_1",
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data", 20_000)


def test_a_folder_has_one_supervisor_at_a_time(layout: Layout) -> None:
    assert ownership.supervisor(layout) is None
    with ownership.held(layout):
        assert ownership.supervisor(layout) == os.getpid()
        with pytest.raises(ownership.AlreadyRuns) as refused, ownership.held(layout):
            pass
        assert refused.value.pid == os.getpid()
    assert ownership.supervisor(layout) is None
    with ownership.held(layout):
        pass


def test_programs_left_over_by_a_killed_supervisor_are_ended_and_its_state_file_goes(layout: Layout) -> None:
    layout.data.mkdir()
    layout.up.write_text("{}")
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    left = subprocess.Popen([sys.executable, "-c", stubborn], env={**os.environ, "GIPOS_STACK": str(layout.data)})
    other = subprocess.Popen([sys.executable, "-c", stubborn], env={**os.environ, "GIPOS_STACK": f"{layout.data}-other"})
    try:
        assert ownership.clear_leftovers(layout, seconds=0.2) == 1
        assert left.wait(10) == -9
        assert other.poll() is None
        assert not layout.up.exists()
    finally:
        other.kill()
        other.wait()


def test_down_says_when_nothing_runs(layout: Layout) -> None:
    for _ in range(2):
        done = subprocess.run(
            [ROOT / "scripts" / "down", "--data", layout.data], capture_output=True, text=True, check=False, cwd="/"
        )
        assert (done.returncode, done.stdout) == (0, "Nothing is running.\n")


def test_a_taken_port_is_named_with_its_holder_and_a_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        complaint = ports.complaint([port], 8080)
    assert complaint is not None
    assert f"Port {port} is taken by process {os.getpid()} " in complaint
    assert "--port-base 9080" in complaint
    assert ports.complaint([port], 8080) is None


def test_every_port_of_the_stack_is_checked(layout: Layout) -> None:
    assert ports.needed(layout, 3) == [*range(20000, 20005), *range(20011, 20014), *range(20021, 20024), *range(20031, 20034)]


@pytest.mark.parametrize("text", ["0", "65497", "-1", "abc", "", "8080.5", "٨٠٨٠"])
def test_a_port_base_that_cannot_work_is_refused_before_anything_starts(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        arguments.parse([f"--port-base={text}"])
    assert refused.value.code == 1
    assert "from 1 to 65496" in capsys.readouterr().err


def test_a_catalogue_that_is_not_there_is_refused_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments.parse(["--catalog", "nowhere.csv"])
    assert "nowhere.csv" in capsys.readouterr().err


async def test_watching_tells_of_growing_and_new_files_and_of_no_others(tmp_path: Path) -> None:
    seen: asyncio.Queue[Path] = asyncio.Queue()
    folder, other = tmp_path / "new" / "receipts", tmp_path / "logs"

    async def watch() -> None:
        async for path in watching.changes([folder, other]):
            seen.put_nowait(path)

    watcher = asyncio.create_task(watch())
    async with asyncio.timeout(10):
        while not other.exists():
            await asyncio.sleep(0.01)
        (tmp_path / "elsewhere").write_text("x")
        (tmp_path / "made.png").write_text("x")
        (tmp_path / "made.png").rename(folder / "1.png")
        assert await seen.get() == folder / "1.png"
        with (other / "log").open("a") as log:
            log.write("x")
        assert await seen.get() == other / "log"
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)


NAMES = lines.Names({"out_1": "Kemang"}, {"til_1": "till 1"})
SALE: dict[str, Any] = {
    "number": "KMG-2611-000012",
    "till_id": "til_1",
    "outlet_id": "out_1",
    "status": "completed",
    "lines": [{"product_id": "prd_1", "name": "Aqua 600 ml", "quantity": "2"}],
    "tenders": [{"method": "cash", "amount": {"amount": 50000, "currency": "IDR"}}],
    "total": {"amount": 36000, "currency": "IDR"},
    "change": {"amount": 14000, "currency": "IDR"},
    "refunded_total": {"amount": 18000, "currency": "IDR"},
}
LEVEL = {"product_id": "prd_1", "outlet_id": "out_1", "on_hand": "-1.5"}


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("sale.completed", SALE, "sale     till 1 · KMG-2611-000012 · 1 line · Rp36.000 · cash Rp50.000, change Rp14.000"),
        ("sale.created", SALE, None),
        ("sale.created", {**SALE, "status": "pending", "tenders": [], "change": {}}, "not yet paid"),
        ("sale.refunded", SALE, "refund   till 1 · KMG-2611-000012 · Rp18.000 given back"),
        ("sale.completed", {"total": {"amount": 1, "currency": "IDR"}}, "sale     REST · 0 lines · Rp1"),
        ("inventory.updated", LEVEL, "stock    Aqua 600 ml: -1.5 left at Kemang"),
        ("inventory.updated", {**LEVEL, "product_id": "prd_9"}, "stock    prd_9: -1.5"),
        ("product.created", {"id": "prd_2", "name": "Teh"}, "product  Teh created"),
        ("product.deleted", {"id": "prd_2", "name": "Teh"}, "product  Teh archived"),
        ("customer.updated", {"id": "cus_1"}, "customer cus_1 updated"),
        ("something.new", {}, "event    something.new"),
    ],
)
def test_an_event_reads_as_one_line(kind: str, data: dict[str, Any], text: str | None) -> None:
    NAMES.learn({"type": "sale.completed", "data": SALE})
    line = lines.event({"type": kind, "data": data}, NAMES, "12:00:00")
    assert (line is None) if text is None else (line is not None and text in line.plain() and "\n" not in line.plain())


def test_a_delivery_whose_signature_is_wrong_stands_out() -> None:
    good = lines.delivery({"type": "sale.completed", "valid": True}, "12:00:00")
    bad = lines.delivery({"type": "sale.completed", "valid": False}, "12:00:00")
    assert (good.is_bad, bad.is_bad) == (False, True)
    assert "\033[31m" in bad.coloured()
    assert "\033" not in bad.plain()


def test_a_flood_of_lines_is_counted_and_a_trickle_is_shown() -> None:
    tide = lines.Tide()
    assert sum(tide.admit("product", 0.001 * number) for number in range(1000)) == 13
    assert tide.admit("sale", 1.0)
    assert tide.held() == [("product", 987)]
    assert tide.held() == []
    assert all(tide.admit("product", 100.0 + number) for number in range(50))


@pytest.fixture
def running(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.delenv("GIPOS_DATABASE_URL", raising=False)
    stack = Session(layout, None, list[str]().append)
    layout.data.mkdir()
    layout.demo.write_text(json.dumps(DEMO))
    stack.demo = plan.read_demo(layout.demo)
    return stack


def test_the_state_file_has_what_programs_need_and_is_for_its_owner_only(running: Session, layout: Layout) -> None:
    session._write(layout.up, json.dumps(running.state()))
    state = json.loads(layout.up.read_text())
    assert set(state) == {
        *("gateway_url", "grpc_address", "link_address", "enrol_address", "api_key", "tenant_id", "outlets", "tills"),
        *("webhook_receiver_url", "processes"),
    }
    assert state["gateway_url"] == "http://127.0.0.1:20000"
    assert state["grpc_address"] == "127.0.0.1:20001"
    assert [set(till) for till in state["tills"]] == [{"id", "outlet_id", "url", "receipts_dir"}] * 3
    assert all(set(outlet) == {"id", "name"} for outlet in state["outlets"])
    assert stat.S_IMODE(layout.up.stat().st_mode) == 0o600
    assert [path.name for path in layout.data.iterdir() if path.name.startswith(".up")] == []


def test_the_words_at_the_end_of_a_start_name_everything_to_try(running: Session, layout: Layout) -> None:
    text = banner.healthy(layout, running.state())
    more = ("/dashboard", "127.0.0.1:20004")
    for word in (
        *more,
        "/docs",
        "/api/v1",
        "127.0.0.1:20001",
        "gipos_test_x",
        "Kemang",
        "Depok",
        "  1. ",
        "  2. ",
        "  3. ",
        "Ctrl-C",
    ):
        assert word in text


@pytest.mark.parametrize("has_curl", [True, False])
def test_the_commands_to_try_survive_a_shell(
    running: Session, layout: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, has_curl: bool
) -> None:
    tool = tmp_path / ("curl" if has_curl else "python3")
    tool.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    commands = [line for line in banner.healthy(layout, running.state()).splitlines() if line.strip().startswith(tool.name)]
    assert len(commands) == 3
    done = subprocess.run(["/bin/sh", "-c", commands[1]], capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    if has_curl:
        assert words[-1] == '{"name": "Kopi Susu Gula Aren", "sku": "KSGA-1", "price": {"amount": 18000, "currency": "IDR"}}'
        assert "Authorization: Bearer gipos_test_x" in words
    else:
        assert words[0] == "-c"
        compile(words[1], "command", "exec")


@pytest.mark.parametrize("change", [{"api_key": ""}, {"webhook_secret": ""}, {"tills": [{"token": ""}]}])
def test_an_incomplete_demo_file_is_not_used(layout: Layout, change: dict[str, Any]) -> None:
    layout.data.mkdir()
    layout.demo.write_text(json.dumps({**DEMO, **change}))
    with pytest.raises(ValueError, match="incomplete"):
        plan.read_demo(layout.demo)


def test_tokens_and_secrets_are_on_no_command_line(running: Session, layout: Layout) -> None:
    assert running.demo is not None
    made = plan.Plan(layout, list[str]().append)
    programs = [*made.services({**running.demo, "webhook_secret": "whsec_hidden"}), *made.tills(running.demo)]
    assert [program.name for program in programs] == ["host", "sandboxes", "till-1", "till-2", "till-3"]
    words = " ".join(word for program in programs for word in program.command)
    assert "whsec" not in words
    assert "gipos_test" not in words
    assert all("GIPOS_EDGE_TOKEN" not in program.environment for program in programs)


def test_cloud_and_gateway_can_be_programs_apart(running: Session, layout: Layout) -> None:
    assert running.demo is not None
    apart = plan.Plan(replace(layout, apart=True), list[str]().append).services(running.demo)
    assert [program.name for program in apart] == ["cloud", "gateway", "sandboxes"]
