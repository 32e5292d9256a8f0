"""Locks whose trial is another network."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import nnguard
import samples
import stock
from elsewhere import Elsewhere
from nnguard._base.workers import Workers
from nnguard._hiding import Extraction, extract
from nnguard._locking.opening import open_files
from nnguard._locking.tiers import LockScores
from nnguard._models.stream_set import StreamSet
from nnguard._records.hashed import hash_files
from nnguard._records.lock import Difference, LockContent
from opening import lock_of, open_locks

SHARED = ("norm.scale", "norm.shift")


def arrays(seed: int, rows: int = 60) -> dict[str, stock.Array]:
    """Two matrices, with vectors between them that are the same for every seed."""
    rng, same = np.random.default_rng(seed), np.random.default_rng(0)
    shapes = {"first": (rows, 100), **dict.fromkeys(SHARED, (300,)), "last": (40, rows)}
    return {
        name: (same if name in SHARED else rng).laplace(0, 0.1, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module", params=[True, False], ids=["TCQ", "URQ"])
def model(request: pytest.FixtureRequest) -> nnguard.Stream:
    return nnguard.Stream.from_bytes(stock.encode(arrays(1), qp=-20, dependent=request.param))


@pytest.fixture(scope="module")
def release(model: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.Stream:
    return nnguard.sign(model, key, issuer="acme.ai", name="small")


@pytest.fixture(scope="module", params=[True, False], ids=["TCQ trial", "URQ trial"])
def weaker(request: pytest.FixtureRequest) -> nnguard.Stream:
    """A network of the same architecture, with vectors in common."""
    return nnguard.Stream.from_bytes(stock.encode(arrays(2), qp=-20, dependent=request.param))


@pytest.fixture(scope="module")
def smaller() -> nnguard.Stream:
    """A network of another architecture, that has nothing in common with the release."""
    return nnguard.Stream.from_bytes(samples.small_stream(seed=4, weights=9000))


def content_of(locked: nnguard.Locked) -> LockContent:
    outer = extract(locked.trial)
    return lock_of(outer).open(locked.content_key, bytes(outer.header))


def opened(trial: nnguard.Stream, content_key: nnguard.ContentKey) -> bytes:
    reread = nnguard.Stream.from_bytes(bytes(trial))
    found = open_locks(reread, content_key)
    assert found.digests == found.stream.sha256_of_units()
    return bytes(found.stream)


def test_trial_is_the_weaker_network(release: nnguard.Stream, weaker: nnguard.Stream) -> None:
    locked = nnguard.lock(release, trial=weaker)
    before, after = stock.decode(bytes(weaker)), stock.decode(bytes(locked.trial))
    assert list(before) == list(after)
    step = 2 ** (-20 / 4)
    for name, array in before.items():
        assert np.abs(array - after[name]).max() <= 1.01 * step, name
        assert np.array_equal(np.sign(array), np.sign(after[name]))
    assert opened(locked.trial, locked.content_key) == bytes(release)


def test_without_the_record_the_trial_is_the_weaker_network(
    release: nnguard.Stream, weaker: nnguard.Stream
) -> None:
    """It has the same weights; what they have in common with the release has the same bytes."""
    given = extract(nnguard.lock(release, trial=weaker).trial).original
    before, after = stock.decode(bytes(weaker)), stock.decode(bytes(given))
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    common = {unit.read() for unit in release} & {unit.read() for unit in weaker}
    assert common <= {unit.read() for unit in given}
    assert [unit.name for unit in weaker] == [unit.name for unit in given]


@pytest.mark.parametrize("prefix", ["module.", "net."])
def test_a_renamed_release_is_no_trial(model: nnguard.Stream, prefix: str) -> None:
    weights = {prefix + name: array for name, array in nnguard.decompress(model).items()}
    renamed = nnguard.compress(weights, nnguard.Settings(qp=-24))
    with pytest.raises(nnguard.errors.LockError, match="or nearly so"):
        nnguard.lock(model, trial=renamed)
    others = {prefix + name: array for name, array in arrays(2).items()}
    assert not nnguard.lock(model, trial=nnguard.compress(others, nnguard.Settings(qp=-24))).near


def test_what_both_share_is_told(model: nnguard.Stream, weaker: nnguard.Stream) -> None:
    locked = nnguard.lock(model, trial=weaker)
    given = {unit.read() for unit in weaker if unit.tensor}
    common = sum(unit.size for unit in model if unit.read() in given)
    assert locked.shared == common
    assert (f"but {common:,} bytes that both share" in locked.worth) == bool(common)


def test_tensors_that_differ_little_are_told(model: nnguard.Stream) -> None:
    weights = nnguard.decompress(model)
    nudged = {**weights, "last": weights["last"][::-1].copy()}
    nudged["first"] = weights["first"] + np.float32(2**-5) * (weights["first"] > 0)
    settings = nnguard.Settings(qp=-20)
    locked = nnguard.lock(
        nnguard.compress(weights, settings), trial=nnguard.compress(nudged, settings)
    )
    assert locked.differences == 1
    assert "and 1 tensors nearly alike in both" in locked.worth


def test_a_signed_trial_stays_signed(
    release: nnguard.Stream, weaker: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    signed = nnguard.sign(weaker, key, name="weaker")
    locked = nnguard.lock(release, trial=signed)
    assert bytes(extract(locked.trial).original) == bytes(signed)
    assert opened(locked.trial, locked.content_key) == bytes(release)


def test_another_architecture(release: nnguard.Stream, smaller: nnguard.Stream) -> None:
    locked = nnguard.lock(release, trial=smaller)
    assert list(nnguard.decompress(locked.trial, allow_trial=True)) == list(
        nnguard.decompress(smaller)
    )
    assert opened(locked.trial, locked.content_key) == bytes(release)
    assert "nothing of the release" in locked.worth


def test_units_in_common_are_not_carried(model: nnguard.Stream, weaker: nnguard.Stream) -> None:
    locked = nnguard.lock(model, trial=weaker)
    given = {unit.read() for unit in weaker}
    others = b"".join(unit.read() for unit in model if unit.read() not in given)
    (file,) = content_of(locked).files
    carried = b"".join(part for part in file.units if isinstance(part, bytes))
    assert carried == others
    assert locked.carried == len(others)
    assert opened(locked.trial, locked.content_key) == bytes(model)


def test_runs_of_units_in_common_are_as_long_as_can_be() -> None:
    """The vectors stand in a row in both, after units of their own."""
    streams = [nnguard.Stream.from_bytes(stock.encode(arrays(s), qp=-20)) for s in (1, 2)]
    model, weaker = streams
    names = [unit.name for unit in model]
    runs = content_of(nnguard.lock(model, trial=weaker)).files[0].units
    at = names.index(SHARED[0])
    assert [part for part in runs if isinstance(part, range)][-1] == range(at, at + 2)
    assert any(isinstance(part, range) and part.start == 0 for part in runs)


def test_nothing_of_the_trial_is_encoded_where_nothing_is_shared(
    release: nnguard.Stream, smaller: nnguard.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was restored of the trial is not even asked for."""

    def encode(extraction: Extraction, carrier: int) -> bytes:
        raise AssertionError("a unit of the trial was restored")

    locked = nnguard.lock(release, trial=smaller)
    monkeypatch.setattr(Extraction, "restore", encode)
    assert opened(locked.trial, locked.content_key) == bytes(release)


