"""A BERT encoder in plain PyTorch, with the names of Hugging Face's checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, LAYERS, INNER, VOCABULARY, POSITIONS = 384, 12, 6, 1536, 30522, 512


class Embeddings(nn.Module):
    """Words, positions and segment, summed and normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, WIDTH)
        self.position_embeddings = nn.Embedding(POSITIONS, WIDTH)
        self.token_type_embeddings = nn.Embedding(2, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.register_buffer("position_ids", torch.arange(POSITIONS).unsqueeze(0))

    def forward(self, tokens: Tensor) -> Tensor:
        positions = self.position_embeddings(self.position_ids[:, : tokens.shape[1]])
        segment = self.token_type_embeddings(torch.zeros_like(tokens))
        normalized: Tensor = self.LayerNorm(self.word_embeddings(tokens) + positions + segment)
        return normalized


class Attention(nn.Module):
    """Queries, keys and values of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        def heads(projected: Tensor) -> Tensor:
            return projected.unflatten(-1, (HEADS, -1)).transpose(1, 2)

        found = functional.scaled_dot_product_attention(
            heads(self.query(states)),
            heads(self.key(states)),
            heads(self.value(states)),
            attn_mask=mask[:, None, None, :],
        )
        return found.transpose(1, 2).flatten(2)


class Residual(nn.Module):
    """A projection, added to what came in, and normalized."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        normalized: Tensor = self.LayerNorm(self.dense(states) + residual)
        return normalized


class Layer(nn.Module):
    """One layer of the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": Attention(), "output": Residual(WIDTH)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(WIDTH, INNER)})
        self.output = Residual(INNER)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        attended = self.attention["output"](self.attention["self"](states, mask), states)
        inner = functional.gelu(self.intermediate["dense"](attended))
        found: Tensor = self.output(inner, attended)
        return found


class SentenceEncoder(nn.Module):
    """all-MiniLM-L6-v2: the mean of the last layer over a sentence's tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(LAYERS))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(WIDTH, WIDTH)})  # in the file; not used

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states = self.embeddings(tokens)
        for layer in self.encoder["layer"]:
            states = layer(states, mask)
        weights = mask.unsqueeze(-1).to(states.dtype)
        mean: Tensor = (states * weights).sum(1) / weights.sum(1)
        return functional.normalize(mean)
