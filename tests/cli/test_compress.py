"""`compress`, `decompress`, and `sign` of a model file, as their users see them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import nnguard
import samples
import stock
from nnguard._cli import main
from transcripts import Run, is_one_line

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture(autouse=True)
def network(folder: Path) -> dict[str, stock.Array]:
    """A model beside the keys: `model.safetensors`."""
    arrays = samples.small_network(6000)
    save_file(arrays, folder / "model.safetensors")
    return arrays


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_compress_and_decompress(run: Run, folder: Path, network: dict[str, stock.Array]) -> None:
    result = run("compress", "model.safetensors", "-o", "out.nnc", "--qp", "-20")
    assert (result.code, result.err) == (0, "")
    data = (folder / "out.nnc").read_bytes()
    assert data == stock.encode(
        {name: network[name] for name in laid_out(folder / "model.safetensors")}, qp=-20
    )
    size = (folder / "model.safetensors").stat().st_size
    assert result.out.startswith(f"Compressed: out.nnc, {len(data):,} bytes (")
    assert f"of {size:,}" in result.out
    result = run("decompress", "out.nnc", "-o", "out.safetensors")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Decompressed: out.safetensors, ")
    restored, expected = load_file(folder / "out.safetensors"), stock.decode(data)
    assert restored.keys() == expected.keys()
    for name, array in expected.items():
        assert restored[name].dtype == network[name].dtype
        assert np.array_equal(restored[name], array)


def laid_out(path: Path) -> list[str]:
    """Return the names of a file's tensors in the order of their bytes."""
    with safe_open(path, "np") as file:
        return list(file.offset_keys())


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("--qp -24", {"qp": -24}),
        ("--qp=-24 --nonweight-qp -60", {"qp": -24, "nonweight_qp": -60}),
        ("--qp-of conv.weight=-30", {"qp_per_tensor": {"conv.weight": -30}}),
        (
            "--qp-of conv.weight=-30 --qp-of conv.bias=-50",
            {"qp_per_tensor": {"conv.weight": -30, "conv.bias": -50}},
        ),
        ("--qp-density 3 --qp -40", {"qp_density": 3, "qp": -40}),
        ("--urq", {"dependent": False}),
        ("--fast", {"parameter_optimization": False}),
        ("--no-row-skipping", {"row_skipping": False}),
        ("--scan-order 2", {"scan_order": 2}),
        ("--urq --fast --workers 2", {"dependent": False, "parameter_optimization": False}),
    ],
)
def test_options_are_the_settings(
    run: Run, folder: Path, options: str, settings: dict[str, object]
) -> None:
    assert run("compress", "model.safetensors", "-o", "out.nnc", *options.split()).code == 0
    expected = nnguard.compress("model.safetensors", nnguard.Settings(**settings))
    assert (folder / "out.nnc").read_bytes() == bytes(expected)


def test_name_of_a_tensor_may_hold_an_equals_sign(run: Run, folder: Path) -> None:
    save_file({"a=b": np.ones((4, 4), np.float32)}, folder / "odd.safetensors")
    assert run("compress", "odd.safetensors", "-o", "out.nnc", "--qp-of", "a=b=-50").code == 0
    settings = nnguard.Settings(qp_per_tensor={"a=b": -50})
    assert (folder / "out.nnc").read_bytes() == bytes(nnguard.compress("odd.safetensors", settings))


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "ckpt"])
def test_checkpoint(run: Run, folder: Path, suffix: str, network: dict[str, stock.Array]) -> None:
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array) for name, array in network.items()}
    torch.save({"epoch": 3, "state_dict": state}, folder / f"model.{suffix}")
    assert run("compress", f"model.{suffix}", "-o", "out.nnc", "--qp=-20").code == 0
    assert (folder / "out.nnc").read_bytes() == stock.encode(network, qp=-20)


