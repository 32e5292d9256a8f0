"""Attacks on trials: training, adapting statistics, distilling. All take a torch module.

    load(module, trial)
    best = regained(module, [trial], train=(images, labels), test=(images, labels), steps=100)

An attacker knows the method in full and has the trial, but not the content key. What each attack is
given besides is in its arguments. Attacks leave the module changed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from networks import accuracy
from results import SEED

__all__ = [
    "RATES",
    "SYNTHETIC_RATES",
    "Data",
    "State",
    "adapt",
    "anew",
    "distill",
    "fit_statistics",
    "load",
    "regained",
    "train",
]

State = Mapping[str, Tensor]
"""Weights by name, as the trial has them."""

Data = tuple[Tensor, Tensor]
"""Images, uint8 of shape (n, 3, h, w), and their labels, int64 of shape (n,)."""

RATES = (0.005, 0.02, 0.1)
"""Learning rates that are tried, at the start of training; the best one counts."""

SYNTHETIC_RATES = (1e-4, 1e-3, 1e-2)
"""The same of Adam, where statistics are fitted to synthetic images."""

_BATCH = 64


def load(module: nn.Module, state: State) -> None:
    """Give a module weights; those that the state does not have stay."""
    own = module.state_dict()
    fitting = {name: value.reshape(own[name].shape) for name, value in state.items()}
    module.load_state_dict(fitting, strict=False)


def anew(make: Callable[[], nn.Module], state: State, names: Iterable[str] | None = None) -> State:
    """Return weights of which some are as before any training, all if no names are given."""
    torch.manual_seed(SEED)
    fresh = {name: value.clone() for name, value in make().state_dict().items()}
    return fresh if names is None else {**state, **{name: fresh[name] for name in names}}


def regained(
    module: nn.Module,
    starts: Iterable[State],
    train_on: Data,
    test: Data,
    *,
    steps: int,
    rates: Iterable[float] = RATES,
    only: Collection[str] | None = None,
) -> float:
    """Return the best accuracy, in percent, that training from any start at any rate reaches.

    Args:
        module: The network's architecture.
        starts: Weights to begin with: the trial's, say, and the same with the locked tensors anew.
        train_on: Labeled images of the attacker.
        test: What accuracy is measured on; the rate is chosen by it, too, in the attacker's favor.
        steps: Of 64 images each.
        rates: Learning rates to try.
        only: Names of the weights that are trained; all, if not given.
    """
    found = []
    for start in starts:
        for rate in rates:
            load(module, start)
            train(module, *train_on, steps=steps, rate=rate, only=only)
            found.append(accuracy(module, *test))
    return max(found)


def train(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int,
    rate: float,
    only: Collection[str] | None = None,
) -> None:
    """Train a module on labeled images: SGD, cosine, batches of 64, shifted and mirrored.

    Args:
        module: The network, with the weights to begin with.
        images: See `Data`.
        labels: See `Data`.
        steps: Batches.
        rate: Learning rate at the start.
        only: Names of the weights that are trained; all, if not given.
    """
    for name, weights in module.named_parameters():
        weights.requires_grad_(only is None or name in only)
    _fit(module, images, steps, rate, lambda outputs, at: _cross_entropy(outputs, labels[at]))
    module.requires_grad_(True)


def distill(module: nn.Module, images: Tensor, *, steps: int, rate: float) -> None:
    """Train a module on the trial's own outputs for unlabeled images, the statistics taken anew.

    The module holds the trial.
    """
    teacher = copy.deepcopy(module)
    adapt(teacher, images)
    teacher.eval()
    with torch.no_grad():
        wanted = torch.cat([teacher(batch) for batch in images.split(250)]).softmax(1)
    _fit(module, images, steps, rate, lambda outputs, at: _cross_entropy(outputs, wanted[at]))


def adapt(module: nn.Module, images: Tensor) -> None:
    """Take the running statistics of all batch normalizations anew, from unlabeled images."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    module.train()
    with torch.no_grad():
        for batch in images.split(250):
            module(batch)
    for norm in norms:
        norm.momentum = 0.1
    module.eval()


def fit_statistics(module: nn.Module, images: Tensor, *, steps: int, rate: float) -> None:
    """Train a module until images have the statistics that its batch normalizations keep.

    With synthetic images, that takes no data at all: no labels and no real images.

    Args:
        module: The network, with the weights to begin with.
        images: See `Data`.
        steps: Of 64 images each.
        rate: Learning rate at the start, of Adam.
    """
    off: list[Tensor] = []

    def compare(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        variance, mean = torch.var_mean(inputs[0].float(), (0, 2, 3))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        apart = (mean - norm.running_mean) ** 2 / (norm.running_var + norm.eps)
        ratio = torch.log((variance + norm.eps) / (norm.running_var + norm.eps))
        off.append((apart + ratio**2).mean())

    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(compare) for norm in norms]
    torch.manual_seed(SEED)
    optimizer = torch.optim.Adam(module.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    module.eval()  # the statistics stay
    for _ in range(steps):
        off.clear()
        module(images[torch.randint(len(images), (_BATCH,))])
        loss = torch.stack(off).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for hook in hooks:
        hook.remove()


def _fit(
    module: nn.Module,
    images: Tensor,
    steps: int,
    rate: float,
    loss_of: Callable[[Tensor, Tensor], Tensor],
) -> None:
    torch.manual_seed(SEED)
    trained = [weights for weights in module.parameters() if weights.requires_grad]
    optimizer = torch.optim.SGD(trained, rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    module.train()
    for _ in range(steps):
        batch = torch.randint(len(images), (_BATCH,))
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(module(_augment(images[batch])), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _cross_entropy(outputs: Tensor, wanted: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs.float(), wanted)


def _augment(images: Tensor) -> Tensor:
    """Shift images by up to four pixels and mirror half of them."""
    height, width = images.shape[2:]
    padded = nn.functional.pad(images.float(), (4, 4, 4, 4))
    down, right = torch.randint(9, (2,)).tolist()
    shifted = padded[:, :, down : down + height, right : right + width]
    mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
    return torch.where(mirrored, shifted.flip(3), shifted)
