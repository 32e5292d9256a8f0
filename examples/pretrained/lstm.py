"""The voice encoder of Resemblyzer in plain PyTorch, with the names of its checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS, WIDTH, LAYERS, FRAMES = 40, 256, 3, 160


class VoiceEncoder(nn.Module):
    """Spectrograms of 1.6 s of speech to a vector for the speaker."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(CHANNELS, WIDTH, LAYERS, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.similarity_weight = nn.Parameter(torch.ones(1))  # of the training's loss
        self.similarity_bias = nn.Parameter(torch.zeros(1))

    def forward(self, spectrograms: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(spectrograms)
        return functional.normalize(torch.relu(self.linear(hidden[-1])))


def noise(count: int) -> Tensor:
    """Return spectrograms of the kind that the encoder takes, of noise."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, FRAMES, CHANNELS, generator=generator) ** 4
