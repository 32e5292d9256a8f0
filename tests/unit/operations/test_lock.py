"""Locks that are made as they were asked for, and what cannot be locked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard._hiding import extract
from nnguard._locking.search import CurvePoint
from opening import lock_of, open_locks


@pytest.fixture(scope="module")
def model() -> nnguard.Stream:
    return nnguard.Stream.from_bytes(samples.small_stream(weights=20_000))


@pytest.fixture(scope="module")
def release(model: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.Stream:
    return nnguard.sign(
        model, key, issuer="acme.ai", name="small", version="1.0", metadata={"a": "b"}
    )


def opened(locked: nnguard.Locked) -> bytes:
    stream = locked.trial
    return bytes(open_locks(stream, locked.content_key).stream)


def flipped(before: nnguard.Stream, after: nnguard.Stream) -> int:
    """Count the weights whose signs differ; hiding a record changes none."""
    old, new = stock.decode(bytes(before)), stock.decode(bytes(after))
    return sum(int(np.count_nonzero(np.sign(old[n]) * np.sign(new[n]) < 0)) for n in old)


# How much


def test_fraction_is_of_all_weights(model: nnguard.Stream) -> None:
    for fraction, count in ((0.01, 200), (1e-3, 20), (1e-9, 2)):
        locked = nnguard.lock(model, soft=nnguard.Soft(fraction=fraction))
        assert (locked.replaced, locked.scrambled, locked.weights) == (count, 0, 20_000)
        assert 0.7 * count - 2 <= flipped(model, locked.trial) <= count
        assert opened(locked) == bytes(model)


def test_soft_is_a_few_weights(model: nnguard.Stream) -> None:
    locked = nnguard.lock(model, soft=nnguard.Soft())
    assert (locked.replaced, locked.scrambled) == (2, 0)
    assert "anybody can repair it" in locked.worth
    assert opened(locked) == bytes(model)


def test_few_scrambled_weights_are_worth_little(model: nnguard.Stream) -> None:
    locked = nnguard.lock(model, scramble=["conv.bias"])
    assert 0 < locked.scrambled < 0.05 * locked.weights
    assert "may be easy" in locked.worth


def test_nobody_has_measured_tensors_that_the_seller_names(model: nnguard.Stream) -> None:
    assert "nobody has measured" in nnguard.lock(model, scramble=["conv.*"]).worth
    assert "nobody has measured" not in nnguard.lock(model).worth


def test_near_trial_is_worth_the_difference() -> None:
    release = samples.small_stream(seed=3)
    noise = np.random.default_rng(0)
    arrays = nnguard.decompress(nnguard.Stream.from_bytes(release))
    base = nnguard.compress(
        {
            name: (array * noise.normal(1, 0.003, array.shape)).astype(np.float32)
            for name, array in arrays.items()
        }
    )
    locked = nnguard.lock(nnguard.compress(arrays), trial=base, allow_near=True)
    assert locked.near
    assert "difference in score" in locked.worth


def test_allow_near_is_for_a_trial(model: nnguard.Stream) -> None:
    with pytest.raises(nnguard.errors.ArgumentError, match="allow_near"):
        nnguard.lock(model, allow_near=True)


def test_default_is_scrambled(model: nnguard.Stream) -> None:
    locked = nnguard.lock(model)
    assert (locked.replaced, locked.scrambled, locked.carried) == (0, 20_010, 0)
    assert "train" in locked.worth
    assert opened(locked) == bytes(model)


def test_importance_is_of_a_soft_lock(model: nnguard.Stream) -> None:
    importance = {"conv.weight": np.ones(20_000)}
    assert nnguard.lock(model, soft=nnguard.Soft(importance=importance)).replaced == 2


def test_scramble_alone_replaces_nothing(model: nnguard.Stream) -> None:
    locked = nnguard.lock(model, scramble=1.0)
    assert (locked.replaced, locked.scrambled) == (0, 20_010)
    assert opened(locked) == bytes(model)


def test_both_at_once(model: nnguard.Stream) -> None:
    locked = nnguard.lock(model, scramble=0.5, soft=nnguard.Soft(fraction=0.001))
    assert (locked.replaced, locked.scrambled) == (20, 20_010)
    assert opened(locked) == bytes(model)


def test_every_lock_has_a_key_and_weights_of_its_own(model: nnguard.Stream) -> None:
    one, two = (
        nnguard.lock(model, soft=nnguard.Soft(fraction=0.01)),
        nnguard.lock(model, soft=nnguard.Soft(fraction=0.01)),
    )
    assert one.content_key != two.content_key
    assert flipped(one.trial, two.trial) > 150


def test_the_same_key_locks_differently_each_time(model: nnguard.Stream) -> None:
    """A nonce is used once, so no two records have the same keystream."""
    key = nnguard.ContentKey.generate()
    locks = [
        nnguard.lock(model, content_key=key, soft=nnguard.Soft(fraction=0.01)) for _ in range(2)
    ]
    nonces = {lock_of(extract(lock.trial)).envelope.nonce for lock in locks}
    assert len(nonces) == 2
    assert flipped(locks[0].trial, locks[1].trial) > 150
    assert [opened(lock) for lock in locks] == [bytes(model)] * 2


def test_stream_is_left_as_it_is(model: nnguard.Stream) -> None:
    before = bytes(model)
    nnguard.lock(model, scramble=0.5, soft=nnguard.Soft(fraction=0.01))
    assert bytes(model) == before


# A target


def agreement(model: nnguard.Stream) -> Any:
    """Return a score that falls steadily with every weight that is changed for good."""
    original = nnguard.decompress(model)["conv.weight"]

    def evaluate(state: Mapping[str, np.ndarray]) -> float:
        wrong = np.count_nonzero(np.sign(state["conv.weight"]) * np.sign(original) < 0)
        return 1 - wrong / 100

    return evaluate


@pytest.mark.parametrize("target", [0.9, 0.5, 0.15])
def test_target_is_reached(model: nnguard.Stream, target: float) -> None:
    evaluate = agreement(model)
    points: list[CurvePoint] = []
    locked = nnguard.lock(
        model,
        evaluate=evaluate,
        on_point=points.append,
        soft=nnguard.Soft(target=target, tolerance=0.02, max_fraction=0.01),
    )
    score = evaluate(nnguard.decompress(locked.trial, allow_trial=True))
    assert score == pytest.approx(target, abs=0.02)
    assert locked.curve[-1].score == score
    assert locked.curve[-1].fraction == locked.replaced / locked.weights
    assert locked.curve[0] == CurvePoint(0.0, 1.0)
    assert set(locked.curve) <= set(points)
    assert len(points) <= 40
    assert opened(locked) == bytes(model)


def test_tensors_that_matter_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that counts is one of the larger tensors; changes in small ones do nothing."""
    rng = np.random.default_rng(0)
    shapes = {"small": (40, 25), "other": (80, 60), "vital": (80, 61), "large": (90, 100)}
    arrays = {name: rng.laplace(0, 0.05, shape) for name, shape in shapes.items()}
    data = stock.encode({name: a.astype(np.float32) for name, a in arrays.items()}, qp=-30)
    stream, vital = nnguard.Stream.from_bytes(data), arrays["vital"]

    def evaluate(state: Mapping[str, np.ndarray]) -> float:
        return float(np.corrcoef(state["vital"].ravel(), vital.ravel())[0, 1])

    monkeypatch.setattr("nnguard._locking.choice._TOUCHED", 1)
    locked = nnguard.lock(
        stream, evaluate=evaluate, soft=nnguard.Soft(target=0.8, tolerance=0.02, max_fraction=0.02)
    )
    assert locked.curve[-1].score == pytest.approx(0.8, abs=0.02)
    changed = nnguard.decompress(locked.trial, allow_trial=True)
    before = nnguard.decompress(stream)
    flipped = {n for n in before if (np.sign(changed[n]) != np.sign(before[n])).any()}
    assert flipped == {"vital"}


