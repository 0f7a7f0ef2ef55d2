"""Receipts: which are printed, in which state they are, and the store the printer keeps its jobs in.

A receipt is composed from its sale only when it is to be printed, so a bad logo or text can never stop a sale.
"""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

import apsw
import structlog

from edge.hardware.printers import receipt
from edge.hardware.printers.escpos import DRAWER_PULSE, EscPos
from edge.hardware.printers.jobs import DRAWER, RECEIPT, SETTLED, JobState, PrintJob
from edge.hardware.printers.printer import Printer
from edge.hardware.printers.status import Problem
from edge.hardware.printers.transliteration import transliterate
from edge.hardware.transports import open_device
from edge.storage import outlets, print_jobs
from edge.storage import sales as stored_sales
from edge.storage.folder import Storage
from edge.storage.print_jobs import PrintRow
from edge.till.refusals import PrinterMissing, PrintNotUnknown
from edge.till.sales import FALLBACK_TIME_ZONE, time_zone
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.sales_pb2 import Sale
from kernel import business_days, ids, pricing
from kernel.errors import NotFound

_log = structlog.get_logger(__name__)

NO_PRINTER = "no_printer"
"""The problem of receipts made by a till without a printer."""
NO_PRINTER_TEXT = (
    "Kasir ini belum punya printer. Jalankan dengan --printer, misalnya tcp://192.168.1.50:9100."
    " / This till has no printer. Start it with --printer, for example tcp://192.168.1.50:9100."
)


class OutletUnknown(LookupError):
    """A receipt cannot be composed yet: this till does not know whose it is until the cloud has said so."""


class StoredJobs:
    """The printer's jobs in store.db. Rows are made by sales and reprints; the printer only moves them."""

    def __init__(self, storage: Storage, paper: Literal[58, 80]) -> None:
        self._storage = storage
        self._paper = paper

    async def save(self, job: PrintJob) -> None:
        """Writes where a job is, durably.

        Raises:
            LookupError: no sale or reprint made this job.
        """
        now_ms = self._storage.clock()

        def write(connection: apsw.Connection) -> bool:
            return print_jobs.update(
                connection,
                job.key,
                data=job.data,
                state=job.state.value,
                problem=job.problem.value,
                attempt=job.attempt,
                bytes_sent=job.bytes_sent,
                confirmed=job.confirmed,
                now_ms=now_ms,
            )

        if not await self._storage.store.write(write):
            raise LookupError(f"No print job has the key {job.key!r}.")

    async def load(self, key: str) -> PrintJob | None:
        """The job with this key, composed if it never was. One that can never be composed has failed.

        Raises:
            OutletUnknown: it can be composed once the cloud has said whose till this is.
        """
        row = await self._storage.store.read(lambda connection: print_jobs.find(connection, key))
        return None if row is None else await self._job(row)

    async def unfinished(self) -> list[PrintJob]:
        """Jobs that are not settled, in the order in which they were made; those that cannot be composed now are left out."""
        jobs = []
        for row in await self._storage.store.read(print_jobs.unfinished):
            try:
                job = await self._job(row)
            except OutletUnknown:
                _log.warning("receipt_waits_for_outlet", key=row.key)
            except Exception:  # noqa: BLE001 (a receipt the files do not give out now must not keep the till from starting)
                _log.exception("receipt_left_out", key=row.key)
            else:
                if job.state not in SETTLED:
                    jobs.append(job)
        return jobs

    async def _job(self, row: PrintRow) -> PrintJob:
        problem = Problem(row.problem) if row.problem in set(Problem) else Problem.NONE
        job = PrintJob(
            key=row.key,
            data=row.data or b"",
            kind=row.kind,
            state=JobState(row.state),
            problem=problem,
            attempt=row.attempt,
            bytes_sent=row.bytes_sent,
            confirmed=row.confirmed,
        )
        if row.data is not None or job.state in SETTLED:
            return job
        try:
            return replace(job, data=await self._compose(row))
        except (OutletUnknown, apsw.Error):
            # Neither says anything about the receipt: it may be composed later.
            raise
        except Exception as error:  # noqa: BLE001 (whatever is wrong with one sale's receipt, a cashier must learn of it)
            _log.error("receipt_unprintable", key=row.key, error=repr(error))
            failed = replace(job, state=JobState.FAILED, problem=Problem.UNPRINTABLE)
            await self.save(failed)
            return failed

    async def _compose(self, row: PrintRow) -> bytes:
        recorded = await self._storage.store.read(lambda connection: stored_sales.find(connection, row.sale_id))
        if recorded is None:
            raise LookupError(f"The sale of print job {row.key!r} is missing.")
        identity = await self._storage.replica.read(outlets.find)
        if identity is None:
            raise OutletUnknown(f"The outlet of print job {row.key!r} is not known yet.")
        outlet = Outlet()
        outlet.CopyFrom(identity.outlet)
        outlet.time_zone = time_zone(identity)
        return receipt.compose(
            recorded.sale,
            outlet,
            identity.till,
            paper=self._paper,
            is_copy=row.copy > 1,
            opens_drawer=any(tender.method == pricing.CASH for tender in recorded.sale.tenders),
        )


