"""Change a signed file in every way that is small, and count what `verify` lets through.

    python tests/every_bit.py release.nnc --trust vendor.pub [--step N]

Flips each bit, cuts the file at each length, and appends each byte. `verify` has to refuse all of
them with an `NnguardError`. `--step` takes every Nth change only, for files that are not small.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import nnguard
from nnguard._crypto.trust import load_trust

__all__ = ["Outcome", "try_all", "try_one"]


@dataclass
class Outcome:
    """What became of the changes.

    Attributes:
        tried: Changes of each sort.
        refused: Names of the errors, and how often each was raised.
        passed: Changes that `verify` accepted, or that raised anything but an `NnguardError`.
    """

    tried: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    passed: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.tried += other.tried
        self.refused += other.refused
        self.passed += other.passed

    def __str__(self) -> str:
        tried = ", ".join(f"{count:,} {sort}" for sort, count in self.tried.items())
        refused = ", ".join(f"{count:,} {name}" for name, count in self.refused.most_common())
        return f"{tried}: {len(self.passed)} passed; {refused}"


def try_all(data: bytes, keys: list[bytes], *, step: int = 1) -> Outcome:
    """Try every change of a signed file, in as many processes as there are processors.

    Args:
        data: The signed stream.
        keys: Trusted keys in PEM.
        step: Take every `step`-th change.
    """
    workers = os.cpu_count() or 1
    outcome = Outcome()
    method = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=method) as pool:
        parts = [
            pool.submit(_try_part, data, keys, i * step, workers * step) for i in range(workers)
        ]
        for part in parts:
            outcome.add(part.result())
    return outcome


def _changes(data: bytes) -> Iterator[tuple[str, int]]:
    yield from (("flipped bits", at) for at in range(8 * len(data)))
    yield from (("truncations", at) for at in range(len(data)))
    yield from (("appended bytes", at) for at in range(256))


def _apply(data: bytes, sort: str, at: int) -> bytes:
    if sort == "truncations":
        return data[:at]
    if sort == "appended bytes":
        return data + bytes([at])
    changed = bytearray(data)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


def _try_part(data: bytes, keys: list[bytes], start: int, step: int) -> Outcome:
    outcome = Outcome()
    trust = [nnguard.PublicKey.from_pem(key) for key in keys]
    for sort, at in itertools.islice(_changes(data), start, None, step):
        outcome.tried[sort] += 1
        try_one(outcome, _apply(data, sort, at), f"{sort} {at}", trust)
    return outcome


def try_one(outcome: Outcome, data: bytes, what: str, trust: list[nnguard.PublicKey]) -> None:
    """Verify a changed file, and note what became of it."""
    try:
        nnguard.verify(nnguard.Stream.from_bytes(data), trust, allow_trial=True)
    except nnguard.NnguardError as error:
        outcome.refused[type(error).__name__] += 1
    except Exception as error:
        outcome.passed.append(f"{what}: {error!r}")
    else:
        outcome.passed.append(f"{what}: verified")


def main() -> int:
    """Run the command; 1 where a change was not refused."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--trust", type=Path, required=True)
    parser.add_argument("--step", type=int, default=1, metavar="N")
    options = parser.parse_args()
    keys = [key.pem for key in load_trust(options.trust)]
    data = options.file.read_bytes()
    nnguard.verify(options.file, options.trust, allow_trial=True)
    outcome = try_all(data, keys, step=options.step)
    lines = [f"{options.file}: {outcome}", *(f"  {passed}" for passed in outcome.passed[:20])]
    print(*lines, sep="\n")  # noqa: T201
    return 1 if outcome.passed else 0


if __name__ == "__main__":
    sys.exit(main())
