"""What schemathesis does not know by itself: how one line of a stream is read, and which refusals of well-formed requests are right."""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response

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
    *("INSUFFICIENT", "OVERPAID"),
}
"""Reasons that no schema can state."""
BETWEEN_FIELDS = {
    ("until", "OUT_OF_RANGE"),  # after since
    ("order_by", "INVALID"),  # not together with updated_since
    ("phone", "REQUIRED"),  # one of three
    ("expire_time", "OUT_OF_RANGE"),  # in the future
}
"""Rules between fields, or with the clock."""


@schemathesis.deserializer("application/x-ndjson")
def lines(_context: Any, response: Response) -> Any:
    """The first message of a stream; there may be none yet."""
    first, _, _ = response.content.partition(b"\n")
    return json.loads(first) if first else None


@schemathesis.check
def a_well_formed_request_is_refused_for_a_reason_beyond_the_schema(
    _context: CheckContext, response: Response, case: Case
) -> None:
    """400 for a request that fits the document has to name what the document cannot say."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code < 400:
        return
    if response.status_code in EXPECTED:
        return
    problem = response.json()
    named = {(item["field"].rpartition(".")[2].partition("[")[0], item["reason"]) for item in problem["errors"]}
    unexplained = {item for item in named if item not in BETWEEN_FIELDS and item[1] not in BEYOND_SCHEMA}
    assert response.status_code == 400 and named and not unexplained, f"{problem['reason']}: {sorted(unexplained)}"  # noqa: PT018 (one sentence)
