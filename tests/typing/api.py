"""The public API as a typed program uses it; `mypy --strict` checks it, nothing runs it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import nnguard
import nnguard.torch


class Token:
    """A signer in front of hardware."""

    @property
    def public_key(self) -> nnguard.PublicKey:
        return nnguard.PublicKey.load("vendor.pub")

    def sign(self, data: bytes) -> bytes:
        return bytes(64) + data[:0]


def keys(folder: Path) -> tuple[nnguard.PublicKey, ...]:
    key: nnguard.SigningKey = nnguard.SigningKey.generate()
    key.save(folder / "vendor.key", passphrase="secret", overwrite=True)
    key = nnguard.SigningKey.load("vendor.key", passphrase=None)
    public: nnguard.PublicKey = key.public_key
    public.save(folder / "vendor.pub")
    identifier: bytes = public.id
    trusted: bool = public.verifies(key.sign(identifier), identifier)
    return nnguard.load_trust([folder, "other.pub", public]) if trusted else ()


def release(model: Path, signer: nnguard.Signer) -> nnguard.Stream:
    stream: nnguard.Stream = nnguard.Stream.open(model)
    attached = nnguard.attach(stream, b"card", media_type="text/markdown")
    signed: nnguard.Stream = nnguard.sign(
        attached,
        signer,
        issuer="acme.ai",
        name="resnet56",
        version="1.0",
        metadata={"git": "4f2a91c"},
        issued_at=datetime.now().astimezone(),
        localize=True,
        progress=lambda count: None,
    )
    signed.save("release.nnc", overwrite=True)
    data: bytes = bytes(signed)
    return nnguard.Stream.from_bytes(data)


def deploy(path: str) -> tuple[nnguard.Attachment, nnguard.Stream]:
    report: nnguard.Report = nnguard.verify(path, "vendor.pub")
    claims: nnguard.Claims = report.claims
    name: str = claims.name
    metadata: Mapping[str, str] = claims.metadata
    when: datetime | None = claims.issued_at
    nested: tuple[nnguard.NestedRecord, ...] = report.nested
    text: str | None = metadata.get("git")
    verified: list[bool] = [record.verified for record in nested]
    if not (name and text and when and all(verified)):
        raise SystemExit(1)
    return nnguard.detach(nnguard.strip(path, [nnguard.PublicKey.load("vendor.pub")]))


def look(path: str) -> int:
    found: nnguard.Inspection = nnguard.inspect(path)
    room: nnguard.Capacity = nnguard.capacity(Path(path))
    carrier: str = nnguard.plot_carrier(path, "carrier.png")
    return found.size + room.bits + len(carrier)


def compress(model: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> nnguard.Stream:
    settings: nnguard.Settings = nnguard.Settings(
        qp=-32,
        nonweight_qp=-75,
        qp_per_tensor={"conv.weight": -40},
        qp_density=2,
        dependent=False,
        parameter_optimisation=False,
        row_skipping=True,
        unary_length=11,
        bit_depth=None,
        scan_order=0,
    )
    with ThreadPoolExecutor() as executor:
        nnguard.compress(arrays, executor=executor, workers=4).save("model.nnc")
    return nnguard.compress(model, settings, workers=2, spool=model.parent, progress=print)


def decompress(path: str) -> dict[str, np.ndarray[Any, Any]]:
    arrays: dict[str, np.ndarray[Any, Any]] = nnguard.decompress(
        path, workers=2, max_weights=nnguard.MAX_WEIGHTS, progress=lambda count: None
    )
    for name, array in nnguard.iter_tensors(nnguard.Stream.open(path), workers=1):
        text: str = name
        arrays[text] = array
    nnguard.decompress_to_file(path, Path("model.safetensors"), overwrite=True)
    return arrays


def shards(folder: Path, signer: nnguard.Signer) -> nnguard.Shard | None:
    nnguard.compress_set(folder, "streams", nnguard.Settings(), workers=2, overwrite=True)
    streams: nnguard.StreamSet = nnguard.StreamSet.open("streams", in_memory=True)
    signed: nnguard.StreamSet = nnguard.sign_set(
        streams, signer, issuer="acme.ai", metadata={"git": "4f2a91c"}, localize=True
    )
    signed.save(folder / "release", overwrite=False)
    report: nnguard.SetReport = nnguard.verify_set(folder / "release", ["vendor.pub"])
    parts: Mapping[str, nnguard.Report] = report.shards
    original: nnguard.StreamSet = nnguard.strip_set(signed, "vendor.pub")
    nnguard.decompress_set(original, "restored", max_weights=1 << 20)
    places: Mapping[str, str] = original.weight_map
    first: nnguard.Stream = original.streams[next(iter(places.values()))]
    return parts[report.digest].claims.shard if original.size + len(first) else None


def torch(path: Path, signer: nnguard.Signer) -> list[str]:
    nnguard.torch.save({}, path, signer=signer, settings=nnguard.Settings(), name="net")
    state = nnguard.torch.load(path, trust=[signer.public_key], original=True, workers=2)
    names: list[str] = list(state)
    return names + list(nnguard.torch.decompress(nnguard.Stream.open(path)))


def explain(error: nnguard.NnguardError) -> str:
    match error:
        case nnguard.VerificationError():
            return ", ".join(error.tensors)
        case nnguard.CapacityError():
            return f"{error.needed} of {error.available}"
        case nnguard.FormatError():
            offset: int | None = error.offset
            return str(offset)
        case nnguard.ModelError() | nnguard.WorkerError():
            return str(error)
    return error.hint


def main() -> tuple[nnguard.Attachment, nnguard.Stream]:
    version: str = nnguard.__version__
    if not version or not keys(Path()) or not release(Path("model.nnc"), Token()):
        raise SystemExit(1)
    return deploy("release.nnc")
