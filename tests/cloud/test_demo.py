"""The demo merchant is made once, follows its receiver, and says so when its keys are lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud import demo
from cloud.platform import idempotency
from cloud.platform.database import Database


async def test_making_it_again_changes_nothing_but_the_receivers_address(
    database: Database, tmp_path: Path, sql: Callable[..., Any]
) -> None:
    state = tmp_path / "demo.json"
    await demo.create(database, state, "http://127.0.0.1:9000/webhooks")
    first = json.loads(state.read_text())
    assert state.stat().st_mode & 0o077 == 0
    assert [till["number"] for till in first["tills"]] == [1, 2, 3]
    await demo.create(database, state, "http://127.0.0.1:9000/webhooks")
    assert json.loads(state.read_text()) == first
    await demo.create(database, state, "http://127.0.0.1:9999/webhooks")
    moved = json.loads(state.read_text())
    assert (moved["api_key"], moved["tills"]) == (first["api_key"], first["tills"])
    assert moved["webhook_secret"] != first["webhook_secret"]
    assert [row.url for row in await sql("SELECT url FROM webhooks")] == ["http://127.0.0.1:9999/webhooks"]
    assert len(await sql("SELECT 1 FROM tenants")) == 1


async def test_a_damaged_file_is_named_and_no_second_merchant_is_made(
    database: Database, tmp_path: Path, sql: Callable[..., Any]
) -> None:
    state = tmp_path / "demo.json"
    state.write_text("{")
    with pytest.raises(demo.StateDamaged, match=r"demo\.json"):
        await demo.create(database, state, "")
    assert not await sql("SELECT 1 FROM tenants")


async def test_idempotency_keys_are_forgotten_after_thirty_days(database: Database, sql: Callable[..., Any]) -> None:
    await sql(
        "INSERT INTO idempotency_keys (tenant_id, method, key, fingerprint, created_at) VALUES"
        " ('t', 'm', 'old', '', now() - interval '31 days'), ('t', 'm', 'new', '', now() - interval '29 days')"
    )
    assert await idempotency.forget_old(database) == 1
    assert [row.key for row in await sql("SELECT key FROM idempotency_keys")] == ["new"]
