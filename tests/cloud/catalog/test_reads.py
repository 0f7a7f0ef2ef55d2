"""The reads that carry load: asked together, printed once per state of a row, always what the database says now."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest

from cloud import demo
from cloud.catalog import listing
from cloud.catalog.reads import ProductReads, is_plain
from gipos.v1.catalog_pb2 import (
    DeleteProductRequest,
    GetProductRequest,
    ListProductsRequest,
    ListProductsResponse,
    Product,
    UpdateProductRequest,
)
from gipos.v1.common_pb2 import Money
from kernel import protojson
from kernel.errors import CursorInvalid, NotFound
from kernel.ids import new_id


@pytest.fixture
def reads(shop: Any) -> ProductReads:
    return ProductReads(shop.database)


def counted(reads: ProductReads, shop: Any) -> list[str]:
    """The single statements that are run from now on."""
    statements: list[str] = []
    fetch = shop.database.statements.fetch

    async def noted(statement: str, *arguments: Any) -> Any:
        statements.append(statement)
        return await fetch(statement, *arguments)

    shop.database.statements.fetch = noted
    return statements


async def test_a_change_of_a_product_is_seen_at_once_however_it_was_made(shop: Any, reads: ProductReads, sql: Any) -> None:
    made = await shop.product()
    assert (await reads.find(shop.tenant_id, made.id)).parse() == made
    changed = await shop.products.UpdateProduct(
        UpdateProductRequest(product=Product(id=made.id, name="Kopi Tubruk"), update_mask={"paths": ["name"]}),  # type: ignore[arg-type]
        metadata=shop.auth,
    )
    assert (await reads.find(shop.tenant_id, made.id)).parse() == changed
    # Even a change by hand that forgets the version: the row says which transaction wrote it.
    async with shop.database.across_tenants() as connection:
        await connection.exec_driver_sql(f"UPDATE products SET name = 'Lain' WHERE id = '{made.id}'")
    again: Any = (await reads.find(shop.tenant_id, made.id)).parse()
    assert (again.name, again.etag) == ("Lain", changed.etag)
    page: Any = (await reads.page(shop.tenant_id, ListProductsRequest())).parse()
    assert page.products[0].name == "Lain"
    await shop.products.DeleteProduct(DeleteProductRequest(id=made.id), metadata=shop.auth)
    archived: Any = (await reads.find(shop.tenant_id, made.id)).parse()
    assert archived.HasField("delete_time")
    assert not (await reads.page(shop.tenant_id, ListProductsRequest())).parse().products  # type: ignore[attr-defined]


async def test_a_merchant_sees_only_its_own_products_even_in_one_statement(shop: Any, reads: ProductReads, tmp_path: Any) -> None:
    mine = await shop.product("Punya saya")
    state = tmp_path / "other.json"
    await demo.create(shop.database, state, "")
    other = json.loads(state.read_text())["tenant_id"]
    statements = counted(reads, shop)
    answers = await asyncio.gather(
        reads.find(shop.tenant_id, mine.id),
        reads.find(other, mine.id),
        reads.page(other, ListProductsRequest()),
        reads.page(shop.tenant_id, ListProductsRequest()),
        return_exceptions=True,
    )
    assert isinstance(answers[1], NotFound)
    own, _, empty, full = answers
    assert own.parse() == mine  # type: ignore[union-attr]
    assert empty.parse() == ListProductsResponse()  # type: ignore[union-attr]
    assert [product.id for product in full.parse().products] == [mine.id]  # type: ignore[union-attr]
    assert len([one for one in statements if "product_states" in one]) == 1
    assert len([one for one in statements if "product_pages" in one]) == 1


async def test_what_is_asked_at_the_same_moment_is_one_statement_and_one_object(shop: Any, reads: ProductReads) -> None:
    made = [await shop.product(f"Teh {number}") for number in range(3)]
    await reads.page(shop.tenant_id, ListProductsRequest())
    statements = counted(reads, shop)
    answers = await asyncio.gather(*(reads.find(shop.tenant_id, made[number % 3].id) for number in range(30)))
    assert len(statements) == 1
    assert len({id(answer.json) for answer in answers}) == 3
    first, second = [await reads.page(shop.tenant_id, ListProductsRequest()) for _ in range(2)]
    assert first is second


async def test_an_unknown_product_is_not_found_and_does_not_hurt_its_neighbours(shop: Any, reads: ProductReads) -> None:
    made = await shop.product()
    found, missing = await asyncio.gather(
        reads.find(shop.tenant_id, made.id), reads.find(shop.tenant_id, new_id("prd")), return_exceptions=True
    )
    assert found.parse() == made  # type: ignore[union-attr]
    assert isinstance(missing, NotFound)


async def test_a_page_that_changed_while_it_was_read_is_not_taken_for_the_one_before(shop: Any, reads: ProductReads) -> None:
    made = await shop.product()
    fetch = shop.database.statements.fetch
    between: list[Any] = []

    async def raced(statement: str, *arguments: Any) -> Any:
        rows = await fetch(statement, *arguments)
        if "product_pages" in statement and not between:
            between.append(None)
            between[0] = await shop.product("Datang di tengah")
        return rows

    shop.database.statements.fetch = raced
    page: Any = (await reads.page(shop.tenant_id, ListProductsRequest())).parse()
    assert list(page.products) == [between[0], made]
    await shop.products.DeleteProduct(DeleteProductRequest(id=between[0].id), metadata=shop.auth)
    page = (await reads.page(shop.tenant_id, ListProductsRequest())).parse()
    assert list(page.products) == [made]


async def test_plain_pages_are_those_of_the_general_way(shop: Any, reads: ProductReads) -> None:
    for number in range(7):
        await shop.product(f"Roti {number}", cost=Money(amount=number), barcodes=[f"TOKO-{number}"])
    request = ListProductsRequest(page_size=3)
    seen = 0
    for _ in range(3):
        for _ in range(2):  # read, then remembered
            answer = await reads.page(shop.tenant_id, request)
            async with shop.database.reading(shop.tenant_id) as connection:
                general = await listing.page(connection, shop.tenant_id, request)
            assert bool(answer.next_page_token) == bool(general.next_page_token)
            general.next_page_token = answer.next_page_token  # sealed afresh by either way; both are good below
            assert answer.parse() == general
            assert answer.json == protojson.encode(general)
        seen += len(general.products)
        request.page_token = general.next_page_token
    assert (seen, request.page_token) == (7, "")
    with pytest.raises(CursorInvalid):
        await reads.page(shop.tenant_id, ListProductsRequest(page_token="nonsense"))


@pytest.mark.parametrize(
    ("request_", "plain"),
    [
        (ListProductsRequest(), True),
        (ListProductsRequest(page_size=5, page_token="x"), True),
        (ListProductsRequest(show_deleted=True), False),
        (ListProductsRequest(query="kopi"), False),
        (ListProductsRequest(page_size=5, sku="S"), False),
    ],
)
def test_only_plain_pages_go_the_short_way(request_: ListProductsRequest, plain: bool) -> None:
    assert is_plain(request_) is plain


async def test_grpc_sends_what_was_printed(shop: Any) -> None:
    made = await shop.product()
    for _ in range(2):
        assert await shop.products.GetProduct(GetProductRequest(id=made.id), metadata=shop.auth) == made
        listed = await shop.products.ListProducts(ListProductsRequest(), metadata=shop.auth)
        assert list(listed.products) == [made]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.GetProduct(GetProductRequest(id=new_id("prd")), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_an_id_that_is_none_does_not_spoil_the_reads_of_other_merchants(shop: Any, reads: ProductReads) -> None:
    made = await shop.product()
    stranger = new_id("ten")
    strange = ("a\x00b", "x" * 100_000, "", made.id + "\x00")
    answers = await asyncio.gather(
        *(reads.find(stranger, one) for one in strange), reads.find(shop.tenant_id, made.id), return_exceptions=True
    )
    assert [type(answer) for answer in answers[:-1]] == [NotFound] * len(strange)
    assert answers[-1].parse() == made  # type: ignore[union-attr]  # it is no exception
