"""Masked weights, in two variants, as a lock has them."""

from __future__ import annotations

from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import traceable
from nnguard._crypto.content_key import entry_masks
from nnguard._records.lock import LockContent, LockedFile
from nnguard._records.masks import ENTRY_KEY_SIZE, MAX_ENTRIES, MAX_WIDTH, MaskedTensor, Masks
from nnguard._stream.quantized import decode, integers_of, with_integers
from nnguard._tracing.casting import take_off
from nnguard._tracing.masking import (
    levels_of,
    masked_in,
    masks_of,
    pack,
    place,
    places_in,
    put,
    read,
    split_key,
    unpack,
    with_levels,
)
from nnguard.errors import UnlockError

KEY = traceable.KEY
KINDS = pytest.mark.parametrize("dependent", [False, True], ids=["urq", "tcq"])
NONCE = bytes(range(12))
KEYS = [bytes([entry] * ENTRY_KEY_SIZE) for entry in range(7)]


# Levels


@KINDS
def test_integers_are_those_of_the_payload(*, dependent: bool) -> None:
    for unit in traceable.release_of(dependent=dependent):
        if unit.tensor is not None and unit.name != "steps":
            tensor = decode(unit)
            back = with_integers(tensor, integers_of(tensor))
            assert np.array_equal(back.indices, tensor.indices)


def test_levels_round_down() -> None:
    tensor = decode(traceable.release_of(dependent=True)[3])
    integers = integers_of(tensor).reshape(-1)
    assert integers.min() < 0
    assert np.array_equal(levels_of(tensor), np.floor(integers / 2))


@given(st.integers(0, 2**32), st.booleans(), st.integers(0, 2**15))
@settings(max_examples=40)
def test_levels_are_put_and_put_back(seed: int, dependent: bool, size: int) -> None:
    """With TCQ parities stay, and so do all other weights."""
    tensor = decode(traceable.release_of(dependent=dependent)[5])
    rng = np.random.default_rng(seed)
    at = np.flatnonzero(rng.random(tensor.indices.size) < rng.random())
    levels = rng.integers(-size, size + 1, at.size)
    other = with_levels(tensor, at, levels)
    assert np.array_equal(levels_of(other)[at], levels)
    rest = np.delete(np.arange(tensor.indices.size), at)
    assert np.array_equal(levels_of(other)[rest], levels_of(tensor)[rest])
    old, new = integers_of(tensor).reshape(-1), integers_of(other).reshape(-1)
    if dependent:
        assert not ((old ^ new) & 1).any()
    back = with_levels(other, at, levels_of(tensor)[at])
    assert np.array_equal(back.indices, tensor.indices)
    assert back.parameters == tensor.parameters


# Where, and with what


def test_places_follow_from_key_nonce_and_unit() -> None:
    ways = [
        (3, place(KEY, NONCE)),
        (4, place(KEY, NONCE)),
        (3, place(KEY.below(), NONCE)),
        (3, place(KEY, bytes(12))),
    ]
    found = [tuple(places_in(9000, unit, 3, places).tolist()) for unit, places in ways]
    assert len({*found}) == 4
    assert found[0] == tuple(places_in(9000, 3, 3, place(KEY, NONCE)).tolist())


@pytest.mark.parametrize("sparsity", range(8))
def test_one_of_so_many_weights_may_be_masked(sparsity: int) -> None:
    found = places_in(50_000, 3, sparsity, place(KEY, NONCE))
    assert found.shape == (50_000,)
    assert found.sum() == pytest.approx(50_000 / 2**sparsity, rel=0.15)


def test_entries_take_turns() -> None:
    whole = masks_of(KEYS, 40, NONCE)
    assert whole.size == 40
    for entry, key in enumerate(KEYS):
        own = np.frombuffer(entry_masks(key, entry, 12, NONCE), "<u2")
        assert whole[entry::7].tolist() == own[: whole[entry::7].size].tolist()
    assert masks_of(KEYS, 3, NONCE).tolist() == whole[:3].tolist()
    assert masks_of(KEYS, 0, NONCE).size == 0


def test_masks_follow_from_key_entry_and_nonce() -> None:
    ways = [
        (KEYS[1], 0, NONCE),
        (KEYS[1], 1, NONCE),
        (KEYS[2], 0, NONCE),
        (KEYS[1], 0, bytes(12)),
    ]
    assert len({entry_masks(key, entry, 40, nonce) for key, entry, nonce in ways}) == 4


@given(st.integers(2, MAX_WIDTH), st.lists(st.integers(0, (1 << MAX_WIDTH) - 1), max_size=40))
@settings(max_examples=80)
def test_numbers_are_packed_and_unpacked(width: int, numbers: list[int]) -> None:
    values = np.array(numbers, np.int64) % (1 << width)
    packed = pack(values, width)
    assert len(packed) == (values.size * width + 7) // 8
    part = MaskedTensor(3, width, 0, (packed, bytes(len(packed))))
    first, second = unpack(part, values.size)
    assert first.tolist() == values.tolist()
    assert second.tolist() == [0] * values.size


def test_packed_most_significant_bit_first() -> None:
    assert pack(np.array([0b101, 0b011, 0b110]), 3) == bytes([0b10101111, 0])
    assert pack(np.array([0xABC]), 12) == bytes([0xAB, 0xC0])


