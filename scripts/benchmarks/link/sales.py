"""Sales of three lines as a till records them, serialised before anything is timed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from gipos.edge.v1.link_pb2 import LinkRequest, Operation
from gipos.v1.catalog_pb2 import TaxClass
from gipos.v1.sales_pb2 import Sale, SaleLine
from kernel.ids import new_id
from kernel.pricing import total_up

LINES = 3


def sold(products: Sequence[str], seq: int) -> Operation:
    """A sale of three different products, with this operation number."""
    now = datetime.now(UTC)
    sale = Sale(id=new_id("sal"), number=f"B-{seq:07d}", channel="pos", prices_include_tax=True, cashier="Ani")
    sale.business_date = now.date().isoformat()
    for product_id in random.sample(products, LINES):
        line = SaleLine(id=new_id("sli"), product_id=product_id, name="Kopi", quantity="1", tax_class=TaxClass.TAX_CLASS_PPN)
        line.unit_price.amount, line.unit_price.currency = 18_000, "IDR"
        sale.lines.append(line)
    sale.tenders.add(method="cash").amount.amount = 100_000
    sale.sale_time.FromDatetime(now)
    total_up(sale, now.date())
    made = Operation(op_seq=seq, op_id=sale.id, sale_recorded=sale)
    made.occurred_time.FromDatetime(now)
    return made


def batches(products: Sequence[str], first: int, count: int, size: int) -> Iterator[tuple[int, bytes]]:
    """So many sales from this number on, in batches: the last number of each, and the frame."""
    for start in range(first, first + count, size):
        numbers = range(start, min(start + size, first + count))
        frame = LinkRequest()
        frame.operations.operations.extend([sold(products, seq) for seq in numbers])
        yield numbers[-1], frame.SerializeToString()
