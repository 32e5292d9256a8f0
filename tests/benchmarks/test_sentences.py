"""Attacks on sentence encoders: what an attacker begins with, and the report."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from encoders import squares, uncorrelated  # noqa: E402
from sentences import Attacked, Words, report  # noqa: E402


def test_a_sentence_is_the_weighted_mean_of_its_words() -> None:
    vectors = torch.randn(5, 384, generator=torch.Generator().manual_seed(1))
    attacked = Attacked(Words(vectors), torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]))
    tokens = torch.tensor([[1, 3, 0]])
    found = attacked(tokens, tokens != 0)
    wanted = torch.nn.functional.normalize((vectors[1] + 3 * vectors[3])[None] / 4)
    torch.testing.assert_close(found, wanted)


def test_only_the_order_of_cosines_has_to_fit() -> None:
    similarity = torch.tensor([0.0, 0.2, 0.9])
    cosines = 0.1 * similarity - 0.5
    assert float(uncorrelated(cosines, similarity)) == pytest.approx(0, abs=1e-6)
    assert float(squares(cosines, similarity)) > 0.2


def test_the_best_rate_of_each_draw_counts() -> None:
    values = {
        "words: random; 500 pairs, 100 steps; draw 0; rate 0.01": 70.0,
        "words: random; 500 pairs, 100 steps; draw 0; rate 0.03": 72.0,
        "words: random; 500 pairs, 100 steps; draw 1; rate 0.01": 71.0,
        "made": {},
    }
    assert [*report(values)][-1] == (
        "| words: random | 500 pairs, 100 steps | 2 | 71.5 | 71.0 | 72.0 |\n"
    )
