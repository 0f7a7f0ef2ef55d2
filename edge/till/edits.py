"""Changes of products made at the till: queued like sales, and shown here at once until the cloud has judged them.

The cloud may refuse a change field by field; what it then sends down is what counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import apsw

from edge.storage import lanes, outbox, outlets, products
from edge.storage.folder import Storage
from edge.till.requests import EditRequest
from gipos.edge.v1.link_pb2 import Operation, ProductEdited
from gipos.v1.catalog_pb2 import Product
from kernel import barcodes, ids, money
from kernel.errors import NotFound

LINGER_MS = 60_000
"""So long an acknowledged change is still shown: its effect comes down after the acknowledgement."""


async def overlaid(storage: Storage, found: Sequence[Product]) -> list[Product]:
    """The products with this till's own changes, as far as the catalogue cannot contain them yet."""
    since_ms = storage.clock() - LINGER_MS

    def read(connection: apsw.Connection) -> list[Product]:
        return [_overlay(product, outbox.edits(connection, product.id, since_ms)) for product in found]

    return await storage.store.read(read)


async def find_by_barcode(storage: Storage, code: str) -> Product | None:
    """The product that was given this code at this till and whose change has not come down yet."""
    wanted = barcodes.normal_form(code)
    since_ms = storage.clock() - LINGER_MS
    changed = await storage.store.read(lambda connection: outbox.edited_products(connection, since_ms))
    for product_id in changed:
        product = await storage.replica.read(partial(products.find, product_id=product_id))
        if product is not None:
            (shown,) = await overlaid(storage, [product])
            if wanted in {barcodes.normal_form(one) for one in shown.barcodes}:
                return shown
    return None


async def edit(storage: Storage, product_id: str, request: EditRequest) -> Product:
    """Changes a product and returns it as this till shows it now.

    Raises:
        NotFound: there is no such product.
        StorageFull: the disk is full; nothing was changed.
    """
    storage.space.check_beginning()
    product, identity, places = await storage.replica.read(
        lambda connection: (products.find(connection, product_id), outlets.find(connection), lanes.positions(connection))
    )
    if product is None or product.HasField("delete_time"):
        raise NotFound(f"There is no product {product_id}.", product_id=product_id)
    edited = ProductEdited(product=_patch(product_id, request), base_version=version(product))
    if (catalogue := places.get(lanes.TENANT_LANE)) is not None:
        edited.base_epoch = catalogue.epoch
    edited.fields.extend(name for name in ("name", "price", "barcodes", "active") if getattr(request, name) is not None)
    place = places.get(identity.outlet.id) if identity is not None else None
    operation = Operation(op_id=ids.new_id("ope"), product_edited=edited, seen_seq=place.seq if place else 0)
    operation.seen_epoch = place.epoch if place else 0

    def append(connection: apsw.Connection) -> None:
        reading = storage.clock.reading()
        storage.clock.save(connection)
        operation.clock.CopyFrom(reading.to_message())
        operation.occurred_time.FromMilliseconds(reading.now_ms)
        outbox.append(connection, operation, {}, reading.now_ms)

    await storage.store.write(append)
    return (await overlaid(storage, [product]))[0]


def version(product: Product) -> int:
    """The version of a product; its etag is that number."""
    return int(product.etag) if product.etag.isdigit() else 0


def _patch(product_id: str, request: EditRequest) -> Product:
    patch = Product(id=product_id)
    if request.name is not None:
        patch.name = request.name
    if request.price is not None:
        patch.price.CopyFrom(money.rupiah(request.price))
    if request.barcodes is not None:
        patch.barcodes.extend(request.barcodes)
    if request.active is not None:
        patch.active = request.active
    return patch


def _overlay(product: Product, changes: Sequence[tuple[ProductEdited, bool]]) -> Product:
    shown = Product()
    shown.CopyFrom(product)
    for change, acknowledged in changes:
        if acknowledged and version(product) > change.base_version:
            continue  # the catalogue has moved on; it contains this change or the cloud's reasons against it
        for name in change.fields:
            match name:
                case "name":
                    shown.name = change.product.name
                case "price":
                    shown.price.CopyFrom(change.product.price)
                case "barcodes":
                    del shown.barcodes[:]
                    shown.barcodes.extend(change.product.barcodes)
                case "active":
                    shown.active = change.product.active
    return shown