def test_signing_a_model_compresses_it_first(
    run: Run, folder: Path, key: nnguard.SigningKey
) -> None:
    before = names(folder)
    sign = ("sign", "model.safetensors", "-o", "out.nnc", "--key", "vendor.key", "--name", "net")
    result = run(*sign, "--qp", "-20", "--urq", "--meta", "git=4f2a91c")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Signed with key {key.public_key.id.hex()}: out.nnc")
    claims = nnguard.verify("out.nnc", key.public_key).claims
    assert (claims.name, claims.metadata["git"]) == ("net", "4f2a91c")
    settings = nnguard.Settings(qp=-20, dependent=False)
    original = nnguard.strip("out.nnc", key.public_key)
    assert bytes(original) == bytes(nnguard.compress("model.safetensors", settings))
    assert names(folder) == sorted([*before, "out.nnc"])
    printed = json.loads(run(*sign, "--qp", "-20", "--urq", "--force", "--json").out)
    assert printed["size_before"] == original.size
    assert printed["size"] == (folder / "out.nnc").stat().st_size


def test_decompressing_a_release_verifies_it(
    run: Run, folder: Path, key: nnguard.SigningKey
) -> None:
    decompress = ("decompress", "release.nnc", "-o", "out.safetensors")
    result = run(*decompress, "--trust", "vendor.pub")
    assert (result.code, result.err) == (0, "")
    found = load_file(folder / "out.safetensors")
    expected = stock.decode((folder / "release.nnc").read_bytes())
    assert all(np.array_equal(found[name], array) for name, array in expected.items())
    assert run(*decompress, "--trust", "other.pub", "--trust", "vendor.pub", "-f").code == 0


def test_untrusted_release_is_not_decompressed(run: Run, folder: Path) -> None:
    changed = bytearray((folder / "release.nnc").read_bytes())
    changed[-1] ^= 1
    (folder / "changed.nnc").write_bytes(changed)
    before = names(folder)
    for file, trust, code in (
        ("release.nnc", "other.pub", 7),
        ("model.nnc", "vendor.pub", 5),
        ("changed.nnc", "vendor.pub", 8),
        ("vendor.pub", "vendor.pub", 3),
        ("release.nnc", "model.nnc", 6),
        ("release.nnc", "missing.pub", 1),
    ):
        result = run("decompress", file, "-o", "out.safetensors", "--trust", trust)
        assert (result.code, result.out) == (code, ""), file
        assert names(folder) == before


