"""A second version of one resource beside the first, methods that go away, and versions nobody has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from gateway_rest.app import Gateway
from gateway_rest.channel import GrpcChannel
from gateway_rest.contract import Contract, installed
from gateway_rest.transcoding.rules import RuleError
from gipos.v1 import common_pb2

V2 = """
syntax = "proto3";
// The next version of products: a price is one number of the smallest unit.
package gipos.v2;
import "google/api/annotations.proto";
// Products, as they will be.
service ProductService {
  // Gets one product.
  rpc GetProduct(GetProductRequest) returns (Product) {
    option (google.api.http) = {get: "/api/v2/products/{id}"};
  }
  // Creates a product.
  rpc CreateProduct(CreateProductRequest) returns (Product) {
    option (google.api.http) = {
      post: "/api/v2/products"
      body: "product"
    };
  }
}
// Something that is sold.
message Product {
  // Begins with "prd_".
  string id = 1;
  // What is shown.
  string name = 2;
  // In rupiah.
  int64 price_amount = 3;
}
message GetProductRequest {
  string id = 1;
}
message CreateProductRequest {
  Product product = 1;
}
"""
GUIDE = "https://docs.example/v2"


def with_retirement(files: FileDescriptorSet, service: str, **values: str) -> FileDescriptorSet:
    """The same files, with every method of a service of gipos.v1 going away."""
    changed = FileDescriptorSet.FromString(files.SerializeToString())
    for file in changed.file:
        for item in file.service:
            if (file.package, item.name) == ("gipos.v1", service):
                for method in item.method:
                    method.options.Extensions[common_pb2.retirement].CopyFrom(common_pb2.Retirement(**values))
    return changed


def pooled(files: FileDescriptorSet) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@pytest.fixture(scope="module")
def both_versions(compile_proto: Callable[[str, str], Contract]) -> Contract:
    """The product's own contract, whose products are deprecated, and a second version of them."""
    files = with_retirement(installed().files, "ProductService", deprecated_on="2027-01-15", sunset_on="2028-07-01", guide=GUIDE)
    known = {file.name for file in files.file}
    files.file.extend(file for file in compile_proto(V2, "gipos.v2").files.file if file.name not in known)
    return Contract(files, pooled(files), ("gipos.v1", "gipos.v2"), needs_credentials=True)


@pytest.fixture
async def versions(both_versions: Contract, fake_cloud: Any, serve: Any) -> AsyncIterator[Any]:
    """Both versions behind one gateway."""
    running = fake_cloud(both_versions)
    await running.start()
    async for gateway in serve(both_versions, f"127.0.0.1:{running.port}"):
        yield running, gateway
    await running.stop()


def made(contract: Contract, message: str, /, **values: Any) -> Any:
    return message_factory.GetMessageClass(contract.pool.FindMessageTypeByName(message))(**values)


async def test_two_versions_of_one_resource_are_served_side_by_side(versions: Any, both_versions: Contract) -> None:
    cloud, rest = versions

    async def one(request: Any, _context: Any) -> Any:
        if request.DESCRIPTOR.full_name == "gipos.v2.GetProductRequest":
            return made(both_versions, "gipos.v2.Product", id=request.id, name="Teh", price_amount=5000)
        product = made(both_versions, "gipos.v1.Product", id=request.id, name="Teh")
        product.price.amount = 5000
        return product

    cloud.answer("GetProduct", one)
    async with rest("GET", "/api/v1/products/prd_1") as answer:
        assert answer.status == 200
        assert (await answer.json())["price"]["amount"] == 5000
        assert answer.headers["Deprecation"] == "@1799971200"
        assert answer.headers["Sunset"] == "Sat, 01 Jul 2028 00:00:00 GMT"
        assert answer.headers["Link"] == f'<{GUIDE}>; rel="deprecation"; type="text/html"'
    async with rest("GET", "/api/v2/products/prd_1") as answer:
        assert answer.status == 200
        assert await answer.json() == {"id": "prd_1", "name": "Teh", "price_amount": 5000}
        assert not {"Deprecation", "Sunset", "Link"} & {*answer.headers}
    async with rest("POST", "/api/v2/products", json={"name": "Kopi", "price_amount": 9000}) as answer:
        assert answer.status == 201
    assert cloud.requests[-1].product.price_amount == 9000


async def test_a_method_that_goes_away_says_so_in_errors_and_next_to_other_links(versions: Any, both_versions: Contract) -> None:
    cloud, rest = versions
    async with rest("GET", "/api/v1/products?nope=1") as answer:
        assert answer.status == 400
        assert answer.headers["Deprecation"] == "@1799971200"
    cloud.answer("ListProducts", made(both_versions, "gipos.v1.ListProductsResponse", next_page_token="t"))
    async with rest("GET", "/api/v1/products") as answer:
        relations = {link.rpartition('rel="')[2].partition('"')[0] for link in answer.headers.getall("Link")}
    assert relations == {"deprecation", "next"}


async def test_what_only_another_version_has_is_said_to_be_there(versions: Any) -> None:
    _, rest = versions
    async with rest("GET", "/api/v2/outlets") as answer:
        assert answer.status == 404
        problem = await answer.json()
    assert problem["reason"] == "OTHER_VERSION"
    assert problem["detail"] == "There is nothing at /api/v2/outlets, but the same address exists in: v1."
    async with rest("GET", "/api/v3/products/prd_1") as answer:
        problem = await answer.json()
    assert problem["detail"].endswith("exists in: v1, v2.")
    async with rest("GET", "/api/v3/nothing", headers={"Accept-Language": "id"}) as answer:
        problem = await answer.json()
    assert (problem["reason"], problem["detail"]) == (
        "UNKNOWN_VERSION",
        "Tidak ada apa-apa di /api/v3/nothing. Versi API ini: v1, v2.",
    )


async def test_other_addresses_know_nothing_of_versions(rest: Any) -> None:
    reasons = {}
    for path in ("/api/v1/nothing", "/api/v9/nothing", "/api", "/nothing"):
        async with rest("GET", path) as answer:
            assert answer.status == 404
            reasons[path] = (await answer.json())["reason"]
    assert reasons == {
        "/api/v1/nothing": "ROUTE_NOT_FOUND",
        "/api/v9/nothing": "UNKNOWN_VERSION",
        "/api": "ROUTE_NOT_FOUND",
        "/nothing": "ROUTE_NOT_FOUND",
    }


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"deprecated_on": "soon"}, 'deprecated_on "soon" is no date'),
        ({"deprecated_on": "2027-01-15", "sunset_on": "2027-02-30"}, 'sunset_on "2027-02-30" is no date'),
        ({"deprecated_on": "2027-01-15", "sunset_on": "2027-06-01"}, "less than a year"),
        ({"deprecated_on": "2027-01-15", "guide": "http://plain.example"}, "no https address"),
    ],
)
def test_a_retirement_that_cannot_be_announced_fails_at_start_by_name(values: dict[str, str], words: str) -> None:
    files = with_retirement(installed().files, "ProductService", **values)
    with pytest.raises(RuleError, match=r"gipos\.v1\.ProductService\.ListProducts") as caught:
        Gateway(Contract(files, pooled(files)), lambda: GrpcChannel("127.0.0.1:1"))
    assert words in str(caught.value)


def test_a_version_is_part_of_the_contract_by_its_files_alone() -> None:
    assert installed().packages == ("gipos.v1",)
