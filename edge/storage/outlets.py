"""Whose till this is: merchant, outlet and till as the cloud last said. Works without the network once it was said."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from edge.storage.columns import blob
from gipos.v1.accounts_pb2 import Outlet, Till


@dataclass(frozen=True)
class Identity:
    """Merchant, outlet and till."""

    tenant_id: str
    outlet: Outlet
    till: Till


def put(connection: apsw.Connection, identity: Identity) -> None:
    """Replaces what was known."""
    values = {
        "tenant_id": identity.tenant_id.encode(),
        "outlet": identity.outlet.SerializeToString(),
        "till": identity.till.SerializeToString(),
    }
    connection.executemany(
        "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        list(values.items()),
    )


def forget(connection: apsw.Connection) -> None:
    """Waits for the cloud to say it again."""
    connection.execute("DELETE FROM facts WHERE name IN ('tenant_id', 'outlet', 'till')")


def find(connection: apsw.Connection) -> Identity | None:
    """What the cloud last said; None before the first Welcome."""
    rows = connection.execute("SELECT name, value FROM facts WHERE name IN ('tenant_id', 'outlet', 'till')").fetchall()
    values = {str(name): blob(value) for name, value in rows}
    if len(values) < 3:
        return None
    return Identity(
        tenant_id=values["tenant_id"].decode(),
        outlet=Outlet.FromString(values["outlet"]),
        till=Till.FromString(values["till"]),
    )
