"""A license to lease, and what tests of the relay share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import nnguard
import sales
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._operations.authority import authority_of
from nnguard._relay.clock import Clock
from nnguard._relay.leases import Leases
from nnguard._relay.relay import Relay
from nnguard.licensing import License, Policy
from sales import START, Sale

__all__ = ["NOW", "POD", "VENDOR", "licensed", "most_at_once", "relay_of", "sale", "write_license"]

VENDOR = nnguard.SigningKey.generate()
POD = nnguard.Identity.generate()
NOW = START + timedelta(days=365)


@cache
def sale() -> Sale:
    return sales.sell(VENDOR, sign_trial=True)


def licensed(leases: int, **terms: Any) -> License:
    """A license that the customer's relay may lease."""
    sold = sale()
    leaser = sold.customer.request_signer.public_key
    found = replace(sold.license().terms, **{"leases": leases, "leaser": leaser, **terms})
    return License.make(found, Unwrapped(sold.locked.content_key), sold.customer.recipient, VENDOR)


def write_license(path: Path, leases: int, **terms: Any) -> None:
    licensed(leases, **terms).save(path, overwrite=True)


def relay_of(folder: Path, *, lasts: float = 300, clock: Clock | None = None) -> Relay:
    """A relay of `relay.license` in a folder, which has started before."""
    customer = sale().customer
    leaser = customer.request_signer.public_key.id.hex()
    leases = Leases(folder / "leases", leaser, lasts, Clock() if clock is None else clock)
    authority = authority_of(VENDOR.public_key, None)
    return Relay(
        folder / "relay.license", customer, lambda: authority, leases, lambda: Policy(now=NOW)
    )


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Count, afterwards, how many spans there were at a time; one that ends makes room first."""
    steps = sorted((at, step) for start, end in spans if start < end
                   for at, step in ((start, 1), (end, -1)))  # fmt: skip
    most = count = 0
    for _, step in steps:
        count += step
        most = max(most, count)
    return most
