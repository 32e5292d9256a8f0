"""The networks of the experiments have the paper's numbers of values."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from paper.architectures import ARCHITECTURES  # noqa: E402

PAPER = {"vgg16": 134_301_514, "mobilenetv2": 2_270_794, "resnet18": 11_191_242}


@pytest.mark.parametrize("name", PAPER)
def test_values(name: str) -> None:
    with torch.device("meta"):
        state = ARCHITECTURES[name]().state_dict()
    counted = [tensor for name, tensor in state.items() if "num_batches" not in name]
    assert sum(tensor.numel() for tensor in counted) == PAPER[name]
