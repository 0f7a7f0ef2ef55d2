"""What an operation changes of the stock, read from what it says: thousandths by product."""

from __future__ import annotations

from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.sales_pb2 import Sale
from kernel import quantities
from kernel.errors import GiposError


def of_sale(sale: Sale) -> dict[str, int]:
    """What a sale takes from the stock.

    Raises:
        Invalid: a quantity is none.
    """
    found: dict[str, int] = {}
    for line in sale.lines:
        found[line.product_id] = found.get(line.product_id, 0) - quantities.parse(line.quantity)
    return found


def of(operation: Operation) -> dict[str, int]:
    """What an operation that was found again changes; nothing where it does not say so in numbers."""
    try:
        match operation.WhichOneof("body"):
            case "sale_recorded":
                return of_sale(operation.sale_recorded)
            case "stock_counted":
                count = operation.stock_counted
                return {count.product_id: quantities.parse(count.counted) - quantities.parse(count.expected)}
            case _:
                return {}
    except (GiposError, ValueError):
        return {}
