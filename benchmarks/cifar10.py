"""CIFAR-10 in the forms that it is passed around in."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["FORMS", "TEST_SET", "load"]

FORMS = (
    "CIFAR-10: the binary version, as cifar-10-binary.tar.gz or unpacked, or a NumPy file of "
    "x_train, y_train, x_test, y_test; or a folder with one of these"
)

TEST_SET = "cifar10_test.npz"
_IN_FOLDERS = ("cifar10.npz", "cifar-10-batches-bin", "cifar-10-binary.tar.gz")
_BATCHES = {"train": [f"data_batch_{n}.bin" for n in range(1, 6)], "test": ["test_batch.bin"]}
_SHAPE = (3, 32, 32)
_ROW = 1 + 3 * 32 * 32


def load(path: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return images, uint8 of shape (n, 3, 32, 32), and their labels, int64 of shape (n,).

    Args:
        path: One of `FORMS`.
        part: "train" or "test".

    Raises:
        FileNotFoundError: There is no such file, or a folder has nothing of these.
        ValueError: The file is none of these forms.
    """
    path = _find(path, part)
    if path.suffix == ".npz":
        images, labels = _arrays(path, part)
    else:
        rows = np.frombuffer(_binary(path, part), np.uint8)
        if rows.size == 0 or rows.size % _ROW:
            raise ValueError(f"{path}: not {FORMS}")
        rows = rows.reshape(-1, _ROW)
        images, labels = rows[:, 1:].reshape(-1, *_SHAPE), rows[:, 0]
    return (
        torch.from_numpy(np.ascontiguousarray(images)),
        torch.from_numpy(labels.astype(np.int64).reshape(-1)),
    )


def _find(path: Path, part: str) -> Path:
    """Return the file, or the folder of batches, to read a part from."""
    if not path.is_dir() or (path / _BATCHES[part][0]).is_file():
        return path
    names = [TEST_SET, *_IN_FOLDERS] if part == "test" else _IN_FOLDERS
    for name in names:
        if (path / name).exists():
            return path / name
    raise FileNotFoundError(f"{path}: has no {', '.join(names)}")


def _arrays(path: Path, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    with np.load(path) as arrays:
        names = ("x", "y") if path.name == TEST_SET else (f"x_{part}", f"y_{part}")
        try:
            images, labels = (arrays[name] for name in names)
        except KeyError as error:
            raise ValueError(f"{path}: not {FORMS}") from error
    return images.transpose(0, 3, 1, 2), labels


def _binary(path: Path, part: str) -> bytes:
    """Return the batches of a part: rows of a label and 3,072 bytes."""
    if path.is_dir():
        return b"".join((path / name).read_bytes() for name in _BATCHES[part])
    try:
        with tarfile.open(path) as archive:
            members = {Path(name).name: name for name in archive.getnames()}
            files = [archive.extractfile(members[name]) for name in _BATCHES[part]]
            return b"".join(file.read() for file in files if file is not None)
    except (tarfile.TarError, KeyError) as error:
        raise ValueError(f"{path}: not {FORMS}") from error
