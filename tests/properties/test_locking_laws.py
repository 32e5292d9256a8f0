"""Whatever is locked comes back byte for byte, and a trial is a stream like any other."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, reject, settings
from hypothesis import strategies as st

import nnguard
import samples
import stock
from nnguard._hiding import extract, plan_record
from nnguard._locking import sealing
from nnguard._locking.scramble import scramble, unscramble
from nnguard._stream.coding import Parameters, usual_start_states
from nnguard._stream.headers import PayloadType, TensorHeader
from nnguard._stream.quantized import QuantizedTensor
from nnguard._stream.trellis import is_path, odd_states
from nnguard.errors import CapacityError, LockError
from opening import Opened, open_locks

Locks = Sequence[nnguard.Locked]


CASES = int(os.environ.get("NNGUARD_CASES", "40"))
"""Pairs of a release and the network that carries it."""


@dataclass
class Network:
    """A random network, how it was made, and how the stock encoder is to code it."""

    arrays: dict[str, stock.Array]
    options: dict[str, Any]
    how: str

    def __repr__(self) -> str:
        return self.how

    @functools.cached_property
    def data(self) -> bytes:
        return stock.encode(self.arrays, **self.options)


@dataclass(frozen=True)
class Plan:
    """How to lock a release: one lock for each of `tiers`, the highest first."""

    tiers: tuple[dict[str, Any], ...]
    sign_release: bool
    sign_trial: bool

    def release(self, model: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.Stream:
        return nnguard.sign(model, key, name="random") if self.sign_release else model

    def locks(self, release: nnguard.Stream, key: nnguard.SigningKey) -> Locks:
        signer = key if self.sign_trial else None
        if len(self.tiers) == 1:
            return [nnguard.lock(release, **self.tiers[0], signer=signer)]
        tiers = [nnguard.Tier(f"tier {at}", **options) for at, options in enumerate(self.tiers)]
        return nnguard.lock_tiers(release, tiers, signer=signer)


@st.composite
def networks(draw: st.DrawFn, scale: float = 1) -> Network:
    """Draw one or two tensors of some thousand weights, sometimes variances, and two that hold
    nothing."""
    seed = draw(st.integers(0, 1 << 32))
    rng = np.random.default_rng(seed)
    density = draw(st.integers(1, 3))
    qp = draw(st.integers(-32, -18))
    arrays = {}
    for size in ((6000, 8000), (256, 900))[: draw(st.integers(1, 2))]:
        columns = draw(st.sampled_from([(1,), (9,), (30,), (4, 3, 3), (16, 8)]))
        rows = -(-int(scale * draw(st.integers(*size))) // int(np.prod(columns)))
        steps = draw(st.sampled_from([0.8, 1.5, 3.0]))
        array = rng.laplace(0, steps * 2 ** (qp / 4), (rows, *columns))
        array[: rows // 5] *= draw(st.sampled_from([0, 1]))  # rows of zeros
        arrays[f"layer{len(arrays)}.weight"] = array.astype(np.float32)
    arrays["tiny.weight"] = rng.normal(0, 0.1, (3, 4)).astype(np.float32)
    if variances := draw(st.sampled_from([0, 256, 1000, 2048])):
        arrays["variances"] = rng.uniform(0.5, 2, variances).astype(np.float32)
    arrays["bias"] = rng.normal(0, 1, 9).astype(np.float32)
    options = {
        "qp": qp * (1 << density) // 4,
        "nonweight_qp": -60 * (1 << density) // 4,
        "qp_density": density,
        "dependent": draw(st.booleans()),
        "parameter_optimization": draw(st.booleans()),
        "row_skipping": draw(st.booleans()),
        "unary_length_minus1": draw(st.integers(1, 12)),
    }
    shapes = {name: array.shape for name, array in arrays.items()}
    return Network(arrays, options, f"seed {seed}, {shapes}, {options}")


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Network, Network]:
    """Draw a release, and a network that may have room for it: any other one, or one of the same
    architecture in which some tensors are the same, and others are shuffled, or have moved."""
    release = draw(networks())
    if draw(st.booleans()):
        return release, draw(networks(scale=draw(st.floats(0.4, 10))))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    same = draw(st.sets(st.sampled_from(sorted(release.arrays))))
    moves = draw(st.sampled_from([None, 0.01, 0.1, 0.3]))

    def changed(array: stock.Array) -> stock.Array:
        shuffled = rng.permuted(array.reshape(-1)).reshape(array.shape)
        return shuffled if moves is None else array + np.float32(moves) * shuffled

    arrays = {
        name: array if name in same else changed(array) for name, array in release.arrays.items()
    }
    dependent = draw(st.booleans())
    how = f"{release}, moved by {moves} but for {same}, {dependent}"
    return release, Network(arrays, {**release.options, "dependent": dependent}, how)


def amounts() -> st.SearchStrategy[dict[str, Any]]:
    """Draw a fraction of weights to replace, one to scramble, or both."""
    soft = st.builds(nnguard.Soft, fraction=st.floats(1e-5, 0.02))
    scramble = st.floats(0.05, 1)
    return st.one_of(
        st.fixed_dictionaries({}),
        st.fixed_dictionaries({"soft": soft}),
        st.fixed_dictionaries({"scramble": scramble}),
        st.fixed_dictionaries({"soft": soft, "scramble": scramble}),
    )


def plans(tiers: int) -> st.SearchStrategy[Plan]:
    depth = st.lists(amounts(), min_size=tiers, max_size=tiers).map(tuple)
    return st.builds(Plan, depth, st.booleans(), st.booleans())


any_plan = st.integers(1, 2).flatmap(plans)


def open_with(content_key: nnguard.ContentKey, trial: nnguard.Stream) -> Opened:
    """Open a trial as a reader of its file does."""
    reread = nnguard.Stream.from_bytes(bytes(trial))
    return open_locks(reread, content_key)


def check_locks(release: nnguard.Stream, locks: Locks) -> None:
    """Every key opens the trial to its own depth, down to the last byte."""
    trial = locks[-1].trial
    assert bytes(trial) != bytes(release)
    inside = [release, *(lock.trial for lock in locks)]
    for depth, lock in enumerate(locks):
        opened = open_with(lock.content_key, trial)
        assert bytes(opened.stream) == bytes(inside[depth])
        assert opened.digests == inside[depth].sha256_of_units()
        assert opened.tiers == tuple(each.tier for each in reversed(locks[depth:]))


@settings(max_examples=200)
@given(networks(), st.tuples(plans(1), plans(1), plans(1), plans(2)))
def test_a_thousand_random_trials_open_to_their_releases(
    key: nnguard.SigningKey, network: Network, drawn: tuple[Plan, ...]
) -> None:
    """Two hundred networks, three locks of one tier and one of two: five openings each."""
    model = nnguard.Stream.from_bytes(network.data)
    try:
        signed = nnguard.sign(model, key, name="random")
        for plan in drawn:
            release = signed if plan.sign_release else model
            check_locks(release, plan.locks(release, key))
    except (CapacityError, LockError):
        reject()


lower_tiers = st.sampled_from([(), (nnguard.Tier("silver", scramble=0.2),)])


@settings(max_examples=CASES)
@given(pairs(), lower_tiers, st.booleans(), st.booleans(), st.booleans())
def test_random_networks_carry_others(
    key: nnguard.SigningKey,
    pair: tuple[Network, Network],
    lower: tuple[nnguard.Tier, ...],
    sign_release: bool,
    sign_trial: bool,
    dense: bool,
) -> None:
    """A tier below may be scrambled. Many bits in few weights, or as few in each as it takes."""
    model, weaker = (nnguard.Stream.from_bytes(network.data) for network in pair)
    release = nnguard.sign(model, key, name="random") if sign_release else model
    tiers = [nnguard.Tier("gold", trial=weaker), *lower]
    plan = functools.partial(plan_record, dense=dense)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "plan_record", lambda *where, dense, workers: plan(*where))
        try:
            locks = nnguard.lock_tiers(release, tiers, signer=key if sign_trial else None)
        except (CapacityError, LockError):  # no room, or nothing but the same
            reject()
    carried = extract(locks[0].trial)
    carried = extract(carried.original) if sign_trial else carried
    event(f"{max(carried.header.widths)} bits a weight")
    check_locks(release, locks)
    before, after = stock.decode(bytes(weaker)), stock.decode(bytes(locks[0].trial))
    for name, array in before.items():
        assert np.array_equal(np.sign(array), np.sign(after[name])), name


def set_of(parts: Sequence[Network]) -> nnguard.StreamSet:
    """Make a set of networks; names of tensors differ between them."""
    streams = {}
    for at, network in enumerate(parts):
        arrays = {f"{at}.{name}": array for name, array in network.arrays.items()}
        data = stock.encode(arrays, **network.options)
        streams[f"model-{at}-of-{len(parts)}.nnc"] = nnguard.Stream.from_bytes(data)
    return nnguard.StreamSet.of(streams)


@settings(max_examples=-(-CASES // 4))
@given(
    st.lists(networks(), min_size=1, max_size=3),
    st.lists(networks(scale=6), min_size=1, max_size=4),
    st.sampled_from(["carried", "scrambled", "soft", "both"]),
    st.booleans(),
    st.booleans(),
)
def test_random_sets_come_back(
    key: nnguard.SigningKey,
    parts: list[Network],
    weaker: list[Network],
    kind: str,
    sign_release: bool,
    sign_trial: bool,
) -> None:
    release = set_of(parts)
    release = nnguard.sign(release, key, name="random") if sign_release else release
    tiers = {
        "carried": [nnguard.Tier("gold", trial=set_of(weaker))],
        "scrambled": [nnguard.Tier("gold", scramble=0.3)],
        "soft": [nnguard.Tier("gold", soft=nnguard.Soft(fraction=0.01))],
        "both": [nnguard.Tier("gold", trial=set_of(weaker)), nnguard.Tier("silver", scramble=0.3)],
    }[kind]
    try:
        locks = nnguard.lock_tiers(release, tiers, signer=key if sign_trial else None)
    except (CapacityError, LockError):  # no room, or nothing to change
        reject()
    customer = nnguard.Identity.generate()
    inside = [release, *(lock.trial for lock in locks)]
    for depth, lock in enumerate(locks):
        license_ = nnguard.licensing.issue(
            locks[-1].trial,
            locks[0].content_key,
            to=customer.recipient,
            signer=key,
            terms=nnguard.licensing.Terms(tier=lock.tier),
        )
        full = nnguard.unlock(locks[-1].trial, license_, customer, key.public_key)
        assert [*full.streams] == [*inside[depth].streams]
        for name, stream in full.streams.items():
            assert bytes(stream) == bytes(inside[depth].streams[name])


@given(
    st.lists(st.integers(-(2**30) + 1, 2**30 - 1), min_size=1, max_size=40),
    st.booleans(),
    st.booleans(),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**40),
)
def test_unscramble_is_the_inverse_of_scramble(
    integers: list[int], dependent: bool, flat: bool, secret: bytes, unit: int
) -> None:
    """Signs change, or the order; for TCQ what comes out is a path through the trellis."""
    tensor = tensor_of(integers, dependent=dependent, flat=flat)
    keystream = nnguard.ContentKey(secret).keystream("scramble", bytes(12))
    scrambled = scramble(tensor, unit, keystream)
    assert not dependent or is_path(scrambled.indices)
    assert np.array_equal(unscramble(scrambled, unit, keystream).indices, tensor.indices)
    coded = [-(-abs(index) // 2) if dependent else abs(index) for index in scrambled.indices.flat]
    magnitudes = [abs(integer) for integer in integers]
    assert coded == magnitudes if not flat else sorted(coded) == sorted(magnitudes)


def tensor_of(integers: list[int], *, dependent: bool, flat: bool) -> QuantizedTensor:
    """Make a tensor whose payload codes these integers."""
    shape = (len(integers),) if flat else (1, len(integers))
    coded = np.array(integers, np.int64)
    parities = (coded & 1).astype(np.uint8)
    odd, _ = odd_states(parities, np.zeros_like(parities))
    magnitudes = np.where(coded == 0, 0, 2 * np.abs(coded) - odd)
    indices = np.sign(coded) * magnitudes if dependent else coded
    header = TensorHeader(
        "a", PayloadType.FLOAT, shape, dependent, 10, 1, 2, 0, 0, None, payload_offset=0
    )
    parameters = Parameters(-20, usual_start_states(header), b"")
    return QuantizedTensor(header, b"", parameters, indices.astype(np.int32).reshape(shape))


@settings(max_examples=40)
@given(networks(), any_plan, st.booleans())
def test_licenses_open_random_trials(
    key: nnguard.SigningKey, network: Network, plan: Plan, post_quantum: bool
) -> None:
    customer = nnguard.Identity.generate(post_quantum=post_quantum)
    try:
        release = plan.release(nnguard.Stream.from_bytes(network.data), key)
        locks = plan.locks(release, key)
    except (CapacityError, LockError):
        reject()
    trial = nnguard.Stream.from_bytes(bytes(locks[-1].trial))
    inside = [release, *(lock.trial for lock in locks)]
    for depth, lock in enumerate(locks):
        license_ = nnguard.licensing.issue(
            trial,
            locks[0].content_key,
            to=customer.recipient,
            signer=key,
            terms=nnguard.licensing.Terms(tier=lock.tier),
        )
        received = nnguard.licensing.License.from_text(str(license_))
        full = nnguard.unlock(trial, received, customer, [key.public_key])
        assert bytes(full) == bytes(inside[depth])


@settings(max_examples=25)
@given(networks(), any_plan)
def test_stock_decoder_reads_random_trials(
    key: nnguard.SigningKey, network: Network, plan: Plan
) -> None:
    try:
        release = plan.release(nnguard.Stream.from_bytes(network.data), key)
        locks = plan.locks(release, key)
    except (CapacityError, LockError):
        reject()
    for lock in locks:
        expected = stock.decode(bytes(lock.trial))
        found = nnguard.decompress(lock.trial, allow_trial=True)
        assert list(found) == list(expected)
        for name, array in expected.items():
            assert np.array_equal(found[name], array), name
        check_signs(stock.decode(network.data), expected)


def check_signs(before: dict[str, stock.Array], after: dict[str, stock.Array]) -> None:
    """What was pruned stays pruned, and variances stay positive, whatever carries the records.

    What has one dimension may be in another order.
    """
    for name, array in before.items():
        signs = np.sign(array), np.sign(after[name])
        if array.ndim > 1:
            assert np.array_equal(*(sign == 0 for sign in signs)), name
        else:
            assert np.array_equal(*map(np.sort, signs)), name


@pytest.mark.parametrize("sign", [True, False], ids=["one, signed", "two tiers"])
@pytest.mark.parametrize("name", samples.SIGNABLE)
def test_streams_of_the_stock_encoder(
    name: str, key: nnguard.SigningKey, signed: Callable[[str], nnguard.Stream], *, sign: bool
) -> None:
    """Locked as the encoder wrote them, or signed; the stock decoder reads the trial."""
    both = {"soft": nnguard.Soft(fraction=0.002), "scramble": 0.2}
    tiers = (both,) if sign else ({"soft": nnguard.Soft(fraction=0.001)}, {"scramble": 0.1})
    release = signed(name) if sign else nnguard.Stream.open(samples.path_of(name))
    locks = Plan(tiers, sign, sign).locks(release, key)
    check_locks(release, locks)

    trial = locks[-1].trial
    before, after = stock.decode(bytes(release)), stock.decode(bytes(trial))
    found = nnguard.decompress(trial, allow_trial=True)
    assert all(np.array_equal(found[tensor], array) for tensor, array in after.items())
    changed = [tensor for tensor in before if not np.array_equal(before[tensor], after[tensor])]
    assert changed
    one = [unit.name for unit in trial if unit.tensor and len(unit.tensor.shape) == 1]
    assert {*one} & {*changed}, "those of one dimension are scrambled, too"
