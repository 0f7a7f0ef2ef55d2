"""Whole messages in store.db that must outlive a broken replica: whose till this is, and the policy it sells under."""

from __future__ import annotations

import apsw

from edge.storage.columns import blob
from edge.storage.outlets import Identity
from gipos.edge.v1.link_pb2 import OfflinePolicy
from gipos.v1.accounts_pb2 import Outlet, Till

_POLICY = "offline_policy"
_IDENTITY = ("tenant_id", "outlet", "till")
NAMES = frozenset({_POLICY, *_IDENTITY})
"""Of all papers there are."""


def put_policy(connection: apsw.Connection, policy: OfflinePolicy) -> None:
    """Keeps the signed policy as it came."""
    _put(connection, _POLICY, policy.SerializeToString())


def find_policy(connection: apsw.Connection) -> OfflinePolicy | None:
    """The policy as it came; None before the first."""
    found = _find(connection, _POLICY)
    return None if found is None else OfflinePolicy.FromString(found)


def put_identity(connection: apsw.Connection, identity: Identity) -> None:
    """Keeps whose till this is."""
    _put(connection, "tenant_id", identity.tenant_id.encode())
    _put(connection, "outlet", identity.outlet.SerializeToString())
    _put(connection, "till", identity.till.SerializeToString())


def find_identity(connection: apsw.Connection) -> Identity | None:
    """Whose till this is; None before the first Welcome."""
    tenant_id, outlet, till = (_find(connection, name) for name in _IDENTITY)
    if tenant_id is None or outlet is None or till is None:
        return None
    return Identity(tenant_id=tenant_id.decode(), outlet=Outlet.FromString(outlet), till=Till.FromString(till))


def _put(connection: apsw.Connection, name: str, body: bytes) -> None:
    connection.execute(
        "INSERT INTO papers (name, body) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body", (name, body)
    )


def _find(connection: apsw.Connection, name: str) -> bytes | None:
    found = connection.execute("SELECT body FROM papers WHERE name = ?", (name,)).get
    return None if found is None else blob(found)
