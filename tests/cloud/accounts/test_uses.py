"""When a key was used last is written, and then forgotten by the process."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cloud.accounts import uses
from cloud.accounts.uses import Uses
from cloud.platform.database import Database


async def test_a_key_that_is_not_looked_up_any_more_is_forgotten_once_its_use_is_written(
    database: Database, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "IDLE_SECONDS", 0.0)
    mine = Uses(database, key_seconds=0.0)
    use = mine.of("ten_a", "key_a")
    use.used_at = time.monotonic()
    await mine.flush()
    assert [row.subject_id for row in await sql("SELECT subject_id FROM credential_uses")] == ["key_a"]
    assert mine.of("ten_a", "key_a") is not use


async def test_a_use_that_has_to_wait_its_minute_is_not_forgotten(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "IDLE_SECONDS", 0.0)
    mine = Uses(database)
    use = mine.of("ten_a", "key_a")
    use.used_at = time.monotonic()
    await mine.flush()
    use.used_at = time.monotonic()
    await mine.flush(time.monotonic())
    assert mine.of("ten_a", "key_a") is use
    assert use.used_at
