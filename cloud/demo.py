"""The demo merchant: one tenant, two outlets, three tills, a test key and a webhook. Making it again changes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import sqlalchemy as sa

from cloud.accounts import api_keys, outlets
from cloud.platform.database import Database
from cloud.webhooks import endpoints
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.catalog_pb2 import TaxClass
from gipos.v1.webhooks_pb2 import Webhook
from kernel.ids import new_id
from kernel.signatures import new_key

_OUTLETS = (
    (
        Outlet(
            name="Toko Contoh Kemang",
            code="KMG",
            address="Jl. Kemang Raya 10, Jakarta",
            time_zone="Asia/Jakarta",
            tax_number="0012345678012000",
            prices_include_tax=True,
            receipt_footer="Terima kasih",
        ),
        ("Kasa 1", "Kasa 2"),
    ),
    (
        Outlet(
            name="Toko Contoh Ubud",
            code="UBD",
            address="Jl. Raya Ubud 8, Gianyar",
            time_zone="Asia/Makassar",
            tax_number="0012345678012000",
            prices_include_tax=True,
            receipt_footer="Terima kasih",
        ),
        ("Kasa 1",),
    ),
)


async def create(database: Database, state: Path, webhook_url: str) -> None:  # noqa: ASYNC240 (one small file, once)
    """Makes the merchant and writes its keys to the state file, readable by its owner only.

    The keys exist nowhere else, so a state file that names an existing merchant is left as it is.
    """
    if state.exists():
        tenant_id = json.loads(state.read_text())["tenant_id"]
        async with database.across_tenants() as connection:
            found = await connection.execute(sa.text("SELECT 1 FROM tenants WHERE tenant_id = :id"), {"id": tenant_id})
            if found.scalar_one_or_none() is not None:
                return
    tenant_id = new_id("ten")
    tills = []
    made = []
    async with database.transaction(tenant_id) as tx:
        await outlets.create_tenant(tx, "Toko Contoh", TaxClass.TAX_CLASS_PPN)
        for draft, names in _OUTLETS:
            outlet = await outlets.create(tx, draft)
            made.append({"id": outlet.id, "name": outlet.name})
            for number, name in enumerate(names, start=1):
                token = new_key(api_keys.DEVICE_PREFIX)
                till = await outlets.add_till(tx, outlet.id, name, number, token)
                tills.append({"id": till.id, "outlet_id": outlet.id, "token": token, "number": number, "name": name})
        key = await api_keys.create(tx, "Demo", mode="test")
        webhook = None
        if webhook_url:
            webhook = await endpoints.create(
                tx, Webhook(url=webhook_url, event_types=["*"], description="Demo receiver"), private_addresses=True
            )
        # Written inside the transaction: keys that nobody knows must not be committed.
        text = json.dumps(
            {
                "tenant_id": tenant_id,
                "api_key": key,
                "outlets": made,
                "tills": tills,
                "webhook_id": webhook.id if webhook else "",
                "webhook_secret": webhook.secret if webhook else "",
            },
            indent=2,
        )
        _write_private(state, text)


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
