"""The webhooks section: what is posted to subscribers, one entry per event type."""

from __future__ import annotations

from typing import Any

from gateway_rest.contract import Contract
from gateway_rest.openapi.schemas import Schemas
from gateway_rest.openapi.values import Schema
from kernel.event_types import EVENT_TYPES

_RESOURCES = {
    "product": "Product",
    "inventory": "Level",
    "reservation": "Reservation",
    "customer": "Customer",
    "sale": "Sale",
    "device": "Device",
}
"""What an event's `data` is, by what the event is about."""
_HEADERS = (
    ("webhook-id", "The event's id. The same on every attempt: use it to recognise what you have handled already."),
    ("webhook-timestamp", "Seconds since 1970 when this attempt was made. Refuse what is more than five minutes off."),
    ("webhook-signature", "`v1,` and the Base64 of an HMAC-SHA256 over `id.timestamp.body`; two of them while a secret changes."),
)


def section(contract: Contract, schemas: Schemas, examples: dict[str, Any]) -> Schema:
    """Event type to what is posted; empty for contracts without events.

    `examples` are resources by message name, as answers show them.
    """
    try:
        event = contract.pool.FindMessageTypeByName("gipos.v1.Event")
    except KeyError:
        return {}
    plain = schemas.answer(event)
    result: Schema = {}
    for kind in EVENT_TYPES.values():
        name = _RESOURCES[kind.subject]
        resource = contract.pool.FindMessageTypeByName(f"gipos.v1.{name}")
        kinds = [other.name for other in EVENT_TYPES.values() if other.subject == kind.subject]
        schema = {**schemas.components[plain["$ref"].rpartition("/")[2]]}
        schema["description"] = f"An event about {'stock' if name == 'Level' else f'a {kind.subject}'}."
        data = {**schemas.answer(resource), "description": schema["properties"]["data"].get("description", "")}
        own = {"type": {"type": "string", "enum": kinds}, "data": data}
        schema["properties"] = {**schema["properties"], **own}
        body: Schema = {"schema": schemas.component(f"{kind.subject.capitalize()}Event", schema)}
        if name in examples:
            body["example"] = _example(kind.name, kind.subject, examples[name])
        result[kind.name] = {
            "post": {
                "summary": kind.description,
                "description": "Signed as Standard Webhooks says. A 2xx answer within 15 s settles it; else it is tried again.",
                "operationId": f"on{''.join(word.capitalize() for word in kind.name.split('.'))}",
                "tags": ["Webhooks"],
                "parameters": [
                    {"name": header, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
                    for header, text in _HEADERS
                ],
                "requestBody": {"required": True, "content": {"application/json": body}},
                "responses": {"2XX": {"description": "Received."}},
                "security": [],
            }
        }
    return result


def _example(kind: str, subject: str, resource: Any) -> Schema:
    moment = resource.get("update_time", "2026-11-23T07:05:09Z")
    return {
        "id": "evt_01jd00000000000000000000e1",
        "type": kind,
        "timestamp": moment,
        "recorded_time": moment,
        "tenant_id": "ten_01jd00000000000000000000t1",
        "outlet_id": resource.get("outlet_id", ""),
        "sequence": 412,
        "subject": {
            "type": subject,
            "id": resource.get("id") or resource.get("product_id", ""),
            "version": int(resource.get("etag") or resource.get("version") or 1),
        },
        "data": resource,
    }
