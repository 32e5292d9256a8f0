"""Cost of a traceable lock, beside the exact one.

    export PYTHONPATH=tests:benchmarks:examples/pretrained
    python benchmarks/tracing_cost.py NETWORK --data DIR --wheels DIR [--runs 3] [--licenses 10000]

NETWORK is resnet56, minilm, or vgg16, which has VGG16's shapes and random weights. The trial is a
random network of as many weights. Whole processes, in turns: `lock`, `license issue` and
`unlock` of both kinds, and `trace` of a copy against many licenses. Prints medians, peak resident
memory and sizes, as Markdown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nnguard
import random_networks
from carried_cost import in_turns, nnguard_command, row
from nnguard._locking.choice import count_weights
from tracing_tuning import release

TRACE = """
import sys, nnguard
suspect, trial, key, own, count = sys.argv[1:]
ids = [f"{each:032x}" for each in range(int(count) - 1)] + [own]
accused = nnguard.trace(suspect, trial, key, ids).accused
sys.exit([each.license_id for each in accused] != [own])
"""
KINDS = {"exact": [], "traceable": ["--traceable"]}


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("network", choices=["resnet56", "minilm", "vgg16"])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--wheels", type=Path, required=True, metavar="DIR")
    parser.add_argument("--runs", type=int, default=3, help="of each (%(default)s)")
    parser.add_argument("--licenses", type=int, default=10_000, help="(%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        if options.network == "vgg16":
            nnguard.compress(random_networks.vgg16(), spool=at).save(at / "release.nnc")
        else:
            found = release(options.network, options.data, options.wheels, at)
            nnguard.Stream.open(found).save(at / "release.nnc")
        measure(at, options.runs, options.licenses)


def measure(at: Path, runs: int, licenses: int) -> None:
    """Sell the release in a folder in both ways, and print what it cost."""
    weights = count_weights(nnguard.Stream.open(at / "release.nnc"))
    nnguard.compress(random_networks.of_size(weights), spool=at).save(at / "weaker.nnc")
    nnguard.SigningKey.generate().save(at / "vendor.key")
    nnguard.SigningKey.load(at / "vendor.key").public_key.save(at / "vendor.pub")
    nnguard.sign(at / "release.nnc", at / "vendor.key", name="release").save(at / "signed.nnc")
    nnguard.Identity.generate().save(at / "customer.key")
    nnguard.Identity.load(at / "customer.key").recipient.save(at / "customer.pub")

    print(f"{weights:,} weights; the release has {(at / 'signed.nnc').stat().st_size:,} bytes\n")
    print("| | traceable s | MB | exact s | MB | ratio |\n|---|--:|--:|--:|--:|--:|")
    for label, commands in (
        ("lock", [lock(at, kind) for kind in KINDS]),
        ("license issue", [issue(at, kind) for kind in KINDS]),
        ("unlock", [unlock(at, kind) for kind in KINDS]),
    ):
        exact, traceable = commands
        print(row(label, in_turns(traceable, exact, runs)), flush=True)
    license_ = nnguard.licensing.License.load(at / "traceable.license")
    files = [at / "traceable.nnc", at / "traceable-trial.nnc", at / "content-traceable.key"]
    trace = [sys.executable, "-c", TRACE, *files, license_.terms.id]
    found = in_turns([*trace, str(licenses)], [*trace, "1"], runs)
    print(f"\n| | {licenses:,} licenses s | MB | one s | MB | ratio |\n|---|--:|--:|--:|--:|--:|")
    print(row("trace", found), flush=True)
    for name in ("{}-trial.nnc", "{}.license"):
        sizes = [(at / name.format(kind)).stat().st_size for kind in KINDS]
        print(f"\n{name.format('')}: exact {sizes[0]:,} bytes, traceable {sizes[1]:,}")


Command = Sequence[str | Path]


def lock(at: Path, kind: str) -> Command:
    """Return a command that locks."""
    command = nnguard_command("lock", at / "signed.nnc", "--trial", at / "weaker.nnc", "--force")
    command += ["-o", at / f"{kind}-trial.nnc", "--content-key", at / f"content-{kind}.key"]
    return [*command, "--key", at / "vendor.key", *KINDS[kind]]


def issue(at: Path, kind: str) -> Command:
    """Return a command that issues a license."""
    command = nnguard_command("license", "issue", at / f"{kind}-trial.nnc", "--force")
    command += ["-o", at / f"{kind}.license", "--to", at / "customer.pub"]
    return [*command, "--key", at / "vendor.key", "--content-key", at / f"content-{kind}.key"]


def unlock(at: Path, kind: str) -> Command:
    """Return a command that unlocks."""
    command = nnguard_command("unlock", at / f"{kind}-trial.nnc", "-o", at / f"{kind}.nnc")
    command += ["--license", at / f"{kind}.license", "--identity", at / "customer.key"]
    return [*command, "--trust", at / "vendor.pub", "--force"]


if __name__ == "__main__":
    main()
