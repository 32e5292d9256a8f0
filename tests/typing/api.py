"""The public API as a typed program uses it: mypy and pyright check it strictly, nothing runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import nnguard
import nnguard.plotting
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
    nnguard.verify("release.nnc", [folder, "other.pub", public])
    return (public,) if trusted else ()


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
        planned=lambda weights: None,
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
    text: str | None = metadata.get("git")
    verified: list[bool] = [record.verified for record in report.nested]
    if not (name and text and when and all(verified)):
        raise SystemExit(1)
    signed: nnguard.Stream = nnguard.Stream.open(path)
    return nnguard.detach(nnguard.strip(signed, [nnguard.PublicKey.load("vendor.pub")]))


def look(path: str) -> int:
    found: nnguard.Inspection = nnguard.inspect(path)
    room: nnguard.Capacity = nnguard.capacity(Path(path))
    carrier: str = nnguard.plotting.plot_carrier(path, "carrier.png")
    return found.size + room.bits + len(carrier)


def compress(
    model: Path, arrays: Mapping[str, np.ndarray[Any, Any]]
) -> nnguard.Stream | nnguard.StreamSet:
    settings: nnguard.Settings = nnguard.Settings(
        qp=-32,
        nonweight_qp=-75,
        qp_per_tensor={"conv.weight": -40},
        qp_density=2,
        dependent=False,
        parameter_optimization=False,
        row_skipping=True,
        unary_length=11,
        bit_depth=None,
        scan_order=4,
    )
    with ThreadPoolExecutor() as executor:
        nnguard.compress(arrays, executor=executor, workers=4).save("model.nnc")
    return nnguard.compress(model, settings, workers=2, spool=model.parent, progress=print)


def decompress(path: str) -> dict[str, np.ndarray[Any, Any]]:
    arrays: dict[str, np.ndarray[Any, Any]] = nnguard.decompress(
        path, workers=2, max_size=1 << 30, progress=lambda count: None
    )
    for name, array in nnguard.iter_tensors(nnguard.Stream.open(path), workers=1):
        text: str = name
        arrays[text] = array
    nnguard.decompress_to_file(path, Path("model.safetensors"), overwrite=True)
    return arrays


def shards(folder: Path, signer: nnguard.Signer) -> bool:
    nnguard.compress(folder, nnguard.Settings(), workers=2).save("streams", overwrite=True)
    streams: nnguard.StreamSet = nnguard.StreamSet.open("streams")
    signed: nnguard.StreamSet = nnguard.sign(
        streams, signer, issuer="acme.ai", metadata={"git": "4f2a91c"}, localize=True
    )
    signed.save(folder / "release", overwrite=False)
    report: nnguard.Report = nnguard.verify(folder / "release", ["vendor.pub"])
    parts: Mapping[str, nnguard.Report] = report.shards
    original: nnguard.StreamSet = nnguard.strip(signed, "vendor.pub")
    nnguard.decompress_to_file(original, "restored", max_size=1 << 22)
    places: Mapping[str, str] = original.weight_map
    first: nnguard.Stream = original.streams[next(iter(places.values()))]
    bound: bool = all(part.claims.shard is not None for part in parts.values())
    return bound and original.size >= len(first) and not report.not_covered


def torch(path: Path, signer: nnguard.Signer) -> list[str]:
    nnguard.torch.save({}, path, signer=signer, settings=nnguard.Settings(), name="net")
    state = nnguard.torch.load(path, trust=[signer.public_key], original=True, workers=2)
    names: list[str] = list(state)
    return names + list(nnguard.torch.decompress(nnguard.Stream.open(path)))


def accuracy(weights: Mapping[str, npt.NDArray[np.generic]]) -> float:
    return float(np.mean([array.size for array in weights.values()]))


def trials(path: Path, key: nnguard.SigningKey) -> nnguard.ContentKey:
    locked: nnguard.Locked = nnguard.lock(
        path,
        evaluate=accuracy,
        tier="full",
        content_key=nnguard.ContentKey.generate(),
        signer=key,
        progress=lambda point: (point.fraction, point.score),
        soft=nnguard.Soft(
            target=0.4,
            tolerance=0.02,
            max_fraction=1e-3,
            importance={"conv.weight": np.ones((16, 3, 3, 3), np.float32)},
        ),
    )
    curve: list[float] = [point.score for point in locked.curve]
    carried: nnguard.Locked = nnguard.lock(path, trial="weaker.nnc", evaluate=accuracy)
    scores = carried.scores
    if scores is not None and scores.release == scores.unlocked > scores.trial:
        worth: str = carried.worth.upper()
        raise ValueError(worth, carried.carried + 1)
    counts: tuple[int, int, int] = (locked.replaced, locked.scrambled, locked.weights)
    locked.trial.save("trial.nnc", overwrite=bool(curve) and sum(counts) > 0)
    trial: nnguard.Stream | nnguard.StreamSet = nnguard.lock(
        "release.nnc", scramble=0.5, soft=nnguard.Soft(fraction=1e-4)
    ).trial
    tiers: list[nnguard.Locked] = nnguard.lock_tiers(
        trial,
        [
            nnguard.Tier("professional", soft=nnguard.Soft(target=0.8)),
            nnguard.Tier("standard", trial=carried.trial),
        ],
    )
    nnguard.plotting.plot_search([locked, *tiers], path.parent / "search.png", overwrite=True)
    names: list[str] = [tier.tier for tier in tiers]
    content_key: nnguard.ContentKey = tiers[0].content_key
    content_key.save("content.key")
    lower: nnguard.ContentKey = nnguard.ContentKey.load("content.key").below(len(names) - 1)
    secret: bytes = lower.secret + lower.id
    return nnguard.ContentKey(secret[:32])


def customer(folder: Path) -> nnguard.Recipient:
    identity: nnguard.Identity = nnguard.Identity.generate(post_quantum=True)
    identity.save(folder / "ada.key", passphrase="secret", overwrite=True)
    recipient: nnguard.Recipient = nnguard.Identity.load("ada.key", passphrase=None).recipient
    recipient.save("ada.pub")
    pem: bytes = nnguard.Recipient.load(folder / "ada.pub").pem
    suite: str = recipient.suite
    return nnguard.Recipient.from_pem(pem) if suite else recipient


def issue(key: nnguard.ContentKey, signer: nnguard.Signer) -> nnguard.licensing.License:
    device: nnguard.licensing.Device = nnguard.licensing.Device.from_json(
        nnguard.licensing.Device.this().to_json()
    )
    own: nnguard.licensing.Device = nnguard.licensing.Device.of_values([("serial", "4711")])
    license_: nnguard.licensing.License = nnguard.licensing.issue(
        "trial.nnc",
        key,
        to="ada.pub",
        signer=signer,
        terms=nnguard.licensing.Terms(
            customer="Ada",
            product="resnet56",
            issuer="acme.ai",
            tier="standard",
            expires_at="2027-12-31",
            not_before=datetime.now(timezone.utc),
            issued_at=None,
            grace=timedelta(days=7),
            features=["export"],
            metadata={"order": "7"},
            device=device if device.fingerprint else own,
            device_matches=2,
        ),
    )
    license_.save(Path("ada.license"), overwrite=False)
    return nnguard.licensing.License.from_text(str(license_))


def sell(key: nnguard.ContentKey, signer: nnguard.Signer) -> list[str]:
    with nnguard.licensing.Ledger("licenses.db") as ledger:
        issuer: nnguard.licensing.Issuer = nnguard.licensing.Issuer(
            ledger, signer, nnguard.Identity.load("issuer.key")
        )
        first: nnguard.licensing.License = issuer.issue(
            Path("trial.nnc"), key, to="ada.pub", terms=nnguard.licensing.Terms(customer="Ada")
        )
        terms: nnguard.licensing.LicenseTerms = issuer.issue("trial.nnc", to="eve.pub").terms
        revoked: list[nnguard.licensing.LedgerEntry] = issuer.revoke(
            [first.terms.id, terms.id], reason="refund"
        )
        revocations: nnguard.licensing.RevocationList = issuer.revocation_list(issuer="acme.ai")
        revocations.save("acme.revoked", overwrite=True)
        entries: list[nnguard.licensing.LedgerEntry] = ledger.entries(
            customer="Ada", product="", revoked=None
        )
        entry: nnguard.licensing.LedgerEntry = ledger.get(first.terms.id)
        when: datetime | None = entry.revoked_at
    empty = nnguard.licensing.RevocationList.make([], signer)
    gone: bool = (
        empty.revokes(terms.id) or nnguard.licensing.RevocationList.load("acme.revoked") is empty
    )
    return [each.customer for each in (*revoked, *entries)] if when and not gone else []


def unlock(license_: nnguard.licensing.License) -> nnguard.licensing.LicenseTerms | None:
    policy: nnguard.licensing.Policy = nnguard.licensing.Policy(
        now=datetime.now(timezone.utc),
        device=nnguard.licensing.Device.this(),
        revocations="acme.revoked",
        max_age=timedelta(days=7),
        state=Path("newest"),
    )
    status: nnguard.licensing.Status = nnguard.licensing.check(
        license_, "vendor.pub", policy=policy
    )
    terms: nnguard.licensing.LicenseTerms = status.terms
    ends: datetime | None = terms.expires_at
    wanted: bool = "export" in terms.features and terms.metadata.get("order") == "7"
    full: nnguard.Stream | nnguard.StreamSet = nnguard.unlock(
        "trial.nnc",
        Path("ada.license") if status.in_grace else license_,
        nnguard.Identity.load("ada.key"),
        ["vendor.pub"],
        tier="standard",
        policy=policy,
        watermark=wanted and ends is not None,
        progress=lambda count: None,
    )
    report: nnguard.Report = nnguard.verify(full, "vendor.pub")
    return report.licensed_to


def torch_trial(module: Any, batches: list[Any]) -> nnguard.Locked:
    state = nnguard.torch.load(
        "trial.nnc",
        trust="vendor.pub",
        license="ada.license",
        identity=Path("ada.key"),
        policy=nnguard.licensing.Policy(),
    )
    nnguard.torch.load_into(
        module, "trial.nnc", ["vendor.pub"], license="ada.license", identity="ada.key"
    )
    importance: dict[str, npt.NDArray[np.float32]] = nnguard.torch.importance(
        module, batches, lambda network, batch: network(batch).sum()
    )
    score: Callable[[Mapping[str, Any]], float] = nnguard.torch.evaluator(
        module, lambda network: float(len(state))
    )
    return nnguard.lock(
        "release.nnc", evaluate=score, soft=nnguard.Soft(target=0.4, importance=importance)
    )


def explain(error: nnguard.NnguardError) -> str:
    match error:
        case nnguard.errors.LicenseError(
            reason=nnguard.licensing.Refusal.EXPIRED | nnguard.licensing.Refusal.REVOKED
        ):
            return "ask the vendor for a new license"
        case nnguard.errors.LicenseError():
            reason: nnguard.licensing.Refusal = error.reason
            return reason.value
        case (
            nnguard.errors.UnlockError()
            | nnguard.errors.LedgerError()
            | nnguard.errors.LimitError()
        ):
            return str(error)
        case nnguard.errors.VerificationError():
            return ", ".join(error.tensors)
        case nnguard.errors.CapacityError():
            return f"{error.needed} of {error.available}"
        case nnguard.errors.FormatError():
            offset: int | None = error.offset
            return str(offset)
        case nnguard.errors.ModelError() | nnguard.errors.WorkerError():
            return str(error)
        case _:
            return error.hint


def main() -> tuple[nnguard.Attachment, nnguard.Stream]:
    version: str = nnguard.__version__
    if not version or not keys(Path()) or not release(Path("model.nnc"), Token()):
        raise SystemExit(1)
    return deploy("release.nnc")
