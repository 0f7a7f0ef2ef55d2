"""Changes of products made at tills that had not seen everything: weighed field by field, and never dropped.

A field that nobody else has changed since the till read it takes the till's value. Where somebody has, the cloud's value stays
and the till's is kept as a conflict; but barcodes are put together, because a code that was scanned at a shelf is on the goods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from cloud.catalog import conflicts, drafts, products
from cloud.catalog.tables import product_barcodes
from cloud.platform import log
from cloud.platform.database import Transaction
from gipos.edge.v1.link_pb2 import ProductEdited
from gipos.v1.catalog_pb2 import ConflictReason, Product
from kernel.errors import Invalid, NotFound, Violation
from kernel.event_types import PRODUCT_CONFLICTED, PRODUCT_CREATED, PRODUCT_DELETED, PRODUCT_UPDATED
from kernel.ids import new_id

FIELDS = ("name", "barcodes", "category", "unit", "price", "tax_class", "image_url", "active")
"""What may be changed at a till. What goods cost, and other systems' names for them, are the office's business."""

CHANGED = ConflictReason.CONFLICT_REASON_CHANGED
ARCHIVED = ConflictReason.CONFLICT_REASON_ARCHIVED
TAKEN = ConflictReason.CONFLICT_REASON_TAKEN

_LOCK = sa.text("SELECT * FROM products WHERE tenant_id = :tenant_id AND id = :id FOR UPDATE")
# A till that changes a field twice before it hears of the first change knows its own: that is no conflict.
_OWN = sa.text(
    """
    SELECT field, version FROM product_edits WHERE tenant_id = :tenant_id AND product_id = :product_id AND till_id = :till_id
    """
)
# The first change of a product that a till with an undone log cannot have seen. Where the log no longer says, it may be any.
_UNSEEN = sa.text(
    """
    SELECT CASE WHEN h.floor_seq > :upto + 1 THEN 1 ELSE (
               SELECT min(e.version) FROM events e
               WHERE e.tenant_id = h.tenant_id AND e.lane = h.lane AND e.seq > :upto AND e.subject_id = :product_id
                 AND e.type = ANY(CAST(:types AS text[]))) END
    FROM log_heads h WHERE h.tenant_id = :tenant_id AND h.lane = :lane
    """
)
_SIGN = sa.text(
    """
    INSERT INTO product_edits (tenant_id, product_id, field, till_id, version)
    SELECT :tenant_id, :product_id, field, :till_id, :version FROM unnest(CAST(:fields AS text[])) AS given (field)
    ON CONFLICT (tenant_id, product_id, field) DO UPDATE SET till_id = excluded.till_id, version = excluded.version
    """
)


async def propose(tx: Transaction, till_id: str, operation_id: str, edited: ProductEdited, at: datetime) -> None:
    """Takes over what can be taken over of a change made at a till at that moment, and keeps the rest as conflicts.

    Proposing the same operation again changes nothing.

    Raises:
        NotFound: there is no such product.
        Invalid: the change names a field that tills do not change, or a value that no product may have.
    """
    row = (await tx.run(_LOCK, tenant_id=tx.tenant_id, id=edited.product.id)).one_or_none()
    if row is None:
        raise NotFound(f"Product {edited.product.id} does not exist.", product_id=edited.product.id)
    place = {"tenant_id": tx.tenant_id, "product_id": row.id, "till_id": till_id}
    current = products.to_proto(row)
    proposed = _proposed(current, edited)
    differing = [name for name in dict.fromkeys(edited.fields) if _value(current, name) != _value(proposed, name)]
    lost: dict[str, ConflictReason.ValueType] = {}
    if row.deleted_at is not None:
        lost = dict.fromkeys(differing, ARCHIVED)
    else:
        changed = {name: changed_in(row.field_versions, row.version, name) for name in differing}
        mine = {each.field: each.version for each in await tx.run(_OWN, **place)}
        base = await _base(tx, edited)
        untouched = [name for name, version in changed.items() if base >= version or mine.get(name) == version]
        lost = {name: CHANGED for name in differing if name not in untouched and name != "barcodes"}
        result = await _merged(tx, row, proposed, untouched, lost, is_union="barcodes" not in untouched)
        if products.columns(result) != products.columns(current):
            current = products.to_proto(await products.write(tx, result, had=row.barcodes))
            await tx.run(_SIGN, **place, version=int(current.etag), fields=[name for name in differing if name not in lost])
            tx.publish(PRODUCT_UPDATED, current, subject_id=current.id, version=int(current.etag))
    kept = [
        await conflicts.keep(
            tx,
            conflicts.Met(row.id, name, reason, ours=products.to_proto(row), theirs=proposed, met_version=row.version),
            conflicts.Author(till_id, operation_id or new_id("ope"), edited.base_version, at),
        )
        for name, reason in lost.items()
    ]
    if any(kept):
        tx.publish(PRODUCT_CONFLICTED, current, subject_id=current.id, version=int(current.etag))


async def _base(tx: Transaction, edited: ProductEdited) -> int:
    """The last version of the product, as its history is now, that the till had seen.

    After a restore from a backup versions are given out again, to other changes than those a till may have seen under them.
    """
    if not edited.base_epoch:
        return edited.base_version
    upto = await log.shared_upto(tx, tx.tenant_id, log.TENANT_LANE, edited.base_epoch)
    if upto is None:
        return edited.base_version
    rows = await tx.run(
        _UNSEEN,
        tenant_id=tx.tenant_id,
        lane=log.TENANT_LANE,
        upto=upto,
        product_id=edited.product.id,
        types=[PRODUCT_CREATED.name, PRODUCT_UPDATED.name, PRODUCT_DELETED.name],
    )
    first_unseen = rows.scalar_one_or_none()
    return edited.base_version if first_unseen is None else min(edited.base_version, first_unseen - 1)


def changed_in(versions: Mapping[str, int], present: int, name: str) -> int:
    """The version in which a field was last changed; the present one where nothing is known."""
    return versions.get(name) or versions.get("*") or present


def _proposed(current: Product, edited: ProductEdited) -> Product:
    """The product as the till would have it."""
    wrong = [
        Violation("fields", "UNKNOWN_FIELD", f"Tills do not change the field {name!r}; they change {', '.join(FIELDS)}.")
        for name in edited.fields
        if name not in FIELDS
    ]
    if wrong:
        raise Invalid(wrong)
    product, wrong = drafts.merged(current, edited.product, edited.fields)
    wrong += drafts.violations(product)
    if wrong:
        raise Invalid(wrong)
    product = drafts.normalised(product, current.tax_class)
    product.id = current.id
    return product


def _value(product: Product, name: str) -> Any:
    value = getattr(product, name)
    if name == "barcodes":
        return frozenset(value)
    return value.amount if name == "price" else value


async def _merged(
    tx: Transaction,
    row: Any,
    proposed: Product,
    untouched: Sequence[str],
    lost: dict[str, ConflictReason.ValueType],
    *,
    is_union: bool,
) -> Product:
    """The product with the till's values where nobody else has changed them; adds to `lost` what of its barcodes has no place."""
    result, _ = drafts.merged(products.to_proto(row), proposed, [name for name in untouched if name != "barcodes"])
    wanted = [*row.barcodes, *proposed.barcodes] if is_union else list(proposed.barcodes)
    wanted = list(dict.fromkeys(wanted))
    taken = await _taken(tx, row.id, [code for code in wanted if code not in row.barcodes])
    codes = [code for code in wanted if code not in taken]
    if taken or len(codes) > drafts.MAX_BARCODES:
        lost["barcodes"] = TAKEN
    result.ClearField("barcodes")
    result.barcodes.extend(codes[: drafts.MAX_BARCODES])
    return result


async def _taken(tx: Transaction, product_id: str, codes: Iterable[str]) -> set[str]:
    """Which of these codes another product has."""
    codes = list(codes)
    if not codes:
        return set()
    column = product_barcodes.c
    query = sa.select(column.code).where(
        column.tenant_id == tx.tenant_id, column.code.in_(codes), column.product_id != product_id
    )
    return set((await tx.connection.execute(query)).scalars())