def test_target_that_max_fraction_does_not_reach(model: nnguard.Stream) -> None:
    with pytest.raises(nnguard.errors.LockError, match=r"20 weights replaced .* still scores 0\.8"):
        nnguard.lock(
            model, evaluate=agreement(model), soft=nnguard.Soft(target=0.1, max_fraction=0.001)
        )


def test_target_above_the_network_itself(model: nnguard.Stream) -> None:
    with pytest.raises(ValueError, match="scores 1 as it is"):
        nnguard.lock(model, evaluate=agreement(model), soft=nnguard.Soft(target=1.0))


def test_error_of_the_function_that_evaluates_gets_through(model: nnguard.Stream) -> None:
    def evaluate(state: Mapping[str, np.ndarray]) -> float:
        raise RuntimeError("out of data")

    with pytest.raises(RuntimeError, match="out of data"):
        nnguard.lock(model, evaluate=evaluate, soft=nnguard.Soft(target=0.5))


@pytest.mark.parametrize(
    "options",
    [
        {"soft": {"fraction": 0.1, "target": 0.5}, "evaluate": len},
        {"soft": {"target": 0.5}},
        {"soft": {"target": 0.5}, "evaluate": len, "scramble": 0.5},
        {"scramble": 0.0},
        {"soft": {"fraction": 0.0}},
        {"trial": "weaker.nnc", "scramble": 0.1},
        {"trial": "weaker.nnc", "soft": {}},
        {"trial": "weaker.nnc", "soft": {"target": 0.1}, "evaluate": len},
        {"evaluate": lambda state: float("nan")},
        {"soft": {"target": 0.5, "tolerance": 0}, "evaluate": len},
        {"soft": {"fraction": -0.1}},
        {"soft": {"fraction": 1.1}},
        {"soft": {"fraction": float("nan")}},
        {"scramble": 2},
        {"tier": "x" * 256},
        {"tier": "é" * 128},
    ],
)
def test_contradictions_are_refused(model: nnguard.Stream, options: dict[str, Any]) -> None:
    def lock() -> None:
        soft = {"soft": nnguard.Soft(**options["soft"])} if "soft" in options else {}
        nnguard.lock(model, **(options | soft))

    with pytest.raises(nnguard.errors.ArgumentError):
        lock()


