"""PyTorch checkpoints: weights are found where people keep them, and code in them never runs."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnguard
from nnguard._models.checkpoints import read_checkpoint
from nnguard._models.pickles import Pickle

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
    with pytest.raises(
        nnguard.errors.ModelError, match=r"evil\.pt: it is not a checkpoint of weights"
    ) as caught:
        nnguard.compress(tmp_path / "evil.pt")
    assert not marker.exists()
    assert "mkdir" in str(caught.value), "it says what was asked for"
    assert "state dict" in caught.value.hint
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert marker.exists(), "the payload works where it is let"


def test_nobody_is_told_to_run_the_code(tmp_path: Path) -> None:
    """PyTorch's own message says how."""
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(nnguard.errors.ModelError, match=r"module\.pt.*Linear") as caught:
        nnguard.compress(tmp_path / "module.pt")
    told = str(caught.value) + caught.value.hint
    assert "weights_only" not in told
    assert "\x1b" not in told


def write_cut(path: Path, *, zipped: bool) -> None:
    torch.save({"w": torch.ones(1000)}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_bytes(b"hello, this is not a checkpoint" * 10)
    (tmp_path / "noise.pt").write_bytes(np.random.default_rng(0).bytes(1000))
    (tmp_path / "empty.pt").write_bytes(b"")
    write_cut(tmp_path / "cut.pt", zipped=True)
    write_cut(tmp_path / "cut_legacy.pt", zipped=False)
    with zipfile.ZipFile(tmp_path / "archive.pt", "w") as archive:
        archive.writestr("model/a", "b")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(nnguard.errors.ModelError, match=re.escape(path.name)) as caught:
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
    with pytest.raises(
        nnguard.errors.ModelError, match=r"model\.pt: it holds no state dict"
    ) as caught:
        nnguard.compress(tmp_path / "model.pt")
    assert named in str(caught.value)
    assert "mapping" in caught.value.hint


def test_names_are_text(tmp_path: Path) -> None:
    torch.save({1: torch.ones(2)}, tmp_path / "model.pt")
    with pytest.raises(nnguard.errors.ModelError, match="no state dict"):
        nnguard.compress(tmp_path / "model.pt")


@pytest.mark.parametrize("dtype", ["complex64", "float8_e5m2"])
def test_number_format_that_is_not_coded(tmp_path: Path, dtype: str) -> None:
    torch.save({"odd": torch.ones(3).to(getattr(torch, dtype))}, tmp_path / "model.pt")
    with pytest.raises(nnguard.errors.ModelError, match=f"odd is {dtype}"):
        nnguard.compress(tmp_path / "model.pt")


def test_tensors_that_are_not_dense(tmp_path: Path) -> None:
    torch.save({"odd": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(nnguard.errors.ModelError, match="odd is sparse"):
        nnguard.compress(tmp_path / "sparse.pt")
    torch.save({"odd": torch.ones(3, device="meta")}, tmp_path / "meta.pt")
    with pytest.raises(nnguard.errors.ModelError, match="odd is on the device meta"):
        nnguard.compress(tmp_path / "meta.pt")


def test_missing_file_is_the_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        nnguard.compress(tmp_path / "missing.pt")


@pytest.mark.parametrize("name", ["model", "model.onnx", "model.h5", "model.nnc"])
def test_other_names_are_no_models(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(nnguard.errors.ModelError, match="what kind of model") as caught:
        nnguard.compress(tmp_path / name)
    assert ".safetensors" in caught.value.hint
    assert ".pth" in caught.value.hint


def values(path: Path) -> dict[str, Any]:
    """Return what nnguard reads of a checkpoint, before anything is coded."""
    return {
        tensor.name: (tensor.type.format.name, tensor.shape, tensor.values.read(0, tensor.size))
        for tensor in read_checkpoint(path)
    }


def as_torch_reads(path: Path) -> None:
    """Check that a checkpoint is to nnguard what it is to PyTorch."""
    loaded = torch.load(path, weights_only=True)
    found = values(path)
    assert list(found) == list(loaded)
    for name, tensor in loaded.items():
        form, shape, array = found[name]
        flat = tensor.detach().resolve_neg().contiguous().reshape(-1)
        flat = flat.view(torch.int16) if form == "bfloat16" else flat
        assert (f"torch.{form}", shape) == (str(tensor.dtype), tuple(tensor.shape))
        assert array.tobytes() == flat.numpy().tobytes()


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_those_that_pytorch_reads(tmp_path: Path, zipped: bool) -> None:
    base = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
    module = torch.nn.Linear(3, 2)
    module.weight.note = "a parameter with an attribute"
    state = {
        "whole": base,
        "transposed": base.t(),
        "strided": base[1::3, 1::2],
        "row": base[3],
        "one": base[3, 5],
        "expanded": base[:1].expand(5, 8),
        "none": base[:0],
        "channels_last": base.reshape(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "parameter": module.weight,
        **{
            name: torch.arange(6).reshape(2, 3).to(getattr(torch, name))
            for name in ("bool", "uint8", "int8", "int16", "int64", "float16", "float64")
        },
        "bfloat16": base.to(torch.bfloat16).t(),
    }
    if zipped:
        state |= {name: torch.arange(6).to(getattr(torch, name)) for name in ("uint16", "uint64")}
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    as_torch_reads(tmp_path / "model.pt")


def test_parts_of_strided_tensors(tmp_path: Path) -> None:
    base = torch.randn(40, 30)
    torch.save({"w": base.t()}, tmp_path / "model.pt")
    (tensor,) = read_checkpoint(tmp_path / "model.pt")
    flat = base.t().contiguous().reshape(-1).numpy()
    for run in (tensor.values, tensor.values.in_order()):
        assert np.array_equal(run.read(100, 777), flat[100:777])


def test_checkpoint_of_a_machine_with_the_other_byte_order(tmp_path: Path) -> None:
    state = {"w": torch.randn(5), "t": torch.randn(2, 3).t(), "i": torch.arange(3)}
    torch.save(state, tmp_path / "little.pt")
    with (
        zipfile.ZipFile(tmp_path / "little.pt") as little,
        zipfile.ZipFile(tmp_path / "model.pt", "w") as big,
    ):
        for name in little.namelist():
            data = little.read(name)
            size = 8 if name.endswith("data/2") else 4
            if name.endswith("byteorder"):
                data = b"big"
            elif "/data/" in name:
                data = np.frombuffer(data, f"<i{size}").byteswap().tobytes()
            big.writestr(name, data)
    as_torch_reads(tmp_path / "model.pt")


def test_checkpoints_are_read_without_pytorch(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(4, 4)}, tmp_path / "model.pt")
    code = (
        "import sys, nnguard\n"
        "nnguard.compress(sys.argv[1])\n"
        "assert 'torch' not in sys.modules and 'pickle' not in nnguard._models.pickles.__dict__\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.pt"], check=True)


def write_archive(
    path: Path, members: list[tuple[str, bytes]], *, method: int = 0, local: int | None = None
) -> None:
    """Write a zip archive, whose members may be said to be what they are not.

    Method 8 is deflate with stored blocks: readable by any inflater, and plain to see.
    """
    data, directory = b"", b""
    for name, content in members:
        packed = content
        if method == 8:
            packed = b"\1" + struct.pack("<HH", len(content), len(content) ^ 0xFFFF) + content
        sizes = zlib.crc32(content), len(packed), len(content), len(name)
        own = method if local is None else local
        head = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, own, 0, 0, *sizes, 0)
        directory += struct.pack("<4sHHHHHHIII", b"PK\1\2", 20, 20, 0, method, 0, 0, *sizes[:3])
        directory += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, len(data)) + name.encode()
        data += head + name.encode() + packed
    count = len(members)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), len(data), 0)
    path.write_bytes(data + directory + end)


