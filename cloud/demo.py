"""The demo merchant: one tenant, two outlets, three tills, a test key and a webhook. Making it again changes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cloud.accounts import api_keys, outlets
from cloud.limits import plans
from cloud.platform.database import Database, Transaction
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


CONTRACT = plans.Plan("enterprise", None, 100_000, 1000)
"""What the demo merchant may use: enough that a benchmark measures the platform and not the limits."""


class StateDamaged(Exception):
    """The file with the demo merchant's keys cannot be read; the text says what to do."""


async def create(database: Database, state: Path, webhook_url: str) -> None:
    """Makes the merchant and writes its keys to the state file, readable by its owner only.

    The keys exist nowhere else, so the merchant that a state file names is kept; only its webhook follows the receiver's address.
    """
    made = await _existing(database, state)
    tenant_id = made["tenant_id"] if made else new_id("ten")
    async with database.transaction(tenant_id) as tx:
        if made is None:
            made = await _merchant(tx)
        # Agreed anew each time, so that the demo merchant of an older release can be measured as well.
        await plans.agree(tx, CONTRACT)
        if webhook_url and made.get("webhook_url") != webhook_url:
            if made.get("webhook_id"):
                await endpoints.delete(tx, made["webhook_id"])
            draft = Webhook(url=webhook_url, event_types=["*"], description="Demo receiver")
            webhook = await endpoints.create(tx, draft, private_addresses=True)
            made |= {"webhook_id": webhook.id, "webhook_secret": webhook.secret, "webhook_url": webhook_url}
        # Written inside the transaction: keys that nobody knows must not be committed.
        _write_private(state, json.dumps(made, indent=2))


async def _existing(database: Database, state: Path) -> dict[str, Any] | None:
    made = _read(state)
    if made is None:
        return None
    async with database.across_tenants() as connection:
        found = await connection.execute(sa.text("SELECT 1 FROM tenants WHERE tenant_id = :id"), {"id": made["tenant_id"]})
        return made if found.scalar_one_or_none() is not None else None


def _read(state: Path) -> dict[str, Any] | None:
    try:
        made: dict[str, Any] = json.loads(state.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StateDamaged(
            f"The file {state} with the demo merchant's keys is damaged. Bring it back from a backup, or remove it to make a new "
            "demo merchant; the data of the old one stays in the database, but nobody has its keys."
        ) from error
    return made


async def _merchant(tx: Transaction) -> dict[str, Any]:
    await outlets.create_tenant(tx, "Toko Contoh", TaxClass.TAX_CLASS_PPN)
    made = []
    tills: list[dict[str, Any]] = []
    for draft, names in _OUTLETS:
        outlet = await outlets.create(tx, draft)
        made.append({"id": outlet.id, "name": outlet.name})
        for number, name in enumerate(names, start=1):
            token = new_key(api_keys.DEVICE_PREFIX)
            till = await outlets.add_till(tx, outlet.id, name, number, token)
            # Numbered through the whole merchant here: the one who starts the tills gives each its own ports.
            tills.append({"id": till.id, "outlet_id": outlet.id, "token": token, "number": len(tills) + 1, "name": name})
    return {
        "tenant_id": tx.tenant_id,
        "api_key": await api_keys.create(tx, "Demo", mode="test"),
        "outlets": made,
        "tills": tills,
        "webhook_id": "",
        "webhook_secret": "",
        "webhook_url": "",
    }


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