def test_only_what_is_shared_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the tensors that hold the record, one is in the release as well."""
    same = np.random.default_rng(0).laplace(0, 0.1, 2048).astype(np.float32)
    matrices = [np.random.default_rng(seed).laplace(0, 0.1, (100, 120)) for seed in (1, 2)]
    model, weaker = (
        nnguard.Stream.from_bytes(
            stock.encode({"same": same, "own": own.astype(np.float32)}, qp=-20, nonweight_qp=-20)
        )
        for own in matrices
    )
    locked = nnguard.lock(model, trial=weaker)
    at, other = ([unit.name for unit in weaker].index(name) for name in ("same", "own"))
    assert {*extract(locked.trial).header.carriers} == {at, other}
    restored: list[int] = []
    restore = Extraction.restore

    def note(extraction: Extraction, carrier: int) -> bytes:
        restored.append(carrier)
        return restore(extraction, carrier)

    monkeypatch.setattr(Extraction, "restore", note)
    assert opened(locked.trial, locked.content_key) == bytes(model)
    assert restored == [at]


def test_streams_in_files(release: nnguard.Stream, weaker: nnguard.Stream, tmp_path: Path) -> None:
    release.save(tmp_path / "release.nnc")
    weaker.save(tmp_path / "weaker.nnc")
    locked = nnguard.lock(tmp_path / "release.nnc", trial=tmp_path / "weaker.nnc")
    locked.trial.save(tmp_path / "trial.nnc")
    trial = nnguard.Stream.open(tmp_path / "trial.nnc")
    found = open_locks(trial, locked.content_key)
    found.stream.save(tmp_path / "full.nnc")
    assert (tmp_path / "full.nnc").read_bytes() == bytes(release)


def test_license_unlocks_what_is_carried(
    release: nnguard.Stream, weaker: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    made = nnguard.lock(release, trial=weaker, signer=key)
    trial, content_key = made.trial, made.content_key
    claims = nnguard.verify(trial, key.public_key, allow_trial=True).claims
    assert (claims.issuer, claims.name, dict(claims.metadata)) == (
        "acme.ai",
        "small",
        {"locked": "full"},
    )
    customer = nnguard.Identity.generate()
    license_ = nnguard.licensing.issue(trial, content_key, to=customer.recipient, signer=key)
    full = nnguard.unlock(trial, license_, customer, [key.public_key])
    assert bytes(full) == bytes(release)


def test_trial_that_was_signed_before(
    release: nnguard.Stream, smaller: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    """Its record is one more layer below the lock."""
    signed = nnguard.sign(smaller, key, name="smaller")
    locked = nnguard.lock(release, trial=signed, signer=key)
    assert extract(locked.trial).header.layer == 3
    assert opened(locked.trial, locked.content_key) == bytes(release)


def test_tiers(release: nnguard.Stream, weaker: nnguard.Stream, smaller: nnguard.Stream) -> None:
    """The trial of the higher tier is what a license of the lower one gives."""
    large = nnguard.Stream.from_bytes(samples.small_stream(seed=5, weights=90_000))
    tiers = [nnguard.Tier("gold", trial=weaker), nnguard.Tier("silver", trial=large)]
    gold, silver = nnguard.lock_tiers(release, tiers)
    assert opened(silver.trial, gold.content_key) == bytes(release)
    assert opened(silver.trial, silver.content_key) == bytes(gold.trial)
    assert list(nnguard.decompress(gold.trial, allow_trial=True)) == list(
        nnguard.decompress(weaker)
    )


def test_lower_tier_does_not_give_away_what_a_higher_one_sells(
    release: nnguard.Stream, weaker: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    """Neither the release nor the network that a higher tier sells, or nearly so."""
    large = nnguard.Stream.from_bytes(samples.small_stream(seed=5, weights=90_000))
    coarser = coded(arrays(1), dependent=True, qp=-24)
    for gold, silver in (
        (large, release),
        (large, nnguard.sign(release, key)),
        (large, coarser),
        (weaker, weaker),
    ):
        tiers = [nnguard.Tier("gold", trial=gold), nnguard.Tier("silver", trial=silver)]
        with pytest.raises(nnguard.errors.LockError, match=r"tier silver: .* in the clear"):
            nnguard.lock_tiers(release, tiers)
    tiers = [nnguard.Tier("gold"), nnguard.Tier("silver", trial=release)]
    with pytest.raises(nnguard.errors.LockError, match=r"tier silver: .* in the clear"):
        nnguard.lock_tiers(release, tiers)


def test_scrambled_below_carried(release: nnguard.Stream, smaller: nnguard.Stream) -> None:
    large = nnguard.Stream.from_bytes(samples.small_stream(seed=5, weights=90_000))
    for tiers in (
        [nnguard.Tier("gold"), nnguard.Tier("silver", trial=smaller)],
        [nnguard.Tier("gold", trial=large), nnguard.Tier("silver", scramble=1.0)],
    ):
        gold, silver = nnguard.lock_tiers(release, tiers)
        assert opened(silver.trial, gold.content_key) == bytes(release)
        assert opened(silver.trial, silver.content_key) == bytes(gold.trial)


def test_scores(release: nnguard.Stream, smaller: nnguard.Stream) -> None:
    def count(state: object) -> float:
        return -float(sum(array.size for array in dict(state).values()))  # type: ignore[call-overload]

    locked = nnguard.lock(release, trial=smaller, evaluate=count)
    full, weak = (count(nnguard.decompress(stream)) for stream in (release, smaller))
    assert locked.scores == LockScores(full, weak, full)
    assert nnguard.lock(release, trial=smaller).scores is None
    with pytest.raises(nnguard.errors.LockError, match="the release only") as caught:
        nnguard.lock(release, trial=smaller, evaluate=lambda state: -count(state))
    assert "swapped" in caught.value.hint


# What makes no sense, or does not fit


def test_release_that_does_not_fit(release: nnguard.Stream) -> None:
    small = nnguard.Stream.from_bytes(samples.small_stream(weights=1000))
    with pytest.raises(nnguard.errors.CapacityError) as caught:
        nnguard.lock(release, trial=small)
    message = str(caught.value)
    assert f"{release.size:,} bytes" in message
    assert f"holds {caught.value.available // 8:,}, at 16 bits a weight" in message
    (needed,) = re.findall(
        r"about ([\d,]+) weights that can .*, and this one has 1,000", caught.value.hint
    )
    least = 1000 * caught.value.needed / caught.value.available
    assert least <= int(needed.replace(",", "")) < 1.1 * least


def test_trial_that_has_the_weights_it_was_said_to_need(release: nnguard.Stream) -> None:
    weights = 1000
    while True:
        trial = nnguard.Stream.from_bytes(samples.small_stream(weights=weights))
        try:
            locked = nnguard.lock(release, trial=trial)
        except nnguard.errors.CapacityError as error:
            (needed,) = re.findall(r"about ([\d,]+) weights", error.hint)
            assert weights == 1000, "asked for more than once"
            weights = int(needed.replace(",", ""))
        else:
            assert opened(locked.trial, locked.content_key) == bytes(release)
            break


def test_there_is_room_for_a_signature_on_top(key: nnguard.SigningKey) -> None:
    """However much of the trial's first tensor the record takes."""
    rng = np.random.default_rng(0)
    vector = rng.normal(1, 0.2, 2048).astype(np.float32)  # coded finely: few halvings are left
    weaker = nnguard.compress({"w": rng.laplace(0, 0.05, (60, 200)), "scale": vector})
    for rows in (60, 64, 68, 72, 76):
        release = nnguard.compress({"w": rng.laplace(0, 0.05, (rows, 200))})
        made = nnguard.lock(release, trial=weaker, signer=key)
        trial, content_key = made.trial, made.content_key
        assert nnguard.verify(trial, key.public_key, allow_trial=True).nested[0].kind == "lock"
        signed = extract(trial)
        assert opened(signed.original, content_key) == bytes(release)


