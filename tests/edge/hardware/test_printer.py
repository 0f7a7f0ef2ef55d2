"""Every job once: over real sockets, against a printer that runs out of paper, stalls, breaks off and comes back."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from PIL import Image

from edge.hardware.printers import receipt
from edge.hardware.printers.dialogue import Timing
from edge.hardware.printers.escpos import DRAWER_PULSE, EscPos
from edge.hardware.printers.jobs import DRAWER, SETTLED, JobState, PrintJob
from edge.hardware.printers.printer import Abilities, Printer
from edge.hardware.printers.status import Problem
from gipos.v1.accounts_pb2 import Outlet, Till
from gipos.v1.sales_pb2 import Sale
from sandboxes.printer import VirtualPrinter

PrinterFactory = Callable[..., Printer]
Receipts = Callable[[Path, int], Awaitable[list[Path]]]
Jobs = Any
Seen = Any


def text_job(*lines: str) -> bytes:
    job = EscPos().init()
    for line in lines:
        job.line(line)
    return bytes(job.feed(3))


def address_of(printer: VirtualPrinter) -> str:
    return f"tcp://127.0.0.1:{printer.port}"


def facts_of(stem: Path) -> Any:
    return json.loads(stem.with_suffix(".json").read_bytes())


def text_of(stem: Path) -> str:
    return stem.with_suffix(".txt").read_text("utf-8")


@pytest.mark.parametrize("paper", [58, 80])
async def test_a_sale_becomes_a_receipt_one_can_read(
    tmp_path: Path,
    a_printer: PrinterFactory,
    jobs: Jobs,
    receipts: Receipts,
    a_sale: Callable[..., Sale],
    outlet: Outlet,
    till: Till,
    paper: Any,
) -> None:
    sale = a_sale()
    data = receipt.compose(sale, outlet, till, paper=paper, opens_drawer=True)
    async with VirtualPrinter(0, tmp_path / "receipts", paper_mm=paper) as virtual, a_printer(address_of(virtual)) as printer:
        queued = await printer.submit("sal_1:1", data)
        assert queued.state is JobState.QUEUED
        done = await printer.wait("sal_1:1", 20)
        assert (done.state, done.confirmed, done.bytes_sent) == (JobState.PRINTED, True, len(data))
        (stem,) = await receipts(tmp_path / "receipts", 1)
        assert jobs.states("sal_1:1") == [
            JobState.QUEUED,
            JobState.SENDING,
            JobState.AWAITING_CONFIRM,
            JobState.PRINTED,
        ]
    facts = facts_of(stem)
    assert facts["drawer_pulses"] == 1
    assert facts["events"][0]["kind"] == "drawer"
    assert facts["qr_codes"] == [sale.id]
    assert facts["cuts"] == (paper == 80)
    assert facts["warnings"] == []
    assert stem.with_suffix(".bin").read_bytes().endswith(data)
    assert "TOTAL" in text_of(stem)
    image = Image.open(io.BytesIO(stem.with_suffix(".png").read_bytes()))
    assert image.width == paper * 8
    assert [code.text for code in zxingcpp.read_barcodes(image)] == [sale.id]


async def test_a_key_seen_before_prints_nothing_twice(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, receipts: Receipts
) -> None:
    async with a_printer(address_of(paper_printer)) as printer:
        await asyncio.gather(*(printer.submit("one", text_job("first")) for _ in range(5)))
        await printer.wait("one", 20)
        again = await printer.submit("one", text_job("second"))
        assert again.state is JobState.PRINTED
        await printer.submit("two", text_job("last"))
        await printer.wait("two", 20)
    async with a_printer(address_of(paper_printer)) as restarted:
        assert (await restarted.submit("one", text_job("third"))).state is JobState.PRINTED
    stems = await receipts(paper_printer.receipts.folder, 2)
    assert [text_of(stem) for stem in stems] == ["first\n", "last\n"]


async def test_nobody_is_told_that_a_job_was_printed_before_that_is_stored(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, jobs: Jobs
) -> None:
    jobs.slow_on = JobState.PRINTED
    async with a_printer(address_of(paper_printer)) as printer:
        await printer.submit("one", text_job("first"))
        await jobs.saving.wait()
        asked = asyncio.create_task(printer.wait("one", 20))
        done, _ = await asyncio.wait({asked}, timeout=0.05)
        assert not done
        assert jobs.states("one")[-1] is JobState.AWAITING_CONFIRM
        jobs.go_on.set()
        assert (await asked).state is JobState.PRINTED
        assert jobs.states("one")[-1] is JobState.PRINTED


async def test_jobs_come_out_in_order(paper_printer: VirtualPrinter, a_printer: PrinterFactory, receipts: Receipts) -> None:
    names = [f"job {number}" for number in range(8)]
    async with a_printer(address_of(paper_printer)) as printer:
        for name in names:
            await printer.submit(name, text_job(name))
        assert [job.key for job in printer.waiting] == names
        await printer.wait(names[-1], 20)
        assert printer.waiting == []
    assert [text_of(stem) for stem in await receipts(paper_printer.receipts.folder, 8)] == [f"{name}\n" for name in names]


@pytest.mark.parametrize(
    ("spoil", "mend", "problem"),
    [
        ("paper_out", "load_paper", Problem.PAPER),
        ("open_cover", "close_cover", Problem.COVER),
        ("power_off", "power_on", Problem.OFFLINE),
    ],
)
async def test_a_printer_that_cannot_print_gets_no_byte_and_goes_on_by_itself(
    paper_printer: VirtualPrinter,
    a_printer: PrinterFactory,
    receipts: Receipts,
    jobs: Jobs,
    seen: Seen,
    spoil: str,
    mend: str,
    problem: Problem,
) -> None:
    await getattr(paper_printer, spoil)()
    async with a_printer(address_of(paper_printer)) as printer:
        await printer.submit("a", text_job("a"))
        await printer.submit("b", text_job("b"))
        blocked = await seen.until(lambda job: job.state is JobState.BLOCKED)
        assert (blocked.key, blocked.problem, blocked.bytes_sent) == ("a", problem, 0)
        assert (await printer.wait("a", 0.3)).state is JobState.BLOCKED
        await getattr(paper_printer, mend)()
        assert (await printer.wait("b", 20)).state is JobState.PRINTED
        assert jobs.states("a").count(JobState.BLOCKED) == 1
        assert jobs.states("a").count(JobState.SENDING) == 1
    assert [text_of(stem) for stem in await receipts(paper_printer.receipts.folder, 2)] == ["a\n", "b\n"]


async def test_a_poke_looks_again_at_once(paper_printer: VirtualPrinter, a_printer: PrinterFactory, seen: Seen) -> None:
    await paper_printer.paper_out()
    async with a_printer(address_of(paper_printer), timing=Timing(status=2, retry=3600)) as printer:
        await printer.submit("a", text_job("a"))
        await seen.until(lambda job: job.state is JobState.BLOCKED)
        await paper_printer.load_paper()
        printer.poke()
        assert (await printer.wait("a", 20)).state is JobState.PRINTED


async def test_paper_that_ends_in_the_middle_is_waited_for_and_nothing_is_repeated(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, receipts: Receipts, seen: Seen
) -> None:
    await paper_printer.run_out_after(2)
    timing = Timing(status=2, confirm=0.3, bytes_per_second=100_000, retry=0.1)
    async with a_printer(address_of(paper_printer), timing=timing) as printer:
        await printer.submit("a", text_job("one", "two", "three", "four"))
        waiting = await seen.until(lambda job: job.problem is Problem.PAPER)
        assert waiting.state is JobState.AWAITING_CONFIRM
        await paper_printer.load_paper()
        assert (await printer.wait("a", 20)).state is JobState.PRINTED
    (stem,) = await receipts(paper_printer.receipts.folder, 1)
    assert text_of(stem) == "one\ntwo\nthree\nfour\n"


async def test_a_connection_that_breaks_in_the_middle_is_unknown_and_never_repeated(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, receipts: Receipts, jobs: Jobs
) -> None:
    # The flush of a first connection and three questions come before the job.
    questions = 9
    async with a_printer(address_of(paper_printer)) as printer:
        await printer.submit("before", text_job("before"))
        await printer.wait("before", 20)
        await paper_printer.drop_after(questions + 40)
        await printer.submit("broken", text_job(*(f"line {number}" for number in range(500))))
        broken = await printer.wait("broken", 20)
        assert (broken.state, broken.problem) == (JobState.UNKNOWN, Problem.DISCONNECTED)
        assert broken.bytes_sent > 0
        await printer.submit("after", text_job("after"))
        assert (await printer.wait("after", 20)).state is JobState.PRINTED
        assert jobs.states("broken").count(JobState.SENDING) == 1
        assert (await printer.resolve("broken", printed=False)).state is JobState.FAILED
    before, torn, after = await receipts(paper_printer.receipts.folder, 3)
    assert (text_of(before), text_of(after)) == ("before\n", "after\n")
    assert text_of(torn).startswith("line 0\n")
    assert "line 499" not in text_of(torn)


async def test_a_picture_that_broke_off_does_not_swallow_the_next_receipt(
    paper_printer: VirtualPrinter,
    a_printer: PrinterFactory,
    receipts: Receipts,
    a_sale: Callable[..., Sale],
    outlet: Outlet,
    till: Till,
) -> None:
    logo = io.BytesIO()
    Image.effect_noise((384, 160), 100).save(logo, "PNG")
    data = receipt.compose(a_sale(), outlet, till, logo=logo.getvalue())
    async with a_printer(address_of(paper_printer)) as printer:
        await printer.submit("before", text_job("before"))
        await printer.wait("before", 20)
        await paper_printer.drop_after(9 + 1000)
        await printer.submit("broken", data)
        assert (await printer.wait("broken", 20)).state is JobState.UNKNOWN
        await printer.submit("after", text_job("whole"))
        assert (await printer.wait("after", 20)).state is JobState.PRINTED
    stems = await receipts(paper_printer.receipts.folder, 2)
    assert text_of(stems[-1]) == "whole\n"


async def test_what_was_being_sent_when_the_till_died_is_unknown_and_not_repeated(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, receipts: Receipts, jobs: Jobs, seen: Seen
) -> None:
    for key, state in (
        ("sending", JobState.SENDING),
        ("confirming", JobState.AWAITING_CONFIRM),
        ("blocked", JobState.BLOCKED),
        ("queued", JobState.QUEUED),
        ("printed", JobState.PRINTED),
    ):
        jobs.rows[key] = PrintJob(key, text_job(key), state=state)
    async with a_printer(address_of(paper_printer)) as printer:
        for key in ("sending", "confirming"):
            job = await printer.wait(key, 0)
            assert (job.state, job.problem) == (JobState.UNKNOWN, Problem.INTERRUPTED)
            assert any(told == job for told in seen.jobs)
        await printer.wait("queued", 20)
        assert (await printer.resolve("sending", printed=True)).state is JobState.PRINTED
    stems = await receipts(paper_printer.receipts.folder, 2)
    assert [text_of(stem) for stem in stems] == ["blocked\n", "queued\n"]


async def test_a_job_saved_with_its_sale_is_taken_up_by_its_key(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, receipts: Receipts, jobs: Jobs
) -> None:
    async with a_printer(address_of(paper_printer)) as printer:
        jobs.rows["sale"] = PrintJob("sale", text_job("saved with the sale"))
        await printer.submit("sale", b"")
        assert (await printer.wait("sale", 20)).state is JobState.PRINTED
    (stem,) = await receipts(paper_printer.receipts.folder, 1)
    assert text_of(stem) == "saved with the sale\n"


async def test_a_till_that_stops_in_the_middle_leaves_the_truth_for_the_next_start(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, jobs: Jobs, seen: Seen
) -> None:
    await paper_printer.run_out_after(1)
    async with a_printer(address_of(paper_printer), timing=Timing(status=2, confirm=0.2, retry=0.1, stop=0.1)) as printer:
        await printer.submit("a", text_job("one", "two"))
        await printer.submit("b", text_job("b"))
        await seen.until(lambda job: job.problem is Problem.PAPER)
    assert jobs.rows["a"].state is JobState.AWAITING_CONFIRM
    assert jobs.rows["b"].state is JobState.QUEUED
    await paper_printer.load_paper()
    async with a_printer(address_of(paper_printer)) as restarted:
        assert (await restarted.wait("a", 20)).state is JobState.UNKNOWN
        assert (await restarted.wait("b", 20)).state is JobState.PRINTED


async def test_a_known_printer_that_stops_answering_is_offline_and_gets_no_job(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, receipts: Receipts, seen: Seen
) -> None:
    timing = Timing(status=0.2, confirm=2, retry=0.1)
    async with a_printer(address_of(paper_printer), timing=timing, abilities=Abilities(status=True, fence=True)) as printer:
        await paper_printer.stall()
        await printer.submit("a", text_job("a"))
        blocked = await seen.until(lambda job: job.state is JobState.BLOCKED)
        assert (blocked.problem, blocked.bytes_sent) == (Problem.OFFLINE, 0)
        await paper_printer.resume()
        assert (await printer.wait("a", 20)).state is JobState.PRINTED
    (stem,) = await receipts(paper_printer.receipts.folder, 1)
    assert text_of(stem) == "a\n"


class SilentPrinter:
    """Takes everything and never says a word, as cheap ones do."""

    def __init__(self) -> None:
        self.jobs: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.jobs.append(await reader.read())
        writer.close()


async def test_a_printer_that_never_answers_is_learned_once_a_person_has_looked(a_printer: PrinterFactory) -> None:
    silent = SilentPrinter()
    async with await asyncio.start_server(silent.serve, "127.0.0.1", 0) as server:
        address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        timing = Timing(status=0.1, confirm=0.1, bytes_per_second=100_000, retry=0.05)
        async with a_printer(address, timing=timing) as printer:
            await printer.submit("a", text_job("a"))
            first = await printer.wait("a", 20)
            assert (first.state, first.problem) == (JobState.UNKNOWN, Problem.UNCONFIRMED)
            await printer.resolve("a", printed=True)
            assert printer.abilities == Abilities(status=False, fence=False)
            await printer.submit("b", text_job("b"))
            second = await printer.wait("b", 20)
            assert (second.state, second.confirmed) == (JobState.PRINTED, False)
    assert sum(b"a\n" in job for job in silent.jobs) == 1
    assert sum(b"b\n" in job for job in silent.jobs) == 1


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_drawer_does_not_open_by_surprise(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, receipts: Receipts, seen: Seen
) -> None:
    clock = Clock()
    await paper_printer.paper_out()
    async with a_printer(address_of(paper_printer), clock=clock) as printer:
        await printer.submit("receipt", DRAWER_PULSE + text_job("cash sale"))
        await printer.submit("drawer", DRAWER_PULSE, DRAWER)
        await seen.until(lambda job: job.state is JobState.BLOCKED)
        clock.now += 5.1
        await paper_printer.load_paper()
        assert (await printer.wait("receipt", 20)).state is JobState.PRINTED
        late = await printer.wait("drawer", 20)
        assert (late.state, late.problem) == (JobState.FAILED, Problem.LATE)
        await printer.submit("drawer now", DRAWER_PULSE, DRAWER)
        assert (await printer.wait("drawer now", 20)).state is JobState.PRINTED
    (stem,) = await receipts(paper_printer.receipts.folder, 1)
    assert facts_of(stem)["drawer_pulses"] == 0
    assert paper_printer.drawer_pulses == 1


async def test_a_blocked_job_can_be_given_up_and_the_next_one_prints(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, receipts: Receipts, seen: Seen
) -> None:
    await paper_printer.open_cover()
    async with a_printer(address_of(paper_printer)) as printer:
        await printer.submit("a", text_job("a"))
        await printer.submit("b", text_job("b"))
        await seen.until(lambda job: job.state is JobState.BLOCKED)
        given_up = await printer.cancel("a")
        assert (given_up.state, given_up.problem) == (JobState.FAILED, Problem.CANCELLED)
        await paper_printer.close_cover()
        assert (await printer.wait("b", 20)).state is JobState.PRINTED
        assert (await printer.cancel("b")).state is JobState.PRINTED
        with pytest.raises(LookupError):
            await printer.cancel("c")
    assert [text_of(stem) for stem in await receipts(paper_printer.receipts.folder, 1)] == ["b\n"]


async def test_a_job_that_cannot_be_written_down_is_not_sent(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, receipts: Receipts, jobs: Jobs, seen: Seen
) -> None:
    jobs.fails_on = JobState.SENDING
    async with a_printer(address_of(paper_printer)) as printer:
        await printer.submit("a", text_job("a"))
        blocked = await seen.until(lambda job: job.state is JobState.BLOCKED)
        assert blocked.bytes_sent == 0
        jobs.fails_on = None
        assert (await printer.wait("a", 20)).state is JobState.PRINTED
    assert [text_of(stem) for stem in await receipts(paper_printer.receipts.folder, 1)] == ["a\n"]


async def test_an_outcome_that_cannot_be_written_down_is_not_printed_again(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, receipts: Receipts, jobs: Jobs
) -> None:
    jobs.fails_on = JobState.PRINTED
    async with a_printer(address_of(paper_printer)) as printer:
        await printer.submit("a", text_job("a"))
        await printer.wait("a", 20)
        await printer.submit("b", text_job("b"))
        await printer.wait("b", 20)
    assert jobs.rows["a"].state is JobState.AWAITING_CONFIRM
    jobs.fails_on = None
    async with a_printer(address_of(paper_printer)) as restarted:
        assert (await restarted.wait("a", 20)).state is JobState.UNKNOWN
    assert [text_of(stem) for stem in await receipts(paper_printer.receipts.folder, 2)] == ["a\n", "b\n"]


async def test_an_observer_that_fails_or_leaves_does_not_stop_the_printer(
    paper_printer: VirtualPrinter, a_printer: PrinterFactory, seen: Seen
) -> None:
    def fail(job: PrintJob) -> None:
        raise ValueError(job.key)

    heard: list[PrintJob] = []
    async with a_printer(address_of(paper_printer)) as printer:
        printer.observe(fail)
        leave = printer.observe(heard.append)
        leave()
        await printer.submit("a", text_job("a"))
        assert (await printer.wait("a", 20)).state is JobState.PRINTED
    assert heard == []
    assert [job.state for job in seen.jobs][-1] is JobState.PRINTED


async def test_receipts_go_to_files_and_wait_while_the_folder_cannot_be_used(
    tmp_path: Path, a_printer: PrinterFactory, seen: Seen
) -> None:
    in_the_way = tmp_path / "receipts"
    in_the_way.write_bytes(b"")
    async with a_printer(f"file://{in_the_way}") as printer:
        await printer.submit("a", text_job("a"))
        assert (await seen.until(lambda job: job.state is JobState.BLOCKED)).problem is Problem.OFFLINE
        in_the_way.unlink()
        done = await printer.wait("a", 20)
    assert (done.state, done.confirmed) == (JobState.PRINTED, True)
    (only,) = in_the_way.iterdir()
    assert only.read_bytes() == text_job("a")


async def test_a_printer_that_takes_nothing_more_leaves_the_job_unknown(a_printer: PrinterFactory, jobs: Jobs) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await reader.readexactly(3)
            writer.write(b"\x12")
        hold.append(writer)

    hold: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024) as server:
        address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        abilities = Abilities(status=True, fence=True)
        async with a_printer(address, timing=Timing(stall=0.3, retry=0.1), abilities=abilities) as printer:
            await printer.submit("a", b"x\n" * 10_000_000)
            job = await printer.wait("a", 20)
        for writer in hold:
            writer.transport.abort()
    assert (job.state, job.problem) == (JobState.UNKNOWN, Problem.DISCONNECTED)
    assert 0 < job.bytes_sent < 20_000_000


def test_settled_states_are_those_in_which_nothing_more_happens() -> None:
    assert {JobState.PRINTED, JobState.UNKNOWN, JobState.FAILED} == SETTLED
    assert replace(PrintJob("a", b""), state=JobState.BLOCKED).state not in SETTLED
