"""PyTorch and trials: weights that a license unlocks stay in memory; importance and scores."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnguard
import stock
from nnguard._compression import batches

torch = pytest.importorskip("torch")

SETTINGS = nnguard.Settings(qp=-32)


def network(*, seed: int = 0) -> Any:
    """Return a small network whose BatchNorm has counted batches."""
    torch.manual_seed(seed)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 64, 3),
        torch.nn.Flatten(),
        torch.nn.Linear(64 * 4 * 4, 10),
    )
    with torch.no_grad():
        module(torch.randn(8, 3, 8, 8))
    return module.eval()


@dataclass
class Sale:
    """A release in two tiers, and a customer with a license for all of it."""

    folder: Path
    model: nnguard.Stream
    release: nnguard.Stream
    tiers: list[nnguard.Locked]
    customer: nnguard.Identity
    vendor: nnguard.SigningKey

    def issue(self, **terms: Any) -> nnguard.licensing.License:
        key = self.tiers[0].content_key
        return nnguard.licensing.issue(
            self.folder / "trial.nnc",
            key,
            to=self.customer.recipient,
            signer=self.vendor,
            terms=nnguard.licensing.Terms(**terms),
        )

    def load(self, **options: Any) -> dict[str, Any]:
        given = {
            "trust": self.vendor.public_key,
            "license": self.folder / "ada.license",
            "identity": self.folder / "ada.key",
            **options,
        }
        return nnguard.torch.load(self.folder / "trial.nnc", **given)


@pytest.fixture(scope="module")
def sale(tmp_path_factory: pytest.TempPathFactory, key: nnguard.SigningKey) -> Sale:
    folder = tmp_path_factory.mktemp("sale")
    model = nnguard.compress(network(), SETTINGS)
    release = nnguard.sign(model, key, issuer="acme.ai", name="net")
    qualities = [
        nnguard.Tier("professional", soft=nnguard.Soft(fraction=1e-3)),
        nnguard.Tier("standard"),
    ]
    tiers = nnguard.lock_tiers(release, qualities, signer=key)
    tiers[-1].trial.save(folder / "trial.nnc")
    customer = nnguard.Identity.generate()
    customer.save(folder / "ada.key")
    made = Sale(folder, model, release, tiers, customer, key)
    made.issue().save(folder / "ada.license")
    return made


def same(state: dict[str, Any], stream: nnguard.Stream) -> bool:
    """Tell whether weights are those that the stock decoder reads from a stream."""
    expected = stock.decode(bytes(stream))
    assert list(state) == list(expected)
    return all(
        np.array_equal(tensor.numpy().reshape(expected[name].shape), expected[name])
        for name, tensor in state.items()
    )


# Loading


def test_license_loads_the_weights_of_the_release(sale: Sale) -> None:
    state = sale.load()
    assert same(state, sale.release)
    trial = sale.load(license=None, identity=None, allow_trial=True)
    assert not same(trial, sale.release)
    with pytest.raises(nnguard.errors.LockedTrialError):
        sale.load(license=None, identity=None)
    for name, tensor in network().state_dict().items():
        assert (state[name].dtype, state[name].shape) == (tensor.dtype, tensor.shape)
    state["0.weight"].add_(1)


def test_license_and_identity_may_be_objects(sale: Sale) -> None:
    assert same(sale.load(license=sale.issue(), identity=sale.customer), sale.release)


def test_original_is_without_the_releases_signature(sale: Sale) -> None:
    assert same(sale.load(original=True), sale.model)
    assert not same(sale.load(original=True), sale.release)


def test_license_of_a_lower_tier_loads_that(sale: Sale) -> None:
    state = sale.load(license=sale.issue(tier="standard"))
    assert same(state, sale.tiers[0].trial)
    assert not same(state, sale.release)


@pytest.mark.parametrize("left_out", ["license", "identity"])
def test_license_and_identity_belong_together(sale: Sale, left_out: str) -> None:
    with pytest.raises(nnguard.errors.ArgumentError, match="belong together"):
        sale.load(**{left_out: None})


def test_checks_without_a_license_are_not_passed_over(sale: Sale) -> None:
    with pytest.raises(nnguard.errors.ArgumentError, match="no license that"):
        sale.load(license=None, identity=None, license_policy=nnguard.licensing.Policy())


def test_license_opens_no_folder_of_streams_without_an_index(sale: Sale) -> None:
    license_, identity = sale.folder / "ada.license", sale.folder / "ada.key"
    with pytest.raises(nnguard.errors.FormatError, match="needs one"):
        nnguard.torch.load(sale.folder, sale.vendor.public_key, license=license_, identity=identity)


def test_refusals_of_a_license_get_through(sale: Sale, other_key: nnguard.SigningKey) -> None:
    with pytest.raises(nnguard.errors.WrongKeyError):
        sale.load(identity=nnguard.Identity.generate())
    with pytest.raises(nnguard.errors.WrongKeyError):
        sale.load(trust=other_key.public_key)
    now = datetime(2090, 1, 1, tzinfo=timezone.utc)
    expired = sale.issue(expires_at=now + timedelta(days=1))
    with pytest.raises(nnguard.errors.LicenseError) as caught:
        sale.load(
            license=expired, license_policy=nnguard.licensing.Policy(now=now + timedelta(days=2))
        )
    assert caught.value.reason is nnguard.licensing.Refusal.EXPIRED
    assert same(
        sale.load(license=expired, license_policy=nnguard.licensing.Policy(now=now)), sale.release
    )


def test_load_into_a_module(sale: Sale) -> None:
    module = network(seed=1)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    arguments = (module, sale.folder / "trial.nnc", sale.vendor.public_key)
    with pytest.raises(nnguard.errors.WrongKeyError):
        nnguard.torch.load_into(
            *arguments, license=sale.folder / "ada.license", identity=nnguard.Identity.generate()
        )
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), "the module is as it was"
    nnguard.torch.load_into(
        *arguments, license=sale.folder / "ada.license", identity=sale.folder / "ada.key"
    )
    assert same(module.state_dict(), sale.release)


# Nothing is written


@contextmanager
def watching(*folders: Path) -> Iterator[Callable[[], set[str]]]:
    """Give a function that names what was made, changed or moved in folders, by any process."""
    if not sys.platform.startswith("linux"):
        pytest.skip("inotify is Linux's")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    changes = 0x2 | 0x80 | 0x100  # IN_MODIFY, IN_MOVED_TO, IN_CREATE
    for folder in folders:
        assert libc.inotify_add_watch(descriptor, os.fsencode(folder), changes) >= 0

    def names() -> set[str]:
        found = set()
        try:
            while data := os.read(descriptor, 1 << 16):
                while data:
                    size = struct.unpack_from("iIII", data)[3]
                    found.add(data[16 : 16 + size].rstrip(b"\0").decode())
                    data = data[16 + size :]
        except BlockingIOError:
            pass
        return found

    try:
        yield names
    finally:
        os.close(descriptor)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, and each tensor is decoded by a thread of its own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(batches, "_BATCH", 1)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("count", [1, 2])
def test_full_weights_are_never_in_a_file(sale: Sale, temporary: Path, count: int) -> None:
    with watching(temporary, sale.folder) as names:
        assert same(sale.load(workers=count), sale.release)
        assert same(sale.load(workers=count, original=True), sale.model)
        nnguard.torch.load_into(
            network(), sale.folder / "trial.nnc", sale.vendor.public_key, workers=count,
            license=sale.folder / "ada.license", identity=sale.customer,
        )  # fmt: skip
        assert names() == set()
        sale.tiers[-1].trial.save(sale.folder / "seen.nnc", overwrite=True)
        assert "seen.nnc" in names(), "files that are written are seen"


# Importance


def error(module: Any, batch: tuple[Any, Any]) -> Any:
    inputs, targets = batch
    return torch.nn.functional.mse_loss(module(inputs), targets)


def batches_of(*shapes: tuple[int, ...]) -> list[tuple[Any, Any]]:
    torch.manual_seed(5)
    return [(torch.randn(*shape), torch.randn(shape[0], 10)) for shape in shapes]


def test_importance_is_weight_times_gradient() -> None:
    """Of a linear network, by hand: the gradient of the squared error is 2 * error * input."""
    module = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[3.0, -0.5]]))
    batches = [(torch.tensor([[1.0, 4.0]]), torch.tensor([[0.0]])),
               (torch.tensor([[2.0, 2.0]]), torch.tensor([[3.0]]))]  # fmt: skip
    found = nnguard.torch.importance(module, batches, error)
    first = np.array([3.0 * 2 * 1.0 * 1.0, -0.5 * 2 * 1.0 * 4.0])
    second = np.array([3.0 * 2 * 2.0 * 2.0, -0.5 * 2 * 2.0 * 2.0])
    assert list(found) == ["weight"]
    np.testing.assert_allclose(found["weight"][0], np.sqrt((first**2 + second**2) / 2), rtol=1e-6)


def test_importance_of_a_tied_parameter_has_all_of_its_names() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(10, 10), torch.nn.Linear(10, 10))
    module[1].weight = module[0].weight
    found = nnguard.torch.importance(module, batches_of((4, 10)), error)
    assert list(found) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert np.array_equal(found["0.weight"], found["1.weight"])


def test_importance_of_every_parameter() -> None:
    module = network()
    found = nnguard.torch.importance(module, batches_of((4, 3, 8, 8), (2, 3, 8, 8)), error)
    assert list(found) == [name for name, _ in module.named_parameters()]
    for name, parameter in module.named_parameters():
        assert found[name].shape == tuple(parameter.shape)
        assert found[name].dtype == np.float32
        assert (found[name] >= 0).all()
        assert found[name].any() == bool(parameter.any()), "the biases of the BatchNorm are zero"


def test_importance_leaves_out_what_is_frozen_and_is_zero_for_what_is_unused() -> None:
    module = network()
    module[0].weight.requires_grad_(False)
    module.register_module("spare", torch.nn.Linear(2, 2))
    batches = batches_of((4, 3, 8, 8))
    used = torch.nn.Sequential(*list(module)[:6])
    found = nnguard.torch.importance(module, batches, lambda _, batch: error(used, batch))
    assert "0.weight" not in found
    assert not found["spare.weight"].any()
    assert found["5.weight"].any()


@pytest.mark.parametrize("fails", [False, True])
def test_importance_leaves_the_module_as_it_was(fails: bool) -> None:
    """A BatchNorm may stay in evaluation mode while the rest is trained."""
    module = network().train()
    module[1].eval()
    module[5].weight.grad = torch.full((10, 64 * 4 * 4), 7.0)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes = [part.training for part in module.modules()]

    def loss(measured: Any, batch: tuple[Any, Any]) -> Any:
        assert not any(part.training for part in measured.modules())
        if fails:
            raise RuntimeError("out of memory")
        return error(measured, batch)

    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            nnguard.torch.importance(module, batches_of((4, 3, 8, 8)), loss)
    else:
        nnguard.torch.importance(module, batches_of((4, 3, 8, 8)), loss)
    assert [part.training for part in module.modules()] == modes
    assert (module[5].weight.grad == 7).all()
    assert module[0].weight.grad is None
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_importance_of_half_precision_does_not_vanish(dtype: str) -> None:
    """Squares of a thousandth are below what float16 can hold."""
    exact = torch.nn.Linear(8, 10)
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter.mul_(0.01)
    half = torch.nn.Linear(8, 10).to(getattr(torch, dtype))
    half.load_state_dict(exact.state_dict())
    batches = batches_of((4, 8))
    halves = [tuple(part.to(half.weight.dtype) for part in batch) for batch in batches]
    expected = nnguard.torch.importance(exact, batches, error)["weight"]
    found = nnguard.torch.importance(half, halves, error)["weight"]
    assert np.median(expected) < 1e-3
    assert np.abs(found - expected).max() < 0.05 * expected.max()
    assert np.count_nonzero(found) > 0.9 * found.size


def test_importance_needs_a_batch() -> None:
    with pytest.raises(ValueError, match="no batch"):
        nnguard.torch.importance(network(), [], error)


def test_importance_says_which_weights_a_lock_replaces(sale: Sale) -> None:
    """Tensors that it does not name are left alone; weights of no importance come last."""
    important = np.zeros((64, 16, 3, 3), np.float32)
    important[:32] = 1
    locked = nnguard.lock(
        sale.model, soft=nnguard.Soft(fraction=0.002, importance={"3.weight": important})
    )
    before, after = stock.decode(bytes(sale.model)), stock.decode(bytes(locked.trial))
    flipped = {name: np.argwhere(before[name] * after[name] < 0) for name in before}
    channels = flipped.pop("3.weight")[:, 0]
    assert locked.replaced == 40
    assert 20 <= channels.size <= 40
    assert channels.max() < 32
    assert not any(places.size for places in flipped.values())


# Scores


def test_evaluator_scores_the_weights_that_it_is_given(sale: Sale) -> None:
    module = network(seed=1)
    inputs = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))

    def score(scored: Any) -> float:
        with torch.no_grad():
            return float(scored(inputs).sum())

    evaluate = nnguard.torch.evaluator(module, score)
    for stream in (sale.model, sale.tiers[-1].trial):
        expected = network(seed=2)
        expected.load_state_dict(nnguard.torch.decompress(stream, allow_trial=True))
        assert evaluate(nnguard.decompress(stream, allow_trial=True)) == score(expected)


def test_evaluator_takes_scalars_that_became_arrays(sale: Sale) -> None:
    """The stock encoder makes an array of one out of a scalar."""
    arrays = {name: tensor.numpy() for name, tensor in network().state_dict().items()}
    arrays["1.num_batches_tracked"] = np.array([5], np.int32)
    decoded = nnguard.decompress(nnguard.Stream.from_bytes(stock.encode(arrays, qp=-32)))
    assert decoded["1.num_batches_tracked"].shape == (1,)
    module = network(seed=1)
    evaluate = nnguard.torch.evaluator(module, lambda scored: int(scored[1].num_batches_tracked))
    assert evaluate(decoded) == 5
    with pytest.raises(RuntimeError, match="size mismatch"):
        evaluate({**decoded, "0.bias": np.zeros((16, 1), np.float32)})
    with pytest.raises(RuntimeError, match="Missing key"):
        evaluate({"0.bias": np.zeros(16, np.float32)})


def test_evaluator_takes_bfloat16() -> None:
    pytest.importorskip("ml_dtypes")
    module = network().to(torch.bfloat16)
    stream = nnguard.compress(module, SETTINGS)
    decoded = nnguard.decompress(stream)
    assert decoded["5.weight"].dtype.name == "bfloat16"
    other = network(seed=1).to(torch.bfloat16)
    assert nnguard.torch.evaluator(other, lambda _: 1.5)(decoded) == 1.5
    expected = nnguard.torch.decompress(stream, allow_trial=True)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_lock_finds_a_target_for_a_module(sale: Sale) -> None:
    """The score is how much of the output is as it was; it falls from 1 as weights change."""
    module = network(seed=1)
    inputs = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        reference = network()
        reference.load_state_dict(nnguard.torch.decompress(sale.model))
        expected = reference(inputs)

    def score(scored: Any) -> float:
        with torch.no_grad():
            off = (scored(inputs) - expected).square().mean() / expected.square().mean()
        return float(1 / (1 + off))

    evaluate = nnguard.torch.evaluator(module, score)
    found = nnguard.torch.importance(reference, [(inputs, torch.zeros(64, 10))], error)
    locked = nnguard.lock(
        sale.model,
        evaluate=evaluate,
        soft=nnguard.Soft(target=0.7, tolerance=0.2, max_fraction=0.05, importance=found),
    )
    assert locked.curve[0].score == 1
    assert 0.5 <= evaluate(stock.decode(bytes(locked.trial))) <= 0.9


def test_what_a_license_opened_is_not_hashed_again(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    start_hashing = nnguard.Stream.start_hashing

    def noted(stream: nnguard.Stream, *args: Any, **options: Any) -> Any:
        hashed.append(stream.size)
        return start_hashing(stream, *args, **options)

    monkeypatch.setattr(nnguard.Stream, "start_hashing", noted)
    sale.load()
    assert hashed == [sale.tiers[-1].trial.size]


def test_state_remembers_a_signed_trial_of_a_release_that_is_not(
    sale: Sale, tmp_path: Path
) -> None:
    """As `unlock` does."""
    state = tmp_path / "state"
    locked = nnguard.lock(sale.model, scramble=["0.weight"])
    trials = {
        number: nnguard.sign(locked.trial, sale.vendor, name="net", release=number)
        for number in (1, 2)
    }

    def load(number: int) -> nnguard.Report | None:
        license_ = nnguard.licensing.issue(
            trials[number], locked.content_key, to=sale.customer.recipient, signer=sale.vendor
        )
        loaded = nnguard.torch.load(
            trials[number],
            sale.vendor.public_key,
            license=license_,
            identity=sale.customer,
            state=state,
        )
        return loaded.report

    assert load(2) is None
    with pytest.raises(nnguard.errors.PolicyError) as caught:
        load(1)
    assert caught.value.reason is nnguard.errors.PolicyReason.ROLLBACK
