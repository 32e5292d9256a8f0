"""Pretrained networks, from their makers' files to signed streams to loaded modules.

    make pretrained [DATA=folder]

Each network is compressed from its own file, signed, saved; then verified and loaded into a fresh
module. Its outputs have to be those of a module that has the stock NNCodec decoder's weights; its
score is shown beside that of the original weights, which PyTorch or safetensors reads.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

import nnguard.torch
import stock
from tasks import Task, tasks

COLUMNS = (
    "network",
    "weights, M",
    "file MB",
    "stream MB",
    "signed MB",
    "compress, sign s",
    "verify, load s",
    "score before",
    "loaded",
    "",
    "outputs of the stock decoder's weights",
)


def main() -> int:
    """Run all networks and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with models and test sets")
    parser.add_argument("--wheels", type=Path, help="folder for wheels (default: a temporary one)")
    parser.add_argument(
        "--limit", type=int, default=1000, help="images or pairs of each test set (%(default)s)"
    )
    parser.add_argument(
        "--qp",
        type=int,
        default=nnguard.Settings().qp,
        help="quantization parameter of weights (%(default)s)",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheels = options.wheels or Path(folder)
        key = nnguard.SigningKey.generate()
        print("| " + " | ".join(COLUMNS) + " |")
        print("|---" + "|--:" * 8 + "|---|---|", flush=True)
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
    nnguard.torch.load_into(module, release, trust=key.public_key)
    loaded = time.perf_counter() - start

    outputs = task.outputs(module)
    same = torch.equal(outputs, task.outputs(with_stock_weights(task.module(), release)))
    original = task.outputs(with_original_weights(task))
    sizes = [task.weights.stat().st_size, stream.size, release.stat().st_size]
    cells = [
        task.name,
        f"{sum(tensor.numel() for tensor in module.state_dict().values()) / 1e6:.2f}",
        *(f"{size / 1e6:.2f}" for size in sizes),
        f"{packed:.1f}",
        f"{loaded:.2f}",
        *(f"{task.metric(found, original):.2f}" for found in (original, outputs)),
        f"{task.unit}, {task.items} items",
        "the same" if same else "DIFFERENT",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)
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
    """Give a module the weights of its makers' file, without nnguard."""
    module = task.module()
    if task.weights.suffix == ".safetensors":
        state = safetensors.torch.load_file(task.weights)
    else:
        state = torch.load(task.weights, map_location="cpu", weights_only=True)
        state = state.get("model_state", state)
    module.load_state_dict(state)
    return module.eval()


if __name__ == "__main__":
    sys.exit(main())
