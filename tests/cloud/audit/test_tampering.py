"""Whoever can write to the database can break the trail, and is found: at the first wrong position."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
import sqlalchemy as sa

from cloud.audit import checkpoints, commands, listing, verification
from cloud.audit.sealing import Sealer
from cloud.platform import trail
from cloud.platform.calls import Call, Caller
from cloud.platform.database import Database
from cloud.platform.keyring import Keyring
from gipos.v1.audit_pb2 import ExportAuditEntriesRequest
from kernel import protojson

TENANT = "ten_tampered"
MOVED = "UPDATE audit_entries SET seq = seq + 1 WHERE seq > 5;"
COPY = "INSERT INTO audit_entries SELECT (jsonb_populate_record(e, '"


class Trail:
    """A trail of ten sealed entries of one merchant and three of another, and a superuser's connection."""

    def __init__(self, database: Database, keyring: Keyring, folder: Path, admin: asyncpg.Connection) -> None:
        self.database, self.keyring, self.folder, self.admin = database, keyring, folder, admin
        self.sealer = Sealer(database, keyring, folder)

    async def write(self, tenant_id: str, count: int) -> None:
        call = Call("/gipos.v1.ProductService/CreateProduct", {"user-agent": "test"}, "10.0.0.1", "req_1")
        call.caller = Caller(tenant_id, "key_1", "test", frozenset())
        async with self.database.across_tenants() as connection:
            await connection.execute(trail.INSERT, [trail.entry_for(call, fields=["name", "price"]) for _ in range(count)])

    async def verdict(self, tenant_id: str = TENANT) -> verification.Verdict:
        known = checkpoints.read(self.folder, self.keyring)
        return await verification.tenant(self.database, self.keyring, known, tenant_id)

    async def as_superuser(self, text: str) -> None:
        """Past the triggers and the unique index, as an administrator of the database could."""
        await self.admin.execute("DROP INDEX IF EXISTS audit_entries_chain; SET session_replication_role = replica")
        await self.admin.execute(text)
        await self.admin.execute("SET session_replication_role = DEFAULT")

    async def exported(self, path: Path) -> list[dict[str, Any]]:
        lines = [protojson.encode(entry) async for entry in listing.export(self.database, TENANT, ExportAuditEntriesRequest())]
        path.write_bytes(b"\n".join(lines) + b"\n")
        return [orjson.loads(line) for line in lines]


@pytest.fixture
async def kept(database_url: str, tmp_path: Path) -> AsyncIterator[Trail]:
    keyring = Keyring.random()
    database = Database(database_url, connections=3, keyring=keyring)
    admin = await asyncpg.connect(database_url)
    kept = Trail(database, keyring, tmp_path / "audit", admin)
    await kept.write(TENANT, 10)
    await kept.write("ten_other", 3)
    assert await kept.sealer.seal() == 13
    yield kept
    await admin.close()
    await database.close()


