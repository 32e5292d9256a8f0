"""Fine-tuning for the tracing benchmark: what it does to the weights, kept for many coalitions.

weights = Tuned(folder, name, make, stream, steps).weights(0.01)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import attacks
import cifar10
import encoders
import nnguard
import nnguard.torch
from bert import SentenceEncoder
from networks import NETWORKS, accuracy
from results import SEED
from tasks import tasks

__all__ = ["Classifier", "Encoder", "Subject", "Tuned", "release", "subject"]

State = Mapping[str, Tensor]
SHARE = 10
"""The attacker has one training image of so many."""


class Subject(Protocol):
    """A network, what it is good at, and how it is trained further."""

    @property
    def unit(self) -> str:
        """What `score` counts."""

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates that are searched."""

    def score(self, state: State) -> float:
        """Return how good a network of such weights is, in percent."""

    def train(self, state: State, *, steps: int, rate: float) -> dict[str, Tensor]:
        """Return the weights after training further."""


class Classifier:
    """A network on CIFAR-10.

    Args:
        name: One of `NETWORKS`.
        data: Folder with the test set.
        training: See `cifar10.FORMS`.
        images: Test images.
    """

    unit = "% of CIFAR-10"
    rates = (0.002, 0.01, 0.05)

    def __init__(self, name: str, data: Path, training: Path | None, images: int) -> None:
        self._name = name
        self._module = NETWORKS[name]().to(memory_format=torch.channels_last)
        test, labels = cifar10.load(data, "test")
        self._test = test[:images], labels[:images]
        self._training = training

    def score(self, state: State) -> float:
        """Return the accuracy."""
        attacks.load(self._module, state)
        return accuracy(self._module, *self._test)

    def train(self, state: State, *, steps: int, rate: float) -> dict[str, Tensor]:
        """Train on a tenth of the training images, in batches of 64."""
        if self._training is None:
            raise ValueError("no training images: give --cifar10")
        images, labels = cifar10.load(self._training, "train")
        mine = np.random.default_rng(SEED).permutation(len(labels))[: len(labels) // SHARE]
        attacks.load(self._module, state)
        attacks.train(self._module, images[mine], labels[mine], steps=steps, rate=rate)
        return _float_state(self._module)

    def distill(self, state: State, *, steps: int, rate: float) -> dict[str, Tensor]:
        """Train a new network on the answers of one to a tenth of the training images."""
        if self._training is None:
            raise ValueError("no training images: give --cifar10")
        images, labels = cifar10.load(self._training, "train")
        mine = images[np.random.default_rng(SEED).permutation(len(labels))[: len(labels) // SHARE]]
        attacks.load(self._module, state)
        self._module.eval()
        with torch.no_grad():
            answers = torch.cat([self._module(part).argmax(1) for part in mine.split(250)])
        torch.manual_seed(SEED)
        student = NETWORKS[self._name]().to(memory_format=torch.channels_last)
        attacks.train(student, mine, answers, steps=steps, rate=rate)
        return _float_state(student)


class Encoder:
    """all-MiniLM-L6-v2 on STS-B: 879 pairs are the test, 500 (a tenth of the training set) theirs.

    Args:
        data: Folder with STS-B.
        vocabulary: Of the encoder.
    """

    unit = "Spearman's rho, in %"
    rates = (2e-5, 1e-4, 5e-4)

    def __init__(self, data: Path, vocabulary: Path) -> None:
        self._module = SentenceEncoder()
        self._pairs = encoders.Pairs(data / "stsb-en-test.csv", vocabulary)

    def score(self, state: State) -> float:
        """Return Spearman's rho."""
        attacks.load(self._module, _known(self._module, state))
        return encoders.score(self._module, self._pairs)

    def train(self, state: State, *, steps: int, rate: float) -> dict[str, Tensor]:
        """Train on the attacker's pairs, in batches of 24."""
        attacks.load(self._module, _known(self._module, state))
        encoders.train(
            self._module,
            self._pairs,
            self._pairs.theirs,
            steps=steps,
            rate=rate,
            loss_of=encoders.uncorrelated,
        )
        return _float_state(self._module)


def subject(name: str, data: Path, training: Path | None, wheels: Path, images: int) -> Subject:
    """Return the network of a name: "minilm", or one of `NETWORKS`."""
    if name == "minilm":
        return Encoder(data, next(wheels.rglob("vocab.txt")))
    return Classifier(name, data, training, images)


def release(name: str, data: Path, wheels: Path, folder: Path) -> Path:
    """Return the stream of a network: of the data folder, or compressed as `nnguard` does it."""
    if name != "minilm":
        return data / "streams" / f"{name}.urq38.nnc"
    path = folder / "minilm.nnc"
    if not path.exists():
        (task,) = (t for t in tasks(data, wheels, 1) if "MiniLM" in t.name)
        nnguard.compress(task.weights).save(path)
    return path


def network_arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser of what every benchmark of tracing has to know."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("network", choices=["resnet20", "resnet56", "resnet18", "minilm"])
    parser.add_argument("--stream", type=Path, metavar="FILE", help="the release")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--cifar10", type=Path, metavar="PATH", help=cifar10.FORMS)
    parser.add_argument("--wheels", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=10_000, help="test images (%(default)s)")
    parser.add_argument("--report", action="store_true", help="print what was measured before")
    return parser


def prepared(options: argparse.Namespace) -> argparse.Namespace:
    """Return options with the release, once everything is ready for measuring."""
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    options.stream = options.stream or release(
        options.network, options.data, options.wheels, options.output
    )
    return options


class Tuned:
    """What training does to a release, by learning rate; trained once, kept in a folder.

    Args:
        folder: Where changes are kept.
        name: Of the network and its stream.
        make: Makes the subject, when something is to be trained.
        stream: The release.
        steps: Of training.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        make: Callable[[], Subject],
        stream: nnguard.Stream,
        steps: int,
    ) -> None:
        self._folder, self._name, self._make = folder, name, make
        self._stream, self._steps = stream, steps

    def weights(self, rate: float) -> dict[str, Tensor]:
        """Return the weights after training at a rate."""
        path = self._folder / f"{self._name}-{self._steps}-{rate}.safetensors"
        if not path.exists():
            started = time.monotonic()
            before = nnguard.torch.decompress(self._stream, allow_trial=True)
            after = self._make().train(before, steps=self._steps, rate=rate)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(after, str(path))
            print(f"{path.name}: {time.monotonic() - started:.0f} s", flush=True)
        return load_file(path)


def _float_state(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.detach().clone().contiguous()
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    }


def _known(module: nn.Module, state: State) -> State:
    own = module.state_dict()
    return {n: v for n, v in state.items() if n in own and own[n].is_floating_point()}
