"""`python -m cloud audit verify` as an administrator runs it, and the till's uploads in the trail."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from cloud.platform import calls
from cloud.platform.calls import Call, Caller
from cloud.sync import uploads
from gipos.edge.v1.link_pb2 import Hello, LinkRequest, Operation, OperationBatch
from gipos.v1.audit_pb2 import ExportAuditEntriesRequest, ListAuditEntriesRequest
from gipos.v1.common_pb2 import Money
from gipos.v1.sales_pb2 import Sale, SaleLine, Tender
from kernel import protojson
from kernel.ids import new_id
from kernel.pricing import total_up


async def run(folder: Path, url: str, *arguments: str) -> tuple[int, str]:
    surroundings = {**os.environ, "GIPOS_DATABASE_URL": url, "GIPOS_DATA_DIR": str(folder)}
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cloud", *arguments),
        env=surroundings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await program.communicate()
    return program.returncode or 0, output.decode()


async def sealed(shop: Any, count: int) -> list[Any]:
    async with asyncio.timeout(20):
        while True:
            entries = (await shop.audit.ListAuditEntries(ListAuditEntriesRequest(), metadata=shop.auth)).entries
            if len(entries) >= count and all(entry.sequence for entry in entries):
                return list(entries)
            await asyncio.sleep(0.05)


async def test_the_command_proves_a_database_and_an_export(shop: Any, database_url: str, tmp_path: Path) -> None:
    for number in range(3):
        await shop.product(f"Teh {number}")
    await sealed(shop, 3)
    export = tmp_path / "export.ndjson"
    entries = [entry async for entry in shop.audit.ExportAuditEntries(ExportAuditEntriesRequest(), metadata=shop.auth)]
    export.write_bytes(b"\n".join(protojson.encode(entry) for entry in entries))
    await sealed(shop, 4)
    data = tmp_path / "data"
    (code, text), (file_code, file_text) = await asyncio.gather(
        run(data, database_url, "audit", "verify"),
        run(data, "postgresql://nobody@127.0.0.1:1/none", "audit", "verify", "--file", str(export)),
    )
    assert (code, f"{shop.tenant_id}: intact, 4 entries" in text) == (0, True), text
    assert (file_code, f"{shop.tenant_id}: intact, 3 entries" in file_text) == (0, True), file_text

    admin = await asyncpg.connect(database_url)
    await admin.execute("SET session_replication_role = replica; UPDATE audit_entries SET actor_id = 'key_x' WHERE seq = 2")
    await admin.close()
    export.write_bytes(export.read_bytes().replace(b"products.create", b"products.delete", 2).replace(b"delete", b"create", 1))
    (code, text), (misspelt_code, misspelt), (file_code, file_text), (other_code, other_text) = await asyncio.gather(
        run(data, database_url, "audit", "verify", "--tenant", shop.tenant_id),
        run(data, database_url, "audit", "verify", "--tenant", shop.tenant_id + "x"),
        run(data, database_url, "audit", "verify", "--file", str(export)),
        run(tmp_path / "elsewhere", database_url, "audit", "verify"),
    )
    assert (code, "BROKEN at 2 " in text) == (1, True), text
    assert (misspelt_code, "There is no merchant" in misspelt, "intact" in misspelt) == (2, True, False), misspelt
    assert (file_code, "BROKEN at 2 " in file_text) == (1, True), file_text
    assert (other_code, "was made with the secret key" in other_text) == (1, True), other_text


def operation(seq: int, product_id: str) -> Operation:
    sale = Sale(id=new_id("sal"), number=f"A-{seq}", business_date="2026-11-23")
    sale.lines.append(SaleLine(id=new_id("sli"), product_id=product_id, quantity="1", unit_price=Money(amount=18000)))
    sale.tenders.append(Tender(method="cash", amount=Money(amount=18000)))
    sale.sale_time.FromDatetime(datetime.now(UTC))
    total_up(sale, datetime.now(UTC).date())
    return Operation(op_seq=seq, op_id=sale.id, sale_recorded=sale)


async def test_each_batch_of_a_till_is_one_entry(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    before = len(await sealed(shop, 2))
    till = shop.tills[0]["id"]
    caller = Caller(shop.tenant_id, till, "live", frozenset(), till_id=till, outlet_id=shop.outlets[0], kind="till")
    call = Call("/gipos.edge.v1.EdgeLinkService/Link", {}, "10.0.0.2", "req_link", caller, request=object())
    token = calls.current.set(call)
    try:
        session = await uploads.open_session(shop.database, caller, Hello(store_epoch=1))
        operations = [operation(seq, coffee.id) for seq in range(1, 26)]
        await uploads.store(shop.database, caller, session, operations[:23])
        await uploads.store(shop.database, caller, session, operations[:23])  # a repeat stores nothing
        await uploads.store(shop.database, caller, session, [operations[23]])
        await uploads.store(shop.database, caller, session, [Operation(op_seq=25, op_id="x", sale_recorded=Sale(id="bad"))])
    finally:
        calls.current.reset(token)
    entries = (await sealed(shop, before + 3))[:3][::-1]
    ids = [each.sale_recorded.id for each in operations]
    assert [(entry.action, entry.actor_type, entry.actor_id, entry.count) for entry in entries] == [
        *(("tills.upload", "till", till, count) for count in (23, 1, 1)),
    ]
    assert [list(entry.resource_ids) for entry in entries] == [ids[:20], [ids[23]], []]
    assert entries[0].mode == "live"


async def test_what_a_till_sends_over_its_link_is_recorded_as_the_tills(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    sent = operation(1, coffee.id)
    link = shop.link.Link(metadata=shop.till_auth(0))
    await link.write(LinkRequest(hello=Hello(store_epoch=1)))
    await link.write(LinkRequest(operations=OperationBatch(operations=[sent])))
    async with asyncio.timeout(20):
        while (await link.read()).WhichOneof("frame") != "stored":
            pass
    link.cancel()
    entry = (await sealed(shop, 3))[0]
    assert (entry.action, entry.actor_type, entry.actor_id) == ("tills.upload", "till", shop.tills[0]["id"])
    assert list(entry.resource_ids) == [sent.sale_recorded.id]
    assert entry.address == "127.0.0.1"
