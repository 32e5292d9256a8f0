"""The networks of the experiments, and what each is scored by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import nnguard
import nnguard.torch
from paper.architectures import ARCHITECTURES
from tasks import Task, cifar, tasks

__all__ = ["NAMES", "PAPER", "Subject", "load_subject"]

_TASKS = {
    "resnet20": "resnet20",
    "resnet56": "resnet56",
    "efficientnet-lite0": "efficientnet-lite0",
    "minilm": "all-MiniLM-L6-v2",
}
PAPER = ("vgg16", "mobilenetv2", "resnet18")
NAMES = (*PAPER, *_TASKS, "vit")
"""The paper's networks, and all. Those of `ARCHITECTURES` are trained, but for ResNet18."""

_QP = -38


class Subject:
    """A network and its task.

    Args:
        name: Of the network.
        task: What it does.
        folder: Where its streams are kept, once made.
    """

    def __init__(self, name: str, task: Task, folder: Path) -> None:
        self.name, self._task, self._folder = name, task, folder
        self.unit, self.items = task.unit, task.items
        self._module = task.module().eval().to(memory_format=torch.channels_last)

    @property
    def raw_bytes(self) -> int:
        """Size of the weights as they are stored."""
        return self._task.weights.stat().st_size

    def raw_score(self) -> float:
        """Score the weights as they are stored."""
        path = self._task.weights
        if path.suffix == ".safetensors":
            return self._score(load_file(str(path)))
        return self._score(torch.load(path, map_location="cpu", weights_only=True))

    def stream(self, *, dependent: bool) -> nnguard.Stream:
        """Return the network's stream at qp -38, of the stock encoder's bytes."""
        path = self._folder / f"{self.name}.{'tcq' if dependent else 'urq'}.nnc"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            settings = nnguard.Settings(qp=_QP, dependent=dependent)
            nnguard.compress(self._task.weights, settings).save(path)
        return nnguard.Stream.open(path)

    def score_of(self, stream: nnguard.Stream) -> float:
        """Score the weights of a stream."""
        return self._score(nnguard.decompress(stream, allow_trial=True))  # whatever it holds

    def _score(self, state: Mapping[str, Any]) -> float:
        own = self._module.state_dict()
        weights = {name: torch.as_tensor(value) for name, value in state.items() if name in own}
        self._module.load_state_dict(
            {name: value.reshape(own[name].shape) for name, value in weights.items()},
            strict=False,
        )
        outputs = self._task.outputs(self._module)
        return self._task.metric(outputs, outputs)  # none of these tasks compares with the original


def load_subject(name: str, data: Path, networks: Path, wheels: Path, items: int) -> Subject:
    """Return a network by name.

    Args:
        name: One of `NAMES`.
        data: Folder with test sets and models.
        networks: Folder with what `train.py` made; streams are kept there, too.
        wheels: Folder for wheels of the package index.
        items: Of the test data, at most.

    Raises:
        FileNotFoundError: The network has to be trained first.
    """
    if name in ARCHITECTURES:
        task = _classifier(name, data, networks, items)
    else:
        (task,) = (t for t in tasks(data, wheels, items) if t.name == _TASKS[name])
    return Subject(name, task, networks / "streams")


def _classifier(name: str, data: Path, networks: Path, items: int) -> Task:
    found = [networks / f"{name}.safetensors", data / "models" / f"{name}-cifar10.safetensors"]
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{found[0]}: train it first (benchmarks/paper/train.py {name})")
    return cifar(name, path, ARCHITECTURES[name], data, items)
