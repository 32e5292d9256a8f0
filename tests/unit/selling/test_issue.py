"""A license is issued to whom the seller says, and never one that would not hold."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import nnguard
import samples
from nnguard.errors import ArgumentError
from nnguard.licensing import License, Terms, issue

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def customer() -> nnguard.Identity:
    return nnguard.Identity.generate()


@pytest.fixture(scope="module")
def locked(key: nnguard.SigningKey) -> nnguard.Locked:
    model = nnguard.Stream.from_bytes(samples.small_stream())
    return nnguard.lock(model, signer=key)


def test_everything_may_be_a_path(
    locked: nnguard.Locked, customer: nnguard.Identity, key: nnguard.SigningKey, tmp_path: Path
) -> None:
    locked.trial.save(tmp_path / "trial.nnc")
    locked.content_key.save(tmp_path / "content.key")
    customer.recipient.save(tmp_path / "ada.pub")
    key.save(tmp_path / "vendor.key")
    device = nnguard.licensing.Device.of_values([("host", "a"), ("disk", "1")])
    device.save(tmp_path / "ada.device")
    license_ = issue(
        tmp_path / "trial.nnc",
        tmp_path / "content.key",
        to=tmp_path / "ada.pub",
        signer=tmp_path / "vendor.key",
        terms=Terms(expires_at="2999-12-31", device=tmp_path / "ada.device", device_matches=1),
    )
    assert license_.key_id == key.public_key.id.hex()
    assert license_.terms.expires_at == datetime(2999, 12, 31, tzinfo=timezone.utc)
    assert license_.terms.device is not None
    assert license_.terms.device.matches(device) == 2
    assert license_.unwrap(customer) == (locked.content_key, b"")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("content_key", "a path or a ContentKey"),
        ("to", "a path or a Recipient"),
        ("signer", "a path, a SigningKey or a Signer"),
        ("terms", "a Terms"),
    ],
)
def test_an_argument_of_another_type_is_named(
    argument: str,
    expected: str,
    locked: nnguard.Locked,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
) -> None:
    given: dict[str, Any] = {
        "content_key": locked.content_key,
        "to": customer.recipient,
        "signer": key,
        argument: 7,
    }
    with pytest.raises(TypeError, match=f"^{argument}: expected {expected}, not int$"):
        issue(locked.trial, **given)


def issued(sale: Any, **terms: Any) -> License:
    locked, customer, key = sale
    return issue(
        locked.trial,
        locked.content_key,
        to=customer.recipient,
        signer=key,
        terms=Terms(**terms),
    )


def test_a_device_that_is_too_small_is_refused(
    locked: nnguard.Locked, customer: nnguard.Identity, key: nnguard.SigningKey
) -> None:
    device = nnguard.licensing.Device.of_values([("host", "a")])
    sale = (locked, customer, key)
    assert issued(sale, device=device, device_matches=1).terms.device is not None
    with pytest.raises(ArgumentError, match="1 components, of which 2 cannot be required"):
        issued(sale, device=device, device_matches=2)


NOON = datetime(2027, 1, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"issued_at": NOON, "expires_at": NOON}, "would never hold"),
        ({"issued_at": NOON, "expires_at": NOON - HOUR}, "would never hold"),
        (
            {"not_before": NOON, "expires_at": NOON - HOUR, "issued_at": NOON - 2 * HOUR},
            "never hold",
        ),
        ({"grace": HOUR / 7000}, "whole seconds"),
        ({"grace": HOUR + timedelta(microseconds=1)}, "whole seconds"),
    ],
)
def test_license_that_makes_no_sense_is_not_issued(
    locked: nnguard.Locked,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
    terms: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ArgumentError, match=message):
        issue(
            locked.trial,
            locked.content_key,
            to=customer.recipient,
            signer=key,
            terms=Terms(**terms),
        )
