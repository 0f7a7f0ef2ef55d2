"""Writes the golden corpus of the link: frames as tills and clouds of each version of the protocol send them.

`python scripts/record_link_frames.py VERSION` adds a version; one that is there is never written again, because tills in shops
keep sending what it holds. Each frame is in the corpus twice: as JSON for people and as bytes, which are what counts.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from gipos.edge.v1 import link_pb2 as pb
from gipos.v1.accounts_pb2 import Outlet, Till
from gipos.v1.catalog_pb2 import Product, TaxClass
from gipos.v1.common_pb2 import Money
from gipos.v1.inventory_pb2 import Level
from gipos.v1.sales_pb2 import Sale, SaleLine, Tender
from kernel.capabilities import ALL

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "edge" / "link" / "golden"
UP, DOWN = "up", "down"
LANE, OUTLET, TILL = "tenant", "out_06h0k6a491z2njzvw5a1xq11b6", "dev_06h0k6a491z2njzvw5a1xq11b7"
PRODUCT, SALE = "prd_06h0k6a491z2njzvw5a1xq11b8", "sal_06h0k6a491z2njzvw5a1xq11b9"

Step = tuple[str, pb.LinkRequest | pb.LinkResponse]


def moment(second: int) -> Timestamp:
    """A second of a certain day."""
    stamp = Timestamp()
    stamp.FromDatetime(datetime(2026, 11, 23, 2, 0, second, tzinfo=UTC))
    return stamp


def a_sale(seq: int) -> pb.Operation:
    """A sale of one coffee."""
    line = SaleLine(id="sli_06h0k6a491z2njzvw5a1xq11c1", product_id=PRODUCT, name="Kopi Susu", quantity="1")
    line.unit_price.CopyFrom(Money(amount=18_000, currency="IDR"))
    sale = Sale(id=SALE, number=f"KMG-2611-1{seq:05d}", channel="pos", lines=[line], business_date="2026-11-23")
    sale.total.CopyFrom(Money(amount=18_000, currency="IDR"))
    sale.tenders.append(Tender(method="cash", amount=Money(amount=20_000, currency="IDR")))
    sale.sale_time.CopyFrom(moment(7))
    return pb.Operation(op_seq=seq, op_id=SALE, occurred_time=moment(7), sale_recorded=sale)


def a_product(seq: int, name: str) -> pb.Change:
    """A change of the one product."""
    price = Money(amount=18_000, currency="IDR")
    return pb.Change(seq=seq, product=Product(id=PRODUCT, name=name, price=price, tax_class=TaxClass.TAX_CLASS_PPN))


def a_level(seq: int, on_hand: str) -> pb.Change:
    """A change of its stock."""
    return pb.Change(seq=seq, level=Level(product_id=PRODUCT, outlet_id=OUTLET, on_hand=on_hand, reserved="0", version=seq))


def a_welcome() -> pb.Welcome:
    """What every version of the cloud says first."""
    till = Till(id=TILL, name="Kasir 1", number=1, outlet_id=OUTLET)
    outlet = Outlet(id=OUTLET, name="Toko Contoh Kemang", code="KMG", time_zone="Asia/Jakarta", tills=[till])
    return pb.Welcome(
        op_watermark=41,
        server_time=moment(0),
        heartbeat_seconds=10,
        reconnect_window_ms=2000,
        tenant_id="ten_06h0k6a491z2njzvw5a1xq11b5",
        outlet=outlet,
        till=till,
        credit=2,
        last_sale_number="KMG-2611-100041",
    )


def first_version() -> Iterator[Step]:
    """A conversation as version 1 had it: no field and no frame that came later."""
    place = pb.LanePosition(lane=OUTLET, epoch=1, seq=7)
    yield UP, pb.LinkRequest(hello=pb.Hello(store_epoch=5, positions=[place], last_op_seq=42, software_version="0.1.0"))
    yield DOWN, pb.LinkResponse(welcome=a_welcome())
    yield DOWN, pb.LinkResponse(reset=pb.Reset(lane=LANE, reason=pb.RESET_REASON_NEW))
    for index, last in ((0, False), (1, True)):
        changes = [a_product(9, "Kopi Susu")] if last else []
        part = pb.SnapshotPart(lane=LANE, epoch=1, seq=9, index=index, last=last, changes=changes)
        yield DOWN, pb.LinkResponse(snapshot=part)
    yield UP, pb.LinkRequest(operations=pb.OperationBatch(operations=[a_sale(42)]))
    yield UP, pb.LinkRequest(applied=pb.Applied(lane=LANE, epoch=1, upto=9))
    yield DOWN, pb.LinkResponse(stored=pb.Stored(op_watermark=42))
    level = pb.Changes(lane=OUTLET, epoch=1, from_exclusive=7, upto_inclusive=9, changes=[a_level(9, "4")], op_watermark=42)
    yield DOWN, pb.LinkResponse(changes=level)
    yield UP, pb.LinkRequest(applied=pb.Applied(lane=OUTLET, epoch=1, upto=9))
    yield UP, pb.LinkRequest(ping=pb.Ping(device_time=moment(10)))
    yield DOWN, pb.LinkResponse(progress=pb.Progress(server_time=moment(10)))
    aside = pb.Quarantined(op_seq=42, reason="NOT_UNDERSTOOD", message="The sale has no lines.")
    yield DOWN, pb.LinkResponse(stored=pb.Stored(op_watermark=42, quarantined=[aside], expected_op_seq=43))
    yield DOWN, pb.LinkResponse(drain=pb.Drain(reconnect_latest_ms=2000, reason="The cloud restarts."))


def second_version() -> Iterator[Step]:
    """A conversation with everything that version 2 added."""
    hello = pb.Hello(
        store_epoch=5,
        positions=[pb.LanePosition(lane=OUTLET, epoch=1, seq=7)],
        last_op_seq=42,
        software_version="0.2.0",
        capabilities=sorted(ALL),
        acknowledged_op_seq=41,
        acknowledged_op_id=SALE,
        boot_id="3f0c6d1e-6d0b-4b5e-8f4e-0c1d2e3f4a5b",
        waiting_operations=1,
        oldest_waiting_time=moment(7),
        begun=[pb.BegunSnapshot(lane=LANE, snapshot_id="snp_1", next_index=1)],
    )
    yield UP, pb.LinkRequest(hello=hello)
    welcome = a_welcome()
    welcome.capabilities.extend(sorted(ALL))
    welcome.till_state = "active"
    welcome.heads.extend([pb.LanePosition(lane=LANE, epoch=1, seq=9), pb.LanePosition(lane=OUTLET, epoch=1, seq=12)])
    yield DOWN, pb.LinkResponse(welcome=welcome)
    rules = pb.OfflineRules(tenant_id="ten_1", till_id=TILL, version=3, longest_hours=72, tenders=["cash"])
    policy = pb.OfflinePolicy(rules=rules.SerializeToString(), signature=b"\1" * 64, key_id="key_1")
    yield DOWN, pb.LinkResponse(policy=policy)
    part = pb.SnapshotPart(
        lane=LANE, epoch=1, seq=9, index=1, last=True, changes=[a_product(9, "Kopi Susu")], snapshot_id="snp_1"
    )
    yield DOWN, pb.LinkResponse(snapshot=part)
    yield UP, pb.LinkRequest(applied=pb.Applied(lane=LANE, epoch=1, upto=9))
    sale = a_sale(42)
    sale.seen_seq = 7
    clock = pb.ClockReading(device_time=moment(6), offset_ms=1000, uncertainty_ms=12, state=pb.CLOCK_STATE_SYNCED)
    sale.clock.CopyFrom(clock)
    counted = pb.Operation(op_seq=43, op_id="cnt_1", occurred_time=moment(8), clock=clock, seen_seq=7)
    counted.stock_counted.CopyFrom(pb.StockCounted(product_id=PRODUCT, counted="12", note="rak depan"))
    edited = pb.Operation(op_seq=44, op_id="edt_1", occurred_time=moment(9), clock=clock, seen_seq=7)
    edited.product_edited.CopyFrom(
        pb.ProductEdited(product=Product(id=PRODUCT, name="Kopi Susu Gula Aren"), fields=["name"], base_version=9)
    )
    yield UP, pb.LinkRequest(operations=pb.OperationBatch(operations=[sale, counted, edited]))
    yield DOWN, pb.LinkResponse(stored=pb.Stored(op_watermark=44))
    yield (
        DOWN,
        pb.LinkResponse(changes=pb.Changes(lane=OUTLET, epoch=1, from_exclusive=8, upto_inclusive=9, changes=[a_level(9, "4")])),
    )
    yield UP, pb.LinkRequest(not_applied=pb.NotApplied(lane=OUTLET, epoch=1, from_exclusive=7, reason="GAP"))
    yield (
        DOWN,
        pb.LinkResponse(
            changes=pb.Changes(
                lane=OUTLET, epoch=1, from_exclusive=7, upto_inclusive=9, changes=[a_level(9, "4")], op_watermark=44
            )
        ),
    )
    yield UP, pb.LinkRequest(applied=pb.Applied(lane=OUTLET, epoch=1, upto=9))
    yield UP, pb.LinkRequest(ping=pb.Ping(device_time=moment(10), number=1, waiting_operations=0))
    reached = pb.LanePosition(lane=OUTLET, epoch=1, from_exclusive=9, seq=12)
    yield (
        DOWN,
        pb.LinkResponse(progress=pb.Progress(server_time=moment(11), number=1, received_time=moment(11), reached=[reached])),
    )
    command = pb.Command(command_id="cmd_06h0k6a491z2njzvw5a1xq11d1", expire_time=moment(59))
    command.reprint.sale_id = SALE
    yield DOWN, pb.LinkResponse(command=command)
    result = pb.CommandResult(command_id=command.command_id, outcome=pb.COMMAND_OUTCOME_DONE, message="Done.")
    yield UP, pb.LinkRequest(command_result=result)
    yield DOWN, pb.LinkResponse(reset=pb.Reset(lane=LANE, reason=pb.RESET_REASON_REFRESH))
    first = pb.SnapshotPart(lane=LANE, epoch=1, seq=10, index=0, snapshot_id="snp_2")
    yield DOWN, pb.LinkResponse(snapshot=first)
    yield UP, pb.LinkRequest(applied=pb.Applied(lane=LANE, epoch=1, upto=10, parts=1))
    yield DOWN, pb.LinkResponse(drain=pb.Drain(reconnect_earliest_ms=100, reconnect_latest_ms=2000, reason="The cloud restarts."))


VERSIONS = {"1": first_version, "2": second_version}


def record(version: str) -> list[dict[str, Any]]:
    """The corpus of a version."""
    return [
        {
            "direction": direction,
            "frame": MessageToDict(frame, preserving_proto_field_name=True),
            "wire": base64.b64encode(frame.SerializeToString(deterministic=True)).decode(),
        }
        for direction, frame in VERSIONS[version]()
    ]


def main() -> None:
    """Writes one version.

    Raises:
        SystemExit: it is there already, or unknown.
    """
    version = sys.argv[1] if len(sys.argv) == 2 else ""
    path = FOLDER / f"{version}.json"
    if version not in VERSIONS or path.exists():
        raise SystemExit(f"Say which of {', '.join(VERSIONS)} is to be written; one that is there stays as it is ({FOLDER}).")
    FOLDER.mkdir(exist_ok=True)
    path.write_text(json.dumps(record(version), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
