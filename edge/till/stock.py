"""Stock as the till shows it: what the cloud last said plus what this till sold and the cloud has not counted in yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.storage import lanes, levels, outbox, outlets, products
from edge.storage.folder import Storage
from edge.till.refusals import TillNotReady
from kernel import quantities
from kernel.errors import NotFound


@dataclass(frozen=True)
class ShownStock:
    """The stock of one product in this outlet, in thousandths."""

    product_id: str
    outlet_id: str
    on_hand: int
    reserved: int
    pending: int
    """The part of on_hand that only this till knows of so far."""


async def shown(storage: Storage, product_ids: Sequence[str]) -> dict[str, ShownStock]:
    """The stock of these products. One that never had stock here counts from 0.

    The replica is read before the outbox: an operation made in between is still above the watermark and is counted once.

    Raises:
        TillNotReady: the cloud has never said which outlet this is.
    """
    identity = await storage.replica.read(outlets.find)
    if identity is None:
        raise TillNotReady(
            "Kasir ini belum disiapkan oleh server. Sambungkan ke internet sekali."
            " / This till has not been set up by the cloud yet. Connect it to the network once."
        )
    outlet_id = identity.outlet.id
    position, known = await storage.replica.read(
        lambda connection: (lanes.position(connection, outlet_id), levels.of_products(connection, outlet_id, product_ids))
    )
    watermark = position.op_watermark if position else None
    pending = await storage.store.read(lambda connection: outbox.pending(connection, product_ids, watermark))
    found = {}
    for product_id in product_ids:
        level = known.get(product_id)
        on_hand = quantities.parse(level.on_hand or "0") if level else 0
        found[product_id] = ShownStock(
            product_id=product_id,
            outlet_id=outlet_id,
            on_hand=on_hand + pending[product_id],
            reserved=quantities.parse(level.reserved or "0") if level else 0,
            pending=pending[product_id],
        )
    return found


async def of_product(storage: Storage, product_id: str) -> ShownStock:
    """The stock of one product.

    Raises:
        NotFound: there is no such product.
        TillNotReady: the cloud has never said which outlet this is.
    """
    if await storage.replica.read(lambda connection: products.find(connection, product_id)) is None:
        raise NotFound(f"There is no product {product_id}.", product_id=product_id)
    return (await shown(storage, [product_id]))[product_id]
