"""PyTorch's tensors. Importing this loads torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nnguard._base.texts import shown
from nnguard._models.formats import FORMATS, TensorType
from nnguard._models.tensors import InMemory, Tensor, check_tensor
from nnguard.errors import ModelError

__all__ = ["as_tensor", "from_torch"]


def from_torch(name: Any, tensor: Any) -> Tensor:
    """Return a tensor of PyTorch as one to compress; it shares memory where that is possible.

    Raises:
        ModelError: Its number format or its kind is not coded.
        TypeError: It is not a tensor.
    """
    check_tensor(name, ())
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}, not a tensor")
    form = FORMATS.get(str(tensor.dtype).removeprefix("torch."))
    if form is None or tensor.layout != torch.strided or tensor.is_nested:
        what = str(tensor.dtype if form is None else tensor.layout).removeprefix("torch.")
        what = "nested" if tensor.is_nested else what
        raise ModelError(f"tensor {shown(name)} is {what}, which nnguard does not code")
    try:
        shape = tuple(tensor.shape)
        check_tensor(name, shape)
        if tensor.is_meta or (tensor.numel() and not tensor.untyped_storage().nbytes()):
            raise ModelError(f"tensor {shown(name)} has no values")
        flat = tensor.detach().cpu().resolve_neg().contiguous().reshape(-1)
        values = (flat.view(torch.int16) if form.name == "bfloat16" else flat).numpy()
    except (RuntimeError, NotImplementedError):  # in a transformation, not initialized, masked
        raise ModelError(f"tensor {shown(name)} has no values of its own") from None
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
