"""The till's local HTTP API, on loopback only: what a screen, a test or a script on the tablet can do.

It parses, calls one rule and prints. Money in requests is whole rupiah, as a number or as {"amount", "currency"}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apsw
import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edge.link.client import LinkClient
from edge.storage import facts, lanes, outbox, outlets, print_jobs, products, recovery
from edge.storage import sales as stored_sales
from edge.storage.database import DAMAGE, StorageFull
from edge.storage.folder import Storage
from edge.till import bodies, edits, limits, notices, problems, requests, shelves, stock, views
from edge.till.cart import Cart
from edge.till.checkout import Checkout
from edge.till.doors import LoopbackOnly
from edge.till.receipts import Receipts
from edge.till.supervisors import Supervisors
from kernel import protojson
from kernel.errors import GiposError, NotFound

RECEIPT_WAIT_SECONDS = 2.0
"""How long a checkout waits for its receipt at most."""


@dataclass(frozen=True)
class Screen:
    """The handlers of the local API."""

    storage: Storage
    link: LinkClient
    receipts: Receipts
    cart: Cart
    checkout: Checkout
    supervisors: Supervisors

    async def healthz(self, _: Request) -> Response:
        """Whether the program answers."""
        return _json({"status": "ok"})

    async def status(self, _: Request) -> Response:
        """Everything a status line needs, in one answer."""
        identity, places, count = await self.storage.replica.read(
            lambda connection: (outlets.find(connection), lanes.positions(connection), products.count(connection))
        )
        standing, unsent, unknown, aside = await self.storage.store.read(
            lambda connection: (
                outbox.standing(connection),
                outbox.unsent(connection),
                print_jobs.unknown(connection),
                outbox.quarantined(connection),
            )
        )
        shown: dict[str, Any] = {
            "link": views.link(self.link.status, standing.waiting),
            "warnings": await self.warnings(),
            "unsent": views.unsent(unsent, standing, self.storage.folder),
            "clock": views.clock(self.storage.clock.reading()),
            "disk": {"room": self.storage.space.room().value, "free_bytes": self.storage.space.free()},
            "offline_rules": views.rules(self.storage.rules),
            "printer": {**self.receipts.printer_state(), "unknown": [views.receipt(job) for job in unknown]},
            "products_count": count,
            "positions": views.positions(places),
            "quarantined": [
                {"op_seq": op_seq, "sale_id": op_id, "reason": reason, "message": message}
                for op_seq, op_id, reason, message in aside
            ],
        }
        if identity is not None:
            shown["tenant_id"] = identity.tenant_id
            shown["outlet"] = protojson.to_dict(identity.outlet)
            shown["till"] = protojson.to_dict(identity.till)
            shown["cart"] = views.cart(await self.cart.view())
        return _json(shown)

    async def warnings(self) -> list[dict[str, Any]]:
        """What the cashier should be told now."""
        storage = self.storage
        found = limits.warnings(storage.rules, await self.checkout.standing())
        place = await storage.replica.read(lambda connection: lanes.position(connection, lanes.TENANT_LANE))
        return notices.warnings(
            found,
            room=storage.space.room(),
            free=storage.space.free(),
            clock=storage.clock.reading().state,
            recovery=await storage.store.read(recovery.last),
            now_ms=storage.clock(),
            catalogue_complete=place is not None,
        )

    async def scan(self, request: Request) -> Response:
        """Adds a product to the cart."""
        return _json(views.cart(await self.cart.scan(requests.scan(await bodies.read_object(request)))))

    async def show_cart(self, _: Request) -> Response:
        """The open cart."""
        return _json(views.cart(await self.cart.view()))

    async def clear_cart(self, _: Request) -> Response:
        """Empties the cart."""
        return _json(views.cart(await self.cart.clear()))

    async def change_line(self, request: Request) -> Response:
        """Sets a quantity."""
        quantity = requests.quantity(await bodies.read_object(request))
        return _json(views.cart(await self.cart.change(request.path_params["product_id"], quantity)))

    async def remove_line(self, request: Request) -> Response:
        """Takes a product out."""
        return _json(views.cart(await self.cart.remove(request.path_params["product_id"])))

    async def check_out(self, request: Request) -> Response:
        """Sells the cart."""
        wait, key = bodies.wants_wait(request), bodies.request_key(request)
        done = await self.checkout.complete(requests.checkout(await bodies.read_object(request)), key)
        job = await self.receipts.settled(done.receipt_key, RECEIPT_WAIT_SECONDS if wait else 0)
        return _json(
            {
                "sale": protojson.to_dict(done.sale),
                "change": done.sale.change.amount,
                "receipt": views.receipt(job),
                "repeated": done.repeated,
                "warnings": await self.warnings(),
            }
        )

    async def list_products(self, request: Request) -> Response:
        """Looks products up by words or by barcode."""
        limit = bodies.page_size(request)
        barcode, words = request.query_params.get("barcode"), request.query_params.get("query", "").split()[:10]
        if barcode:
            one = await self.storage.replica.read(lambda connection: products.find_by_barcode(connection, barcode))
            found = [] if one is None else [one]
        else:
            found = await self.storage.replica.read(lambda connection: products.search(connection, words, limit))
        return _json({"products": [views.product(product) for product in await edits.overlaid(self.storage, found)]})

    async def edit_product(self, request: Request) -> Response:
        """Changes a product here and, once the cloud agrees, everywhere."""
        change = requests.edit(await bodies.read_object(request))
        shown = views.product(await edits.edit(self.storage, request.path_params["product_id"], change))
        self.link.wake()
        return _json(shown)

    async def count(self, request: Request) -> Response:
        """Records how many there are of a product."""
        shown = await shelves.count(self.storage, requests.count(await bodies.read_object(request)))
        self.link.wake()
        return _json(views.stock(shown))

    async def permit(self, request: Request) -> Response:
        """Lifts the offline limits for some minutes, with a supervisor's PIN."""
        return _json({"minutes": await self.supervisors.permit(requests.pin(await bodies.read_object(request)))})

    async def show_stock(self, request: Request) -> Response:
        """The stock of a product, own sales included."""
        return _json(views.stock(await stock.of_product(self.storage, request.path_params["product_id"])))

    async def list_sales(self, request: Request) -> Response:
        """The latest sales of this till, newest first."""
        limit = bodies.page_size(request)

        def read(connection: apsw.Connection) -> list[dict[str, Any]]:
            found = stored_sales.newest(connection, limit)
            return [views.recorded_sale(recorded, print_jobs.of_sale(connection, recorded.sale.id)) for recorded in found]

        return _json({"sales": await self.storage.store.read(read)})

    async def show_sale(self, request: Request) -> Response:
        """One sale of this till."""
        sale_id: str = request.path_params["sale_id"]

        def read(connection: apsw.Connection) -> dict[str, Any]:
            recorded = stored_sales.find(connection, sale_id)
            if recorded is None:
                raise NotFound(f"This till has no sale {sale_id}.", sale_id=sale_id)
            return views.recorded_sale(recorded, print_jobs.of_sale(connection, sale_id))

        return _json(await self.storage.store.read(read))

    async def reprint(self, request: Request) -> Response:
        """Prints a marked copy of a receipt."""
        job = await self.receipts.reprint(request.path_params["sale_id"])
        wait = RECEIPT_WAIT_SECONDS if bodies.wants_wait(request) else 0
        return _json(views.receipt(await self.receipts.settled(job.key, wait)))

    async def show_receipt(self, request: Request) -> Response:
        """The state of a print job."""
        return _json(views.receipt(await self.receipts.find(request.path_params["key"])))

    async def resolve_receipt(self, request: Request) -> Response:
        """Takes a person's word for whether an unknown receipt came out."""
        printed = requests.flag(await bodies.read_object(request), "printed")
        return _json(views.receipt(await self.receipts.resolve(request.path_params["key"], printed=printed)))

    async def show_link(self, _: Request) -> Response:
        """The network."""
        return _json(views.link(self.link.status, await self.storage.store.read(outbox.waiting)))

    async def switch_link(self, request: Request) -> Response:
        """The cashier's switch "work offline"; it survives restarts."""
        enabled = requests.flag(await bodies.read_object(request), "enabled")
        await self.storage.store.write(lambda connection: facts.put(connection, facts.LINK_ENABLED, int(enabled)))
        self.link.switch(enabled=enabled)
        return await self.show_link(request)

    async def of_damage(self, request: Request, error: Exception) -> Response:
        """A file is broken: the till's program starts anew, mends it, and is back in a moment."""
        self.storage.distrust()
        return await problems.of_damage(request, error)

    def app(self) -> ASGIApp:
        """The ASGI application. The doors stand outside of everything, so that also a fault of ours carries its request id."""
        routes = [
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/status", self.status, methods=["GET"]),
            Route("/scan", self.scan, methods=["POST"]),
            Route("/cart", self.show_cart, methods=["GET"]),
            Route("/cart", self.clear_cart, methods=["DELETE"]),
            Route("/cart/lines/{product_id}", self.change_line, methods=["PATCH"]),
            Route("/cart/lines/{product_id}", self.remove_line, methods=["DELETE"]),
            Route("/checkout", self.check_out, methods=["POST"]),
            Route("/override", self.permit, methods=["POST"]),
            Route("/count", self.count, methods=["POST"]),
            Route("/products", self.list_products, methods=["GET"]),
            Route("/products/{product_id}", self.edit_product, methods=["POST"]),
            Route("/stock/{product_id}", self.show_stock, methods=["GET"]),
            Route("/sales", self.list_sales, methods=["GET"]),
            Route("/sales/{sale_id}:reprint", self.reprint, methods=["POST"]),
            Route("/sales/{sale_id}", self.show_sale, methods=["GET"]),
            Route("/receipts/{key}:resolve", self.resolve_receipt, methods=["POST"]),
            Route("/receipts/{key}", self.show_receipt, methods=["GET"]),
            Route("/link", self.show_link, methods=["GET"]),
            Route("/link", self.switch_link, methods=["PUT"]),
        ]
        app = Starlette(
            routes=routes,
            exception_handlers={
                GiposError: problems.of_rule,
                problems.BodyRefused: problems.of_body,
                HTTPException: problems.of_route,
                StorageFull: problems.of_full_disk,
                **dict.fromkeys(DAMAGE, self.of_damage),
                Exception: problems.of_fault,
            },
        )
        return LoopbackOnly(app)


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
