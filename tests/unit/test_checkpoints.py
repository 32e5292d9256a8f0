"""PyTorch checkpoints: weights are found where people keep them, and code in them never runs."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnguard

torch = pytest.importorskip("torch")


class Payload:
    """What an attacker puts into a checkpoint: loading it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def state() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(8, 3, 3, 3, generator=generator),
        "conv.bias": torch.randn(8, generator=generator),
        "bn.num_batches_tracked": torch.tensor(1234),
    }


def check(path: Path, state: dict[str, Any]) -> None:
    """Check that a checkpoint is compressed like the state dict that it holds."""
    stream = nnguard.compress(path)
    assert bytes(stream) == bytes(nnguard.compress(state))
    found = nnguard.decompress(stream)
    assert list(found) == list(state)
    assert found["bn.num_batches_tracked"] == 1234
    assert found["bn.num_batches_tracked"].shape == ()
    assert np.abs(found["conv.weight"] - state["conv.weight"].numpy()).max() < 0.005


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "ckpt", "PT"])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dict_of_every_age(
    tmp_path: Path, suffix: str, zipped: bool, state: dict[str, Any]
) -> None:
    path = tmp_path / f"model.{suffix}"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    check(path, state)


@pytest.mark.parametrize(
    "key", ["state_dict", "model_state_dict", "model_state", "model", "net", "weights", "params"]
)
def test_weights_beside_the_state_of_training(
    tmp_path: Path, key: str, state: dict[str, Any]
) -> None:
    weight = torch.nn.Parameter(state["conv.weight"].clone())
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    checkpoint = {"epoch": 90, "best": 0.91, "optimizer": optimizer.state_dict(), key: state}
    torch.save(checkpoint, tmp_path / "last.pth")
    check(tmp_path / "last.pth", state)


def test_parameters_and_shared_tensors(tmp_path: Path) -> None:
    module = torch.nn.Linear(4, 3)
    tied = {"in": module.weight, "out": module.weight, "half": module.weight[:1]}
    torch.save(tied, tmp_path / "tied.pt")
    found = nnguard.decompress(nnguard.compress(tmp_path / "tied.pt"))
    assert np.array_equal(found["in"], found["out"])
    assert found["half"].shape == (1, 4)
    assert np.abs(found["in"] - module.weight.detach().numpy()).max() < 0.005


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_never_runs(
    tmp_path: Path, zipped: bool, state: dict[str, Any]
) -> None:
    marker = tmp_path / "it ran"
    checkpoint = {"state_dict": state, "extra": Payload(marker)}
    torch.save(checkpoint, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(nnguard.ModelError, match=r"evil\.pt is no checkpoint of weights") as caught:
        nnguard.compress(tmp_path / "evil.pt")
    assert not marker.exists()
    assert "mkdir" in str(caught.value), "it says what was asked for"
    assert "state dict" in caught.value.hint
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert marker.exists(), "the payload works where it is let"


def test_nobody_is_told_to_run_the_code(tmp_path: Path) -> None:
    """PyTorch's own message says how."""
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(nnguard.ModelError, match=r"module\.pt.*Linear") as caught:
        nnguard.compress(tmp_path / "module.pt")
    told = str(caught.value) + caught.value.hint
    assert "weights_only" not in told
    assert "\x1b" not in told


def write_cut(path: Path, *, zipped: bool) -> None:
    torch.save({"w": torch.ones(1000)}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_bytes(b"hello, this is no checkpoint" * 10)
    (tmp_path / "noise.pt").write_bytes(np.random.default_rng(0).bytes(1000))
    (tmp_path / "empty.pt").write_bytes(b"")
    write_cut(tmp_path / "cut.pt", zipped=True)
    write_cut(tmp_path / "cut_legacy.pt", zipped=False)
    with zipfile.ZipFile(tmp_path / "archive.pt", "w") as archive:
        archive.writestr("model/a", "b")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(nnguard.ModelError, match=re.escape(path.name)) as caught:
            nnguard.compress(path)
        assert len(str(caught.value).removeprefix(str(path))) < 150


@pytest.mark.parametrize(
    ("held", "named"),
    [
        ({"epoch": 3, "lr": {"a": 1}}, "epoch"),
        ({}, "no state dict"),
        ({"state_dict": {}}, "state_dict"),
        ([1, 2], "list"),
        ({"state_dict": {"a": 1}}, "state_dict"),
        ({7: 1.5}, "7"),
    ],
)
def test_checkpoint_without_weights(tmp_path: Path, held: object, named: str) -> None:
    torch.save(held, tmp_path / "model.pt")
    with pytest.raises(nnguard.ModelError, match=r"model\.pt holds no state dict") as caught:
        nnguard.compress(tmp_path / "model.pt")
    assert named in str(caught.value)
    assert "mapping" in caught.value.hint


def test_names_are_text(tmp_path: Path) -> None:
    torch.save({1: torch.ones(2)}, tmp_path / "model.pt")
    with pytest.raises(nnguard.ModelError, match="no state dict"):
        nnguard.compress(tmp_path / "model.pt")


@pytest.mark.parametrize("dtype", ["complex64", "float8_e5m2"])
def test_number_format_that_is_not_coded(tmp_path: Path, dtype: str) -> None:
    torch.save({"odd": torch.ones(3).to(getattr(torch, dtype))}, tmp_path / "model.pt")
    with pytest.raises(nnguard.ModelError, match=f"odd is {dtype}"):
        nnguard.compress(tmp_path / "model.pt")


def test_tensors_that_are_not_dense(tmp_path: Path) -> None:
    torch.save({"odd": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(nnguard.ModelError, match="odd is sparse_coo"):
        nnguard.compress(tmp_path / "sparse.pt")
    torch.save({"odd": torch.ones(3, device="meta")}, tmp_path / "meta.pt")
    with pytest.raises(nnguard.ModelError, match="odd has no values"):
        nnguard.compress(tmp_path / "meta.pt")


def test_missing_file_is_the_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        nnguard.compress(tmp_path / "missing.pt")


@pytest.mark.parametrize("name", ["model", "model.onnx", "model.h5", "model.nnc"])
def test_other_names_are_no_models(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(nnguard.ModelError, match="what kind of model") as caught:
        nnguard.compress(tmp_path / name)
    assert ".safetensors" in caught.value.hint
    assert ".pth" in caught.value.hint
