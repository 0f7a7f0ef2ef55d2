"""The open cart, so that a crash in the middle of a sale loses nothing. Prices stay as they were shown when scanned."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from edge.storage import facts
from edge.storage.columns import blob, whole
from gipos.v1.catalog_pb2 import Product


@dataclass(frozen=True)
class CartLine:
    """One product in the cart."""

    product: Product
    """As it was when it was last scanned."""
    quantity: int
    """Thousandths."""


def lines(connection: apsw.Connection) -> list[CartLine]:
    """The cart in the order in which products were first scanned."""
    rows = connection.execute("SELECT product, quantity FROM cart_lines ORDER BY place")
    return [CartLine(product=Product.FromString(blob(product)), quantity=whole(quantity)) for product, quantity in rows]


def put(connection: apsw.Connection, line: CartLine) -> None:
    """Adds a line, or replaces the one of the same product where it stands."""
    connection.execute(
        "INSERT INTO cart_lines (product_id, place, quantity, product) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (product_id) DO UPDATE SET quantity = excluded.quantity, product = excluded.product",
        (line.product.id, facts.advance(connection, facts.NEXT_PLACE), line.quantity, line.product.SerializeToString()),
    )


def remove(connection: apsw.Connection, product_id: str) -> bool:
    """Takes a product out; whether it was there."""
    connection.execute("DELETE FROM cart_lines WHERE product_id = ?", (product_id,))
    return connection.changes() > 0


def clear(connection: apsw.Connection) -> None:
    """Empties the cart."""
    connection.execute("DELETE FROM cart_lines")
