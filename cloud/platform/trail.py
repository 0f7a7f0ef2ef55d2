"""What the audit trail keeps of a call: who, what, when, from where, outcome. Ids and field names only, never a value.

The row is inserted by the transaction that makes the change (cloud/platform/database.py): there are both or neither. Sealing,
reading and proving are the business of cloud/audit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from cloud.platform import calls
from cloud.platform.calls import Call
from cloud.platform.log import NewEvent
from kernel import business_days
from kernel.ids import PATTERN, new_id
from kernel.protojson.schemas import is_output_only

REPEATED: Final = "repeated"
"""The outcome of a call that only got the stored answer of an earlier one again."""
NAMED_RESOURCES: Final = 20
"""How many resources an entry names; it counts all."""
READ_PERSONAL_DATA: Final = "customers.read_personal_data"
_LINK = "/gipos.edge.v1.EdgeLinkService/"
_AGENT_LENGTH = 200

_SERVICES: Final = {
    # service: group of its actions, type of its resource, words left out of its actions
    "AccountService": ("accounts", "outlet", ()),
    "ProductService": ("products", "product", ("product", "products")),
    "InventoryService": ("inventory", "inventory", ("inventory",)),
    "ReservationService": ("reservations", "reservation", ("reservation", "reservations")),
    "CustomerService": ("customers", "customer", ("customer", "customers")),
    "SaleService": ("sales", "sale", ("sale", "sales")),
    "WebhookService": ("webhooks", "webhook", ("webhook", "webhooks")),
    "EventService": ("events", "event", ("events",)),
    "ApiKeyService": ("api_keys", "api_key", ("api_key", "api_keys")),
    "OAuthClientService": ("oauth_clients", "oauth_client", ("oauth_client", "oauth_clients")),
    "OAuthService": ("oauth", "oauth_client", ()),
    "UsageService": ("usage", "usage", ("usage",)),
    "AuditService": ("audit", "audit_entry", ("audit_entries", "audit_log")),
    "EdgeLinkService": ("tills", "till", ()),
    "DeviceService": ("devices", "device", ("device", "devices")),
    "DashboardService": ("dashboards", "dashboard_ticket", ("dashboard",)),
    "EnrolmentService": ("tills", "till", ()),
}
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+")
_NOT_CHANGED = frozenset({"id", "request_id", "etag", "update_mask", "external_id", "product_id", "outlet_id"})
"""Fields of requests that say which resource is meant, or how, and not what becomes of it."""

COLUMNS: Final = (
    "tenant_id", "id", "created_at", "actor_type", "actor_id", "action", "resource_type", "resource_ids", "outcome", "fields",
    "request_id", "address", "user_agent", "mode", "count",
)  # fmt: skip
"""Of an entry that is not sealed yet, in the order in which they are hashed."""

INSERT = sa.text(
    f"""
    INSERT INTO audit_entries ({", ".join(COLUMNS)}) VALUES ({", ".join(f":{name}" for name in COLUMNS)})
    """  # noqa: S608 (constants of ours)
)


def about(resource_id: str, fields: Sequence[str] = ()) -> None:
    """Notes what the call being served changes, where its request and its events do not say so. Once per resource."""
    call = calls.current.get(None)
    if call is not None:
        call.about.append(resource_id)
        call.fields.extend(name for name in fields if name not in call.fields)


def upload(sale_ids: Sequence[str]) -> None:
    """Notes what the batch of a till's upload that is being stored holds; nothing noted before counts any more."""
    call = calls.current.get(None)
    if call is not None:
        call.about = list(sale_ids)


def repeated(resource_id: str) -> None:
    """Notes that the call being served changes nothing: it gets the answer that an earlier one got."""
    call = calls.current.get(None)
    if call is not None:
        call.outcome = REPEATED
        call.about = [resource_id] if PATTERN.fullmatch(resource_id) else []


@cache
def action_of(method: str) -> tuple[str, str]:
    """The action of a method and the type of resource it is about: `/gipos.v1.ProductService/CreateProduct` is "products.create".

    Raises:
        KeyError: a service without a name here.
    """
    service, name = method.rpartition(".")[2].split("/")
    group, resource, silent = _SERVICES[service]
    words = "_".join(_WORD.findall(name.replace("OAuth", "Oauth"))).lower()
    for word in sorted(silent, key=len, reverse=True):
        words = re.sub(rf"(^|_){word}$", "", words)
    return f"{group}.{words}", resource


