"""Train the example's network and write `digits.nnc` and `digits_test.npz` beside this file.

`weaker.nnc` is the same network after 9 steps: the one that is given away as a trial. All three
are in the repository, so nobody has to run this. It needs torch, scikit-learn and the stock coder
of the tests:

    PYTHONPATH=tests python examples/digits/train.py

Law: on one machine, two runs write the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import model
import stock

HERE = Path(__file__).parent
SEED = 0
EPOCHS = 40
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
MIN_ACCURACY = 0.97
WEAKER_STEPS = 9
WEAKER_QP = -44
"""A step so fine that bits in its weights move few images of 450 to another class."""


class Network(nn.Module):
    """A small CNN; `model.predict` is the same in NumPy."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(512, 120)
        self.fc2 = nn.Linear(120, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images with gray values from 0 to 16."""
        x = torch.relu(self.bn1(self.conv1(images[:, None] / 16)))
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2).flatten(1)
        logits: Tensor = self.fc2(torch.relu(self.fc1(x)))
        return logits


def main() -> None:
    """Train, encode, check what the stock decoder gives, and write both files."""
    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.images, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )
    images, labels = test_images.astype(np.uint8), test_labels.astype(np.uint8)
    network = train(train_images.astype(np.float32), train_labels)
    stream = stock.encode(arrays_of(network))
    decoded = stock.decode(stream)

    trained = np.mean(classify(network, images) == labels)
    network.load_state_dict({k: torch.tensor(v) for k, v in decoded.items()})
    in_torch = np.mean(classify(network, images) == labels)
    in_numpy = model.accuracy(decoded, images, labels)
    weights = sum(array.size for array in decoded.values())
    print(f"{weights} weights in {len(stream)} bytes; accuracy of {len(labels)} test images:")
    print(f"trained {trained:.4f}, decoded {in_torch:.4f}, decoded in NumPy {in_numpy:.4f}")
    if in_numpy != in_torch or in_numpy < MIN_ACCURACY:
        raise SystemExit("not good enough: nothing was written")
    early = train(train_images.astype(np.float32), train_labels, steps=WEAKER_STEPS)
    weaker = stock.encode(arrays_of(early), qp=WEAKER_QP)
    in_numpy = model.accuracy(stock.decode(weaker), images, labels)
    print(f"after {WEAKER_STEPS} steps, decoded in NumPy {in_numpy:.4f}")
    (HERE / "digits.nnc").write_bytes(stream)
    (HERE / "weaker.nnc").write_bytes(weaker)
    np.savez_compressed(HERE / "digits_test.npz", images=images, labels=labels)


def train(images: np.ndarray, labels: np.ndarray, steps: int | None = None) -> Network:
    """Train a network on images of shape `(n, 8, 8)`; the same images give the same network.

    Args:
        images: Gray values from 0 to 16.
        labels: The digits.
        steps: Stop after so many, if given.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    step = 0
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH_SIZE):
            if step == steps:
                return network
            step += 1
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
        schedule.step()
    return network


def classify(network: Network, images: np.ndarray) -> np.ndarray:
    """Return the digits that the network sees in the images."""
    with torch.no_grad():
        logits: Tensor = network.eval()(torch.from_numpy(images.astype(np.float32)))
    return logits.argmax(1).numpy()


def arrays_of(network: Network) -> dict[str, np.ndarray]:
    """Return the state dict as the stock coder takes it: int64 as int32, scalars as arrays."""
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return {
        name: np.atleast_1d(array.astype(np.int32) if array.dtype == np.int64 else array)
        for name, array in arrays.items()
    }


if __name__ == "__main__":
    main()
