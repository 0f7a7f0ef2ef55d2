"""Counts and times of requests by method and route template (never by path: ids would make endless series).

Counted in plain numbers, because everything happens on one event loop; they become Prometheus' own when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)
_BOUNDS = (*(str(float(bound)) for bound in _BUCKETS), "+Inf")


class Gauge:
    """Something that goes up and down."""

    def __init__(self) -> None:
        self.value = 0

    @contextmanager
    def track_inprogress(self) -> Iterator[None]:
        """Counts one as long as the block lasts."""
        self.value += 1
        try:
            yield
        finally:
            self.value -= 1


class _Times:
    """Seconds of one method and route."""

    def __init__(self) -> None:
        self.sum = 0.0
        self.counts = [0] * (len(_BUCKETS) + 1)

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds and how many were at most that."""
        total = 0
        found: list[tuple[str, float]] = []
        for bound, count in zip(_BOUNDS, self.counts, strict=True):
            total += count
            found.append((bound, total))
        return found


class Metrics(Collector):
    """The gateway's numbers, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._counts: dict[tuple[str, str, int], int] = {}
        self._times: dict[tuple[str, str], _Times] = {}
        self.in_flight = Gauge()
        self.streams = Gauge()

    def observe(self, method: str, route: str, status: int, seconds: float, *, timed: bool) -> None:
        """Notes one answered request; `timed` is off for streams, whose length says nothing."""
        key = (method, route, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        if timed:
            times = self._times.get((method, route))
            if times is None:
                times = self._times[method, route] = _Times()
            times.sum += seconds
            times.counts[bisect_left(_BUCKETS, seconds)] += 1

    def collect(self) -> Iterable[Metric]:
        """What a registry asks for."""
        requests = CounterMetricFamily("gipos_gateway_requests", "Requests answered.", labels=["method", "route", "status"])
        for (method, route, status), count in self._counts.items():
            requests.add_metric([method, route, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily("gipos_gateway_request_seconds", "Time to the last byte.", labels=["method", "route"])
        for (method, route), times in self._times.items():
            seconds.add_metric([method, route], times.buckets(), times.sum)
        yield seconds
        yield GaugeMetricFamily("gipos_gateway_requests_in_flight", "Requests being answered.", value=self.in_flight.value)
        yield GaugeMetricFamily("gipos_gateway_streams", "Live streams and WebSockets that are open.", value=self.streams.value)

    def text(self) -> bytes:
        """Everything in the Prometheus text format."""
        return generate_latest(self._registry)
