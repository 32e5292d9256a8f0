"""No bit of a signed file can be changed, none be cut off, none be added."""

import pytest

import every_bit
import nnguard
import samples


def make(key: nnguard.SigningKey, *, dependent: bool) -> bytes:
    """Return the smallest signed stream that there is room for."""
    model = samples.small_stream(dependent=dependent, weights=2000, seed=1)
    return bytes(nnguard.sign(nnguard.Stream.from_bytes(model), key))


@pytest.mark.parametrize(
    "step", [pytest.param(1, id="TCQ"), pytest.param(5, id="URQ, every fifth")]
)
def test_every_small_change_is_refused(key: nnguard.SigningKey, step: int) -> None:
    data = make(key, dependent=step == 1)
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
