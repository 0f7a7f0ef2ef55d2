"""Lists by time of change that miss nothing: they show a change only once no earlier one can still appear.

A transaction stamps its rows with the moment it began and becomes visible when it commits. A reader who saw a row of 12:00:02 and
comes back with `updated_since=12:00:02` would never see one of 12:00:01 that commits at 12:00:03. So such lists end before the
oldest transaction that is under way: decision 0011 has the proof and its limits.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.ext.asyncio import AsyncConnection

_SETTLED = sa.text("SELECT settled_until()")


async def settled_until(connection: AsyncConnection) -> datetime:
    """The moment before which every change is visible to the statements that follow on this connection.

    Each statement must see its own moment (READ COMMITTED): within a snapshot that is older than the answer, it would be wrong.
    """
    until: datetime = (await connection.execute(_SETTLED)).scalar_one()
    return until


async def since(
    connection: AsyncConnection, query: sa.Select[Any], moment: Timestamp, updated_at: sa.ColumnElement[datetime]
) -> sa.Select[Any]:
    """The query for those of its rows that changed from this moment on, as far as that is settled."""
    until = await settled_until(connection)
    return query.where(updated_at >= moment.ToDatetime(tzinfo=UTC), updated_at < until)
