"""What a seller chooses is checked where it is written down."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from nnguard.errors import ArgumentError
from nnguard.licensing import Device, Terms


def test_times_as_people_write_them() -> None:
    terms = Terms(issued_at="2026-03-01", expires_at="2027-03-01T01:00+01:00")
    assert terms.issued_at == datetime(2026, 3, 1, tzinfo=timezone.utc)
    assert terms.expires_at == datetime(2027, 3, 1, tzinfo=timezone.utc)
    assert terms == Terms(
        issued_at=datetime(2026, 3, 1, tzinfo=timezone.utc), expires_at="2027-03-01T00:00:00Z"
    )


def test_terms_cannot_be_altered_behind_their_back() -> None:
    features, metadata = ["batch"], {"order": "1"}
    terms = Terms(features=features, metadata=metadata)
    features.append("gpu")
    metadata["order"] = "2"
    assert (terms.features, dict(terms.metadata)) == (("batch",), {"order": "1"})
    assert pickle.loads(pickle.dumps(terms)) == terms


@pytest.mark.parametrize(
    "choices",
    [
        {"customer": 7},
        {"product": None},
        {"expires_at": 1_800_000_000},
        {"features": "batch"},
        {"features": 7},
        {"features": [7]},
        {"metadata": ["order"]},
        {"metadata": {"order": 7}},
        {"grace": 7},
    ],
    ids=repr,
)
def test_terms_of_wrong_types_are_named(choices: dict[str, Any]) -> None:
    (name,) = choices
    with pytest.raises(TypeError, match=f"^{name}: expected"):
        Terms(**choices)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"expires_at": "tomorrow"}, "expires_at: 'tomorrow' is not a date or time"),
        ({"not_before": datetime(2026, 1, 1)}, "not_before: .* has no time zone"),
        ({"grace": timedelta(-1)}, "grace: expected whole seconds"),
        ({"grace": timedelta(microseconds=1)}, "grace: expected whole seconds"),
        ({"device_matches": 2}, "device_matches needs a device"),
        ({"customer": "\ud800"}, "customer: text that UTF-8 cannot hold"),
        ({"features": ["\udfff"]}, "features: text that UTF-8 cannot hold"),
    ],
    ids=repr,
)
def test_terms_that_cannot_be(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Terms(**choices)


def test_device_may_come_with_what_it_needs() -> None:
    device = Device.of_values([("host", "a"), ("disk", "b")])
    assert Terms(device=device, device_matches=1).device == device
