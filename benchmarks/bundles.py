"""What a bundle of OpenSSF Model Signing costs beside nnguard's signature, and model_signing.

    PYTHONPATH=tests:benchmarks python benchmarks/bundles.py [--megabytes 700] [--runs 7]

It needs model_signing: `make test` installs it.

A folder of eight shards, whose large units are random bytes; whole processes in turns, files in the
page cache, medians. Memory is the peak of resident memory, as the kernel noted it.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import nnguard
import samples
import stock
from ecdsa_keys import write_key
from peak_memory import measure

PEER = Path(__file__).parents[1] / ".venv" / "model_signing" / "bin" / "python"
SHARDS = 8
UNIT = 4 << 20
"""Bytes of a unit that carries nothing."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=700)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, arguments.megabytes * 10**6 // SHARDS)
        commands = commands_in(folder)
        found: dict[str, list[tuple[float, float, float]]] = {what: [] for what in commands}
        for _ in range(arguments.runs):
            for what, command in commands.items():
                shutil.rmtree(folder / "out", ignore_errors=True)
                before = processor_seconds()
                peak = measure(command)
                busy = processor_seconds() - before
                found[what].append((peak.seconds, busy, max(peak.processes) / 1e6))
    print("| command | seconds | fastest | processor seconds | peak MB |\n|---|--:|--:|--:|--:|")
    for what, runs in found.items():
        seconds, busy, memory = (statistics.median(each) for each in zip(*runs, strict=True))
        fastest = min(run[0] for run in runs)
        print(f"| {what} | {seconds:.2f} | {fastest:.2f} | {busy:.2f} | {memory:.0f} |")


def processor_seconds() -> float:
    """Return what all commands so far took of processors."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def build(folder: Path, size: int) -> None:
    """Write keys, `streams`, and `release` with its bundle in it."""
    write_key(folder)
    key = nnguard.SigningKey.generate()
    key.save(folder / "vendor.key")
    key.public_key.save(folder / "vendor.pub")
    streams = {}
    for at in range(SHARDS):
        small = {f"{at}.{name}": each for name, each in samples.small_network(seed=at).items()}
        opaque = [
            samples.unit(40, np.random.default_rng((at, n)).bytes(UNIT))
            for n in range(size // UNIT)
        ]
        data = stock.encode(small, qp=-20, dependent=True) + b"".join(opaque)
        streams[f"model-{at + 1:05}-of-{SHARDS:05}.nnc"] = nnguard.Stream.from_bytes(data)
    nnguard.StreamSet.of(streams).save(folder / "streams")
    release = nnguard.sign(folder / "streams", key, name="random")
    nnguard.oms.save(release, folder / "release", folder / "model.sig", folder / "oms.key")


def commands_in(folder: Path) -> dict[str, list[object]]:
    """Return the commands to compare, by what the table calls them."""
    ours = [Path(sys.executable).parent / "nnguard"]
    peer = [PEER, "-m", "model_signing"]
    release, out = folder / "release", folder / "out"
    verify = [*ours, "verify", release, "--trust", folder / "vendor.pub"]
    sign = [*ours, "sign", folder / "streams", "-o", out, "--key", folder / "vendor.key"]
    signature = ["--signature", folder / "model.sig"]
    return {
        "openssl dgst -sha256": ["openssl", "dgst", "-sha256", *sorted(release.glob("*.nnc"))],
        "nnguard verify": verify,
        "nnguard verify --oms": [
            *verify,
            "--oms",
            folder / "model.sig",
            "--oms-trust",
            folder / "oms.pub",
        ],
        "model_signing verify key": [
            *peer,
            "verify",
            "key",
            release,
            *signature,
            "--public_key",
            folder / "oms.pub",
        ],
        "nnguard sign": sign,
        "nnguard sign --oms": [*sign, "--oms", out / "model.sig", "--oms-key", folder / "oms.key"],
        "model_signing sign key": [
            *peer,
            "sign",
            "key",
            release,
            "--signature",
            folder / "theirs.sig",
            "--private_key",
            folder / "oms.key",
        ],
    }


if __name__ == "__main__":
    main()
