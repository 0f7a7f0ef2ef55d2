"""What is kept for a time only, and must not pile up."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.platform import idempotency
from cloud.platform.database import Database


async def test_old_keys_are_forgotten_in_steps_however_many_there_are(
    database: Database, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "FORGOTTEN_AT_ONCE", 2)
    await sql(
        "INSERT INTO idempotency_keys (tenant_id, method, key, fingerprint, created_at) "
        "SELECT 'ten_a', 'CreateSale', 'key-' || n, '', now() - make_interval(days => CASE WHEN n <= 5 THEN 31 ELSE 29 END) "
        "FROM generate_series(1, 7) AS n"
    )
    assert await idempotency.forget_old(database) == 5
    assert [row.key for row in await sql("SELECT key FROM idempotency_keys ORDER BY key")] == ["key-6", "key-7"]
    assert await idempotency.forget_old(database) == 0
