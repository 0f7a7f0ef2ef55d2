"""Exports of the trail: recorded however they end, and exact on any PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloud.audit import verification
from cloud.audit.recording import Recorder
from cloud.audit.sealing import Sealer
from cloud.platform import trail
from cloud.platform.calls import Call, Caller
from cloud.platform.database import Database
from cloud.platform.keyring import Keyring
from kernel.errors import Invalid

TENANT = "ten_exported"


def call_of(method: str) -> Call:
    call = Call(f"/gipos.v1.{method}", {}, "10.0.0.1", "req_1")
    call.caller = Caller(TENANT, "key_1", "test", frozenset())
    return call


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        (None, "ok"),
        (Invalid([]), "VALIDATION_FAILED"),
        (ZeroDivisionError(), "INTERNAL"),
        (asyncio.CancelledError(), "CANCELLED"),
        (GeneratorExit(), "CANCELLED"),
    ],
)
async def test_an_export_is_recorded_however_it_ends(
    database: Database, sql: Any, ending: BaseException | None, outcome: str
) -> None:
    recorder = Recorder(database)
    assert recorder.stream(call_of("EventService/WatchEvents")) is None
    held = recorder.stream(call_of("AuditService/ExportAuditEntries"))
    assert held is not None
    if ending is None:
        async with held:
            pass
    else:
        with pytest.raises(type(ending)):
            async with held:
                raise ending
    await recorder.flush()
    rows = await sql("SELECT action, outcome FROM audit_entries")
    assert [tuple(row) for row in rows] == [("audit.export", outcome)]


async def test_a_part_of_the_chain_begins_where_it_should_however_ids_sort(database: Database, tmp_path: Path) -> None:
    # In other collations than ours letters come after every sign; here, these two do.
    call = call_of("ProductService/CreateProduct")
    async with database.across_tenants() as connection:
        await connection.execute(trail.INSERT, [trail.entry_for(call) | {"id": f"\u00e9{number}"} for number in range(5)])
    assert await Sealer(database, Keyring.random(), tmp_path).seal() == 5
    async with database.reading(TENANT) as connection:
        assert [entry.seq async for entry in verification.sealed(connection, TENANT, 3, 4)] == [3, 4]