# What cannot be locked


def test_network_without_weights() -> None:
    arrays = {"bias": np.ones(900, np.float32), "steps": np.ones((30, 30), np.int32)}
    stream = nnguard.Stream.from_bytes(stock.encode(arrays))
    for options in ({}, {"scramble": 1.0}):
        with pytest.raises(nnguard.errors.LockError, match="no weights"):
            nnguard.lock(stream, **options)


def test_network_in_blocks() -> None:
    stream = nnguard.compress(samples.small_network(6000), nnguard.Settings(qp=-20, scan_order=1))
    for options in ({}, {"scramble": 1.0}):
        with pytest.raises(nnguard.errors.LockError, match="no weights") as caught:
            nnguard.lock(stream, **options)
        assert "not coded in blocks" in caught.value.hint


def test_tensors_of_one_dimension_hold_the_lock_and_change_places() -> None:
    rng = np.random.default_rng(3)
    arrays = {
        "conv.weight": rng.normal(0, 0.05, (60, 100)).astype(np.float32),
        "norm.scale": rng.normal(0, 1, 2048).astype(np.float32),
    }
    model = nnguard.compress(arrays)
    for options, replaced in (({"soft": nnguard.Soft(fraction=0.005)}, 30), ({"scramble": 1.0}, 0)):
        locked = nnguard.lock(model, **options)
        assert (locked.replaced, locked.weights) == (replaced, 6000)
        carriers = extract(locked.trial).header.carriers
        assert [model[at].name for at in carriers] == ["norm.scale"]
        before, after = stock.decode(bytes(model)), stock.decode(bytes(locked.trial))
        scales = [state["norm.scale"] for state in (before, after)]
        if replaced:
            assert np.abs(scales[0] - scales[1]).max() < 1e-5
        else:
            assert np.abs(scales[0] - scales[1]).mean() > 1
            assert np.abs(np.sort(scales[0]) - np.sort(scales[1])).max() < 1e-5
        assert (np.sign(before["conv.weight"]) != np.sign(after["conv.weight"])).sum() >= 30
        assert opened(locked) == bytes(model)


