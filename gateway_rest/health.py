"""Whether this process works and reaches the cloud, and its numbers for a monitor."""

from __future__ import annotations

import time

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway_rest import metrics
from gateway_rest.channel import Channel
from gateway_rest.metrics import Metrics

CHECK_SECONDS = 1.0


def routes(channel: Channel, numbers: Metrics) -> list[Route]:
    """`/healthz` and `/metrics`."""
    started = time.monotonic()

    async def healthz(_: Request) -> Response:
        reachable = await channel.is_serving(CHECK_SECONDS)
        body = {
            "status": "ok" if reachable else "unavailable",
            "cloud": "reachable" if reachable else "unreachable",
            "uptime_seconds": int(time.monotonic() - started),
        }
        headers = {"cache-control": "no-store"} if reachable else {"cache-control": "no-store", "retry-after": "1"}
        return Response(orjson.dumps(body), 200 if reachable else 503, headers, "application/json")

    async def exposition(_: Request) -> Response:
        return Response(numbers.text(), headers={"content-type": metrics.CONTENT_TYPE, "cache-control": "no-store"})

    return [Route("/healthz", healthz), Route("/metrics", exposition)]
