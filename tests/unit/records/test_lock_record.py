"""The record of a lock says to the key what was replaced, and nothing to anybody else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnguard
import samples
from nnguard._crypto.cbor import encode_cbor, parse_cbor
from nnguard._hiding import embed, extract, plan_record
from nnguard._records.kinds import RecordKind
from nnguard._records.lock import LockContent, LockedFile, LockRecord, LockShard
from nnguard._records.replaced import Replaced
from opening import lock_of, open_locks

KEY = nnguard.ContentKey(bytes(range(32)))
NONCE = bytes(12)
DIGEST = bytes(range(32))
INDICES = st.integers(1 - (1 << 31), (1 << 31) - 1)


def make(unit: int, weights: dict[int, int]) -> Replaced:
    positions = sorted(weights)
    values = [weights[position] for position in positions]
    return Replaced(unit, np.array(positions, np.int64), np.array(values, np.int32))


def same(one: Sequence[Replaced], two: Sequence[Replaced]) -> bool:
    return len(one) == len(two) and all(
        a.unit == b.unit
        and np.array_equal(a.positions, b.positions)
        and np.array_equal(a.values, b.values)
        for a, b in zip(one, two, strict=True)
    )


replaced_lists = st.lists(
    st.builds(
        make,
        st.integers(0, 1 << 20),
        st.dictionaries(st.integers(0, (1 << 24) - 1), INDICES, min_size=1, max_size=40),
    ),
    max_size=4,
)
scrambled_lists = st.lists(st.integers(0, 1 << 20), max_size=4)
runs = st.builds(
    lambda start, count: range(start, start + count), st.integers(0, 1 << 20), st.integers(1, 99)
)
file_lists = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    st.lists(st.binary(min_size=1, max_size=300) | runs, min_size=1, max_size=5),
    min_size=1,
    max_size=3,
)


def file_of(*units: bytes | range, name: str = "", digest: bytes = DIGEST) -> LockedFile:
    return LockedFile(name, digest, units)


def content_of(*replaced: Replaced, scrambled: tuple[int, ...] = ()) -> LockContent:
    return LockContent(scrambled, replaced, (file_of(range(5)),))


@given(scrambled_lists, replaced_lists, file_lists)
def test_content_comes_back(
    scrambled: list[int], replaced: list[Replaced], units: dict[str, list[bytes | range]]
) -> None:
    files = tuple(file_of(*units[name], name=name) for name in sorted(units))
    content = LockContent(tuple(scrambled), tuple(replaced), files)
    named = [
        at for parts in units.values() for part in parts if isinstance(part, range) for at in part
    ]
    if len(named) != len(set(named)):
        with pytest.raises(nnguard.errors.UnlockError, match="malformed"):
            LockContent.parse(bytes(content))
        return
    found = LockContent.parse(bytes(content))
    assert found.scrambled == tuple(scrambled)
    assert same(found.replaced, replaced)
    assert [(f.name, f.digest, f.units) for f in found.files] == [
        (f.name, f.digest, f.units) for f in files
    ]
    assert bytes(found) == bytes(content)


def test_list_of_usual_weights_is_short() -> None:
    """At 0.1 % of the weights, gaps take some 10 bits and values some 7."""
    rng = np.random.default_rng(0)
    positions = np.sort(rng.choice(100_000, 100, replace=False))
    values = rng.integers(-40, 40, 100)
    weights = dict(zip(positions.tolist(), values.tolist(), strict=True))
    content = content_of(make(3, weights))
    assert len(bytes(content)) < 50 + 100 * 21 / 8 + 10


CONTENT = content_of(make(3, {5: -7, 9: 2}), scrambled=(4,))


def test_record_comes_back() -> None:
    record = LockRecord.seal(KEY, NONCE, "förderer", CONTENT, b"header")
    found = LockRecord.parse(record)
    assert (found.tier, found.shard) == ("förderer", None)
    assert bytes(found.open(KEY, b"header")) == bytes(CONTENT)


def test_record_says_which_shard_it_is_in() -> None:
    shard = LockShard(bytes(16), 2, 3)
    found = LockRecord.parse(LockRecord.seal(KEY, NONCE, "full", CONTENT, b"", shard=shard))
    assert found.shard == shard
    assert bytes(found.open(KEY, b"")) == bytes(CONTENT)


@pytest.mark.parametrize(
    "shard",
    [[bytes(15), 0, 1], [bytes(16), 1, 1], [bytes(16), -1, 1], [bytes(16), 0], [], 7, "a", {1: 2}],
)
def test_shard_of_another_form_is_refused(shard: object) -> None:
    record = KEY.seal(bytes(CONTENT), {"tier": "full", "shard": shard}, NONCE, b"nnguard lock v1\0")
    with pytest.raises(nnguard.errors.VerificationError, match="protected header"):
        LockRecord.parse(record)


def test_record_of_another_place_or_key_is_not_authentic() -> None:
    found = LockRecord.parse(LockRecord.seal(KEY, NONCE, "full", CONTENT, b"header"))
    for key, header in ((KEY, b"other"), (KEY.below(), b"header")):
        with pytest.raises(nnguard.errors.VerificationError, match="not authentic"):
            found.open(key, header)


def test_size_of_a_record_does_not_depend_on_its_place() -> None:
    sizes = {len(LockRecord.seal(KEY, NONCE, "full", CONTENT, bytes(size))) for size in (0, 9, 999)}
    assert len(sizes) == 1


def test_nothing_of_the_content_is_readable() -> None:
    record = LockRecord.seal(KEY, NONCE, "full", CONTENT, b"header")
    assert DIGEST not in record
    assert bytes(CONTENT)[-20:] not in record
    large = content_of(make(3, dict.fromkeys(range(0, 9000, 9), -7)))
    records = [
        LockRecord.seal(KEY, bytes([number] * 12), "full", large, b"header") for number in range(2)
    ]
    one, two = (LockRecord.parse(record).envelope.ciphertext for record in records)
    common = sum(a == b for a, b in zip(one, two, strict=True))
    assert common < len(one) / 50


def test_no_bit_of_a_record_can_be_changed() -> None:
    record = LockRecord.seal(KEY, NONCE, "full", CONTENT, b"header")
    for bit in range(8 * len(record)):
        changed = bytearray(record)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(nnguard.errors.VerificationError):
            LockRecord.parse(bytes(changed)).open(KEY, b"header")


def _list_of(value: int) -> bytes:
    """Return the bits of a list that puts an index at position 0."""
    bits = samples.BitWriter().ue(0, 0).ie(value, 31)
    return bytes(bits.align())


def test_largest_indices_are_accepted() -> None:
    for value in (1 - (1 << 31), (1 << 31) - 1):
        content = [[7], [[1, 1, 0, 31, _list_of(value)]], [["", DIGEST, [[0, 1]]]]]
        found = LockContent.parse(encode_cbor(content))
        assert found.replaced[0].values.tolist() == [value]
        assert found.scrambled == (7,)


FILE = ["", DIGEST, [[0, 5]]]


@pytest.mark.parametrize(
    "content",
    [
        [],
        [[], []],
        [[], [], [FILE], []],
        [[], [[1, 1, 0, 0]], [FILE]],
        [[], [[1, 0, 1, 0, 0, b"\xe0"]], [FILE]],
        [[], [[1, 0, 0, 0, b"\xff"]], [FILE]],
        [[], [[1, 1, 0, 0, b""]], [FILE]],
        [[], [[1, 9, 0, 0, b"\xff"]], [FILE]],
        [[], [[1, 8, 0, 0, b"\xff"]], [FILE]],
        [[], [[1, 1, -1, 0, b"\xff"]], [FILE]],
        [[], [[1, 1, 1 << 63, 0, b"\xff" * 99]], [FILE]],
        [[], [[1, 1, 0, 64, b"\xff" * 99]], [FILE]],
        [[], [[1, 1, 0, 0, bytes(99)]], [FILE]],
        [[], [[True, 1, 0, 0, b"\xe0"]], [FILE]],
        [[], [[1, 1, 0, 31, _list_of(1 << 31)]], [FILE]],
        [[], [[1, 1, 0, 31, _list_of(-(1 << 31))]], [FILE]],
        [[[7]], [], [FILE]],
        [[[7, 1]], [], [FILE]],
        [[True], [], [FILE]],
        [[], [], [["", DIGEST]]],
        [[], [], [["", DIGEST, [[0, 5]], 1]]],
        [[], [], [["", DIGEST[:-1], [[0, 5]]]]],
        [[], [], [[b"", DIGEST, [[0, 5]]]]],
        [[], [], [["", DIGEST, []]]],
        [[], [], [["", DIGEST, [b""]]]],
        [[], [], [["", DIGEST, [[0, 0]]]]],
        [[], [], [["", DIGEST, [[-1, 2]]]]],
        [[], [], [["", DIGEST, [[0, 1, 1]]]]],
        [[], [], [["", DIGEST, [[0, True]]]]],
        [[], [], [["", DIGEST, [0]]]],
        [[], [], [["", DIGEST, b"\0"]]],
        [[], [], [FILE, FILE]],
        [[], [], [["b", *FILE[1:]], ["a", *FILE[1:]]]],
        [[], [], {"": FILE}],
        {"digest": DIGEST},
    ],
)
def test_content_of_a_careless_vendor_is_refused(content: object) -> None:
    with pytest.raises(nnguard.errors.UnlockError, match="malformed"):
        LockContent.parse(encode_cbor(content))


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x9f\xff", bytes(CONTENT)[:-1], b"\x80" * 5000])
def test_content_that_is_not_cbor_is_refused(data: bytes) -> None:
    with pytest.raises(nnguard.errors.UnlockError, match="malformed"):
        LockContent.parse(data)


@pytest.fixture(scope="module")
def locked() -> nnguard.Locked:
    return nnguard.lock(
        nnguard.Stream.from_bytes(samples.small_stream()), soft=nnguard.Soft(fraction=0.005)
    )


def relock(
    locked: nnguard.Locked, content: LockContent, shard: LockShard | None = None
) -> nnguard.Stream:
    """Hide another lock under the same key in what carries the trial's."""
    outer = extract(locked.trial)
    seal = partial(LockRecord.seal, locked.content_key, NONCE, "full", content, shard=shard)
    plan = plan_record(outer.original, RecordKind.LOCK, len(seal(b"")))
    return plan.embed(seal(bytes(plan.header)))