def test_json(run: Run, folder: Path) -> None:
    result = run("compress", "model.safetensors", "-o", "out.nnc", "--json")
    assert (result.code, result.err) == (0, "")
    printed = json.loads(result.out)
    assert (printed["ok"], printed["file"]) == (True, "out.nnc")
    assert printed["size"] == (folder / "out.nnc").stat().st_size
    assert printed["size_before"] == (folder / "model.safetensors").stat().st_size
    assert printed["seconds"] >= 0
    result = run("decompress", "out.nnc", "-o", "out.safetensors", "--json")
    printed = json.loads(result.out)
    assert printed["ok"] is True
    assert printed["size_before"] == (folder / "out.nnc").stat().st_size
    assert printed["size"] == (folder / "out.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        ("compress missing.safetensors -o out.nnc", 1, "FileNotFoundError"),
        ("compress missing.pt -o out.nnc", 1, "FileNotFoundError"),
        ("compress model.safetensors -o model.nnc", 1, "FileExistsError"),
        ("compress model.safetensors -o no/such/out.nnc", 1, "FileNotFoundError"),
        ("decompress model.nnc -o model.safetensors", 1, "FileExistsError"),
        ("decompress model.nnc -o no/such/out.safetensors", 1, "FileNotFoundError"),
        ("decompress missing.nnc -o out.safetensors", 1, "FileNotFoundError"),
        ("sign model.safetensors -o no/such/out.nnc --key vendor.key", 1, "FileNotFoundError"),
        ("compress model.safetensors -o out.nnc --qp 9999", 2, "ArgumentError"),
        ("compress model.safetensors -o out.nnc --qp -129", 2, "ArgumentError"),
        ("compress model.safetensors -o out.nnc --qp-density 8", 2, "ArgumentError"),
        ("compress model.safetensors -o out.nnc --scan-order 5", 2, "ArgumentError"),
        ("compress model.safetensors -o out.nnc --scan-order -1", 2, "ArgumentError"),
        ("sign blocks.nnc -o out.nnc --key vendor.key", 4, "CapacityError"),
        ("lock blocks.nnc -o out.nnc --content-key content.key", 15, "LockError"),
        ("compress model.safetensors -o out.nnc --qp-of missing=-30", 2, "ArgumentError"),
        ("compress model.safetensors -o out.nnc --qp-of conv.weight=999", 2, "ArgumentError"),
        ("compress model.safetensors -o out.nnc --workers 0", 2, "ArgumentError"),
        ("decompress model.nnc -o out.safetensors --workers -1", 2, "ArgumentError"),
        ("decompress vendor.pub -o out.safetensors", 3, "FormatError"),
        ("sign tiny.safetensors -o out.nnc --key vendor.key", 4, "CapacityError"),
        ("decompress model.nnc -o out.safetensors --max-size 2999", 11, "LimitError"),
        ("compress long.safetensors -o out.nnc", 11, "LimitError"),
        ("compress vendor.pub -o out.nnc", 12, "ModelError"),
        ("compress model.nnc -o out.nnc", 12, "ModelError"),
        ("compress nan.safetensors -o out.nnc", 12, "ModelError"),
        ("compress damaged.safetensors -o out.nnc", 12, "ModelError"),
        ("compress text.pt -o out.nnc", 12, "ModelError"),
        ("sign nan.safetensors -o out.nnc --key vendor.key", 12, "ModelError"),
    ],
)
def test_failures(run: Run, folder: Path, command: str, code: int, error: str) -> None:
    if ".pt " in command:
        pytest.importorskip("torch")
    save_file({"w": np.array([[1, np.nan]], np.float32)}, folder / "nan.safetensors")
    save_file({"w": np.ones((2, 2), np.float32)}, folder / "tiny.safetensors")
    (folder / "damaged.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
    with (folder / "long.safetensors").open("wb") as file:
        file.write((200_000_000).to_bytes(8, "little"))
        file.truncate(300_000_000)  # sparse
    (folder / "text.pt").write_text("no checkpoint")
    blocks = nnguard.compress(folder / "model.safetensors", nnguard.Settings(scan_order=4))
    blocks.save(folder / "blocks.nnc")
    before = names(folder)

    result = run(*command.split())
    assert (result.code, result.out) == (code, "")
    assert is_one_line(result.err)
    result = run(*command.split(), "--json")
    assert (result.code, result.err) == (code, "")
    failure = json.loads(result.out)
    assert (failure["ok"], failure["error"]) == (False, error)
    assert names(folder) == before, "nothing is written"


def test_messages_name_what_is_wrong(run: Run, folder: Path) -> None:
    save_file({"fc.bias": np.array([1, np.inf], np.float32)}, folder / "bad.safetensors")
    assert "fc.bias has infinite" in run("compress", "bad.safetensors", "-o", "out.nnc").err
    shown = run("compress", "model.nnc", "-o", "out.nnc").err
    assert "model.nnc is an NNCodec stream" in shown
    (folder / "model.dat").write_bytes(b"no model")
    shown = run("compress", "model.dat", "-o", "out.nnc").err
    assert "; names end in .safetensors, .pt" in shown


@pytest.mark.parametrize("value", ["conv.weight", "conv.weight=", "=3", "conv.weight=fine"])
def test_malformed_qp_of(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "model.safetensors", "-o", "out.nnc", "--qp-of", value]) == 2
    assert "nnguard: --qp-of: " in capsys.readouterr().err