def test_network_without_room_for_the_record() -> None:
    weights = np.zeros((20, 30), np.float32)
    weights.flat[:60] = np.linspace(1, 2, 60) * np.resize([1, -1], 60)
    with pytest.raises(nnguard.errors.CapacityError):
        nnguard.lock(nnguard.compress({"w": weights}), soft=nnguard.Soft(fraction=0.01))


def test_bytes_that_are_no_stream(tmp_path: Any) -> None:
    (tmp_path / "a.nnc").write_bytes(b"hello")
    with pytest.raises(nnguard.errors.FormatError):
        nnguard.lock(tmp_path / "a.nnc")


# The signature on the trial


def test_trial_is_signed_with_the_claims_of_the_release(
    release: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    locked = nnguard.lock(
        release, tier="professional", signer=key, soft=nnguard.Soft(fraction=0.001)
    )
    claims = nnguard.verify(locked.trial, key.public_key, allow_trial=True).claims
    assert (claims.issuer, claims.name, claims.version) == ("acme.ai", "small", "1.0")
    assert dict(claims.metadata) == {"a": "b", "locked": "professional"}
    assert opened(locked) == bytes(release)


def test_trial_of_a_release_that_is_not_signed_is_signed_without_claims(
    model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    locked = nnguard.lock(model, signer=key, soft=nnguard.Soft(fraction=0.001))
    claims = nnguard.verify(locked.trial, key.public_key, allow_trial=True).claims
    assert (claims.name, dict(claims.metadata)) == ("", {"locked": "full"})


def test_release_inside_a_trial_is_not_readable(
    release: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    """`verify` says that there is a lock, and no more."""
    locked = nnguard.lock(release, signer=key, soft=nnguard.Soft(fraction=0.001))
    report = nnguard.verify(locked.trial, key.public_key, allow_trial=True)
    assert [(record.kind, record.verified) for record in report.nested] == [("lock", False)]
    trial = nnguard.lock(release, soft=nnguard.Soft(fraction=0.001)).trial
    with pytest.raises(nnguard.errors.NoRecordError, match="lock"):
        nnguard.verify(trial, key.public_key, allow_trial=True)


# Tiers


def test_keys_of_lower_tiers_follow_from_that_of_the_highest(release: nnguard.Stream) -> None:
    key = nnguard.ContentKey.generate()
    names = ["gold", "silver", "bronze"]
    locks = nnguard.lock_tiers(
        release,
        [nnguard.Tier(name, soft=nnguard.Soft(fraction=0.001)) for name in names],
        content_key=key,
    )
    assert [lock.tier for lock in locks] == names
    assert [lock.content_key for lock in locks] == [key.below(depth) for depth in range(3)]


def test_locks_by_different_vendors_nest(model: nnguard.Stream) -> None:
    """A key opens what it locked, and what it left is locked still."""
    inner = nnguard.lock(model, soft=nnguard.Soft(fraction=0.001))
    outer = nnguard.lock(inner.trial, soft=nnguard.Soft(fraction=0.001))
    assert opened(outer) == bytes(inner.trial)
    stream = outer.trial
    with pytest.raises(nnguard.errors.WrongKeyError):
        open_locks(stream, inner.content_key)


@pytest.mark.parametrize(
    "names", [[], ["a", "a"], [str(number) for number in range(9)]], ids=["none", "twice", "nine"]
)
def test_tiers_that_cannot_be(model: nnguard.Stream, names: list[str]) -> None:
    with pytest.raises(ValueError, match="1 to 8 tiers"):
        nnguard.lock_tiers(model, [nnguard.Tier(name) for name in names])


def test_eight_tiers() -> None:
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=60_000))
    tiers = [nnguard.Tier(str(number), soft=nnguard.Soft(fraction=1e-4)) for number in range(8)]
    locks = nnguard.lock_tiers(model, tiers)
    stream = locks[-1].trial
    found = open_locks(stream, locks[0].content_key)
    assert bytes(found.stream) == bytes(model)
    assert found.tiers == tuple("76543210")


def test_tiers_with_targets(model: nnguard.Stream) -> None:
    evaluate = agreement(model)
    tiers = [
        nnguard.Tier(name, soft=nnguard.Soft(target=target, tolerance=0.03, max_fraction=0.01))
        for name, target in (("professional", 0.8), ("standard", 0.4))
    ]
    locks = nnguard.lock_tiers(model, tiers, evaluate=evaluate)
    scores = [evaluate(nnguard.decompress(lock.trial, allow_trial=True)) for lock in locks]
    assert scores == pytest.approx([0.8, 0.4], abs=0.03)


# The seal


@pytest.mark.parametrize("scramble", [0.0, 1.0])
def test_no_nonce_seals_twice(
    model: nnguard.Stream, monkeypatch: pytest.MonkeyPatch, scramble: float
) -> None:
    """A search for a target seals a lock for each trial that it scores, and each under its own."""
    sealed: list[tuple[bytes, bytes]] = []
    seal = nnguard.ContentKey.seal

    def spy(
        key: nnguard.ContentKey, plaintext: bytes, header: Any, nonce: bytes, aad: bytes
    ) -> Any:
        sealed.append((key.id, nonce))
        return seal(key, plaintext, header, nonce, aad)

    monkeypatch.setattr(nnguard.ContentKey, "seal", spy)
    if scramble:
        locked = nnguard.lock(model, scramble=scramble)
    else:
        weights = stock.decode(bytes(model))["conv.weight"]

        def evaluate(state: Mapping[str, Any]) -> float:
            now = state["conv.weight"]
            flips = np.count_nonzero(now * weights < 0)
            with_record = np.count_nonzero(np.abs(now) != np.abs(weights)) > flips
            return -float(flips + 4 * with_record)

        locked = nnguard.lock(
            model,
            evaluate=evaluate,
            soft=nnguard.Soft(target=-10, tolerance=0.6, max_fraction=0.02),
        )
        assert [point.score for point in locked.curve].count(-14) == 1  # a trial that was dropped
    assert opened(locked) == bytes(model)
    record = lock_of(extract(locked.trial))
    assert (record.envelope.key_id, record.envelope.nonce) in sealed
    assert len(sealed) >= 2
    assert len(set(sealed)) == len(sealed)


@pytest.mark.parametrize("signed", [False, True])
def test_progress(model: nnguard.Stream, key: nnguard.SigningKey, signed: bool) -> None:
    """Every byte of a release, and twice those of what is given away; or twice the release's."""
    release = nnguard.sign(model, key) if signed else model
    trial = nnguard.Stream.from_bytes(samples.small_stream(weights=90_000, seed=5))
    for options, work in (
        ({"trial": trial}, release.size + 2 * trial.size),
        ({"scramble": 1.0}, 2 * release.size),
        ({"soft": nnguard.Soft(fraction=0.001)}, 2 * release.size),
        (
            {
                "soft": nnguard.Soft(target=0.5, tolerance=0.05),
                "evaluate": agreement(model),
            },
            2 * release.size,
        ),
    ):
        done: list[int] = []
        nnguard.lock(release, progress=done.append, **options)  # type: ignore[arg-type]
        assert sum(done) == work
        assert min(done) >= 0
        assert len(done) > 1
