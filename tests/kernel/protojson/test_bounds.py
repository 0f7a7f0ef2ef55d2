"""Lists are as long as the contract lets them be, which is found out before a message is made of each item."""

from __future__ import annotations

import pytest

from gipos.v1.catalog_pb2 import BatchCreateProductsRequest, ImportProductsRequest, Product
from kernel import protojson
from kernel.protojson import JsonRefused


@pytest.mark.parametrize(
    ("message", "text", "field"),
    [
        (ImportProductsRequest, b'{"items":[%s]}', "items"),
        (BatchCreateProductsRequest, b'{"products":[%s]}', "products"),
    ],
)
def test_a_batch_of_a_million_is_refused_as_one_thing(message: type, text: bytes, field: str) -> None:
    with pytest.raises(JsonRefused) as caught:
        protojson.decode(text % b",".join([b"{}"] * 1_000_000), message)
    (wrong,) = caught.value.violations
    assert (wrong.field, wrong.reason) == (field, "TOO_MANY")
    assert "at most 500 items; these are 1000000" in wrong.message


def test_what_fits_is_read() -> None:
    assert len(protojson.decode(b'{"items":[%s]}' % b",".join([b"{}"] * 500), ImportProductsRequest).items) == 500


def test_a_list_of_texts_that_is_too_long_is_told_beside_what_else_is_wrong() -> None:
    with pytest.raises(JsonRefused) as caught:
        protojson.decode(b'{"name":7,"barcodes":[%s]}' % b",".join([b'"8991001101234"'] * 21), Product)
    assert {(one.field, one.reason) for one in caught.value.violations} == {("name", "WRONG_TYPE"), ("barcodes", "TOO_MANY")}
