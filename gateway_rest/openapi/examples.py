"""An example of every operation: a request that works, and its answer. One file per group; the test suite performs them all.

Ids in requests are those that an earlier example's answer shows, so that they read, and run, as one story of a shop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from typing import Any
from urllib.parse import quote

import orjson

FILES = (
    *("account", "webhooks", "products", "inventory", "customers", "sales", "deliveries", "events", "keys", "oauth_clients"),
    *("devices", "quarantine", "usage", "audit", "dashboards"),
)
"""In the order in which they can be performed."""


@dataclass(frozen=True)
class Example:
    """One call."""

    operation: str
    method: str
    """In lower case."""
    path: str
    """With its values filled in."""
    template: str
    """As the document has it."""
    status: int
    parameters: dict[str, str] = field(default_factory=dict)
    """Values of path parameters."""
    query: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    answer: Any = None
    """None where the answer has no body; for a stream, its first message."""
    is_stream: bool = False
    varies: tuple[str, ...] = ()
    """Names in the answer that are there, or filled, at some moments only."""


def load() -> dict[str, Example]:
    """All of them by operation id, in the order in which they can be performed."""
    found: dict[str, Example] = {}
    for name in FILES:
        text = resources.files(__package__).joinpath("examples", f"{name}.json").read_bytes()
        for operation, given in orjson.loads(text).items():
            if operation in found:
                raise ValueError(f"{operation} has two examples.")
            method, template = given["call"].split(" ")
            found[operation] = Example(
                operation=operation,
                method=method.lower(),
                template=template,
                path=template.format(**{name: quote(value, safe="") for name, value in given.get("parameters", {}).items()}),
                status=given["status"],
                parameters=given.get("parameters", {}),
                query=given.get("query", {}),
                headers=given.get("headers", {}),
                body=given.get("body"),
                answer=given.get("answer"),
                is_stream=given.get("stream", False),
                varies=tuple(given.get("varies", ())),
            )
    return found
