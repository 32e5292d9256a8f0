"""State dicts and modules: verify before loading, load what was verified. Needs PyTorch.

state = nnguard.torch.load("release.nnc", trust=["vendor.pub"])
state = nnguard.torch.load(
    "trial.nnc", trust=["vendor.pub"], license="acme.license", identity="customer.key"
)
nnguard.torch.load_into(module, "release.nnc", trust=["vendor.pub"])
nnguard.torch.save(module, "release.nnc", signer=key, name="resnet56", version="1.0")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.parameter import is_lazy
from typing_extensions import Unpack  # PyTorch requires it

from nnguard._base.arguments import as_path
from nnguard._base.files import check_target
from nnguard._base.times import TimeLike
from nnguard._base.workers import Workers
from nnguard._compression.compress import compress
from nnguard._compression.decompress import decompress as decompress_to_arrays
from nnguard._compression.settings import Settings
from nnguard._crypto.identity import IdentityLike
from nnguard._crypto.keys import SignerLike
from nnguard._crypto.trust import Trust
from nnguard._licensing.policy import LicenseLike, Policy
from nnguard._models.pytorch import as_tensor
from nnguard._models.stream_set import Model, ModelLike, as_model
from nnguard._oms.bundle import Bundle
from nnguard._operations.authority import LatestLike, PathLike, authority_of
from nnguard._operations.expect import Expect
from nnguard._operations.report import Report
from nnguard._operations.sign import sign
from nnguard._operations.unlock import check_together, unlock_by
from nnguard._operations.verify import verified
from nnguard._policy.policy import PolicyLike
from nnguard.errors import ArgumentError, FormatError, NoRecordError

__all__ = ["decompress", "evaluator", "importance", "load", "load_into", "save"]


class StateDict(dict[str, torch.Tensor]):
    """Tensors by name.

    Attributes:
        report: What `verify` found, where `load` made this; None of what is not signed.
    """

    report: Report | None = None


class LoadOptions(TypedDict, total=False):
    """What `load_into` takes as `load` does, which says what each is."""

    license: LicenseLike | None
    identity: IdentityLike | None
    policy: PolicyLike | None
    state: PathLike | None
    latest: LatestLike | None
    license_policy: Policy | None
    expect: Expect | None
    allow_trial: bool
    oms: Bundle | None
    original: bool
    map_location: torch.device | str | None
    workers: int | None
    executor: Executor | None
    max_size: int | None


class SignOptions(TypedDict, total=False):
    """What `save` takes as `nnguard.sign` does, which says what each is."""

    issuer: str
    name: str
    version: str
    release: int | None
    metadata: Mapping[str, str] | None
    issued_at: TimeLike | None
    localize: bool


def load(
    path: ModelLike,
    trust: Trust | None = None,
    *,
    policy: PolicyLike | None = None,
    state: PathLike | None = None,
    latest: LatestLike | None = None,
    license: LicenseLike | None = None,  # noqa: A002
    identity: IdentityLike | None = None,
    license_policy: Policy | None = None,
    expect: Expect | None = None,
    allow_trial: bool = False,
    oms: Bundle | None = None,
    original: bool = False,
    map_location: torch.device | str | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    max_size: int | None = None,
) -> StateDict:
    """Verify a stream, or a folder of shards, and decode it; unlock it first, with a license.

    The file is read once, and decoded from the very bytes that were verified. What a license
    unlocks is in memory only, never in a file.

    Args:
        path: A signed model, or, with a license, a trial; see `nnguard.verify`.
        trust: Trusted keys; see `nnguard.verify`.
        policy: Trust policy, in place of trusted keys; see `nnguard.verify`.
        state: State file, against older releases; see `nnguard.verify`.
        latest: Statement on which release is the newest; see `nnguard.verify`.
        license: Unlocks a trial; see `nnguard.unlock`.
        identity: The customer's private key, which goes with the license.
        license_policy: What else to ask of the license.
        expect: Claims that the release has to make; see `nnguard.verify`.
        allow_trial: Load a trial as it is, without a license.
        oms: A bundle of OpenSSF Model Signing that has to say the same of the files, which with a
            license are those of the trial; see `nnguard.verify`.
        original: Decode the original that was signed, without the signature in its weights, rather
            than the file as it is.
        map_location: Device that the tensors go to; the CPU, if None.
        workers: See `nnguard.decompress`.
        executor: See `nnguard.decompress`, and for a license `nnguard.unlock`.
        max_size: See `nnguard.decompress`.

    Returns:
        The state dict. What was signed is in its attribute `report`; None where a license opened
        what is not signed.

    Raises:
        NoRecordError: The file is not signed.
        WrongKeyError: It is signed by a key that is not trusted.
        VerificationError: It was changed after it was signed.
        PolicyError: The trust policy does not allow it.
        ClaimsError: It is another release than you expect.
        LockedTrialError: It is a trial, and there is no license.
        LicenseError: The license does not hold, or is of another stream.
        UnlockError: What was restored is not what was locked.
        FormatError: It is not a stream, or damaged.
        LimitError: A tensor is too large.
        ArgumentError: A license without an identity, or the other way round, or a
            `license_policy` without a license.
        OSError: It cannot be read.

    Examples:
        >>> state = nnguard.torch.load("release.nnc", "vendor.pub")
        >>> state["fc2.weight"].shape
        torch.Size([10, 120])
    """
    check_together(license, identity, license_policy)
    model = as_model(path, "path").in_memory()
    authority = authority_of(trust, policy, state, latest)
    report: Report | None = None
    judged: Report | None = None
    signed: tuple[Report, Model] | None = None
    digests: Mapping[str, Sequence[bytes]] = {}
    if license is not None and identity is not None:
        opened = unlock_by(
            authority,
            model,
            license,
            identity,
            license_policy=license_policy,
            oms=oms,
            workers=Workers(workers, executor),
        )
        model, digests, judged = opened.model, opened.digests, opened.judged
        signed = opened.signed
        allow_trial = True  # of a higher tier
    try:
        report, stripped = signed or verified(
            model,
            authority.keys,
            digests=digests,
            oms=oms if license is None else None,
            vouched=license is not None,
        )
        report = replace(report, oms=oms)
    except (FormatError, NoRecordError):  # what a license opens need not be signed
        if license is None or expect is not None or original:
            raise
    else:
        judged = report = authority.accept(report, expect, allow_trial=allow_trial)
    arrays = decompress_to_arrays(
        stripped if original else model,
        allow_trial=True,
        workers=workers,
        executor=executor,
        max_size=max_size,
        verified=True,
    )
    tensors = StateDict((name, as_tensor(array).to(map_location)) for name, array in arrays.items())
    if state is not None and judged is not None:
        judged = authority.judge(judged, remember=True)
    tensors.report = None if report is None else judged
    return tensors


def load_into(
    module: torch.nn.Module,
    path: ModelLike,
    trust: Trust | None = None,
    *,
    strict: bool = True,
    **options: Unpack[LoadOptions],
) -> Report | None:
    """Verify a stream, or a folder of shards, and load its weights into a module.

    A copy of the module's tensors is kept until all fit: PyTorch loads those that do, and then
    tells of those that do not.

    Args:
        module: Takes the weights.
        path: See `load`.
        trust: See `load`.
        strict: Names have to be the same on both sides.
        **options: Of `load`.

    Returns:
        The report of `load`.

    Raises:
        RuntimeError: Names or shapes do not fit the module.
        NnguardError: See `load`.

    After an error the module is as it was.

    Examples:
        >>> module = torch.nn.ModuleDict({"fc2": torch.nn.Linear(120, 10)})
        >>> report = nnguard.torch.load_into(module, "release.nnc", "vendor.pub", strict=False)
        >>> report.claims.name
        'digits'
    """
    state = load(path, trust, **options)
    own = [value for value in module.state_dict().values() if _has_values(value)]
    copies = [value.detach().to("cpu", copy=True) for value in own]
    try:
        module.load_state_dict(state, strict=strict)
    except BaseException:
        with torch.no_grad():
            for value, copy in zip(own, copies, strict=True):
                value.copy_(copy)
        raise
    return state.report


def save(
    model: torch.nn.Module | Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    *,
    signer: SignerLike | None = None,
    settings: Settings | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    **claims: Unpack[SignOptions],
) -> None:
    """Compress a module or a state dict to a file, signed if there is a key.

    Args:
        model: The module, or its state dict.
        path: The file to make.
        signer: Signs: a key, the path of one, or your own `Signer`.
        settings: See `nnguard.compress`.
        workers: See `nnguard.compress`.
        executor: See `nnguard.compress`.
        overwrite: Replace a file that is there already.
        **claims: Of `nnguard.sign`: issuer, name, version, metadata and so on.

    Raises:
        ModelError: See `nnguard.compress`.
        CapacityError: The signature does not fit into the network.
        FileExistsError: The file exists and `overwrite` is false.
        ArgumentError: There are claims and nobody to sign them.

    Examples:
        >>> linear = torch.nn.Linear(120, 10)
        >>> nnguard.torch.save(linear, "linear.nnc", signer="vendor.key", name="linear")
        >>> nnguard.verify("linear.nnc", "vendor.pub").claims.name
        'linear'
    """
    if claims and signer is None:
        raise ArgumentError(f"claims without a signer: {', '.join(claims)}")
    check_target(as_path(path), overwrite=overwrite)
    stream = compress(model, settings, workers=workers, executor=executor)
    if signer is not None:
        stream = sign(stream, signer, **claims)
    stream.save(path, overwrite=overwrite)


def decompress(
    model: ModelLike,
    *,
    allow_trial: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    max_size: int | None = None,
    verified: bool = False,
) -> StateDict:
    """Decode a model to a state dict; nothing is verified.

    Args and errors are those of `nnguard.decompress`.

    Examples:
        >>> nnguard.torch.decompress("model.nnc")["conv1.weight"].shape
        torch.Size([16, 1, 3, 3])
    """
    arrays = decompress_to_arrays(
        model,
        allow_trial=allow_trial,
        workers=workers,
        executor=executor,
        max_size=max_size,
        verified=verified,
    )
    return StateDict((name, as_tensor(array)) for name, array in arrays.items())


def importance(
    module: torch.nn.Module,
    batches: Iterable[Any],
    loss: Callable[[torch.nn.Module, Any], torch.Tensor],
) -> dict[str, npt.NDArray[np.float32]]:
    """Measure how much a network depends on each weight, for `nnguard.lock`.

    That is weight times gradient, root of the mean square over the batches: the change of the loss
    that takes the weight away, to first order.

    Args:
        module: The network. It is measured in evaluation mode, and left as it was.
        batches: Anything that `loss` takes.
        loss: Given the network and a batch, returns the loss, a scalar.

    Returns:
        For each parameter, by name, an array of its shape; for a tied one, by all of its names.
        Frozen parameters are left out.

    Examples:
        >>> linear = torch.nn.Linear(2, 1)
        >>> batches = [torch.ones(4, 2)]
        >>> found = nnguard.torch.importance(linear, batches, lambda net, batch: net(batch).sum())
        >>> found["weight"].shape
        (1, 2)
    """
    training = {part: part.training for part in module.modules()}
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
    count = 0
    module.eval()
    try:
        for batch in batches:
            value = loss(module, batch)
            gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                if gradient is not None:
                    sums[name] += (parameter.detach().float() * gradient.float()) ** 2
            count += 1
    finally:
        for part, mode in training.items():
            part.training = mode
    if not count:
        raise ArgumentError("there is no batch to measure with")
    found = {parameters[name]: (total / count).sqrt().cpu().numpy() for name, total in sums.items()}
    named = module.named_parameters(remove_duplicate=False)
    return {name: found[parameter] for name, parameter in named if parameter in found}


def evaluator(
    module: torch.nn.Module, score: Callable[[torch.nn.Module], float]
) -> Callable[[Mapping[str, Any]], float]:
    """Make the `evaluate` of `nnguard.lock` out of a module and a function that scores it.

    Args:
        module: Takes the weights to score; it keeps the last ones.
        score: Scores the module; higher is better.

    Examples:
        >>> linear = torch.nn.Linear(2, 1)
        >>> evaluate = nnguard.torch.evaluator(linear, lambda net: net.weight.sum().item())
        >>> evaluate({"weight": np.ones((1, 2), np.float32), "bias": np.zeros(1, np.float32)})
        2.0
    """

    def evaluate(state: Mapping[str, Any]) -> float:
        own = module.state_dict()
        tensors = {name: as_tensor(array) for name, array in state.items()}
        for name, tensor in tensors.items():  # the stock encoder makes scalars arrays of one
            if name in own and not own[name].ndim and tensor.numel() == 1:
                tensors[name] = tensor.reshape(())
        module.load_state_dict(tensors)
        return score(module)

    return evaluate


def _has_values(value: Any) -> bool:
    """Tell whether this is a tensor that can be copied: no extra state, nothing uninitialized."""
    return isinstance(value, torch.Tensor) and not (is_lazy(value) or value.is_meta)
