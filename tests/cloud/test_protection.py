"""A database of the release before, with people in clear, as it is opened by this one."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import create_async_engine

from cloud import protection
from cloud.customers import customers
from cloud.platform import schema
from cloud.platform.database import driver_url
from cloud.platform.sealing import keys_of
from cloud.settings import Settings
from cloud.webhooks import endpoints
from gipos.v1.catalog_pb2 import Product
from gipos.v1.customers_pb2 import Customer
from gipos.v1.webhooks_pb2 import Webhook

SITI = Customer(id="cus_1", name="Siti Rahmawati", phone="+6281234567890", note="Alergi kacang", etag="1")
PLAIN = (
    """
    INSERT INTO customers (tenant_id, id, name, phone, email, address, note, external_id, created_at, updated_at)
    VALUES ('ten_a', 'cus_1', 'Siti Rahmawati', '+6281234567890', '', '', 'Alergi kacang', 'A-1', now(), now())
    """,
    """
    INSERT INTO webhooks (tenant_id, id, url, event_types, description, secret, created_at)
    VALUES ('ten_a', 'whk_1', 'https://contoh.id/hook', '{*}', '', 'whsec_cmFoYXNpYQ==', now())
    """,
)
HOOK = Webhook(id="whk_1", url="https://contoh.id/hook", secret="whsec_cmFoYXNpYQ==")


def _upgrade(connection: sa.Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def _old_database(url: str) -> None:
    engine = create_async_engine(driver_url(url))
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade, "0004")
        for text in PLAIN:
            await connection.execute(sa.text(text))
        event = sa.text(
            "INSERT INTO events (tenant_id, lane, seq, id, type, subject_id, version, outlet_id, body, occurred_at) "
            "VALUES ('ten_a', 'tenant', :seq, :id, :type, 'x', 1, '', :body, now())"
        )
        product = Product(id="prd_1", name="Siti")  # a product may be called anything
        await connection.execute(event, {"seq": 1, "id": "evt_1", "type": "customer.created", "body": SITI.SerializeToString()})
        await connection.execute(event, {"seq": 2, "id": "evt_2", "type": "product.created", "body": product.SerializeToString()})
        key = sa.text(
            "INSERT INTO idempotency_keys (tenant_id, method, key, fingerprint, answer) VALUES ('ten_a', :m, 'k', '', :body)"
        )
        await connection.execute(key, {"m": "CreateCustomer", "body": SITI.SerializeToString()})
        await connection.execute(key, {"m": "CreateWebhook", "body": HOOK.SerializeToString()})
    await engine.dispose()


async def test_what_was_in_clear_is_sealed_or_masked_and_still_works(postgres_url: str, tmp_path: Path) -> None:
    admin = await asyncpg.connect(postgres_url.replace("/gipos?", "/postgres?"))
    await admin.execute("CREATE DATABASE from_before")
    url = postgres_url.replace("/gipos?", "/from_before?")
    try:
        await _old_database(url)
        settings = Settings(data_dir=tmp_path / "data")
        for _ in range(2):  # the second start finds nothing to do
            async with protection.opened(url, settings, connections=2) as (database, _):
                async with database.reading("ten_a") as connection:
                    siti = await customers.find(connection, "ten_a", "cus_1")
                    keys = await keys_of(connection, "ten_a")
                assert (siti.name, siti.phone, siti.note, siti.external_id) == (
                    *("Siti Rahmawati", "+6281234567890", "Alergi kacang", "A-1"),
                )
                async with database.across_tenants() as connection:
                    events = (await connection.execute(sa.text("SELECT body FROM events ORDER BY seq"))).scalars().all()
                    hook = (await connection.execute(sa.text("SELECT secret, secret_sealed FROM webhooks"))).one()
                    answers = (await connection.execute(sa.text("SELECT answer FROM idempotency_keys"))).scalars().all()
                    clear = (await connection.execute(sa.text("SELECT name || phone || note FROM customers"))).scalar_one()
                assert Customer.FromString(events[0]).name == "S•••"
                assert Product.FromString(events[1]).name == "Siti"
                assert clear == ""
                assert hook.secret == ""
                assert endpoints.secret_of(keys, "whk_1", hook.secret_sealed, "") == HOOK.secret
                assert not [answer for answer in answers if b"Siti" in answer or b"whsec" in answer]
    finally:
        await admin.execute("DROP DATABASE IF EXISTS from_before WITH (FORCE)")
        await admin.close()
