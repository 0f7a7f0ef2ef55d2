"""An event of the log as the outside sees it: the same message, and the same JSON, in listings, streams and webhooks."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from cloud.platform.log import LoggedEvent
from gipos.v1.catalog_pb2 import Product
from gipos.v1.customers_pb2 import Customer
from gipos.v1.events_pb2 import Event, Subject
from gipos.v1.inventory_pb2 import Level
from gipos.v1.sales_pb2 import Sale
from kernel import protojson

_RESOURCES: dict[str, type[Message]] = {"product": Product, "inventory": Level, "customer": Customer, "sale": Sale}
_TYPE_URLS = {subject: f"type.googleapis.com/{resource.DESCRIPTOR.full_name}" for subject, resource in _RESOURCES.items()}


def to_proto(tenant_id: str, event: LoggedEvent) -> Event:
    """The event as a message. Its resource is stored serialised and stays so: nothing is parsed here.

    Raises:
        KeyError: the type is about something that has no resource class here.
    """
    subject = event.type.partition(".")[0]
    message = Event(
        id=event.id,
        type=event.type,
        tenant_id=tenant_id,
        outlet_id=event.outlet_id,
        sequence=event.seq,
        subject=Subject(type=subject, id=event.subject_id, version=event.version),
        data=AnyMessage(type_url=_TYPE_URLS[subject], value=event.body),
    )
    message.timestamp.FromDatetime(event.occurred_at)
    message.recorded_time.FromDatetime(event.recorded_at)
    return message


def encode(tenant_id: str, event: LoggedEvent) -> bytes:
    """The event as JSON."""
    return protojson.encode(to_proto(tenant_id, event))
