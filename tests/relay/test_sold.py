"""From an order to a pod: a relay takes seats from the seller's server, and goes on without it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

import nnguard
from nnguard import licensing
from nnguard._operations.authority import authority_of
from nnguard._relay.holder import Holder
from nnguard._relay.leases import Leases
from nnguard._relay.refresher import Refresher
from nnguard._relay.relay import Relay
from nnguard.errors import ActivationError, LicenseError
from nnguard.licensing import ActivationReason as Reason
from nnguard.licensing import Device, Lease, License, Policy
from shop import Shop, opened

NAMED = Policy(device=Device.named("relay"))


class Direct:
    """A line without a socket."""

    def __init__(self, relay: Relay) -> None:
        self.take, self.renew = relay.take, relay.renew
        self.give_back = relay.leases.give_back


def activated(shop: Shop, code: str, identity: nnguard.Identity, leases: int) -> License:
    request = licensing.request(
        shop.sale.locked.trial, identity, order=code, device=Device.named("relay"), leases=leases
    )
    return licensing.activate(
        request, shop.server.url, identity, shop.sale.trust, license_policy=NAMED
    )


def test_from_the_order_to_the_pod(tmp_path: Path) -> None:
    with opened(str(tmp_path / "licenses.db")) as shop:
        mine, trust = nnguard.Identity.generate(), shop.sale.trust
        order = shop.order(seats=3, lasts=timedelta(days=30))
        code = shop.issuer.code(order)
        license_ = activated(shop, code, mine, 2)
        path = tmp_path / "relay.license"
        license_.save(path)
        with pytest.raises(ActivationError) as caught:  # one seat is left
            activated(shop, code, nnguard.Identity.generate(), 2)
        assert caught.value.reason is Reason.NO_SEATS

        leaser = mine.request_signer.public_key.id.hex()
        leases = Leases(tmp_path / "leases", leaser, 300)
        leases.open(first=True)
        authority = authority_of(trust, None)
        relay = Relay(path, mine, lambda: authority, leases, lambda: NAMED)
        pods = [nnguard.Identity.generate() for _ in range(3)]
        holders = [Holder(Direct(relay), pod, trust) for pod in pods]
        lease = holders[0].ask()
        holders[1].ask()
        with pytest.raises(ActivationError, match="all 2 leases are out"):
            holders[2].ask()
        full = nnguard.unlock(shop.sale.locked.trial, lease, pods[0], trust)
        assert bytes(full) == bytes(shop.sale.release)

        refresh = partial(
            licensing.refresh, identity=mine, trust=trust, server=shop.server.url,
            license_policy=NAMED, early=True,
        )  # fmt: skip
        refresher = Refresher(path, refresh)
        assert refresher.look()
        assert License.load(path).terms.id != license_.terms.id
        assert License.load(path).terms.leases == 2
        again: Lease = holders[0].ask()
        assert again.license == License.load(path)

        shop.issuer.cancel(order.id, reason="chargeback")
        assert not refresher.look()
        holders[1].ask()  # until the license ends, unless there is a list
        listed = replace(NAMED, revocations=shop.issuer.revocation_list())
        strict = replace(relay, license_policy=lambda: listed)
        with pytest.raises(LicenseError, match="was revoked"):
            Holder(Direct(strict), pods[2], trust).ask()
    assert not refresher.look()  # the server is gone
    holders[0].give_back()
    holders[2].ask()