def test_blocks_are_decoded_by_several_threads_and_carry_nothing(run: Run, folder: Path) -> None:
    """The model may still be signed, in tensors that have no blocks."""
    bias = np.random.default_rng(4).normal(0, 0.1, 2500).astype(np.float32)
    matrix = samples.small_network(6000)["conv.weight"]
    save_file({"weight": matrix, "bias": bias}, folder / "net.safetensors")
    compress = ("compress", "net.safetensors", "-o", "net.nnc", "--qp=-20", "--nonweight-qp=-20")
    assert run(*compress, "--scan-order", "1").code == 0
    assert (folder / "net.nnc").read_bytes() == stock.encode(
        {name: load_file("net.safetensors")[name] for name in laid_out(folder / "net.safetensors")},
        qp=-20, nonweight_qp=-20, scan_order=1,
    )  # fmt: skip
    assert run("sign", "net.nnc", "-o", "signed.nnc", "--key", "vendor.key").code == 0
    assert "    in        bias\n" in run("inspect", "signed.nnc").out
    restore = ("decompress", "signed.nnc", "-o", "restored.safetensors", "--trust", "vendor.pub")
    assert run(*restore, "--workers", "2").code == 0
    restored, expected = (
        load_file("restored.safetensors"),
        stock.decode((folder / "signed.nnc").read_bytes()),
    )
    for name, array in expected.items():
        assert np.array_equal(restored[name], array)


def test_help_says_what_the_options_buy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "several threads can decode one large tensor" in shown
    assert "cannot carry a record or be locked" in shown
    assert "--workers N Use N threads (default: one for each processor)" in shown
    assert "process " not in shown.replace("processors", "")


def test_force_overwrites(run: Run, folder: Path) -> None:
    before = (folder / "model.nnc").read_bytes()
    assert run("compress", "model.safetensors", "-o", "model.nnc").code == 1
    assert (folder / "model.nnc").read_bytes() == before
    assert run("compress", "model.safetensors", "-o", "model.nnc", "--force").code == 0
    assert (folder / "model.nnc").read_bytes() == bytes(nnguard.compress("model.safetensors"))
    assert run("decompress", "model.nnc", "-o", "model.safetensors", "-f").code == 0


def test_failure_with_force_keeps_the_old_file(run: Run, folder: Path) -> None:
    save_file({"w": np.array([np.nan], np.float32)}, folder / "nan.safetensors")
    before = (folder / "model.nnc").read_bytes()
    assert run("compress", "nan.safetensors", "-o", "model.nnc", "--force").code == 12
    assert (folder / "model.nnc").read_bytes() == before
    model = (folder / "model.safetensors").read_bytes()
    limited = ("decompress", "model.nnc", "-o", "model.safetensors", "-f", "--max-size", "5")
    assert run(*limited).code == 11
    assert (folder / "model.safetensors").read_bytes() == model


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("compress", "decompress"):
        assert main([command, "--help"]) == 0
        assert f"  nnguard {command} " in capsys.readouterr().out