@pytest.fixture
def members(tmp_path: Path, state: dict[str, Any]) -> list[tuple[str, bytes]]:
    return members_of(state, tmp_path)


def members_of(state: dict[str, Any], tmp_path: Path) -> list[tuple[str, bytes]]:
    torch.save(state, tmp_path / "original.pt")
    with zipfile.ZipFile(tmp_path / "original.pt") as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def test_protocols_that_pytorch_does_not_load_safely(tmp_path: Path, state: dict[str, Any]) -> None:
    torch.save(state, tmp_path / "model.pt", pickle_protocol=4)
    with pytest.raises(nnguard.errors.ModelError, match="has protocol 4") as caught:
        nnguard.compress(tmp_path / "model.pt")
    assert "pickle_protocol" in caught.value.hint


def test_archive_that_other_tools_stored(
    tmp_path: Path, members: list[tuple[str, bytes]], state: dict[str, Any]
) -> None:
    write_archive(tmp_path / "model.pt", members)
    check(tmp_path / "model.pt", state)


def test_nothing_may_stand_before_an_archive(
    tmp_path: Path, members: list[tuple[str, bytes]]
) -> None:
    """PyTorch refuses it; other tools see a file of another kind."""
    with (tmp_path / "model.pt").open("wb") as file:
        file.write(b"PK" + bytes(98))
        with zipfile.ZipFile(file, "w") as archive:  # its offsets count from the file's beginning
            for name, data in members:
                archive.writestr(name, data)
    with pytest.raises(nnguard.errors.ModelError, match="malformed"):
        nnguard.compress(tmp_path / "model.pt")


