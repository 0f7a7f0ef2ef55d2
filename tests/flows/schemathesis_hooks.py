"""What schemathesis does not know: which addresses it may not make up, and which refusals of well-formed requests are right."""

from __future__ import annotations

from typing import Any

import schemathesis
from openapi_schema_validator import OAS31Validator
from schemathesis import Case, CheckContext, Response
from schemathesis.core import NOT_SET

EXPECTED = {401, 403, 404, 409, 412, 422, 429}
"""Right for requests that fit the document: who asks, what is there, what was sent before."""
BEYOND_SCHEMA = {
    *("NOT_FOUND", "ARCHIVED", "CURSOR_INVALID", "DUPLICATE", "NOT_ALLOWED", "CONFLICT", "MASKED_VALUE", "TARGET_FORBIDDEN"),
    *(
        "INVALID_CHECK_DIGIT",
        "INVALID_BARCODE",
        "INVALID_PHONE",
        "INVALID_EMAIL",
        "INVALID_URL",
        "INVALID_ADDRESS",
        "INVALID_ORIGIN",
    ),
    *("INSUFFICIENT", "OVERPAID", "INVALID_CHARACTER"),
    "MORE_VIOLATIONS",  # says only that the list of the others was cut
}
"""Reasons that no schema can state."""
BETWEEN_FIELDS = {
    ("until", "OUT_OF_RANGE"),  # after since
    ("order_by", "INVALID"),  # not together with updated_since
    ("phone", "REQUIRED"),  # one of three
    ("expire_time", "OUT_OF_RANGE"),  # in the future
    ("sale_time", "OUT_OF_RANGE"),  # not in the future
    ("price_max", "OUT_OF_RANGE"),  # not below price_min
    ("date_to", "OUT_OF_RANGE"),  # not before date_from
    ("outlet_id", "REQUIRED"),  # with more than one outlet
    ("quantity", "OUT_OF_RANGE"),  # 0 is no quantity
    ("name", "REQUIRED"),  # where a mask names it and the body does not
    ("price", "REQUIRED"),
    ("redirect_uris", "REQUIRED"),  # with authorization_code
    ("grant_types", "INVALID"),  # of a public client
    ("discount", "OUT_OF_RANGE"),  # more than the line
    ("discounts", "OUT_OF_RANGE"),
    ("lines", "OUT_OF_RANGE"),  # all of them together
    ("lines", "TOO_MANY"),  # of a refund: more than were sold
}
"""Rules between fields, or with the clock."""


@schemathesis.hook
def filter_path_parameters(_context: Any, values: Any) -> bool:
    """Clients fold these away before they ask, and ask for something else."""
    return not {".", ".."} & set(map(str, (values or {}).values()))


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    """Webhooks are made for this machine only: made-up addresses might lead to somebody."""
    url = body.get("url") if isinstance(body, dict) else None
    if isinstance(url, str) and url.startswith("https://") and len(url) <= 2048:
        return {**body, "url": "https://127.0.0.1:8443/hooks"}
    return body


@schemathesis.hook
def before_call(_context: Any, case: Case[Any], _kwargs: Any) -> None:
    """Ids of results that failed are empty; put into an address, they would make it that of something else."""
    for name, value in (case.path_parameters or {}).items():
        if value == "":
            case.path_parameters[name] = "none"


def _fits(case: Case[Any]) -> bool:
    """Whether a request fits the document: what it takes from earlier answers and requests is put in as it is."""
    document, operation = case.operation.schema.raw_schema, case.operation.definition.raw
    wanted = [
        (parameter["schema"], case.query[parameter["name"]])
        for parameter in operation.get("parameters", [])
        if parameter.get("in") == "query" and parameter["name"] in (case.query or {})
    ]
    if case.media_type == "application/json" and case.body is not NOT_SET:
        wanted.append((operation["requestBody"]["content"][case.media_type]["schema"], case.body))
    return all(OAS31Validator({**schema, "components": document["components"]}).is_valid(value) for schema, value in wanted)


@schemathesis.check
def a_well_formed_request_is_refused_for_a_reason_beyond_the_schema(
    _context: CheckContext, response: Response, case: Case[Any]
) -> None:
    """400 for a request that fits the document has to name what the document cannot say."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code < 400:
        return
    if response.status_code in EXPECTED or not _fits(case):
        return
    problem = response.json()
    named = {(item["field"].rpartition(".")[2].partition("[")[0], item["reason"]) for item in problem["errors"]}
    unexplained = {item for item in named if item not in BETWEEN_FIELDS and item[1] not in BEYOND_SCHEMA}
    assert response.status_code == 400 and named and not unexplained, f"{problem['reason']}: {sorted(unexplained)}"  # noqa: PT018 (one sentence)
