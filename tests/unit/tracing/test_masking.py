"""Masks are put on and come off without a trace."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnguard
import stock
import traceable
from nnguard._crypto.cbor import parse_cbor
from nnguard._records.lock import LockContent, LockedFile
from nnguard._records.masks import MAX_ENTRIES, MAX_WIDTH, MaskedTensor, Masks
from nnguard._records.replaced import Replaced
from nnguard._stream.quantized import decode, integers_of, with_integers
from nnguard._tracing.casting import take_off
from nnguard._tracing.masking import Numbers, add, levels_of, marks_of, pack, place, unpack
from nnguard.errors import UnlockError

KEY = nnguard.ContentKey(bytes(range(32)))
KINDS = pytest.mark.parametrize("dependent", [False, True], ids=["urq", "tcq"])
MADE_UP = Masks(
    bytes(12),
    (
        MaskedTensor(3, 2, 1, 0, b"\x80", b"\x80", None),
        MaskedTensor(5, 13, 77, 1, b"\xff", b"\xff", None),
        MaskedTensor(9, MAX_WIDTH, 8, 7, b"", b"", None),
    ),
    None,
)


@functools.cache
def masks_of(*, dependent: bool) -> Masks:
    return traceable.masks_of(traceable.release_of(dependent=dependent))


def some_numbers(masks: Masks, seed: int = 0) -> list[Numbers]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 1 << part.width, part.entries) for part in masks.tensors]


# On and off


@pytest.mark.parametrize("row_skipping", [False, True])
@KINDS
def test_what_was_added_comes_off(*, dependent: bool, row_skipping: bool) -> None:
    release = traceable.release_of(dependent=dependent, row_skipping=row_skipping)
    masks = traceable.masks_of(release)
    numbers = some_numbers(masks)
    masked = add(release, masks, place(KEY, masks), numbers)
    changed = [at for at, unit in enumerate(masked) if unit.read() != release[at].read()]
    assert changed == [part.unit for part in masks.tensors]
    back = add(masked, masks, place(KEY, masks), [-each for each in numbers])
    assert bytes(back) == bytes(release)


@given(
    st.integers(0, 2**32),
    st.booleans(),
    st.booleans(),
    st.integers(3, MAX_WIDTH),
    st.integers(0, 7),
    st.integers(1, 60),
    st.sampled_from([-24, -40, -56]),
)
@settings(max_examples=60)
def test_any_masks_come_off(
    seed: int,
    dependent: bool,
    row_skipping: bool,
    width: int,
    sparsity: int,
    entries: int,
    qp: int,
) -> None:
    """Whatever is too large for them is an outlier, be it all."""
    rng = np.random.default_rng(seed)
    weights = rng.laplace(0, 0.05, (9, 3, 7)).astype(np.float32)
    weights[rng.random(9) < 0.3] = 0
    data = stock.encode({"w": weights}, qp=qp, dependent=dependent, row_skipping=row_skipping)
    release = nnguard.Stream.from_bytes(data)
    tensor = decode(release[3])
    large = np.flatnonzero(np.abs(levels_of(tensor)) + 2 > 1 << width - 1)
    outliers = Replaced(3, large, tensor.indices.reshape(-1)[large]) if large.size else None
    rows = tensor.indices.reshape(9, -1).any(axis=1) & (rng.random(9) < 0.8)
    columns = rng.random(21) < 0.8
    flags = np.packbits(rows).tobytes(), np.packbits(columns).tobytes()
    masks = Masks(bytes(12), (MaskedTensor(3, width, entries, sparsity, *flags, outliers),), None)
    numbers, places = some_numbers(masks, seed), place(KEY, masks)
    masked = add(release, masks, places, numbers)
    back = add(masked, masks, places, [-each for each in numbers])
    assert bytes(back) == bytes(release)
    own = [(numbers[0] - 1) % (1 << width)]
    copy = take_off(masked, masks, KEY, pack(masks, own))
    moved = levels_of(decode(copy[3])) - levels_of(tensor)
    marks = marks_of(masks.tensors[0], tensor.indices.shape, places)
    expected = np.zeros(moved.size, np.int64)
    expected[marks.positions] = marks.signs
    expected[large] = 0
    assert np.array_equal(moved, expected)


@KINDS
def test_numbers_count_modulo_the_width(*, dependent: bool) -> None:
    release, masks = traceable.release_of(dependent=dependent), masks_of(dependent=dependent)
    numbers = some_numbers(masks)
    wrapped = [each - (1 << part.width) for each, part in zip(numbers, masks.tensors, strict=True)]
    places = place(KEY, masks)
    assert bytes(add(release, masks, places, numbers)) == bytes(
        add(release, masks, places, wrapped)
    )


@KINDS
def test_masked_levels_are_like_random_numbers(*, dependent: bool) -> None:
    """Of all widths, evenly: neither the release nor the fingerprint is to be seen in them."""
    release, masks = traceable.release_of(dependent=dependent), masks_of(dependent=dependent)
    part = masks.tensors[0]
    masked = add(release, masks, place(KEY, masks), some_numbers(masks))
    marks = marks_of(part, decode(release[part.unit]).indices.shape, place(KEY, masks))
    assert part.outliers is not None
    usual = np.setdiff1d(marks.positions, part.outliers.positions)
    levels = levels_of(decode(masked[part.unit]))[usual] / (1 << part.width)
    assert -0.5 <= levels.min() < -0.49
    assert 0.49 < levels.max() < 0.5
    assert abs(np.histogram(levels, 8)[0] / levels.size - 1 / 8).max() < 0.03


@KINDS
def test_other_weights_and_parities_stay(*, dependent: bool) -> None:
    release, masks = traceable.release_of(dependent=dependent), masks_of(dependent=dependent)
    places = place(KEY, masks)
    masked = add(release, masks, places, some_numbers(masks))
    for part in masks.tensors:
        before, after = decode(release[part.unit]), decode(masked[part.unit])
        marks = marks_of(part, before.indices.shape, places)
        old, new = integers_of(before).reshape(-1), integers_of(after).reshape(-1)
        assert np.isin(np.flatnonzero(old != new), marks.positions).all()
        if dependent:
            assert not ((old ^ new) & 1).any()
        assert before.parameters == after.parameters


@KINDS
def test_integers_are_those_of_the_payload(*, dependent: bool) -> None:
    for unit in traceable.release_of(dependent=dependent):
        if unit.tensor is not None and unit.name != "steps":
            tensor = decode(unit)
            back = with_integers(tensor, integers_of(tensor))
            assert np.array_equal(back.indices, tensor.indices)


@KINDS
def test_outliers_are_put_back(*, dependent: bool) -> None:
    release, masks = traceable.release_of(dependent=dependent), masks_of(dependent=dependent)
    part = masks.tensors[0]
    assert part.outliers is not None
    at = part.outliers.positions
    everywhere = replace(masks, tensors=(replace(part, sparsity=0),))
    marks = marks_of(everywhere.tensors[0], (100, 100), place(KEY, masks))
    assert np.isin(at, marks.positions).all()
    masked = add(release, everywhere, place(KEY, masks), some_numbers(everywhere))
    before, after = (decode(each[part.unit]).indices.reshape(-1) for each in (release, masked))
    assert np.array_equal(before[at], after[at])
    back = add(masked, everywhere, place(KEY, masks), [-n for n in some_numbers(everywhere)])
    assert bytes(back) == bytes(release)


# Where marks are


def test_marks_take_entries_in_turn_and_have_signs_at_random() -> None:
    part = MaskedTensor(3, 8, 50, 2, b"\xff" * 25, b"\xff" * 25, None)
    marks = marks_of(part, (200, 20, 10), place(KEY, MADE_UP))
    assert 9_500 < marks.positions.size < 10_500
    assert np.array_equal(marks.entries, np.arange(marks.positions.size) % 50)
    assert {*marks.signs.tolist()} == {-1, 1}
    assert abs(marks.signs.mean()) < 0.05


def test_marks_are_in_rows_and_columns_that_may_have_some() -> None:
    part = MaskedTensor(3, 8, 5, 0, b"\xa0", b"\x40\x80", None)
    marks = marks_of(part, (4, 3, 3), place(KEY, MADE_UP))
    assert marks.positions.tolist() == [1, 8, 19, 26]


def test_marks_follow_from_key_nonce_and_unit() -> None:
    part = MaskedTensor(3, 8, 5, 1, b"\xff", b"\xff", None)
    ways = [
        (part, KEY, MADE_UP),
        (replace(part, unit=4), KEY, MADE_UP),
        (part, KEY.below(), MADE_UP),
        (part, KEY, replace(MADE_UP, nonce=b"\1" * 12)),
    ]
    found = [
        tuple(marks_of(part, (8, 8), place(key, masks)).positions.tolist())
        for part, key, masks in ways
    ]
    assert len({*found}) == 4
    assert found[0] == tuple(marks_of(part, (8, 8), place(KEY, MADE_UP)).positions.tolist())


def test_levels_round_down() -> None:
    tensor = decode(traceable.release_of(dependent=True)[3])
    levels = levels_of(tensor)
    integers = integers_of(tensor).reshape(-1)
    assert integers.min() < 0
    assert np.array_equal(levels, np.floor(integers / 2))


# What a license has


@st.composite
def numbers_of_masks(draw: st.DrawFn) -> tuple[Masks, list[Numbers]]:
    sizes = draw(
        st.lists(st.tuples(st.integers(2, MAX_WIDTH), st.integers(1, 20)), min_size=1, max_size=4)
    )
    parts = [
        MaskedTensor(unit, width, entries, 0, b"", b"", None)
        for unit, (width, entries) in enumerate(sizes)
    ]
    numbers = [
        np.array(
            draw(st.lists(st.integers(0, (1 << w) - 1), min_size=n, max_size=n)), dtype=np.int64
        )
        for w, n in sizes
    ]
    return Masks(bytes(12), tuple(parts), None), numbers


@given(numbers_of_masks())
@settings(max_examples=60)
def test_numbers_are_packed_and_unpacked(case: tuple[Masks, list[Numbers]]) -> None:
    masks, numbers = case
    packed = pack(masks, numbers)
    assert len(packed) == masks.key_size
    found = unpack(masks, packed)
    assert [each.tolist() for each in found] == [each.tolist() for each in numbers]


def test_packed_most_significant_bit_first_and_whole_bytes_for_each_tensor() -> None:
    parts = tuple(
        MaskedTensor(unit, width, entries, 0, b"", b"", None)
        for unit, width, entries in ((0, 3, 3), (1, 12, 1))
    )
    masks = Masks(bytes(12), parts, None)
    packed = pack(masks, [np.array([0b101, 0b011, 0b110]), np.array([0xABC])])
    assert packed == bytes([0b10101111, 0b00000000, 0xAB, 0xC0])


@pytest.mark.parametrize("change", [-1, 1, -(10**9), 10**6])
def test_license_key_of_another_size_is_refused(change: int) -> None:
    size = max(MADE_UP.key_size + change, 0)
    with pytest.raises(UnlockError, match="masks of another lock"):
        unpack(MADE_UP, bytes(size))


# Locks that say what is not so


def refused(masks: Masks, *, dependent: bool = False) -> None:
    release = traceable.release_of(dependent=dependent)
    key = b"\x55" * masks.key_size
    with pytest.raises(UnlockError):
        take_off(release, masks, KEY, key)


@KINDS
def test_masks_of_another_stream_are_refused(*, dependent: bool) -> None:
    masks = masks_of(dependent=dependent)
    first = masks.tensors[0]
    outliers = first.outliers
    assert outliers is not None
    far = replace(outliers, positions=np.array([10_000]))
    for part in (
        replace(first, unit=0),
        replace(first, unit=99),
        replace(first, unit=2**70),
        replace(first, unit=10),  # integers
        replace(first, rows=first.rows[:-1]),
        replace(first, rows=first.rows + b"\0"),
        replace(first, columns=b""),
        replace(first, rows=b"\xff" * 13, sparsity=0),  # one is skipped
        replace(first, outliers=far),
    ):
        refused(replace(masks, tensors=(part,)), dependent=dependent)
    if dependent:
        even = replace(outliers, values=outliers.values ^ 1)
        refused(replace(masks, tensors=(replace(first, outliers=even),)), dependent=True)


GOOD: list[Any] = [bytes(12), [[3, 8, 5, 1, b"\xff", b"\xff"]]]
LIST = [3, 1, 0, 0, b"\xe0"]


@pytest.mark.parametrize(
    "encoded",
    [
        None,
        {},
        b"",
        [],
        [bytes(12)],
        [bytes(12), []],
        [bytes(11), GOOD[1]],
        [bytes(13), GOOD[1]],
        ["nonce of text", GOOD[1]],
        [bytes(12), {}],
        [bytes(12), GOOD[1], {}, {}],
        [bytes(12), GOOD[1], {1: 5}],
        [bytes(12), GOOD[1], {"unknown": "x"}],
        [bytes(12), GOOD[1], []],
        [bytes(12), [GOOD[1][0], GOOD[1][0]]],
        [bytes(12), [[4, *GOOD[1][0][1:]], GOOD[1][0]]],
        *(
            [bytes(12), [part]]
            for part in (
                [],
                3,
                [3, 8, 5, 1, b"\xff"],
                [-1, 8, 5, 1, b"\xff", b"\xff"],
                [3, 1, 5, 1, b"\xff", b"\xff"],
                [3, MAX_WIDTH + 1, 5, 1, b"\xff", b"\xff"],
                [3, 8, 0, 1, b"\xff", b"\xff"],
                [3, 8, MAX_ENTRIES + 1, 1, b"\xff", b"\xff"],
                [3, 8, 5, -1, b"\xff", b"\xff"],
                [3, 8, 5, 8, b"\xff", b"\xff"],
                [3, 8, 5, 1, "rows", b"\xff"],
                [3, 8, 5, 1, b"\xff", [1]],
                [3, 8, 5, 1, b"\xff", b"\xff", LIST, LIST],
                [3, 8, 5, 1, b"\xff", b"\xff", []],
                [3, 8, 5, 1, b"\xff", b"\xff", [4, *LIST[1:]]],
                [3, 8, 5, 1, b"\xff", b"\xff", [3, 0, 0, 0, b"\x80"]],
                [3, 8, 5, 1, b"\xff", b"\xff", [3, 1, 0, 0, b""]],
                [3.0, 8, 5, 1, b"\xff", b"\xff"],
            )
        ),
    ],
    ids=repr,
)
def test_malformed_masks_are_refused(encoded: Any) -> None:
    content = [[], [], [["", bytes(32), [b"unit"], encoded]]]
    with pytest.raises(UnlockError, match="malformed"):
        LockContent.parse(cbor2.dumps(content, canonical=True))


def test_masks_are_encoded_and_decoded() -> None:
    for masks in (*(masks_of(dependent=kind) for kind in (False, True)), MADE_UP):
        file = LockedFile("", bytes(32), (b"unit",), masks)
        content = LockContent((), (), (file,))
        found = LockContent.parse(bytes(content))
        assert bytes(found) == bytes(content)
        assert found.files[0].masks is not None
        assert found.files[0].masks.key_size == masks.key_size
    assert MaskedTensor.from_cbor(parse_cbor(cbor2.dumps(GOOD[1][0]))).entries == 5
