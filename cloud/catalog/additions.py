"""Products that are added together: how their requests become products, and the one statement that stores them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from cloud.accounts import outlets
from cloud.catalog import drafts
from cloud.platform.database import SharedTransaction
from cloud.platform.together import Kind
from gipos.v1.catalog_pb2 import CreateProductRequest, Product
from kernel.event_types import PRODUCT_CREATED
from kernel.ids import new_id

# No code has the character that the barcodes of a product are joined by: arrays of different lengths cannot be unnested.
_INSERT = sa.text(
    """
    WITH fresh AS (
        SELECT p.* FROM unnest(
            CAST(:ids AS text[]), CAST(:names AS text[]), CAST(:skus AS text[]), CAST(:barcodes AS text[]),
            CAST(:categories AS text[]), CAST(:units AS text[]), CAST(:prices AS bigint[]), CAST(:costs AS bigint[]),
            CAST(:tax_classes AS smallint[]), CAST(:image_urls AS text[]), CAST(:actives AS boolean[]),
            CAST(:external_ids AS text[])
        ) AS p (id, name, sku, barcodes, category, unit, price, cost, tax_class, image_url, active, external_id)
    ), codes AS (
        INSERT INTO product_barcodes (tenant_id, code, product_id)
        SELECT :tenant_id, unnest(string_to_array(fresh.barcodes, chr(31))), fresh.id FROM fresh WHERE fresh.barcodes <> ''
    )
    INSERT INTO products (tenant_id, id, name, sku, barcodes, category, unit, price, cost, tax_class, image_url, active,
                          external_id, version, created_at, updated_at)
    SELECT :tenant_id, id, name, sku, string_to_array(barcodes, chr(31)), category, unit, price, cost, tax_class, image_url,
           active, external_id, 1, :now, :now
    FROM fresh
    """
)


def _may_be_plain(request: CreateProductRequest) -> bool:
    return next(iter(drafts.violations(request.product)), None) is None


async def _prepare(tx: SharedTransaction, requests: Sequence[CreateProductRequest]) -> Sequence[Product]:
    tax_class = await outlets.tax_class(tx)
    made = []
    for request in requests:
        product = drafts.normalised(request.product, tax_class)
        product.id = new_id("prd")
        product.etag = "1"
        product.create_time.FromDatetime(tx.now)
        product.update_time.FromDatetime(tx.now)
        made.append(product)
    return made


async def _store(tx: SharedTransaction, fresh: Sequence[Product]) -> None:
    await tx.run(
        _INSERT,
        tenant_id=tx.tenant_id,
        ids=[product.id for product in fresh],
        names=[product.name for product in fresh],
        skus=[product.sku for product in fresh],
        barcodes=["\x1f".join(product.barcodes) for product in fresh],
        categories=[product.category for product in fresh],
        units=[product.unit for product in fresh],
        prices=[product.price.amount for product in fresh],
        costs=[product.cost.amount if product.HasField("cost") else None for product in fresh],
        tax_classes=[product.tax_class for product in fresh],
        image_urls=[product.image_url for product in fresh],
        actives=[product.active for product in fresh],
        external_ids=[product.external_id for product in fresh],
        now=tx.now,
    )
    for product in fresh:
        tx.publish(PRODUCT_CREATED, product, subject_id=product.id, version=1)


ADDITIONS: Kind[CreateProductRequest, Product] = Kind("CreateProduct", _may_be_plain, _prepare, _store)
