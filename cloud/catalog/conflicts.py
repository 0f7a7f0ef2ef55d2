"""Values entered at tills that lost against another change: kept with both sides, listed, and settled by a choice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.catalog import drafts, products
from cloud.catalog.tables import product_barcodes, product_conflicts
from cloud.catalog.tables import products as product_rows
from cloud.platform import checks, paging, trail
from cloud.platform.database import Transaction
from gipos.v1.catalog_pb2 import (
    ConflictReason,
    ConflictStatus,
    ListConflictsRequest,
    ListConflictsResponse,
    Product,
    ProductConflict,
    ProductValues,
    ResolveConflictRequest,
)
from kernel.errors import ConflictSettled, Invalid, NotFound, Violation
from kernel.event_types import PRODUCT_UPDATED
from kernel.ids import new_id

OPEN, RESOLVED = "open", "resolved"
OURS, THEIRS = "ours", "theirs"
STATUSES = {OPEN: ConflictStatus.CONFLICT_STATUS_OPEN, RESOLVED: ConflictStatus.CONFLICT_STATUS_RESOLVED}

_COLUMN = product_conflicts.c
_PRODUCT = product_rows.c
_NEWEST = paging.Order((_COLUMN.id,), is_descending=True)


@dataclass(frozen=True)
class Met:
    """What a change met in one field."""

    product_id: str
    field: str
    reason: ConflictReason.ValueType
    ours: Product
    theirs: Product
    met_version: int


@dataclass(frozen=True)
class Author:
    """Where a change comes from."""

    till_id: str
    operation_id: str
    base_version: int
    at: datetime


async def keep(tx: Transaction, met: Met, author: Author) -> bool:
    """Keeps the value that lost; whether that is new. An operation has one conflict for each field, however often it comes."""
    statement = insert(product_conflicts).values(
        tenant_id=tx.tenant_id,
        id=new_id("cfl"),
        product_id=met.product_id,
        field=met.field,
        reason=met.reason,
        ours=_only(met.ours, met.field).SerializeToString(),
        theirs=_only(met.theirs, met.field).SerializeToString(),
        till_id=author.till_id,
        operation_id=author.operation_id,
        base_version=author.base_version,
        met_version=met.met_version,
        status=OPEN,
        choice="",
        occurred_at=author.at,
        created_at=tx.now,
    )
    done = await tx.connection.execute(statement.on_conflict_do_nothing().returning(_COLUMN.id))
    return done.one_or_none() is not None


def _only(product: Product, name: str) -> ProductValues:
    """One field of a product."""
    values = ProductValues()
    if name == "barcodes":
        values.barcodes.extend(product.barcodes)
    elif name == "price":
        values.price.CopyFrom(product.price)
    else:
        setattr(values, name, getattr(product, name))
    return values


def to_proto(row: Any) -> ProductConflict:
    """A row as the contract has it."""
    conflict = ProductConflict(
        id=row.id,
        product_id=row.product_id,
        field=row.field,
        reason=row.reason,
        ours=ProductValues.FromString(row.ours),
        theirs=ProductValues.FromString(row.theirs),
        till_id=row.till_id,
        base_version=row.base_version,
        met_version=row.met_version,
        status=STATUSES[row.status],
        choice=row.choice,
    )
    conflict.occur_time.FromDatetime(row.occurred_at)
    conflict.create_time.FromDatetime(row.created_at)
    if row.resolved_at is not None:
        conflict.resolve_time.FromDatetime(row.resolved_at)
    return conflict


async def page(connection: AsyncConnection, tenant_id: str, request: ListConflictsRequest) -> ListConflictsResponse:
    """A page of conflicts, newest first.

    Raises:
        Invalid, CursorInvalid: a parameter is not right.
    """
    wrong = [
        *checks.page_size(request.page_size),
        *checks.text("product_id", request.product_id, 100),
        *checks.one_of("status", request.status, ConflictStatus),
    ]
    if wrong:
        raise Invalid(wrong)
    query = sa.select(product_conflicts).where(_COLUMN.tenant_id == tenant_id)
    if request.product_id:
        query = query.where(_COLUMN.product_id == request.product_id)
    if request.status:
        query = query.where(_COLUMN.status == next(word for word, each in STATUSES.items() if each == request.status))
    found = await paging.fetch(connection, query, request, _NEWEST)
    return ListConflictsResponse(conflicts=[to_proto(row) for row in found.rows], **found.paging)


async def resolve(tx: Transaction, request: ResolveConflictRequest) -> ProductConflict:
    """Settles a conflict: keeps the product as it is, or gives it the till's value.

    Raises:
        Invalid: the choice is none.
        NotFound: there is no such conflict.
        ConflictSettled: it was settled the other way.
        AlreadyExists: another product has the till's barcode, or took a code of the archived product meanwhile.
    """
    if request.choice not in {OURS, THEIRS}:
        message = "choice must be ours (the product stays as it is) or theirs (it takes the till's value)."
        raise Invalid([Violation("choice", "INVALID" if request.choice else "REQUIRED", message)])
    query = sa.select(product_conflicts).where(_COLUMN.tenant_id == tx.tenant_id, _COLUMN.id == request.id)
    row = (await tx.connection.execute(query.with_for_update())).one_or_none()
    if row is None:
        raise NotFound(f"Conflict {request.id} does not exist.", conflict_id=request.id)
    if row.status == RESOLVED and row.choice != request.choice:
        raise ConflictSettled(
            f"Conflict {row.id} was settled before, by the choice {row.choice!r}. Change the product itself instead.",
            choice=row.choice,
        )
    trail.about(row.product_id, ["choice", row.field])
    if row.status == RESOLVED:
        return to_proto(row)
    if request.choice == THEIRS:
        await _apply(tx, row)
    statement = (
        sa.update(product_conflicts)
        .where(_COLUMN.tenant_id == tx.tenant_id, _COLUMN.id == row.id)
        .values(status=RESOLVED, choice=request.choice, resolved_at=tx.now)
        .returning(product_conflicts)
    )
    return to_proto((await tx.connection.execute(statement)).one())


async def _apply(tx: Transaction, row: Any) -> None:
    values = ProductValues.FromString(row.theirs)
    draft = Product(id=row.product_id)
    if row.field == "barcodes":
        draft.barcodes.extend(values.barcodes)
    elif row.field == "price":
        draft.price.CopyFrom(values.price)
    else:
        setattr(draft, row.field, getattr(values, row.field))
    current = await products.find(tx.connection, tx.tenant_id, row.product_id)
    if current.HasField("delete_time"):
        await _bring_back(tx, current)
    if row.field == "barcodes":
        # Put together, as it would have been: codes that came to the product meanwhile stay.
        draft.barcodes[:] = list(dict.fromkeys([*current.barcodes, *draft.barcodes]))[: drafts.MAX_BARCODES]
    await products.update(tx, draft, [row.field], "")


async def _bring_back(tx: Transaction, archived: Product) -> None:
    """Takes a product out of the archive, with those of its barcodes that are still free."""
    column = product_barcodes.c
    query = sa.select(column.code).where(column.tenant_id == tx.tenant_id, column.code.in_(archived.barcodes))
    gone = set((await tx.connection.execute(query)).scalars())
    await products.refuse_taken(tx, Product(id=archived.id, sku=archived.sku, external_id=archived.external_id))
    codes = [code for code in archived.barcodes if code not in gone]
    statement = (
        sa.update(product_rows)
        .where(_PRODUCT.tenant_id == tx.tenant_id, _PRODUCT.id == archived.id)
        .values(deleted_at=None, barcodes=codes, version=_PRODUCT.version + 1, updated_at=tx.now)
        .returning(product_rows)
    )
    product = products.to_proto((await tx.connection.execute(statement)).one())
    await products.replace_barcodes(tx, product.id, codes, had=())
    tx.publish(PRODUCT_UPDATED, product, subject_id=product.id, version=int(product.etag))
