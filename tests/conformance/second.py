"""The adapter of the second implementation; `run.py` says what it is for.

PYTHONPATH=tests python tests/conformance/run.py --adapter "python tests/conformance/second.py"
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import second_activation
import second_hpke
import second_licensing
import second_policies
import second_reader
import second_sets
import second_state
import second_unlocker
from second_reader import split
from second_signatures import VendorKey
from second_unlocker import ALONE

Json = dict[str, Any]
NAMES = {1: "iss", 2: "sub", 6: "iat"}


def answer(request: Json) -> Json:
    """Do what is asked, and tell how it ended."""
    try:
        return {"outcome": "ok", **OPERATIONS[request["operation"]](request)}
    except second_reader.Outcome as outcome:
        told = isinstance(outcome, (second_licensing.Refused, second_policies.PolicyRefused))
        reason = {"reason": outcome.reason} if told else {}
        found = {"outcome": outcome.name, "message": str(outcome), **reason}
        return {**found, "changed_units": [*outcome.tensors]} if outcome.tensors else found


def verify(request: Json) -> Json:
    header, taken, mark = second_licensing.verify(read(request), trusted(request))
    return {
        **original(taken[0].original),
        **({"licensed_to": mark[7].hex()} if mark else {}),
        "kid": header[4].hex(),
        "digest": second_reader.model_digest(taken[0].original).hex(),
        "claims": claims_of(header[15]),
        "layers": len(taken),
        "signatures": [
            {"kid": header[4].hex(), "counts": counts}
            for header, _, counts in second_reader.signatures(taken, trusted(request))
        ],
    }


def verify_set(request: Json) -> Json:
    found = second_sets.verify(Path(request["folder"]), trusted(request))
    return {
        "kid": found.kid.hex(),
        "digest": found.digest.hex(),
        "claims": claims_of(found.claims),
        "signatures": [{"kid": kid.hex(), "counts": counts} for kid, counts in found.signatures],
        "shards": shards({name: taken.original for name, taken in found.taken.items()}),
    }


def detach(request: Json) -> Json:
    media_type, payload, units = second_reader.detach(read(request))
    return {"media_type": media_type, "payload": payload.hex(), **original(units)}


def open_(request: Json) -> Json:
    key = bytes.fromhex(request["content_key"])
    opened = second_unlocker.open_locks({ALONE: split(read(request))}, key)
    return {**original(opened.files[ALONE]), "tiers": opened.tiers}


def open_set(request: Json) -> Json:
    key = bytes.fromhex(request["content_key"])
    folder = second_sets.read(Path(request["folder"]))
    trial = {name: split(data) for name, data in folder.streams.items()}
    opened = second_unlocker.open_locks(trial, key)
    second_sets.make_index(opened.files)
    return {"shards": shards(opened.files), "tiers": opened.tiers}


def unlock(request: Json) -> Json:
    opened, standing = unlocked(request, {ALONE: read(request)})
    return {**original(opened.files[ALONE]), **standing._asdict()}


def unlock_set(request: Json) -> Json:
    folder = second_sets.read(Path(request["folder"]))
    opened, standing = unlocked(request, folder.streams, folder)
    return {"shards": shards(opened.files), **standing._asdict()}


def unlocked(
    request: Json, files: dict[str, bytes], folder: second_sets.Folder | None = None
) -> tuple[second_unlocker.Opened, second_licensing.Standing]:
    seen, released = request.get("seen"), []
    if "license_state" in request:
        seen, released = second_activation.read_state(text(request["license_state"]))
    here = second_licensing.Deployment(
        now=request["now"],
        seen=seen,
        released=tuple(released),
        revocations=text(request["revocations"]) if "revocations" in request else None,
        max_age=request.get("max_age"),
        traits=tuple((kind, value) for kind, value in request.get("traits", [])),
        tier=request.get("tier"),
    )
    buyer, license_text = customer(request["customer"]), text(request["license"])
    trust = trusted(request)
    return second_licensing.unlock(files, license_text, buyer, trust, here, folder)


def judge(request: Json) -> Json:
    pinned = Path(request["pinned"]).read_bytes() if "pinned" in request else None
    kids = [bytes.fromhex(kid) for kid in request["kids"]]
    file = Path(request["policy"]).read_bytes()
    found = second_policies.judge(file, request["release"], kids, request["now"], pinned)
    return {"rule": found.rule, "warnings": found.warnings, "digest": found.digest}


def remember(request: Json) -> Json:
    state, statement = (
        text(request[name]) if name in request else None for name in ("state", "statement")
    )
    release = second_state.Release(request["release"], request["kids"], request["digests"])
    found = second_state.remember(
        release, request["now"], state, statement, trusted(request), request.get("max_age")
    )
    return {"state_sha256": hashlib.sha256(found.encode()).hexdigest()}


def request_(request: Json) -> Json:
    encoded, claims = second_activation.read_request(text(request["request"]))
    said = {
        "digest": second_activation.digest(encoded),
        "kid": kid_of(claims["key"]),
        "to": hashlib.sha256(claims["to"]).digest()[:8].hex(),
        "order": claims.get("order"),
        "license": claims.get("license", b"").hex(),
        "device": [[kind, trait.hex()] for kind, trait in claims.get("device", [])],
        "leases": claims.get("leases"),
    }
    return {name: value for name, value in said.items() if value}


def receipt(request: Json) -> Json:
    claims = second_activation.read_receipt(text(request["receipt"]))
    return {"license": claims["license"].hex(), "kid": kid_of(claims["key"])}


def kid_of(key: bytes) -> str:
    """Of an Ed25519 key, whose SubjectPublicKeyInfo begins with the same 12 bytes (RFC 8410)."""
    prefix = bytes.fromhex("302a300506032b6570032100")
    return hashlib.sha256(prefix + key).digest()[:8].hex()


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


def shards(files: second_unlocker.Files) -> Json:
    return {name: sha256(units) for name, units in files.items()}


def original(units: list[bytes]) -> Json:
    return {"original_sha256": sha256(units)}


def sha256(units: list[bytes]) -> str:
    return hashlib.sha256(b"".join(units)).hexdigest()


def claims_of(claims: dict[Any, Any]) -> Json:
    found = {NAMES.get(label, label): value for label, value in claims.items()}
    if "shard" in found:
        found["shard"][0] = found["shard"][0].hex()
    return found


def read(request: Json) -> bytes:
    return Path(request["file"]).read_bytes()


def text(path: str) -> str:
    return Path(path).read_bytes().decode()


def trusted(request: Json) -> list[VendorKey]:
    return list(map(VendorKey, request["trust"]))


def customer(keys: Json) -> second_hpke.Customer:
    x25519 = X25519PrivateKey.from_private_bytes(bytes.fromhex(keys["x25519_private"]))
    if "mlkem768_seed" not in keys:
        return second_hpke.Customer(x25519)
    seed = bytes.fromhex(keys["mlkem768_seed"])
    return second_hpke.Customer(x25519, MLKEM768PrivateKey.from_seed_bytes(seed))


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
