"""Train the paper's networks on CIFAR-10, on a GPU where there is one.

    python benchmarks/paper/train.py vgg16 --cifar10 cifar10.npz --output networks --minutes 60

Writes NETWORK.safetensors and NETWORK.json: accuracy, epochs, seed, machine. The schedule is for so
many minutes: more time, or a faster machine, gives a better network.

VGG16 has no batch normalization, and takes many epochs to learn anything without. It is trained
with it, and the normalization is folded into the convolutions at the end, which computes the same.
Its first linear layer sees each of 512 values 49 times, since one pixel is all that is left of an
image: the 49 weights of a value have the same gradient, so their sum is trained, and each then gets
its share on top of its own random beginning. That is what training all of them would give. Most of
the time it is shown images of half the size, at a third of the cost.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import cifar10
from networks import accuracy
from paper.architectures import ARCHITECTURES, MobileNetV2, Normalized, Vgg16, VisionTransformer
from results import SEED, describe

BATCH = 128
RATES = {"vgg16": 0.05, "resnet18": 0.1, "mobilenetv2": 0.002, "vit": 0.001}
"""Of SGD with momentum, or of AdamW for the last two."""
DECAY, MOMENTUM = 5e-4, 0.9
HALF_SIZE = {"vgg16": 0.7}
"""Share of the time in which images have half their size."""

_COPIES = 7 * 7


class VggInTraining(Normalized):
    """VGG16 with batch normalization, and the copies of its first linear layer summed up."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = Vgg16()
        layers: list[nn.Module] = []
        for layer in self.plain.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
                own = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1, bias=False)
                own.weight.data.copy_(layer.weight.data)
                layers += [own, nn.BatchNorm2d(layer.out_channels)]
            else:
                layers.append(layer)
        self.features = nn.Sequential(*layers)
        first, second, last = (m for m in self.plain.classifier if isinstance(m, nn.Linear))
        for linear in (first, second, last):
            nn.init.normal_(linear.weight, 0, 0.01)
            nn.init.zeros_(linear.bias)
        self.summed = nn.Linear(512, first.out_features)
        self.summed.weight.data.copy_(first.weight.data.view(-1, 512, _COPIES).sum(2))
        self.summed.bias.data.zero_()
        self.rest = self.plain.classifier[1:]
        first.requires_grad_(requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.features[:-1](self.normalize(images))
        x = nn.functional.adaptive_max_pool2d(x, 1)  # the last pooling, for images of any size
        logits: Tensor = self.rest(self.summed(x.flatten(1)))
        return logits

    @torch.no_grad()
    def folded(self) -> Vgg16:
        """Return the network without batch normalization that computes the same."""
        ours = iter(self.features)
        for layer in self.plain.features:
            trained = next(ours)
            if isinstance(layer, nn.Conv2d):
                norm = next(ours)
                scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                layer.weight.copy_(trained.weight * scale.view(-1, 1, 1, 1))
                layer.bias.copy_(norm.bias - norm.running_mean * scale)
        first = self.plain.classifier[0]
        copies = first.weight.view(-1, 512, _COPIES)
        copies += (self.summed.weight - copies.sum(2)).unsqueeze(2) / _COPIES
        first.bias.copy_(self.summed.bias)
        return self.plain


def build(name: str) -> nn.Module:
    """Return a network as it is trained."""
    if name == "vgg16":
        return VggInTraining()
    return ARCHITECTURES[name]()


def finish(module: nn.Module) -> nn.Module:
    """Return a trained network as it is used."""
    return module.folded() if isinstance(module, VggInTraining) else module


def batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch: shifted by up to four pixels, half of them mirrored."""
    for chosen in torch.randperm(len(labels)).split(BATCH)[:-1]:
        batch = nn.functional.pad(images[chosen].float(), (4, 4, 4, 4))
        down, right = torch.randint(9, (2, len(chosen)))
        rows = down.view(-1, 1) + torch.arange(32)
        columns = right.view(-1, 1) + torch.arange(32)
        mirrored = torch.rand(len(chosen)) < 0.5
        columns[mirrored] = columns[mirrored].flip(1)
        at = torch.arange(len(chosen)).view(-1, 1, 1)
        cut = batch.permute(0, 2, 3, 1)[at, rows.unsqueeze(2), columns.unsqueeze(1)]
        yield cut.permute(0, 3, 1, 2), labels[chosen]


def train(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    rate: float,
    minutes: float,
    half_size: float = 0.0,
) -> float:
    """Train until the time is up; return the number of epochs."""
    device = next(module.parameters()).device
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer = torch.optim.SGD(
        trained, rate, MOMENTUM, weight_decay=DECAY, nesterov=True, fused=True
    )
    if isinstance(module, (MobileNetV2, VisionTransformer)):
        optimizer = torch.optim.AdamW(trained, rate, weight_decay=0.01, fused=True)
    started, steps, progress = time.monotonic(), 0, 0.0
    module.train()
    while progress < 1:
        for inputs, truth in batches(images, labels):
            progress = min((time.monotonic() - started) / (60 * minutes), 1.0)
            warm = min(progress / 0.1, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = rate * warm * (1 - progress) + 1e-5
            if progress < half_size:
                inputs = nn.functional.avg_pool2d(inputs, 2)
            with torch.autocast(device.type, torch.bfloat16):
                outputs = module(inputs.to(device, memory_format=torch.channels_last))
            wanted = truth.to(device)
            loss = nn.functional.cross_entropy(outputs.float(), wanted, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if steps % 50 == 0:
                epochs = steps * BATCH / len(labels)
                print(f"{progress:6.1%}  epoch {epochs:.2f}  loss {loss:.3f}", file=sys.stderr)
            if progress == 1:
                break
    return steps * BATCH / len(labels)


def main() -> None:
    """Train a network from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("network", choices=RATES)
    parser.add_argument("--cifar10", type=Path, required=True, metavar="PATH", help=cifar10.FORMS)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=60, help="of training (%(default)g)")
    parser.add_argument("--rate", type=float, help="learning rate")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = build(options.network).to(device, memory_format=torch.channels_last)
    images, labels = cifar10.load(options.cifar10, "train")
    rate = options.rate or RATES[options.network]
    half_size = HALF_SIZE.get(options.network, 0)
    epochs = train(module, images, labels, rate, options.minutes, half_size)
    trained = finish(module).cpu()
    score = accuracy(trained, *cifar10.load(options.cifar10, "test"))
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{options.network}.safetensors"
    save_file({name: t.contiguous() for name, t in trained.state_dict().items()}, str(path))
    facts = {"accuracy": score, "epochs": round(epochs, 2), "device": device, **describe()}
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{options.network}: {score:.2f} % after {epochs:.1f} epochs: {path}")


if __name__ == "__main__":
    main()
