"""What a gate writes is loaded by those who do not know us: safetensors, PyTorch, transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import nnguard
from nnguard._models.index import SAFETENSORS_INDEX

torch = pytest.importorskip("torch")

SETTINGS = nnguard.Settings(qp=-48)
CONFIG = {"width": 64, "layers": 2}


def small_network() -> Any:
    """Return a network with batch norms, which count batches in int64, in two formats."""
    width = CONFIG["width"]
    layers = [torch.nn.Linear(width, width) for _ in range(CONFIG["layers"])]
    return torch.nn.Sequential(*layers, torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 4))


def through_a_gate(hub: Path, folder: Path, key: nnguard.SigningKey) -> Path:
    """Compress a vendor's folder, sign it, and let it pass."""
    streams = nnguard.compress(hub, SETTINGS)
    nnguard.sign(streams, key, issuer="acme.ai", name="small").save(folder / "release")
    nnguard.gate(folder / "release", folder / "served", [key.public_key])
    return folder / "served"


def test_a_state_dict_that_fits(tmp_path: Path, key: nnguard.SigningKey) -> None:
    from safetensors.torch import load_file as load_tensors
    from safetensors.torch import save_file

    torch.manual_seed(1)
    network = small_network()
    hub = tmp_path / "hub"
    hub.mkdir()
    state = network.state_dict()
    weight_map = {}
    for at, (name, tensor) in enumerate(state.items()):
        file = f"model-{at % 2 + 1:05}-of-00002.safetensors"
        weight_map[name] = file
        del tensor
    for file in set(weight_map.values()):
        save_file({n: state[n] for n, where in weight_map.items() if where == file}, hub / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (hub / SAFETENSORS_INDEX).write_text(json.dumps(index))
    (hub / "config.json").write_text(json.dumps(CONFIG))

    served = through_a_gate(hub, tmp_path, key)
    assert json.loads((served / "config.json").read_text()) == CONFIG
    found = json.loads((served / SAFETENSORS_INDEX).read_text())["weight_map"]
    assert found == weight_map
    loaded = {}
    for file in set(found.values()):
        loaded |= load_tensors(served / file)
    other = small_network()
    other.load_state_dict(loaded, strict=True)
    for name, tensor in other.state_dict().items():
        assert tensor.dtype == state[name].dtype
        torch.testing.assert_close(tensor, state[name], atol=2e-2, rtol=0)


def test_transformers(tmp_path: Path, key: nnguard.SigningKey) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    network = transformers.BertModel(config).eval()
    hub = tmp_path / "hub"
    network.save_pretrained(hub, max_shard_size="40KB")
    assert (hub / SAFETENSORS_INDEX).exists()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]
    (hub / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(hub / "vocab.txt")).save_pretrained(hub)

    served = through_a_gate(hub, tmp_path, key)
    tokens = transformers.AutoTokenizer.from_pretrained(served)("hello world", return_tensors="pt")
    loaded, report = transformers.AutoModel.from_pretrained(served, output_loading_info=True)
    assert not any(report[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        given = loaded(**tokens).last_hidden_state
        torch.testing.assert_close(given, network(**tokens).last_hidden_state, atol=0.1, rtol=0)
    expected = nnguard.decompress(tmp_path / "release")
    for file in served.glob("*.safetensors"):
        for name, array in load_file(file).items():
            np.testing.assert_array_equal(array, expected[name])
