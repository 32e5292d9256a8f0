"""Copies have their fingerprints where the vendor looks for them, and nowhere else."""

from __future__ import annotations

import re

import numpy as np
import pytest

import nnguard
import traceable
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._locking.choice import can_lock
from nnguard._records.masks import Masks
from nnguard._stream.quantized import decode, integers_of
from nnguard._tracing import casting
from nnguard._tracing.casting import Caster, take_off
from nnguard._tracing.choosing import Chosen
from nnguard._tracing.masking import levels_of, masked_in, place, unpack
from nnguard.errors import UnlockError

KINDS = pytest.mark.parametrize("dependent", [False, True], ids=["urq", "tcq"])
SPARSITY = pytest.mark.parametrize("sparsity", [0, 2])
ONE, TWO = "01" * 16, "02" * 16
KEY = traceable.KEY


def copy_of(masked: nnguard.Stream, masks: Masks, license_id: str) -> nnguard.Stream:
    return take_off(masked, masks, KEY.below(), Caster(KEY, masked, masks).key_for(license_id))


@KINDS
@SPARSITY
def test_vendor_gets_the_release_without_a_trace(*, dependent: bool, sparsity: int) -> None:
    release, masked, masks = traceable.masked(dependent=dependent, sparsity=sparsity)
    assert bytes(Caster(KEY, masked, masks).release()) == bytes(release)
    assert bytes(masked) != bytes(release)


@pytest.mark.parametrize("row_skipping", [False, True])
@KINDS
def test_masked_weights_are_not_in_the_stream(*, dependent: bool, row_skipping: bool) -> None:
    """With TCQ all that is left of them is a parity."""
    release = traceable.release_of(dependent=dependent, row_skipping=row_skipping)
    chosen = traceable.chosen_of(release)
    masked, masks = casting.mask(release, chosen, 100, None, KEY)
    units = {each.unit for each in chosen}
    for at, unit in enumerate(release):
        assert (masked[at].read() == unit.read()) is (at not in units)
    for each in chosen:
        old, new = decode(release[each.unit]), decode(masked[each.unit])
        large = np.abs(levels_of(old)) + 1 >= 1 << each.width - 1
        assert np.array_equal(levels_of(new), np.where(large, levels_of(old), 0))
        assert old.parameters == new.parameters
        if dependent:
            assert not ((integers_of(old) ^ integers_of(new)) & 1).any()
    assert bytes(Caster(KEY, masked, masks).release()) == bytes(release)


@KINDS
@SPARSITY
def test_copy_is_release_and_fingerprint(*, dependent: bool, sparsity: int) -> None:
    """Levels differ by sign times fingerprint at the marks, by nothing elsewhere."""
    release, masked, masks = traceable.masked(dependent=dependent, sparsity=sparsity)
    caster = Caster(KEY, masked, masks)
    copy = copy_of(masked, masks, ONE)
    fingerprint = caster.fingerprint(ONE).astype(np.int64)
    assert fingerprint.size == masks.entries == 500
    all_marks = traceable.marks_by_unit(caster)
    assert [*all_marks] == [part.unit for part in masks.tensors]
    start = 0
    for at, unit in enumerate(release):
        if at not in all_marks:
            assert copy[at].read() == unit.read()
            continue
        marks, before, after = all_marks[at], decode(unit), decode(copy[at])
        old, new = levels_of(before), levels_of(after)
        expected = np.zeros(old.size, np.int64)
        expected[marks.positions] = marks.signs * fingerprint[marks.entries]
        assert np.array_equal(new - old, expected)
        assert {*np.abs(marks.signs).tolist()} == {1}
        assert (np.abs(old[marks.positions]) > 1).all()
        assert np.array_equal(before.indices == 0, after.indices == 0)
        if dependent:
            assert not ((integers_of(after) ^ integers_of(before)) & 1).any()
        [part] = [part for part in masks.tensors if part.unit == at]
        own = masked_in(decode(masked[at]), part, place(KEY.below(), masks.nonce))
        turns = start + np.searchsorted(own, marks.positions)
        assert np.isin(marks.positions, own).all()
        assert np.array_equal(marks.entries, turns % masks.entries)
        start += own.size


@KINDS
def test_share_and_signs_are_as_asked_for(*, dependent: bool) -> None:
    release = traceable.release_of(dependent=dependent)
    for share in (0.5, 0.1, 0.0):
        chosen = traceable.chosen_of(release, ["first.weight"], share=share)
        masked, masks = casting.mask(release, chosen, 100, None, KEY)
        marks = traceable.marks_by_unit(Caster(KEY, masked, masks))[3]
        assert marks.positions.size == pytest.approx(share * 17_800, rel=0.1, abs=1)
        if share:
            assert abs(marks.signs.mean()) < 0.08


@KINDS
def test_a_step_up_or_down_is_one_step_or_four(*, dependent: bool) -> None:
    """In indices; with TCQ that of another parity is one off where a sign would change."""
    release, masked, masks = traceable.masked(dependent=dependent)
    copy = copy_of(masked, masks, ONE)
    for part in masks.tensors:
        moved = decode(copy[part.unit]).indices - decode(release[part.unit]).indices
        assert {*np.abs(moved[moved != 0]).tolist()} == {4 if dependent else 1}


@KINDS
def test_variants_hide_what_they_are(*, dependent: bool) -> None:
    """Spread evenly, and of two variants neither tells the other."""
    _, masked, masks = traceable.masked(dependent=dependent)
    part = masks.tensors[0]
    count = masked_in(decode(masked[3]), part, place(KEY.below(), masks.nonce)).size
    first, second = unpack(part, count)
    for each in (first, second, (first - second) % (1 << part.width)):
        counts = np.histogram(each / (1 << part.width), 8, (0, 1))[0]
        assert abs(counts / each.size - 1 / 8).max() < 0.015


