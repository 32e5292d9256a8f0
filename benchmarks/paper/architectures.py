"""VGG16, MobileNetV2 and a Vision Transformer for CIFAR-10: ten classes, 32 x 32 pixels.

The first two have torchvision's layers and names of tensors. With the buffers of batch
normalization, but for its counters, they have the numbers of values in the paper: 134,301,514 and
2,270,794 (and ResNet18 11,191,242).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from networks import ResNet18

__all__ = ["ARCHITECTURES", "MobileNetV2", "Normalized", "Vgg16", "VisionTransformer"]

_MEAN, _DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_CLASSES = 10
_VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Channels of each convolution; 0 is a pooling layer."""

_MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks, and stride of the first of them."""


class Normalized(nn.Module):
    """A network that takes bytes; adds nothing to the state dict."""

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn bytes into floats of mean 0 and deviation 1."""
        normalized: Tensor = (images.float() / 255 - self.mean) / self.deviation
        return normalized


class Vgg16(Normalized):
    """VGG16 without batch normalization (Simonyan and Zisserman, 2015)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for channels in _VGG16:
            if not channels:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()]
            inputs = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, _CLASSES),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(self.normalize(images))
        x = nn.functional.adaptive_avg_pool2d(x, (7, 7)).flatten(1)
        logits: Tensor = self.classifier(x)
        return logits


def _convolution(
    inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [_convolution(inputs, hidden, 1)] if expansion > 1 else []
        layers += [
            _convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.adds else y


class MobileNetV2(Normalized):
    """MobileNetV2 (Sandler et al., 2018), but that its first layer keeps the size of an image."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, 32, 3)]
        inputs = 32
        for expansion, channels, blocks, stride in _MOBILENET_V2:
            for block in range(blocks):
                own = stride if block == 0 else 1
                layers.append(_InvertedResidual(inputs, channels, own, expansion))
                inputs = channels
        layers.append(_convolution(inputs, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, _CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(self.normalize(images)).mean((2, 3)))
        return logits


class VisionTransformer(Normalized):
    """A small Vision Transformer (Dosovitskiy et al., 2021): patches of 8 x 8, six layers."""

    def __init__(self) -> None:
        super().__init__()
        width, patch = 128, 8
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, (32 // patch) ** 2 + 1, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(self.normalize(images)).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.positions
        logits: Tensor = self.head(self.norm(self.encoder(x)[:, 0]))
        return logits


ARCHITECTURES: dict[str, type[nn.Module]] = {
    "vgg16": Vgg16,
    "mobilenetv2": MobileNetV2,
    "resnet18": ResNet18,
    "vit": VisionTransformer,
}
"""The networks that `train.py` makes, by name."""
