"""Messages say what the user did, in words, and what to do next."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import nnguard
from nnguard._cli.failures import describe
from transcripts import Run

STREAM_COMMANDS = [
    "verify {} --trust vendor.pub",
    "strip {} -o out --trust vendor.pub",
    "decompress {} -o out",
    "inspect {}",
    "capacity {}",
    "attach {} -o out --payload vendor.pub",
    "detach {} -o out --payload card",
    "lock {} -o out --content-key content.key",
]


@pytest.fixture
def weights(folder: Path) -> Path:
    """A safetensors file."""
    array = np.random.default_rng(0).normal(0, 0.05, (80, 100)).astype(np.float32)
    save_file({"w": array}, folder / "weights.safetensors")
    return folder / "weights.safetensors"


@pytest.mark.parametrize("command", STREAM_COMMANDS)
def test_model_that_is_not_compressed(run: Run, weights: Path, command: str) -> None:
    result = run(*command.format(weights.name).split())
    assert (result.code, result.out) == (3, "")
    assert result.err == (
        "nnguard: not an NNCodec stream but a safetensors file; "
        "compress it first: nnguard compress MODEL -o model.nnc\n"
    )


@pytest.mark.parametrize(
    ("command", "what", "hint"),
    [
        ("verify vendor.pub --trust release.nnc", "a public key", "--trust"),
        ("inspect vendor.key", "a private key", "--key"),
        ("inspect empty", "an empty file", ""),
        ("compress model.nnc -o out", "an NNCodec stream", "compressed already"),
        ("compress model.pt -o out", "an NNCodec stream", "compressed already"),
        ("compress weights.bin -o out", "a safetensors file", "has to end in .safetensors"),
        ("compress pointer.safetensors -o out", "a pointer of Git LFS", "git lfs pull"),
        ("sign pointer.safetensors -o out --key vendor.key", "a pointer of Git LFS", "git lfs"),
    ],
)
def test_files_of_other_kinds(
    run: Run, folder: Path, weights: Path, command: str, what: str, hint: str
) -> None:
    (folder / "empty").touch()
    (folder / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    shutil.copy(weights, folder / "weights.bin")
    shutil.copy(folder / "model.nnc", folder / "model.pt")
    if command.startswith("verify"):
        command = command.replace("release.nnc", "vendor.pub")
    result = run(*command.split())
    assert (result.code, result.out) in ((3, ""), (12, ""))
    assert what in result.err
    assert hint in result.err


@pytest.mark.parametrize(
    ("command", "what", "hint"),
    [
        ("verify model.nnc --trust vendor.pub", "not signed", "nnguard sign"),
        ("strip model.nnc -o out --trust vendor.pub", "not signed", "nnguard sign"),
        ("decompress model.nnc -o out --trust vendor.pub", "not signed", "nnguard sign"),
        ("license issue model.nnc -o out {}", "not locked", "nnguard lock"),
        ("license issue release.nnc -o out {}", "not locked", "nnguard lock"),
        ("detach model.nnc -o out --payload card", "nothing is attached", ""),
    ],
)
def test_what_is_missing_is_named(run: Run, command: str, what: str, hint: str) -> None:
    nnguard.ContentKey.generate().save("content.key")
    nnguard.Identity.generate().recipient.save("ada.pub")
    options = "--key vendor.key --content-key content.key --to ada.pub --ledger l.db"
    result = run(*command.format(options).split())
    assert (result.code, result.out) == (5, "")
    assert what in result.err
    assert hint in result.err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("verify missing.nnc --trust vendor.pub", "no such file: missing.nnc; is the name right?"),
        ("verify release.nnc --trust none", "no such file: none; is the name right?"),
        ("license show missing", "no such file: missing; is the name right?"),
        (
            "license show shards",
            "a folder, where a file is expected: shards; name a file in it",
        ),
    ],
)
def test_system_errors_in_words(run: Run, folder: Path, command: str, message: str) -> None:
    (folder / "shards").mkdir()
    result = run(*command.split())
    assert (result.code, result.err) == (1, f"nnguard: {message}\n")
    failure = json.loads(run(*command.split(), "--json").out)
    assert f"{failure['message']}; {failure['hint']}" == message


def test_other_system_errors_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    for number, message in (
        (errno.ENOSPC, "the disk is full; free some space, or write elsewhere"),
        (errno.EACCES, "permission denied: secret.key; see who may read and write it: ls -l"),
    ):
        file = () if number == errno.ENOSPC else ("secret.key",)
        describe(OSError(number, os.strerror(number), *file), as_json=False)
        assert capsys.readouterr().err == f"nnguard: {message}\n"


def test_file_that_may_not_grow() -> None:
    """As on a disk that is full."""
    strip = ("strip", "release.nnc", "-o", "out.nnc", "--trust", "vendor.pub")
    done = subprocess.run(
        [sys.executable, "-m", "nnguard", *strip],
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)),
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == (
        b"nnguard: the file would be too large here; write elsewhere, or raise the limit\n"
    )
    assert not list(Path().glob("*out*"))


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("verify one --trust vendor.pub", "compress it first: nnguard compress one -o streams"),
        ("compress none -o out", "name the file"),
        ("verify set --trust vendor.pub", "compress it first: nnguard compress set -o streams"),
        ("decompress set -o out", "compress it first: nnguard compress set -o streams"),
        ("verify none --trust vendor.pub", "name the file"),
    ],
)
def test_folder_without_an_index(
    run: Run, folder: Path, weights: Path, command: str, hint: str
) -> None:
    for name in ("one", "set", "none"):
        (folder / name).mkdir()
        shutil.copy(weights, folder / name)
    (folder / "none" / "weights.safetensors").unlink()
    index = json.dumps({"weight_map": {"w": "weights.safetensors"}})
    (folder / "set" / "model.safetensors.index.json").write_text(index)
    result = run(*command.split())
    assert result.code in (3, 12)
    assert "it needs one; " in result.err
    assert hint in result.err


def test_decompressing_says_sizes(run: Run, weights: Path) -> None:
    nnguard.compress(weights).save("weights.nnc")
    said = run("decompress", "weights.nnc", "-o", "out.safetensors").out
    small = Path("weights.nnc").stat().st_size / 1e3
    assert said.startswith(
        f"Decompressed: out.safetensors, 32.1 kB of weights from {small:.1f} kB, "
    )
    assert "%" not in said


@pytest.mark.parametrize(
    "command",
    [
        "verify release.nnc --trust large",
        "sign model.nnc -o out --key large",
        "sign model.nnc -o out --key vendor.key --passphrase-file large",
        "license issue trial.nnc -o out --key vendor.key --content-key large --to ada.pub",
        "license issue trial.nnc -o out --key vendor.key --content-key content.key --to large",
        "unlock trial.nnc -o out --license x --identity large --trust vendor.pub",
    ],
)
def test_large_key_files_are_errors_of_keys(run: Run, folder: Path, command: str) -> None:
    (folder / "large").write_bytes(bytes((1 << 16) + 1))
    locked = nnguard.lock("model.nnc", soft=nnguard.Soft(fraction=0.01))
    trial, content_key = locked.trial, locked.content_key
    trial.save("trial.nnc")
    content_key.save("content.key")
    nnguard.Identity.generate().recipient.save("ada.pub")
    result = run(*command.split())
    assert (result.code, result.out) == (6, "")
    assert "large has more than 65536 bytes" in result.err
    assert not Path("out").exists()


def opened_by(process: subprocess.Popen[bytes]) -> set[str]:
    """Return the names of files that a process has open; some are closed meanwhile."""
    names: set[str] = set()
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            names.add(path.readlink().name)
    return names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_not_lost_in_finalizers(number: signal.Signals) -> None:
    """Python drops what a finalizer raises."""
    script = f"""
