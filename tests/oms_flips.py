"""Flip each bit of a folder and of its bundle, and list what OpenSSF Model Signing lets through.

    python tests/oms_flips.py TOOL FOLDER BUNDLE PUBLIC_KEY

TOOL is `nnguard` or `model_signing`; each runs in an environment of its own. Prints JSON: how many
bits were flipped, and the file, byte and bit of those after which the folder still verified.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


def main(tool: str, folder: Path, bundle: Path, public_key: Path) -> None:
    """Print what passes."""
    verify = TOOLS[tool](folder, bundle, public_key)
    if not verify():
        raise SystemExit("the folder does not verify as it is")
    tried, passed = 0, []
    for path in sorted({*folder.rglob("*"), bundle}):
        for byte, bit in flips(path) if path.is_file() else ():
            tried += 1
            if verify():
                passed.append((path.name, byte, bit))
    print(json.dumps({"tried": tried, "passed": passed}))  # noqa: T201


def flips(path: Path) -> Iterator[tuple[int, int]]:
    """Flip each bit of a file, and put it back when the next one is asked for."""
    data = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for byte, value in enumerate(data):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([value ^ 1 << bit]), byte)
                yield byte, bit
            os.pwrite(file.fileno(), bytes([value]), byte)


def nnguard(folder: Path, bundle: Path, public_key: Path) -> Callable[[], bool]:
    """Return what verifies with nnguard, without the signature in the weights."""
    from nnguard.errors import VerificationError, WrongKeyError
    from nnguard.oms import Bundle

    def verify() -> bool:
        try:
            Bundle.open(bundle, public_key).check(folder)
        except (VerificationError, WrongKeyError):
            return False
        return True

    return verify


def model_signing(folder: Path, bundle: Path, public_key: Path) -> Callable[[], bool]:
    """Return what verifies with model_signing."""
    from model_signing import hashing, verifying  # type: ignore[import-not-found]

    def verify() -> bool:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        ignored = hashing.Config().set_ignored_paths(paths=[bundle.name])  # as its command does
        try:
            config.set_hashing_config(ignored).verify(folder, bundle)
        except Exception:  # it has no error of its own
            return False
        return True

    return verify


TOOLS = {"nnguard": nnguard, "model_signing": model_signing}

if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
