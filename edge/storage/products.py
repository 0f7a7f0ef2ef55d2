"""The outlet's catalogue as the cloud sent it. Read here; written only by the lanes."""

from __future__ import annotations

import apsw

from edge.storage.columns import blob, whole
from gipos.v1.catalog_pb2 import Product
from kernel import barcodes


def put(connection: apsw.Connection, product: Product, seq: int) -> None:
    """Writes a product as it is at this place of the log. An archived one keeps its row (old receipts) but frees its barcodes."""
    archived = product.HasField("delete_time")
    sellable = not archived and (product.active or not product.HasField("active"))
    connection.execute(
        "INSERT INTO products (id, seq, name, search, sellable, archived, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, name = excluded.name, search = excluded.search,"
        " sellable = excluded.sellable, archived = excluded.archived, body = excluded.body",
        (product.id, seq, product.name, _searchable(product), int(sellable), int(archived), product.SerializeToString()),
    )
    connection.execute("DELETE FROM barcodes WHERE product_id = ?", (product.id,))
    if not archived:
        codes = {barcodes.normal_form(code) for code in product.barcodes}
        connection.executemany("INSERT INTO barcodes (code, product_id) VALUES (?, ?)", [(code, product.id) for code in codes])


def clear(connection: apsw.Connection) -> None:
    """Forgets the catalogue, before a snapshot takes its place."""
    connection.execute("DELETE FROM barcodes")
    connection.execute("DELETE FROM products")


def find(connection: apsw.Connection, product_id: str) -> Product | None:
    """The product with this id, archived or not."""
    body = connection.execute("SELECT body FROM products WHERE id = ?", (product_id,)).get
    return None if body is None else Product.FromString(blob(body))


def find_by_barcode(connection: apsw.Connection, code: str) -> Product | None:
    """The product with this code, in any spelling of the code. Should two claim it, the one that can be sold, then the newest."""
    body = connection.execute(
        "SELECT p.body FROM barcodes b JOIN products p ON p.id = b.product_id WHERE b.code = ?"
        " ORDER BY p.sellable DESC, p.seq DESC LIMIT 1",
        (barcodes.normal_form(code),),
    ).get
    return None if body is None else Product.FromString(blob(body))


def search(connection: apsw.Connection, words: list[str], limit: int) -> list[Product]:
    """Products that are not archived and whose name or SKU has words that begin like all of these, by name."""
    conditions = "".join(" AND instr(search, ?) > 0" for _ in words)
    rows = connection.execute(
        f"SELECT body FROM products WHERE archived = 0{conditions} ORDER BY name, id LIMIT ?",  # noqa: S608 (only placeholders)
        (*(" " + word.casefold() for word in words), limit),
    )
    return [Product.FromString(blob(body)) for (body,) in rows]


def count(connection: apsw.Connection) -> int:
    """How many products can be sold."""
    return whole(connection.execute("SELECT count(*) FROM products WHERE sellable = 1").get)


def is_sellable(product: Product) -> bool:
    """Whether the product may be put into a cart."""
    return not product.HasField("delete_time") and (product.active or not product.HasField("active"))


def _searchable(product: Product) -> str:
    return " " + " ".join(f"{product.name} {product.sku}".casefold().split())
