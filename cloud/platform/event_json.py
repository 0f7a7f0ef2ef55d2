"""An event of the log as the outside sees it: the same message, and the same JSON, in listings, streams and webhooks."""

from __future__ import annotations

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from cloud.platform.log import LoggedEvent
from gipos.v1.catalog_pb2 import Product
from gipos.v1.common_pb2 import DATA_CLASS_PERSONAL
from gipos.v1.customers_pb2 import Customer
from gipos.v1.devices_pb2 import Device
from gipos.v1.events_pb2 import Event, Subject
from gipos.v1.inventory_pb2 import Level, Reservation
from gipos.v1.sales_pb2 import Sale
from kernel import masking, protojson

logger = structlog.get_logger()

_RESOURCES: dict[str, type[Message]] = {
    "product": Product,
    "inventory": Level,
    "reservation": Reservation,
    "customer": Customer,
    "sale": Sale,
    "device": Device,
}
_TYPE_URLS = {subject: f"type.googleapis.com/{resource.DESCRIPTOR.full_name}" for subject, resource in _RESOURCES.items()}

_PERSONAL = {subject for subject, resource in _RESOURCES.items() if masking.holds(resource.DESCRIPTOR, DATA_CLASS_PERSONAL)}


def to_proto(tenant_id: str, event: LoggedEvent) -> Event:
    """The event as a message. Its resource is stored serialised and stays so, unless it is about a person.

    Raises:
        KeyError: the type is about something that has no resource class here.
    """
    subject = event.type.partition(".")[0]
    body = event.body if subject not in _PERSONAL else _masked(_RESOURCES[subject].FromString(event.body))
    message = Event(
        id=event.id,
        type=event.type,
        tenant_id=tenant_id,
        outlet_id=event.outlet_id,
        sequence=event.seq,
        subject=Subject(type=subject, id=event.subject_id, version=event.version),
        data=AnyMessage(type_url=_TYPE_URLS[subject], value=body),
    )
    message.timestamp.FromDatetime(event.occurred_at)
    message.recorded_time.FromDatetime(event.recorded_at)
    return message


def _masked(resource: Message) -> bytes:
    """What is published is masked already, but for events that the release before publishes while both run."""
    return (resource if getattr(resource, "masked", False) else masking.masked(resource)).SerializeToString()


def encode(tenant_id: str, event: LoggedEvent) -> bytes:
    """The event as JSON. What of a stored resource has no JSON form is left out, and named in the member "$left_out"."""
    message = to_proto(tenant_id, event)
    try:
        return protojson.encode(message)
    except protojson.EncodingFailed:
        spared, left_out = protojson.spared(message)
        fields = [each.field for each in left_out]
        logger.warning("value_left_out", tenant_id=tenant_id, event_id=event.id, subject_id=event.subject_id, fields=fields)
        return protojson.marked(protojson.encode(spared), left_out)
