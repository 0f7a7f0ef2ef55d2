"""Parameters of operations: what stands in path, query and headers, as the transcoder really reads it."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor

from gateway_rest.openapi import fields
from gateway_rest.openapi.schemas import Schemas
from gateway_rest.openapi.values import Schema
from gateway_rest.transcoding.leaves import Leaf, query_leaves
from gateway_rest.transcoding.rules import Binding, field_at
from kernel.ids import PATTERN

FROM_HEADERS = {"request_id", "etag"}
"""Request fields that HTTP carries in headers."""


class Parameters:
    """Works out the parameters of bindings."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._names: dict[str, list[str]] = {}
        """Shape to names of the path parameters: one spelling for all methods of a path."""

    def path(self, binding: Binding) -> tuple[str, list[Schema]]:
        """The path as OpenAPI writes it, and its parameters: literals stay, each wildcard is a parameter of its own."""
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
        text = "/" + "/".join(segments) + (f":{template.verb}" if template.verb else "")
        return text, [self._in_path(binding, index, name) for index, name in placed.items()]

    def query(self, binding: Binding, method: str) -> list[Schema]:
        """What is left for the query string."""
        if binding.body == "*":
            return []
        bound = {variable.field for variable in binding.template.variables}
        parameters: list[Schema] = []
        for chain, leaf in query_leaves(binding.input):
            if not isinstance(leaf, Leaf) or leaf.path in bound or chain[0].name == binding.body:
                continue
            # A key that the path names in one way is not asked for in another; a whole replacement has no mask.
            is_other_key = method == "get" and bool(bound) and leaf.path in {"id", "external_id"}
            if leaf.path in FROM_HEADERS or is_other_key or (leaf.path == "update_mask" and method == "put"):
                continue
            schema, description = self._schemas.parameter(chain[-1])
            parameter: Schema = {"name": leaf.path, "in": "query", "required": fields.is_required(chain[-1])}
            if description:
                parameter["description"] = description
            parameter["schema"] = schema
            if leaf.is_list:
                parameter |= {"style": "form", "explode": True}
            parameters.append(parameter)
        return parameters

    def headers(self, binding: Binding, method: str) -> list[Schema]:
        """Headers that change what the operation does."""
        known = binding.input.fields_by_name
        parameters = []
        if "request_id" in known and method != "get":
            text = "A key of your choice, best a UUID. The same key with the same body gives the same answer for 30 days."
            parameters.append(_header("Idempotency-Key", text, minLength=1, maxLength=255, pattern="^[!-~]([ -~]*[!-~])?$"))
        conditional = known.get("etag") or known.get("expected_version")
        if conditional is not None and method in {"put", "patch", "delete"}:
            is_number = conditional.type == FieldDescriptor.TYPE_INT64
            what, inner = ("this version", "[0-9]{1,18}") if is_number else ("this ETag", "[!#-~]*")
            bare = inner if is_number else "[0-9A-Za-z]+"
            text = f'Change only if the resource still has {what}, in quotes: "7".'
            parameters.append(_header("If-Match", text, pattern=f'^((W/)?"{inner}"|{bare}|\\*)$'))
        if method == "get" and not binding.rpc.server_streaming:
            parameters.append(_header("If-None-Match", "Answer 304 if the answer would still have this ETag."))
        if binding.rpc.server_streaming and "cursor" in known:
            parameters.append(_header("Last-Event-ID", "Go on after this cursor; sent by EventSource on its own."))
        return parameters

    def _in_path(self, binding: Binding, index: int, name: str) -> Schema:
        parameter: Schema = {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for variable in binding.template.variables:
            if variable.start == index and not variable.is_multi:
                schema, description = self._schemas.parameter(field_at(binding.input, variable.field)[-1])
                if schema.get("type") == "string" and "format" not in schema and "enum" not in schema:
                    # Our own ids have one form; what else stands in a path is the caller's.
                    is_own = name == "id" or (name.endswith("_id") and name != "external_id")
                    schema = {"type": "string", "pattern": f"^{PATTERN.pattern}$"} if is_own else {**schema, "minLength": 1}
                parameter["schema"] = schema
                if description:
                    parameter["description"] = description
        if binding.template.segments[index] == "**":
            parameter["x-multi-segment"] = True
        return parameter


def _header(name: str, description: str, **limits: int | str) -> Schema:
    schema = {"type": "string", **limits}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}
