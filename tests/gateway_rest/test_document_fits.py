"""Every answer of every operation fits the OpenAPI document, with every field set and with none."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from google.protobuf import message_factory
from openapi_schema_validator import OAS31Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from gateway_rest import contract
from gateway_rest.transcoding import rules

INSTALLED = contract.installed()
UNARY = [binding for binding in rules.load(INSTALLED.files, INSTALLED.pool).bindings if not binding.rpc.server_streaming]


def _filled(message_class: Any, depth: int = 4) -> Any:
    message = message_class()
    for field in message_class.DESCRIPTOR.fields:
        inner = field.message_type
        if inner is not None:
            target = getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
            target.SetInParent()
            if inner.full_name == "google.protobuf.Timestamp":
                target.seconds = 1_700_000_000
            elif inner.full_name == "google.protobuf.Any":
                target.Pack(message_factory.GetMessageClass(INSTALLED.pool.FindMessageTypeByName("gipos.v1.Till"))(name="x"))
            elif depth:
                target.CopyFrom(_filled(message_factory.GetMessageClass(inner), depth - 1))
        else:
            value = {9: "1.5", 8: True, 12: b"x"}.get(field.type, 1)
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


def _path(document: Any, binding: Any) -> str:
    wanted = binding.template.segments
    for path in document["paths"]:
        segments = path.removesuffix(f":{binding.template.verb}" if binding.template.verb else "").strip("/").split("/")
        has_verb = ":" in path
        if len(segments) != len(wanted) or has_verb != bool(binding.template.verb):
            continue
        if all(theirs in {"*", ours} for ours, theirs in zip(segments, wanted, strict=True)):
            return str(path)
    raise AssertionError(f"{binding} is not documented")


@pytest.mark.parametrize("binding", UNARY, ids=lambda binding: f"{binding.rpc.name}-{binding.method}")
async def test_every_answer_fits_the_document(binding: Any, cloud: Any, rest: Any) -> None:
    async with rest("GET", "/openapi.json") as answer:
        document = await answer.json()
    path = _path(document, binding)
    operation = document["paths"][path][binding.method.lower()]
    registry: Any = Registry().with_resource("urn:api", Resource.from_contents(document, default_specification=DRAFT202012))
    response_class = message_factory.GetMessageClass(binding.output)
    for response in (_filled(response_class), response_class()):
        cloud.answer(binding.rpc.name, response)
        address = re.sub(r"\{\w+\}", "x", path)
        body: dict[str, Any] = {"json": {}} if binding.body else {}
        async with rest(binding.method, address, **body) as answer:
            described = operation["responses"][str(answer.status)]
            if answer.status == 204:
                assert "content" not in described
                continue
            printed = json.loads(await answer.read())
        schema = described["content"]["application/json"]["schema"]
        validator = OAS31Validator({"$ref": f"urn:api{schema['$ref']}"}, registry=registry)
        # A message without anything in it lacks the messages that every real answer has, such as the price of a product.
        is_whole = response.ByteSize() > 0
        wrong = [error for error in validator.iter_errors(printed) if is_whole or error.validator != "required"]
        assert [error.message for error in wrong] == []
        known = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
        assert printed.keys() <= known.keys()
