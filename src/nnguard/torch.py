"""State dicts and modules: verify before loading, load what was verified. Needs PyTorch.

state = nnguard.torch.load("release.nnc", trust=["vendor.pub"])
nnguard.torch.load_into(module, "release.nnc", trust=["vendor.pub"])
nnguard.torch.save(module, "release.nnc", signer=key, name="resnet56", version="1.0")
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch

from nnguard.compression.compress import compress
from nnguard.compression.decompress import MAX_WEIGHTS, coded_tensors, decode_tensors
from nnguard.compression.settings import Settings
from nnguard.crypto.keys import Signer, Trust, load_trust
from nnguard.models.pytorch import to_torch
from nnguard.shards import StreamSet, verify_and_strip_set
from nnguard.signing import sign, verify_and_strip
from nnguard.stream import Stream, StreamLike, as_stream

__all__ = ["decompress", "load", "load_into", "save"]

StateDict = dict[str, torch.Tensor]


def load(
    path: str | os.PathLike[str],
    trust: Trust,
    *,
    original: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    max_weights: int = MAX_WEIGHTS,
) -> StateDict:
    """Verify a stream, or a folder of shards, and decode it.

    The file is read once, and decoded from the very bytes that were verified.

    Args:
        path: A signed stream, or a folder of them.
        trust: Trusted keys; see `nnguard.verify`.
        original: Decode the original that was signed, without the signature in its weights, rather
            than the file as it is.
        workers: See `nnguard.decompress`.
        executor: See `nnguard.decompress`.
        max_weights: See `nnguard.decompress`.

    Returns:
        The state dict, on the CPU.

    Raises:
        NoRecordError: The file is not signed.
        WrongKeyError: It is signed by a key that is not trusted.
        VerificationError: It was changed after it was signed.
        FormatError: It is no stream, or damaged.
        LimitError: A tensor is too large.
        OSError: It cannot be read.
    """
    if Path(path).is_dir():
        signed = StreamSet.open(path, in_memory=True)
        _, stripped = verify_and_strip_set(signed, trust, None)
        streams = list((stripped if original else signed).streams.values())
    else:
        stream = Stream.from_bytes(Path(path).read_bytes())
        _, without = verify_and_strip(stream, load_trust(trust), None)
        streams = [without if original else stream]
    state: StateDict = {}
    for stream in streams:
        state |= decompress(stream, workers=workers, executor=executor, max_weights=max_weights)
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

    Args:
        module: Takes the weights.
        path: See `load`.
        trust: See `load`.
        strict: Names have to be the same on both sides.
        **options: Of `load`.

    Raises:
        RuntimeError: Names or shapes do not fit the module.
        NnguardError: See `load`; the module is as it was.
    """
    module.load_state_dict(load(path, trust, **options), strict=strict)


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
    max_weights: int = MAX_WEIGHTS,
) -> StateDict:
    """Decode a stream to a state dict; nothing is verified.

    Args and errors are those of `nnguard.decompress`.
    """
    stream = as_stream(stream)
    tensors = coded_tensors(stream, max_weights)
    values = decode_tensors(stream, tensors, workers, executor, None)
    return {
        tensor.header.name: to_torch(tensor.type, tensor.shape, flat)
        for tensor, flat in zip(tensors, values, strict=True)
    }
