"""The public API as a typed program uses it; `mypy --strict` checks it, nothing runs it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import nnguard


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


def explain(error: nnguard.NnguardError) -> str:
    match error:
        case nnguard.VerificationError():
            return ", ".join(error.tensors)
        case nnguard.CapacityError():
            return f"{error.needed} of {error.available}"
        case nnguard.FormatError():
            offset: int | None = error.offset
            return str(offset)
    return error.hint


def main() -> tuple[nnguard.Attachment, nnguard.Stream]:
    version: str = nnguard.__version__
    if not version or not keys(Path()) or not release(Path("model.nnc"), Token()):
        raise SystemExit(1)
    return deploy("release.nnc")
