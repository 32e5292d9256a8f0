"""The second reader, continued: licenses, leases and marks, from `docs/SPEC.md`, 6.5, 11 and 14.5.

Nothing of nnguard is used here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import second_masks
import second_reader
import second_sets
from second_hpke import Customer
from second_reader import Outcome, Taken, model_digest, read_cbor, split
from second_sets import Folder, set_digest
from second_signatures import Message, VendorKey, read_message
from second_unlocker import ALONE, Files, Opened, ascends, open_locks, peek_kid

__all__ = ["Deployment", "Refused", "unlock", "verify"]


Lease = tuple[Message, dict[Any, Any]]


class Refused(Outcome):
    """A LicenseError, with its reason."""

    def __init__(self, reason: str) -> None:
        super().__init__("LicenseError", reason)
        self.reason = reason


# 11.1: licenses


REQUIRED = {5: int, 6: int, 7: 16, "grace": int, "stream": 32, "opens": 32, "lock": 8, "to": 8}
REQUIRED |= {"key": bytes}
OPTIONAL = {1: str, 2: str, 4: int, "product": str, "tier": str}
OPTIONAL |= {"features": list, "meta": dict, "device": list, "leases": int, "leaser": 32}
OPTIONAL |= {"order": str, "server": str, "warn": int, "copy": bytes}


def unarmor(label: str, text: str) -> bytes:
    found = re.search(f"-----BEGIN {label}-----(.*?)-----END {label}-----", text, re.DOTALL)
    body = re.sub(r"[\s\ufeff>|]", "", found[1]) if found else ""
    try:
        data = base64.b64decode(body, validate=True)
    except ValueError:
        data = b""
    if not data or base64.b64encode(data).decode() != body:
        raise Refused("malformed")
    return data


def read_signed(encoded: bytes) -> tuple[Message, dict[Any, Any]]:
    """A signed message with nothing else in its header, and its claims; the form only."""
    try:
        message = read_message(encoded)
        claims = read_cbor(message.payload)
    except (Outcome, ValueError):
        raise Refused("malformed") from None
    if message.rest or len(message.kids) > 1 or type(claims) is not dict:
        raise Refused("malformed")
    return message, claims


def read_license(encoded: bytes) -> tuple[Message, dict[Any, Any]]:
    message, claims = read_signed(encoded)
    kinds = REQUIRED | {key: kind for key, kind in OPTIONAL.items() if key in claims}
    if claims.keys() != kinds.keys() or not all(
        (type(claims[key]) is bytes and len(claims[key]) == kind)
        if isinstance(kind, int)
        else type(claims[key]) is kind and (kind is int or key == "key" or claims[key])
        for key, kind in kinds.items()
    ):
        raise Refused("malformed")
    meta = claims.get("meta", {})
    texts = [*claims.get("features", []), *meta, *meta.values()]
    times = [claims[5], claims[6]]
    times += [claims[4], claims[4] + claims["grace"]] if 4 in claims else []
    well_formed = all(type(text) is str for text in texts) and claims["grace"] >= 0
    leased = [claims.get("leases", 0) > 0, "leases" in claims, "leaser" in claims]
    well_formed &= claims.get("warn", 1) == 1 and leased in ([False] * 3, [True] * 3)
    if not well_formed or not all(map(is_time, times)) or not is_binding(claims.get("device")):
        raise Refused("malformed")
    return message, claims


# 14.5: leases


def read_lease(text: str) -> Lease | None:
    """The lease in a text, if it is one; the form only."""
    begin = "-----BEGIN NNGUARD LICENSE{}-----"
    if begin.format(" LEASE") not in text or begin.format("") in text:
        return None
    encoded = unarmor("NNGUARD LICENSE LEASE", text)
    message, claims = read_signed(encoded)
    kinds = {key: type(value) for key, value in claims.items()}
    if kinds != {4: int, 6: int, 7: bytes, "license": bytes, "to": bytes, "key": bytes}:
        raise Refused("malformed")
    sizes = len(claims[7]) == 16 and len(claims["to"]) == 8 and len(encoded) <= 1 << 21
    if not sizes or not is_time(claims[4]) or not is_time(claims[6]) or claims[4] <= claims[6]:
        raise Refused("malformed")
    read_license(claims["license"])
    return message, claims


def check_lease(lease: Lease, license_: dict[Any, Any], now: int) -> None:
    """14.5, 3 to 6."""
    message, claims = lease
    if "leaser" not in license_:
        raise Refused("not-leased")
    key = Ed25519PublicKey.from_public_bytes(license_["leaser"])
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    authenticate(message, b"nnguard license lease v1", [VendorKey(pem.decode())])
    ends = (
        license_[4] + license_["grace"] if 4 in license_ and "warn" not in license_ else claims[4]
    )
    if claims[4] > min(ends, claims[6] + 86_400):
        raise Refused("not-leased")
    if now < claims[6] - 300:
        raise Refused("clock-set-back")
    if now >= claims[4]:
        raise Refused("expired")


def is_time(seconds: int) -> bool:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).year > 0
    except (ValueError, OverflowError, OSError):
        return False


def is_binding(device: Any) -> bool:
    if device is None:
        return True
    if [type(part) for part in device] != [int, bytes, bytes] or len(device[2]) % 16:
        return False
    prints = chunks(device[2], 16)
    return len(device[1]) == 16 and 0 < device[0] <= len(prints) <= 64 and ascends(prints)


def chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def authenticate(message: Message, label: bytes, trust: list[VendorKey]) -> None:
    (kid,) = message.kids
    key = next((key for key in trust if key.kid == kid), None)
    if key is None:
        raise Outcome("WrongKeyError", kid.hex())
    if not message.is_by(key, label + b"\0"):
        raise Refused("malformed")


def read_list(text: str, kid: bytes, trust: list[VendorKey]) -> tuple[int, list[bytes]]:
    """11.2: when, and the hashes; the list of one vendor's key."""
    message, claims = read_signed(unarmor("NNGUARD REVOCATION LIST", text))
    kinds = {key: type(value) for key, value in claims.items()}
    hashes = claims.get("revoked", b"")
    if kinds != {1: str, 6: int, "revoked": bytes} or len(hashes) % 32 or not is_time(claims[6]):
        raise Refused("malformed")
    if not ascends(chunks(hashes, 32)):
        raise Refused("malformed")
    own = [key for key in trust if key.kid == kid]
    authenticate(message, b"nnguard revocation list v1", own)
    return claims[6], chunks(hashes, 32)


