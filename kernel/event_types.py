"""Every event that can be subscribed to. Adding one is one line here and one `tx.publish(…)` where it happens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from gipos.v1.catalog_pb2 import Product
from gipos.v1.customers_pb2 import Customer
from gipos.v1.devices_pb2 import Device
from gipos.v1.inventory_pb2 import Level, Reservation
from gipos.v1.sales_pb2 import Sale

M_contra = TypeVar("M_contra", bound=Message, contravariant=True)


@dataclass(frozen=True)
class EventType(Generic[M_contra]):
    """A kind of fact. The type parameter is the resource it carries."""

    name: str
    subject: str
    """What it is about: product, sale, inventory, reservation, customer, device."""
    description: str


PRODUCT_CREATED: EventType[Product] = EventType("product.created", "product", "A product was added.")
PRODUCT_UPDATED: EventType[Product] = EventType("product.updated", "product", "A product was changed.")
PRODUCT_DELETED: EventType[Product] = EventType("product.deleted", "product", "A product was archived.")
INVENTORY_UPDATED: EventType[Level] = EventType("inventory.updated", "inventory", "The stock of a product in an outlet changed.")
PRODUCT_CONFLICTED: EventType[Product] = EventType(
    "product.conflicted", "product", "A change made at a till met another one; the value that lost waits for somebody to choose."
)
RESERVATION_CREATED: EventType[Reservation] = EventType("reservation.created", "reservation", "Goods were promised to an order.")
RESERVATION_EXTENDED: EventType[Reservation] = EventType(
    "reservation.extended", "reservation", "Promised goods are kept until another time."
)
RESERVATION_RELEASED: EventType[Reservation] = EventType("reservation.released", "reservation", "Promised goods were given back.")
RESERVATION_FULFILLED: EventType[Reservation] = EventType(
    "reservation.fulfilled", "reservation", "Promised goods have left the shop."
)
RESERVATION_EXPIRED: EventType[Reservation] = EventType(
    "reservation.expired", "reservation", "Promised goods were not fetched in time and given back."
)
CUSTOMER_CREATED: EventType[Customer] = EventType("customer.created", "customer", "A customer was added.")
CUSTOMER_UPDATED: EventType[Customer] = EventType("customer.updated", "customer", "A customer was changed.")
CUSTOMER_DELETED: EventType[Customer] = EventType("customer.deleted", "customer", "A customer was erased.")
SALE_CREATED: EventType[Sale] = EventType("sale.created", "sale", "A sale was recorded.")
SALE_COMPLETED: EventType[Sale] = EventType("sale.completed", "sale", "A sale is paid in full.")
SALE_REFUNDED: EventType[Sale] = EventType("sale.refunded", "sale", "A sale was given back, whole or in part.")
DEVICE_OPERATION_QUARANTINED: EventType[Device] = EventType(
    "device.operation_quarantined", "device", "Something a till did could not be stored and was put aside, to be looked at."
)
DEVICE_FORKED: EventType[Device] = EventType("device.forked", "device", "A second tablet appeared under the name of a till.")

EVENT_TYPES = {
    event_type.name: event_type
    for event_type in (
        PRODUCT_CREATED, PRODUCT_UPDATED, PRODUCT_DELETED, INVENTORY_UPDATED, CUSTOMER_CREATED, CUSTOMER_UPDATED,
        CUSTOMER_DELETED, SALE_CREATED, SALE_COMPLETED, SALE_REFUNDED, DEVICE_OPERATION_QUARANTINED, DEVICE_FORKED,
        PRODUCT_CONFLICTED, RESERVATION_CREATED, RESERVATION_EXTENDED, RESERVATION_RELEASED,
        RESERVATION_FULFILLED, RESERVATION_EXPIRED,
    )
}  # fmt: skip


def is_pattern(pattern: str) -> bool:
    """Whether this is an event type, a group such as "sale.*", or "*"."""
    if pattern == "*" or pattern in EVENT_TYPES:
        return True
    return pattern.endswith(".*") and any(name.startswith(pattern[:-1]) for name in EVENT_TYPES)


def selected(patterns: Iterable[str]) -> frozenset[str]:
    """The event types these patterns select."""
    wanted: set[str] = set()
    for pattern in patterns:
        if pattern.endswith("*"):
            wanted.update(name for name in EVENT_TYPES if name.startswith(pattern[:-1]))
        else:
            wanted.add(pattern)
    return frozenset(wanted)
