"""A fine-tuned network, locked with the one that it was made of as the trial.

    export PYTHONPATH=tests:benchmarks:examples/pretrained
    python benchmarks/fine_tuned.py NETWORK --data DIR --cifar10 PATH --wheels DIR --output DIR
        [--steps 300] [--rates 0.001 0.01] [--qp -38]

Tensors are carried as differences to those of the trial. Networks are trained on a tenth of the
training data, compressed as `nnguard compress` does it, locked, opened, and compared byte for byte.
A row has the scores of both networks, and the size of the locked trial beside the sum of both: if
all tensors were carried whole, it would be 100 % or a little more.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch

import nnguard
import nnguard.torch
from nnguard._hiding import peek
from opening import open_locks
from tracing_tuning import network_arguments, prepared, subject

HEAD = (
    "| steps, rate | score: trial | release | bytes: trial | release | carried | locked trial "
    "| % of both | lock s | unlock s | bits in each |\n|---|" + "--:|" * 10
)


def rows(options: argparse.Namespace) -> Iterator[str]:
    """Yield a row for each learning rate."""
    network = subject(
        options.network, options.data, options.cifar10, options.wheels, options.images
    )
    settings = nnguard.Settings(qp=options.qp)
    state = nnguard.torch.decompress(nnguard.Stream.open(options.stream))
    base = nnguard.compress(state, settings)
    before = network.score(nnguard.torch.decompress(base))
    for rate in options.rates:
        trained = network.train(state, steps=options.steps, rate=rate)
        tuned = {name: trained.get(name, tensor) for name, tensor in state.items()}
        release = nnguard.compress(tuned, settings)
        began = time.perf_counter()
        try:
            locked = nnguard.lock(release, trial=base, allow_near=True)
        except nnguard.errors.LockError as error:
            yield f"| {options.steps}, {rate:g} | {error} |"
            continue
        done = time.perf_counter()
        if bytes(open_locks(locked.trial, locked.content_key).stream) != bytes(release):
            raise ValueError("what was unlocked is not the release")
        seconds = f"{done - began:.1f} | {time.perf_counter() - done:.1f}"
        after = network.score(nnguard.torch.decompress(release))
        sizes = (base.size, release.size, locked.carried, locked.trial.size)
        header, _ = peek(locked.trial, 1)
        yield (
            f"| {options.steps}, {rate:g} | {before:.2f} | {after:.2f} | "
            + " | ".join(f"{size:,}" for size in sizes)
            + f" | {100 * locked.trial.size / (base.size + release.size):.0f} | {seconds} "
            f"| {max(header.widths)} |"
        )


def main() -> None:
    """Measure, from the command line."""
    parser = network_arguments(__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300, help="of training (%(default)s)")
    parser.add_argument("--rates", type=float, nargs="*", default=[0.001, 0.01])
    parser.add_argument("--qp", type=int, default=nnguard.Settings().qp, help="(%(default)s)")
    print(HEAD)
    for row in rows(prepared(parser.parse_args())):
        print(row, flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
