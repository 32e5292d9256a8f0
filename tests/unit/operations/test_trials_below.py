"""Trials whose lock lies below records that take long to read."""

from __future__ import annotations

import pytest

import nnguard
import samples
from nnguard._compression import admission
from nnguard._records.layers import Layer
from nnguard.errors import LimitError, LockedTrialError


@pytest.fixture(scope="module")
def covered() -> nnguard.Stream:
    """A trial below two attachments."""
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=40_000))
    trial = nnguard.lock(model, scramble=["conv.bias"]).trial
    return nnguard.attach(nnguard.attach(trial, bytes(1000)), b"card")


def test_trial_that_takes_long_to_find_is_refused(
    covered: nnguard.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LockedTrialError):
        nnguard.decompress(covered)
    monkeypatch.setattr(admission, "_SEARCHED", 0)
    monkeypatch.setattr(admission, "_SEARCHED_PER_BYTE", 0)
    with pytest.raises(LimitError, match="take too long"):
        nnguard.decompress(covered)
    with pytest.raises(LockedTrialError):
        nnguard.decompress(covered, verified=True)
    assert nnguard.decompress(covered, allow_trial=True)


def test_record_that_costs_too_much_does_not_hide_the_lock_below_it(
    covered: nnguard.Stream, key: nnguard.SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = nnguard.sign(covered, key)
    monkeypatch.setattr("nnguard._hiding.extracting.max_cost", lambda stream: 0)
    with pytest.raises(LimitError):
        nnguard.decompress(covered)

    def as_if_small(stream: nnguard.Stream, *, vouched: bool = False) -> Layer:
        return Layer(stream, vouched=vouched or stream is signed)

    monkeypatch.setattr("nnguard._operations.verify.Layer", as_if_small)
    with pytest.raises(LockedTrialError):
        nnguard.verify(signed, key.public_key)
