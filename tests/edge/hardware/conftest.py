"""Sales with consistent amounts, a virtual printer, a store in memory and a record of what a printer's jobs went through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import pytest

from edge.hardware import transports
from edge.hardware.printers.dialogue import Timing
from edge.hardware.printers.jobs import SETTLED, JobState, PrintJob
from edge.hardware.printers.printer import Abilities, Printer
from edge.hardware.transport import Connection
from gipos.v1.accounts_pb2 import Outlet, Till
from gipos.v1.catalog_pb2 import TaxClass
from gipos.v1.sales_pb2 import Sale
from kernel import pricing
from kernel.money import rupiah
from sandboxes.printer import VirtualPrinter

SALE_ID = "sal_01kanm5z2c8w4x9q7h3t6v0b1d"
COFFEE_AND_TOAST = (("Kopi Susu", "2", 18_000, 0), ("Roti Bakar", "1", 18_000, 0))


def make_sale(
    lines: tuple[tuple[str, str, int, int], ...] = COFFEE_AND_TOAST,
    *,
    tenders: tuple[tuple[str, int], ...] = (("cash", 60_000),),
    discounts: tuple[tuple[str, int], ...] = (),
    tax_class: TaxClass.ValueType = TaxClass.TAX_CLASS_PPN,
    prices_include_tax: bool = True,
    rounding_unit: int = 1,
    cashier: str = "Sari",
) -> Sale:
    """A sale whose parts add up, computed by the kernel. Lines are name, quantity, unit price and own discount."""
    sale = Sale(
        id=SALE_ID,
        number="KMG-2611-200123",
        outlet_id="out_1",
        till_id="dev_2",
        cashier=cashier,
        channel="pos",
        business_date="2026-11-23",
        prices_include_tax=prices_include_tax,
    )
    sale.sale_time.FromDatetime(datetime(2026, 11, 23, 7, 5, 9, tzinfo=UTC))
    for name, quantity, price, discount in lines:
        line = sale.lines.add(name=name, quantity=quantity, unit_price=rupiah(price), tax_class=tax_class)
        if discount:
            line.discount.CopyFrom(rupiah(discount))
    for name, amount in discounts:
        sale.discounts.add(name=name, amount=rupiah(amount))
    for method, amount in tenders:
        sale.tenders.add(method=method, amount=rupiah(amount))
    pricing.total_up(sale, date(2026, 11, 23), rounding_unit)
    return sale


@pytest.fixture
def a_sale() -> Callable[..., Sale]:
    return make_sale


@pytest.fixture
def outlet() -> Outlet:
    return Outlet(
        id="out_1",
        name="TOKO CONTOH KEMANG",
        code="KMG",
        address="Jl. Kemang Raya 10, Jakarta",
        time_zone="Asia/Jakarta",
        tax_number="0012345678012000",
        prices_include_tax=True,
        receipt_footer="Terima kasih",
    )


@pytest.fixture
def till() -> Till:
    return Till(id="dev_2", name="Kasa 2", number=2, outlet_id="out_1")


@dataclass
class MemoryJobs:
    """Rows as a database would keep them, with every state they went through."""

    rows: dict[str, PrintJob] = field(default_factory=dict)
    history: list[tuple[str, JobState]] = field(default_factory=list)
    fails_on: JobState | None = None
    slow_on: JobState | None = None
    saving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while a save of the slow state is under way, which takes until `go_on` is set."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def save(self, job: PrintJob) -> None:
        if job.state is self.slow_on:
            self.saving.set()
            await self.go_on.wait()
        if job.state is self.fails_on:
            raise OSError(28, "No space left on device")
        self.rows[job.key] = job
        self.history.append((job.key, job.state))

    async def load(self, key: str) -> PrintJob | None:
        return self.rows.get(key)

    async def unfinished(self) -> list[PrintJob]:
        return [job for job in self.rows.values() if job.state not in SETTLED]

    def states(self, key: str) -> list[JobState]:
        return [state for each, state in self.history if each == key]


@pytest.fixture
def jobs() -> MemoryJobs:
    return MemoryJobs()


class Seen:
    """Everything a printer told; `until` waits for a job that looks as it should."""

    def __init__(self) -> None:
        self.jobs: list[PrintJob] = []
        self._changed = asyncio.Event()

    def __call__(self, job: PrintJob) -> None:
        self.jobs.append(job)
        self._changed.set()

    async def until(self, condition: Callable[[PrintJob], bool]) -> PrintJob:
        async with asyncio.timeout(20):
            while True:
                found = next((job for job in self.jobs if condition(job)), None)
                if found is not None:
                    return found
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def paper_printer(tmp_path: Path) -> AsyncIterator[VirtualPrinter]:
    """A printer on the network, 58 mm."""
    async with VirtualPrinter(0, tmp_path / "receipts") as printer:
        yield printer


@pytest.fixture
def timing() -> Timing:
    """Patient with answers, because the machine may be busy; quick to look again."""
    return Timing(status=2.0, confirm=2.0, bytes_per_second=10_000, stall=5.0, retry=0.1, stop=2.0)


@pytest.fixture
def a_printer(jobs: MemoryJobs, timing: Timing, seen: Seen) -> Callable[..., Printer]:
    """Makes a printer for an address."""

    def make(
        address: str, *, timing: Timing = timing, abilities: Abilities | None = None, clock: Callable[[], float] | None = None
    ) -> Printer:
        connect: Callable[[], AbstractAsyncContextManager[Connection]] = partial(transports.open_device, address)
        known = {"clock": clock} if clock else {}
        printer = Printer(connect, jobs, timing=timing, abilities=abilities, **known)
        printer.observe(seen)
        return printer

    return make


@pytest.fixture
def receipts() -> Callable[..., object]:
    """The finished receipts in a folder, by their stems, once there are so many."""

    async def wait(folder: Path, count: int) -> list[Path]:
        async with asyncio.timeout(20):
            while len(found := sorted(folder.glob("[0-9]*.json"))) < count:
                await asyncio.sleep(0.02)  # files are written by another party, which is asked by looking
        return [path.with_suffix("") for path in found]

    return wait