def test_names_are_found_without_regard_to_case_as_pytorch_finds_them(
    tmp_path: Path, members: list[tuple[str, bytes]]
) -> None:
    changed = [
        (name.replace("byteorder", "ByteOrder"), b"big" if name.endswith("byteorder") else data)
        for name, data in members
    ]
    write_archive(tmp_path / "model.pt", changed)
    expected = torch.load(tmp_path / "model.pt")["conv.weight"]
    (tensor,) = (t for t in read_checkpoint(tmp_path / "model.pt") if t.name == "conv.weight")
    assert tensor.values.read(0, tensor.size).tobytes() == expected.numpy().tobytes()


def test_name_that_ends_where_pytorch_stops_reading_it(tmp_path: Path) -> None:
    """PyTorch takes `data/0`, other tools `data/0\\0x`."""
    (name, pickle), *rest = members_of({"w": torch.arange(4.0)}, tmp_path)
    pickle = pickle.replace(b"X\1\0\0\x000", b"X\3\0\0\x000\0x")
    folder = name.partition("/")[0]
    other = (f"{folder}/data/0\0x", np.full(4, 7, np.float32).tobytes())
    write_archive(tmp_path / "model.pt", [(name, pickle), *rest, other])
    with pytest.raises(nnguard.errors.ModelError, match="malformed"):
        nnguard.compress(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        ((2, 2, 1), (1, 2, 1 << 62)),
        ((1, 2, 2), (1 << 61, 1, 2)),
        ((0, 5), (1 << 62, 3)),
    ],
)
def test_strides_that_nothing_steps_by(
    tmp_path: Path, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    expected = torch.as_strided(torch.arange(64.0), shape, stride)
    torch.save({"w": expected}, tmp_path / "model.pt")
    (tensor,) = read_checkpoint(tmp_path / "model.pt")
    assert tensor.shape == shape
    assert tensor.values.read(0, tensor.size).tobytes() == expected.contiguous().numpy().tobytes()


def test_views_that_are_spread_over_far_more_than_they_hold(tmp_path: Path) -> None:
    base = torch.zeros(1 << 20)
    far = {f"w{i}": torch.as_strided(base, (2, 2), (1, base.numel() - 2)) for i in range(100)}
    torch.save(far, tmp_path / "model.pt")
    with pytest.raises(nnguard.errors.LimitError, match="bytes to read"):
        nnguard.compress(tmp_path / "model.pt")


def test_compressed_checkpoint_is_refused_rather_than_read_as_it_lies(
    tmp_path: Path, members: list[tuple[str, bytes]], state: dict[str, Any]
) -> None:
    """PyTorch inflates it, or takes the compressed bytes for weights where it maps the file."""
    path = tmp_path / "model.pt"
    write_archive(path, members, method=8)
    assert torch.equal(torch.load(path)["conv.weight"], state["conv.weight"])
    with pytest.raises(
        nnguard.errors.ModelError, match=r"model\.pt: its archive is compressed"
    ) as caught:
        nnguard.compress(path)
    assert "torch.save" in caught.value.hint
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    with pytest.raises(nnguard.errors.ModelError, match="is compressed"):
        nnguard.compress(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\0",
        lambda data: b"\0" + data,
        lambda data: b"PK\3\4" + data,
        lambda data: data[:-2] + b"\1\0c",
        lambda data: data[:-10] + struct.pack("<I", 1 << 31) + data[-6:],
        lambda data: data[:-12] + b"\1\0" + data[-10:],
        lambda data: data.replace(b"PK\1\2", b"PK\1\3", 1),
        lambda data: data.replace(b"PK\3\4", b"PK\3\5"),
        lambda data: data.replace(b"data/0", b"data/1", 1),
        lambda data: data.replace(b"data/0", b"data/9"),
        lambda data: data.replace(b"data/1", b"data/0"),
        lambda data: data.replace(b"data.pkl", b"data.pkx"),
    ],
)
def test_archives_that_two_readers_could_read_in_two_ways(
    tmp_path: Path, members: list[tuple[str, bytes]], change: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "model.pt"
    write_archive(path, members)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(nnguard.errors.ModelError, match=r"model\.pt"):
        nnguard.compress(path)


def test_local_header_that_says_something_else(
    tmp_path: Path, members: list[tuple[str, bytes]]
) -> None:
    write_archive(tmp_path / "model.pt", members, local=8)
    with pytest.raises(nnguard.errors.ModelError, match="malformed"):
        nnguard.compress(tmp_path / "model.pt")
    write_archive(tmp_path / "model.pt", [*members, members[0]])
    with pytest.raises(nnguard.errors.ModelError, match="twice"):
        nnguard.compress(tmp_path / "model.pt")
    upper = members[0][0].replace("data.pkl", "DATA.PKL")
    write_archive(tmp_path / "model.pt", [*members, (upper, members[0][1])])
    with pytest.raises(nnguard.errors.ModelError, match="twice"):
        nnguard.compress(tmp_path / "model.pt")


def test_member_that_is_said_to_be_a_folder(
    tmp_path: Path, members: list[tuple[str, bytes]], state: dict[str, Any]
) -> None:
    """PyTorch reads nothing of it, and gives whatever is in memory."""
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr(members[0][0].partition("/")[0] + "/", b"")
        for name, data in members:
            archive.writestr(name, data)
    check(tmp_path / "model.pt", state)
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for name, data in members:
            member = zipfile.ZipInfo(name)
            member.external_attr = 0x10 if name.endswith("data/0") else 0
            archive.writestr(member, data)
    with pytest.raises(nnguard.errors.ModelError, match="malformed"):
        nnguard.compress(tmp_path / "model.pt")


def test_checkpoint_that_is_cut_short_while_it_is_read(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1 << 20)}, tmp_path / "model.pt")
    (tensor,) = read_checkpoint(tmp_path / "model.pt")
    os.truncate(tmp_path / "model.pt", 1000)
    with pytest.raises(nnguard.errors.ModelError, match="became shorter"):
        tensor.values.read(0, tensor.size)