@pytest.mark.parametrize("count", [0, 7, 10, 1000])
def test_variants_of_another_number_are_refused(count: int) -> None:
    packed = pack(np.arange(8), 16)
    with pytest.raises(UnlockError, match="another number of weights"):
        [*unpack(MaskedTensor(3, 16, 0, (packed, packed)), count)]


@given(st.lists(st.booleans(), min_size=1, max_size=30))
@settings(max_examples=30)
def test_license_key_is_bits_and_keys(second: list[bool]) -> None:
    keys = [bytes([entry] * ENTRY_KEY_SIZE) for entry in range(len(second))]
    masks = Masks(NONCE, len(second), (), None)
    license_key = np.packbits(second).tobytes() + b"".join(keys)
    assert len(license_key) == masks.key_size
    bits, found = split_key(masks, license_key)
    assert (bits.tolist(), found) == (second, keys)


@pytest.mark.parametrize("change", [-1000, -1, 1, 8, 10**6])
def test_license_key_of_another_size_is_refused(change: int) -> None:
    masks = Masks(NONCE, 12, (), None)
    with pytest.raises(UnlockError, match="keys for another lock"):
        split_key(masks, bytes(max(masks.key_size + change, 0)))


# Locks that say what is not so


@KINDS
def test_masks_of_another_stream_are_refused(*, dependent: bool) -> None:
    _, masked, masks = traceable.masked(dependent=dependent)
    first = masks.tensors[0]
    for part in (
        MaskedTensor(0, first.width, 0, first.variants),
        MaskedTensor(99, first.width, 0, first.variants),
        MaskedTensor(2**64 - 1, first.width, 0, first.variants),
        MaskedTensor(10, first.width, 0, first.variants),  # integers
        MaskedTensor(5, first.width, 0, first.variants),
        MaskedTensor(3, first.width, 1, first.variants),
        MaskedTensor(3, first.width - 1, 0, first.variants),
        MaskedTensor(3, first.width, 0, (b"", b"")),
    ):
        wrong = Masks(masks.nonce, masks.entries, (part,), None)
        with pytest.raises(UnlockError):
            take_off(masked, wrong, KEY.below(), b"\x55" * masks.key_size)


@KINDS
def test_levels_in_skipped_rows_are_refused(*, dependent: bool) -> None:
    release, _, masks = traceable.masked(dependent=dependent)
    zero = 3 * 100, 3 * 100 + 1
    levels = {3: (np.array(zero), np.array([5, 6]))}
    with pytest.raises(UnlockError, match="cannot be restored"):
        put(release, read(release, masks), levels)


@KINDS
def test_masked_are_those_of_which_nothing_is_left(*, dependent: bool) -> None:
    release, masked, masks = traceable.masked(dependent=dependent)
    places = place(KEY.below(), masks.nonce)
    for part in masks.tensors:
        at = masked_in(decode(masked[part.unit]), part, places)
        levels = levels_of(decode(release[part.unit]))
        small = np.abs(levels) + 1 < 1 << part.width - 1
        assert np.array_equal(at, np.flatnonzero(small))
        assert small.mean() > 0.99
    assert not np.isin(909, masked_in(decode(masked[3]), masks.tensors[0], places))


PART: list[Any] = [3, 8, 1, b"\xff", b"\xff"]


@pytest.mark.parametrize(
    "encoded",
    [
        None,
        {},
        b"",
        [],
        [NONCE, 5],
        [NONCE, 5, []],
        [NONCE, [PART]],
        [NONCE[1:], 5, [PART]],
        [NONCE + b"\0", 5, [PART]],
        ["nonce of text", 5, [PART]],
        [NONCE, 0, [PART]],
        [NONCE, -5, [PART]],
        [NONCE, MAX_ENTRIES + 1, [PART]],
        [NONCE, 5.0, [PART]],
        [NONCE, True, [PART]],
        [NONCE, 5, {}],
        [NONCE, 5, [PART], {}, {}],
        [NONCE, 5, [PART], {1: 5}],
        [NONCE, 5, [PART], {1: ""}],
        [NONCE, 5, [PART], {"unknown": "x"}],
        [NONCE, 5, [PART], []],
        [NONCE, 5, [PART, PART]],
        [NONCE, 5, [[4, *PART[1:]], PART]],
        *(
            [NONCE, 5, [part]]
            for part in (
                [],
                3,
                PART[:4],
                [*PART, b"\xff"],
                [-1, *PART[1:]],
                [3, 1, *PART[2:]],
                [3, MAX_WIDTH + 1, *PART[2:]],
                [3, 8, -1, *PART[3:]],
                [3, 8, 8, *PART[3:]],
                [3, 8, 1, b"\xff", b"\xff\xff"],
                [3, 8, 1, "variant", b"\xff"],
                [3, 8, 1, b"\xff", [1]],
                [3.0, *PART[1:]],
                [True, *PART[1:]],
                [3, 8, True, *PART[3:]],
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
    _, _, masks = traceable.masked(dependent=True)
    file = LockedFile("", bytes(32), (b"unit",), masks)
    found = LockContent.parse(bytes(LockContent((), (), (file,)))).files[0].masks
    assert found is not None
    assert (found.nonce, found.entries, found.claims) == (masks.nonce, masks.entries, None)
    for one, two in zip(found.tensors, masks.tensors, strict=True):
        assert (one.unit, one.width, one.sparsity) == (two.unit, two.width, two.sparsity)
        assert [*map(bytes, one.variants)] == [*map(bytes, two.variants)]
