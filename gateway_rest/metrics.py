"""Counts and times of requests by method and route template (never by path: ids would make endless series)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)


class Metrics:
    """The gateway's numbers, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "gipos_gateway_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "gipos_gateway_request_seconds",
            "Time to the last byte.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.in_flight = Gauge("gipos_gateway_requests_in_flight", "Requests being answered.", registry=self._registry)
        self.streams = Gauge("gipos_gateway_streams", "Live streams and WebSockets that are open.", registry=self._registry)
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[tuple[str, str], Histogram] = {}

    def observe(self, method: str, route: str, status: int, seconds: float, *, timed: bool) -> None:
        """Notes one answered request; `timed` is off for streams, whose length says nothing."""
        key = (method, route, status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._requests.labels(method, route, str(status))
        counter.inc()
        if timed:
            histogram = self._histograms.get((method, route))
            if histogram is None:
                histogram = self._histograms[(method, route)] = self._seconds.labels(method, route)
            histogram.observe(seconds)

    def text(self) -> bytes:
        """Everything in the Prometheus text format."""
        return generate_latest(self._registry)