@pytest.mark.parametrize("zipped", [True, False])
def test_views_that_make_much_of_little(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.pt"

    def save(state: dict[str, Any]) -> None:
        torch.save(state, path, _use_new_zipfile_serialization=zipped)

    one = torch.zeros(1)
    save({f"w{index}": one.expand(1 << 26) for index in range(10)})
    assert path.stat().st_size < 10_000
    with pytest.raises(nnguard.errors.LimitError, match="w0 has 67108864 values, made of 4 bytes"):
        nnguard.compress(path)
    save({"w": one.expand(1 << 45)})
    with pytest.raises(nnguard.errors.ModelError, match="no stream can hold"):
        nnguard.compress(path)
    save({"w": one.expand(*[1 << 20] * 3)})
    with pytest.raises(nnguard.errors.ModelError, match="ends at"):
        nnguard.compress(path)
    save({f"w{index}": one.expand(1 << 18) for index in range(100)})
    with pytest.raises(nnguard.errors.LimitError, match="its tensors have 104857600 bytes"):
        nnguard.compress(path)
    save({"w": torch.ones(100, 1).expand(100, 100)})
    assert nnguard.decompress(nnguard.compress(path))["w"].shape == (100, 100)


class Described:
    """Something whose pickle calls a function of PyTorch with whatever arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def write_described(path: Path, size: int, *arguments: Any) -> None:
    """Write a checkpoint whose one tensor has a storage, and a description of our own."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return value if isinstance(value, tuple) and value[:1] == ("storage",) else None

    storage = ("storage", torch.FloatStorage, "0", "cpu", size)
    with (path.parent / "data.pkl").open("wb") as file:
        rebuilt = Described(torch._utils._rebuild_tensor, storage, *arguments)
        Pickler(file, protocol=2).dump({"w": rebuilt})
    data = (path.parent / "data.pkl").read_bytes()
    write_archive(path, [("m/data.pkl", data), ("m/data/0", bytes(40)), ("m/version", b"3\n")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 0, (10,), (1,)), ""),
        ((10, 0, (11,), (1,)), "goes beyond"),
        ((10, 1, (10,), (1,)), "goes beyond"),
        ((10, 0, (5,), (1 << 62,)), "goes beyond"),
        ((10, 0, (2, 2), (9, 1)), "goes beyond"),
        ((10, 1 << 61, (1,), (1,)), "goes beyond"),
        ((10, 9, (10,), (-1,)), "malformed"),
        ((10, -1, (1,), (1,)), "malformed"),
        ((10, 0, (-1,), (1,)), "malformed"),
        ((10, 0, (10,), ()), "malformed"),
        ((10, 0, (10.0,), (1,)), "malformed"),
        ((10, True, (1,), (1,)), "malformed"),
        ((10, 0, [10], [1]), "malformed"),
        ((10, 0, (1,) * 64, (1,) * 64), "no stream"),
        ((10, 0, (1,) * 70_000, (1,) * 70_000), "malformed"),
        ((11, 0, (10,), (1,)), "values are missing"),
        ((1 << 60, 0, (10,), (1,)), "values are missing"),
        ((-1, 0, (10,), (1,)), "malformed"),
    ],
)
def test_descriptions_of_tensors_that_lie(
    tmp_path: Path, arguments: tuple[Any, ...], message: str
) -> None:
    path = tmp_path / "model.pt"
    write_described(path, *arguments)
    if not message:
        assert nnguard.decompress(nnguard.compress(path))["w"].shape == (10,)
        return
    with pytest.raises(nnguard.errors.ModelError, match=message):
        nnguard.compress(path)


