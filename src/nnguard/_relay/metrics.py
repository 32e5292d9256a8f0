"""What Prometheus is told of a relay."""

from __future__ import annotations

import math

from prometheus_client import Counter, Gauge

from nnguard._licensing.lease import end_of
from nnguard._relay.relay import Relay
from nnguard._server.metrics import HttpMetrics
from nnguard.errors import NnguardError

__all__ = ["RelayMetrics"]


class RelayMetrics(HttpMetrics):
    """The metrics of one relay.

    Args:
        relay: What they are about.
    """

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay
        self.leases = Counter(
            "nnguard_leases",
            "Leases that were taken, renewed, given back.",
            ("what",),
            registry=self._registry,
        )
        out = Gauge("nnguard_leases_out", "Leases that are out.", registry=self._registry)
        out.set_function(self._out)
        most = Gauge(
            "nnguard_leases_licensed",
            "Leases that may be out; 0 where the license does not hold.",
            registry=self._registry,
        )
        most.set_function(self._most)
        ends = Gauge(
            "nnguard_license_ends_seconds",
            "Until when leases of the license hold, in seconds since 1970.",
            registry=self._registry,
        )
        ends.set_function(self._ends)

    def _out(self) -> float:
        try:
            return self._relay.leases.count()
        except NnguardError:
            return math.nan

    def _most(self) -> float:
        try:
            return self._relay.held().license.terms.leases
        except (NnguardError, OSError):
            return 0

    def _ends(self) -> float:
        try:
            end = end_of(self._relay.held().license.terms)
        except (NnguardError, OSError):
            return math.nan
        return math.inf if end is None else end.timestamp()
