"""Sets of streams are locked, licensed and unlocked as one, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnguard
import stock
from nnguard._locking.opening import open_files
from nnguard._locking.tiers import LockScores
from nnguard._records.hashed import hash_files


def network(seed: int, rows: int, layers: range, qp: int = -20, **options: bool) -> nnguard.Stream:
    rng = np.random.default_rng(seed)
    arrays = {}
    for layer in layers:
        arrays[f"{layer}.weight"] = rng.laplace(0, 0.4, (rows, 50)).astype(np.float32)
        arrays[f"{layer}.bias"] = rng.laplace(0, 0.4, rows).astype(np.float32)
    return nnguard.Stream.from_bytes(stock.encode(arrays, qp=qp, **options))


def streams(count: int, rows: int, *, seed: int = 0, dependent: bool = False) -> nnguard.StreamSet:
    return nnguard.StreamSet.of(
        {
            f"model-{at + 1:05}-of-{count:05}.nnc": network(
                seed + at, rows, range(2 * at, 2 * at + 2), dependent=dependent
            )
            for at in range(count)
        }
    )


@pytest.fixture(scope="module")
def key() -> nnguard.SigningKey:
    return nnguard.SigningKey.generate()


@pytest.fixture(scope="module")
def release(key: nnguard.SigningKey) -> nnguard.StreamSet:
    return nnguard.sign(streams(3, 40), key, issuer="acme.ai", name="net", version="1.0")


@pytest.fixture(scope="module")
def customer() -> nnguard.Identity:
    return nnguard.Identity.generate()


def contents(model: nnguard.StreamSet) -> dict[str, bytes]:
    return {name: bytes(stream) for name, stream in model.streams.items()}


TIERS: dict[str, Callable[[], nnguard.Tier]] = {
    "scrambled": lambda: nnguard.Tier("full"),
    "named": lambda: nnguard.Tier("full", scramble=["1.*", "2.weight"]),
    "soft": lambda: nnguard.Tier("full", soft=nnguard.Soft(fraction=0.01)),
    "carried by as many": lambda: nnguard.Tier("full", trial=streams(3, 30, seed=7)),
    "carried by fewer": lambda: nnguard.Tier("full", trial=streams(2, 60, seed=7, dependent=True)),
    "carried by more": lambda: nnguard.Tier("full", trial=streams(5, 40, seed=7)),
    "carried by one stream": lambda: nnguard.Tier("full", trial=network(7, 90, range(2))),
}


@pytest.mark.parametrize("make", TIERS.values(), ids=TIERS)
def test_license_restores_all_files(
    make: Callable[[], nnguard.Tier],
    release: nnguard.StreamSet,
    key: nnguard.SigningKey,
    customer: nnguard.Identity,
    tmp_path: Path,
) -> None:
    (locked,) = nnguard.lock_tiers(release, [make()], signer=key, spool=tmp_path)
    locked.trial.save(tmp_path / "trial")
    report = nnguard.verify(tmp_path / "trial", key.public_key, allow_trial=True)
    assert (report.claims.name, dict(report.claims.metadata)) == ("net", {"locked": "full"})
    license_ = nnguard.licensing.issue(
        tmp_path / "trial", locked.content_key, to=customer.recipient, signer=key
    )
    assert (license_.terms.product, license_.terms.tier) == ("net", "full")
    full = nnguard.unlock(tmp_path / "trial", license_, customer, key.public_key, spool=tmp_path)
    assert contents(full) == contents(release)
    full.save(tmp_path / "full")
    assert nnguard.verify(tmp_path / "full", key.public_key).claims.version == "1.0"
    assert not [*tmp_path.glob(".nnguard*")]
    assert sum([locked.carried > 0, locked.scrambled > 0, locked.replaced > 0]) == 1


def test_fraction_is_of_the_whole_set(release: nnguard.StreamSet) -> None:
    (locked,) = nnguard.lock_tiers(release, [nnguard.Tier("full", scramble=0.01)])
    before, after = (
        [nnguard.decompress(stream, allow_trial=True) for stream in model.streams.values()]
        for model in (release, locked.trial)
    )
    changed = [
        name
        for old, new in zip(before, after, strict=True)
        for name in old
        if np.abs(old[name] - new[name]).max() > 0.5
    ]
    assert changed == ["0.weight", *(f"{layer}.bias" for layer in range(6))]


def test_tiers_nest(
    release: nnguard.StreamSet, key: nnguard.SigningKey, customer: nnguard.Identity
) -> None:
    middle = streams(2, 120, seed=20)
    tiers = [
        nnguard.Tier("pro", trial=middle),
        nnguard.Tier("standard", trial=streams(4, 150, seed=30)),
    ]
    locks = nnguard.lock_tiers(release, tiers, signer=key)
    trial, top = locks[-1].trial, locks[0].content_key
    for tier, expected in (("pro", release), ("standard", locks[0].trial)):
        license_ = nnguard.licensing.issue(
            trial, top, to=customer.recipient, signer=key, terms=nnguard.licensing.Terms(tier=tier)
        )
        full = nnguard.unlock(trial, license_, customer, key.public_key)
        assert contents(full) == contents(expected)


@pytest.fixture
def sold(
    release: nnguard.StreamSet,
    key: nnguard.SigningKey,
    customer: nnguard.Identity,
    tmp_path: Path,
) -> tuple[Path, nnguard.licensing.License, nnguard.Locked]:
    (locked,) = nnguard.lock_tiers(release, [nnguard.Tier("full", trial=streams(3, 30, seed=7))])
    locked.trial.save(tmp_path / "trial")
    license_ = nnguard.licensing.issue(
        locked.trial, locked.content_key, to=customer.recipient, signer=key
    )
    return tmp_path / "trial", license_, locked


def test_changed_sets_are_refused_by_name(
    sold: tuple[Path, nnguard.licensing.License, nnguard.Locked],
    release: nnguard.StreamSet,
    key: nnguard.SigningKey,
    customer: nnguard.Identity,
) -> None:
    folder, license_, locked = sold
    first, second, third = sorted(path.name for path in folder.glob("*.nnc"))
    again = nnguard.lock_tiers(
        release,
        [nnguard.Tier("full", trial=streams(3, 30, seed=7))],
        content_key=locked.content_key,
    )[0].trial
    other = nnguard.lock_tiers(release, [nnguard.Tier("full", trial=streams(3, 30, seed=7))])[0]
    mine = locked.trial.streams

    def refused(files: dict[str, nnguard.Stream]) -> str:
        with pytest.raises(nnguard.NnguardError) as caught:
            nnguard.unlock(nnguard.StreamSet({}, files), license_, customer, key.public_key)
        return str(caught.value)

    swapped = {first: mine[second], second: mine[first], third: mine[third]}
    assert f"{first}: it is in the place of another" in refused(swapped)
    assert f"{first}: it is one of 3 files, and there are 2" in refused(
        {first: mine[first], third: mine[third]}
    )
    older = {first: mine[first], second: again.streams[second], third: mine[third]}
    assert f"{second}: it is of another locked set" in refused(older)
    foreign = {first: mine[first], second: mine[second], third: other.trial.streams[third]}
    assert f"{third}: it is of another locked set" in refused(foreign)
    foreign = {first: other.trial.streams[first], second: mine[second], third: mine[third]}
    assert f"{first}: it is of another lock" in refused(foreign)
    (folder / second).unlink()
    with pytest.raises(nnguard.errors.VerificationError, match=f"missing: {second}"):
        nnguard.unlock(folder, license_, customer, key.public_key)


def test_soft_lock_leaves_alone_what_has_a_twin_in_another_file() -> None:
    """Each file is locked by itself, and either twin would put the other right."""
    rng = np.random.default_rng(0)
    tied, own, last = (rng.laplace(0, 0.4, (80, 50)).astype(np.float32) for _ in range(3))
    first = nnguard.compress({"emb.weight": tied, "1.weight": own})
    second = nnguard.compress({"head.weight": tied, "2.weight": last})
    release = nnguard.StreamSet.of({"a.nnc": first, "b.nnc": second})
    soft = nnguard.Tier("full", soft=nnguard.Soft(fraction=0.02))
    (locked,) = nnguard.lock_tiers(release, [soft])
    before, after = (nnguard.decompress(each, allow_trial=True) for each in (release, locked.trial))
    changed = {name for name in before if np.abs(before[name] - after[name]).max() > 1}
    assert changed == {"1.weight", "2.weight"}


def test_importance_of_all_files(release: nnguard.StreamSet) -> None:
    weights = nnguard.decompress(release)
    importance = {name: np.abs(array) for name, array in weights.items() if array.ndim > 1}
    tier = nnguard.Tier("full", soft=nnguard.Soft(fraction=0.01, importance=importance))
    (locked,) = nnguard.lock_tiers(release, [tier])
    assert locked.replaced > 0
    missing = nnguard.Soft(fraction=0.01, importance={**importance, "7.weight": np.ones(1)})
    with pytest.raises(nnguard.errors.ArgumentError, match=r"not there: 7\.weight"):
        nnguard.lock_tiers(release, [nnguard.Tier("full", soft=missing)])


@pytest.mark.parametrize("tier", ["scrambled", "carried by fewer"])
def test_scores_of_a_set(release: nnguard.StreamSet, tier: str) -> None:
    expected = nnguard.decompress(release)

    def evaluate(weights: Mapping[str, np.ndarray]) -> float:
        return float(all(np.array_equal(weights.get(name), expected[name]) for name in expected))

    (locked,) = nnguard.lock_tiers(release, [TIERS[tier]()], evaluate=evaluate)
    assert locked.scores == LockScores(release=1, trial=0, unlocked=1)


def test_a_file_that_fits_into_no_file_of_the_trial_is_named() -> None:
    release = nnguard.StreamSet.of({"whole.nnc": network(0, 200, range(4))})
    with pytest.raises(nnguard.errors.CapacityError, match="this file of the trial") as caught:
        nnguard.lock_tiers(release, [nnguard.Tier("full", trial=streams(5, 20, seed=7))])
    assert "whole.nnc of the release, of" in str(caught.value)
    assert "split the release into smaller ones" in caught.value.hint


def test_file_of_a_set_is_not_opened_alone(
    sold: tuple[Path, nnguard.licensing.License, nnguard.Locked],
    key: nnguard.SigningKey,
    customer: nnguard.Identity,
) -> None:
    folder, license_, locked = sold
    one = sorted(folder.glob("*.nnc"))[0]
    with pytest.raises(nnguard.errors.VerificationError, match="one of a locked set"):
        nnguard.licensing.issue(one, locked.content_key, to=customer.recipient, signer=key)
    with pytest.raises(nnguard.errors.VerificationError, match="one of a locked set"):
        nnguard.unlock(one, license_, customer, key.public_key)
    alone = nnguard.lock(one, trial=network(3, 90, range(2)), content_key=locked.content_key)
    mixed = nnguard.StreamSet({}, {**locked.trial.streams, one.name: alone.trial})
    with pytest.raises(nnguard.errors.VerificationError, match="is not one of a locked set"):
        open_files(hash_files(mixed), locked.content_key)


def test_set_is_loaded_with_a_license(
    release: nnguard.StreamSet,
    key: nnguard.SigningKey,
    customer: nnguard.Identity,
    tmp_path: Path,
) -> None:
    torch = pytest.importorskip("nnguard.torch")
    (locked,) = nnguard.lock_tiers(release, [nnguard.Tier("full", trial=streams(2, 60, seed=7))])
    locked.trial.save(tmp_path / "trial")
    license_ = nnguard.licensing.issue(
        tmp_path / "trial", locked.content_key, to=customer.recipient, signer=key
    )
    options = {"trust": key.public_key, "license": license_, "identity": customer}
    for original, expected in (
        (False, release),
        (True, nnguard.strip(release, key.public_key)),
    ):
        state = torch.load(tmp_path / "trial", original=original, **options)
        arrays = {}
        for stream in expected.streams.values():
            arrays |= nnguard.decompress(stream)
        assert state.keys() == arrays.keys()
        assert all(np.array_equal(state[name].numpy(), arrays[name]) for name in arrays)


@pytest.mark.parametrize("tier", ["scrambled", "carried by as many"])
@pytest.mark.parametrize("spooled", [False, True])
def test_files_that_change_between_hashing_and_opening(
    release: nnguard.StreamSet,
    key: nnguard.SigningKey,
    customer: nnguard.Identity,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tier: str,
    spooled: bool,
) -> None:
    """Whatever is read the second time, what comes out is the release, or nothing."""
    content_key = nnguard.ContentKey.generate()
    others = [release, release, nnguard.sign(streams(3, 40, seed=9), key, name="net")]
    trial, again, other = (
        contents(nnguard.lock_tiers(model, [TIERS[tier]()], content_key=content_key)[0].trial)
        for model in others
    )
    folder = tmp_path / "trial"
    nnguard.StreamSet.of(
        {name: nnguard.Stream.from_bytes(data) for name, data in trial.items()}
    ).save(folder)
    license_ = nnguard.licensing.issue(folder, content_key, to=customer.recipient, signer=key)
    first = next(iter(trial))
    damaged = trial[first][:-9] + bytes([trial[first][-9] ^ 1]) + trial[first][-8:]
    changes = [again, other, {first: again[first]}, {first: other[first]}, {first: damaged}]
    for number, change in enumerate([{}, *changes]):
        put(folder, trial)

        def changed(*given: Any, change: dict[str, bytes] = change, **more: Any) -> Any:
            put(folder, change)
            return open_files(*given, **more)

        monkeypatch.setattr("nnguard._operations.unlock.open_files", changed)
        output = tmp_path / f"full {number}"
        try:
            nnguard.unlock(
                folder, license_, customer, key.public_key, spool=tmp_path if spooled else None
            ).save(output)
        except nnguard.NnguardError:
            assert change
            assert not output.exists()
        else:
            assert contents(nnguard.StreamSet.open(output)) == contents(release)


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)
