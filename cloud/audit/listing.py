"""The trail as merchants read it: newest first with filters, or as a whole from the beginning."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.audit.chain import Entry, to_proto
from cloud.audit.tables import audit_entries
from cloud.audit.verification import ROW, sealed
from cloud.platform import checks, paging
from cloud.platform.database import Database
from cloud.platform.trail import COLUMNS
from gipos.v1.audit_pb2 import AuditEntry, ExportAuditEntriesRequest, ListAuditEntriesRequest, ListAuditEntriesResponse
from kernel.errors import Invalid, Violation

_COLUMN = audit_entries.c
_NEWEST = paging.Order((_COLUMN.created_at, _COLUMN.id), is_descending=True)
_STEP = 1000


async def page(connection: AsyncConnection, tenant_id: str, request: ListAuditEntriesRequest) -> ListAuditEntriesResponse:
    """A page of entries, newest first; those of the last second are not sealed yet.

    Raises:
        Invalid, CursorInvalid: a parameter is not right.
    """
    query = sa.select(*ROW).where(_COLUMN.tenant_id == tenant_id, *_filters(request))
    found = await paging.fetch(connection, query, request, _NEWEST)
    answer = ListAuditEntriesResponse(next_page_token=found.next_page_token, has_more=bool(found.next_page_token))
    answer.entries.extend(to_proto(_entry(row)) for row in found.rows)
    return answer


def _entry(row: sa.Row[Any]) -> Entry:
    # Those of the last second have no seal yet.
    values: list[Any] = [*row[: len(COLUMNS)], row.seq or 0, row.previous_hash or b"", row.hash or b""]
    return Entry(*values)


def _filters(request: ListAuditEntriesRequest) -> list[sa.ColumnElement[bool]]:
    plain = ("actor_id", "outcome", "request_id")
    wanted: list[sa.ColumnElement[bool]] = [_COLUMN[name] == getattr(request, name) for name in plain if getattr(request, name)]
    if request.action:
        group = request.action.removesuffix("*")
        wanted.append(_COLUMN.action.startswith(group, autoescape=True) if group != request.action else _COLUMN.action == group)
    if request.resource_id:
        # Two conditions for two indexes: most entries name one resource.
        ids, sought = _COLUMN.resource_ids, request.resource_id
        wanted.append(sa.or_(ids[1] == sought, sa.and_(sa.func.cardinality(ids) > 1, sa.literal(sought) == sa.any_(ids))))
    since, until = _span(request)
    if since is not None:
        wanted.append(_COLUMN.created_at >= since)
    if until is not None:
        wanted.append(_COLUMN.created_at < until)
    return wanted


def _span(request: ListAuditEntriesRequest | ExportAuditEntriesRequest) -> tuple[datetime | None, datetime | None]:
    if wrong := [*checks.moment("since", request.since), *checks.moment("until", request.until)]:
        raise Invalid(wrong)
    since = request.since.ToDatetime(tzinfo=UTC) if request.HasField("since") else None
    until = request.until.ToDatetime(tzinfo=UTC) if request.HasField("until") else None
    if since is not None and until is not None and since >= until:
        raise Invalid([Violation("until", "OUT_OF_RANGE", "until must be after since.")])
    return since, until


async def export(database: Database, tenant_id: str, request: ExportAuditEntriesRequest) -> AsyncIterator[AuditEntry]:
    """The sealed entries of a time span, oldest first, without gaps.

    Raises:
        Invalid: the span ends before it begins, or one of its ends is no moment.
    """
    since, until = _span(request)
    # Times and positions agree but for calls that ran at once; a span of positions keeps the export provable.
    bounds = sa.select(sa.func.min(_COLUMN.seq), sa.func.max(_COLUMN.seq)).where(_COLUMN.tenant_id == tenant_id)
    if since is not None:
        bounds = bounds.where(_COLUMN.created_at >= since)
    if until is not None:
        bounds = bounds.where(_COLUMN.created_at < until)
    async with database.reading(tenant_id) as connection:
        first, last = (await connection.execute(bounds)).one()
    if first is None:
        return
    while first <= last:
        # A transaction per step: a slow reader holds no connection.
        async with database.reading(tenant_id) as connection:
            step = [entry async for entry in sealed(connection, tenant_id, first, min(last, first + _STEP - 1))]
        for entry in step:
            yield to_proto(entry)
        first += _STEP
