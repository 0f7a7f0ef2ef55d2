"""What operations answer: each status that can come, with its headers, its schema and an example."""

from __future__ import annotations

from typing import Any

import orjson

from gateway_rest.openapi import failures
from gateway_rest.openapi.examples import Example
from gateway_rest.openapi.schemas import Schemas
from gateway_rest.openapi.values import Schema
from gateway_rest.transcoding.rules import Binding
from gipos.v1 import common_pb2

HEADERS: dict[str, Schema] = {
    "X-Request-Id": {
        "description": "Names this call in our logs: the one you sent, else one of ours.",
        "schema": {"type": "string"},
        "example": "req_01jd0000000000000000000000",
    },
    "RateLimit": {
        "description": "What is left: `r` requests for the next `t` seconds, per policy.",
        "schema": {"type": "string"},
        "example": '"per-second";r=18;t=1, "daily";r=9750;t=30211',
    },
    "RateLimit-Policy": {
        "description": "The policies: `q` requests per `w` seconds.",
        "schema": {"type": "string"},
        "example": '"per-second";q=20;w=1, "daily";q=10000;w=86400',
    },
    "ETag": {
        "description": "Changes with every change of the resource. For If-Match and If-None-Match.",
        "schema": {"type": "string"},
        "example": '"3"',
    },
    "Location": {
        "description": "Where the new resource can be read.",
        "schema": {"type": "string", "format": "uri-reference"},
        "example": "/api/v1/products/prd_01jd0000000000000000000000",
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}, "example": 1},
    "Deprecation": {
        "description": "Since when this is deprecated (RFC 9745).",
        "schema": {"type": "string"},
        "example": "@1793491200",
    },
    "Sunset": {
        "description": "From when on this may be gone (RFC 8594).",
        "schema": {"type": "string"},
        "example": "Mon, 01 Nov 2027 00:00:00 GMT",
    },
    "X-Left-Out": {
        "description": "Hardly ever there: fields that are missing because what is stored in them has no form in JSON.",
        "schema": {"type": "string"},
        "example": "sales[3].sale_time",
    },
}
"""Components that answers refer to."""


class Answers:
    """Works out the answers of bindings."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def of(self, binding: Binding, method: str, example: Example | None) -> Schema:
        """Status to answer."""
        name = binding.rpc.name
        retirement: common_pb2.Retirement = binding.rpc.GetOptions().Extensions[common_pb2.retirement]
        shown = ["X-Request-Id", "RateLimit", "RateLimit-Policy"]
        if retirement.deprecated_on:
            shown += ["Deprecation", "Sunset"]
        is_plain_get = method == "get" and not binding.rpc.server_streaming
        has_etag = is_plain_get or "etag" in binding.output.fields_by_name
        result: Schema = {}
        if name.startswith("Delete") and not binding.output.fields:
            result["204"] = {"description": "Done.", "headers": _headers(shown)}
        else:
            created = name.startswith("Create") and method == "post"
            more = (["ETag"] if has_etag else []) + (["Location"] if created else []) + (["X-Left-Out"] if is_plain_get else [])
            content = self._content(binding, example)
            headers = _headers([*shown, *more])
            if not created:
                result["200"] = {"description": "OK.", "headers": headers, "content": content}
            if created or name.startswith("Upsert"):
                result["201"] = {"description": "Created.", "headers": headers, "content": content}
            if is_plain_get:
                text = "Not changed since the version named by If-None-Match."
                result["304"] = {"description": text, "headers": _headers([*shown, "ETag"])}
        result |= {str(status): failures.reference(status) for status in _statuses(binding, method)}
        return {**result, "default": {"$ref": "#/components/responses/Error"}}

    def _content(self, binding: Binding, example: Example | None) -> Schema:
        if binding.output.full_name == "google.api.HttpBody":
            return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        schema = (
            self._schemas.answer_field(binding.output.fields_by_name[binding.response_body])
            if binding.response_body
            else self._schemas.answer(binding.output)
        )
        shown = {"example": example.answer} if example is not None else {}
        if not binding.rpc.server_streaming:
            return {"application/json": {"schema": schema, **shown}}
        text: Schema = {
            "type": "string",
            "description": "Events `message` whose data is one JSON document, then `error` if any, and `end`.",
        }
        events = {}
        if example is not None:
            events["example"] = f"event: message\ndata: {orjson.dumps(example.answer).decode()}\n\n"
        return {"application/x-ndjson": {"schema": schema, **shown}, "text/event-stream": {"schema": text, **events}}


def _headers(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _statuses(binding: Binding, method: str) -> list[int]:
    """The errors that can come."""
    known = set(binding.input.fields_by_name)
    statuses = [400, 401, 403]
    if binding.template.variables or "page_token" in known or "cursor" in known or binding.body:
        statuses.append(404)
    if method != "get":
        statuses.append(409)
    if method in {"put", "patch", "delete"} and {"etag", "expected_version"} & known:
        statuses.append(412)
    if binding.body:
        statuses += [413, 415]
    if "request_id" in known and method != "get":
        statuses.append(422)
    return [*statuses, 429, 503]