async def test_an_honest_trail_is_intact(kept: Trail) -> None:
    verdict = await kept.verdict()
    assert (verdict.checked, verdict.head_seq, verdict.finding) == (10, 10, None)
    assert (await kept.verdict("ten_other")).checked == 3
    await kept.write(TENANT, 5)
    assert await kept.sealer.seal() == 5
    assert (await kept.verdict()).head_seq == 15


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("UPDATE audit_entries SET outcome = 'NOT_FOUND' WHERE seq = 4", 4),
        ("UPDATE audit_entries SET actor_id = 'key_2' WHERE seq = 1", 1),
        ("UPDATE audit_entries SET fields = '{name,cost}' WHERE seq = 10", 10),
        ("UPDATE audit_entries SET fields = '{\"name,price\"}' WHERE seq = 3", 3),
        ("UPDATE audit_entries SET created_at = created_at + interval '1 microsecond' WHERE seq = 7", 7),
        ("UPDATE audit_entries SET address = request_id, request_id = address WHERE seq = 2", 2),
        ("UPDATE audit_entries SET count = 2 WHERE seq = 5", 5),
        ("UPDATE audit_entries SET resource_ids = '{prd_1}' WHERE seq = 5", 5),
        ("UPDATE audit_entries SET hash = previous_hash WHERE seq = 6", 6),
        ("UPDATE audit_entries SET previous_hash = hash WHERE seq = 6", 6),
        ("DELETE FROM audit_entries WHERE seq = 4", 4),
        ("DELETE FROM audit_entries WHERE seq = 1", 1),
        ("DELETE FROM audit_entries WHERE seq = 4; UPDATE audit_entries SET seq = seq - 1 WHERE seq > 4", 4),
        ("DELETE FROM audit_entries WHERE seq > 7", 8),
        ("DELETE FROM audit_entries", 1),
        ("UPDATE audit_entries SET seq = 11 - seq", 1),
        ("UPDATE audit_entries SET seq = CASE seq WHEN 5 THEN 6 ELSE 5 END WHERE seq IN (5, 6)", 5),
        ("UPDATE audit_entries SET seq = NULL, previous_hash = NULL, hash = NULL WHERE seq = 9", 9),
        (f'{COPY}{{"id": "aud_x"}}\')).* FROM audit_entries e WHERE seq = 5', 5),
        (
            f'{MOVED}{COPY}{{"id": "aud_x", "seq": 6}}\')).* FROM audit_entries e WHERE seq = 5',
            6,
        ),
        (
            f'{COPY}{{"id": "aud_x", "seq": 11}}\')).* FROM audit_entries e WHERE seq = 10',
            11,
        ),
        ("UPDATE audit_entries SET tenant_id = 'ten_other', seq = 4 WHERE seq = 10", 10),
        ("DELETE FROM audit_heads", 10),
    ],
)
async def test_every_change_is_found_where_it_begins(kept: Trail, change: str, broken: int) -> None:
    mine = f"tenant_id = '{TENANT}'"
    statements = [
        f"{each} AND {mine}" if " WHERE " in each else f"{each} WHERE {mine}" for each in change.split(";") if each.strip()
    ]
    await kept.as_superuser(";".join(statements))
    verdict = await kept.verdict()
    assert verdict.finding is not None
    assert verdict.finding.seq == broken
    assert verdict.checked >= broken - 1


async def test_an_end_that_was_cut_off_with_its_head_is_found_by_the_checkpoint(kept: Trail) -> None:
    assert await kept.sealer.checkpoint() == 2
    cut = f"""
        DELETE FROM audit_entries WHERE seq > 6 AND tenant_id = '{TENANT}';
        UPDATE audit_heads SET last_seq = 6, hash = (SELECT hash FROM audit_entries WHERE seq = 6 AND tenant_id = '{TENANT}')
        WHERE tenant_id = '{TENANT}'
    """
    await kept.as_superuser(cut)
    verdict = await kept.verdict()
    assert verdict.finding is not None
    assert verdict.finding.seq == 7
    assert "cut off" in verdict.finding.problem
    # Going on from there does not hide it: the sealer makes good hashes, but not the ones the checkpoint has seen.
    await kept.write(TENANT, 6)
    await kept.sealer.seal()
    verdict = await kept.verdict()
    assert verdict.finding is not None
    assert verdict.finding.seq == 10
    assert "checkpoint" in verdict.finding.problem


async def test_a_merchant_whose_trail_is_gone_altogether_is_found(kept: Trail) -> None:
    await kept.sealer.checkpoint()
    theirs = "WHERE tenant_id = 'ten_other'"
    await kept.as_superuser(f"DELETE FROM audit_entries {theirs}; DELETE FROM audit_heads {theirs}")
    out = io.StringIO()
    assert await commands.verify(kept.database, kept.keyring, kept.folder, "", out) == commands.BROKEN
    assert "ten_other: BROKEN at 1 after 0 good entries: entries 1 to 3 are missing" in out.getvalue()
    assert f"{TENANT}: intact, 10 entries" in out.getvalue()


async def test_a_checkpoint_that_we_did_not_sign_is_not_believed(kept: Trail) -> None:
    await kept.sealer.checkpoint()
    file = kept.folder / checkpoints.FILE
    assert file.stat().st_mode & 0o777 == 0o600
    lines = file.read_bytes().splitlines(keepends=True)
    forged = orjson.loads(lines[0]) | {"sequence": 4}
    file.write_bytes(lines[0] + orjson.dumps(forged) + b"\n" + lines[1][:40])
    known = checkpoints.read(kept.folder, kept.keyring)
    assert (known.forged, known.torn) == ([2], [3])
    out = io.StringIO()
    assert await commands.verify(kept.database, kept.keyring, kept.folder, TENANT, out) == commands.BROKEN
    assert "Line 2 of" in out.getvalue()
    assert not checkpoints.read(kept.folder, Keyring.random()).by_tenant


