"""What is masked, so that a fingerprint has room and hides."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import nnguard
import stock
import traceable
from nnguard._records.masks import MAX_WIDTH
from nnguard._stream.quantized import decode
from nnguard._tracing import casting
from nnguard._tracing.casting import Caster
from nnguard._tracing.choosing import Chosen, choose
from nnguard._tracing.masking import levels_of
from nnguard.errors import LockError

KINDS = pytest.mark.parametrize("dependent", [False, True], ids=["urq", "tcq"])


def stream_of(
    arrays: dict[str, stock.Array], *, dependent: bool = False, qp: int = traceable.QP
) -> nnguard.Stream:
    whole = {name: array.astype(np.float32) for name, array in arrays.items()}
    return nnguard.Stream.from_bytes(stock.encode(whole, qp=qp, dependent=dependent))


def laplace(shape: tuple[int, ...], seed: int = 0, scale: float = 0.05) -> stock.Array:
    return np.random.default_rng(seed).laplace(0, scale, shape)


LARGE = laplace((180, 100), 77)


def by_name(release: nnguard.Stream, *known: nnguard.Stream) -> dict[str, Chosen]:
    return {release[each.unit].name: each for each in choose(release, known)[0]}


def chosen(
    arrays: dict[str, stock.Array], *known: nnguard.Stream, dependent: bool = False
) -> dict[str, Chosen]:
    """What is chosen beside a large tensor that has enough room."""
    found = by_name(stream_of({"large": LARGE, **arrays}, dependent=dependent), *known)
    del found["large"]
    return found


@KINDS
def test_wide_tensors_of_two_dimensions_are_masked(*, dependent: bool) -> None:
    release = traceable.release_of(dependent=dependent)
    found = by_name(release)
    assert {*found} == {"first.weight", "conv.weight", "sparse.weight"}
    assert {each.sparsity for each in found.values()} == {0}
    for each in found.values():
        levels = levels_of(decode(release[each.unit]))
        assert each.size == levels.size
        small = np.abs(levels) + 1 < 1 << each.width - 1
        assert 0.998 < small.mean() <= 1
        assert each.width <= MAX_WIDTH
        assert each.share == pytest.approx(min(5e-4 * np.mean(levels**2), 0.5))


def test_tensors_with_twins_are_left_out() -> None:
    twin = laplace((30, 30))
    assert not chosen({"a": twin, "b": twin})
    assert {*chosen({"a": twin, "b": laplace((30, 30), 1)})} == {"a", "b"}


@KINDS
def test_tensors_that_the_trial_has_are_left_out(*, dependent: bool) -> None:
    arrays = {"a": laplace((30, 40)), "b": laplace((30, 40), 1)}
    trial = stream_of({"a": arrays["a"], "b": laplace((30, 40), 2)}, dependent=dependent)
    assert {*chosen(arrays, trial, dependent=dependent)} == {"b"}


def test_tensors_that_any_network_has_at_another_step_are_left_out() -> None:
    arrays = {"a": laplace((30, 40)), "b": laplace((30, 40), 1)}
    coarse = stream_of({"a": arrays["a"]}, qp=traceable.QP + 4)
    assert {*chosen(arrays, stream_of({"c": arrays["b"]}, qp=-30), coarse)} == {"b"}


def test_tensors_that_the_trial_has_by_another_name_are_left_out() -> None:
    arrays = {"a": laplace((30, 40)), "b": laplace((30, 40), 1)}
    assert {*chosen(arrays, stream_of({"module.a": arrays["a"]}))} == {"b"}


@KINDS
def test_narrow_tensors_are_left_out(*, dependent: bool) -> None:
    assert not chosen({"a": laplace((30, 40), scale=1e-4)}, dependent=dependent)


def test_what_is_narrow_to_whoever_knows_the_base_is_left_out() -> None:
    base = laplace((60, 50))
    near, far = (base + laplace((60, 50), 1, scale) for scale in (1e-4, 1e-2))
    assert {*chosen({"a": near, "b": far})} == {"a", "b"}
    assert {*chosen({"a": near, "b": far}, stream_of({"a": base, "b": base}))} == {"b"}


def test_tensors_of_too_many_bits_are_left_out() -> None:
    wide = laplace((30, 40))
    wide[0, 0] = 40  # one of a thousand stays as it is
    assert chosen({"a": wide})
    wide[1:4] *= 100
    assert not chosen({"a": wide})


@KINDS
def test_rows_of_zeros_and_zeros_stay(*, dependent: bool) -> None:
    """Whatever the trial has there: a mark cannot be coded in a row that is skipped."""
    rows = laplace((30, 40), 1)
    rows[4] = 0
    rows[np.random.default_rng(5).random((30, 40)) < 0.8] = 0
    release = stream_of({"large": LARGE, "a": rows}, dependent=dependent)
    trial = stream_of({"a": rows + laplace((30, 40), 2)}, dependent=dependent)
    found, entries = choose(release, [trial])
    assert {release[each.unit].name for each in found} == {"large", "a"}
    masked, masks = casting.mask(release, found, entries, None, traceable.KEY)
    caster = Caster(traceable.KEY, masked, masks)
    assert bytes(caster.release()) == bytes(release)
    at = found[1].unit
    marks = traceable.marks_by_unit(caster)[at]
    assert (decode(release[at]).indices.reshape(-1)[marks.positions] != 0).all()


def test_vectors_and_integers_are_left_out() -> None:
    arrays: dict[str, stock.Array] = {
        "large": LARGE.astype(np.float32),
        "vector": laplace((2000,)).astype(np.float32),
        "numbers": np.arange(2000, dtype=np.int32).reshape(40, 50),
    }
    data = stock.encode(arrays, qp=traceable.QP, nonweight_qp=traceable.QP)
    assert {*by_name(nnguard.Stream.from_bytes(data))} == {"large"}


def test_tensors_coded_in_blocks_are_left_out() -> None:
    arrays = {"large": LARGE.astype(np.float32)}
    data = stock.encode(arrays, qp=traceable.QP, scan_order=1)
    with pytest.raises(LockError, match="too little room for fingerprints: 0 weights"):
        choose(nnguard.Stream.from_bytes(data), [])


# How many


def test_too_few_weights_are_refused() -> None:
    with pytest.raises(LockError, match="too little room for fingerprints: 8,000") as error:
        choose(stream_of({"w": laplace((160, 100))}), [])
    assert "8,192 are needed" in str(error.value)
    assert "lower qp" in error.value.hint


def test_coarse_steps_have_less_room() -> None:
    release = stream_of({"w": laplace((180, 100))}, qp=-24)
    with pytest.raises(LockError, match="too little room"):
        choose(release, [])


@functools.cache
def deep() -> nnguard.Stream:
    return stream_of({f"{n}": laplace((120, 100), n) for n in range(5)})


def test_first_tensors_are_masked_wholly_and_others_here_and_there() -> None:
    """The first 32,768 weights of 60,000, at least, by whole tensors."""
    found, entries = choose(deep(), [])
    assert [each.sparsity for each in found] == [0, 0, 0, 2, 2]
    assert [each.share for each in found] == [0.5] * 3 + [1.0] * 2
    assert entries == 12_288
    assert [each.unit for each in found] == sorted(each.unit for each in found)


def test_large_tensors_come_last() -> None:
    """Embeddings are first in a network, and nothing depends on all of one."""
    arrays = {"embedding": laplace((400, 200), 9), **{f"{n}": laplace((80, 90), n) for n in (1, 2)}}
    found = by_name(stream_of(arrays))
    assert [found[name].sparsity for name in ("embedding", "1", "2")] == [0, 0, 0]
    arrays |= {f"{n}": laplace((80, 90), n) for n in range(3, 8)}
    found = by_name(stream_of(arrays))
    assert (found["embedding"].sparsity, found["1"].sparsity, found["5"].sparsity) == (2, 0, 0)


def test_few_marks_have_an_entry_each() -> None:
    release = stream_of({"w": laplace((180, 100))})
    [each], entries = choose(release, [])
    assert entries == int(each.size * each.share) == 9_000
