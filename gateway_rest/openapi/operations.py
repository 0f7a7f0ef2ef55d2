"""Bindings as OpenAPI operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway_rest.openapi import fields, names, samples, security
from gateway_rest.openapi.answers import Answers
from gateway_rest.openapi.comments import Comments
from gateway_rest.openapi.examples import Example
from gateway_rest.openapi.parameters import FROM_HEADERS, Parameters
from gateway_rest.openapi.schemas import Schemas
from gateway_rest.openapi.values import Schema
from gateway_rest.transcoding.rules import Binding, Rules
from gipos.v1 import common_pb2

_ANY = ("get", "put", "post", "delete", "patch")
_STREAM_TEXT = """

Send `Accept: application/x-ndjson` (default) for one JSON document per line, `Accept: text/event-stream` for server-sent events
(with `Last-Event-ID` to go on), or open a WebSocket on the same address: one text frame per message, and a last frame
`{"$status": …}` that says how it ended. Browsers authenticate a WebSocket by two subprotocols, `gipos.v1.json` and
`gipos.key.<API key>`.
A stream that fails ends with `{"error": …}` (NDJSON) or `event: error` (server-sent events)."""


class Operations:
    """All operations of a contract."""

    def __init__(self, rules: Rules, comments: Comments, schemas: Schemas, examples: Mapping[str, Example]) -> None:
        self._rules = rules
        self._comments = comments
        self._schemas = schemas
        self._examples = examples
        self._parameters = Parameters(schemas)
        self._answers = Answers(schemas)

    def tags(self) -> list[Schema]:
        """One tag per service, in order of declaration."""
        services = dict.fromkeys(binding.rpc.containing_service for binding in self._rules.bindings)
        return [
            {"name": names.tag(service.name), "description": self._comments.of(service.full_name)}
            for service in services
            if service is not None
        ]

    def paths(self) -> dict[str, Any]:
        """Paths in order of declaration."""
        first: dict[str, Binding] = {}
        result: dict[str, Any] = {}
        for binding in self._rules.bindings:
            first.setdefault(binding.rpc.full_name, binding)
            path, parameters = self._parameters.path(binding)
            for method in _ANY if binding.method == "*" else (binding.method.lower(),):
                name = names.operation_id(binding, method, first[binding.rpc.full_name])
                name = f"{name}_{method}" if binding.method == "*" else name
                example = self._examples.get(name)
                if example is not None and (example.template, example.method) != (path, method):
                    example = None  # of another contract
                operation = self._operation(binding, method, name, example)
                own = [*parameters, *self._parameters.query(binding, method), *self._parameters.headers(binding, method)]
                if own:
                    operation["parameters"] = _with_examples(own, example)
                result.setdefault(path, {})[method] = _ordered(operation)
        return result

    def _operation(self, binding: Binding, method: str, name: str, example: Example | None) -> Schema:
        rpc = binding.rpc
        service = rpc.containing_service
        assert service is not None
        summary, rest = self._comments.summary(rpc.full_name)
        notes = [rest, _STREAM_TEXT.strip() if rpc.server_streaming else ""]
        if scope := security.scope(binding):
            notes.append(f"Scope: `{scope}`.")
        if name.startswith("replace"):
            summary = summary.replace("Updates", "Replaces", 1)
        elif binding.index and binding.template.variables and method == "get":
            summary = f"{summary.rstrip('.')} by its {binding.template.variables[0].field}."
        operation: Schema = {"tags": [names.tag(service.name)], "summary": summary, "operationId": name}
        options: Any = rpc.GetOptions()
        retirement: common_pb2.Retirement = options.Extensions[common_pb2.retirement]
        if options.deprecated or retirement.deprecated_on:
            operation["deprecated"] = True
        if retirement.deprecated_on:
            notes.append(
                f"Deprecated since {retirement.deprecated_on}, gone from {retirement.sunset_on} on; answers say so in the "
                f"headers Deprecation and Sunset. What to use instead: <{retirement.guide}>."
            )
        operation["description"] = "\n\n".join(note for note in notes if note)
        body = self._body(binding, method)
        if body is not None:
            if example is not None and example.body is not None:
                body["example"] = example.body
            needed = method != "patch" and _needs_body(binding)
            operation["requestBody"] = {"required": needed, "content": {"application/json": body}}
        operation["responses"] = self._answers.of(binding, method, example)
        operation["security"] = security.requirement(binding)
        if example is not None:
            operation["x-codeSamples"] = samples.all_of(example)
        return operation

    def _body(self, binding: Binding, method: str) -> Schema | None:
        if not binding.body:
            return None
        bound = {variable.field for variable in binding.template.variables}
        if binding.body == "*":
            return {"schema": self._schemas.body(binding.input, f"{binding.rpc.name}Body", bound | FROM_HEADERS)}
        field = binding.input.fields_by_name[binding.body]
        message = field.message_type
        if message is None or field.is_repeated:
            return {"schema": self._schemas.parameter(field)[0]}
        # What the path says about the body need not be said twice; a caller who does so must say the same.
        without = {path.partition(".")[2] for path in bound if path.startswith(f"{binding.body}.")}
        named = without & {item.name for item in message.fields if not fields.is_output_only(item)}
        if method == "patch":
            return {"schema": self._schemas.body(message, f"{message.name}Patch", named, is_partial=True)}
        return {
            "schema": self._schemas.body(message, f"{binding.rpc.name}Body", named) if named else self._schemas.draft(message)
        }


def _with_examples(parameters: list[Schema], example: Example | None) -> list[Schema]:
    """The parameters with the example's values. Headers get none: one caller's key or ETag is wrong for the next one."""
    given = {**example.parameters, **example.query} if example is not None else {}
    return [
        {**parameter, "example": given[parameter["name"]]} if parameter["name"] in given else parameter
        for parameter in parameters
    ]


def _ordered(operation: Schema) -> Schema:
    order = (
        *("tags", "summary", "description", "operationId", "deprecated", "parameters", "requestBody", "responses"),
        *("security", "x-codeSamples"),
    )
    return {key: operation[key] for key in order if key in operation}


def _needs_body(binding: Binding) -> bool:
    """Whether a request without a body lacks something."""
    if binding.body != "*":
        return True
    bound = {variable.field for variable in binding.template.variables}
    return any(fields.is_required(field) for field in binding.input.fields if field.name not in bound)
