"""What a wheel has to do in an empty environment: no nncodec, no source tree, no compiler.

`make wheel` installs the wheel and runs this; so does cibuildwheel.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

import nnguard


def test_release_goes_out_and_comes_back(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    network = {
        "weight": (random.laplace(size=(300, 200)) * 0.05).astype(np.float32),
        "norm": random.uniform(0.5, 1.5, 2048).astype(np.float32),
        "steps": np.array(7),
    }
    key = nnguard.SigningKey.generate()
    key.public_key.save(tmp_path / "vendor.pub")
    model = nnguard.compress(network)
    release = nnguard.sign(model, key, issuer="acme.ai", name="wheel", version="1.0")
    release.save(tmp_path / "release.nnc")

    verify = ["verify", "release.nnc", "--trust", "vendor.pub"]
    command = [sys.executable, "-m", "nnguard", *verify]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    original = nnguard.strip(tmp_path / "release.nnc", trust=[key.public_key])
    assert bytes(original) == bytes(model)
    weights = nnguard.decompress(original)
    assert weights["steps"] == 7
    assert np.abs(weights["weight"] - network["weight"]).max() < 0.01
    assert np.abs(weights["norm"] - network["norm"]).max() < 1e-5