def test_code_in_a_checkpoint_never_runs(run: Run, folder: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": {}, "evil": Payload()}, folder / "evil.pt")
    result = run("compress", "evil.pt", "-o", "out.nnc")
    assert result.code == 12
    assert "evil.pt" in result.err
    assert "weights_only" not in result.err
    assert not (folder / "it ran").exists()
    assert not (folder / "out.nnc").exists()


class Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("it ran",)


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tensors that take seconds each."""
    path = tmp_path_factory.mktemp("large") / "large.safetensors"
    part = np.random.default_rng(3).laplace(0, 0.05, (2048, 2048)).astype(np.float16)
    save_file({f"{at}.weight": np.tile(part, (3, 1)) for at in range(2)}, path)
    return path


@pytest.fixture
def large(folder: Path, large_file: Path) -> Path:
    """A folder of its own for a model that takes seconds."""
    (folder / "work").mkdir()
    os.link(large_file, folder / "work" / "large.safetensors")
    return folder / "work"


def threads(number: int) -> int:
    return len(list(Path(f"/proc/{number}/task").iterdir()))


def children(parent: int) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, owner = path.read_text().rpartition(") ")[2].split()[:2]
        except OSError:
            continue
        if int(owner) == parent and state != "Z":
            found.add(int(path.parent.name))
    return found


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def until_two_threads_work(process: subprocess.Popen[bytes]) -> None:
    until(lambda: process.poll() is not None or threads(process.pid) >= 3, "threads start")
    assert process.poll() is None, process.communicate()


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize(
    "command",
    [
        ("compress", "large.safetensors", "-o", "out.nnc"),
        ("sign", "large.safetensors", "-o", "out.nnc", "--key", "../vendor.key"),
    ],
)
def test_interrupted_work_leaves_nothing(
    large: Path, number: signal.Signals, command: tuple[str, ...]
) -> None:
    """A terminal sends SIGINT to the command; nobody can catch SIGKILL."""
    process = started(*command, "--workers=2", folder=large)
    until_two_threads_work(process)
    time.sleep(0.3)  # let them begin
    assert process.poll() is None, process.communicate()
    assert not children(process.pid), "nobody who could be left behind"
    os.killpg(process.pid, number)
    interrupted = time.monotonic()
    out, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert (process.returncode, out, err) == (130, b"", b"nnguard: interrupted by SIGINT\n")
        assert time.monotonic() - interrupted < 2, "they stop in the middle of a tensor"
    else:
        assert (process.returncode, out, err) == (-signal.SIGKILL, b"", b"")
    assert names(large) == ["large.safetensors"]


@linux
def test_interrupted_decompression_leaves_nothing(large: Path) -> None:
    settings = nnguard.Settings(dependent=False, parameter_optimization=False)
    nnguard.compress(large / "large.safetensors", settings).save(large / "large.nnc")
    before = names(large)
    process = started("decompress", "large.nnc", "-o", "out", "--workers=2", folder=large)
    until_two_threads_work(process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"nnguard: interrupted by SIGINT\n")
    assert names(large) == before


def test_progress_is_shown_on_a_terminal(large: Path) -> None:
    """Nothing but the bar goes to standard error, and it is wiped in the end."""
    command = ["compress", "large.safetensors", "-o", "out.nnc", "--workers", "1", "--fast"]
    shown, code, out = on_terminal(command, large)
    assert code == 0
    assert "Compressing" in shown
    assert "%" in shown
    assert shown.rstrip(" ").endswith("\r"), "the line is clean again"
    assert out.startswith(b"Compressed: out.nnc")
    (large / "out.nnc").unlink()
    shown, code, _ = on_terminal(["compress", "../model.safetensors", "-o", "out.nnc"], large)
    assert (shown, code) == ("", 0), "short work shows no bar"


def started(*command: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "nnguard", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # no threads but ours
    )


def on_terminal(command: list[str], folder: Path) -> tuple[str, int, bytes]:
    """Run a command whose standard error is a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "nnguard", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    return shown.decode(), process.returncode, out


def test_stream_with_the_suffix_of_a_checkpoint_is_signed(run: Run, folder: Path) -> None:
    (folder / "model.bin").write_bytes((folder / "model.nnc").read_bytes())
    assert run("sign", "model.bin", "-o", "signed.nnc", "--key", "vendor.key").code == 0
    assert run("verify", "signed.nnc", "--trust", "vendor.pub").code == 0


def test_coding_options_need_something_to_code(run: Run, folder: Path) -> None:
    for option in ("--urq", "--workers=2", "--scan-order=1"):
        result = run("sign", "model.nnc", "-o", "signed.nnc", "--key", "vendor.key", option)
        assert result.code == 2
        assert "model.nnc is compressed already" in result.err
        assert not (folder / "signed.nnc").exists()
