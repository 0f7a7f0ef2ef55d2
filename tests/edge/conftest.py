"""A small cloud that speaks the real protocol over a real socket and does what a test tells it, and a till's files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from edge.storage import lanes, outlets
from edge.storage.clocks import Clock
from edge.storage.folder import Storage
from edge.storage.space import Budget, Space
from edge.storage.times import Now
from gipos.edge.v1.link_pb2 import (
    Change,
    Changes,
    Drain,
    LinkRequest,
    LinkResponse,
    Progress,
    Reset,
    SnapshotPart,
    Stored,
    Welcome,
)
from gipos.edge.v1.link_pb2_grpc import EdgeLinkServiceServicer, add_EdgeLinkServiceServicer_to_server
from gipos.v1.accounts_pb2 import Outlet, Till
from gipos.v1.catalog_pb2 import Product, TaxClass
from gipos.v1.inventory_pb2 import Level
from gipos.v1.sales_pb2 import Sale
from kernel import money, quantities

OUTLET = "out_kemang"
TILL = "dev_kasa2"
TOKEN = "gipos_device_test"
TENANT_LANE = "tenant"


def an_outlet() -> Outlet:
    return Outlet(
        id=OUTLET,
        name="TOKO CONTOH KEMANG",
        code="KMG",
        address="Jl. Kemang Raya 10, Jakarta",
        time_zone="Asia/Jakarta",
        tax_number="0012345678012000",
        prices_include_tax=True,
        receipt_footer="Terima kasih",
        tills=[a_till()],
    )


def a_till() -> Till:
    return Till(id=TILL, name="Kasa 2", number=2, outlet_id=OUTLET)


def a_product(number: int, *, price: int = 18_000, name: str = "", barcode: str = "", **fields: Any) -> Product:
    return Product(
        id=f"prd_{number}",
        name=name or f"Barang {number}",
        sku=f"SKU{number}",
        barcodes=[barcode] if barcode else [],
        unit="pcs",
        price=money.rupiah(price),
        tax_class=TaxClass.TAX_CLASS_PPN,
        **fields,
    )


class Cloud(EdgeLinkServiceServicer):
    """The cloud's end of the link over rows in memory. Attributes are switches for tests."""

    def __init__(self) -> None:
        self.epochs = {TENANT_LANE: 1, OUTLET: 1}
        self.logs: dict[str, list[Change]] = {TENANT_LANE: [], OUTLET: []}
        self.stock: dict[str, int] = {}
        self.sales: dict[int, Sale] = {}
        self.watermark = 0
        self.watermark_seq = 0
        self.received: list[int] = []
        self.batches: list[int] = []
        """How many operations each had."""
        self.trailing: tuple[tuple[str, bytes], ...] = ()
        """What a cut says beside its status."""
        self.hellos: list[Any] = []
        self.applied: list[tuple[str, int]] = []
        self.token = TOKEN
        self.till = a_till()
        self.last_sale_number = ""
        self.acknowledges = True
        self.pings = 0
        self.results: list[Any] = []
        self.disputes: list[Any] = []
        self.capabilities: list[str] = []
        """None of them: a cloud of the first version."""
        self.silent = False
        self.heartbeat_seconds = 1
        self.reconnect_window_ms = 200
        self.part_size = 2
        self.port = 0
        self.connected = asyncio.Event()
        self._streams: set[asyncio.Queue[Any]] = set()
        self._server: aio.Server | None = None

    async def start(self) -> None:
        self._server = aio.server(options=(("grpc.so_reuseport", 0),))
        add_EdgeLinkServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        assert self._server is not None
        await self._server.stop(None)
        self._server = None
        self.connected.clear()

    def put(self, product: Product) -> None:
        """Changes a product; every open stream learns of it."""
        self._append(TENANT_LANE, Change(product=product))

    def move(self, product_id: str, delta: int) -> None:
        """Changes stock by so many thousandths."""
        self.stock[product_id] = self.stock.get(product_id, 0) + delta
        level = Level(product_id=product_id, outlet_id=OUTLET, on_hand=quantities.text(self.stock[product_id]), reserved="0")
        self._append(OUTLET, Change(level=level))

    def send(self, frame: LinkResponse) -> None:
        """Sends a frame of the test's own on every stream."""
        for stream in self._streams:
            stream.put_nowait(frame)

    def cut(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """Ends every stream with a status."""
        self.connected.clear()
        for stream in self._streams:
            stream.put_nowait(code)

    async def Link(  # type: ignore[override]  # noqa: N802 (named by the contract; grpc.aio also takes this read-write style)
        self, _requests: Any, context: Any
    ) -> None:
        metadata = dict(context.invocation_metadata())
        if metadata.get("authorization") != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown token")
        hello = (await context.read()).hello
        self.hellos.append(hello)
        if self.silent:
            await asyncio.Event().wait()
        welcome = Welcome(
            op_watermark=self.watermark,
            heartbeat_seconds=self.heartbeat_seconds,
            reconnect_window_ms=self.reconnect_window_ms,
            tenant_id="ten_1",
            outlet=an_outlet(),
            till=self.till,
            credit=2,
            capabilities=self.capabilities,
            last_sale_number=self.last_sale_number,
        )
        await context.write(LinkResponse(welcome=welcome))
        places = {place.lane: place for place in hello.positions}
        cursors: dict[str, int] = {}
        for lane, log in self.logs.items():
            place = places.get(lane)
            if place is not None and place.epoch == self.epochs[lane] and place.seq <= len(log):
                cursors[lane] = place.seq
            else:
                await context.write(LinkResponse(reset=Reset(lane=lane)))
                for part in self.snapshot(lane):
                    await context.write(LinkResponse(snapshot=part))
                cursors[lane] = part.seq
        stream: asyncio.Queue[Any] = asyncio.Queue()
        self._streams.add(stream)
        reader = asyncio.create_task(self._read(context, stream))
        self.connected.set()
        try:
            while True:
                for lane, log in self.logs.items():
                    if cursors[lane] < len(log):
                        await context.write(LinkResponse(changes=self.tail(lane, cursors[lane])))
                        cursors[lane] = len(log)
                item = await stream.get()
                if isinstance(item, grpc.StatusCode):
                    context.set_trailing_metadata(self.trailing)
                    await context.abort(item, "cut by the test")
                if isinstance(item, LinkResponse):
                    await context.write(item)
                    if item.HasField("drain"):
                        return
                if isinstance(item, LinkRequest):
                    answer = self._take(item)
                    if answer is not None:
                        await context.write(answer)
                if item is None:
                    return
        finally:
            self._streams.discard(stream)
            reader.cancel()

    def snapshot(self, lane: str) -> list[SnapshotPart]:
        latest: dict[str, Change] = {}
        for change in self.logs[lane]:
            latest[change.product.id or change.level.product_id] = change
        rows = [change for change in latest.values() if not change.product.HasField("delete_time")]
        pieces = [rows[start : start + self.part_size] for start in range(0, len(rows), self.part_size)] or [[]]
        return [
            SnapshotPart(
                lane=lane,
                epoch=self.epochs[lane],
                seq=len(self.logs[lane]),
                index=index,
                last=index == len(pieces) - 1,
                changes=piece,
                op_watermark=self.watermark if lane == OUTLET else 0,
            )
            for index, piece in enumerate(pieces)
        ]

    def tail(self, lane: str, after: int) -> Changes:
        log = self.logs[lane]
        frame = Changes(lane=lane, epoch=self.epochs[lane], from_exclusive=after, upto_inclusive=len(log), changes=log[after:])
        if lane == OUTLET and len(log) >= self.watermark_seq:
            frame.op_watermark = self.watermark
        return frame

    async def _read(self, context: Any, stream: asyncio.Queue[Any]) -> None:
        while True:
            frame = await context.read()
            if not isinstance(frame, LinkRequest):
                stream.put_nowait(None)
                return
            stream.put_nowait(frame)

    def _take(self, frame: LinkRequest) -> LinkResponse | None:
        match frame.WhichOneof("frame"):
            case "operations":
                return self._store(frame)
            case "applied":
                self.applied.append((frame.applied.lane, frame.applied.upto))
            case "not_applied":
                self.disputes.append(frame.not_applied)
            case "command_result":
                self.results.append(frame.command_result)
            case "ping":
                self.pings += 1
                return LinkResponse(progress=Progress())
        return None

    def _store(self, frame: LinkRequest) -> LinkResponse | None:
        self.batches.append(len(frame.operations.operations))
        for operation in frame.operations.operations:
            self.received.append(operation.op_seq)
            if operation.op_seq <= self.watermark:
                continue
            if operation.op_seq != self.watermark + 1:
                return LinkResponse(stored=Stored(op_watermark=self.watermark, expected_op_seq=self.watermark + 1))
            sale = operation.sale_recorded
            self.watermark = operation.op_seq
            self.sales[operation.op_seq] = sale
            self.watermark_seq = len(self.logs[OUTLET]) + len({line.product_id for line in sale.lines})
            for line in sale.lines:
                self.move(line.product_id, -quantities.parse(line.quantity))
        if not self.acknowledges:
            return None
        return LinkResponse(stored=Stored(op_watermark=self.watermark))

    def _append(self, lane: str, change: Change) -> None:
        change.seq = len(self.logs[lane]) + 1
        self.logs[lane].append(change)
        for stream in self._streams:
            stream.put_nowait("changed")


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    """A running cloud with two products in stock."""
    cloud = Cloud()
    cloud.put(a_product(1, name="Kopi Susu", barcode="8991002101418"))
    cloud.put(a_product(2, name="Roti Bakar", price=12_500, barcode="8998866200301"))
    cloud.move("prd_1", 10_000)
    cloud.move("prd_2", 5_000)
    await cloud.start()
    yield cloud
    if cloud._server is not None:
        await cloud.stop()


@pytest.fixture
def bare_cloud() -> type[Cloud]:
    """The class, for tests that drive its rows without a socket."""
    return Cloud


@pytest.fixture
def product() -> Callable[..., Product]:
    """Makes products with defaults."""
    return a_product


@pytest.fixture
def identity() -> outlets.Identity:
    """Whose till the tests are about."""
    return outlets.Identity(tenant_id="ten_1", outlet=an_outlet(), till=a_till())


class Hands:
    """A tablet's clocks in a test's hands: the wall clock, the ticks since the start, and which start it was."""

    def __init__(self) -> None:
        self.wall_ms = 1_790_000_000_000
        self.ticks_ms = 50_000
        self.boot_id = "boot-1"

    def __call__(self) -> Now:
        return Now(self.wall_ms, self.ticks_ms, self.boot_id)

    def pass_ms(self, duration_ms: int) -> None:
        """Time goes by while the tablet is on."""
        self.wall_ms += duration_ms
        self.ticks_ms += duration_ms

    def reboot(self, off_ms: int = 0) -> None:
        """The tablet was off for so long. Its wall clock goes on, as long as nobody sets it."""
        self.wall_ms += off_ms
        self.ticks_ms = 20_000
        self.boot_id += "+"


@pytest.fixture
def hands() -> Hands:
    """The clocks of `storage`, to be set by the test."""
    return Hands()


@pytest.fixture
def budget() -> Budget:
    """A small reserve, so that a hundred tests do not fill the disk."""
    return Budget(reserve=64 * 1024)


@pytest.fixture
def storage(tmp_path: Path, hands: Hands, budget: Budget) -> Iterator[Storage]:
    """A till's empty files."""
    folder = tmp_path / "till"
    storage = Storage.open(folder, Clock(hands), space=Space(folder, budget))
    yield storage
    storage.close()


@pytest.fixture
def stocked(storage: Storage, identity: outlets.Identity) -> Storage:
    """A till's files after a first snapshot: three products, two of them with stock, as if the network had then gone."""
    catalogue = [
        a_product(1, name="Kopi Susu", barcode="8991002101418"),
        a_product(2, name="Roti Bakar", price=12_500, barcode="8998866200301"),
        a_product(3, name="Beras Pandan", price=14_900, barcode="KG-3"),
        a_product(4, name="Teh Lama", barcode="8999909028234", active=False),
    ]
    levels = [Level(product_id=f"prd_{number}", outlet_id=OUTLET, on_hand="10", reserved="1") for number in (1, 2)]

    def fill(connection: Any) -> None:
        outlets.put(connection, identity)
        lanes.activate(
            connection,
            SnapshotPart(lane=TENANT_LANE, epoch=1, seq=4, last=True, changes=[Change(seq=4, product=one) for one in catalogue]),
        )
        lanes.activate(
            connection, SnapshotPart(lane=OUTLET, epoch=1, seq=2, last=True, changes=[Change(seq=2, level=one) for one in levels])
        )

    storage.replica.write_and_wait(fill)
    return storage


class PaperPrinter:
    """A network printer that answers status questions and fences, and keeps what it was sent, by connection."""

    def __init__(self) -> None:
        self.port = 0
        self.jobs: list[bytes] = []
        self.stalls = False
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self._server = None

    @property
    def receipts(self) -> list[bytes]:
        """Connections on which something was printed, and not only asked."""
        return [job for job in self.jobs if b"TOKO CONTOH" in job]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(self.jobs)
        self.jobs.append(b"")
        while data := await reader.read(4096):
            self.jobs[place] += data
            if data[:2] == b"\x10\x04":
                writer.write(b"\x12")
            if b"\x1dr\x01" in data and not self.stalls:
                writer.write(b"\x00")
        writer.close()


@pytest.fixture
async def printer() -> AsyncIterator[PaperPrinter]:
    """A printer that listens."""
    printer = PaperPrinter()
    await printer.start()
    yield printer
    if printer._server is not None:
        await printer.stop()


@pytest.fixture
def drain() -> Callable[[int], LinkResponse]:
    """A frame that asks to come back within so many milliseconds."""
    return lambda latest_ms: LinkResponse(drain=Drain(reconnect_latest_ms=latest_ms, reason="The cloud restarts."))


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Waits until something outside this task has become true; the test's own timeout is the limit."""

    async def wait(condition: Callable[[], Any]) -> Any:
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)

    return wait
