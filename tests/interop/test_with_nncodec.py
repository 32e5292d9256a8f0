"""From nncodec to nnguard to nncodec, and streams of tools that only nncodec decodes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnguard
import stock

EXAMPLE = Path(__file__).parents[2] / "examples/with_nncodec.py"


def test_example_runs() -> None:
    path = [str(Path(stock.__file__).parent), *sys.path]
    script = f"import sys; sys.path[:] = {path!r}; exec(open({str(EXAMPLE)!r}).read())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "byte for byte" in done.stdout


@pytest.fixture
def codebook() -> bytes:
    """A stream whose first tensor has a codebook: few values, far apart."""
    random = np.random.default_rng(1)
    values = np.array([-0.5, 0, 0.25, 0.5, 1.0], np.float32)
    arrays = {
        "few": random.choice(values, (64, 64)),
        "many": (random.laplace(size=(64, 80)) * 0.05).astype(np.float32),
    }
    return stock.encode(arrays, codebook=True, dependent=False)


def test_codebooks_are_refused_before_they_are_verified(codebook: bytes) -> None:
    with pytest.raises(nnguard.errors.FormatError, match="tools of the standard"):
        nnguard.decompress(nnguard.Stream.from_bytes(codebook))


def test_codebooks_go_to_nncodec_once_verified(codebook: bytes, tmp_path: Path) -> None:
    key = nnguard.SigningKey.generate()
    release = nnguard.sign(nnguard.Stream.from_bytes(codebook), key, name="codebook")
    nnguard.verify(release, trust=[key.public_key])
    found = nnguard.decompress(release, verified=True)
    expected = stock.decode(bytes(release))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    nnguard.decompress_to_file(release, tmp_path / "weights.safetensors", verified=True)
    from safetensors.numpy import load_file

    written = load_file(tmp_path / "weights.safetensors")
    assert all(np.array_equal(written[name], expected[name]) for name in expected)


def test_codebooks_without_nncodec_say_what_to_install(
    codebook: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncodec.nnc_core", None)
    with pytest.raises(nnguard.errors.FormatError) as caught:
        nnguard.decompress(nnguard.Stream.from_bytes(codebook), verified=True)
    assert 'pip install "nnguard[nncodec]"' in caught.value.hint