# 11.3: unlocking


@dataclass
class Deployment:
    """What a reader knows besides the license: times in seconds, traits as kind and value."""

    now: int
    seen: int | None = None
    revocations: str | None = None
    max_age: int | None = None
    traits: tuple[tuple[str, str], ...] = ()
    tier: str | None = None
    released: tuple[str, ...] = ()


class Standing(NamedTuple):
    """Of a license that holds."""

    in_grace: bool
    warned: bool


def check_license(
    kid: bytes,
    claims: dict[Any, Any],
    here: Deployment,
    trust: list[VendorKey],
    lease: Lease | None = None,
) -> Standing:
    """Steps 2 to 7, from the list on."""
    warned = False

    def refuse(reason: str) -> None:
        nonlocal warned
        if "warn" not in claims:
            raise Refused(reason)
        warned = True

    listed = None if here.revocations is None else read_list(here.revocations, kid, trust)
    newest = max(claims[6], *(() if listed is None else (listed[0],)), here.seen or claims[6])
    now = here.now
    if now < newest - 300:
        refuse("clock-set-back")
        now = newest
    if hashlib.sha256(b"nnguard released license v1\0" + claims[7]).hexdigest() in here.released:
        raise Refused("released")
    mark = hashlib.sha256(b"nnguard revoked license v1\0" + claims[7]).digest()
    if listed and mark in listed[1]:
        refuse("revoked")
    if here.max_age is not None and (listed is None or now - listed[0] > here.max_age):
        raise Refused("stale-revocations")
    if now < claims[5]:
        raise Refused("not-yet-valid")
    in_grace = 4 in claims and claims[4] <= now < claims[4] + claims["grace"]
    if 4 in claims and now >= claims[4] + claims["grace"]:
        refuse("expired")
    if lease:
        check_lease(lease, claims, now)
    required, salt, prints = (0, b"", b"") if lease else claims.get("device", (0, b"", b""))
    found = {print_of(salt, kind, value) for kind, value in here.traits}
    if len(found.intersection(chunks(prints, 16))) < required:
        raise Refused("other-device")
    if here.tier is not None and claims.get("tier", "") != here.tier:
        raise Refused("other-tier")
    return Standing(in_grace, warned or in_grace)


def unwrap(claims: dict[Any, Any], label: bytes, customer: Customer) -> bytes | None:
    rest = {name: value for name, value in claims.items() if name not in ("key", "copy")}
    info = label + cbor2.dumps(rest, canonical=True)
    return customer.unwrap(claims["key"], info) if claims["to"] == customer.id else None


def print_of(salt: bytes, kind: str, value: str) -> bytes:
    trait = b"nnguard device trait v1\0" + kind.encode() + b"\0" + value.encode()
    data = b"nnguard device binding v1\0" + hashlib.sha256(trait).digest()
    return hmac.digest(salt, data, "sha256")[:16]