def test_variants_of_a_license_do_not_tell_which_is_higher() -> None:
    """Marks of one entry have both signs, whichever variant a license has."""
    _, masked, masks = traceable.masked(dependent=False)
    marks = traceable.marks_by_unit(Caster(KEY, masked, masks))
    of = [marks[3].signs[marks[3].entries == entry] for entry in range(100)]
    means = np.array([signs.mean() for signs in of])
    sizes = np.array([signs.size for signs in of])
    assert abs(means.mean()) < 0.1
    assert np.std(means * np.sqrt(sizes)) == pytest.approx(1, abs=0.25)


@KINDS
def test_key_of_another_license_gives_another_copy(*, dependent: bool) -> None:
    release, masked, masks = traceable.masked(dependent=dependent)
    caster = Caster(KEY, masked, masks)
    assert caster.key_for(ONE) != caster.key_for(TWO)
    assert [len(caster.key_for(each)) for each in (ONE, TWO)] == [masks.key_size] * 2
    copies = [bytes(copy_of(masked, masks, each)) for each in (ONE, TWO, ONE)]
    assert len({bytes(release), bytes(masked), *copies[:2]}) == 4
    assert copies[2] == copies[0]


def test_licenses_share_keys_where_fingerprints_agree() -> None:
    _, masked, masks = traceable.masked(dependent=False)
    caster = Caster(KEY, masked, masks)
    start = (masks.entries + 7) // 8
    keys = [
        [key[at : at + 8] for at in range(start, len(key), 8)]
        for key in map(caster.key_for, (ONE, TWO))
    ]
    same = [one == two for one, two in zip(*keys, strict=True)]
    assert same == (caster.fingerprint(ONE) == caster.fingerprint(TWO)).tolist()
    assert 100 < sum(same) < 490


@KINDS
def test_wrong_bit_of_a_license_key_gives_noise(*, dependent: bool) -> None:
    """The key of one variant does not open the other."""
    release = traceable.release_of(dependent=dependent, row_skipping=False)
    masked, masks = casting.mask(release, traceable.chosen_of(release), 500, None, KEY)
    caster = Caster(KEY, masked, masks)
    key = bytearray(caster.key_for(ONE))
    key[0] ^= 0x80
    copy = take_off(masked, masks, KEY.below(), bytes(key))
    away = levels_of(decode(copy[3])) - levels_of(decode(release[3]))
    marks = traceable.marks_by_unit(caster)[3]
    assert np.mean(np.abs(away[marks.positions[marks.entries == 0]]) > 1) > 0.8
    assert np.abs(away[marks.positions[marks.entries == 1]]).max() == 1


def test_another_key_of_the_lock_puts_weights_elsewhere() -> None:
    _, masked, masks = traceable.masked(dependent=False, sparsity=2)
    with pytest.raises(UnlockError):
        take_off(masked, masks, KEY, Caster(KEY, masked, masks).key_for(ONE))


def test_other_key_and_other_lock_are_other_fingerprints() -> None:
    release, masked, masks = traceable.masked(dependent=False)
    other = casting.mask(release, traceable.chosen_of(release), 500, None, KEY)
    casters = [Caster(KEY, masked, masks), Caster(KEY.below(), masked, masks), Caster(KEY, *other)]
    found = [each.fingerprint(ONE) for each in casters]
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert 0.3 < np.mean(found[one] != found[two]) < 0.7
    assert other[1].nonce != masks.nonce


@pytest.mark.parametrize("entries", [1, 7, 3_000])
def test_any_number_of_entries(entries: int) -> None:
    release = traceable.release_of(dependent=True)
    chosen = traceable.chosen_of(release, ["conv.weight"])  # 1,800 weights
    masked, masks = casting.mask(release, chosen, entries, None, KEY)
    caster = Caster(KEY, masked, masks)
    assert bytes(caster.release()) == bytes(release)
    copy = take_off(masked, masks, KEY.below(), caster.key_for(ONE))
    assert bytes(copy) != bytes(release)


def test_a_large_tensor_may_be_masked_all_over() -> None:
    """Zeros are left of it, in fewer bytes than tensors of its size need to be looked into."""
    weights = np.random.default_rng(0).normal(0, 0.05, (640, 520)).astype(np.float32)
    release = nnguard.compress({"w": weights}, nnguard.Settings(qp=-20, dependent=False))
    [at] = [index for index, unit in enumerate(release) if unit.name == "w"]
    masked, masks = casting.mask(release, [Chosen(at, weights.size, 8, 0.5)], 100, None, KEY)
    assert not can_lock(masked[at])
    assert bytes(Caster(KEY, masked, masks).release()) == bytes(release)


def test_nothing_secret_is_shown() -> None:
    """Neither by `repr` nor by `str`, of what holds keys, variants, fingerprints or masks."""
    _, masked, masks = traceable.masked(dependent=False)
    caster = Caster(KEY, masked, masks)
    key = caster.key_for(ONE)
    variant = bytes(masks.tensors[0].variants[0][:16])
    for each in (caster, masks, masks.tensors[0], Unwrapped(KEY, key)):
        shown = repr(each) + str(each)
        for secret in (KEY.secret, key[:16], key[-8:], variant):
            assert repr(secret)[2:-1] not in shown
            assert secret.hex() not in shown
        assert not re.search(r"array\(", shown)
