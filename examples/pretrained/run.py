"""Pretrained networks, from their makers' files to signed streams to loaded modules.

    make pretrained [DATA=folder]

Each network is compressed from its own file, signed, saved; then verified and loaded into a fresh
module. Its outputs are compared with those of a module that has the stock NNCodec decoder's
weights, and its score with that of the original weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import nnguard.torch
import stock
from nnguard.models.sources import open_model
from tasks import Task, tasks


def main() -> int:
    """Run all networks and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with models and test sets")
    parser.add_argument("--wheels", type=Path, help="folder for fetched wheels; a temporary one")
    parser.add_argument("--limit", type=int, default=1000, help="images or pairs of each test set")
    parser.add_argument("--qp", type=int, default=nnguard.Settings().qp)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheels = options.wheels or Path(folder)
        key = nnguard.SigningKey.generate()
        print(
            "| network | file MB | signed MB | compress s | verify and load s | score before | ",
            end="",
        )
        print("loaded | | outputs of the stock decoder's weights |")
        print("|---|--:|--:|--:|--:|--:|--:|---|---|")
        same = [
            show(task, key, Path(folder, f"{task.name}.nnc"), nnguard.Settings(qp=options.qp))
            for task in tasks(options.data, wheels, options.limit)
        ]
    return 0 if all(same) else 1


def show(task: Task, key: nnguard.SigningKey, release: Path, settings: nnguard.Settings) -> bool:
    """Take one network all the way, and print its line; tell whether outputs were the same."""
    start = time.perf_counter()
    stream = nnguard.compress(task.weights, settings)
    nnguard.sign(stream, key, issuer="example", name=task.name).save(release)
    packed = time.perf_counter() - start

    module = task.module().eval()
    start = time.perf_counter()
    nnguard.torch.load_into(module, release, trust=[key.public_key])
    loaded = time.perf_counter() - start

    outputs = task.outputs(module)
    same = torch.equal(outputs, task.outputs(with_stock_weights(task.module(), release)))
    before = task.metric(task.outputs(with_original_weights(task)))
    print(
        f"| {task.name} | {task.weights.stat().st_size / 1e6:.1f} | "
        f"{release.stat().st_size / 1e6:.1f} | {packed:.1f} | {loaded:.2f} | {before:.2f} | "
        f"{task.metric(outputs):.2f} | {task.unit} | {'the same' if same else 'DIFFERENT'} |",
        flush=True,
    )
    return same


def with_stock_weights(module: nn.Module, release: Path) -> nn.Module:
    """Give a module what the stock decoder makes of a stream: float32, and no scalars."""
    decoded = stock.decode(release.read_bytes())
    state = {
        name: torch.from_numpy(decoded[name]).to(own.dtype).reshape(own.shape)
        for name, own in module.state_dict().items()
        if name in decoded  # files from before PyTorch 0.4.1 have no counters
    }
    module.load_state_dict(state)
    return module.eval()


def with_original_weights(task: Task) -> nn.Module:
    """Give a module the weights of its makers' file."""
    module = task.module()
    state = {
        tensor.name: torch.from_numpy(tensor.values.read(0, tensor.size)).reshape(tensor.shape)
        for tensor in open_model(task.weights)
    }
    module.load_state_dict(state)
    return module.eval()


if __name__ == "__main__":
    sys.exit(main())
