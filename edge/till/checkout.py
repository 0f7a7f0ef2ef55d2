"""The checkout: one transaction that makes the sale, its number, its stock deltas, its upload and its receipt.

Only what has been committed is printed. There is nothing in between that a power cut could leave half done. A sale the owner's
offline rules or the disk do not allow is refused before anything is stored, never after the customer has a receipt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import apsw

from edge.storage import carts, deltas, facts, lanes, outbox, print_jobs
from edge.storage import sales as stored_sales
from edge.storage.clocks import moment
from edge.storage.folder import Storage
from edge.storage.outlets import Identity
from edge.till import limits, remarks, sales
from edge.till.cart import TYPED, identify
from edge.till.receipts import Receipts, new_row
from edge.till.refusals import CartEmpty, OfflineLimitReached
from edge.till.requests import CheckoutRequest
from edge.till.supervisors import Supervisors
from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.sales_pb2 import Sale
from kernel.errors import IdempotencyMismatch, Violation


@dataclass(frozen=True)
class CheckedOut:
    """What a checkout made, or had made before under the same key."""

    sale: Sale
    receipt_key: str
    repeated: bool


class Checkout:
    """Makes sales."""

    def __init__(
        self,
        storage: Storage,
        receipts: Receipts,
        ring: Callable[[], None],
        *,
        is_online: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepares the checkout.

        Args:
            storage: the till's files.
            receipts: prints what was committed.
            ring: tells the link that the outbox has something new.
            is_online: whether the link is open.
        """
        self._storage = storage
        self._receipts = receipts
        self._ring = ring
        self._is_online = is_online
        self._supervisors = Supervisors(storage)

    async def complete(self, request: CheckoutRequest, request_key: str | None) -> CheckedOut:
        """Sells what is in the cart.

        The same key with the same request returns the same sale, however often and whenever it comes.

        Raises:
            CartEmpty: there is nothing to sell.
            IdempotencyMismatch: the key belongs to another checkout.
            Invalid: the tenders do not cover the total, or the discounts exceed the goods.
            OfflineLimitReached: the owner's rules want the cloud, or a supervisor, first; nothing was sold.
            StorageFull: the disk is full; nothing was sold.
            TillNotReady: the cloud has never said whose till this is.
        """
        identity = await identify(self._storage)
        place = await self._storage.replica.read(lambda connection: lanes.position(connection, identity.outlet.id))
        seen_seq = place.seq if place else 0
        fingerprint = hashlib.sha256(repr(request).encode()).digest()
        try:
            done = await self._storage.store.write(
                lambda connection: self._complete(connection, request, request_key, fingerprint, identity, seen_seq)
            )
        except OfflineLimitReached:
            await self._storage.store.write(lambda connection: remarks.add(connection, remarks.REFUSED, self._storage.clock()))
            raise
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
        seen_seq: int,
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
            raise CartEmpty("Keranjang kosong. Pindai barang dulu. / The cart is empty. Scan something first.")
        self._storage.space.check_finishing()
        reading = self._storage.clock.reading()
        now, now_ms = moment(reading.now_ms), reading.now_ms
        sale = sales.build(lines, request, identity, now)
        own = self._judge(connection, sale)
        if any(line.product.id.startswith(f"{TYPED}_") for line in lines):
            own.append(remarks.PRICE_TYPED)
        remarks.attach(connection, sale, sales.time_zone(identity), *own)
        sale.number = sales.receipt_number(identity, sale, facts.advance(connection, facts.LAST_RECEIPT_SEQ))
        operation = Operation(op_id=sale.id, sale_recorded=sale, clock=reading.to_message(), seen_seq=seen_seq)
        operation.occurred_time.FromMilliseconds(now_ms)
        outbox.append(connection, operation, deltas.of_sale(sale), now_ms)
        stored_sales.insert(connection, sale, sold_at_ms=now_ms, request_key=request_key, request_hash=fingerprint)
        job = new_row(sale, copy=1, now_ms=now_ms, has_printer=self._receipts.has_printer)
        print_jobs.insert(connection, job)
        carts.clear(connection)
        self._storage.clock.save(connection)
        return CheckedOut(sale, job.key, repeated=False)

    async def standing(self) -> limits.Standing:
        """How long and with how much the till is on its own."""
        return await self._storage.store.read(self._standing)

    def _standing(self, connection: apsw.Connection) -> limits.Standing:
        fresh = outbox.fresh(connection)
        return limits.Standing(self._storage.clock.silent_ms(), fresh.sales, fresh.amount, is_online=self._is_online())

    def _judge(self, connection: apsw.Connection, sale: Sale) -> list[str]:
        """What the owner should know of a sale that may be made.

        Raises:
            OfflineLimitReached: it may not.
        """
        rules, standing = self._storage.rules, self._standing(connection)
        refusals = limits.refusals(rules, standing, sale)
        if refusals and not self._supervisors.is_permitted(connection):
            raise OfflineLimitReached(
                limits.refusal_text(rules, refusals),
                [Violation("tenders" if one.limit == limits.TENDERS else "", one.limit.upper(), one.text) for one in refusals],
            )
        return [remarks.OVER_LIMIT] if refusals or limits.passed(rules, standing) else []