def write_pickle(path: Path, data: bytes) -> None:
    write_archive(path, [("m/data.pkl", data), ("m/version", b"3\n")])


MAPPING = b"}X\x01\0\0\0aK\1s"
PICKLES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "malformed"),
    "no end": (b"\x80\2}", "malformed"),
    "empty stack": (b".", "malformed"),
    "no mark": (b"}u.", "malformed"),
    "odd items": (b"}(K\1u.", "malformed"),
    "no mapping": (b"](K\1K\2u.", "malformed"),
    "no list": (b"}K\1a.", "malformed"),
    "memo of nothing": (b"h\7.", "malformed"),
    "memo far away": (b"}r\xff\xff\xff\xff.", "no state dict"),
    "text beyond the end": (b"X\xff\xff\xff\xffa.", "malformed"),
    "no UTF-8": (b"X\1\0\0\0\xff.", "malformed"),
    "opcode of another protocol": (b"\x95" + bytes(8) + b"}.", "malformed"),
    "call of text": (b"X\1\0\0\0a)R.", "malformed"),
    "call without a tuple": (b"ccollections\nOrderedDict\n]R.", "malformed"),
    "pairs of three": (b"ccollections\nOrderedDict\n](K\1K\2K\3tea\x85R.", "malformed"),
    "pairs of text": (b"ccollections\nOrderedDict\n]X\2\0\0\0aba\x85R.", "malformed"),
    "storage of nothing": (b")Q.", "malformed"),
    "storage of another kind": (b"(X\7\0\0\0storageK\1K\1K\1K\1tQ.", "malformed"),
    "name without an end": (b"c" + b"a" * 1000, "malformed"),
    "name with escapes": (b"cos\n\x1b[31msystem\n.", r"asks for os\.\\x1b\[31msystem"),
    "code by another name": (b"ctorch\nload\n.", r"asks for torch\.load"),
    "copied again and again": (
        b"]("
        + b"K\1K\2\x86" * 30_000
        + b"eq\1"
        + b"ccollections\nOrderedDict\nq\2"
        + b"h\2h\1\x85R" * 30_000
        + b".",
        "takes more than",
    ),
}


