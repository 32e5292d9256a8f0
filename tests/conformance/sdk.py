"""The adapter of nnguard itself; `run.py` says what it is for.

PYTHONPATH=tests python tests/conformance/run.py --adapter "python tests/conformance/sdk.py"
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import nnguard
from nnguard._locking.opening import open_files
from nnguard._operations.authority import authority_of
from nnguard._policy.document import Age
from nnguard._policy.evaluation import evaluate
from nnguard._records.hashed import hash_files
from nnguard._records.signature import Signature
from opening import open_locks

Json = dict[str, Any]
NAMES = {1: "iss", 2: "sub", 6: "iat"}


def answer(request: Json) -> Json:
    """Do what is asked, and tell how it ended."""
    try:
        return {"outcome": "ok", **OPERATIONS[request["operation"]](request)}
    except nnguard.NnguardError as error:
        return {"outcome": outcome_of(error), "message": str(error), **details_of(error, request)}


def outcome_of(error: nnguard.NnguardError) -> str:
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return next(name for name in kinds if name in nnguard.errors.__all__)


def details_of(error: nnguard.NnguardError, request: Json) -> Json:
    match error:
        case nnguard.errors.LicenseError() | nnguard.errors.PolicyError():
            return {"reason": error.reason.value}
        case nnguard.errors.VerificationError() if error.tensors and "file" in request:
            units = enumerate(nnguard.Stream.open(request["file"]))
            return {"changed_units": [n for n, unit in units if unit.name in error.tensors]}
    return {}


def verify(request: Json) -> Json:
    trust = trusted(request)
    report = nnguard.verify(request["file"], trust, allow_trial=True)
    licensed = {"licensed_to": report.licensed_to.id} if report.licensed_to else {}
    return {
        **original(nnguard.strip(request["file"], trust, allow_trial=True)),
        **licensed,
        "kid": report.key_id,
        "digest": report.digest,
        "claims": claims_of(report.claims),
        "layers": 1 + len(report.nested),
        "signatures": signatures(report),
        "nested": [{"kind": record.kind, "kid": record.key_id} for record in report.nested],
    }


def verify_set(request: Json) -> Json:
    trust = trusted(request)
    report = nnguard.verify(request["folder"], trust, allow_trial=True)
    return {
        "kid": report.key_id,
        "digest": report.digest,
        "claims": claims_of(report.claims),
        "signatures": signatures(report),
        "shards": shards(nnguard.strip(request["folder"], trust, allow_trial=True)),
    }


def signatures(report: nnguard.Report) -> list[Json]:
    return [{"kid": each.key_id, "counts": each.counts} for each in report.signatures]


def detach(request: Json) -> Json:
    attachment, stream = nnguard.detach(request["file"])
    found = {"media_type": attachment.media_type, "payload": attachment.payload.hex()}
    return {**found, **original(stream)}


def open_(request: Json) -> Json:
    stream = nnguard.Stream.open(request["file"])
    key = nnguard.ContentKey(bytes.fromhex(request["content_key"]))
    opened = open_locks(stream, key)
    return {**original(opened.stream), "tiers": [*opened.tiers]}


def open_set(request: Json) -> Json:
    trial = nnguard.StreamSet.open(request["folder"])
    key = nnguard.ContentKey(bytes.fromhex(request["content_key"]))
    opened = open_files(hash_files(trial), key)
    result = nnguard.StreamSet.of({name: file.stream for name, file in opened.files.items()})
    return {"shards": shards(result), "tiers": [*opened.tiers]}


def unlock(request: Json) -> Json:
    stream, found = unlocked(request["file"], request)
    return {**original(stream), **found}


def unlock_set(request: Json) -> Json:
    streams, found = unlocked(request["folder"], request)
    return {"shards": shards(streams), **found}


def unlocked(trial: str, request: Json) -> tuple[Any, Json]:
    buyer, trust, tier = identity(request["customer"]), trusted(request), request.get("tier", "")
    license_ = request["license"]
    with tempfile.TemporaryDirectory() as folder:
        policy = policy_of(request, Path(folder))
        result = nnguard.unlock(trial, license_, buyer, trust, tier=tier, license_policy=policy)
        status = nnguard.licensing.check(license_, trust, license_policy=policy)
    return result, {"in_grace": status.in_grace, "warned": bool(status.warnings)}


def request_(request: Json) -> Json:
    found = nnguard.licensing.Request.load(request["request"])
    found.authenticate_self()
    said = {
        "digest": found.digest,
        "kid": found.key_id,
        "to": found.recipient.id.hex(),
        "order": found.order,
        "license": found.license,
        "device": [list(trait) for trait in found.device.fingerprint] if found.device else None,
        "leases": found.leases,
    }
    return {name: value for name, value in said.items() if value}


def receipt(request: Json) -> Json:
    found = nnguard.licensing.Receipt.load(request["receipt"])
    found.authenticate_self()
    return {"license": found.license_id, "kid": found.key_id}


def judge(request: Json) -> Json:
    policy = nnguard.TrustPolicy.load(request["policy"])
    policy.authenticate()
    if "pinned" in request:
        policy.check_succeeds(nnguard.TrustPolicy.load(request["pinned"]))
    claims = released(request)
    signatures = [Signature(kid, "ed25519", claims, "") for kid in request["kids"]]
    ruling = evaluate(policy, signatures, datetime.fromtimestamp(request["now"], timezone.utc))
    return {
        "rule": policy.rules.index(ruling.rule),
        "warnings": [warning.reason.value for warning in ruling.warnings],
        "digest": policy.digest if policy.message else "",
    }


def remember(request: Json) -> Json:
    """Judge a release as `verify` does once it is verified, at the time that is given."""
    claims = released(request)
    signatures = tuple(
        Signature(kid, "ed25519", claims, digest)
        for kid, digest in itertools.zip_longest(
            request["kids"], request["digests"], fillvalue=request["digests"][0]
        )
    )
    report = nnguard.Report(
        claims=claims,
        key_id=request["kids"][0],
        algorithm="ed25519",
        digest=request["digests"][0],
        signatures=signatures,
    )
    time = datetime.fromtimestamp(request["now"], timezone.utc)
    with tempfile.TemporaryDirectory() as folder:
        state, latest = Path(folder, "state"), request.get("statement")
        if "state" in request:
            shutil.copy(request["state"], state)
        with mock.patch("nnguard._operations.authority.now", return_value=time):
            authority = authority_of(trusted(request), None, state, latest)
            if "max_age" in request:
                max_age = Age(f"{request['max_age']}s")
                for finding in authority.latest.against(claims, request["digests"], time, max_age):
                    raise finding.error()
            authority.judge(report, remember=True)
        return {"state_sha256": hashlib.sha256(state.read_bytes()).hexdigest()}


def released(request: Json) -> nnguard.Claims:
    said = request["release"]
    texts = (said.get(name, "") for name in ("iss", "sub", "version"))
    return nnguard.Claims(*texts, release=said.get("release"))


OPERATIONS: dict[str, Callable[[Json], Json]] = {
    "verify": verify,
    "verify-set": verify_set,
    "detach": detach,
    "open": open_,
    "open-set": open_set,
    "unlock": unlock,
    "unlock-set": unlock_set,
    "judge": judge,
    "remember": remember,
    "request": request_,
    "receipt": receipt,
}


def original(stream: nnguard.Stream) -> Json:
    return {"original_sha256": sha256(stream)}


def shards(streams: nnguard.StreamSet) -> Json:
    return {name: sha256(stream) for name, stream in streams.streams.items()}


def sha256(stream: nnguard.Stream) -> str:
    return hashlib.sha256(bytes(stream)).hexdigest()


def claims_of(claims: nnguard.Claims) -> Json:
    found = {NAMES.get(label, label): value for label, value in claims.to_cwt().items()}
    if "shard" in found:
        found["shard"][0] = found["shard"][0].hex()
    return found


def trusted(request: Json) -> list[nnguard.PublicKey]:
    return [nnguard.PublicKey.from_pem(pem.encode()) for pem in request["trust"]]


def identity(keys: Json) -> nnguard.Identity:
    x25519 = X25519PrivateKey.from_private_bytes(bytes.fromhex(keys["x25519_private"]))
    if "mlkem768_seed" not in keys:
        return nnguard.Identity(x25519)
    seed = bytes.fromhex(keys["mlkem768_seed"])
    return nnguard.Identity(x25519, MLKEM768PrivateKey.from_seed_bytes(seed))


def policy_of(request: Json, folder: Path) -> nnguard.licensing.Policy:
    state = None
    if "seen" in request:
        state = folder / "state.json"
        state.write_text(json.dumps({"newest": request["seen"]}))
    if "license_state" in request:
        state = shutil.copy(request["license_state"], folder / "state.json")
    return nnguard.licensing.Policy(
        now=datetime.fromtimestamp(request["now"], timezone.utc),
        device=nnguard.licensing.Device.of_values(map(tuple, request.get("traits", []))),
        revocations=request.get("revocations"),
        max_age=timedelta(seconds=request["max_age"]) if "max_age" in request else None,
        state=state,
    )


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