async def test_who_has_another_key_can_prove_nothing(kept: Trail) -> None:
    verdict = await verification.tenant(kept.database, Keyring.random(), checkpoints.Checkpoints(), TENANT)
    assert verdict.finding is not None
    assert verdict.finding.seq == 1


async def test_an_older_key_still_proves_what_it_sealed(kept: Trail) -> None:
    old, new = os.urandom(32), os.urandom(32)
    await Sealer(kept.database, Keyring([old]), kept.folder).seal()
    await kept.write("ten_rotated", 2)
    await Sealer(kept.database, Keyring([old]), kept.folder).seal()
    await kept.write("ten_rotated", 2)
    await Sealer(kept.database, Keyring([new, old]), kept.folder).seal()
    verdict = await verification.tenant(kept.database, Keyring([new, old]), checkpoints.Checkpoints(), "ten_rotated")
    assert (verdict.checked, verdict.finding) == (4, None)


async def test_an_export_is_proved_without_the_database(kept: Trail, tmp_path: Path) -> None:
    path = tmp_path / "export.ndjson"
    entries = await kept.exported(path)
    await kept.sealer.checkpoint()
    out = io.StringIO()
    assert commands.verify_file(path, kept.keyring, kept.folder, out) == commands.INTACT
    assert f"{TENANT}: intact, 10 entries" in out.getvalue()

    async def judged(lines: list[dict[str, Any]]) -> tuple[int, str]:
        path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
        out = io.StringIO()
        return commands.verify_file(path, kept.keyring, kept.folder, out), out.getvalue()

    changed = [dict(entry) for entry in entries]
    changed[3]["user_agent"] = "nobody"
    assert (await judged(changed))[0] == commands.BROKEN
    assert "BROKEN at 4 " in (await judged(changed))[1]
    assert "BROKEN at 5 " in (await judged(entries[:4] + entries[5:]))[1]
    assert "BROKEN at 1 " in (await judged([entries[1], entries[0], *entries[2:]]))[1]
    assert "intact, 6 entries" in (await judged(entries[2:8]))[1]
    code, text = await judged([{"id": 3}])
    assert code == commands.UNUSABLE
    assert "line 1 of" in text


async def test_the_roles_of_the_cloud_cannot_change_an_entry(kept: Trail) -> None:
    for role, allowed in (("_app", ()), ("_system", ("UPDATE audit_entries SET hash = hash WHERE seq = 1",))):
        engine = getattr(kept.database, role)
        for text in (
            "DELETE FROM audit_entries",
            "UPDATE audit_entries SET outcome = ''",
            "TRUNCATE audit_entries",
            "INSERT INTO audit_entries (tenant_id, id, seq) VALUES ('t', 'i', 1)",
            *allowed,
        ):
            async with engine.connect() as connection:
                with pytest.raises(sa.exc.DBAPIError) as caught:
                    await connection.execute(sa.text(text))
                assert getattr(caught.value.orig, "sqlstate", "") == "42501", (role, text)


async def test_not_even_the_owner_of_the_tables_does_it_by_mistake(kept: Trail) -> None:
    for text in ("DELETE FROM audit_entries", "UPDATE audit_entries SET seq = seq + 1", "TRUNCATE audit_entries"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed or removed"):
            await kept.admin.execute(text)
    await kept.write(TENANT, 1)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await kept.admin.execute("UPDATE audit_entries SET outcome = 'x' WHERE seq IS NULL")


async def test_two_sealers_make_one_chain(kept: Trail, tmp_path: Path) -> None:
    other = Sealer(kept.database, kept.keyring, tmp_path / "audit")
    await kept.write(TENANT, 4500)
    await asyncio.gather(*(sealer.seal() for sealer in (kept.sealer, other) for _ in range(3)))
    await kept.sealer.seal()
    verdict = await kept.verdict()
    assert (verdict.checked, verdict.finding) == (4510, None)
    # Every thousand entries are signed without waiting for the clock.
    assert checkpoints.read(kept.folder, kept.keyring).last(TENANT) >= 4000
