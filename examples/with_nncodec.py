"""A vendor who compresses with nncodec, a deployment that decodes with it, and nnguard in between.

    pip install "nnguard[nncodec]"
    python examples/with_nncodec.py

`nncodec.nn` needs torch, torchvision and pandas. Where it cannot be imported, what it calls
underneath (`nncodec.nnc_core`) takes its place; it is installed by `make dev`.
"""

from __future__ import annotations

import contextlib
import io
import tempfile

import numpy as np
import numpy.typing as npt

import nnguard

Arrays = dict[str, npt.NDArray[np.float32]]


def encode(arrays: Arrays) -> bytes:
    """Compress a network with nncodec."""
    try:
        from nncodec import nn
    except (ImportError, RuntimeError):  # torchvision beside another build of torch
        import stock

        return stock.encode(arrays, qp=-32)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return bytes(nn.encode(arrays, {"results": folder, "verbose": False}))


def decode(stream: bytes) -> Arrays:
    """Decode a stream with nncodec."""
    try:
        from nncodec import nn
    except (ImportError, RuntimeError):
        import stock

        return stock.decode(stream)
    with contextlib.redirect_stdout(io.StringIO()):
        return dict(nn.decode(stream))


def main() -> None:
    """Compress, sign, verify, decode; compare with the same without a signature."""
    random = np.random.default_rng(1)
    network = {
        "layer1.weight": random.laplace(0, 0.05, (96, 64)).astype(np.float32),
        "layer1.bias": random.normal(0, 0.1, 96).astype(np.float32),
        "layer2.weight": random.laplace(0, 0.05, (64, 96)).astype(np.float32),
    }
    stream = encode(network)

    key = nnguard.SigningKey.generate()
    release = nnguard.sign(nnguard.Stream.from_bytes(stream), key, issuer="acme.ai", name="small")
    report = nnguard.verify(release, trust=key.public_key)
    print(f"signed by {report.key_id}: {len(stream):,} bytes became {release.size:,}")

    weights, before = decode(bytes(release)), decode(stream)
    for name, array in before.items():
        moved = float(np.abs(weights[name] - array).max())
        print(f"{name}: no weight moved by more than {moved:.6f} of {np.abs(array).max():.6f}")
    assert bytes(nnguard.strip(release, trust=key.public_key)) == stream
    print("and the original comes back, byte for byte")


if __name__ == "__main__":
    main()
