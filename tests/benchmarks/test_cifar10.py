"""CIFAR-10 is read from the forms that it is passed around in, and nothing else is."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cifar10  # noqa: E402

IMAGES = {"train": 15, "test": 4}
"""Far fewer than there are; the forms are the same."""


def part(name: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(len(name))
    count = IMAGES[name]
    return (
        rng.integers(256, size=(count, 3, 32, 32), dtype=np.uint8),
        rng.integers(10, size=count, dtype=np.uint8),
    )


def make_binary(folder: Path) -> Path:
    """Write the binary version: a byte of label, then red, green and blue of an image."""
    folder.mkdir()
    files = {f"data_batch_{n + 1}.bin": ("train", slice(3 * n, 3 * n + 3)) for n in range(5)}
    for file, (name, rows) in (files | {"test_batch.bin": ("test", slice(None))}).items():
        images, labels = part(name)
        flat = images[rows].reshape(len(images[rows]), -1)
        np.hstack([labels[rows, None], flat]).tofile(folder / file)
    return folder


def make_archive(folder: Path) -> Path:
    batches = make_binary(folder.with_name("cifar-10-batches-bin"))
    with tarfile.open(folder.with_name("cifar-10-binary.tar.gz"), "w:gz") as archive:
        archive.add(batches, batches.name)
    return folder.with_name("cifar-10-binary.tar.gz")


def make_arrays(folder: Path) -> Path:
    arrays = {}
    for name in IMAGES:
        images, labels = part(name)
        arrays |= {f"x_{name}": images.transpose(0, 2, 3, 1), f"y_{name}": labels[:, None]}
    np.savez(folder.with_name("cifar10.npz"), **arrays)
    return folder.with_name("cifar10.npz")


@pytest.mark.parametrize("make", [make_binary, make_archive, make_arrays])
@pytest.mark.parametrize("name", IMAGES)
def test_forms(tmp_path: Path, make: object, name: str) -> None:
    made = make(tmp_path / "data")  # type: ignore[operator]
    for path in (made, made.parent if make is not make_binary else made):
        images, labels = cifar10.load(path, name)
        np.testing.assert_array_equal(images, part(name)[0])
        np.testing.assert_array_equal(labels, part(name)[1])
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)


def test_test_set_alone(tmp_path: Path) -> None:
    images, labels = part("test")
    np.savez(tmp_path / "cifar10_test.npz", x=images.transpose(0, 2, 3, 1), y=labels)
    np.testing.assert_array_equal(cifar10.load(tmp_path, "test")[0], images)
    with pytest.raises(FileNotFoundError, match=r"cifar10\.npz"):
        cifar10.load(tmp_path, "train")


def test_what_is_not_cifar10_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    (tmp_path / "text.txt").write_text("no images")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "text.txt", "text.txt")
    folder = make_binary(tmp_path / "cut off")
    (folder / "test_batch.bin").write_bytes(bytes(3072))
    for path in ("other.npz", "text.txt", "other.tar.gz", "cut off"):
        with pytest.raises(ValueError, match="binary version"):
            cifar10.load(tmp_path / path, "test")
