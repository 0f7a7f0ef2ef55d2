"""Giving back: how much money and stock a refund is, so that parts never add up to more than the sale."""

from __future__ import annotations

from collections.abc import Sequence

from cloud.inventory import movements
from cloud.inventory.movements import Change
from cloud.platform import checks
from cloud.platform.database import Transaction
from cloud.sales import sales
from cloud.sales.drafts import MAX_LINES
from gipos.v1.sales_pb2 import Refund, RefundLine, RefundSaleRequest, Sale, SaleLine, SaleStatus
from kernel import quantities
from kernel.errors import Invalid, NotRefundable, Violation
from kernel.event_types import SALE_REFUNDED
from kernel.ids import new_id
from kernel.money import half_up, rupiah


def left(line: SaleLine) -> int:
    """Thousandths of the line that were not given back yet."""
    return quantities.parse(line.quantity) - quantities.parse(line.refunded_quantity or "0")


def amount_of(line: SaleLine, quantity: int) -> int:
    """The money for so many more thousandths of a line.

    It is the difference of two rounded shares of the whole, so that any sequence of refunds ends at exactly the line's total.
    """
    sold = quantities.parse(line.quantity)
    before = sold - left(line)
    return half_up(line.total.amount * (before + quantity), sold) - half_up(line.total.amount * before, sold)


def planned(sale: Sale, wanted: Sequence[RefundLine]) -> dict[str, int]:
    """Line ids to thousandths that come back.

    Raises:
        Invalid: a line that is not in the sale, twice the same line, more than is left.
        NotRefundable: nothing is left.
    """
    lines = {line.id: line for line in sale.lines}
    if not wanted:
        plan = {line.id: left(line) for line in sale.lines if left(line) > 0}
        if not plan:
            raise NotRefundable(f"Sale {sale.id} was already given back in full.", sale_id=sale.id)
        return plan
    if len(wanted) > max(MAX_LINES, len(lines)):
        raise Invalid([Violation("lines", "TOO_MANY", f"Sale {sale.id} has {len(lines)} lines; these are {len(wanted)}.")])
    plan = {}
    wrong = []
    for index, item in enumerate(wanted):
        path = f"lines[{index}]"
        line = lines.get(item.line_id)
        if line is None:
            wrong.append(Violation(f"{path}.line_id", "NOT_FOUND", f"Sale {sale.id} has no line {item.line_id or '(empty)'}."))
            continue
        if line.id in plan:
            wrong.append(Violation(f"{path}.line_id", "DUPLICATE", f"Line {line.id} is named twice."))
            continue
        if item.quantity and (bad := list(checks.quantity(f"{path}.quantity", item.quantity, positive=True))):
            wrong += bad
            continue
        quantity = quantities.parse(item.quantity) if item.quantity else left(line)
        if not 0 < quantity <= left(line):
            message = f"Only {quantities.text(left(line))} of line {line.id} is left to give back."
            wrong.append(Violation(f"{path}.quantity", "OUT_OF_RANGE", message))
            continue
        plan[line.id] = quantity
    if wrong:
        raise Invalid(wrong)
    return plan


async def refund(tx: Transaction, request: RefundSaleRequest) -> Sale:
    """Gives back a sale, whole or in part; stock returns to its outlet.

    Raises:
        NotFound, Invalid, NotRefundable: as their names say.
    """
    if wrong := list(checks.text("reason", request.reason, 500)):
        raise Invalid(wrong)
    sale, version = await sales.find(tx.connection, tx.tenant_id, request.id, lock=True)
    plan = planned(sale, request.lines)
    given_back = Refund(id=new_id("ref"), reason=request.reason, amount=rupiah(0))
    given_back.create_time.FromDatetime(tx.now)
    changes = []
    for line in sale.lines:
        quantity = plan.get(line.id)
        if quantity is None:
            continue
        amount = amount_of(line, quantity)
        given_back.lines.add(line_id=line.id, quantity=quantities.text(quantity), amount=rupiah(amount))
        given_back.amount.amount += amount
        line.refunded_quantity = quantities.text(quantities.parse(line.refunded_quantity or "0") + quantity)
        note = f"refund {given_back.id}"
        changes.append(Change(sale.outlet_id, line.product_id, quantity, movements.REFUND, sale_id=sale.id, note=note))
    whole = all(left(line) == 0 for line in sale.lines)
    if whole:
        # Cash rounding belongs to the sale, not to a line: the last refund settles it.
        given_back.amount.amount += sale.rounding.amount
    sale.refunds.append(given_back)
    sale.refunded_total.CopyFrom(rupiah(sale.refunded_total.amount + given_back.amount.amount))
    sale.status = SaleStatus.SALE_STATUS_REFUNDED if whole else SaleStatus.SALE_STATUS_PARTIALLY_REFUNDED
    await sales.replace(tx, sale, version + 1)
    tx.publish(SALE_REFUNDED, sale, subject_id=sale.id, version=version + 1, outlet_id=sale.outlet_id)
    await movements.apply(tx, changes)
    return sale
