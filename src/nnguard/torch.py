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
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.parameter import is_lazy

from nnguard._compression.compress import compress
from nnguard._compression.decompress import decompress as decompress_to_arrays
from nnguard._compression.settings import Settings
from nnguard._crypto.keys import Signer
from nnguard._crypto.trust import Trust
from nnguard._licensing.policy import LicenseLike, Policy
from nnguard._models.pytorch import as_tensor
from nnguard._models.stream_set import StreamSet
from nnguard._operations.sharded import strip_set, verify_and_strip_set
from nnguard._operations.sign import sign, strip
from nnguard._operations.unlock import IdentityLike, unlock, unlock_set
from nnguard._stream import Stream, StreamLike

__all__ = ["decompress", "evaluator", "importance", "load", "load_into", "save"]

StateDict = dict[str, torch.Tensor]


def load(
    path: str | os.PathLike[str],
    trust: Trust,
    *,
    license: LicenseLike | None = None,  # noqa: A002
    identity: IdentityLike | None = None,
    checks: Policy | None = None,
    original: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    max_size: int | None = None,
) -> StateDict:
    """Verify a stream, or a folder of shards, and decode it; unlock it first, with a license.

    The file is read once, and decoded from the very bytes that were verified. What a license
    unlocks is in memory only, never in a file.

    Args:
        path: A signed stream, or a folder of them; with a license, a trial of either kind.
        trust: Trusted keys; see `nnguard.verify`.
        license: Unlocks a trial; see `nnguard.unlock`.
        identity: The customer's private key, which goes with the license.
        checks: What else to ask of the license.
        original: Decode the original that was signed, without the signature in its weights, rather
            than the file as it is.
        workers: See `nnguard.decompress`.
        executor: See `nnguard.decompress`.
        max_size: See `nnguard.decompress`.

    Returns:
        The state dict, on the CPU.

    Raises:
        NoRecordError: The file is not signed.
        WrongKeyError: It is signed by a key that is not trusted.
        VerificationError: It was changed after it was signed.
        LicenseError: The license does not hold, or is of another stream.
        UnlockError: What was restored is not what was locked.
        FormatError: It is no stream, or damaged.
        LimitError: A tensor is too large.
        OSError: It cannot be read.
        TypeError: A license without an identity, or the other way round, or checks of no license.
    """
    if (license is None) != (identity is None):
        raise TypeError("a license and an identity belong together")
    if license is None and checks is not None:
        raise TypeError("there is no license to check")
    if license is not None and identity is not None:
        streams = _unlocked(path, trust, license, identity, checks, original=original)
    else:
        streams = _verified(path, trust, original=original)
    state: StateDict = {}
    for stream in streams:
        state |= decompress(
            stream, workers=workers, executor=executor, max_size=max_size, verified=True
        )
    return state


def load_into(
    module: torch.nn.Module,
    path: str | os.PathLike[str],
    trust: Trust,
    *,
    strict: bool = True,
    **options: Any,
) -> None:
    """Verify a stream, or a folder of shards, and load its weights into a module.

    A copy of the module's tensors is kept until all fit: PyTorch loads those that do, and then
    tells of those that do not.

    Args:
        module: Takes the weights.
        path: See `load`.
        trust: See `load`.
        strict: Names have to be the same on both sides.
        **options: Of `load`.

    Raises:
        RuntimeError: Names or shapes do not fit the module.
        NnguardError: See `load`.

    After an error the module is as it was.
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


def save(
    model: torch.nn.Module | Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    *,
    signer: Signer | None = None,
    settings: Settings | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    **claims: Any,
) -> None:
    """Compress a module or a state dict to a file, signed if there is a key.

    Args:
        model: The module, or its state dict.
        path: The file to make.
        signer: Signs: a key, or your own `Signer`.
        settings: See `nnguard.compress`.
        workers: See `nnguard.compress`.
        executor: See `nnguard.compress`.
        overwrite: Replace a file that is there already.
        **claims: Of `nnguard.sign`: issuer, name, version, metadata and so on.

    Raises:
        ModelError: See `nnguard.compress`.
        CapacityError: The signature does not fit into the network.
        FileExistsError: The file exists and `overwrite` is false.
        TypeError: There are claims and nobody to sign them.
    """
    if claims and signer is None:
        raise TypeError(f"claims without a signer: {', '.join(claims)}")
    if Path(path).exists() and not overwrite:
        raise FileExistsError(f"{os.fspath(path)} exists already")
    stream = compress(model, settings, workers=workers, executor=executor)
    if signer is not None:
        stream = sign(stream, signer, **claims)
    stream.save(path, overwrite=overwrite)


def decompress(
    stream: StreamLike,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    max_size: int | None = None,
    verified: bool = False,
) -> StateDict:
    """Decode a stream to a state dict; nothing is verified.

    Args and errors are those of `nnguard.decompress`.
    """
    arrays = decompress_to_arrays(
        stream, workers=workers, executor=executor, max_size=max_size, verified=verified
    )
    return {name: as_tensor(array) for name, array in arrays.items()}


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
        raise ValueError("there is no batch to measure with")
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


def _verified(path: str | os.PathLike[str], trust: Trust, *, original: bool) -> list[Stream]:
    """Return the streams of a file or folder, once their signatures have been checked."""
    if Path(path).is_dir():
        signed = StreamSet.open(path, in_memory=True)
        _, stripped = verify_and_strip_set(signed, trust, None)
        return list((stripped if original else signed).streams.values())
    stream = Stream.open(path).in_memory()
    without = strip(stream, trust)
    return [without if original else stream]


def _unlocked(
    path: str | os.PathLike[str],
    trust: Trust,
    license: LicenseLike,  # noqa: A002
    identity: IdentityLike,
    checks: Policy | None,
    *,
    original: bool,
) -> list[Stream]:
    """Return the streams that a license makes of a trial."""
    if Path(path).is_dir():
        trial = StreamSet.open(path, in_memory=True)
        unlocked = unlock_set(trial, license, identity, trust, checks=checks)
        streams = strip_set(unlocked, trust) if original else unlocked
        return list(streams.streams.values())
    stream = unlock(Stream.open(path).in_memory(), license, identity, trust, checks=checks)
    return [strip(stream, trust) if original else stream]
