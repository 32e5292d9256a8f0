"""What Prometheus is told: counts and durations by route, never by what a request holds."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response

__all__ = ["HttpMetrics", "Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class HttpMetrics:
    """What there is to count of any server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "nnguard_http_requests",
            "Requests that were answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "nnguard_http_seconds",
            "How long answers took.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.refusals = Counter(
            "nnguard_refusals",
            "Requests that were refused, by reason.",
            ("reason",),
            registry=self._registry,
        )

    def response(self) -> Response:
        """Return all of it in Prometheus' text format."""
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(generate_latest(self._registry), media_type=kind)


class Metrics(HttpMetrics):
    """The metrics of one license server.

    Args:
        backlog: Returns how many events wait to be told.
    """

    def __init__(self, backlog: Callable[[], int]) -> None:
        super().__init__()
        self.licenses = Counter(
            "nnguard_licenses",
            "Requests for licenses that were answered: with a new one, or one made before.",
            ("kind",),
            registry=self._registry,
        )
        self.webhooks = Counter(
            "nnguard_webhooks",
            "Events told to others: delivered, failed (they will be tried again), given up.",
            ("outcome",),
            registry=self._registry,
        )
        self.reports = Counter(
            "nnguard_shop_reports",
            "What a shop reported: ordered, cancelled, ignored, repeated, refused.",
            ("outcome",),
            registry=self._registry,
        )
        waiting = Gauge(
            "nnguard_events_waiting", "Events that wait to be told.", registry=self._registry
        )
        waiting.set_function(backlog)
