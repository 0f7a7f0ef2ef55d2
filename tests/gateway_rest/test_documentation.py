"""The documentation: the OpenAPI document of the product, the pages around it, and the error reference."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from gateway_rest import contract, copy, openapi, pages
from gateway_rest.openapi import examples, security
from gateway_rest.transcoding import rules
from kernel.event_types import EVENT_TYPES
from kernel.scopes import SCOPES
from scripts import error_reference

EXAMPLES = examples.load()


def made() -> bytes:
    installed = contract.installed()
    return openapi.document(installed, rules.load(installed.files, installed.pool, installed.packages))


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(made())


def operations(document: Any) -> dict[str, Any]:
    return {operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()}


def test_the_document_is_valid_and_byte_stable(document: Any) -> None:
    assert made() == made()
    assert document["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_the_document_has_every_route_with_words_and_a_name_of_its_own(document: Any) -> None:
    installed = contract.installed()
    bindings = rules.load(installed.files, installed.pool, installed.packages).bindings
    found = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(found) == len(bindings) == len(operations(document))
    assert all(operation["summary"].endswith(".") for operation in found)
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9]+", operation["operationId"]) for operation in found)
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert {tag for operation in found for tag in operation["tags"]} == tags


def test_every_schema_says_what_it_is_or_is_an_envelope(document: Any) -> None:
    silent = {
        name
        for name, schema in document["components"]["schemas"].items()
        if not schema.get("description")
        and not re.search(r"(Response|Body|Result|Error|Input|Patch|OrderBy|Reason|Mode|Types)$", name)
    }
    assert silent == set()


def test_every_operation_names_its_scope_and_every_scope_exists(document: Any) -> None:
    for name, operation in operations(document).items():
        needed = operation["security"]
        assert [next(iter(item)) for item in needed] == list(security.SCHEMES)
        scopes = {scope for item in needed for listed in item.values() for scope in listed}
        assert scopes <= SCOPES.keys()
        # What a ticket opens follows from the scopes of its key, whichever they are.
        assert len(scopes) == (0 if name in {"getCaller", "createDashboardTicket"} else 1), name
    assert document["components"]["securitySchemes"]["oauth2"]["flows"].keys() == {"clientCredentials", "authorizationCode"}


def test_every_operation_has_an_example_that_fits_it(document: Any) -> None:
    found = operations(document)
    assert found.keys() == EXAMPLES.keys()
    registry: Any = Registry().with_resource("urn:api", Resource.from_contents(document, default_specification=DRAFT202012))

    def complaints(schema: Any, value: Any) -> list[str]:
        pointed = {"$ref": f"urn:api{schema['$ref']}"} if "$ref" in schema else schema
        return [error.message for error in OAS31Validator(pointed, registry=registry).iter_errors(value)]

    for name, example in EXAMPLES.items():
        assert document["paths"][example.template][example.method]["operationId"] == name
        operation = found[name]
        if example.body is not None:
            content = operation["requestBody"]["content"]["application/json"]
            assert content["example"] == example.body
            assert complaints(content["schema"], example.body) == [], name
        response = operation["responses"][str(example.status)]
        if example.answer is not None:
            content = response["content"]["application/x-ndjson" if example.is_stream else "application/json"]
            assert content["example"] == example.answer
            assert complaints(content["schema"], example.answer) == [], name
        known = {(item["in"], item["name"]) for item in operation.get("parameters", ())}
        used = [("path", name) for name in example.parameters] + [("query", name) for name in example.query]
        assert {*used, *(("header", name) for name in example.headers)} <= known, name
        assert [sample["lang"] for sample in operation["x-codeSamples"]] == ["Shell", "Python", "TypeScript"]


def test_secrets_in_examples_are_left_out() -> None:
    text = json.dumps([example.answer for example in EXAMPLES.values()], ensure_ascii=False)
    assert re.findall(r"(?:gipos_(?:test|live|secret|token)_|whsec_)[A-Za-z0-9+/]{8,}", text) == []


def test_every_error_answer_has_an_example_of_each_reason(document: Any) -> None:
    reasons = set()
    for name, response in document["components"]["responses"].items():
        for reason, example in response["content"]["application/problem+json"]["examples"].items():
            reasons.add(reason)
            problem = example["value"]
            assert problem["reason"] == reason
            assert problem["type"] == f"/docs/errors#{reason.lower().replace('_', '-')}"
            assert name in {"Error", f"Error{problem['status']}"}
    assert {"VALIDATION_FAILED", "UNAUTHENTICATED", "RATE_LIMITED", "QUOTA_EXCEEDED", "IDEMPOTENCY_MISMATCH"} <= reasons


def test_limits_and_safe_repeats_are_in_the_document(document: Any) -> None:
    created = operations(document)["createSale"]
    assert {"RateLimit", "RateLimit-Policy", "X-Request-Id", "Location"} <= created["responses"]["201"]["headers"].keys()
    assert "Idempotency-Key" in {parameter["name"] for parameter in created["parameters"]}
    assert "Retry-After" in document["components"]["responses"]["Error429"]["headers"]


def test_every_event_type_is_a_webhook_with_its_resource(document: Any) -> None:
    assert document["webhooks"].keys() == EVENT_TYPES.keys()
    body = document["webhooks"]["sale.completed"]["post"]["requestBody"]["content"]["application/json"]
    schema = document["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]]
    assert schema["properties"]["data"]["$ref"] == "#/components/schemas/Sale"
    assert set(schema["properties"]["type"]["enum"]) == {name for name in EVENT_TYPES if name.startswith("sale.")}
    assert body["example"]["type"] == "sale.completed"


def test_money_and_enums_are_shown_as_they_are_printed(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Money"]["properties"]["amount"]["type"] == "integer"
    assert schemas["SaleStatus"]["enum"] == ["unspecified", "completed", "partially_refunded", "refunded"]
    assert schemas["SaleLine"]["properties"]["quantity"]["format"] == "decimal"
    assert schemas["SaleInput"]["required"] == ["lines"]
    assert schemas["Customer"]["properties"]["phone"]["x-data-class"] == "personal"
    assert schemas["ApiKey"]["properties"]["key"]["x-data-class"] == "secret"


async def test_the_document_is_served_with_an_etag(rest: Any) -> None:
    for path in ("/openapi.json", "/openapi/v1.json"):
        async with rest("GET", path) as answer:
            assert answer.status == 200
            assert answer.content_type == "application/json"
            etag = answer.headers["ETag"]
            assert json.loads(await answer.read())["openapi"] == "3.1.0"
        async with rest("GET", path, headers={"If-None-Match": etag}) as answer:
            assert answer.status == 304


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/redoc", "/docs/guides", "/docs/guides/quick-start", "/docs/errors"])
async def test_a_page_needs_nothing_from_elsewhere_and_holds_no_script(rest: Any, path: str) -> None:
    async with rest("GET", path, headers={"Accept-Language": "id"}) as answer:
        assert answer.status == 200
        policy = answer.headers["Content-Security-Policy"]
        page = await answer.text()
    assert policy.startswith("default-src 'self'")
    assert "script-src" not in policy
    assert ("unsafe-inline" in policy) == (path == "/docs/redoc")
    assert re.findall(r"<script(?![^>]*src=)", page) == []
    assert re.findall(r'(?:src|action)="(?!/)', page) == []
    assert re.findall(r'<link[^>]+href="(?!/)', page) == []
    for reference in re.findall(r'<(?:script|link)[^>]+(?:src|href)="([^"]+)"', page):
        async with rest("GET", reference) as answer:
            assert answer.status == 200, reference
            assert len(await answer.read()) > 100


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/redoc", "/docs/guides", "/docs/guides/limits", "/docs/errors"])
async def test_a_page_can_be_used_without_seeing_it(rest: Any, path: str) -> None:
    async with rest("GET", path) as answer:
        page = await answer.text()
    assert re.search(r'<html lang="(en|id)">', page)
    assert re.search(r"<title>[^<]+ · GiPos API</title>", page)
    assert len(re.findall(r"<h1[ >]", page)) == 1
    levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", page)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert '<a class="skip" href="#content">' in page
    assert '<main id="content"' in page
    assert re.search(r"<nav aria-label=", page)
    assert not re.search(r"<img(?![^>]*alt=)", page)
    assert len(re.findall(r'aria-current="page"', page)) == 1


async def test_the_first_page_speaks_the_readers_language(rest: Any) -> None:
    for header, query, language in (("id-ID,id;q=0.9", "", "id"), ("en", "", "en"), ("en", "?lang=id", "id")):
        async with rest("GET", f"/{query}", headers={"Accept-Language": header}) as answer:
            page = await answer.text()
        assert f'<html lang="{language}">' in page
        assert copy.page(language, "title") in page


async def test_files_are_kept_by_browsers_and_nothing_else_is_served(rest: Any) -> None:
    async with rest("GET", "/docs/assets/redoc.standalone.js") as answer:
        etag = answer.headers["ETag"]
        assert b"cdn.redoc.ly" not in await answer.read()
    async with rest("GET", "/docs/assets/redoc.standalone.js", headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304
    for path in ("/docs/assets/nope.js", "/docs/assets/..%2f__init__.py", "/docs/guides/nope", "/docs/guides/..%2f..%2fREADME"):
        async with rest("GET", path) as answer:
            assert answer.status == 404
            assert answer.content_type == "application/problem+json"


def test_every_file_of_the_pages_is_there() -> None:
    assert {"swagger-ui.css", "swagger-ui-bundle.js", "redoc.standalone.js", "pages.css"} <= pages.assets().keys()


@pytest.mark.parametrize("language", ["en", "id"])
def test_the_error_reference_is_what_the_code_says(language: str) -> None:
    """When this fails: `python -m scripts.error_reference` writes the pages again."""
    assert error_reference.FILES[language].read_text() == error_reference.written(language)


async def test_the_type_of_a_problem_leads_to_its_explanation(rest: Any) -> None:
    async with rest("GET", "/api/v1/nowhere") as answer:
        problem = await answer.json()
    path, _, anchor = problem["type"].partition("#")
    async with rest("GET", path) as answer:
        assert f'<h3 id="{anchor}">' in await answer.text()
