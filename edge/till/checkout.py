"""The checkout: one transaction that makes the sale, its number, its stock deltas, its upload and its receipt.

Only what has been committed is printed. There is nothing in between that a power cut could leave half done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import apsw

from edge.storage import carts, facts, outbox, print_jobs
from edge.storage import sales as stored_sales
from edge.storage.folder import Storage
from edge.storage.outlets import Identity
from edge.till import sales
from edge.till.cart import identify
from edge.till.receipts import Receipts, new_row
from edge.till.refusals import CartEmpty
from edge.till.requests import CheckoutRequest
from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.sales_pb2 import Sale
from kernel import business_days, quantities
from kernel.errors import IdempotencyMismatch


@dataclass(frozen=True)
class CheckedOut:
    """What a checkout made, or had made before under the same key."""

    sale: Sale
    receipt_key: str
    repeated: bool


class Checkout:
    """Makes sales."""

    def __init__(self, storage: Storage, receipts: Receipts, ring: Callable[[], None]) -> None:
        """Prepares the checkout.

        Args:
            storage: the till's files.
            receipts: prints what was committed.
            ring: tells the link that the outbox has something new.
        """
        self._storage = storage
        self._receipts = receipts
        self._ring = ring

    async def complete(self, request: CheckoutRequest, request_key: str | None) -> CheckedOut:
        """Sells what is in the cart.

        The same key with the same request returns the same sale, however often and whenever it comes.

        Raises:
            CartEmpty: there is nothing to sell.
            IdempotencyMismatch: the key belongs to another checkout.
            Invalid: the tenders do not cover the total, or the discounts exceed the goods.
            StorageFull: the disk is full; nothing was sold.
            TillNotReady: the cloud has never said whose till this is.
        """
        identity = await identify(self._storage)
        fingerprint = hashlib.sha256(repr(request).encode()).digest()
        done = await self._storage.store.write(
            lambda connection: self._complete(connection, request, request_key, fingerprint, identity)
        )
        if not done.repeated:
            self._ring()
        # Also for a repeat: the receipt may have been committed without being taken up. It is never printed twice.
        await self._receipts.take_up(done.receipt_key, late=done.repeated)
        return done

    def _complete(
        self,
        connection: apsw.Connection,
        request: CheckoutRequest,
        request_key: str | None,
        fingerprint: bytes,
        identity: Identity,
    ) -> CheckedOut:
        if request_key is not None:
            made = stored_sales.find_by_request(connection, request_key)
            if made is not None:
                recorded, known = made
                if known != fingerprint:
                    raise IdempotencyMismatch(
                        f"The key {request_key} was used for receipt {recorded.sale.number} with other content. Use a new key.",
                        request_key=request_key,
                    )
                return CheckedOut(recorded.sale, print_jobs.of_sale(connection, recorded.sale.id)[0].key, repeated=True)
        lines = carts.lines(connection)
        if not lines:
            raise CartEmpty("The cart is empty. Scan something first.")
        now, now_ms = business_days.now(), self._storage.clock()
        sale = sales.build(lines, request, identity, now)
        sale.number = sales.receipt_number(identity, sale, facts.advance(connection, facts.LAST_RECEIPT_SEQ))
        operation = Operation(op_id=sale.id, sale_recorded=sale)
        operation.occurred_time.FromDatetime(now)
        outbox.append(connection, operation, _deltas(sale), now_ms)
        stored_sales.insert(connection, sale, sold_at_ms=now_ms, request_key=request_key, request_hash=fingerprint)
        job = new_row(sale, copy=1, now_ms=now_ms, has_printer=self._receipts.has_printer)
        print_jobs.insert(connection, job)
        carts.clear(connection)
        return CheckedOut(sale, job.key, repeated=False)


def _deltas(sale: Sale) -> dict[str, int]:
    """What the sale takes from the stock, in thousandths by product."""
    deltas: dict[str, int] = {}
    for line in sale.lines:
        deltas[line.product_id] = deltas.get(line.product_id, 0) - quantities.parse(line.quantity)
    return deltas
