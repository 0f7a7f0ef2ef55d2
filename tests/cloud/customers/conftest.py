"""Keys with and without the right to see people."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.accounts import api_keys
from cloud.accounts.api_keys import ALL_SCOPES


@pytest.fixture
async def seeing(shop: Any) -> list[tuple[str, str]]:
    """Metadata of a caller who may see personal data."""
    async with shop.database.transaction(shop.tenant_id) as tx:
        return [("authorization", f"Bearer {await api_keys.create(tx, 'sees')}")]


@pytest.fixture
async def masked(shop: Any) -> list[tuple[str, str]]:
    """Metadata of a caller who may not."""
    scopes = [scope for scope in ALL_SCOPES if scope != "customers:pii"]
    async with shop.database.transaction(shop.tenant_id) as tx:
        return [("authorization", f"Bearer {await api_keys.create(tx, 'masked', scopes=scopes)}")]
