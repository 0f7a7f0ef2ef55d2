"""API keys and device tokens: made once, shown once, stored as a fingerprint."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from cloud.accounts.tables import api_keys
from cloud.platform.database import Transaction
from kernel.ids import new_id
from kernel.signatures import fingerprint, new_key

LIVE_PREFIX = "gipos_live_"
TEST_PREFIX = "gipos_test_"
DEVICE_PREFIX = "gipos_device_"

RESOURCES = ("products", "inventory", "customers", "sales", "events", "webhooks", "outlets", "api_keys")
ALL_SCOPES = (
    *(f"{resource}:{action}" for resource in RESOURCES for action in ("read", "write")),
    "customers:pii",
    "usage:read",
    "audit:read",
)


async def create(tx: Transaction, name: str, *, mode: str = "test", scopes: Sequence[str] = ALL_SCOPES) -> str:
    """Makes a key and returns it. This is the only moment at which it is known."""
    key = new_key(LIVE_PREFIX if mode == "live" else TEST_PREFIX)
    await tx.connection.execute(
        sa.insert(api_keys).values(
            tenant_id=tx.tenant_id,
            id=new_id("key"),
            name=name,
            mode=mode,
            fingerprint=fingerprint(key),
            scopes=list(scopes),
        )
    )
    return key
