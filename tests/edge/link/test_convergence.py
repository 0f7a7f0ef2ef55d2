"""Whatever happens to the frames: the replica becomes the fold of the log, and every sale arrives once and in order."""

from __future__ import annotations

import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.link.effects import StreamOver, carry_out, new_session
from edge.link.orders import Reconnect
from edge.link.session import Session
from edge.storage import lanes, outbox
from edge.storage.folder import Storage
from edge.till import stock
from gipos.edge.v1.link_pb2 import LinkRequest, LinkResponse, Operation, Reset, Welcome
from gipos.v1.sales_pb2 import Sale

OUTLET = "out_kemang"
PRODUCTS = ("prd_1", "prd_2", "prd_3")

STEPS = st.one_of(
    st.tuples(st.sampled_from(["edit", "archive", "move", "sell"]), st.sampled_from(PRODUCTS)),
    st.tuples(
        st.sampled_from(["down", "down", "down", "up", "up", "cut", "repeat", "swallow", "restart", "restore"]), st.just("")
    ),
)


@dataclass
class World:
    """One till and one cloud with a wire between them that a test can cut, repeat and rob."""

    folder: Path
    cloud: Any
    make_product: Any
    storage: Storage = field(init=False)
    session: Session = field(init=False)
    down: deque[LinkResponse] = field(default_factory=deque)
    up: deque[LinkRequest] = field(default_factory=deque)
    cursors: dict[str, int] = field(default_factory=dict)
    snapshot_lanes: set[str] = field(default_factory=set)
    foreign: list[tuple[int, str, int]] = field(default_factory=list)
    sold: list[tuple[str, str]] = field(default_factory=list)
    edits: int = 0

    async def connect(self) -> None:
        self.down.clear()
        self.up.clear()
        self.session = await new_session(self.storage, snapshot_lanes=self.snapshot_lanes, software_version="")
        self.session.open()
        await self.flush()
        hello = self.up.popleft().hello
        places = {place.lane: place for place in hello.positions}
        welcome = Welcome(op_watermark=self.cloud.watermark, heartbeat_seconds=10, tenant_id="ten_1")
        welcome.till.id, welcome.outlet.id = "dev_kasa2", OUTLET
        self.down.append(LinkResponse(welcome=welcome))
        for lane, log in self.cloud.logs.items():
            place = places.get(lane)
            if place is not None and place.epoch == self.cloud.epochs[lane] and place.seq <= len(log):
                self.cursors[lane] = place.seq
            else:
                self.down.append(LinkResponse(reset=Reset(lane=lane)))
                self.down.extend(LinkResponse(snapshot=part) for part in self.cloud.snapshot(lane))
                self.cursors[lane] = len(log)

    async def flush(self) -> None:
        """What the client does after each signal: upload what is wanted, put frames on the wire."""
        while (want := self.session.wanted()) is not None:
            batch = await self.storage.store.read(lambda connection: outbox.batch(connection, want[0], want[1]))
            await self.obey(self.session.upload(batch, want))
        self.up.extend(self.session.outgoing)
        self.session.outgoing.clear()

    async def obey(self, orders: Any) -> None:
        for order in orders:
            await carry_out(order, self.session, self.storage)
            part = getattr(order, "part", None)
            if part is not None and part.last:
                self.snapshot_lanes.discard(part.lane)

    async def deliver_down(self, *, twice: bool = False) -> None:
        for lane, log in self.cloud.logs.items():
            if self.cursors[lane] < len(log):
                self.down.append(LinkResponse(changes=self.cloud.tail(lane, self.cursors[lane])))
                self.cursors[lane] = len(log)
        if not self.down:
            return
        frame = self.down.popleft()
        try:
            for _ in range(2 if twice and frame.HasField("changes") else 1):
                await self.obey(self.session.receive(frame))
            await self.flush()
        except StreamOver as over:
            if isinstance(over.order, Reconnect) and over.order.snapshot_lane:
                self.snapshot_lanes.add(over.order.snapshot_lane)
            await self.connect()

    async def deliver_up(self) -> None:
        if self.up:
            answer = self.cloud._take(self.up.popleft())
            if answer is not None:
                self.down.append(answer)

    async def step(self, kind: str, product_id: str) -> None:
        match kind:
            case "edit":
                self.edits += 1
                self.cloud.put(self.make_product(product_id[-1], name=f"Nama {self.edits}", barcode=f"CODE-{self.edits % 3}"))
            case "archive":
                gone = self.make_product(product_id[-1])
                gone.delete_time.GetCurrentTime()
                self.cloud.put(gone)
            case "move":
                self.cloud.move(product_id, 7000)
                self.foreign.append((len(self.cloud.logs[OUTLET]), product_id, 7000))
            case "sell":
                await self.sell(product_id)
            case "down":
                await self.deliver_down()
            case "repeat":
                await self.deliver_down(twice=True)
            case "up":
                await self.deliver_up()
            case "cut":
                await self.connect()
            case "swallow" if self.down and self.down[0].HasField("changes"):
                self.down.popleft()
            case "restart":
                self.storage.close()
                self.storage = Storage.open(self.folder)
                self.snapshot_lanes.clear()
                await self.connect()
            case "restore":
                # The merchant's database came back from somewhere else: same rows, another history.
                self.cloud.epochs = {lane: epoch + 1 for lane, epoch in self.cloud.epochs.items()}
                await self.connect()

    async def sell(self, product_id: str) -> None:
        sale = Sale(id=f"sal_{len(self.sold)}")
        sale.lines.add(product_id=product_id, quantity="1")
        operation = Operation(op_id=sale.id, sale_recorded=sale)
        await self.storage.store.write(lambda connection: outbox.append(connection, operation, {product_id: -1000}, 0))
        self.sold.append((sale.id, product_id))
        self.session.recorded(len(self.sold))
        await self.flush()

    async def settle(self) -> None:
        """An undisturbed wire until nothing moves any more."""
        await self.connect()
        while self.up or self.down or any(self.cursors[lane] < len(log) for lane, log in self.cloud.logs.items()):
            await self.deliver_up()
            await self.deliver_down()

    async def check_shown_stock(self) -> None:
        """Others' movements count up to the till's position; its own sales count always, each once."""
        places = await self.storage.replica.read(lanes.positions)
        if OUTLET not in places or places[OUTLET].epoch != self.cloud.epochs[OUTLET]:
            return
        shown = await stock.shown(self.storage, PRODUCTS)
        for product_id in PRODUCTS:
            others = sum(delta for seq, of, delta in self.foreign if of == product_id and seq <= places[OUTLET].seq)
            own = sum(-1000 for _, of in self.sold if of == product_id)
            assert shown[product_id].on_hand == others + own


