"""The OpenAPI 3.1 document, made from the descriptor file and its comments. The same descriptors give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway_rest.contract import Contract
from gateway_rest.openapi import examples as stories
from gateway_rest.openapi import security, webhooks
from gateway_rest.openapi.answers import HEADERS
from gateway_rest.openapi.comments import Comments
from gateway_rest.openapi.examples import Example
from gateway_rest.openapi.failures import ERROR_SCHEMAS, responses
from gateway_rest.openapi.operations import Operations
from gateway_rest.openapi.schemas import Schemas
from gateway_rest.transcoding.rules import Rules

TITLE = "GiPos API"
VERSION = "1.0.0"

_DESCRIPTION = """Sales, products, stock and customers of a merchant, as they are at the tills.

* **Authentication**: `Authorization: Bearer gipos_test_…`, or `X-API-Key: gipos_test_…`, or an OAuth 2.0 access token.
* **Money** is a whole number in the currency's minor unit (rupiah have none); **quantities** are decimal strings with at most
  three places, and requests may also send numbers.
* **Null** in a request means: not given; in a PATCH it clears the field. What only the server sets (`id`, `etag`, times, totals)
  may be sent back; it is ignored.
* **Lists** come in pages: send `next_page_token` as `page_token` until it is empty.
* **Part of an answer**: `?fields=products.id,products.name` on any call prints only these.
* **Safe repeats**: send an `Idempotency-Key` with every POST; the same key gives the same answer for 30 days.
* **Errors** are `application/problem+json` with a `reason` for programs, every invalid field in `errors`, and a `request_id`.
  `Accept-Language: id` gives the texts in Indonesian. All of them: [error reference](/docs/errors).
* **Limits**: every answer says in `RateLimit` what is left; 429 says in `Retry-After` when to go on.
* **Every answer** carries `X-Request-Id`; send your own to find a request again in your logs and ours.
* **Time limits**: a call may take 15 s; `X-Request-Timeout` (seconds) shortens that.

Guides, a quick start and an Indonesian introduction: [/docs/guides](/docs/guides).
"""


def document(contract: Contract, rules: Rules, examples: Mapping[str, Example] | None = None) -> bytes:
    """The document as JSON text. `examples` are those of our own contract unless others are given."""
    comments = Comments(contract.files)
    schemas = Schemas(comments)
    told = stories.load() if examples is None else examples
    operations = Operations(rules, comments, schemas, told)
    paths = operations.paths()
    posted = webhooks.section(contract, schemas, _resources(told))
    result: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "summary": "REST for merchants' own programs.", "description": _DESCRIPTION},
        "servers": [{"url": "/", "description": "Where this document comes from."}],
        "security": [{name: []} for name in security.SCHEMES],
        "tags": operations.tags(),
        "externalDocs": {"url": "/docs/guides", "description": "Guides"},
        "paths": paths,
        **({"webhooks": posted} if posted else {}),
        "components": {
            "schemas": dict(sorted({**schemas.components, **ERROR_SCHEMAS}.items())),
            "responses": responses(),
            "headers": HEADERS,
            "securitySchemes": security.SCHEMES,
        },
    }
    return orjson.dumps(result, option=orjson.OPT_INDENT_2)


def _resources(examples: Mapping[str, Example]) -> dict[str, Any]:
    """Resources as examples show them, for what else shows one."""
    wanted = {"Product": "getProduct", "Customer": "getCustomer", "Sale": "getSale", "Level": "listLevels"}
    found = {name: examples[operation].answer for name, operation in wanted.items() if operation in examples}
    if found.get("Level", {}).get("levels"):
        found["Level"] = found["Level"]["levels"][0]
    return found
