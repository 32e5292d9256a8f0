"""Copies have their fingerprints where the vendor looks for them, and nowhere else."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

import nnguard
import traceable
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._stream.quantized import decode, integers_of
from nnguard._tracing.casting import Caster, take_off
from nnguard._tracing.choosing import choose_masks
from nnguard._tracing.masking import levels_of, marks_of, place

KINDS = pytest.mark.parametrize("dependent", [False, True], ids=["urq", "tcq"])
ONE, TWO = "01" * 16, "02" * 16
KEY = nnguard.ContentKey(bytes(range(32)))


@KINDS
def test_vendor_takes_masks_off_without_a_trace(*, dependent: bool) -> None:
    release = traceable.release_of(dependent=dependent)
    caster, _ = traceable.caster(release)
    masked = caster.mask(release)
    assert bytes(masked) != bytes(release)
    assert bytes(caster.unmask(masked)) == bytes(release)
    assert bytes(caster.mask(release)) == bytes(masked)


@KINDS
def test_copy_is_release_and_fingerprint(*, dependent: bool) -> None:
    """`h` differs by sign times fingerprint at the marks, by nothing elsewhere."""
    release = traceable.release_of(dependent=dependent)
    caster, masks = traceable.caster(release)
    copy = take_off(caster.mask(release), masks, KEY.below(), caster.key_for(ONE))
    fingerprint = caster.fingerprint(ONE).astype(np.int64)
    start = 0
    masked = {part.unit for part in masks.tensors}
    for at, unit in enumerate(release):
        assert (copy[at].read() == unit.read()) is (at not in masked)
    for part in masks.tensors:
        before, after = decode(release[part.unit]), decode(copy[part.unit])
        marks = marks_of(part, before.indices.shape, place(KEY.below(), masks))
        expected = np.zeros(before.indices.size, np.int64)
        own = fingerprint[start : start + part.entries]
        expected[marks.positions] = marks.signs * own[marks.entries]
        if part.outliers is not None:
            expected[part.outliers.positions] = 0
        assert np.array_equal(levels_of(after) - levels_of(before), expected)
        assert marks.positions.size > 0.9 * part.entries > 0
        if dependent:
            assert not ((integers_of(after) ^ integers_of(before)) & 1).any()
        start += part.entries
    assert start == fingerprint.size == masks.entries


@KINDS
def test_amplitude_is_a_step_or_four(*, dependent: bool) -> None:
    """In indices; with TCQ one less or more, where a weight changes its sign."""
    release = traceable.release_of(dependent=dependent)
    caster, masks = traceable.caster(release)
    copy = take_off(caster.mask(release), masks, KEY.below(), caster.key_for(ONE))
    steps: Counter[int] = Counter()
    for part in masks.tensors:
        moved = decode(copy[part.unit]).indices - decode(release[part.unit]).indices
        steps.update(np.abs(moved[moved != 0]).tolist())
    assert steps.most_common(1)[0][0] == (4 if dependent else 1)
    assert set(steps) <= ({2, 3, 4} if dependent else {1})
    assert steps[4 if dependent else 1] > 0.98 * steps.total()


@KINDS
def test_key_of_another_license_gives_another_copy(*, dependent: bool) -> None:
    release = traceable.release_of(dependent=dependent)
    caster, masks = traceable.caster(release)
    masked = caster.mask(release)
    keys = [caster.key_for(each) for each in (ONE, TWO)]
    assert len({*keys}) == 2
    assert [len(key) for key in keys] == [masks.key_size] * 2
    copies = [bytes(take_off(masked, masks, KEY.below(), key)) for key in keys]
    assert len({bytes(release), bytes(masked), *copies}) == 4
    assert copies[0] == bytes(take_off(masked, masks, KEY.below(), caster.key_for(ONE)))


def test_other_key_and_other_lock_are_other_fingerprints() -> None:
    release = traceable.release_of(dependent=False)
    caster, masks = traceable.caster(release)
    other = Caster(KEY.below(), masks)
    again = Caster(KEY, choose_masks(release, []))
    found = [each.fingerprint(ONE) for each in (caster, other, again)]
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert 0.2 < np.mean(found[one] != found[two]) < 0.6
    assert not np.array_equal(caster.biases, other.biases)


def test_wrong_lock_key_leaves_masks_on() -> None:
    release = traceable.release_of(dependent=False)
    caster, masks = traceable.caster(release)
    copy = take_off(caster.mask(release), masks, KEY, caster.key_for(ONE))
    part = masks.tensors[0]
    away = decode(copy[part.unit]).indices - decode(release[part.unit]).indices
    assert np.mean(np.abs(away) > 1) > 0.7


def test_key_of_one_license_tells_nothing_of_the_table() -> None:
    """Numbers are spread evenly, whatever the fingerprint is."""
    release = traceable.release_of(dependent=False)
    caster, masks = traceable.caster(release)
    bits = np.unpackbits(np.frombuffer(caster.key_for(ONE), np.uint8))
    assert abs(bits.mean() - 0.5) < 0.01
    assert masks.key_size * 8 - bits.size == 0


def test_nothing_secret_is_shown() -> None:
    """Neither by `repr` nor by `str`, of what holds keys, tables, fingerprints or masks."""
    release = traceable.release_of(dependent=False)
    caster, masks = traceable.caster(release)
    key = caster.key_for(ONE)
    unwrapped = Unwrapped(KEY, key)
    for each in (caster, masks, masks.tensors[0], masks.tensors[0].outliers, unwrapped):
        shown = repr(each) + str(each)
        assert KEY.secret.hex() not in shown
        assert repr(KEY.secret)[2:-1] not in shown
        assert repr(key[:16])[2:-1] not in shown
        assert key[:16].hex() not in shown
        assert not re.search(r"array\(", shown)
