"""What a caller of gRPC hears of an error: the error, however much there is to say."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cloud.platform.rpc import TOLD_BYTES, shortened, status_of
from gipos.v1.catalog_pb2 import GetProductRequest
from gipos.v1.sales_pb2 import CreateSaleRequest, Sale, SaleLine
from kernel.errors import Invalid, NotFound, RateLimited, Violation


@pytest.mark.parametrize("character", ["x", "\U0001f600", "é"])
async def test_an_error_that_repeats_a_long_text_arrives_as_itself(shop: Any, character: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.GetProduct(GetProductRequest(id=character * 100_000), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.GetProduct(GetProductRequest(external_id=character * 5000), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_of_very_many_violations_the_first_arrive_and_how_many_more_there_are(shop: Any) -> None:
    wrong = Sale(lines=[SaleLine(quantity="0")] * 500)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.sales.CreateSale(CreateSaleRequest(sale=wrong), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # it has what is asked for
    assert status is not None
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    *first, last = bad.field_violations
    assert len(first) > 5
    assert last.reason == "MORE_VIOLATIONS"


def test_what_is_short_stays_as_it_is_and_what_is_cut_keeps_its_kind() -> None:
    short = NotFound("Product x does not exist.", product_id="x")
    assert shortened(short) is short
    limited = RateLimited("€" * 5000, key_id="é" * 5000)
    limited.retry_seconds, limited.policies = 2.5, ("daily",)
    told = shortened(limited)
    assert (type(told), told.retry_seconds, told.policies) == (RateLimited, 2.5, ("daily",))
    many = shortened(Invalid([Violation("f" * 500, "INVALID", "€" * 500)] * 3000))
    assert many.message == "3000 fields are invalid."
    assert many.violations[-1].message.startswith(f"There are {3000 - len(many.violations) + 1} more")
    for error in (told, many):
        assert status_of(error, "req_" + "0" * 60).ByteSize() < TOLD_BYTES
