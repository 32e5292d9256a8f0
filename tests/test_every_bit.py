"""No bit of a signed file can be changed, none be cut off, none be added."""

import numpy as np
import pytest

import every_bit
import nnguard
import samples


def matrix(*, dependent: bool) -> nnguard.Stream:
    """Return the smallest stream with room for a signature."""
    data = samples.small_stream(dependent=dependent, weights=2000, seed=1)
    return nnguard.Stream.from_bytes(data)


def vector() -> nnguard.Stream:
    """Return one whose only carrier has one dimension."""
    scale = np.random.default_rng(1).normal(0, 0.05, 2000).astype(np.float32)
    return nnguard.compress({"norm.scale": scale}, nnguard.Settings(nonweight_qp=-20))


@pytest.mark.parametrize(
    ("model", "step"),
    [
        pytest.param(matrix(dependent=True), 1, id="TCQ"),
        pytest.param(matrix(dependent=False), 5, id="URQ, every fifth"),
        pytest.param(vector(), 5, id="one dimension, every fifth"),
    ],
)
def test_every_small_change_is_refused(
    key: nnguard.SigningKey, model: nnguard.Stream, step: int
) -> None:
    data = bytes(nnguard.sign(model, key))
    nnguard.verify(nnguard.Stream.from_bytes(data), [key.public_key])
    outcome = every_bit.try_all(data, [key.public_key.pem], step=step)
    print(f"\n{len(data)} bytes, {outcome}")  # noqa: T201
    assert not outcome.passed
    changes = 8 * len(data) + len(data) + 256
    assert outcome.tried.total() == outcome.refused.total() == -(-changes // step)
    if step == 1:
        assert outcome.tried["flipped bits"] == 8 * len(data)


def test_a_change_that_passes_is_counted(model: nnguard.Stream, key: nnguard.SigningKey) -> None:
    data = bytes(nnguard.sign(model, key))
    outcome = every_bit.Outcome()
    every_bit.try_one(outcome, data, "nothing", [key.public_key])
    assert outcome.passed == ["nothing: verified"]
