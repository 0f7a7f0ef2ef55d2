"""The judge's own reading of messages, against the product's writing of them."""

from __future__ import annotations

import pytest

from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.catalog_pb2 import Product
from gipos.v1.inventory_pb2 import Level
from gipos.v1.sales_pb2 import Sale
from scripts.soaking.wire import Message, thousandths, written


def test_the_fields_the_judge_reads_are_where_the_contract_says() -> None:
    product = Product(id="prd_1", name="Teh", barcodes=["B1", "B2"], active=False)
    product.price.amount = 2500
    read = Message(product.SerializeToString())
    assert (read.text(2), read.many(4), Message(read.raw(7)).number(1)) == ("Teh", [b"B1", b"B2"], 2500)
    assert read.has(11)
    assert read.number(11, 1) == 0
    level = Message(Level(on_hand="-1.5", reserved="2", version=300).SerializeToString())
    assert (thousandths(level.text(3)), thousandths(level.text(4)), level.number(6)) == (-1500, 2000, 300)
    operation = Operation(op_seq=4, op_id="opc_4", seen_seq=5, seen_epoch=7)
    operation.stock_counted.note, operation.stock_counted.expected = "count", "-2.5"
    read = Message(operation.SerializeToString())
    assert (read.number(1), read.text(2), read.number(5), read.number(6)) == (4, "opc_4", 5, 7)
    assert thousandths(Message(read.raw(11)).text(4)) == -2500
    operation.product_edited.base_version, operation.product_edited.base_epoch = 3, 9
    read = Message(Message(operation.SerializeToString()).raw(12))
    assert (read.number(3), read.number(4)) == (3, 9)
    product.cost.amount = 1
    assert Message(product.SerializeToString()).has(8)
    sale = Sale(note="mark")
    sale.lines.add(product_id="prd_1", quantity="3")
    read = Message(sale.SerializeToString())
    assert (read.text(24), Message(read.many(10)[0]).text(2), Message(read.many(10)[0]).text(4)) == ("mark", "prd_1", "3")


def test_what_the_judge_writes_is_what_the_contract_reads() -> None:
    line = written((2, "prd_1"), (4, "3"))
    sale = Sale.FromString(written((1, "sal_1"), (10, line), (19, written((1, -5))), (14, 1)))
    assert (sale.id, sale.lines[0].product_id, sale.lines[0].quantity) == ("sal_1", "prd_1", "3")
    assert (sale.total.amount, sale.prices_include_tax) == (-5, True)


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1000), ("0.5", 500), ("-0.5", -500), ("-12.345", -12345), ("7.25", 7250), ("", 0)]
)
def test_quantities_are_thousandths(text: str, value: int) -> None:
    assert thousandths(text) == value


@pytest.mark.parametrize("data", [b"\x0a\x05abc", b"\x0b", b"\xff"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        Message(data)
