"""Changes of products made at tills that had not seen everything: what is taken over, what is kept, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask

from cloud.catalog import edits
from cloud.platform import log
from cloud.sync import restores
from gipos.edge.v1.link_pb2 import ProductEdited
from gipos.v1.catalog_pb2 import (
    BatchUpdateProductsRequest,
    ConflictReason,
    DeleteProductRequest,
    GetProductRequest,
    ListConflictsRequest,
    Product,
    ProductConflict,
    ProductUpdate,
    TaxClass,
    UpdateProductRequest,
)
from gipos.v1.common_pb2 import Money
from gipos.v1.events_pb2 import ListEventsRequest
from kernel.errors import Invalid, NotFound
from kernel.ids import new_id

EAN, OTHER_EAN, THIRD_EAN = "8991002101234", "8992761111113", "8886008101053"
CHANGED = ConflictReason.CONFLICT_REASON_CHANGED


class Till:
    """A till whose copy of a product is that of a version."""

    def __init__(self, shop: Any, number: int = 0) -> None:
        self.shop = shop
        self.id: str = shop.tills[number]["id"]

    async def edit(self, product: Product, *, operation_id: str = "", epoch: int = 0, **fields: Any) -> None:
        if "price" in fields:
            fields["price"] = Money(amount=fields["price"])
        proposal = ProductEdited(product=Product(id=product.id, **fields), fields=list(fields), base_version=int(product.etag))
        proposal.base_epoch = epoch
        async with self.shop.database.transaction(self.shop.tenant_id) as tx:
            at = tx.now - timedelta(hours=3)
            await edits.propose(tx, self.id, operation_id or new_id("ope"), proposal, at)


@pytest.fixture
def till(shop: Any) -> Till:
    return Till(shop)


async def change(shop: Any, product: Product, **fields: Any) -> Product:
    """Changes a product in the cloud."""
    if "price" in fields:
        fields["price"] = Money(amount=fields["price"])
    request = UpdateProductRequest(product=Product(id=product.id, **fields), update_mask=FieldMask(paths=list(fields)))
    changed: Product = await shop.products.UpdateProduct(request, metadata=shop.auth)
    return changed


async def read(shop: Any, product: Product) -> Product:
    found: Product = await shop.products.GetProduct(GetProductRequest(id=product.id), metadata=shop.auth)
    return found


async def conflicts(shop: Any, product: Product) -> Sequence[ProductConflict]:
    answer = await shop.products.ListConflicts(ListConflictsRequest(product_id=product.id), metadata=shop.auth)
    return list(answer.conflicts)


async def test_what_nobody_has_touched_takes_the_tills_value(shop: Any, till: Till) -> None:
    product = await shop.product("Kopi", 10_000)
    await till.edit(product, name="Kopi Tubruk", price=12_000, active=False)
    now = await read(shop, product)
    assert (now.name, now.price.amount, now.active, now.etag) == ("Kopi Tubruk", 12_000, False, "2")
    assert await conflicts(shop, product) == []


async def test_changes_of_different_fields_are_put_together(shop: Any, till: Till) -> None:
    product = await shop.product("Kopi", 10_000)
    await change(shop, product, category="Minuman", price=11_000)
    await till.edit(product, name="Kopi Tubruk")
    now = await read(shop, product)
    assert (now.name, now.category, now.price.amount) == ("Kopi Tubruk", "Minuman", 11_000)
    assert await conflicts(shop, product) == []


@pytest.mark.parametrize(
    ("field", "ours", "theirs"),
    [
        ("price", 11_000, 12_000),
        ("tax_class", TaxClass.TAX_CLASS_BEBAS, TaxClass.TAX_CLASS_PBJT),
        ("name", "Kopi Hitam", "Kopi Tubruk"),
        ("category", "Minuman", "Kopi"),
        ("unit", "gelas", "cangkir"),
        ("image_url", "https://a.example/1.jpg", "https://a.example/2.jpg"),
        ("active", False, True),
    ],
)
async def test_of_two_values_for_one_field_the_clouds_stays_and_the_tills_is_kept(
    shop: Any, till: Till, field: str, ours: Any, theirs: Any
) -> None:
    product = await shop.product("Kopi", 10_000)
    if field == "active":  # there and back: the till still has the first of three values
        await change(shop, product, active=False)
    changed = await change(shop, product, **{field: ours})
    await till.edit(product, **{field: theirs})
    assert await read(shop, product) == changed
    (conflict,) = await conflicts(shop, product)
    shown = {name: getattr(getattr(conflict, name), field) for name in ("ours", "theirs")}
    if field == "price":
        shown = {name: money.amount for name, money in shown.items()}
    assert shown == {"ours": ours, "theirs": theirs}
    assert (conflict.field, conflict.reason, conflict.till_id) == (field, CHANGED, till.id)
    assert (conflict.base_version, conflict.met_version) == (1, int(changed.etag))
    assert conflict.create_time.seconds - conflict.occur_time.seconds == 3 * 3600


async def test_of_two_tills_the_first_that_reaches_the_cloud_wins(shop: Any) -> None:
    product = await shop.product("Kopi", 10_000)
    await Till(shop, 1).edit(product, name="Kopi Satu", price=11_000)
    await Till(shop, 0).edit(product, name="Kopi Nol", category="Minuman")
    now = await read(shop, product)
    assert (now.name, now.price.amount, now.category) == ("Kopi Satu", 11_000, "Minuman")
    assert [(each.field, each.theirs.name) for each in await conflicts(shop, product)] == [("name", "Kopi Nol")]


async def test_a_till_that_changes_its_mind_while_offline_is_no_conflict(shop: Any, till: Till) -> None:
    product = await shop.product("Kopi", 10_000)
    for price in (11_000, 12_000, 10_500):
        await till.edit(product, price=price)
    assert (await read(shop, product)).price.amount == 10_500
    await change(shop, product, price=9_000)
    await till.edit(product, price=8_000)
    assert (await read(shop, product)).price.amount == 9_000
    assert [each.field for each in await conflicts(shop, product)] == ["price"]


async def test_barcodes_of_both_sides_are_put_together(shop: Any, till: Till) -> None:
    product = await shop.product(barcodes=[EAN])
    await change(shop, product, barcodes=[EAN, OTHER_EAN])
    await till.edit(product, barcodes=[EAN, THIRD_EAN])
    assert set((await read(shop, product)).barcodes) == {EAN, OTHER_EAN, THIRD_EAN}
    assert await conflicts(shop, product) == []


async def test_barcodes_that_nobody_else_changed_are_those_of_the_till(shop: Any, till: Till) -> None:
    product = await shop.product(barcodes=[EAN])
    await till.edit(product, barcodes=[OTHER_EAN])
    assert list((await read(shop, product)).barcodes) == [OTHER_EAN]
    await shop.product(barcodes=[EAN])  # is free again


async def test_a_barcode_of_another_product_is_kept_as_a_conflict_and_the_others_are_taken(shop: Any, till: Till) -> None:
    await shop.product("Teh", barcodes=[EAN])
    product = await shop.product("Kopi")
    await till.edit(product, barcodes=[EAN, OTHER_EAN], name="Kopi Tubruk")
    now = await read(shop, product)
    assert (list(now.barcodes), now.name) == ([OTHER_EAN], "Kopi Tubruk")
    (conflict,) = await conflicts(shop, product)
    assert (conflict.reason, list(conflict.theirs.barcodes)) == (ConflictReason.CONFLICT_REASON_TAKEN, [EAN, OTHER_EAN])


async def test_a_change_of_a_product_that_was_archived_meanwhile_is_kept(shop: Any, till: Till) -> None:
    product = await shop.product("Kopi", 10_000)
    await shop.products.DeleteProduct(DeleteProductRequest(id=product.id), metadata=shop.auth)
    await till.edit(product, name="Kopi Tubruk", price=12_000)
    assert (await read(shop, product)).HasField("delete_time")
    kept = await conflicts(shop, product)
    assert {(each.field, each.reason) for each in kept} == {
        ("name", ConflictReason.CONFLICT_REASON_ARCHIVED),
        ("price", ConflictReason.CONFLICT_REASON_ARCHIVED),
    }


async def test_an_operation_that_comes_twice_is_kept_and_announced_once(shop: Any, till: Till) -> None:
    product = await shop.product("Kopi", 10_000)
    await change(shop, product, name="Kopi Hitam")
    for _ in range(2):
        await till.edit(product, operation_id="ope_1", name="Kopi Tubruk", price=12_000)
    assert len(await conflicts(shop, product)) == 1
    events = (await shop.events.ListEvents(ListEventsRequest(), metadata=shop.auth)).events
    assert [event.type for event in events if event.type.startswith("product.")] == [
        "product.created", "product.updated", "product.updated", "product.conflicted",
    ]  # fmt: skip


async def test_the_same_value_on_both_sides_is_no_conflict(shop: Any, till: Till) -> None:
    product = await shop.product("Kopi", 10_000)
    await change(shop, product, price=12_000)
    await till.edit(product, price=12_000)
    assert await conflicts(shop, product) == []


async def test_changes_by_every_way_are_noticed(shop: Any, till: Till) -> None:
    """Batches and upserts are other statements; the database keeps the book for all of them."""
    product = await shop.product("Kopi", 10_000, external_id="A-1")
    batch = BatchUpdateProductsRequest(updates=[ProductUpdate(product=Product(id=product.id, name="Kopi Hitam"))])
    await shop.products.BatchUpdateProducts(batch, metadata=shop.auth)
    await till.edit(product, name="Kopi Tubruk", price=11_000)
    now = await read(shop, product)
    assert (now.name, now.price.amount) == ("Kopi Hitam", 11_000)


async def test_of_a_product_from_before_the_book_was_kept_everything_counts_as_changed_just_now(
    shop: Any, till: Till, database_url: str
) -> None:
    product = await shop.product("Kopi", 10_000)
    changed = await change(shop, product, category="Minuman")
    owner = await asyncpg.connect(database_url)
    await owner.execute("SET session_replication_role = replica")  # no triggers
    await owner.execute("UPDATE products SET field_versions = '{}' WHERE id = $1", product.id)
    await owner.close()
    await till.edit(product, name="Kopi Tubruk")
    assert [each.field for each in await conflicts(shop, product)] == ["name"]
    await till.edit(changed, name="Kopi Tubruk")
    assert (await read(shop, product)).name == "Kopi Tubruk"


async def test_what_no_product_may_be_is_refused_with_nothing_changed(shop: Any, till: Till) -> None:
    product = await shop.product("Kopi", 10_000)
    for fields in ({"name": ""}, {"price": -1}, {"barcodes": ["1234567890123"]}, {"cost": Money(amount=5)}, {"sku": "A"}):
        with pytest.raises(Invalid):
            await till.edit(product, **fields)
    with pytest.raises(NotFound):
        await till.edit(Product(id=new_id("prd"), etag="1"), name="Hantu")
    assert await read(shop, product) == product


def test_a_field_nothing_is_known_of_counts_as_changed_in_the_present_version() -> None:
    assert edits.changed_in({}, 7, "name") == 7
    assert edits.changed_in({"*": 3}, 7, "name") == 3
    assert edits.changed_in({"*": 3, "name": 5}, 7, "name") == 5


async def test_versions_of_a_history_that_a_restore_has_undone_are_not_taken_for_those_of_the_present_one(
    shop: Any, till: Till
) -> None:
    product, untouched, old = [await shop.product(name, 4_000) for name in ("Kopi", "Teh", "Susu")]

    async def epoch() -> int:
        async with shop.database.reading(shop.tenant_id) as connection:
            return (await log.heads(connection, shop.tenant_id))["tenant"].epoch

    before = await epoch()
    await restores.raise_all(shop.database)
    ours = await change(shop, await change(shop, product, price=11_000), price=12_000)
    assert ours.etag == "3"
    # The till had seen versions 2 and 3 of a history that is gone. Under these numbers the present one has other prices.
    undone = Product(id=product.id, etag="3")
    await till.edit(undone, epoch=before, price=9_000, name="Kopi Tubruk")
    now = await read(shop, product)
    assert (now.price.amount, now.name) == (12_000, "Kopi Tubruk"), "nobody has changed the name since"
    (kept,) = await conflicts(shop, product)
    assert (kept.field, kept.theirs.price.amount) == ("price", 9_000)
    await till.edit(Product(id=untouched.id, etag="7"), epoch=before, price=6_000)
    assert (await read(shop, untouched)).price.amount == 6_000
    await till.edit(await read(shop, product), epoch=await epoch(), price=13_000)
    assert (await read(shop, product)).price.amount == 13_000
    # Where the log no longer says what has happened since, nothing is overwritten.
    async with shop.database.across_tenants() as connection:
        await connection.execute(sa.text("UPDATE log_heads SET floor_seq = last_seq + 1"))
    await till.edit(Product(id=old.id, etag="7"), epoch=before, price=7_000)
    assert (await read(shop, old)).price.amount == 4_000
