"""Sealed values, their keys, and a database that refuses the wrong ones."""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from cloud.platform import keyring, sealing
from cloud.platform.database import Database
from cloud.platform.keyring import Keyring, KeysUnusable
from cloud.platform.sealing import SealBroken, TenantKeys, keys_of
from cloud.settings import Settings

KEYS = TenantKeys("ten_a", {1: os.urandom(32)}, os.urandom(32))


def text_key(seed: int = 1) -> str:
    return base64.b64encode(bytes([seed]) * 32).decode()


@given(st.binary(max_size=300))
def test_what_is_sealed_opens_again_and_looks_different_each_time(value: bytes) -> None:
    sealed = KEYS.seal("t.c", "row", value)
    assert KEYS.open("t.c", "row", sealed) == value
    assert KEYS.seal("t.c", "row", value) != sealed
    assert sealing.is_sealed(sealed)
    assert len(sealed) == len(value) + 33  # version 1, key number 4, nonce 12, tag 16


@given(st.integers(min_value=0, max_value=40), st.integers(min_value=1, max_value=255))
def test_no_byte_can_be_changed(place: int, flip: int) -> None:
    sealed = bytearray(KEYS.seal("t.c", "row", b"12345678"))
    sealed[place] ^= flip
    with pytest.raises(SealBroken):
        KEYS.open("t.c", "row", bytes(sealed))


@pytest.mark.parametrize("place", [("t.other", "row"), ("t.c", "other")])
def test_a_value_opens_only_where_it_was_sealed(place: tuple[str, str]) -> None:
    sealed = KEYS.seal("t.c", "row", b"value")
    with pytest.raises(SealBroken):
        KEYS.open(*place, sealed)
    with pytest.raises(SealBroken):
        KEYS.open("t.c", "row", sealed[:10])


def test_blind_indexes_are_equal_for_equal_values_only() -> None:
    other = TenantKeys("ten_b", {1: os.urandom(32)}, os.urandom(32))
    assert KEYS.index("phone", "+62812") == KEYS.index("phone", "+62812")
    assert len({KEYS.index("phone", "+62812"), KEYS.index("email", "+62812"), other.index("phone", "+62812")}) == 3
    key = os.urandom(32)
    assert TenantKeys("ten_b", {1: key}, key).index("phone", "+62812") == hmac.digest(key, b"phone\x00+62812", "sha256")[:16]


async def test_a_merchants_keys_are_made_once_and_outlive_a_rollback(database: Database, sql: Any) -> None:
    async with database.transaction("ten_a") as tx:
        lost = (await keys_of(tx.connection, "ten_a")).seal("t.c", "row", b"value")
        await tx.connection.rollback()
    assert len(await sql("SELECT tenant_id FROM tenant_keys")) == 2
    async with database.reading("ten_a") as connection:
        assert (await keys_of(connection, "ten_a")).open("t.c", "row", lost) == b"value"
        with pytest.raises(sa.exc.DBAPIError, match="permission denied"):
            await connection.execute(sa.text("SELECT wrapped FROM tenant_keys"))


async def test_many_at_once_get_the_same_keys(database_url: str) -> None:
    ring = Keyring.random()
    databases = [Database(database_url, connections=2, keyring=ring) for _ in range(3)]

    async def sealed(database: Database) -> bytes:
        async with database.reading("ten_a") as connection:
            return (await keys_of(connection, "ten_a")).index("kind", "value")

    assert len(set(await asyncio.gather(*(sealed(database) for database in databases * 3)))) == 1
    for database in databases:
        await database.close()


async def unlocked(url: str, settings: Settings) -> Keyring:
    database = Database(url, connections=1)
    try:
        async with database.across_tenants() as connection:
            return await sealing.unlocked(connection, settings)
    finally:
        await database.close()


async def test_the_first_start_makes_a_key_and_the_next_finds_it(database_url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    rings = await asyncio.gather(*(unlocked(database_url, settings) for _ in range(3)))
    path = tmp_path / "data" / "secret.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len({ring.current.id for ring in rings}) == 1
    assert [each.name for each in path.parent.iterdir()] == ["secret.key"]
    secret = path.read_text().strip()
    assert secret not in repr(rings[0].current)
    assert secret not in repr(Settings(secret_key=secret))


async def test_a_database_refuses_another_key_and_makes_none_up(database_url: str, tmp_path: Path) -> None:
    first = await unlocked(database_url, Settings(secret_key=text_key(1)))
    with pytest.raises(KeysUnusable, match=f"made with the secret key {first.current.id.hex()}"):
        await unlocked(database_url, Settings(secret_key=text_key(2)))
    with pytest.raises(KeysUnusable, match="there is none here"):
        await unlocked(database_url, Settings(data_dir=tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    both = await unlocked(database_url, Settings(secret_keys=f"{text_key(2)},{text_key(1)}"))
    assert both.current.id != first.current.id
    with pytest.raises(KeysUnusable):  # values may be sealed with either now
        await unlocked(database_url, Settings(secret_key=text_key(1)))


async def test_after_a_rotation_old_values_open_and_keys_are_wrapped_anew(database_url: str, sql: Any) -> None:
    old, new = os.urandom(32), os.urandom(32)
    before = Database(database_url, connections=2, keyring=Keyring([old]))
    async with before.reading("ten_a") as connection:
        sealed = (await keys_of(connection, "ten_a")).seal("t.c", "row", b"value")
    await before.close()
    ring = Keyring([new, old])
    after = Database(database_url, connections=2, keyring=ring)
    async with after.across_tenants() as connection:
        assert await sealing.rewrap(connection, ring) == 2
        assert await sealing.rewrap(connection, ring) == 0
    await after.close()
    only_new = Database(database_url, connections=2, keyring=Keyring([new]))
    async with only_new.reading("ten_a") as connection:
        assert (await keys_of(connection, "ten_a")).open("t.c", "row", sealed) == b"value"
    await only_new.close()
    only_old = Database(database_url, connections=2, keyring=Keyring([old]))
    async with only_old.reading("ten_a") as connection:
        with pytest.raises(KeysUnusable, match="is missing"):
            await keys_of(connection, "ten_a")
    await only_old.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"secret_key": "short"}, "base64 of 32 random bytes"),
        ({"secret_key": base64.b64encode(b"x" * 31).decode()}, "base64 of 32 random bytes"),
        ({"secret_key_file": Path("/nowhere/secret.key")}, "There is no file /nowhere/secret.key"),
        ({"secret_key_file": Path("/")}, "cannot be read"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_with_what_to_do(given: dict[str, Any], message: str) -> None:
    with pytest.raises(KeysUnusable, match=message):
        keyring.find(Settings(**given))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeysUnusable, match="GIPOS_DATA_DIR"):
        keyring.create(Settings(data_dir=tmp_path / "file"))
