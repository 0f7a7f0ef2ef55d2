"""Bindings as OpenAPI operations: parameters, bodies and answers as the transcoder really treats them."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from gateway_rest.openapi import failures
from gateway_rest.openapi.comments import Comments
from gateway_rest.openapi.schemas import EXAMPLES, Schema, Schemas, option
from gateway_rest.transcoding.leaves import Leaf, query_leaves
from gateway_rest.transcoding.rules import Binding, Rules, field_at

_FROM_HEADERS = {"request_id", "etag"}
_STREAM_TEXT = """

Send `Accept: application/x-ndjson` (default) for one JSON document per line, `Accept: text/event-stream` for server-sent events
(with `Last-Event-ID` to go on), or open a WebSocket on the same address: one text frame per message, and a last frame
`{"$status": …}` that says how it ended. Browsers authenticate a WebSocket by two subprotocols, `gipos.v1.json` and
`gipos.key.<API key>`.
A stream that fails ends with `{"error": …}` (NDJSON) or `event: error` (server-sent events)."""


class Operations:
    """All operations of a contract."""

    def __init__(self, rules: Rules, comments: Comments, schemas: Schemas) -> None:
        self._rules = rules
        self._comments = comments
        self._schemas = schemas
        self._names: dict[str, list[str]] = {}
        """Shape to names of the path parameters: one spelling for all methods of a path."""

    def tags(self) -> list[Schema]:
        """One tag per service, in order of declaration."""
        services = dict.fromkeys(binding.rpc.containing_service for binding in self._rules.bindings)
        return [
            {"name": _tag(service.name), "description": self._comments.of(service.full_name)}
            for service in services
            if service is not None
        ]

    def paths(self) -> dict[str, Any]:
        """Paths in order of declaration."""
        result: dict[str, Any] = {}
        for binding in self._rules.bindings:
            path, parameters = self._path(binding)
            methods = ["get", "put", "post", "delete", "patch"] if binding.method == "*" else [binding.method.lower()]
            for method in methods:
                result.setdefault(path, {})[method] = self._operation(binding, parameters)
        return result

    def _path(self, binding: Binding) -> tuple[str, list[Schema]]:
        template = binding.template
        owners: dict[int, str] = {}
        for variable in template.variables:
            end = len(template.segments) if variable.end is None else variable.end % (len(template.segments) + 1)
            wild = [index for index in range(variable.start, end) if template.segments[index] in {"*", "**"}]
            name = variable.field.rpartition(".")[2]
            for count, index in enumerate(wild):
                owners[index] = name if count == 0 else f"{name}_{count}"
        wildcards = [index for index, segment in enumerate(template.segments) if segment in {"*", "**"}]
        names = self._names.setdefault(
            template.shape.rpartition(":")[0] or template.shape, [owners.get(i, f"segment_{i}") for i in wildcards]
        )
        placed = dict(zip(wildcards, names, strict=True))
        segments = [f"{{{placed[index]}}}" if index in placed else segment for index, segment in enumerate(template.segments)]
        path = "/" + "/".join(segments) + (f":{template.verb}" if template.verb else "")
        return path, [self._path_parameter(binding, index, name) for index, name in placed.items()]

    def _path_parameter(self, binding: Binding, index: int, name: str) -> Schema:
        parameter: Schema = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for variable in binding.template.variables:
            if variable.start == index and not variable.is_multi:
                schema = self._schemas.field(field_at(binding.input, variable.field)[-1])
                description = schema.pop("description", "")
                schema.pop("readOnly", None)
                parameter["schema"] = schema
                if description:
                    parameter["description"] = description
        if binding.template.segments[index] == "**":
            parameter["x-multi-segment"] = True
        return parameter

    def _operation(self, binding: Binding, path_parameters: list[Schema]) -> Schema:
        rpc = binding.rpc
        service = rpc.containing_service
        assert service is not None
        summary, rest = self._comments.summary(rpc.full_name)
        operation: Schema = {"tags": [_tag(service.name)], "summary": summary}
        description = rest + (_STREAM_TEXT if rpc.server_streaming else "")
        if description.strip():
            operation["description"] = description.strip()
        operation["operationId"] = f"{service.name}_{rpc.name}" + (f"_{binding.index}" if binding.index else "")
        options: Any = rpc.GetOptions()
        if options.deprecated:
            operation["deprecated"] = True
        parameters = [*path_parameters, *self._query_parameters(binding), *_header_parameters(binding)]
        if parameters:
            operation["parameters"] = parameters
        body = self._body(binding)
        if body is not None:
            required = binding.method != "PATCH"
            operation["requestBody"] = {"required": required, "content": {"application/json": body}}
        operation["responses"] = self._responses(binding)
        return operation

    def _query_parameters(self, binding: Binding) -> list[Schema]:
        if binding.body == "*":
            return []
        bound = {variable.field for variable in binding.template.variables}
        parameters: list[Schema] = []
        for fields, leaf in query_leaves(binding.input):
            if not isinstance(leaf, Leaf) or leaf.path in bound or fields[0].name == binding.body:
                continue
            if leaf.path in _FROM_HEADERS or (leaf.path == "update_mask" and binding.method == "PUT"):
                continue
            schema = self._schemas.field(fields[-1])
            parameter: Schema = {"name": leaf.path, "in": "query", "required": option(fields[-1], "required")}
            description = schema.pop("description", "")
            if description:
                parameter["description"] = description
            parameter["schema"] = schema
            if leaf.is_list:
                parameter |= {"style": "form", "explode": True}
            parameters.append(parameter)
        return parameters

    def _body(self, binding: Binding) -> Schema | None:
        if not binding.body:
            return None
        if binding.body == "*":
            bound = {variable.field for variable in binding.template.variables}
            return {"schema": self._schemas.message(binding.input, bound | _FROM_HEADERS)}
        field = binding.input.fields_by_name[binding.body]
        message = field.message_type
        if message is None or field.is_repeated:
            return {"schema": self._schemas.field(field)}
        schema = self._schemas.partial(message) if binding.method == "PATCH" else self._schemas.reference(message)
        example = EXAMPLES.get(message.full_name)
        return {"schema": schema, **({"example": example} if example is not None and binding.method != "PATCH" else {})}

    def _responses(self, binding: Binding) -> dict[str, Any]:
        name = binding.rpc.name
        headers: Schema = {"X-Request-Id": {"schema": {"type": "string"}}}
        if "etag" in binding.output.fields_by_name:
            headers["ETag"] = {"description": "Changes with every change of the resource.", "schema": {"type": "string"}}
        result: dict[str, Any] = {}
        if name.startswith("Delete") and not binding.output.fields:
            result["204"] = {"description": "Done.", "headers": headers}
        else:
            created = name.startswith("Create") and binding.method == "POST"
            if created:
                headers["Location"] = {"description": "Where it can be read.", "schema": {"type": "string"}}
            content = self._content(binding)
            result["201" if created else "200"] = {
                "description": "Created." if created else "OK.",
                "headers": headers,
                "content": content,
            }
            if binding.method == "GET" and "ETag" in headers:
                result["304"] = {"description": "Not changed since the version named by If-None-Match."}
        result |= {str(status): failures.reference(status) for status in _failures(binding)}
        return {**result, "default": {"$ref": "#/components/responses/Error"}}

    def _content(self, binding: Binding) -> Schema:
        if binding.output.full_name == "google.api.HttpBody":
            return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        schema = (
            self._schemas.field(binding.output.fields_by_name[binding.response_body])
            if binding.response_body
            else self._schemas.reference(binding.output)
        )
        if not binding.rpc.server_streaming:
            return {"application/json": {"schema": schema}}
        text = {
            "type": "string",
            "description": "Events `message` whose data is one JSON document, then `error` if any, and `end`.",
        }
        return {"application/x-ndjson": {"schema": schema}, "text/event-stream": {"schema": text}}


def _header_parameters(binding: Binding) -> list[Schema]:
    fields = binding.input.fields_by_name
    parameters = []
    if "request_id" in fields and binding.method != "GET":
        text = "A key of your choice; repeating the call with it is safe for 30 days."
        parameters.append(_header("Idempotency-Key", text))
    conditional = fields.get("etag") or fields.get("expected_version")
    if conditional is not None and binding.method in {"PUT", "PATCH", "DELETE"}:
        what = "this version" if conditional.type == FieldDescriptor.TYPE_INT64 else "this ETag"
        parameters.append(_header("If-Match", f'Change only if the resource still has {what}, in quotes: "7".'))
    if "etag" in binding.output.fields_by_name and binding.method == "GET":
        parameters.append(_header("If-None-Match", "Answer 304 if the resource still has this ETag."))
    if binding.rpc.server_streaming and "cursor" in fields:
        parameters.append(_header("Last-Event-ID", "Go on after this cursor; sent by EventSource on its own."))
    return parameters


def _header(name: str, description: str) -> Schema:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}


def _failures(binding: Binding) -> list[int]:
    statuses = [400, 401, 403]
    if binding.template.variables:
        statuses.append(404)
    if binding.method != "GET":
        statuses.append(409)
    if binding.method in {"PUT", "PATCH"} and {"etag", "expected_version"} & set(binding.input.fields_by_name):
        statuses.append(412)
    if binding.body:
        statuses += [413, 415]
    if "request_id" in binding.input.fields_by_name:
        statuses.append(422)
    return [*statuses, 429, 503]


def _tag(service: str) -> str:
    return service.removesuffix("Service")
