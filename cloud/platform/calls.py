"""The call being served: who makes it, from where, and what its answer says besides the message. Knows no transport."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kernel.errors import GiposError
from kernel.scopes import READS


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
    """"api_key", "oauth_client", "till", or "nobody"."""
    requests_per_second: int = 0
    """The key's own limit; 0 means the plan's."""
    ends_at: datetime | None = None
    """When the key expires; None for never, and for who has no key."""
    till_state: str = ""
    """Of a till: "active", "suspended" or "retired"; those that are revoked are not let in."""


NOBODY = Caller("", "", "", frozenset(), kind="nobody")
"""Of the few methods that identify their callers themselves (OAuth's endpoints): no merchant, no scopes."""


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
    certificate: bytes = b""
    """What the client has proven to hold the key of, DER; empty for none. It comes from an authority of ours, and
    has begun and not ended: the transport has seen to it."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """What goes out with the answer or the error as initial metadata, names in lower case."""
    request: Any = None
    """The message, from the moment on at which its service works on it."""
    about: list[str] = field(default_factory=list)
    """For the audit trail: what it changed, by id, as noted by trail.py."""
    fields: list[str] = field(default_factory=list)
    """For the audit trail: which fields it changed, as noted by trail.py."""
    seen: list[str] = field(default_factory=list)
    """Whose personal data its answer shows in clear, by customer id."""
    outcome: str = "ok"
    """For the audit trail, when it succeeds."""
    is_recorded: bool = False
    """Whether the audit trail has an entry of it."""

    refusal: GiposError | None = None
    """Set while a stream is open, when its caller is not let in any more."""

    def go_on(self) -> None:
        """Asked by streams whenever they were woken: whether they may.

        Raises:
            GiposError: the refusal.
        """
        if self.refusal is not None:
            raise self.refusal

    @property
    def is_read(self) -> bool:
        """Whether the method only reads."""
        return self.name.startswith(READS)

    @property
    def name(self) -> str:
        """The method's own name, for example "CreateSale"."""
        return self.method.rpartition("/")[2]


current: ContextVar[Call] = ContextVar("call")


def call() -> Call:
    """The call being served."""
    return current.get()


def caller() -> Caller:
    """The authenticated caller of the call being served."""
    who = current.get().caller
    assert who is not None, "the door sets the caller before it calls a service"
    return who
