"""The open cart: scan, change, remove, clear. It is kept in store.db, so it is still there after a crash.

A till whose catalogue is not there yet (a broken replica, a first start) sells by typed name and price.
"""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from edge.storage import carts, lanes, outlets, products
from edge.storage.carts import CartLine
from edge.storage.folder import Storage
from edge.till import edits, sales
from edge.till.refusals import CatalogueComplete, ProductNotForSale, TillNotReady
from edge.till.requests import CountRequest, ScanRequest
from gipos.v1.catalog_pb2 import Product
from gipos.v1.sales_pb2 import Sale
from kernel import barcodes, ids, money, quantities
from kernel.errors import Invalid, NotFound, Violation

PAYMENT_QR = (
    "is a payment QR (QRIS), not a product code. Scan the barcode on the goods;"
    " a payment QR is for the customer's phone, when paying"
)

TYPED = "typ"
"""Begins the ids of products that exist only in one cart: the cloud marks their sales for the owner."""


@dataclass(frozen=True)
class CartView:
    """What the screen shows."""

    sale: Sale
    """The cart priced as a sale that is not made yet."""
    lines: tuple[CartLine, ...]


async def identify(storage: Storage) -> outlets.Identity:
    """Whose till this is.

    Raises:
        TillNotReady: the cloud has never said.
    """
    identity = await storage.replica.read(outlets.find)
    if identity is None:
        raise TillNotReady(
            "Kasir ini belum disiapkan oleh server. Sambungkan ke internet sekali; setelah itu bisa jualan tanpa internet."
            " / This till has not been set up by the cloud yet. Connect it to the network once; after that it also sells without."
        )
    return identity


class Cart:
    """The one open cart of this till."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def view(self) -> CartView:
        """The cart as it is.

        Raises:
            TillNotReady: the cloud has never said whose till this is.
        """
        identity = await identify(self._storage)
        lines = await self._storage.store.read(carts.lines)
        return CartView(sales.preview(lines, identity, self._storage.clock.now()), tuple(lines))

    async def scan(self, request: ScanRequest) -> CartView:
        """Adds a product; scanned again, its quantities add up and its price becomes the present one.

        Raises:
            Invalid: the code is no product code, or the cart cannot hold so much.
            NotFound: nobody has this code.
            ProductNotForSale: the product is archived or switched off.
            CatalogueComplete: a price was typed for a till that has its catalogue.
            StorageFull: the disk is full; nothing is begun that could not be finished.
            TillNotReady: the cloud has never said whose till this is.
        """
        await identify(self._storage)
        product = await find_product(self._storage, request) if request.price is None else await self._typed(request)
        if not products.is_sellable(product):
            raise ProductNotForSale(
                f"{product.name} tidak dijual: dinonaktifkan atau diarsipkan di katalog."
                f" / {product.name} is not for sale: it was switched off or archived in the catalogue.",
                product_id=product.id,
            )

        def add(connection: apsw.Connection) -> None:
            lines = carts.lines(connection)
            if not lines:
                self._storage.space.check_beginning()
            before = next((line.quantity for line in lines if line.product.id == product.id), None)
            if before is None and len(lines) >= sales.MAX_LINES:
                raise Invalid([Violation("barcode", "TOO_MANY", f"does not fit: a sale has at most {sales.MAX_LINES} lines")])
            _put(connection, CartLine(product, (before or 0) + request.quantity))

        await self._storage.store.write(add)
        return await self.view()

    async def change(self, product_id: str, quantity: int) -> CartView:
        """Sets how much of a product is in the cart (thousandths).

        Raises:
            Invalid: the cart cannot hold so much.
            NotFound: the product is not in the cart.
        """

        def put(connection: apsw.Connection) -> None:
            line = next((line for line in carts.lines(connection) if line.product.id == product_id), None)
            if line is None:
                raise NotFound(f"Product {product_id} is not in the cart.", product_id=product_id)
            _put(connection, CartLine(line.product, quantity))

        await self._storage.store.write(put)
        return await self.view()

    async def remove(self, product_id: str) -> CartView:
        """Takes a product out.

        Raises:
            NotFound: the product is not in the cart.
        """
        if not await self._storage.store.write(lambda connection: carts.remove(connection, product_id)):
            raise NotFound(f"Product {product_id} is not in the cart.", product_id=product_id)
        return await self.view()

    async def clear(self) -> CartView:
        """Empties the cart."""
        await self._storage.store.write(carts.clear)
        return await self.view()

    async def _typed(self, request: ScanRequest) -> Product:
        place = await self._storage.replica.read(lambda connection: lanes.position(connection, lanes.TENANT_LANE))
        if place is not None:
            raise CatalogueComplete(
                "Harga hanya bisa diketik selama katalog belum lengkap. Pindai barang atau cari namanya."
                " / A price can only be typed while the catalogue is incomplete. Scan the goods or search by name."
            )
        product = Product(id=ids.new_id(TYPED), name=request.name, price=money.rupiah(request.price or 0), unit="pcs")
        if request.barcode:
            product.barcodes.append(request.barcode)
        return product


async def find_product(storage: Storage, request: ScanRequest | CountRequest) -> Product:
    """The product a request names, with this till's own changes.

    Raises:
        Invalid: the code is no product code.
        NotFound: nobody has this code, or there is no such product.
    """
    if request.product_id:
        product = await storage.replica.read(lambda connection: products.find(connection, request.product_id))
        if product is None:
            raise NotFound(f"There is no product {request.product_id}.", product_id=request.product_id)
        return (await edits.overlaid(storage, [product]))[0]
    if request.barcode.startswith(barcodes.QRIS_PREFIX):
        raise Invalid([Violation("barcode", "PAYMENT_QR", PAYMENT_QR)])
    product = await storage.replica.read(lambda connection: products.find_by_barcode(connection, request.barcode))
    if product is not None:
        return (await edits.overlaid(storage, [product]))[0]
    product = await edits.find_by_barcode(storage, request.barcode)
    if product is not None:
        return product
    problem = barcodes.problem(request.barcode)
    if problem is not None:
        raise Invalid([Violation("barcode", "INVALID_BARCODE", problem)])
    raise NotFound(
        f"Barang belum terdaftar: {request.barcode} / No product for sale has the barcode {request.barcode}.",
        barcode=request.barcode,
    )


def _put(connection: apsw.Connection, line: CartLine) -> None:
    problem = sales.line_problem(line)
    if problem is None and line.quantity > quantities.LIMIT:
        problem = f"must be at most {quantities.text(quantities.LIMIT)}"
    if problem is not None:
        raise Invalid([Violation("quantity", "OUT_OF_RANGE", problem)])
    carts.put(connection, line)
