"""Opening whatever holds a model: a mapping, a module, a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from nnguard._base.arguments import wrong_type
from nnguard._models.checkpoints import read_checkpoint
from nnguard._models.safetensors import read_safetensors
from nnguard._models.tensors import Tensor, from_arrays
from nnguard._stream.kinds import CHECKPOINT, SAFETENSORS, recognize
from nnguard._stream.source import FileSource
from nnguard.errors import ModelError

__all__ = ["MODEL_SUFFIXES", "HasStateDict", "WeightsLike", "files_of_weights", "open_weights"]

MODEL_SUFFIXES = (*SAFETENSORS.suffixes, *CHECKPOINT.suffixes)
"""Names of files that `open_weights` reads end like this."""


class HasStateDict(Protocol):
    """A PyTorch module, or what looks like one."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return tensors by name."""


WeightsLike = Mapping[str, Any] | HasStateDict | str | os.PathLike[str]
"""A model: arrays or PyTorch tensors by name, a module, or the path of a file."""


def files_of_weights(path: str | os.PathLike[str]) -> list[Path]:
    """Return a file that `open_weights` reads, or those of a folder that has no streams.

    Args:
        path: File, by its name, or folder, by the names of what is in it.
    """
    path = Path(path)
    if not path.is_dir():
        return [path] if path.suffix.lower() in MODEL_SUFFIXES else []
    files = sorted(path.iterdir())
    if any(file.suffix.lower() == ".nnc" for file in files):
        return []
    return [file for file in files if file.suffix.lower() in MODEL_SUFFIXES]


def open_weights(model: WeightsLike) -> list[Tensor]:
    """Return the tensors of a model; those of a file are not read yet.

    Args:
        model: A mapping from names to NumPy arrays or PyTorch tensors, a PyTorch module, or the
            path of a safetensors file or a PyTorch checkpoint; neither needs PyTorch.

    Raises:
        ModelError: It cannot be read, or holds no tensors.
        LimitError: A file asks for more memory or work than it is worth.
        OSError: The file cannot be read.
        TypeError: It is none of these.
    """
    tensors = _open(model)
    if not tensors:
        raise ModelError("the model has no tensors")
    return tensors


def _open(model: WeightsLike) -> list[Tensor]:
    if isinstance(model, (str, os.PathLike)):
        return _open_file(model)
    return _open_tensors(model if isinstance(model, Mapping) else _state_of(model))


def _state_of(module: object) -> Mapping[str, Any]:
    state_dict = getattr(module, "state_dict", None)
    state = state_dict() if callable(state_dict) else None
    if not isinstance(state, Mapping):
        raise wrong_type("model", "a mapping, a PyTorch module or a path", module)
    return state


def _open_tensors(state: Mapping[str, Any]) -> list[Tensor]:
    if any(hasattr(value, "detach") for value in state.values()):
        from nnguard._models.pytorch import from_torch

        return [
            from_torch(name, value) if hasattr(value, "detach") else from_arrays({name: value})[0]
            for name, value in state.items()
        ]
    return from_arrays(state)


def _open_file(path: str | os.PathLike[str]) -> list[Tensor]:
    """Read a file as what its name says; an error says what it is instead, where that shows."""
    suffix = Path(path).suffix.lower()
    try:
        if suffix in SAFETENSORS.suffixes:
            return read_safetensors(path)
        if suffix in CHECKPOINT.suffixes:
            return read_checkpoint(path)
        raise ModelError(
            f"{os.fspath(path)}: cannot tell what kind of model this is",
            hint="names end in " + ", ".join(MODEL_SUFFIXES),
        )
    except ModelError:
        kind = recognize(FileSource(path))
        if kind is None or suffix in kind.suffixes:
            raise
        hint = (
            f"its name has to end in {' or '.join(kind.suffixes)}" if kind.suffixes else kind.hint
        )
        raise ModelError(f"{os.fspath(path)} is {kind.what}", hint=hint) from None
