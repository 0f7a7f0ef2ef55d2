"""The product's contract through the gateway: statuses, headers, masks, errors."""

from __future__ import annotations

from typing import Any

import grpc

from gipos.v1 import catalog_pb2, inventory_pb2

PRODUCT = {"name": "Teh Botol", "price": {"amount": 5000, "currency": "IDR"}}


async def test_creating_answers_201_with_location_and_etag(cloud: Any, rest: Any) -> None:
    async def create(request: Any, _context: Any) -> Any:
        product = request.product
        product.id, product.etag = "prd_1", "7"
        return product

    cloud.answer("CreateProduct", create)
    async with rest("POST", "/api/v1/products", json=PRODUCT, headers={"Idempotency-Key": "key-1"}) as answer:
        assert answer.status == 201
        assert answer.headers["Location"] == "/api/v1/products/prd_1"
        assert answer.headers["ETag"] == '"7"'
        body = await answer.json()
    assert body["price"] == {"amount": 5000, "currency": "IDR"}
    assert body["tax_class"] == "unspecified"
    assert "cost" not in body
    assert cloud.requests[0].request_id == "key-1"


async def test_deleting_answers_204_without_a_body(cloud: Any, rest: Any) -> None:
    async with rest("DELETE", "/api/v1/products/prd_1") as answer:
        assert answer.status == 204
        assert await answer.read() == b""
    assert cloud.requests[0].id == "prd_1"


async def test_patch_changes_what_the_body_names_and_clears_what_it_empties(cloud: Any, rest: Any) -> None:
    body: dict[str, Any] = {"name": "", "sku": None, "price": {"amount": 1}, "barcodes": [], "etag": "x", "taxClass": "ppn"}
    async with rest("PATCH", "/api/v1/products/prd_1", json=body, headers={"If-Match": '"7"'}) as answer:
        assert answer.status == 200
    request = cloud.requests[0]
    assert list(request.update_mask.paths) == ["barcodes", "name", "price.amount", "sku", "tax_class"]
    assert request.product.id == "prd_1"
    assert request.etag == "7"


async def test_an_explicit_mask_wins_over_the_body(cloud: Any, rest: Any) -> None:
    async with rest("PATCH", "/api/v1/products/prd_1?update_mask=name,taxClass", json={"name": "a", "sku": "b"}) as answer:
        assert answer.status == 200
    assert list(cloud.requests[0].update_mask.paths) == ["name", "tax_class"]


async def test_an_empty_patch_names_only_what_cannot_change(cloud: Any, rest: Any) -> None:
    choices: list[dict[str, Any]] = [{"json": {}}, {}]
    for options in choices:
        async with rest("PATCH", "/api/v1/products/prd_1", **options) as answer:
            assert answer.status == 200
        assert list(cloud.requests.pop().update_mask.paths) == ["id"]


async def test_put_replaces_everything(cloud: Any, rest: Any) -> None:
    async with rest("PUT", "/api/v1/products/prd_1", json={**PRODUCT, "id": "prd_1"}) as answer:
        assert answer.status == 200
    assert list(cloud.requests[0].update_mask.paths) == ["*"]


async def test_a_body_that_names_another_product_than_the_path_is_refused(cloud: Any, rest: Any) -> None:
    async with rest("PUT", "/api/v1/products/prd_1", json={**PRODUCT, "id": "prd_2"}) as answer:
        assert answer.status == 400
        assert [(item["field"], item["reason"]) for item in (await answer.json())["errors"]] == [("id", "CONFLICT")]
    assert cloud.requests == []


async def test_every_violation_is_told_at_once_with_its_field(rest: Any) -> None:
    body = {"nam": "x", "price": 15000, "tax_class": "pnn", "barcodes": [1]}
    async with rest("POST", "/api/v1/products?limit=3", json=body) as answer:
        assert answer.status == 400
        assert answer.content_type == "application/problem+json"
        problem = await answer.json()
    found = {item["field"]: (item["reason"], item["message"]) for item in problem["errors"]}
    assert found["nam"] == ("UNKNOWN_FIELD", 'there is no such field; did you mean "name"?')
    assert '{"amount": 15000' in found["price"][1]
    assert found["tax_class"][0] == "INVALID_ENUM"
    assert found["barcodes[0]"][0] == "WRONG_TYPE"
    assert found["limit"][0] == "UNKNOWN_FIELD"
    assert problem["reason"] == "VALIDATION_FAILED"
    assert problem["request_id"] == answer.headers["X-Request-Id"]