@pytest.mark.parametrize("case", PICKLES)
def test_pickles_that_are_malformed(tmp_path: Path, case: str) -> None:
    data, message = PICKLES[case]
    write_pickle(tmp_path / "model.pt", data)
    with pytest.raises(
        (nnguard.errors.ModelError, nnguard.errors.LimitError), match=message
    ) as caught:
        nnguard.compress(tmp_path / "model.pt")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "filler",
    [b"}", b"]", b"(", b")\x85", b"N\x85", b"G" + bytes(8), b"J\0\0\1\2", b"X\3\0\0\0abc"],
)
def test_pickles_take_so_much_memory_at_most(filler: bytes) -> None:
    """Most for an empty dictionary; counted for a few thousand opcodes instead of two million."""
    count = 9 << 13
    reader = Pickle(b"\x80\2" + filler * count)
    tracemalloc.start()
    try:
        with pytest.raises(nnguard.errors.ModelError, match="malformed"):
            reader.load()
        assert tracemalloc.get_traced_memory()[1] < 115 * count
    finally:
        tracemalloc.stop()


def test_keys_whose_hash_takes_forever(tmp_path: Path) -> None:
    """A tuple of two tuples of two tuples, and so on: 200 bytes, 2^60 steps to hash."""
    data = b"}K\1\x85" + b"q\0h\0\x86" * 60 + b"K\1s."
    write_pickle(tmp_path / "model.pt", data)
    with pytest.raises(nnguard.errors.ModelError, match="no state dict"):
        nnguard.compress(tmp_path / "model.pt")


def write_with_other_letter(
    tmp_path: Path, state: dict[str, Any], letter: bytes, other: bytes
) -> None:
    """Write a checkpoint in whose pickle a text of one letter is another."""
    (name, pickle), *rest = members_of(state, tmp_path)
    text = b"X\1\0\0\0"
    write_archive(
        tmp_path / "model.pt", [(name, pickle.replace(text + letter, text + other)), *rest]
    )


def test_name_twice(tmp_path: Path) -> None:
    write_with_other_letter(tmp_path, {"v": torch.ones(2), "w": torch.zeros(2)}, b"v", b"w")
    with pytest.raises(nnguard.errors.ModelError, match="names something twice"):
        nnguard.compress(tmp_path / "model.pt")


def test_storage_of_two_formats(tmp_path: Path) -> None:
    """PyTorch takes the first; another reader could take each."""
    write_with_other_letter(tmp_path, {"v": torch.ones(2), "w": torch.ones(2).int()}, b"1", b"0")
    with pytest.raises(nnguard.errors.ModelError, match="in two ways"):
        nnguard.compress(tmp_path / "model.pt")


@pytest.mark.filterwarnings("ignore:.*(prototype|deprecated)")
def test_kinds_of_tensors_that_are_not_coded(tmp_path: Path) -> None:
    kinds = {
        "sparse": torch.eye(3).to_sparse(),
        "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "negative": torch.ones(3, dtype=torch.complex64).conj().imag,
        "meta": torch.ones(3, device="meta"),
    }
    for what, tensor in kinds.items():
        torch.save({"odd": tensor}, tmp_path / "model.pt")
        with pytest.raises(nnguard.errors.ModelError, match=f"odd is .*{what}"):
            nnguard.compress(tmp_path / "model.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_anywhere(tmp_path: Path, zipped: bool) -> None:
    """Cut it short or change it anywhere: our own errors, or a tensor of this shape."""
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    for at in range(0, len(data), 3):
        for edited in (data[:at], data[:at] + bytes([data[at] ^ 0x11]) + data[at + 1 :])[
            at % 4 > 0 :
        ]:
            path.write_bytes(edited)
            with contextlib.suppress(nnguard.errors.ModelError, nnguard.errors.LimitError):
                assert [shape for _, shape, _ in values(path).values()] == [(3,)]
