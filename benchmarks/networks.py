"""The CIFAR-10 networks of the data folder as torch modules, and their accuracy.

The modules' state dicts have the names of the tensors in the streams. Weights come out of a stream
through nnguard's own decoder.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from cifar10 import TEST_SET
from nnguard._compression.quantizing import dequantize
from nnguard._stream import Stream
from nnguard._stream.headers import PayloadType
from nnguard._stream.quantized import decode

__all__ = ["NETWORKS", "accuracy", "add_data_argument", "load_weights"]

_CLASSES = 10
_BATCH = 50
_DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


class _Normalize(nn.Module):
    """Turns bytes into floats of mean 0 and deviation 1; adds nothing to the state dict."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images / 255 - self.mean) / self.deviation


class _PaddedShortcut(nn.Module):
    """Option A of He et al.: every second pixel, and zeros for the channels that are new."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.channels = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        padding = (0, 0, 0, 0, self.channels, self.channels)
        return nn.functional.pad(x[:, :, ::2, ::2], padding)


def _projection(inputs: int, outputs: int) -> nn.Module:
    """Return torchvision's shortcut: a convolution of single pixels."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
    )


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        stride = 1 if shortcut is None else 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.downsample(x))


def _stage(
    inputs: int, outputs: int, blocks: int, shortcut: Callable[[int, int], nn.Module]
) -> nn.Sequential:
    """Return blocks in a row; where the channels change, the first halves the resolution."""
    first = _BasicBlock(inputs, outputs, None if inputs == outputs else shortcut(inputs, outputs))
    return nn.Sequential(first, *(_BasicBlock(outputs, outputs, None) for _ in range(blocks - 1)))


class CifarResNet(nn.Module):
    """The ResNet of He et al. for CIFAR-10, with three stages of `blocks` blocks."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.normalize = _Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, _PaddedShortcut)
        self.layer2 = _stage(16, 32, blocks, _PaddedShortcut)
        self.layer3 = _stage(32, 64, blocks, _PaddedShortcut)
        self.linear = nn.Linear(64, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(self.normalize(images))))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class ResNet18(nn.Module):
    """The ResNet18 of torchvision with ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = _Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, 2, _projection)
        self.layer2 = _stage(64, 128, 2, _projection)
        self.layer3 = _stage(128, 256, 2, _projection)
        self.layer4 = _stage(256, 512, 2, _projection)
        self.fc = nn.Linear(512, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(self.normalize(images)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": partial(CifarResNet, 3),
    "resnet56": partial(CifarResNet, 9),
    "resnet18": ResNet18,
}
"""Constructors of the networks by name."""


def load_weights(module: nn.Module, stream: Stream) -> None:
    """Give a module the weights of a stream.

    Args:
        module: One of `NETWORKS`.
        stream: A stream of the same network. Counters of batches are not read.

    Raises:
        ValueError: The stream is of another network.
    """
    state = {
        unit.name: torch.from_numpy(dequantize(decode(unit)))
        for unit in stream
        if unit.tensor is not None and unit.tensor.payload_type == PayloadType.FLOAT
    }
    missing, unexpected = module.load_state_dict(state, strict=False)
    wrong = [name for name in missing if not name.endswith(".num_batches_tracked")] + unexpected
    if wrong:
        raise ValueError(f"the stream is of another network: {', '.join(wrong)}")


def accuracy(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images that a network classifies correctly, in percent.

    Args:
        module: One of `NETWORKS`, with its weights.
        images: uint8 of shape (n, 3, 32, 32).
        labels: int64 of shape (n,).
    """
    module.eval()
    correct = 0
    with torch.no_grad():
        for batch, truth in zip(
            torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True
        ):
            correct += int((module(batch).argmax(1) == truth).sum())
    return 100 * correct / len(labels)


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--data`; a folder without the data ends the program with exit code 2."""
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=_data_folder,
        default=str(_DEFAULT_DATA),
        help=f"folder with {TEST_SET} and streams/ (default: ../shared/data from the repository)",
    )


def _data_folder(text: str) -> Path:
    folder = Path(text)
    if not (folder / TEST_SET).is_file() or not (folder / "streams").is_dir():
        raise argparse.ArgumentTypeError(
            f"{folder} has no {TEST_SET} or no streams/; give the data folder"
        )
    return folder
