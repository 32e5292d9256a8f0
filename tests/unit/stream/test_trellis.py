"""The walk through the trellis gives what going from state to state does."""

import numpy as np
import pytest

from nnguard._stream.trellis import odd_states
from samples import NEXT_STATE


def step_by_step(parities: np.ndarray, flipped_if_even: np.ndarray) -> list[int]:
    state, odd = 0, []
    for parity, flipped in zip(parities.tolist(), flipped_if_even.tolist(), strict=True):
        odd.append(state % 2)
        state = NEXT_STATE[state][parity if state % 2 else parity ^ flipped]
    return odd


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 8, 1000, 1001, 4099])
def test_walk_equals_going_from_state_to_state(size: int) -> None:
    rng = np.random.default_rng(size)
    parities, flipped = rng.integers(2, size=(2, size), dtype=np.uint8)
    for flips in (flipped, np.zeros_like(flipped), np.ones_like(flipped)):
        assert odd_states(parities, flips)[0].tolist() == step_by_step(parities, flips)


def test_walk_goes_on_where_it_ended() -> None:
    parities, flipped = np.random.default_rng(0).integers(2, size=(2, 1001), dtype=np.uint8)
    for cut in (404, 405, 406, 407):
        first, state = odd_states(parities[:cut], flipped[:cut])
        rest, _ = odd_states(parities[cut:], flipped[cut:], state)
        assert np.array_equal(np.append(first, rest), odd_states(parities, flipped)[0])


def test_states_depend_on_what_was_coded_long_ago() -> None:
    quiet = np.zeros(10_000, np.uint8)
    once = quiet.copy()
    once[0] = 1
    assert not odd_states(quiet, quiet)[0].any()
    assert odd_states(once, quiet)[0][-8:].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
