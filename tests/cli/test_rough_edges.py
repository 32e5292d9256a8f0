"""Odd arguments and odd places end in an exit code, never in a traceback."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import nnguard
import samples
import stock
from nnguard._cli import main
from transcripts import Run

EXPECTED = {1, 2, 6}
"""The system refused, wrong usage, or a key that cannot be."""


def test_name_that_is_no_unicode() -> None:
    sign = ["sign", "model.nnc", "-o", "out.nnc", "--key", "vendor.key"]
    assert main([*sign, "--name", "\udcff"]) in EXPECTED
    assert not Path("out.nnc").exists()


def test_passphrase_file_that_is_no_text(folder: Path) -> None:
    (folder / "secret").write_bytes(b"\xff\xfe\n")
    assert main(["keygen", "new", "--passphrase-file", "secret"]) in EXPECTED
    assert not (folder / "new.key").exists()


def test_passphrase_that_is_too_long(folder: Path) -> None:
    (folder / "secret").write_text("x" * 5000)
    assert main(["keygen", "new", "--passphrase-file", "secret"]) in EXPECTED
    assert not (folder / "new.key").exists()


def test_plot_of_an_unknown_kind(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["inspect", "release.nnc", "--plot", "carrier.xyz"]) in EXPECTED
    assert not (folder / "carrier.xyz").exists()


@pytest.mark.parametrize(
    "name",
    [
        r"$\frac$",
        "$x^$",
        "\x01",
        "a\nb",
        "\U0001f600",
    ],
)
def test_plot_of_a_tensor_with_a_hostile_name(folder: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    arrays = {name: samples.small_network()["conv.weight"]}
    stream = nnguard.Stream.from_bytes(stock.encode(arrays, qp=-20))
    nnguard.attach(stream, b"card").save("hostile.nnc")
    assert main(["inspect", "hostile.nnc", "--plot", "carrier.png"]) == 0
    assert (folder / "carrier.png").exists()


def test_terminal_that_is_not_unicode(key: nnguard.SigningKey, model: nnguard.Stream) -> None:
    nnguard.sign(model, key, name="модель").save("named.nnc")
    done = samples.run_process(
        "verify", "named.nnc", "--trust", "vendor.pub", PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"Verified")


def test_folder_instead_of_a_file(folder: Path) -> None:
    (folder / "folder").mkdir()
    for command in ("inspect folder", "verify folder --trust vendor.pub", "capacity folder"):
        assert main(command.split()) in (1, 3)
    assert main(["sign", "model.nnc", "-o", "folder", "--key", "vendor.key", "-f"]) == 1
    assert main(["verify", "release.nnc", "--trust", "folder"]) == 6


def test_empty_trust_is_not_this_folder() -> None:
    assert main(["verify", "release.nnc", "--trust", ""]) != 0


def test_long_name_does_not_widen_every_line(run: Run) -> None:
    units = [samples.data_unit("x" * 60_000), *[samples.unit(9)] * 3000]
    Path("wide.nnc").write_bytes(samples.stream_of(*units))
    size = Path("wide.nnc").stat().st_size
    result = run("inspect", "wide.nnc")
    assert result.code == 0
    assert len(result.out) < 6 * size
    assert "x" * 60 in result.out
    Path("carrier.nnc").write_bytes(
        stock.encode(
            {
                "y" * 30_000: samples.small_network(6000)["conv.weight"],
                **{f"b{at}": samples.small_network()["conv.weight"] for at in range(300)},
            },
            qp=-20,
        )
    )
    result = run("capacity", "carrier.nnc")
    assert result.code == 0
    assert len(result.out) < 300 * 200


def test_plot_of_a_step_beyond_all_numbers(folder: Path, run: Run) -> None:
    pytest.importorskip("matplotlib")
    arrays = {"w": samples.small_network(6000)["conv.weight"] * np.float32(2**30)}
    units = samples.split(stock.encode(arrays, qp=100))
    data = samples.start_unit() + samples.model_unit(base_qp=4095) + b"".join(units[2:])
    nnguard.attach(nnguard.Stream.from_bytes(data), b"card").save("extreme.nnc")
    assert run("inspect", "extreme.nnc", "--plot", "carrier.png").code == 0
    assert (folder / "carrier.png").exists()


def test_plot_without_matplotlib_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    result = run("inspect", "release.nnc", "--plot", "carrier.png")
    assert result.code == 1
    assert 'pip install "nnguard[plot]"' in result.err
    Path("score.py").write_text("def score(weights):\n    raise SystemExit('called')\n")
    lock = (
        "lock release.nnc -o trial.nnc --content-key content.key --soft --target 0.5 --plot a.png"
    )
    result = run(*lock.split(), "--evaluate", "score.py:score")
    assert (result.code, "pip install" in result.err) == (1, True)


@pytest.mark.parametrize(
    "command",
    [
        "compress model.safetensors -o no/x.nnc",
        "sign model.nnc -o no/x.nnc --key vendor.key",
        "strip release.nnc -o no/x.nnc --trust vendor.pub",
        "decompress model.nnc -o no/x.safetensors",
        "attach model.nnc -o no/x.nnc --payload vendor.pub",
        "detach model.nnc -o x.nnc --payload no/card",
        "inspect release.nnc --plot no/x.png",
        "keygen no/x",
    ],
)
def test_missing_folder_is_named(run: Run, command: str) -> None:
    save_file({"w": np.zeros((4, 4), np.float32)}, "model.safetensors")
    result = run(*command.split())
    assert result.code == 1
    assert result.err.startswith("nnguard: no/")
    assert result.err.endswith(": there is no folder no; make it first\n")


@pytest.mark.parametrize(
    "command",
    ["keygen vendor", "detach model.nnc -o x.nnc --payload vendor.key"],
)
def test_what_exists_is_named_with_the_way_out(run: Run, command: str) -> None:
    before = Path("vendor.key").read_bytes()
    result = run(*command.split())
    assert (result.code, result.err) == (
        1,
        "nnguard: vendor.key exists already; --force overwrites it\n",
    )
    assert Path("vendor.key").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--scan-order 7", "the scan order is 7; it goes from 0 to 4"),
        ("--qp-of b=3", "quantization parameters for tensors that are not there: b"),
        (
            "--qp-of w=999",
            "the quantization parameter of tensor w (at density 2) is 999; "
            "it goes from -128 to 127",
        ),
    ],
)
def test_wrong_options_are_answered_in_words(run: Run, options: str, message: str) -> None:
    save_file({"w": np.zeros((4, 4), np.float32)}, "model.safetensors")
    result = run("compress", "model.safetensors", "-o", "x.nnc", *options.split())
    assert (result.code, result.err) == (2, f"nnguard: {message}; see nnguard compress --help\n")


@pytest.mark.skipif(not hasattr(os, "mknod") or os.getuid() != 0, reason="root makes devices")
def test_device_is_not_replaced(run: Run, folder: Path) -> None:
    try:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("not even root makes devices here")
    result = run("strip", "release.nnc", "-o", "null", "--trust", "vendor.pub", "--force")
    assert (result.code, "is not a regular file" in result.err) == (1, True)
    assert stat.S_ISCHR((folder / "null").stat().st_mode)


def test_stream_does_not_replace_its_model(run: Run, folder: Path) -> None:
    save_file({"w": np.ones((4, 4), np.float32)}, "model.safetensors")
    before = (folder / "model.safetensors").read_bytes()
    result = run("compress", "model.safetensors", "-o", "./model.safetensors", "--force")
    assert (result.code, "is the model" in result.err) == (1, True)
    assert (folder / "model.safetensors").read_bytes() == before


def test_hanging_up_is_ignored_where_the_parent_says_so(folder: Path) -> None:
    """As nohup does."""
    script = (
        "import os, runpy, signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "import nnguard._cli\n"
        "nnguard._cli.main = lambda: os.kill(os.getpid(), signal.SIGHUP)\n"
        "import nnguard.__main__\n"
        "nnguard.__main__.run()\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_of_a_folder_when_the_process_is_told_to_leave(
    folder: Path, number: int
) -> None:
    (folder / "model").mkdir()
    save_file({"w": np.ones((40, 30), np.float32)}, folder / "model" / "m.safetensors")
    index = json.dumps({"weight_map": {"w": "m.safetensors"}})
    (folder / "model" / "model.safetensors.index.json").write_text(index)
    before = {path.name for path in folder.iterdir()}
    slow_disk = (
        "import os, time\n"
        "os.fsync = lambda descriptor: time.sleep(50)\n"
        "from nnguard.__main__ import run\n"
        "run()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", slow_disk, "compress", "model", "-o", "streams"]
    )
    while process.poll() is None and not list(folder.glob(".streams.*")):
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_output_that_cannot_be_written(folder: Path, options: list[str]) -> None:
    """The files are there, and one line and the exit code say that it could not be told."""
    command = [sys.executable, "-m", "nnguard", "keygen", "new", *options]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "nnguard: the disk is full; free some space, or write elsewhere\n",
    )
    assert nnguard.SigningKey.load("new.key").public_key.id == nnguard.PublicKey.load("new.pub").id


@pytest.mark.skipif(os.name != "posix", reason="streams are closed by a shell")
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(folder: Path, closed: str) -> None:
    """No file takes their place, and nothing is printed into it."""
    command = (
        f"{sys.executable} -m nnguard strip release.nnc -o out.nnc --trust vendor.pub {closed}"
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (folder / "out.nnc").read_bytes() == (folder / "model.nnc").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="limits are those of POSIX")
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_no_content_key_without_its_trial(folder: Path, force: list[str]) -> None:
    """The disk holds the key, and the trial no more."""
    import resource

    if force:
        (folder / "out.key").write_text("old")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    command = ["lock", "release.nnc", "-o", "out.nnc", "--content-key", "out.key", *force]
    done = subprocess.run(
        [sys.executable, "-m", "nnguard", *command, "--soft", "--fraction", "0.01"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert b"too large" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
