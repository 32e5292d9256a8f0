"""A release that was locked and sold, for tests of what does not unlock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import nnguard
import samples

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@dataclass
class Sale:
    """A release, its trial, and a customer."""

    vendor: nnguard.SigningKey
    customer: nnguard.Identity
    release: nnguard.Stream
    locked: nnguard.Locked

    @property
    def trust(self) -> list[nnguard.PublicKey]:
        return [self.vendor.public_key]

    def license(
        self,
        *,
        to: nnguard.Recipient | None = None,
        signer: nnguard.Signer | None = None,
        **choices: Any,
    ) -> nnguard.licensing.License:
        return nnguard.licensing.issue(
            self.locked.trial,
            self.locked.content_key,
            to=to or self.customer.recipient,
            signer=signer or self.vendor,
            terms=nnguard.licensing.Terms(**{"issued_at": START, **choices}),
        )

    def unlock(self, license_: nnguard.licensing.License, **options: object) -> nnguard.Stream:
        """Unlock a day after the license was issued, unless `license_policy` says otherwise."""
        policy = nnguard.licensing.Policy(now=START + DAY)
        return nnguard.unlock(
            self.locked.trial,
            license_,
            self.customer,
            self.trust,
            **{"license_policy": policy, **options},
        )

    def refusal(
        self, license_: nnguard.licensing.License, **policy: object
    ) -> nnguard.licensing.Refusal:
        """Return why the license does not unlock a day after it was issued, or at `now`."""
        with pytest.raises(nnguard.errors.LicenseError) as caught:
            self.unlock(
                license_, license_policy=nnguard.licensing.Policy(**{"now": START + DAY, **policy})
            )
        return caught.value.reason


def sell(vendor: nnguard.SigningKey, *, sign_trial: bool, seed: int = 0) -> Sale:
    model = nnguard.Stream.from_bytes(samples.small_stream(seed=seed))
    release = nnguard.sign(model, vendor, issuer="acme.ai", name="small")
    locked = nnguard.lock(
        release, signer=vendor if sign_trial else None, soft=nnguard.Soft(fraction=0.005)
    )
    return Sale(vendor, nnguard.Identity.generate(), release, locked)


def flips(data: bytes, step: int) -> list[bytes]:
    """Return the data with one bit flipped, for every `step`-th bit."""
    changed = []
    for bit in range(0, 8 * len(data), step):
        other = bytearray(data)
        other[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(other))
    return changed
