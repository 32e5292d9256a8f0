"""Licenses under a trust policy: only the keys that may sign the model may license it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import nnguard
from nnguard._operations import unlock as unlocking
from nnguard._selling import issue
from nnguard.errors import PolicyError, WrongKeyError
from policies import document, policy
from sales import DAY, START, Sale, sell

VENDOR, RESELLER = nnguard.SigningKey.generate(), nnguard.SigningKey.generate()
KEYS = {"vendor": VENDOR.public_key, "reseller": RESELLER.public_key}
APART = (
    {"scopes": ["acme.ai/*"], "keys": ["vendor"]},
    {"scopes": ["reseller.example/*"], "keys": ["reseller"]},
)
LICENSE_POLICY = nnguard.licensing.Policy(now=START + DAY)


@pytest.fixture(scope="module")
def sale() -> Sale:
    """Sold with a trial that is signed."""
    return sell(VENDOR, sign_trial=True)


@pytest.fixture(scope="module")
def unsigned() -> Sale:
    """Sold with a trial that is not."""
    return sell(VENDOR, sign_trial=False)


def unlock(sale: Sale, found: nnguard.TrustPolicy, **options: Any) -> nnguard.Stream:
    license_ = sale.license(signer=options.pop("signer", VENDOR))
    return nnguard.unlock(
        sale.locked.trial,
        license_,
        sale.customer,
        policy=found,
        license_policy=LICENSE_POLICY,
        **options,
    )


def refused(sale: Sale, found: nnguard.TrustPolicy, **options: Any) -> str:
    with pytest.raises(PolicyError) as caught:
        unlock(sale, found, **options)
    return caught.value.reason.value


@pytest.mark.parametrize("name", ["sale", "unsigned"])
def test_allowed(name: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(name)
    assert bytes(unlock(found, policy(KEYS, *APART))) == bytes(found.release)


def test_a_license_by_a_key_of_another_scope(unsigned: Sale) -> None:
    assert refused(unsigned, policy(KEYS, *APART), signer=RESELLER) == "other-key"
    both = policy(KEYS, {"scopes": ["acme.ai/*"]})
    assert bytes(unlock(unsigned, both, signer=RESELLER)) == bytes(unsigned.release)


def test_it_is_refused_before_a_signed_trial_is_opened(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        issue, "signed_claims", lambda *_: nnguard.Claims()
    )  # which would not issue it
    monkeypatch.delattr(unlocking, "open_files")
    assert refused(sale, policy(KEYS, *APART), signer=RESELLER) == "other-key"


def test_a_license_by_a_revoked_key(unsigned: Sale) -> None:
    found = document(KEYS)
    found["keys"]["reseller"]["revoked"] = True
    parsed = nnguard.TrustPolicy.parse(json.dumps(found))
    assert refused(unsigned, parsed, signer=RESELLER) == "key-revoked"
    license_ = unsigned.license(signer=RESELLER)
    with pytest.raises(PolicyError, match="revoked"):
        nnguard.licensing.check(license_, policy=parsed, license_policy=LICENSE_POLICY)


@pytest.mark.parametrize("level", ["strict", "permissive"])
def test_a_license_by_a_key_that_has_expired(unsigned: Sale, level: str) -> None:
    found = document(KEYS, {"level": level})
    found["keys"]["reseller"]["not_after"] = "2020-01-01"
    license_ = unsigned.license(signer=RESELLER)
    asked = {"policy": nnguard.TrustPolicy.parse(json.dumps(found))}
    if level == "permissive":  # which only warns of it
        nnguard.licensing.check(license_, **asked, license_policy=LICENSE_POLICY)
        return
    with pytest.raises(PolicyError, match="held until 2020") as caught:
        nnguard.licensing.check(license_, **asked, license_policy=LICENSE_POLICY)
    assert caught.value.reason.value == "key-expired"


def test_a_license_by_no_key_of_the_policy(unsigned: Sale) -> None:
    license_ = unsigned.license(signer=RESELLER)
    for level in ("strict", "audit"):
        only = policy({"vendor": VENDOR.public_key}, {"level": level})
        with pytest.raises(WrongKeyError):
            unlock(unsigned, only, signer=RESELLER)
        with pytest.raises(WrongKeyError):
            nnguard.licensing.check(license_, policy=only, license_policy=LICENSE_POLICY)


def test_a_trial_out_of_scope(sale: Sale, unsigned: Sale) -> None:
    elsewhere = policy(KEYS, {"scopes": ["elsewhere/*"]})
    assert refused(sale, elsewhere) == "no-scope"
    assert refused(unsigned, elsewhere) == "no-scope"  # what it opens to is


def test_neither_trial_nor_release_is_signed(model: nnguard.Stream) -> None:
    locked = nnguard.lock(model, soft=nnguard.Soft(fraction=0.005))
    found = Sale(VENDOR, nnguard.Identity.generate(), model, locked)
    assert refused(found, policy(KEYS)) == "no-scope"
    assert bytes(found.unlock(found.license())) == bytes(model)


def test_a_watermark_by_a_key_that_may_not_sign_the_release() -> None:
    model = nnguard.sign(
        nnguard.compress({"w": _weights()}), RESELLER, issuer="acme.ai", name="small"
    )
    release = nnguard.sign(model, VENDOR, countersign=RESELLER.public_key)
    locked = nnguard.lock(release, soft=nnguard.Soft(fraction=0.001))
    sold = Sale(VENDOR, nnguard.Identity.generate(), release, locked)
    license_ = sold.license(signer=RESELLER)
    full = nnguard.unlock(
        locked.trial,
        license_,
        sold.customer,
        [VENDOR.public_key, RESELLER.public_key],
        license_policy=LICENSE_POLICY,
        watermark=True,
    )
    both = policy(KEYS, {"scopes": ["acme.ai/*"]})
    assert nnguard.verify(full, policy=both).licensed_to is not None
    with pytest.raises(PolicyError, match="the watermark is signed with key") as caught:
        nnguard.verify(full, policy=policy(KEYS, *APART))
    assert caught.value.reason.value == "other-key"


def _weights() -> Any:
    return np.random.default_rng(0).normal(0, 0.05, (200, 200)).astype(np.float32)
