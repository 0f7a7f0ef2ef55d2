"""The call being served: who makes it, from where, and what its answer says besides the message. Knows no transport."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Caller:
    """Who makes the call."""

    tenant_id: str
    key_id: str
    """The API key, OAuth client or till."""
    mode: str
    """"test" or "live"."""
    scopes: frozenset[str]
    till_id: str = ""
    """Set when the caller is a till."""
    outlet_id: str = ""
    kind: str = "api_key"
    """"api_key", "oauth_client" or "till"."""
    requests_per_second: int = 0
    """The key's own limit; 0 means the plan's."""


@dataclass
class Call:
    """One call, from the door to its answer."""

    method: str
    """`/package.Service/Method`."""
    metadata: dict[str, str]
    address: str
    """Of the client, as far as it can be believed; empty when unknown."""
    request_id: str
    caller: Caller | None = None
    """Set once the caller is known."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """What goes out with the answer or the error as initial metadata, names in lower case."""

    @property
    def is_read(self) -> bool:
        """Whether the method only reads."""
        return self.method.rpartition("/")[2].startswith(READS)

    @property
    def name(self) -> str:
        """The method's own name, for example "CreateSale"."""
        return self.method.rpartition("/")[2]


READS = ("Get", "List", "Watch", "Find", "Export", "Verify")
"""How the names of methods begin that change nothing."""

current: ContextVar[Call] = ContextVar("call")


def call() -> Call:
    """The call being served."""
    return current.get()


def caller() -> Caller:
    """The authenticated caller of the call being served."""
    who = current.get().caller
    assert who is not None, "the door sets the caller before it calls a service"
    return who
