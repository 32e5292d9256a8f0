"""Fingerprints and their biases."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nnguard import ContentKey
from nnguard._tracing.code import BIASES, biases, fingerprint

KEY, NONCE = ContentKey(bytes(range(32))), bytes(12)
DRAWN = biases(KEY.keystream("biases", NONCE), 1 << 14)


def of(license_id: int) -> npt.NDArray[np.int8]:
    return fingerprint(KEY.keystream(f"fingerprint {license_id}", NONCE), DRAWN)


def test_biases_are_the_same_everywhere() -> None:
    """No bias is so near to the middle between two integers that rounding could differ."""
    step = (math.pi / 2 - 0.04) / 256
    exact = [65536 * math.sin(0.02 + (each + 0.5) * step) ** 2 for each in range(256)]
    assert [round(value) for value in exact] == [*BIASES]
    assert min(abs(value % 1 - 0.5) for value in exact) > 1e-3
    assert [*BIASES] == [65536 - bias for bias in reversed(BIASES)]


def test_fingerprints_follow_their_biases() -> None:
    mean = np.mean([of(each) for each in range(400)], axis=0)
    assert np.abs(mean - (2 * DRAWN - 1)).mean() < 0.05
    assert {*np.unique(of(0))} == {-1, 1}
    assert (of(0) == of(0)).all()
    assert (of(0) != of(1)).any()