async def replica_rows(storage: Storage) -> tuple[Any, ...]:
    def read(connection: Any) -> tuple[Any, ...]:
        return (
            connection.execute("SELECT id, name, sellable FROM products WHERE archived = 0 ORDER BY id").fetchall(),
            connection.execute(
                "SELECT code, product_id FROM barcodes ORDER BY code, product_id",
            ).fetchall(),
            connection.execute("SELECT product_id, body FROM levels ORDER BY product_id").fetchall(),
            connection.execute("SELECT count(*) FROM staged").fetchall(),
        )

    return await storage.replica.read(read)


def fold(cloud: Any) -> tuple[Any, ...]:
    products = {change.product.id: change.product for change in cloud.logs["tenant"]}
    alive = {key: one for key, one in products.items() if not one.HasField("delete_time")}
    levels = {change.level.product_id: change.level for change in cloud.logs[OUTLET]}
    return (
        [(key, one.name, 1) for key, one in sorted(alive.items())],
        sorted((code, key) for key, one in alive.items() for code in one.barcodes),
        [(key, one.SerializeToString()) for key, one in sorted(levels.items())],
        [(0,)],
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=60))
async def test_after_any_interleaving_the_replica_is_the_fold_of_the_log(
    bare_cloud: Any, product: Any, steps: list[tuple[str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), bare_cloud(), product)
        world.storage = Storage.open(world.folder)
        try:
            await world.connect()
            for kind, product_id in steps:
                await world.step(kind, product_id)
                await world.check_shown_stock()
            await world.settle()
            await world.check_shown_stock()
            assert await replica_rows(world.storage) == fold(world.cloud)
            assert [world.cloud.sales[number].id for number in sorted(world.cloud.sales)] == [sale for sale, _ in world.sold]
            assert (await world.storage.store.read(outbox.standing)).waiting == 0
        finally:
            world.storage.close()
