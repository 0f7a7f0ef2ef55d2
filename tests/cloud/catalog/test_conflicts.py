"""Conflicts: listed, settled by a choice, once, and in the trail."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from cloud.catalog import conflicts, edits
from gipos.edge.v1.link_pb2 import ProductEdited
from gipos.v1.audit_pb2 import ListAuditEntriesRequest
from gipos.v1.catalog_pb2 import (
    ConflictStatus,
    DeleteProductRequest,
    GetProductRequest,
    ListConflictsRequest,
    Product,
    ProductConflict,
    ResolveConflictRequest,
    UpdateProductRequest,
)
from gipos.v1.common_pb2 import Money
from kernel.ids import new_id

OPEN, RESOLVED = ConflictStatus.CONFLICT_STATUS_OPEN, ConflictStatus.CONFLICT_STATUS_RESOLVED
EAN, OTHER_EAN = "8991002101234", "8992761111113"


async def kept(shop: Any, *, name: str = "Kopi", theirs: str = "Kopi Tubruk") -> ProductConflict:
    """A conflict about a name."""
    product = await shop.product(name)
    renamed = UpdateProductRequest(product=Product(id=product.id, name=f"{name} Hitam", price=product.price))
    await shop.products.UpdateProduct(renamed, metadata=shop.auth)
    await propose(shop, product, name=theirs)
    return (await listed(shop, product_id=product.id))[0]


async def propose(shop: Any, product: Product, **fields: Any) -> None:
    edited = ProductEdited(product=Product(id=product.id, **fields), fields=list(fields), base_version=int(product.etag))
    async with shop.database.transaction(shop.tenant_id) as tx:
        await edits.propose(tx, shop.tills[0]["id"], new_id("ope"), edited, tx.now)


async def listed(shop: Any, **fields: Any) -> list[ProductConflict]:
    return list((await shop.products.ListConflicts(ListConflictsRequest(**fields), metadata=shop.auth)).conflicts)


async def resolve(shop: Any, conflict: ProductConflict, choice: str) -> ProductConflict:
    request = ResolveConflictRequest(id=conflict.id, choice=choice)
    done: ProductConflict = await shop.products.ResolveConflict(request, metadata=shop.auth)
    return done


async def product_of(shop: Any, conflict: ProductConflict) -> Product:
    found: Product = await shop.products.GetProduct(GetProductRequest(id=conflict.product_id), metadata=shop.auth)
    return found


async def test_ours_leaves_the_product_as_it_is(shop: Any) -> None:
    conflict = await kept(shop)
    before = await product_of(shop, conflict)
    done = await resolve(shop, conflict, "ours")
    assert (done.status, done.choice) == (RESOLVED, "ours")
    assert await product_of(shop, conflict) == before


async def test_theirs_gives_the_product_the_tills_value(shop: Any) -> None:
    conflict = await kept(shop)
    await resolve(shop, conflict, "theirs")
    assert (await product_of(shop, conflict)).name == "Kopi Tubruk"


async def test_a_choice_can_be_repeated_but_not_turned_round(shop: Any) -> None:
    conflict = await kept(shop)
    assert await resolve(shop, conflict, "theirs") == await resolve(shop, conflict, "theirs")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await resolve(shop, conflict, "ours")
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(("conflict_id", "choice", "code"), [("cfl_1", "ours", "NOT_FOUND"), ("", "both", "INVALID_ARGUMENT")])
async def test_what_is_no_conflict_or_no_choice_is_refused(shop: Any, conflict_id: str, choice: str, code: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await resolve(shop, ProductConflict(id=conflict_id), choice)
    assert caught.value.code().name == code


async def test_open_ones_are_listed_apart_from_settled_ones_page_by_page(shop: Any) -> None:
    made = [await kept(shop, name=f"Kopi {number}") for number in range(3)]
    await resolve(shop, made[1], "ours")
    assert [each.id for each in await listed(shop, status=OPEN)] == [made[2].id, made[0].id]
    assert [each.id for each in await listed(shop, status=RESOLVED)] == [made[1].id]
    first = await shop.products.ListConflicts(ListConflictsRequest(page_size=2, show_total_size=True), metadata=shop.auth)
    assert (first.has_more, first.total_size) == (True, 3)
    second = ListConflictsRequest(page_size=2, show_total_size=True, page_token=first.next_page_token)
    rest = await shop.products.ListConflicts(second, metadata=shop.auth)
    assert [each.id for each in [*first.conflicts, *rest.conflicts]] == [each.id for each in reversed(made)]


async def test_the_tills_value_brings_an_archived_product_back_with_the_barcodes_that_are_free(shop: Any) -> None:
    product = await shop.product("Kopi", barcodes=[EAN, OTHER_EAN])
    await shop.products.DeleteProduct(DeleteProductRequest(id=product.id), metadata=shop.auth)
    await shop.product("Teh", barcodes=[EAN])
    await propose(shop, product, price=Money(amount=12_000))
    (conflict,) = await listed(shop, product_id=product.id)
    await resolve(shop, conflict, "theirs")
    back = await product_of(shop, conflict)
    assert (back.HasField("delete_time"), back.price.amount, list(back.barcodes)) == (False, 12_000, [OTHER_EAN])


async def test_a_choice_is_in_the_audit_trail(shop: Any) -> None:
    conflict = await kept(shop)
    await resolve(shop, conflict, "theirs")
    entries = (await shop.audit.ListAuditEntries(ListAuditEntriesRequest(), metadata=shop.auth)).entries
    (entry,) = [entry for entry in entries if entry.action == "products.resolve_conflict"]
    assert list(entry.resource_ids) == [conflict.product_id]
    assert set(entry.fields) == {"choice", "name"}


async def test_a_choice_of_another_merchant_does_not_exist(shop: Any) -> None:
    conflict = await kept(shop)
    async with shop.database.reading("ten_another") as connection:
        answer = await conflicts.page(connection, "ten_another", ListConflictsRequest(product_id=conflict.product_id))
    assert not answer.conflicts
