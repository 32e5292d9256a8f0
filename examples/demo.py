"""Sign, verify, tamper, strip: what nnguard does, on a network that was trained on real digits.

Runs the commands that a user would type, and checks every step against the stock NNCodec decoder.

    make demo
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import nnguard
from model import accuracy
from stock import decode

DIGITS = Path(__file__).parent / "digits"
CHANGED = 8
"""Exit code for a file that was changed after it was signed."""


def run(command: str, folder: Path, *, expect: int = 0) -> None:
    """Run a command of nnguard, showing it; stop where its exit code is not the expected one."""
    print(f"\n$ nnguard {command}", flush=True)
    arguments = [sys.executable, "-m", "nnguard", *command.split()]
    code = subprocess.run(arguments, cwd=folder, stderr=subprocess.STDOUT, check=False).returncode
    if code != expect:
        sys.exit(f"exit code {code} where {expect} was expected")
    if code:
        print(f"(exit code {code})")


def score(path: Path) -> float:
    """Return the accuracy of the network in a stream, read by the stock decoder."""
    test = np.load(DIGITS / "digits_test.npz")
    return accuracy(decode(path.read_bytes()), test["images"], test["labels"])


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Run the demonstration."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        at = Path(name)
        model, release, stripped = at / "digits.nnc", at / "release.nnc", at / "stripped.nnc"
        shutil.copy(DIGITS / "digits.nnc", model)

        run("keygen vendor", at)
        run("sign digits.nnc -o release.nnc --key vendor.key --issuer acme.ai --name digits", at)
        run("verify release.nnc --trust vendor.pub --issuer acme.ai --name digits", at)

        data = bytearray(release.read_bytes())
        largest = max(nnguard.Stream.open(release), key=lambda unit: unit.size)
        data[largest.offset + largest.size // 2] ^= 1
        (at / "tampered.nnc").write_bytes(data)
        print(f"\nOne bit of tensor {largest.name} is flipped.")
        run("verify tampered.nnc --trust vendor.pub", at, expect=CHANGED)

        run("strip release.nnc -o stripped.nnc --trust vendor.pub", at)

        print("\n             accuracy by the stock decoder   SHA-256")
        for label, path in (("model", model), ("release", release), ("stripped", stripped)):
            print(f"  {label:<10} {100 * score(path):24.2f} %      {sha256(path)[:32]}...")
        if sha256(model) != sha256(stripped):
            sys.exit("the stripped file is not the model")
    print(f"\nThe stripped file is the model, byte for byte. {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