def new_row(sale: Sale, *, copy: int, now_ms: int, has_printer: bool) -> PrintRow:
    """The print job of a sale's receipt, or of a copy of it."""
    state, problem = (JobState.QUEUED, "") if has_printer else (JobState.FAILED, NO_PRINTER)
    return PrintRow(f"{sale.id}-{copy}", sale.id, copy, RECEIPT, state.value, now_ms, problem=problem)


class Receipts:
    """The till's receipts and the printer behind them, if there is one. Use it as an async context manager."""

    def __init__(self, storage: Storage, *, address: str, paper: Literal[58, 80]) -> None:
        """Prepares printing.

        Args:
            storage: the till's files.
            address: the printer's, for example tcp://127.0.0.1:9100; empty for none.
            paper: its width in millimetres.
        """
        self.address = address
        self.paper = paper
        self._storage = storage
        self._printer = Printer(lambda: open_device(address), StoredJobs(storage, paper)) if address else None

    async def __aenter__(self) -> Self:
        """Takes up what was not printed yet."""
        if self._printer is not None:
            await self._printer.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Lets the receipt under way come to its end for a moment."""
        if self._printer is not None:
            await self._printer.__aexit__(kind, error, trace)

    @property
    def has_printer(self) -> bool:
        """Whether this till prints at all."""
        return self._printer is not None

    async def take_up(self, key: str, *, late: bool = False) -> None:
        """Prints a job that was committed, unless that was begun before. One that is late opens no drawer.

        A failure here is no failure of the sale: the next start, or a repeat of the request, takes the job up.
        """
        if self._printer is None:
            return
        try:
            await self._printer.submit(key, b"", late=late)
        except OutletUnknown:
            _log.warning("receipt_waits_for_outlet", key=key)
        except Exception:  # noqa: BLE001 (the sale is committed; whatever is wrong with printing must not undo the answer)
            _log.exception("receipt_not_taken_up", key=key)

    async def take_up_waiting(self) -> None:
        """Prints, in order, what could not be composed before. Call it when the cloud has said whose till this is."""
        if self._printer is None:
            return
        try:
            rows = await self._storage.store.read(print_jobs.unfinished)
        except Exception:  # noqa: BLE001 (as in take_up: printing must not end the link, and the next call looks again)
            _log.exception("receipts_not_taken_up")
            return
        for row in rows:
            if row.state == JobState.QUEUED.value:
                await self.take_up(row.key, late=True)

    async def settled(self, key: str, seconds: float) -> PrintRow:
        """The job once nothing more happens to it by itself, or as it stands after so many seconds.

        Raises:
            NotFound: there is no such job.
        """
        row = await self.find(key)
        if self._printer is None or not seconds:
            return row
        try:
            await self._printer.wait(key, seconds)
        except OutletUnknown:
            return row
        return await self.find(key)

    async def find(self, key: str) -> PrintRow:
        """A job.

        Raises:
            NotFound: there is no such job.
        """
        row = await self._storage.store.read(lambda connection: print_jobs.find(connection, key))
        if row is None:
            raise NotFound(f"There is no receipt {key}.", key=key)
        return row

    async def reprint(self, sale_id: str) -> PrintRow:
        """Makes and prints one more copy of a receipt, marked as a copy. It does not open the drawer.

        Raises:
            NotFound: this till has no such sale.
            PrinterMissing: the till has no printer.
        """
        if self._printer is None:
            raise PrinterMissing(NO_PRINTER_TEXT)
        now_ms = self._storage.clock()

        def make(connection: apsw.Connection) -> PrintRow:
            recorded = stored_sales.find(connection, sale_id)
            if recorded is None:
                raise NotFound(f"This till has no sale {sale_id}.", sale_id=sale_id)
            copies = print_jobs.of_sale(connection, sale_id)
            row = new_row(recorded.sale, copy=copies[-1].copy + 1 if copies else 2, now_ms=now_ms, has_printer=True)
            print_jobs.insert(connection, row)
            return row

        row = await self._storage.store.write(make)
        await self.take_up(row.key)
        return row

    async def open_drawer(self) -> PrintRow:
        """Opens the cash drawer, at once or not at all.

        Raises:
            PrinterMissing: the till has no printer to open it with.
        """
        return await self._print_alone("drw", DRAWER, DRAWER_PULSE)

    async def test_print(self) -> PrintRow:
        """Prints a page that shows that the printer works.

        Raises:
            PrinterMissing: the till has no printer.
        """
        identity = await self._storage.replica.read(outlets.find)
        name = f"{identity.outlet.name} / {identity.till.name}" if identity is not None else ""
        now = business_days.local_time(
            self._storage.clock.now(), time_zone(identity) if identity is not None else FALLBACK_TIME_ZONE
        )
        page = EscPos().init().align("left")
        for line in ("TES CETAK / TEST PRINT", name, f"{now:%d-%m-%Y %H.%M}", "ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789"):
            page.text(transliterate(line, "cp437")[0]).line()
        return await self._print_alone("tst", RECEIPT, bytes(page.feed(4)))

    async def _print_alone(self, prefix: str, kind: str, data: bytes) -> PrintRow:
        """Prints something that belongs to no sale."""
        if self._printer is None:
            raise PrinterMissing(NO_PRINTER_TEXT)
        key = ids.new_id(prefix)
        row = PrintRow(key, key, 1, kind, JobState.QUEUED.value, self._storage.clock(), data=data)
        await self._storage.store.write(lambda connection: print_jobs.insert(connection, row))
        await self.take_up(key)
        return row

    async def resolve(self, key: str, *, printed: bool) -> PrintRow:
        """Takes a person's word for whether an unknown receipt came out.

        Raises:
            NotFound: there is no such job.
            PrinterMissing: the till has no printer.
            PrintNotUnknown: nobody is in doubt about this job.
        """
        row = await self.find(key)
        if row.state != JobState.UNKNOWN.value:
            raise PrintNotUnknown(
                f"Struk ini sudah jelas ({row.state}); tidak ada yang perlu dijawab."
                f" / Receipt {key} is {row.state}; there is nothing to decide.",
                key=key,
            )
        if self._printer is None:
            raise PrinterMissing(NO_PRINTER_TEXT)
        await self._printer.resolve(key, printed=printed)
        return await self.find(key)

    def printer_state(self) -> dict[str, Any]:
        """The printer as people see it: none, ready, printing or blocked (with the problem), and how many receipts wait."""
        if self._printer is None:
            return {"state": "none", "waiting": 0}
        waiting = self._printer.waiting
        first = waiting[0] if waiting else None
        state = "ready" if first is None else "blocked" if first.state is JobState.BLOCKED else "printing"
        shown: dict[str, Any] = {"state": state, "address": self.address, "paper": self.paper, "waiting": len(waiting)}
        if first is not None and first.problem is not Problem.NONE:
            shown["problem"] = first.problem.value
        return shown
