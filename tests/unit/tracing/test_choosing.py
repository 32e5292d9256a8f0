"""What is masked hides the fingerprint under it."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import nnguard
import stock
import traceable
from nnguard._records.masks import MAX_WIDTH, MaskedTensor
from nnguard._stream.quantized import decode
from nnguard._tracing import choosing
from nnguard._tracing.casting import Caster
from nnguard._tracing.choosing import choose_masks
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


LARGE = laplace((120, 100), 77)


@functools.cache
def large(*, dependent: bool = False) -> nnguard.Stream:
    return stream_of({"large": LARGE}, dependent=dependent)


def chosen(
    arrays: dict[str, stock.Array], *known: nnguard.Stream, dependent: bool = False
) -> dict[str, MaskedTensor]:
    """What is masked of a release, beside a large tensor that has enough room."""
    release = stream_of({"large": LARGE, **arrays}, dependent=dependent)
    found = traceable.parts_of(release, choose_masks(release, known))
    del found["large"]
    return found


def rows_of(part: MaskedTensor, count: int) -> list[int]:
    return np.flatnonzero(np.unpackbits(np.frombuffer(part.rows, np.uint8))[:count]).tolist()


@KINDS
def test_wide_tensors_of_two_dimensions_are_masked(*, dependent: bool) -> None:
    release = traceable.release_of(dependent=dependent)
    found = traceable.parts_of(release, choose_masks(release, []))
    assert {*found} == {"first.weight", "conv.weight"}
    first = found["first.weight"]
    assert rows_of(first, 100) == [row for row in range(100) if row not in (3, 40)]
    assert first.outliers is not None
    assert first.outliers.positions.tolist() == [909]


@KINDS
def test_every_level_fits_under_its_mask(*, dependent: bool) -> None:
    release = traceable.release_of(dependent=dependent)
    for part in choose_masks(release, []).tensors:
        levels = levels_of(decode(release[part.unit]))
        usual = levels if part.outliers is None else np.delete(levels, part.outliers.positions)
        assert np.abs(usual).max() + 2 <= 1 << part.width - 1 <= 1 << MAX_WIDTH - 1


def test_tensors_with_twins_are_left_out() -> None:
    twin = laplace((30, 30))
    assert not chosen({"a": twin, "b": twin})
    assert {*chosen({"a": twin, "b": laplace((30, 30), 1)})} == {"a", "b"}


@KINDS
def test_tensors_that_the_trial_has_are_left_out(*, dependent: bool) -> None:
    arrays = {"a": laplace((30, 40)), "b": laplace((30, 40), 1)}
    trial = stream_of({"a": arrays["a"], "b": laplace((30, 40), 2)}, dependent=dependent)
    assert {*chosen(arrays, trial, dependent=dependent)} == {"b"}


def test_tensors_that_the_trial_has_at_another_step_are_left_out() -> None:
    arrays = {"a": laplace((30, 40)), "b": laplace((30, 40), 1)}
    coarse = stream_of({"a": arrays["a"]}, qp=traceable.QP + 4)
    assert {*chosen(arrays, coarse)} == {"b"}


def test_tensors_that_the_trial_has_by_another_name_are_left_out() -> None:
    arrays = {"a": laplace((30, 40)), "b": laplace((30, 40), 1)}
    trial = stream_of({"module.a": arrays["a"]})
    assert {*chosen(arrays, trial)} == {"b"}


@KINDS
def test_rows_of_zeros_stay_zeros_whatever_the_trial_has(*, dependent: bool) -> None:
    """They are skipped: a mask cannot be coded there."""
    row = laplace((30, 40), 1)
    row[4] = 0
    release = stream_of({"large": LARGE, "a": row}, dependent=dependent)
    near = row + laplace((30, 40), 2)
    trial = stream_of({"a": near}, dependent=dependent)
    masks = choose_masks(release, [trial])
    part = traceable.parts_of(release, masks)["a"]
    assert 4 not in rows_of(part, 30)
    caster = Caster(nnguard.ContentKey.generate(), masks)
    assert bytes(caster.unmask(caster.mask(release))) == bytes(release)


@KINDS
def test_narrow_tensors_and_rows_are_left_out(*, dependent: bool) -> None:
    narrow = laplace((30, 40), scale=1e-4)
    assert not chosen({"a": narrow}, dependent=dependent)
    half = laplace((30, 40))
    half[::2] = narrow[::2]
    assert rows_of(chosen({"a": half}, dependent=dependent)["a"], 30) == [*range(1, 30, 2)]


@KINDS
def test_narrow_columns_are_left_out(*, dependent: bool) -> None:
    half = laplace((30, 40))
    half[:, ::2] *= 1e-4
    part = chosen({"a": half}, dependent=dependent)["a"]
    bits = np.unpackbits(np.frombuffer(part.columns, np.uint8))
    assert np.flatnonzero(bits).tolist() == [*range(1, 40, 2)]


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
@KINDS
def test_sparse_tensors_are_left_out(*, dependent: bool, share: float) -> None:
    """A weight that was zero, and is a step away from it, tells the fingerprint by itself."""
    rng = np.random.default_rng(5)
    sparse = np.where(rng.random((30, 40)) < share, laplace((30, 40)), 0)
    assert not chosen({"a": sparse}, dependent=dependent)


def test_vectors_and_integers_are_left_out() -> None:
    arrays: dict[str, stock.Array] = {
        "large": LARGE.astype(np.float32),
        "vector": laplace((2000,)).astype(np.float32),
        "numbers": np.arange(2000, dtype=np.int32).reshape(40, 50),
    }
    release = nnguard.Stream.from_bytes(
        stock.encode(arrays, qp=traceable.QP, nonweight_qp=traceable.QP)
    )
    assert {*traceable.parts_of(release, choose_masks(release, []))} == {"large"}


@pytest.mark.parametrize("scan_order", [0, 1])
def test_tensors_coded_in_blocks_are_left_out(scan_order: int) -> None:
    arrays = {"large": LARGE.astype(np.float32)}
    data = stock.encode(arrays, qp=traceable.QP, scan_order=scan_order)
    release = nnguard.Stream.from_bytes(data)
    if not scan_order:
        assert choose_masks(release, []).tensors
    else:
        with pytest.raises(LockError, match="too little room"):
            choose_masks(release, [])


# How many


def test_too_few_weights_are_refused() -> None:
    with pytest.raises(LockError, match="too little room for fingerprints: 3,200 weights") as error:
        choose_masks(stream_of({"w": laplace((80, 80))}), [])
    assert "4,096 are needed" in str(error.value)
    assert "lower qp" in error.value.hint
    with pytest.raises(LockError, match="fingerprints: 0 weights"):
        choose_masks(stream_of({"w": laplace((80, 80), scale=1e-6)}), [])


def test_coarse_steps_have_less_room() -> None:
    fine = choose_masks(large(), [])
    coarse = choose_masks(stream_of({"large": laplace((400, 400))}, qp=-32), [])
    assert fine.tensors[0].sparsity == 1
    assert coarse.tensors[0].sparsity > 1
    assert coarse.tensors[0].width < fine.tensors[0].width


def test_entries_are_limited_and_shared_out() -> None:
    release = stream_of({"a": laplace((300, 300)), "b": laplace((100, 100), 1)})
    masks = choose_masks(release, [])
    parts = traceable.parts_of(release, masks)
    assert 32_000 < masks.entries <= 32_768
    assert 8 < parts["a"].entries / parts["b"].entries < 10


def test_units_ascend() -> None:
    release = stream_of({f"{n}": laplace((50, 60), n, 0.05 * 2**n) for n in range(5)})
    units = [part.unit for part in choose_masks(release, []).tensors]
    assert units == sorted(units)
    assert len(units) == 5


def test_known_base_makes_fewer_uses_for_each_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows what a tensor was made of knows its weights up to a narrower rest."""
    for limit in ("_MOST_ENTRIES", "_FEWEST_ENTRIES"):
        monkeypatch.setattr(choosing, limit, 512)
    base = laplace((200, 200))
    tuned = base + laplace((200, 200), 1, scale=0.0006)
    release = stream_of({"tuned": tuned, "large": laplace((200, 200), 2)}, qp=-50)
    alone, known = (
        traceable.parts_of(release, choose_masks(release, others))
        for others in ([], [stream_of({"tuned": base}, qp=-50)])
    )

    def uses(parts: dict[str, MaskedTensor], name: str) -> float:
        return float(200 * 200 / 2 ** parts[name].sparsity / parts[name].entries)

    assert uses(alone, "tuned") == pytest.approx(uses(alone, "large"), rel=0.1)
    assert uses(known, "tuned") < 0.8 * uses(known, "large")
    assert uses(known, "tuned") < 0.8 * uses(alone, "tuned")


def test_every_lock_has_a_nonce_of_its_own() -> None:
    assert len({choose_masks(large(), []).nonce for _ in range(4)}) == 4