async def test_if_none_match_spares_the_body(cloud: Any, rest: Any) -> None:
    cloud.answer("GetProduct", catalog_pb2.Product(id="prd_1", etag="7"))
    for condition in ('"7"', 'W/"7"', '"1", "7"', "*"):
        async with rest("GET", "/api/v1/products/prd_1", headers={"If-None-Match": condition}) as answer:
            assert answer.status == 304, condition
            assert answer.headers["ETag"] == '"7"'
            assert await answer.read() == b""
    async with rest("GET", "/api/v1/products/prd_1", headers={"If-None-Match": '"8"'}) as answer:
        assert answer.status == 200


async def test_a_change_on_a_condition_that_nobody_checks_is_refused(cloud: Any, rest: Any) -> None:
    cloud.answer("UpsertProduct", catalog_pb2.Product(id="prd_1", etag="7"))
    headers = {"If-None-Match": "*"}
    async with rest("PUT", "/api/v1/products/by-external-id/erp-1", json=PRODUCT, headers=headers) as answer:
        (error,) = (await answer.json())["errors"]
    assert answer.status == 400
    assert (error["field"], error["reason"]) == ("If-None-Match", "UNSUPPORTED")


async def test_a_stale_version_is_412_only_when_the_caller_asked_by_header(cloud: Any, rest: Any, refuse: Any) -> None:
    async def update(_request: Any, context: Any) -> Any:
        await refuse(context, grpc.StatusCode.ABORTED, "VERSION_CONFLICT", "Product prd_1 changed since you read it.")

    cloud.answer("UpdateProduct", update)
    async with rest("PUT", "/api/v1/products/prd_1", json=PRODUCT, headers={"If-Match": '"6"'}) as answer:
        assert answer.status == 412
    async with rest("PUT", "/api/v1/products/prd_1", json=PRODUCT) as answer:
        assert answer.status == 409
        assert (await answer.json())["reason"] == "VERSION_CONFLICT"


async def test_if_match_guards_an_upsert_and_a_delete(cloud: Any, rest: Any) -> None:
    upsert = "/api/v1/products/by-external-id/A-1"
    async with rest("PUT", upsert, json=PRODUCT, headers={"If-Match": '"7"'}) as answer:
        assert answer.status == 200
    async with rest("DELETE", "/api/v1/products/prd_1", headers={"If-Match": 'W/"8"'}) as answer:
        assert answer.status == 204
    assert [(request.etag) for request in cloud.requests] == ["7", "8"]
    assert cloud.requests[0].product.external_id == "A-1"


async def test_if_match_becomes_the_expected_version_of_a_stock_level(cloud: Any, rest: Any) -> None:
    async with rest("PUT", "/api/v1/inventory/prd_1", json={"on_hand": 2.50}, headers={"If-Match": '"12"'}) as answer:
        assert answer.status == 200
    request: inventory_pb2.SetInventoryRequest = cloud.requests[0]
    assert (request.product_id, request.on_hand, request.expected_version) == ("prd_1", "2.5", 12)


async def test_a_condition_nobody_would_check_is_refused(cloud: Any, rest: Any) -> None:
    async with rest("DELETE", "/api/v1/customers/cus_1", headers={"If-Match": '"1"'}) as answer:
        assert answer.status == 400
        assert (await answer.json())["errors"][0]["field"] == "If-Match"
    assert cloud.requests == []


async def test_quantities_keep_every_digit_of_a_number(cloud: Any, rest: Any) -> None:
    text = '{"lines":[{"product_id":"p","quantity":9007199254740993.125},{"product_id":"q","quantity":0.1}]}'
    async with rest("POST", "/api/v1/sales", data=text, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 201
    assert [line.quantity for line in cloud.requests[0].sale.lines] == ["9007199254740993.125", "0.1"]


async def test_a_batch_reaches_the_service_as_one_call(cloud: Any, rest: Any) -> None:
    items = [{"product": {**PRODUCT, "sku": str(number)}, "opening_stock": number} for number in range(500)]
    async with rest("POST", "/api/v1/products:import", json={"items": items}) as answer:
        assert answer.status == 200
    assert len(cloud.requests) == 1
    assert cloud.requests[0].items[499].opening_stock == "499"


async def test_a_refund_reaches_its_verb(cloud: Any, rest: Any) -> None:
    async with rest("POST", "/api/v1/sales/sal_1:refund", json={"reason": "rusak"}) as answer:
        assert answer.status == 200
    assert cloud.requests[0].id == "sal_1"
    assert cloud.requests[0].reason == "rusak"