def open_all(stream: nnguard.Stream, key: nnguard.ContentKey) -> None:
    open_locks(stream, key)


def test_lock_that_restores_something_else_is_refused(locked: nnguard.Locked) -> None:
    outer = extract(locked.trial)
    content = lock_of(outer).open(locked.content_key, bytes(outer.header))
    wrong = LockContent(content.scrambled, content.replaced, (file_of(range(len(locked.trial))),))
    with pytest.raises(nnguard.errors.UnlockError, match="not what was locked"):
        open_all(relock(locked, wrong), locked.content_key)


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        (make(99, {1: 1}), "cannot be locked"),
        (make(0, {1: 1}), "cannot be locked"),
        (make(3, {1: 1}), "cannot be restored"),
        (make(4, {3000: 1}), "weight that is not there"),
        (make(4, {1: 1 << 30}), r"\w"),
    ],
    ids=["no unit", "not a tensor", "bias", "no weight", "huge"],
)
def test_lock_that_names_what_is_not_there_is_refused(
    locked: nnguard.Locked, part: Replaced, complaint: str
) -> None:
    stream = relock(locked, content_of(part))
    with pytest.raises(nnguard.errors.UnlockError, match=complaint):
        open_all(stream, locked.content_key)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ([file_of(range(99, 100))], "a unit that is not there"),
        ([file_of(range(1 << 32))], "a unit that is not there"),
        ([file_of(range((1 << 64) - 1, 1 << 64))], "a unit that is not there"),
        ([file_of(range(6), range(3))], "malformed"),
        ([file_of(range(1, 6))], "not a well-formed stream"),
        ([file_of(range(6), range(5, 6))], "malformed"),
        ([file_of(b"\0")], "not a well-formed stream"),
        ([file_of(range(4), b"\0\x09ab")], "not a well-formed stream"),
        ([file_of(range(6))], "not what was locked"),
        ([file_of(range(5))], "not what was locked"),
        ([file_of(range(2, 4), range(2), range(4, 6))], "not a well-formed stream"),
    ],
)
def test_lock_that_opens_what_is_no_stream_is_refused(
    locked: nnguard.Locked,
    files: list[LockedFile],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(locked.trial) == 6
    monkeypatch.setattr("nnguard._locking.restoring.MAX_UNITS", 8)
    stream = relock(locked, LockContent((), (), tuple(files)))
    with pytest.raises(nnguard.errors.UnlockError, match=complaint):
        open_all(stream, locked.content_key)


def test_shard_of_a_locked_set_is_not_opened_alone(locked: nnguard.Locked) -> None:
    shard = LockShard(bytes(16), 0, 2)
    stream = relock(locked, content_of(), shard=shard)
    with pytest.raises(nnguard.errors.VerificationError, match="one of a locked set"):
        open_all(stream, locked.content_key)


def test_record_of_another_stream_does_not_open_there(locked: nnguard.Locked) -> None:
    """It is authentic where a record of its size lies in the same place, but restores nothing."""
    record = extract(locked.trial).record
    other = nnguard.Stream.from_bytes(samples.small_stream(seed=5))
    with pytest.raises((nnguard.errors.UnlockError, nnguard.errors.VerificationError)):
        open_all(embed(other, record, kind=RecordKind.LOCK), locked.content_key)


def test_record_that_is_no_lock_is_refused(locked: nnguard.Locked) -> None:
    model = nnguard.Stream.from_bytes(samples.small_stream())
    for record in (b"", b"\x80", encode_cbor({"a": 1})):
        with pytest.raises(nnguard.errors.VerificationError):
            open_all(embed(model, record, kind=RecordKind.LOCK), locked.content_key)
    with pytest.raises(nnguard.errors.NoRecordError, match="attachment"):
        open_all(nnguard.attach(model, b"card"), locked.content_key)


def test_record_is_deterministic_cbor(locked: nnguard.Locked) -> None:
    record = extract(locked.trial).record
    assert encode_cbor(parse_cbor(record)) == record


@pytest.mark.parametrize("size", [0, 7, 8, 239, 240, 65_519, 65_520, 1 << 17])
@pytest.mark.parametrize("shard", [None, LockShard(bytes(16), 1, 300)])
def test_size_is_known_before(size: int, shard: LockShard | None) -> None:
    sealed = LockRecord.seal(KEY, NONCE, "full", bytes(size), b"header", shard=shard)
    assert LockRecord.size_of(KEY, "full", size, shard) == len(sealed)


def test_long_units_are_views_and_have_one_encoding() -> None:
    file = LockedFile("", DIGEST, (bytes(100_000), range(2), bytes(70_000)))
    encoded = bytes(LockContent((1,), (), (file,)))
    (found,) = LockContent.parse(encoded).files
    assert found.units == file.units
    assert found.carried == 170_000
    assert isinstance(found.units[0], memoryview)
    at = encoded.index(b"\x5a\x00\x01\x86\xa0")
    longer = encoded[:at] + b"\x5b\0\0\0\0\x00\x01\x86\xa0" + encoded[at + 5 :]
    for wrong in (longer, encoded[:-70_001], encoded[:-1], encoded + b"\0"):
        with pytest.raises(nnguard.errors.UnlockError, match="malformed"):
            LockContent.parse(wrong)
