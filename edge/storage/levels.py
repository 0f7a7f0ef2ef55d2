"""Stock levels of the till's outlet as the cloud sent them. Read here; written only by the lanes."""

from __future__ import annotations

from collections.abc import Iterable

import apsw

from edge.storage.columns import blob
from gipos.v1.inventory_pb2 import Level


def put(connection: apsw.Connection, level: Level) -> None:
    """Writes a level."""
    connection.execute(
        "INSERT INTO levels (outlet_id, product_id, body) VALUES (?, ?, ?)"
        " ON CONFLICT (outlet_id, product_id) DO UPDATE SET body = excluded.body",
        (level.outlet_id, level.product_id, level.SerializeToString()),
    )


def clear(connection: apsw.Connection, outlet_id: str) -> None:
    """Forgets an outlet's levels, before a snapshot takes their place."""
    connection.execute("DELETE FROM levels WHERE outlet_id = ?", (outlet_id,))


def of_products(connection: apsw.Connection, outlet_id: str, product_ids: Iterable[str]) -> dict[str, Level]:
    """The levels of these products; products that never had stock here are absent."""
    found: dict[str, Level] = {}
    for product_id in product_ids:
        body = connection.execute("SELECT body FROM levels WHERE outlet_id = ? AND product_id = ?", (outlet_id, product_id)).get
        if body is not None:
            found[product_id] = Level.FromString(blob(body))
    return found
