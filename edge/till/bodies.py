"""Reads request bodies of the local API: their kind, their size, their JSON. What is in them is read by `requests`."""

from __future__ import annotations

import re
from typing import Any

import orjson
from starlette.requests import Request

from edge.till.problems import BodyRefused
from kernel.errors import Invalid, Violation

MAX_BODY = 64 * 1024
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        BodyRefused: 413, 415, or 400 when it is no JSON object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise BodyRefused(415, "UNSUPPORTED_MEDIA_TYPE", "Send the body as Content-Type: application/json.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise BodyRefused(413, "BODY_TOO_LARGE", f"The body is larger than {MAX_BODY} bytes.")
    try:
        parsed = orjson.loads(bytes(body))
    except orjson.JSONDecodeError as error:
        raise BodyRefused(400, "INVALID_JSON", f"The body is not valid JSON: {error.msg} at character {error.pos}.") from error
    if not isinstance(parsed, dict):
        raise BodyRefused(400, "INVALID_JSON", "The body must be a JSON object.")
    return parsed


def request_key(request: Request) -> str | None:
    """The Idempotency-Key header, if given.

    Raises:
        Invalid: it is empty, too long or not plain ASCII.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and _KEY.fullmatch(key) is None:
        raise Invalid(
            [Violation("Idempotency-Key", "INVALID_TEXT", "must be 1 to 255 printable ASCII characters without spaces")]
        )
    return key


def page_size(request: Request, default: int = 50, most: int = 200) -> int:
    """The page_size parameter; more than the most is lowered to it.

    Raises:
        Invalid: it is no whole number above 0.
    """
    value = request.query_params.get("page_size", str(default))
    if re.fullmatch(r"[0-9]{1,9}", value) is None or int(value) < 1:
        raise Invalid([Violation("page_size", "OUT_OF_RANGE", f"must be a whole number from 1 to {most}")])
    return min(int(value), most)


def wants_wait(request: Request) -> bool:
    """The wait parameter: 0 answers at once, 1 (the default) after the receipt is printed or two seconds.

    Raises:
        Invalid: it is neither.
    """
    value = request.query_params.get("wait", "1")
    if value not in ("0", "1"):
        raise Invalid([Violation("wait", "OUT_OF_RANGE", "must be 0 or 1")])
    return value == "1"
