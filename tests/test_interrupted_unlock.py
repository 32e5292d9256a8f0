"""An unlock that is killed leaves the trial as it was, and no output or all of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nnguard
import samples

MOMENTS = 12


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, key: nnguard.SigningKey) -> Path:
    """Return a folder with a trial, its license, the keys, and the release to compare with."""
    folder = tmp_path_factory.mktemp("shop")
    release = nnguard.sign(samples.path_of("resnet20.default"), key)
    locked = nnguard.lock(release, scramble=0.5, signer=key, soft=nnguard.Soft(fraction=1e-3))
    customer = nnguard.Identity.generate()
    license_ = nnguard.licensing.issue(
        locked.trial, locked.content_key, to=customer.recipient, signer=key
    )
    release.save(folder / "release.nnc")
    locked.trial.save(folder / "trial.nnc")
    license_.save(folder / "license")
    customer.save(folder / "customer.key")
    key.public_key.save(folder / "vendor.pub")
    return folder


def start(shop: Path, output: Path) -> subprocess.Popen[bytes]:
    arguments = ["unlock", "trial.nnc", "-o", str(output), "--license", "license"]
    arguments += ["--identity", "customer.key", "--trust", "vendor.pub"]
    command = [sys.executable, "-m", "nnguard", *arguments]
    return subprocess.Popen(command, cwd=shop, stdout=subprocess.DEVNULL)


def has_unnamed_files(folder: Path) -> bool:
    try:
        os.close(os.open(folder, os.O_WRONLY | os.O_TMPFILE))
    except (AttributeError, OSError):
        return False
    return True


def test_killed_at_any_moment(shop: Path, tmp_path: Path) -> None:
    trial, release = (shop / "trial.nnc").read_bytes(), (shop / "release.nnc").read_bytes()
    started = time.monotonic()
    assert start(shop, tmp_path / "whole.nnc").wait() == 0
    duration = time.monotonic() - started
    assert (tmp_path / "whole.nnc").read_bytes() == release

    killed = 0
    for moment in range(MOMENTS):
        output = tmp_path / f"{moment}.nnc"
        process = start(shop, output)
        try:
            process.wait(duration * (moment + 0.5) / MOMENTS)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += process.wait() == -signal.SIGKILL
        assert not output.exists() or output.read_bytes() == release
        assert (shop / "trial.nnc").read_bytes() == trial
    assert killed, "the process was always quicker"


def test_killed_while_it_writes(shop: Path, tmp_path: Path) -> None:
    """The process kills itself in the middle of the file: the output is not there."""
    script = """
import os, signal, sys, nnguard
from nnguard._stream import hashing
def dying(descriptor, data, offset):
    os.pwrite(descriptor, data[: len(data) // 2], offset)
    os.kill(os.getpid(), signal.SIGKILL)
hashing.write_at = dying
full = nnguard.unlock("trial.nnc", "license", "customer.key", ["vendor.pub"])
full.save(sys.argv[1])
"""
    output = tmp_path / "full.nnc"
    command = [sys.executable, "-c", script, str(output)]
    assert subprocess.run(command, cwd=shop, check=False).returncode == -signal.SIGKILL
    if has_unnamed_files(tmp_path):
        assert not any(tmp_path.iterdir()), "not even a part of the model is left"
    assert not output.exists()
    assert start(shop, output).wait() == 0
    assert output.read_bytes() == (shop / "release.nnc").read_bytes()