def entry_for(
    call: Call,
    tenant_id: str = "",
    *,
    resource_type: str = "",
    resource_ids: Sequence[str] | None = None,
    fields: Sequence[str] | None = None,
    count: int = 1,
    outcome: str = "",
    action: str = "",
    now: datetime | None = None,
) -> dict[str, Any]:
    """The columns of an entry about a call, for INSERT. What is not given follows from the call.

    Whoever inserts it by another way than Database.transaction sets `call.is_recorded` after the commit.
    """
    named, resource = action_of(call.method)
    who = call.caller or calls.NOBODY
    ids = list(dict.fromkeys(call.about or _ids_of(call.request) if resource_ids is None else resource_ids))
    # OAuth's endpoints learn by themselves who calls: it is the application they note.
    actor = ("oauth_client", ids[0] if ids else "") if who.kind == "nobody" else (who.kind, who.till_id or who.key_id)
    return {
        "tenant_id": tenant_id or who.tenant_id,
        "id": new_id("aud"),
        "created_at": now or business_days.now(),
        "actor_type": actor[0],
        "actor_id": actor[1],
        "action": action or named,
        "resource_type": resource_type or resource,
        "resource_ids": ids[:NAMED_RESOURCES],
        "outcome": outcome or call.outcome,
        "fields": list(call.fields or _fields_of(call.request) if fields is None else fields),
        "request_id": call.request_id,
        "address": call.address,
        "user_agent": (call.metadata.get("x-forwarded-user-agent") or call.metadata.get("user-agent", ""))[:_AGENT_LENGTH],
        "mode": who.mode,
        "count": max(count, len(ids), 1),
    }


def uploaded(call: Call, tenant_id: str, sale_ids: Sequence[str], now: datetime) -> dict[str, Any]:
    """The entry of a batch that a till has uploaded over its link."""
    return entry_for(
        call,
        tenant_id,
        action="tills.upload",
        resource_type="sale",
        resource_ids=[text for text in sale_ids if PATTERN.fullmatch(text)],  # what is put aside may be called anything
        fields=(),
        count=len(sale_ids),
        now=now,
    )


def entries(tenant_id: str, now: datetime, events: Sequence[NewEvent]) -> list[dict[str, Any]]:
    """The entries that belong to a transaction which is about to commit: one for a call that changes something, or none."""
    call = calls.current.get(None)
    if call is None or call.request is None or call.caller is None or call.is_read:
        return []
    if call.method.startswith(_LINK):
        # A link lives for hours; each batch of its uploads is one entry.
        if not call.about:
            return []
        ids, call.about = call.about, []
        return [uploaded(call, tenant_id, ids, now)]
    if call.is_recorded:
        return []
    resource = action_of(call.method)[1]
    ids = call.about or [event.subject_id for event in events if event.type.startswith(f"{resource}.")]
    return [entry_for(call, tenant_id, resource_ids=ids or None, now=now)]


def committed() -> None:
    """Says that the entries of the call being served are in the trail."""
    call = calls.current.get(None)
    if call is not None and not call.method.startswith(_LINK):
        call.is_recorded = True


@dataclass(frozen=True)
class _Shape:
    """What there is to say about requests of one type, worked out once."""

    ids: tuple[str, ...]
    """Fields that may name the resource."""
    resource: str
    """The field that holds the resource, or several; empty when there is none."""
    is_repeated: bool
    fields: frozenset[str]
    """Fields of the resource that callers may set, or else of the request."""
    has_mask: bool


@cache
def _shape(descriptor: Descriptor) -> _Shape:
    ids = tuple(name for name in ("id", "product_id") if name in descriptor.fields_by_name)
    for field in descriptor.fields:
        kind = field.message_type
        if kind is not None and "id" in kind.fields_by_name and not kind.full_name.startswith("google."):
            theirs = frozenset(each.name for each in kind.fields if each.name != "id" and not is_output_only(each))
            return _Shape(ids, field.name, field.is_repeated, theirs, "update_mask" in descriptor.fields_by_name)
    own = frozenset(field.name for field in descriptor.fields if field.name not in _NOT_CHANGED)
    return _Shape(ids, "", False, own, False)


def _ids_of(request: Any) -> list[str]:
    """The id a request names. Only what has the shape of an id: a caller may put anything there, a phone number included."""
    if not isinstance(request, Message):
        return []
    shape = _shape(request.DESCRIPTOR)
    found = [getattr(request, name) for name in shape.ids]
    if shape.resource and not shape.is_repeated:
        found.append(getattr(request, shape.resource).id)
    return [text for text in found if PATTERN.fullmatch(text)]


def _fields_of(request: Any) -> list[str]:
    """The names of the fields a request sets or means to set. All of them come from the contract, never from the caller."""
    if not isinstance(request, Message):
        return []
    shape = _shape(request.DESCRIPTOR)
    if not shape.resource:
        return [field.name for field, _ in request.ListFields() if field.name in shape.fields]
    value: Any = getattr(request, shape.resource)
    if shape.has_mask:
        mask: Any = request
        tops = {path.partition(".")[0] for path in mask.update_mask.paths}
        if tops and "*" not in tops:
            return sorted(tops & shape.fields)
    items: Iterable[Message] = value if shape.is_repeated else (value,)
    given = dict.fromkeys(field.name for item in items for field, _ in item.ListFields())
    return [name for name in given if name in shape.fields]
