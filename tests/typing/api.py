"""The public API as a typed program uses it; `mypy --strict` checks it, nothing runs it.

Only public names are imported, and each value has the type that a reader would write for it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import nnguard
import nnguard.torch
from nnguard import errors, licensing, oms, plotting
from nnguard.licensing import Device, Issuer, Ledger, License, Policy, RevocationList, Terms

Arrays = dict[str, npt.NDArray[Any]]
Model = nnguard.Stream | nnguard.StreamSet


# The vendor signs.


class Token:
    """A signer in front of hardware."""

    @property
    def public_key(self) -> nnguard.PublicKey:
        return nnguard.PublicKey.load("vendor.pub")

    def sign(self, data: bytes) -> bytes:
        return bytes(64) + data[:0]


def keys(folder: Path) -> bool:
    key: nnguard.SigningKey = nnguard.SigningKey.generate()
    key.save(folder / "vendor.key", passphrase="secret", overwrite=True)
    key = nnguard.SigningKey.load("vendor.key", passphrase=None)
    public: nnguard.PublicKey = key.public_key
    public.save(folder / "vendor.pub")
    identifier: bytes = public.id
    return public.verifies(key.sign(identifier), identifier)


def compress(path: Path, arrays: Arrays) -> Model:
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
        stream: nnguard.Stream = nnguard.compress(arrays, executor=executor, workers=4)
    stream.save("model.nnc")
    return nnguard.compress(path, settings, workers=2, spool=path.parent, progress=print)


def release(path: Path, signer: nnguard.Signer) -> nnguard.Stream:
    stream: nnguard.Stream = nnguard.Stream.open(path)
    attached: nnguard.Stream = nnguard.attach(stream, b"card", media_type="text/markdown")
    signed: nnguard.Stream = nnguard.sign(
        attached,
        signer,
        issuer="acme.ai",
        name="resnet56",
        version="1.0",
        metadata={"git": "4f2a91c"},
        issued_at="2026-11-28T18:00:00Z",
        localize=True,
        progress=lambda count: None,
        planned=lambda weights: None,
    )
    signed.save("release.nnc", overwrite=True)
    return nnguard.Stream.from_bytes(bytes(signed))


def release_of(path: str) -> None:
    for key in ("vendor.key", Path("vendor.key"), nnguard.SigningKey.generate(), Token()):
        signed: Model = nnguard.sign(path, key, issued_at=datetime.now().astimezone())
        signed.save(f"{signed.size}.nnc", overwrite=True)


def release_of_shards(folder: Path) -> nnguard.StreamSet:
    streams: nnguard.StreamSet = nnguard.StreamSet.open(folder).in_memory()
    signed: nnguard.StreamSet = nnguard.sign(streams, "vendor.key", issuer="acme.ai")
    signed.save(folder / "release", overwrite=False)
    original: nnguard.StreamSet = nnguard.strip(signed, "vendor.pub")
    nnguard.gate(signed, Path("served"), "vendor.pub", in_place=True).to_json()
    places: Mapping[str, str] = original.weight_map
    first: nnguard.Stream = original.streams[places["conv.weight"]]
    return nnguard.StreamSet.of({"model-00001-of-00001.nnc": first})


# A deployment verifies.


def verify(path: str, folder: Path) -> nnguard.Claims:
    report: nnguard.Report = nnguard.verify(
        path,
        trust=[folder, "other.pub", nnguard.PublicKey.load("vendor.pub")],
        expect=nnguard.Expect(
            name="resnet56", issuer="acme.ai", version=">=1.2,<2", issued_after="2026-01-01"
        ),
        allow_trial=False,
        progress=lambda count: None,
    )
    claims: nnguard.Claims = report.claims
    name: str = claims.name
    metadata: Mapping[str, str] = claims.metadata
    when: datetime | None = claims.issued_at
    inner: list[nnguard.Claims | None] = [each.claims for each in report.nested if each.verified]
    shards: Mapping[str, nnguard.Report] = report.shards
    uncovered: Sequence[str] = report.not_covered
    trial: bool = report.locked or any(shard.locked for shard in shards.values())
    texts: list[str] = [report.key_id, report.algorithm, report.digest, name, *metadata, *uncovered]
    if trial or when is None or not (texts and inner):
        raise SystemExit(1)
    return claims


def judged(release: nnguard.Stream, folder: Path, root: nnguard.SigningKey) -> list[str]:
    policy: nnguard.TrustPolicy = nnguard.TrustPolicy.new(
        ["acme.ai/*"],
        {"acme": "vendor.pub", "auditor": nnguard.PublicKey.load("auditor.pub")},
        threshold=2,
        level="audit",
        root={"root": root.public_key},
        expires="2090-01-01",
    )
    signed: nnguard.TrustPolicy = policy.sign(root, "other-root.key", after=policy)
    signed.save(folder / "acme.policy", overwrite=True)
    report = nnguard.verify(release, policy=signed, state=folder / "state")
    nnguard.verify(release, policy=str(folder / "acme.policy"))
    reasons: list[nnguard.errors.PolicyReason] = [each.reason for each in report.warnings]
    return [*map(str, reasons), signed.digest, str(signed.version)]


def bundled(release: nnguard.StreamSet, key: nnguard.Signer, folder: Path) -> str:
    oms.save(release, folder, folder / "model.sig", key, overwrite=True)
    oms.sign("plain", "plain.sig", "oms.key")
    bundle: oms.Bundle = oms.Bundle.open("plain.sig", ["oms.pub", folder])
    left_out: tuple[str, ...] = bundle.check("plain")
    found: oms.Bundle | None = nnguard.verify(folder, "vendor.pub", oms=bundle).oms
    digests: Mapping[str, bytes] = bundle.files
    return bundle.key_id if found is None else ", ".join([found.name, *left_out, *digests])


def models(path: Path, stream: nnguard.Stream, streams: nnguard.StreamSet) -> list[str]:
    data: bytes = path.read_bytes()
    with path.open("rb") as file:
        given = (path, str(path), stream, streams, data, memoryview(data), io.BytesIO(data), file)
        return [nnguard.verify(model, "vendor.pub").digest for model in given]


def original(release: nnguard.Stream) -> tuple[nnguard.Attachment, nnguard.Stream]:
    attachment, stream = nnguard.detach(nnguard.strip(release, "vendor.pub"))
    return nnguard.Attachment(attachment.payload, attachment.media_type), stream


def decompress(path: str, signed: nnguard.StreamSet) -> Arrays:
    arrays: Arrays = nnguard.decompress(
        path, workers=2, max_size=1 << 30, progress=lambda count: None
    )
    for name, array in nnguard.iter_tensors(nnguard.Stream.open(path), workers=1):
        arrays[name] = array
    nnguard.decompress_to_file(path, Path("model.safetensors"), overwrite=True)
    nnguard.decompress_to_file(signed, "restored", max_size=1 << 22)
    return nnguard.decompress("trial.nnc", allow_trial=True) | arrays


def look(path: str) -> int:
    found: nnguard.Inspection = nnguard.inspect(path)
    room: nnguard.Capacity = nnguard.capacity(Path(path), progress=print)
    kinds: list[str] = [record.kind for record in found.records]
    shards: Mapping[str, nnguard.Inspection] = found.shards
    carrier: str = plotting.plot_carrier(path, "carrier.png", overwrite=True)
    return found.size + room.bits + len(carrier) + len(kinds) + len(shards)


# A seller locks, and issues licenses.


def accuracy(weights: Mapping[str, npt.NDArray[Any]]) -> float:
    return float(np.mean([array.size for array in weights.values()]))


def carry(path: Path) -> nnguard.Locked:
    locked: nnguard.Locked = nnguard.lock(
        path,
        trial="weaker.nnc",
        tier="full",
        evaluate=accuracy,
        content_key=nnguard.ContentKey.generate(),
        signer=Token(),
        spool=path.parent,
    )
    trial: Model = locked.trial
    trial.save("trial.nnc", overwrite=True)
    key: nnguard.ContentKey = locked.content_key
    key.save("content.key")
    worth: str = locked.worth
    if locked.scores is not None:
        gain: float = locked.scores.unlocked - locked.scores.trial
        raise SystemExit(f"{gain:.2%} of {locked.scores.release:.2%}: {worth}")
    return locked


def aim(path: Path, importance: Mapping[str, npt.NDArray[Any]]) -> nnguard.Locked:
    soft: nnguard.Soft = nnguard.Soft(
        target=0.4, tolerance=0.02, max_fraction=1e-3, importance=importance
    )
    locked: nnguard.Locked = nnguard.lock(
        path,
        soft=soft,
        evaluate=accuracy,
        content_key="content.key",
        signer="vendor.key",
        progress=lambda size: size + 1,
        on_point=lambda point: (point.fraction, point.score),
    )
    best: float = min(abs(point.score - 0.4) for point in locked.curve)
    plotting.plot_search([locked], path.parent / "search.png", overwrite=best < soft.tolerance)
    return locked


def tiers(release: nnguard.Stream, weaker: nnguard.Stream) -> nnguard.ContentKey:
    locks: list[nnguard.Locked] = nnguard.lock_tiers(
        release,
        [
            nnguard.Tier("professional", soft=nnguard.Soft(fraction=1e-3)),
            nnguard.Tier("standard", scramble=0.2),
            nnguard.Tier("preview", scramble=["head.*"]),
            nnguard.Tier("free", trial=weaker),
        ],
        content_key=Path("content.key"),
    )
    names: dict[str, int] = {lock.tier: lock.scrambled + lock.replaced for lock in locks}
    lower: nnguard.ContentKey = locks[0].content_key.below(len(names) - 1)
    return nnguard.ContentKey(lower.secret)


def terms() -> Terms:
    device: Device = Device.from_json(Device.this().to_json())
    own: Device = Device.of_values([("serial", "4711")])
    return Terms(
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
    )


def issue(locked: nnguard.Locked, signer: nnguard.Signer) -> License:
    license_: License = licensing.issue(
        locked.trial, locked.content_key, to="ada.pub", signer=signer, terms=terms()
    )
    license_.save(Path("ada.license"), overwrite=False)
    return License.from_text(str(license_))


def sell() -> list[str]:
    with Ledger("licenses.db") as ledger:
        issuer: Issuer = Issuer(ledger, signer="vendor.key", identity="issuer.key")
        first: License = issuer.issue(
            Path("trial.nnc"), "content.key", to="ada.pub", terms=terms(), output="ada.license"
        )
        second: License = issuer.issue("trial.nnc", to=nnguard.Recipient.load("eve.pub"))
        revoked: list[licensing.LedgerEntry] = issuer.revoke(
            [first.terms.id, second.terms.id], reason="refund", at="2027-01-31"
        )
        revocations: RevocationList = issuer.revocation_list(issuer="acme.ai")
        revocations.save("acme.revoked", overwrite=True)
        entries: list[licensing.LedgerEntry] = ledger.entries(customer="Ada", revoked=None)
        when: datetime | None = ledger.get(first.terms.id).revoked_at
    gone: bool = RevocationList.load("acme.revoked").revokes(first.terms.id)
    return [entry.customer for entry in (*revoked, *entries)] if when and gone else []


def sell_by_orders() -> list[str]:
    with Ledger("shop.db") as ledger:
        issuer: Issuer = Issuer(
            ledger, "vendor.key", "shop.key", actor="shop", server="https://x.y"
        )
        product: licensing.Product = issuer.add_product("trial.nnc", "content.key", name="digits")
        order: licensing.Order = issuer.order(
            product, seats=2, customer="Ada", lasts=timedelta(days=30), features=["export"]
        )
        code: str = issuer.code(order)
        asked: licensing.Request = licensing.request("trial.nnc", "ada.key", order=code)
        first: License = issuer.acting_as("web").answer(asked)
        seats: list[licensing.Seat] = ledger.seats(order.id)
        state: Literal["taken", "cooling", "free"] = seats[0].state
        back: licensing.Seat = issuer.take_back(seats[0].id, reason="dead")
        cancelled: licensing.Order = issuer.cancel(order.id, reason="refund")
        head: licensing.AuditEntry | None = ledger.check_audit()
        token, text = ledger.new_token("shop", "web")
        known: licensing.Token | None = ledger.check_token(text)
    return [first.terms.id, state, back.id, cancelled.reason, token.id] if head and known else []


# A customer unlocks.


def customer(folder: Path) -> nnguard.Recipient:
    identity: nnguard.Identity = nnguard.Identity.generate(post_quantum=True)
    identity.save(folder / "ada.key", passphrase="secret", overwrite=True)
    recipient: nnguard.Recipient = nnguard.Identity.load("ada.key", passphrase=None).recipient
    recipient.save("ada.pub")
    pem: bytes = nnguard.Recipient.load(folder / "ada.pub").pem
    suite: str = recipient.suite
    return nnguard.Recipient.from_pem(pem) if suite else recipient


def unlock(trial: nnguard.Stream) -> licensing.LicenseTerms | None:
    policy: Policy = Policy(
        now=datetime.now(timezone.utc),
        device=Device.this(),
        revocations="acme.revoked",
        max_age=timedelta(days=7),
        state=Path("newest"),
    )
    status: licensing.Status = licensing.check("ada.license", "vendor.pub", license_policy=policy)
    agreed: licensing.LicenseTerms = status.terms
    asked: licensing.Request = licensing.renewal("ada.license", "ada.key", device="me.device")
    got: License = licensing.activate(asked, "https://a.example", "ada.key", "vendor.pub")
    got = licensing.refresh(got, "ada.key", "vendor.pub", server="https://a.example", early=True)
    receipt: licensing.Receipt = licensing.release(got, "ada.key", "ada.state")
    licensing.send(receipt, "https://a.example")
    told: tuple[str, ...] = status.warnings
    lease: licensing.Lease = licensing.Lease.load("pod.lease")
    leased: licensing.LicenseTerms = licensing.check(lease, "vendor.pub").terms
    most: int = leased.leases if lease.lasts < timedelta(hours=1) else 0
    until: datetime | None = agreed.expires_at
    wanted: bool = "export" in agreed.features and agreed.metadata.get("order") == "7"
    full: nnguard.Stream = nnguard.unlock(
        trial,
        "ada.license",
        nnguard.Identity.load("ada.key"),
        ["vendor.pub"],
        tier="standard",
        license_policy=policy,
        watermark=wanted and most > 0 and until is not None and not told,
        spool=Path(),
        progress=lambda count: None,
    )
    return nnguard.verify(full, "vendor.pub").licensed_to


# With PyTorch.


def torch(path: Path, module: Any) -> list[str]:
    nnguard.torch.save({}, path, signer="vendor.key", settings=nnguard.Settings(), name="net")
    state = nnguard.torch.load(
        path,
        trust=["vendor.pub"],
        expect=nnguard.Expect(name="net"),
        original=True,
        map_location="cpu",
        workers=2,
    )
    unlocked = nnguard.torch.load(
        "trial.nnc",
        "vendor.pub",
        license="ada.license",
        identity=Path("ada.key"),
        license_policy=Policy(),
    )
    report: nnguard.Report | None = nnguard.torch.load_into(
        module, "trial.nnc", ["vendor.pub"], allow_trial=True
    )
    digests: list[str] = [each.digest for each in (state.report, report) if each is not None]
    return [*digests, *state, *unlocked, *nnguard.torch.decompress(nnguard.Stream.open(path))]


def lock_module(module: Any, batches: list[Any]) -> nnguard.Locked:
    importance: dict[str, npt.NDArray[np.float32]] = nnguard.torch.importance(
        module, batches, lambda network, batch: network(batch).sum()
    )
    evaluate: Callable[[Mapping[str, Any]], float] = nnguard.torch.evaluator(
        module, lambda network: float(len(batches))
    )
    soft = nnguard.Soft(target=0.4, importance=importance)
    return nnguard.lock("release.nnc", evaluate=evaluate, soft=soft)


# What can go wrong.


def explain(error: nnguard.NnguardError) -> str:
    match error:
        case errors.LicenseError(reason=licensing.Refusal.EXPIRED | licensing.Refusal.REVOKED):
            return "ask the vendor for a new license"
        case errors.LicenseError():
            reason: licensing.Refusal = error.reason
            return reason.value
        case errors.LockedTrialError():
            return "this is the trial: unlock it"
        case errors.ClaimsError():
            return "this is another release"
        case errors.VerificationError():
            return ", ".join(error.tensors)
        case errors.CapacityError():
            return f"{error.needed} of {error.available}"
        case errors.FormatError():
            offset: int | None = error.offset
            return str(offset)
        case errors.LockError() | errors.UnlockError() | errors.LedgerError():
            return str(error)
        case errors.ModelError() | errors.WorkerError() | errors.LimitError():
            return str(error)
        case _:
            return error.hint


def wrong_arguments() -> str:
    try:
        nnguard.Soft(fraction=0.1, target=0.4)
    except ValueError as error:
        return explain(error) if isinstance(error, errors.ArgumentError) else str(error)
    return nnguard.__version__
