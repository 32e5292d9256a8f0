"""Make weaker networks, such as a seller gives away: early checkpoints, half of an encoder.

    export PYTHONPATH=tests:benchmarks:examples/pretrained
    python benchmarks/weaker.py NETWORK --data DIR --cifar10 PATH --wheels DIR --output DIR

NETWORK is resnet20 or resnet56: from scratch, trained on CIFAR-10 for 450 steps of 128 images; or
minilm: the first three of six layers of all-MiniLM-L6-v2, without any training. Writes
NETWORK.safetensors, NETWORK.nnc (nnguard's default settings, or `--qp`), and NETWORK.json with the
scores of both on the whole test set. On one machine, two runs train the same network.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import chain, islice, repeat
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import cifar10
import nnguard
import nnguard.torch
from bert import SentenceEncoder
from networks import NETWORKS
from paper.train import DECAY, MOMENTUM, batches
from results import SEED, describe
from tasks import Task, tasks

STEPS, RATE = 450, 0.1
"""Of training, of 128 images each; the learning rate falls to 0 along a line."""

LAYERS = 3
"""Of the encoder that a trial keeps."""

TASKS = {"resnet20": "resnet20", "resnet56": "resnet56", "minilm": "all-MiniLM-L6-v2"}
ALL = 1 << 20
"""More than any test set has."""


def weaker_resnet(name: str, images: Tensor, labels: Tensor, steps: int) -> nn.Module:
    """Return a ResNet after a few steps from scratch.

    Args:
        name: "resnet20" or "resnet56".
        images: uint8 of shape (n, 3, 32, 32).
        labels: int64 of shape (n,).
        steps: How many, of 128 images each.
    """
    torch.manual_seed(SEED)
    module = NETWORKS[name]().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        module.parameters(), RATE, MOMENTUM, weight_decay=DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 1 / steps, steps)
    epochs = chain.from_iterable(batches(images, labels) for _ in repeat(None))
    for step, (inputs, truth) in enumerate(islice(epochs, steps), 1):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = module(inputs)
        loss = nn.functional.cross_entropy(outputs.float(), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{name}: step {step}, loss {loss:.3f}", file=sys.stderr, flush=True)
    return module.to(memory_format=torch.contiguous_format).eval()


def shallow_encoder() -> nn.Module:
    """Return an encoder with the first layers of `SentenceEncoder` only, without weights."""
    module = SentenceEncoder()
    del module.encoder["layer"][LAYERS:]
    return module


def weaker_minilm(release: Path) -> nn.Module:
    """Return the first layers of the encoder, as they are in the release."""
    module = shallow_encoder()
    state = load_file(release)
    module.load_state_dict({name: state[name] for name in module.state_dict()})
    return module.eval()


def score(task: Task, module: nn.Module) -> float:
    """Return how good a module is at a task, in percent."""
    outputs = task.outputs(module.eval())
    return task.metric(outputs, outputs)


def make(options: argparse.Namespace) -> nn.Module:
    """Return the weaker network that was asked for."""
    if options.network == "minilm":
        (task,) = (t for t in tasks(options.data, options.wheels, ALL) if t.name == TASKS["minilm"])
        return weaker_minilm(task.weights)
    images, labels = cifar10.load(options.cifar10, "train")
    return weaker_resnet(options.network, images, labels, options.steps)


def main() -> None:
    """Make a weaker network from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("network", choices=TASKS)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--cifar10", type=Path, metavar="PATH", help=cifar10.FORMS)
    parser.add_argument("--wheels", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training (%(default)s)")
    parser.add_argument("--qp", type=int, default=nnguard.Settings().qp, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    (task,) = (
        t for t in tasks(options.data, options.wheels, ALL) if t.name == TASKS[options.network]
    )
    module = make(options)
    path = options.output / f"{options.network}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in module.state_dict().items()}, str(path))
    trained = score(task, module)
    stream = nnguard.compress(path, nnguard.Settings(qp=options.qp))
    stream.save(path.with_suffix(".nnc"), overwrite=True)
    module.load_state_dict(nnguard.torch.decompress(stream))
    facts = {
        "score": trained,
        "compressed": score(task, module),
        "unit": task.unit,
        "items": task.items,
        "weights": sum(tensor.numel() for tensor in module.state_dict().values()),
        "bytes": stream.size,
        **describe(),
    }
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{options.network}: {trained:.2f}, compressed {facts['compressed']:.2f} {task.unit}")


if __name__ == "__main__":
    main()
