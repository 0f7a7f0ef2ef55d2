"""Products that are added together: all that wait at the same moment share one transaction and its one commit.

Only what is in order goes this way; a product with anything to refuse or to repeat is left to the general way (products.create),
which says what is wrong. The rules are the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from cloud.accounts import outlets
from cloud.catalog import drafts
from cloud.platform import idempotency, trail
from cloud.platform.calls import Call
from cloud.platform.claims import Claim, claim
from cloud.platform.coalescing import Bundler
from cloud.platform.database import Database, SharedTransaction
from gipos.v1.catalog_pb2 import CreateProductRequest, Product
from kernel.errors import Unreachable
from kernel.event_types import PRODUCT_CREATED
from kernel.ids import new_id

METHOD = "CreateProduct"
MOST = 64
"""Products in one transaction. More would let the first wait for the last."""

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

logger = structlog.get_logger()


@dataclass(slots=True)
class Wanted:
    """A product to add and the call that wants it."""

    call: Call
    request: CreateProductRequest


class Additions:
    """Adds products; one per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bundler: Bundler[str, Wanted, Product] = Bundler(self._add, most=MOST)

    async def add(self, call: Call, tenant_id: str, request: CreateProductRequest) -> Product | None:
        """The product as it was added; None when it has to go the general way. Nothing has happened then.

        Raises:
            Unreachable: the database is away; whether the product was added is not known.
        """
        is_plain = (
            len(request.request_id) <= idempotency.LONGEST_KEY and next(iter(drafts.violations(request.product)), None) is None
        )
        return await self._bundler.make(tenant_id, Wanted(call, request)) if is_plain else None

    async def _add(self, tenant_id: str, wanted: list[Wanted]) -> Sequence[Product | None]:
        try:
            async with self._database.together(tenant_id) as tx:
                added = await _added(tx, wanted)
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001 (rolled back: one by one the general way finds out whose fault it is, and says it)
            logger.info("products_one_by_one", count=len(wanted), error=repr(error))
            return [None] * len(wanted)
        return added


async def _added(tx: SharedTransaction, wanted: list[Wanted]) -> list[Product | None]:
    tax_class = await outlets.tax_class(tx)
    ready: list[tuple[int, Wanted, Product]] = []
    claims: dict[str, Claim] = {}
    for index, one in enumerate(wanted):
        key = one.request.request_id
        if key in claims:
            continue
        product = drafts.normalised(one.request.product, tax_class)
        product.id = new_id("prd")
        product.etag = "1"
        product.create_time.FromDatetime(tx.now)
        product.update_time.FromDatetime(tx.now)
        if key:
            claims[key] = Claim(key, idempotency.fingerprint(one.request), product.SerializeToString())
        ready.append((index, one, product))
    ours = await claim(tx, METHOD, list(claims.values()))
    ready = [(index, one, made) for index, one, made in ready if not one.request.request_id or one.request.request_id in ours]
    answers: list[Product | None] = [None] * len(wanted)
    if ready:
        await _insert(tx, [product for _, _, product in ready])
    for index, one, product in ready:
        tx.publish(PRODUCT_CREATED, product, subject_id=product.id, version=1)
        tx.entries.append((one.call, trail.entry_for(one.call, tx.tenant_id, resource_ids=[product.id], now=tx.now)))
        answers[index] = product
    return answers


async def _insert(tx: SharedTransaction, fresh: Sequence[Product]) -> None:
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
