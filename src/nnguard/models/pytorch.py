"""PyTorch's tensors and checkpoints. Importing this loads torch."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nnguard.errors import ModelError
from nnguard.models.tensors import InMemory, Tensor, check_name
from nnguard.stream.formats import FORMATS, TensorType

__all__ = ["as_tensor", "from_torch", "read_checkpoint"]

_USUAL_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights", "params")
"""Where checkpoints keep the weights, beside an optimizer's state and the like."""


def read_checkpoint(path: str | os.PathLike[str]) -> list[Tensor]:
    """Return the tensors of a checkpoint.

    It is loaded with `weights_only`: nothing in it is executed. The weights are the mapping from
    names to tensors that it is, or that it holds under a usual key.

    Raises:
        ModelError: It holds anything else, code included.
        OSError: It cannot be read.
    """
    return [from_torch(name, value) for name, value in _weights(_load(path), path).items()]


def from_torch(name: Any, tensor: Any) -> Tensor:
    """Return a tensor of PyTorch as one to compress; it shares memory where that is possible.

    Raises:
        ModelError: Its number format is not coded, or it is sparse or quantized.
        TypeError: It is no tensor.
    """
    check_name(name)
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} is no tensor but {type(tensor).__name__}")
    form = FORMATS.get(str(tensor.dtype).removeprefix("torch."))
    if form is None or tensor.layout != torch.strided:
        what = str(tensor.dtype if form is None else tensor.layout).removeprefix("torch.")
        raise ModelError(f"tensor {name} is {what}, which nnguard does not code")
    if tensor.is_meta:
        raise ModelError(f"tensor {name} has no values: it is on the device meta")
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    values = (flat.view(torch.int16) if form.name == "bfloat16" else flat).numpy()
    shape = tuple(tensor.shape)
    kind = TensorType(form, scalar=not shape)
    return Tensor(name, kind, shape, InMemory(values.view(form.dtype)))


def as_tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """Return a tensor over the memory of an array, those of bfloat16 included.

    Raises:
        ModelError: This PyTorch has no such number format.
    """
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    try:
        return torch.from_numpy(array)
    except TypeError:
        raise ModelError(f"PyTorch {torch.__version__} has no {array.dtype.name}") from None


def _load(path: str | os.PathLike[str]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except (RuntimeError, ValueError):  # the format before PyTorch 1.6 cannot be mapped
                return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # The rest of PyTorch's text tells how to load it with the code in it.
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ModelError(
            f"{os.fspath(path)} is no checkpoint of weights alone"
            + (f": it asks for {found[1]}" if found else ""),
            hint="it may hold code, which nnguard never runs; save a state dict",
        ) from None
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise ModelError(f"{os.fspath(path)} is no PyTorch checkpoint: {reason}") from None
    except (ValueError, EOFError, KeyError, AttributeError, IndexError):
        raise ModelError(f"{os.fspath(path)} is no PyTorch checkpoint") from None


def _weights(loaded: Any, path: str | os.PathLike[str]) -> Mapping[str, Any]:
    if _is_state_dict(loaded):
        return dict(loaded)
    if isinstance(loaded, Mapping):
        for key in _USUAL_KEYS:
            if _is_state_dict(loaded.get(key)):
                return dict(loaded[key])
    held = sorted(map(str, loaded)) if isinstance(loaded, Mapping) else type(loaded).__name__
    raise ModelError(
        f"{os.fspath(path)} holds no state dict: {held}",
        hint="load it with torch and pass the mapping from names to tensors",
    )


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) for name in value)
        and all(isinstance(tensor, torch.Tensor) for tensor in value.values())
    )