@pytest.mark.parametrize("signs", ["both", "release", "trial", "neither"])
def test_trial_that_is_the_release(
    model: nnguard.Stream, release: nnguard.Stream, signs: str
) -> None:
    full = release if signs in ("both", "release") else model
    trial = release if signs in ("both", "trial") else model
    with pytest.raises(nnguard.errors.LockError, match="in the clear"):
        nnguard.lock(full, trial=trial)


def test_tier_with_the_trial_of_the_tier_above(
    release: nnguard.Stream, weaker: nnguard.Stream
) -> None:
    """A license of the lower one would give what everybody has."""
    with pytest.raises(nnguard.errors.LockError, match="in the clear"):
        nnguard.lock_tiers(release, [nnguard.Tier(name, trial=weaker) for name in "ab"])


def test_trial_that_is_locked(
    release: nnguard.Stream, smaller: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    for signer in (key, None):
        locked = nnguard.lock(smaller, signer=signer).trial
        with pytest.raises(nnguard.errors.LockError, match="locked itself"):
            nnguard.lock(release, trial=locked)


def test_trial_that_is_no_stream(release: nnguard.Stream, tmp_path: Path) -> None:
    (tmp_path / "a.nnc").write_bytes(b"hello")
    with pytest.raises(nnguard.errors.FormatError):
        nnguard.lock(release, trial=tmp_path / "a.nnc")


@pytest.mark.parametrize("dependent", [False, True], ids=["URQ", "TCQ"])
@pytest.mark.parametrize("qp", [-12, -20, -29])
def test_trial_that_is_the_release_compressed_otherwise(
    release: nnguard.Stream, key: nnguard.SigningKey, qp: int, dependent: bool
) -> None:
    again = stock.encode(arrays(1), qp=qp, dependent=dependent, parameter_optimization=False)
    for trial in (again, bytes(nnguard.sign(nnguard.Stream.from_bytes(again), key))):
        with pytest.raises(nnguard.errors.LockError, match="the whole release in the clear"):
            nnguard.lock(release, trial=nnguard.Stream.from_bytes(trial))


def test_trial_that_shares_one_matrix_with_the_release(release: nnguard.Stream) -> None:
    """As a network does of which only the head was trained."""
    mixed = {**arrays(1), "first": arrays(2)["first"]}
    locked = nnguard.lock(release, trial=nnguard.Stream.from_bytes(stock.encode(mixed, qp=-24)))
    assert opened(locked.trial, locked.content_key) == bytes(release)


def tuned(seed: int = 1, rows: int = 200) -> dict[str, stock.Array]:
    """What training makes of `arrays(seed, rows)`: all but the vectors has moved."""
    moves = arrays(9, rows)
    return {
        name: array + (0 if name in SHARED else moves[name] / 10)
        for name, array in arrays(seed, rows).items()
    }


def coded(values: dict[str, stock.Array], *, dependent: bool, qp: int = -24) -> nnguard.Stream:
    return nnguard.Stream.from_bytes(stock.encode(values, qp=qp, dependent=dependent))


@pytest.mark.parametrize("dependent", [True, False], ids=["TCQ", "URQ"])
def test_release_that_was_trained_further(dependent: bool, key: nnguard.SigningKey) -> None:
    """Only the differences are carried, and with them what has no counterpart in the trial."""
    base = coded(arrays(1, 200), dependent=dependent)
    release = coded({**tuned(), "head": arrays(3)["first"]}, dependent=dependent)
    signed = nnguard.sign(release, key)
    for full, trial, most in ((release, base, 0.6), (signed, nnguard.sign(base, key), 0.9)):
        locked = nnguard.lock(full, trial=trial)
        found = sum(map(differs, content_of(locked).files[0].units))
        assert found == (2 if full is release else 1), "one tensor holds the signature"
        assert locked.carried < most * full.size
        assert opened(locked.trial, locked.content_key) == bytes(full)


def differs(part: object) -> bool:
    return isinstance(part, Difference)


def test_differences_to_tensors_of_another_step_do_not_pay() -> None:
    base = coded(arrays(1, 200), dependent=False)
    locked = nnguard.lock(coded(tuned(), dependent=False, qp=-34), trial=base)
    assert not any(differs(part) for part in content_of(locked).files[0].units)


def test_tensors_of_the_name_and_another_shape() -> None:
    base = coded(arrays(1, 220), dependent=True)
    release = coded(tuned(), dependent=True)
    locked = nnguard.lock(release, trial=base)
    assert not any(differs(part) for part in content_of(locked).files[0].units)
    assert opened(locked.trial, locked.content_key) == bytes(release)


def test_differences_in_tiers_and_sets() -> None:
    """A network trained twice, each release the trial of the next; and in a folder of shards."""
    first, second = coded(arrays(1, 200), dependent=True), coded(tuned(), dependent=True)
    third = coded({**tuned(), "last": -tuned()["last"]}, dependent=True)
    tiers = [nnguard.Tier("gold", trial=second), nnguard.Tier("silver", trial=first)]
    gold, silver = nnguard.lock_tiers(third, tiers)
    assert opened(silver.trial, gold.content_key) == bytes(third)
    assert opened(silver.trial, silver.content_key) == bytes(gold.trial)
    locked = nnguard.lock(StreamSet.of({"a.nnc": second}), trial=StreamSet.of({"a.nnc": first}))
    found = open_files(hash_files(locked.trial), locked.content_key)
    assert bytes(found.files["a.nnc"].stream) == bytes(second)
    assert found.carried == 1


def test_differences_never_leave_the_process() -> None:
    """An executor is sent the trial and ciphertext; with differences it would have the release."""
    release, base = coded(tuned(), dependent=True), coded(arrays(1, 200), dependent=True)
    executor = Elsewhere()
    locked = nnguard.lock(release, trial=base, executor=executor)
    assert any(differs(part) for part in content_of(locked).files[0].units)
    workers = Workers(executor=executor)
    opened_there = open_files(hash_files(locked.trial), locked.content_key, workers=workers)
    assert bytes(opened_there.files[""].stream) == bytes(release)
    secret = [unit.read()[-50:] for unit in release if unit.tensor and unit.size > 1000]
    parts = content_of(locked).files[0].units
    secret += [bytes(part.unit)[-50:] for part in parts if isinstance(part, Difference)]
    assert secret
    assert not any(each in sent for each in secret for sent in executor.sent)


@pytest.mark.parametrize("change", ["noise", "one weight", "bfloat16", "pruned"])
def test_trial_that_is_nearly_the_release(change: str, key: nnguard.SigningKey) -> None:
    """By mistake, unless the seller says that it is meant; at the finest steps, too."""
    values = arrays(1, 200)
    moved = {name: nearly(array, change) for name, array in values.items()}
    for qp in (-38, -24):
        release, trial = (coded(each, dependent=True, qp=qp) for each in (values, moved))
        with pytest.raises(nnguard.errors.LockError, match="or nearly so") as caught:
            nnguard.lock(release, trial=trial)
        assert "--allow-near" in caught.value.hint
        with pytest.raises(nnguard.errors.LockError, match="in the clear"):
            nnguard.lock(release, trial=nnguard.sign(release, key), allow_near=True)
    locked = nnguard.lock(coded(values, dependent=False, qp=-38), trial=trial, allow_near=True)
    assert opened(locked.trial, locked.content_key)


def nearly(array: stock.Array, change: str) -> stock.Array:
    array = array.copy()
    size = np.sqrt(np.mean(np.square(array)))
    if change == "noise":
        array += np.random.default_rng(3).normal(0, 0.01 * size, array.shape)
    elif change == "one weight":
        array.flat[0] += 0.1
    elif change == "bfloat16":
        array = (array.view(np.uint32) & 0xFFFF0000).view(np.float32)
    else:
        array[np.abs(array) < np.quantile(np.abs(array), 0.05)] = 0
    return array


def test_differences_in_folders_of_other_names() -> None:
    """Files go to where their tensors have counterparts."""
    streams = {}
    for at in (0, 1):
        for which, values in (("base", arrays(at, 200)), ("release", tuned(at))):
            named = {f"{at}.{name}": array for name, array in values.items()}
            streams[which, at] = coded(named, dependent=True)
    base = StreamSet.of({f"b{at}.nnc": streams["base", at] for at in (0, 1)})
    release = StreamSet.of({f"r{1 - at}.nnc": streams["release", at] for at in (0, 1)})
    locked = nnguard.lock(release, trial=base)
    assert locked.differences == 4
    found = open_files(hash_files(locked.trial), locked.content_key).files
    assert bytes(found["r1.nnc"].stream) == bytes(streams["release", 0])


def test_tensors_of_one_name() -> None:
    """One of them is a difference: no tensor is the base of two."""
    release, base = coded(tuned(), dependent=False), coded(arrays(1, 200), dependent=False)
    [first] = [unit.read() for unit in release if unit.name == "first"]
    twice = nnguard.Stream.from_bytes(bytes(release) + first)
    locked = nnguard.lock(twice, trial=base)
    assert locked.differences == 2
    assert opened(locked.trial, locked.content_key) == bytes(twice)


def limit_differences(monkeypatch: pytest.MonkeyPatch, cost: int) -> None:
    monkeypatch.setattr("nnguard._locking.carrying.cost_allowed", lambda _: cost)


def test_tensors_that_save_most_for_their_cost_are_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sparse tensor that costs more than is left keeps no other from being one."""
    sparse = np.zeros((400, 400), np.float32)
    sparse[::8, ::8] = 0.5
    values, moved = ({"a sparse one": sparse, **each} for each in (arrays(1, 200), tuned()))
    moved["a sparse one"] = sparse * 1.1
    release, base = coded(moved, dependent=False), coded(values, dependent=False)
    dense = 2 * sum(array.size for array in arrays(1, 200).values() if array.ndim > 1)
    limit_differences(monkeypatch, dense)
    locked = nnguard.lock(release, trial=base)
    assert locked.differences == 2
    (file,) = content_of(locked).files
    assert {base[at].name for at in file.bases} == {"first", "last"}


def test_all_files_that_one_stream_carries_share_what_differences_may_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = [
        {f"{at}.{name}": array for name, array in each.items()}
        for each in (arrays(1, 200), tuned())
        for at in (0, 1)
    ]
    base = coded(values[0] | values[1], dependent=True)
    files = {f"{at}.nnc": coded(values[2 + at], dependent=True) for at in (0, 1)}
    costs = 2 * sum(array.size for array in arrays(1, 200).values() if array.ndim > 1)
    limit_differences(monkeypatch, costs)
    locked = nnguard.lock(StreamSet.of(files), trial=base)
    assert locked.differences == 2
    found = open_files(hash_files(locked.trial), locked.content_key).files
    assert bytes(found["1.nnc"].stream) == bytes(files["1.nnc"])


def test_sparse_matrix_is_compared_with_the_release_as_well() -> None:
    """It has too few bytes for its weights to be changed by a lock, but may be what is sold."""
    matrix = np.zeros((1000, 600), np.float32)
    matrix[::50, ::50] = np.random.default_rng(1).laplace(0, 0.1, (20, 12))
    other = arrays(1)["first"]
    values = {"embedding": matrix, "layer": other}
    release = nnguard.Stream.from_bytes(stock.encode(values, qp=-38))
    trial = nnguard.Stream.from_bytes(stock.encode(values, qp=-36))
    with pytest.raises(nnguard.errors.LockError, match="or nearly so"):
        nnguard.lock(release, trial=trial)
    another = nnguard.Stream.from_bytes(
        stock.encode({"embedding": -matrix, "layer": other}, qp=-36)
    )
    assert nnguard.lock(release, trial=another).carried