import os, time, weakref
import nnguard._cli, nnguard.__main__

def main():
    holder = {{1}}
    weakref.finalize(holder, os.kill, os.getpid(), {int(number)})
    del holder
    time.sleep(60)

nnguard._cli.main = main
nnguard.__main__.run()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=50)
    assert (done.returncode, done.stderr) == (
        128 + number,
        f"nnguard: interrupted by {number.name}\n".encode(),
    )


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_command_with_one_line(folder: Path, number: signal.Signals) -> None:
    weights = np.random.default_rng(0).normal(0, 0.05, (2000, 2000)).astype(np.float32)
    save_file({"w": weights}, folder / "large.safetensors")
    before = sorted(folder.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-m", "nnguard", "compress", "large.safetensors", "-o", "out.nnc"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while "large.safetensors" not in opened_by(process):
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    said = f"nnguard: interrupted by {number.name}\n".encode()
    assert (process.returncode, out, err) == (128 + number, b"", said)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("name", ["keys/", ".", ".key", "-"])
def test_keys_need_a_name(run: Run, folder: Path, name: str) -> None:
    (folder / "keys").mkdir()
    before = sorted(folder.rglob("*"))
    result = run("keygen", name)
    assert (result.code, "is not a name for files of keys" in result.err) == (2, True)
    assert sorted(folder.rglob("*")) == before


def test_weights_do_not_replace_their_stream(run: Run, folder: Path) -> None:
    before = (folder / "release.nnc").read_bytes()
    result = run("decompress", "release.nnc", "-o", "./release.nnc", "--force")
    assert (result.code, "is the stream" in result.err) == (1, True)
    assert (folder / "release.nnc").read_bytes() == before


def test_unlocking_what_is_not_locked(run: Run, key: nnguard.SigningKey) -> None:
    locked = nnguard.lock("release.nnc", soft=nnguard.Soft(fraction=0.01))
    trial, content_key = locked.trial, locked.content_key
    ada = nnguard.Identity.generate()
    ada.save("ada.key")
    nnguard.licensing.issue(trial, content_key, to=ada.recipient, signer=key).save("ada.license")
    unlock = "-o out --license ada.license --identity ada.key --trust vendor.pub"
    for stream in ("release.nnc", "model.nnc"):
        result = run("unlock", stream, *unlock.split())
        assert (result.code, "not locked: unlock takes the trial" in result.err) == (9, True)
