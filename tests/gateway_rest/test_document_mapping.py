"""How descriptors become OpenAPI 3.1: every row of the mapping, on a contract made for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway_rest import openapi
from gateway_rest.transcoding import rules

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def document(compile_proto: Any) -> Any:
    contract = compile_proto((HERE / "mapping.proto").read_text(), "mapping.v2")
    loaded = rules.load(contract.files, contract.pool, contract.packages)
    parsed = json.loads(openapi.document(contract, loaded, {}))
    assert list(OpenAPIV31SpecValidator(parsed).iter_errors()) == []
    return parsed


def schemas(document: Any) -> Any:
    return document["components"]["schemas"]


def test_names_of_a_later_version_say_so(document: Any) -> None:
    assert {"ThingV2", "ThingInputV2", "ThingPatchV2", "KindV2"} <= schemas(document).keys()
    operations = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert operations == [
        *("getThingV2", "getThingV2Files", "replaceThingV2", "updateThingV2", "moveThingV2", "watchThingsV2", "getPictureV2"),
    ]


def test_a_service_is_a_tag_and_comments_are_the_words(document: Any) -> None:
    assert document["tags"] == [{"name": "Shelfs", "description": "Things on shelves."}]
    operation = document["paths"]["/v2/shelves/{name}/things/{name_1}"]["get"]
    assert (operation["summary"], operation["description"]) == ("Gets a thing.", "And says more about it.")


def test_each_wildcard_of_a_path_is_a_parameter_of_its_own(document: Any) -> None:
    parameters = document["paths"]["/v2/shelves/{name}/things/{name_1}"]["get"]["parameters"]
    assert [item["name"] for item in parameters if item["in"] == "path"] == ["name", "name_1"]
    assert document["paths"]["/v2/files/{path}"]["get"]["parameters"][0]["x-multi-segment"] is True


def test_what_is_left_over_is_the_query_with_dots_between_levels(document: Any) -> None:
    parameters = document["paths"]["/v2/files/{path}"]["get"]["parameters"]
    query = {item["name"]: item for item in parameters if item["in"] == "query"}
    assert set(query) == {"name", "tags", "filter.since"}
    assert (query["tags"]["style"], query["tags"]["explode"], query["tags"]["description"]) == ("form", True, "Only these.")
    assert query["filter.since"]["schema"] == {"type": "string", "format": "date-time"}


def test_fields_of_the_path_are_not_in_the_body_and_what_is_required_stays(document: Any) -> None:
    operation = document["paths"]["/v2/things/{id}:move"]["post"]
    body = schemas(document)[operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]]
    assert (set(body["properties"]), body["required"], body["additionalProperties"]) == ({"to"}, ["to"], False)
    assert operation["deprecated"] is True
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"type": "array", "items": {"$ref": "#/components/schemas/ThingV2"}}


def test_requests_and_answers_have_schemas_of_their_own(document: Any) -> None:
    answer, request = schemas(document)["ThingV2"], schemas(document)["ThingInputV2"]
    assert "id" in answer["properties"]
    assert "id" not in request["properties"]
    assert "password" in request["properties"]
    assert "password" not in answer["properties"]
    assert request["required"] == ["title"]
    assert {"id", "title", "count", "tags", "sizes", "kind"} <= set(answer["required"])
    assert not {"nickname", "made", "colour", "inside"} & set(answer["required"])
    assert request["properties"]["origin"]["description"] == "Cannot be changed later."
    patch = schemas(document)["ThingPatchV2"]
    assert "required" not in patch
    assert patch["properties"]["title"]["type"] == "string"
    assert patch["properties"]["origin"]["type"] == ["string", "null"]


def test_values_have_their_json_form(document: Any) -> None:
    of = schemas(document)["ThingV2"]["properties"]
    assert of["count"] == {"type": "integer", "format": "int64"}
    assert of["small"] == {"type": "integer", "minimum": 0, "maximum": 4294967295}
    assert of["large"] == {"type": "integer", "format": "uint64", "minimum": 0}
    assert of["raw"] == {"type": "string", "contentEncoding": "base64"}
    assert of["sizes"] == {"type": "object", "additionalProperties": {"type": "integer", "format": "int32"}}
    assert of["made"] == {"type": "string", "format": "date-time"}
    assert of["age"]["pattern"].endswith("s$")
    assert of["extra"] == {"type": "object", "additionalProperties": True}
    assert of["anything"] == {}
    assert of["detail"]["required"] == ["@type"]
    assert of["wrapped"] == {"type": "string"}
    assert of["uuid"]["format"] == "uuid"
    assert of["shelf"]["x-resource"] == "example.com/Shelf"
    assert of["old"]["deprecated"] is True
    assert of["secret_name"]["x-data-class"] == "personal"
    assert of["inside"] == {"$ref": "#/components/schemas/ThingV2"}
    assert of["amount"]["format"] == "decimal"


def test_requests_have_bounds_and_may_be_null_where_nothing_is_required(document: Any) -> None:
    of = schemas(document)["ThingInputV2"]["properties"]
    assert of["tags"]["type"] == ["array", "null"]
    assert (of["tags"]["maxItems"], of["tags"]["items"]["maxLength"]) == (3, 10)
    assert of["amount"]["type"] == ["string", "integer", "null"]
    assert of["inside"]["anyOf"] == [{"$ref": "#/components/schemas/ThingInputV2"}, {"type": "null"}]
    words, numbers = {"$ref": "#/components/schemas/KindV2"}, {"$ref": "#/components/schemas/KindNumberV2"}
    assert of["kind"]["anyOf"] == [words, numbers, {"type": "null"}]
    assert schemas(document)["KindNumberV2"]["enum"] == [0, 1]
    mask = document["paths"]["/v2/things/{id}"]["patch"]["parameters"][1]["schema"]["pattern"]
    assert "title|" in mask


def test_an_enum_lists_its_words_and_what_they_mean(document: Any) -> None:
    assert schemas(document)["KindV2"] == {
        "type": "string",
        "enum": ["unspecified", "round"],
        "description": "What sort.\n* `unspecified`\n* `round`: Round.",
    }


def test_at_most_one_member_of_a_oneof(document: Any) -> None:
    choice = schemas(document)["ThingV2"]["oneOf"]
    assert choice[0] == {"not": {"anyOf": [{"required": ["colour"]}, {"required": ["pattern"]}]}}
    assert choice[1:] == [{"required": ["colour"]}, {"required": ["pattern"]}]


def test_a_stream_has_its_forms_and_a_method_that_goes_away_says_so(document: Any) -> None:
    operation = document["paths"]["/v2/things:watch"]["get"]
    content = operation["responses"]["200"]["content"]
    assert content["application/x-ndjson"]["schema"] == {"$ref": "#/components/schemas/ThingV2"}
    assert content["text/event-stream"]["schema"]["type"] == "string"
    assert operation["deprecated"] is True
    assert "2027-11-01" in operation["description"]
    assert {"Deprecation", "Sunset"} <= operation["responses"]["200"]["headers"].keys()


def test_raw_bytes_are_binary(document: Any) -> None:
    content = document["paths"]["/v2/picture"]["get"]["responses"]["200"]["content"]
    assert content == {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
