"""Topics: which there are, which scope each needs, and how its value follows from rows and events. Pure: reads nothing itself.

A value is a JSON object without nulls, so that changes of it can be told as merge patches (RFC 7396).
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from cloud.inventory.shortages import Shortage
from cloud.sales.turnover import Sums
from cloud.webhooks.health import Health
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.devices_pb2 import Device
from gipos.v1.sales_pb2 import Sale, SaleStatus
from kernel import business_days, quantities

TODAY: Final = "sales.today"
RECENT: Final = "sales.recent"
LOW: Final = "stock.low"
DEVICES: Final = "devices"
WEBHOOKS: Final = "webhooks.health"
KINDS: Final = {
    TODAY: "sales:read",
    RECENT: "sales:read",
    LOW: "inventory:read",
    DEVICES: "devices:read",
    WEBHOOKS: "webhooks:read",
}
"""Kinds of topics with the scope that each needs. Those of sales are one topic per outlet: "sales.today:out_01jd…"."""
OUTSIDE: Final = frozenset({DEVICES, WEBHOOKS})
"""Kinds that follow from more than the log, so they are read anew from time to time."""

RECENT_SALES = 20
LOW_AT_MOST = 5_000
"""Thousandths of a unit: so few and less is little."""
LOW_SHOWN = 50

_STATUSES = {
    SaleStatus.SALE_STATUS_COMPLETED: "completed",
    SaleStatus.SALE_STATUS_PARTIALLY_REFUNDED: "partially_refunded",
    SaleStatus.SALE_STATUS_REFUNDED: "refunded",
}


def allowed(scopes: Collection[str]) -> list[str]:
    """The kinds that these scopes allow."""
    return [kind for kind, scope in KINDS.items() if scope in scopes]


def kind_of(topic: str) -> str:
    """The kind of a topic."""
    return topic.partition(":")[0]


@dataclass
class Today:
    """What an outlet has sold on its present day."""

    outlet: Outlet
    day: date
    hours: dict[str, tuple[int, int]] = field(default_factory=dict)
    refunded: int = 0

    @classmethod
    def of(cls, outlet: Outlet, day: date, sums: Sums) -> Today:
        """As it stands in the tables."""
        return cls(outlet, day, dict(sums.hours), sums.refunded)

    def created(self, sale: Sale) -> None:
        """A sale was recorded. Each is announced so exactly once."""
        if sale.business_date == self.day.isoformat():
            hour = business_days.local_time(sale.sale_time.ToDatetime(tzinfo=UTC), self.outlet.time_zone).strftime("%H")
            count, total = self.hours.get(hour, (0, 0))
            self.hours[hour] = (count + 1, total + sale.total.amount)

    def refunded_once(self, sale: Sale) -> None:
        """Some of a sale was given back: what its last refund says."""
        if sale.business_date == self.day.isoformat():
            self.refunded += sale.refunds[-1].amount.amount

    def value(self) -> dict[str, Any]:
        """To be shown."""
        return {
            "outlet_id": self.outlet.id,
            "outlet_name": self.outlet.name,
            "time_zone": self.outlet.time_zone,
            "business_date": self.day.isoformat(),
            "currency": "IDR",
            "count": sum(count for count, _ in self.hours.values()),
            "total": sum(total for _, total in self.hours.values()),
            "refunded": self.refunded,
            "hours": {hour: {"count": count, "total": total} for hour, (count, total) in self.hours.items()},
        }


class Recent:
    """The last sales of an outlet, by the time of the sale."""

    def __init__(self, outlet: Outlet, sales: Iterable[Sale]) -> None:
        self._outlet = outlet
        self._sales = {sale.id: sale for sale in sales}

    def created(self, sale: Sale) -> None:
        """A sale was recorded, perhaps one of yesterday."""
        self._sales[sale.id] = sale
        if len(self._sales) > RECENT_SALES:
            del self._sales[min(self._sales.values(), key=_moment).id]

    def changed(self, sale: Sale) -> None:
        """A sale is not what it was."""
        if sale.id in self._sales:
            self._sales[sale.id] = sale

    def value(self) -> dict[str, Any]:
        """To be shown; by id, so that one more is a small change."""
        sales = {sale.id: _shown(sale) for sale in self._sales.values()}
        return {"outlet_id": self._outlet.id, "outlet_name": self._outlet.name, "sales": sales}


def _moment(sale: Sale) -> tuple[int, int, str]:
    return sale.sale_time.seconds, sale.sale_time.nanos, sale.id


def _shown(sale: Sale) -> dict[str, Any]:
    return {
        "number": sale.number,
        **_when(sale),
        "total": sale.total.amount,
        "refunded": sale.refunded_total.amount,
        "status": _STATUSES.get(sale.status, "completed"),
        "channel": sale.channel,
        "till_id": sale.till_id,
        "lines": len(sale.lines),
    }


def _when(sale: Sale) -> dict[str, str]:
    """Nothing for a moment that has no text: such were stored once, and one must not darken the whole board."""
    try:
        return {"sale_time": sale.sale_time.ToJsonString()}
    except ValueError:
        return {}


class Low:
    """Products of which little is left."""

    def __init__(self, shortages: Iterable[Shortage]) -> None:
        self._products: dict[str, list[Shortage]] = {}
        self.replace((), shortages)

    def replace(self, product_ids: Iterable[str], shortages: Iterable[Shortage]) -> None:
        """What is known of these products is this now."""
        for product_id in product_ids:
            self._products.pop(product_id, None)
        for shortage in shortages:
            self._products.setdefault(shortage.product_id, []).append(shortage)

    def value(self, names: Mapping[str, str]) -> dict[str, Any]:
        """To be shown: how many, and the worst of them. `names` are those of the outlets."""
        every = [shortage for mine in self._products.values() for shortage in mine]
        worst = heapq.nsmallest(LOW_SHOWN, every, key=lambda one: (one.available, one.product_id, one.outlet_id))
        return {
            "threshold": quantities.text(LOW_AT_MOST),
            "count": len(every),
            "products": {
                f"{one.outlet_id}/{one.product_id}": {
                    "outlet_id": one.outlet_id,
                    "outlet_name": names.get(one.outlet_id, ""),
                    "product_id": one.product_id,
                    "name": one.name,
                    "unit": one.unit,
                    "available": quantities.text(one.available),
                }
                for one in worst
            },
        }


def devices(found: Sequence[Device], quarantined: Mapping[str, int], names: Mapping[str, str]) -> dict[str, Any]:
    """The tills to be shown, with the names of their outlets; those that were locked out are not."""
    return {
        "tills": {
            till.id: {
                "name": till.name,
                "number": till.number,
                "outlet_id": till.outlet_id,
                "outlet_name": names.get(till.outlet_id, ""),
                "state": till.state,
                "is_online": till.is_online,
                **({"since": till.since_time.ToJsonString()} if till.HasField("since_time") else {}),
                "waiting_operations": till.waiting_operations,
                "quarantined_operations": quarantined.get(till.id, 0),
            }
            for till in found
            if till.state != "revoked"
        }
    }


def webhooks(found: Sequence[Health], now: datetime) -> dict[str, Any]:
    """The webhooks to be shown."""
    return {
        "webhooks": {
            one.id: {
                "url": one.url,
                "description": one.description,
                "is_active": one.is_active,
                "is_paused": one.paused_until is not None and one.paused_until > now,
                "waiting": one.waiting,
                "failed_today": one.failed,
            }
            for one in found
        }
    }