def unlock(
    files: dict[str, bytes],
    license_text: str,
    customer: Customer,
    trust: list[VendorKey],
    here: Deployment,
    folder: Folder | None = None,
) -> tuple[Opened, Standing]:
    """11.3: what the license opens, and how it stands.

    The trial is one stream, which is called `ALONE`, or a set and its index.

    Raises:
        Outcome: The license does not unlock the trial.
    """
    trial = {name: split(data) for name, data in files.items()}
    for units in trial.values():
        second_reader.eligible(units)
    lease = read_lease(license_text)
    encoded = lease[1]["license"] if lease else unarmor("NNGUARD LICENSE", license_text)
    message, claims = read_license(encoded)
    authenticate(message, b"nnguard license v1", trust)
    standing = check_license(message.kids[0], claims, here, trust, lease)
    secret = unwrap(claims, b"nnguard license content key v1\0", customer)
    if lease:
        secret = unwrap(lease[1], b"nnguard license lease content key v1\0", customer)
    if secret is None:
        raise Outcome("WrongKeyError", "made out to another")
    check_binding(trial, claims)
    if None in map(outermost, trial.values()):
        raise Outcome("NoRecordError", "not locked")
    check_signatures(trial, trust, folder)
    opened = open_locks(trial, secret[:32])
    if opened.masks:
        copy = second_masks.copy_of(opened, secret[32:], claims.get("copy", b""))
        opened.files = {ALONE: copy}
    if digest_of(opened.files) != claims["opens"]:
        raise Outcome("UnlockError", "not what the license says")
    result = folder and second_sets.below(folder, opened.carried, opened.files)
    with hidden("FormatError"):  # tensors of a foreign encoder
        check_signatures(opened.files, trust, result)
    return opened, standing


def outermost(units: list[bytes]) -> Taken | None:
    try:
        return second_reader.take_out(units, vouched=True)
    except Outcome as outcome:
        if outcome.name == "NoRecordError":
            return None
        raise


@contextlib.contextmanager
def hidden(name: str) -> Iterator[None]:
    """Pass over an outcome."""
    try:
        yield
    except Outcome as outcome:
        if outcome.name != name:
            raise


def digest_of(files: Files) -> bytes:
    return model_digest(files[ALONE]) if ALONE in files else set_digest(files)


def check_binding(trial: Files, claims: dict[Any, Any]) -> None:
    """Step 9."""
    if digest_of(trial) == claims["stream"]:
        return
    if lock_of(trial[min(trial)]) != claims["lock"]:
        raise Refused("other-stream")
    if None in map(lock_of, trial.values()):
        raise Outcome("NoRecordError", "a stream is not locked")
    raise Outcome("VerificationError", "the trial was changed")


def lock_of(units: list[bytes]) -> bytes | None:
    """The `kid` of the outermost lock, be it under a signature."""
    with hidden("NoRecordError"):
        kind, beginning = second_reader.peek(units, 512)
        if kind == 1:
            below = second_reader.take_out(units).original
            kind, beginning = second_reader.peek(below, 512)
        if kind == 3:
            return peek_kid(beginning)
    return None


def check_signatures(files: Files, trust: list[VendorKey], folder: Folder | None) -> None:
    """Steps 10 and 12: a stream's signature; those of a set, if one has any."""
    records = map(outermost, files.values())
    signed = [record for record in records if record and record.kind == 1]
    if signed and ALONE in files:
        second_reader.check_signature(signed[0], trust)
    elif signed:
        second_sets.check(folder, trust, vouched=True)


def verify(
    data: bytes, trust: list[VendorKey]
) -> tuple[dict[Any, Any], list[Taken], dict[Any, Any] | None]:
    """7 and 6.5: what `second_reader.verify` gives, and the claims of a mark, if there is one.

    Raises:
        Outcome: The stream is refused.
    """
    taken = second_reader.take_out(split(data))
    if taken.kind != 4:
        return (*second_reader.verify(data, trust), None)
    try:
        message, claims = read_license(taken.record)
        authenticate(message, b"nnguard license v1", trust)
    except Refused:
        raise Outcome("VerificationError", "the mark was changed") from None
    header, below = second_reader.verify(b"".join(taken.original), trust)
    counting = [h[4] for h, _, counts in second_reader.signatures(below, trust) if counts]
    if message.kids[0] not in counting:
        raise Outcome("VerificationError", "the mark is another vendor's")
    if claims["opens"] != model_digest(taken.original):
        raise Outcome("VerificationError", "the mark is that of another stream")
    if second_reader.plan(taken.original, 4, len(taken.record)) != taken.header:
        raise Outcome("VerificationError", "the mark lies elsewhere")
    return header, below, claims
