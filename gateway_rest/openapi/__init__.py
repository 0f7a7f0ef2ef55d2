"""The OpenAPI 3.1 document, made from the descriptor file and its comments. The same descriptors give the same bytes.

Kept readable for tools that only know 3.0 (references stand alone, no type lists): the packaged Swagger UI is one of them.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway_rest.contract import Contract
from gateway_rest.openapi.comments import Comments
from gateway_rest.openapi.failures import ERROR_SCHEMAS, responses
from gateway_rest.openapi.operations import Operations
from gateway_rest.openapi.schemas import Schemas
from gateway_rest.transcoding.rules import Rules

TITLE = "GiPos API"
VERSION = "1.0.0"

_DESCRIPTION = """Sales, products, stock and customers of a merchant, as they are at the tills.

* **Authentication**: `Authorization: Bearer gipos_test_…` or `X-API-Key: gipos_test_…`.
* **Money** is a whole number in the currency's minor unit (rupiah have none); **quantities** are decimal strings with at most
  three places, and requests may also send numbers.
* **Safe repeats**: send an `Idempotency-Key` with every POST; the same key gives the same answer for 30 days.
* **Errors** are `application/problem+json` with a `reason` for programs, every invalid field in `errors`, and a `request_id`.
  `Accept-Language: id` gives titles in Indonesian.
* **Every answer** carries `X-Request-Id`; send your own to find a request again in your logs and ours.
* **Time limits**: a call may take 15 s; `X-Request-Timeout` (seconds) shortens that.
"""


def document(contract: Contract, rules: Rules) -> bytes:
    """The document as JSON text."""
    comments = Comments(contract.files)
    schemas = Schemas(comments)
    operations = Operations(rules, comments, schemas)
    paths = operations.paths()
    webhooks = _webhooks(contract, schemas)
    result: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"apiKey": []}],
        "tags": operations.tags(),
        "paths": paths,
        **({"webhooks": webhooks} if webhooks else {}),
        "components": {
            "schemas": dict(sorted({**schemas.components, **ERROR_SCHEMAS}.items())),
            "responses": responses(),
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The API key as it is."},
                "bearer": {"type": "http", "scheme": "bearer", "description": "The API key as a bearer token."},
            },
        },
    }
    return orjson.dumps(result, option=orjson.OPT_INDENT_2)


def _webhooks(contract: Contract, schemas: Schemas) -> dict[str, Any]:
    """What subscribers get: the Event, as the feed has it."""
    try:
        event = contract.pool.FindMessageTypeByName("gipos.v1.Event")
    except KeyError:
        return {}
    return {
        "event": {
            "post": {
                "summary": "An event, posted to every webhook that subscribed to its type.",
                "description": "Signed as Standard Webhooks says. A 2xx answer within 15 s settles it; else it is tried again.",
                "operationId": "event",
                "requestBody": {"required": True, "content": {"application/json": {"schema": schemas.reference(event)}}},
                "responses": {"2XX": {"description": "Received."}},
                "security": [],
            }
        }
    }
