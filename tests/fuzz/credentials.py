"""Fuzzing by coverage what reads keys, licenses, policies and the like, with atheris.

python tests/fuzz/credentials.py licenses CORPUS -max_total_time=60    (make fuzz-credentials)

Half of the mutations are libFuzzer's; the others know CBOR, PEM and armor, and put signatures of a
test key right again. Laws: only NnguardError comes out; what is read is written as it was; what a
list or a license does not owe to its signer is not authentic.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import cbor2

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "examples/digits")]

import nnguard
import nnguard._licensing.policy  # names of nnguard load with their first use
from fuzz.mutations import edit, mutate
from fuzz.running import fuzz
from nnguard._crypto import armor, cose, identity
from nnguard._crypto.cbor import encode_cbor, parse_cbor
from nnguard._crypto.ecdsa import EcdsaKey
from nnguard._hiding import extract, frame
from nnguard._licensing.lease import Lease
from nnguard._licensing.license import License
from nnguard._licensing.receipt import Receipt
from nnguard._licensing.request import Request
from nnguard._licensing.revocation import RevocationList
from nnguard._licensing.state import LicenseState
from nnguard._oms.envelope import open_envelope, seal
from nnguard._oms.statement import GIT, Statement
from nnguard._policy.advice import advise
from nnguard._policy.evaluation import evaluate
from nnguard._policy.latest import LatestStatement
from nnguard._policy.state import Memory
from nnguard._policy.writing import write_toml
from nnguard._records.attachment import Attachment
from nnguard._records.lock import LockContent, LockRecord
from nnguard._records.signature import Signature, SignatureRecord
from nnguard.errors import NnguardError
from opening import lock_of
from vectors import policies, selling, toolbox

VECTORS = Path(__file__).parents[1] / "vectors"


class Target(NamedTuple):
    """What reads a kind of file, how to change one, and what to begin with."""

    read: Callable[[bytes], None]
    change: Callable[[random.Random, bytes], bytes]
    seeds: Callable[[], list[bytes]]


def read_license(data: bytes) -> None:
    """Licenses as bytes and as text; only the vendor's word makes one authentic."""
    read = License.from_text(data.decode("utf-8", "replace")) if data[:1] == b"-" else None
    read = read or License.parse(data)
    assert License.from_text(str(read)).encoded == read.encoded
    read.terms.to_json()
    nnguard.licensing.check(read, toolbox.VENDOR.public_key, license_policy=POLICY)
    assert read.encoded[-64:] == toolbox.VENDOR.sign(signed_bytes(read.encoded, LICENSE_DOMAIN))


def read_list(data: bytes) -> None:
    """Revocation lists; likewise."""
    read = RevocationList.parse(data)
    assert RevocationList.parse(read.encoded).hashes == read.hashes
    read.authenticate([toolbox.VENDOR.public_key])
    assert read.encoded[-64:] == toolbox.VENDOR.sign(signed_bytes(read.encoded, LIST_DOMAIN))


def read_statement(data: bytes) -> None:
    """Latest statements; likewise."""
    read = LatestStatement.parse(data)
    assert LatestStatement.from_text(str(read)).encoded == read.encoded
    read.to_json()
    read.authenticate([toolbox.VENDOR.public_key])
    assert read.encoded[-64:] == toolbox.VENDOR.sign(signed_bytes(read.encoded, LATEST_DOMAIN))
    list(read.against(read.claims, [read.digest], read.expires_at, None))


def read_request(data: bytes) -> None:
    """Requests and receipts: only the word of the key in one makes it authentic."""
    kind = Receipt if receipt_only(data) else Request
    read = kind.parse(data)
    assert kind.from_text(str(read)).encoded == read.encoded
    read.to_json()
    read.authenticate_self()
    for customer in selling.CUSTOMERS.values():
        if customer.request_signer.public_key == read.key:
            right = customer.request_signer.sign(signed_bytes(read.encoded, kind._DOMAIN))
            assert read.encoded[-64:] == right
            return
    raise AssertionError("a key of nobody's")


def receipt_only(data: bytes) -> bool:
    """Whether the claims are those of a receipt rather than of a request."""
    with contextlib.suppress(Exception):
        return "stream" not in parse_cbor(cose.parse_signed(data).payload)
    return False


def change_request(rng: random.Random, data: bytes) -> bytes:
    """Claims are changed, and signed again by one of the customers, whose key is put into them."""
    try:
        claims = edit(rng, parse_cbor(cose.parse_signed(data).payload))
        signer = rng.choice([*selling.CUSTOMERS.values()]).request_signer
        if rng.random() < 0.9:
            claims["key"] = signer.public_key.raw
        kind = Request if "stream" in claims else Receipt
        return toolbox.signed_message(signer, {}, encode_cbor(claims), kind._DOMAIN)
    except Exception:  # no envelope, or no claims
        return mutate(rng, data or b"x")


def request_seeds() -> list[bytes]:
    label = "NNGUARD LICENSE"
    return envelopes("request", f"{label} REQUEST") + envelopes("receipt", f"{label} RECEIPT")


def read_lease(data: bytes) -> None:
    """Leases: only the word of the key that the license in one names makes it hold."""
    read = Lease.parse(data)
    assert Lease.from_text(str(read)).encoded == read.encoded
    read.to_json()
    nnguard.licensing.check(read, toolbox.VENDOR.public_key, license_policy=POLICY)
    by = [
        customer.request_signer
        for customer in selling.CUSTOMERS.values()
        if customer.request_signer.public_key == read.license.terms.leaser
    ]
    assert read.encoded[-64:] == by[0].sign(signed_bytes(read.encoded, Lease._DOMAIN))


def change_lease(rng: random.Random, data: bytes) -> bytes:
    """Claims are changed, and signed again by one of the customers."""
    try:
        claims = edit(rng, parse_cbor(cose.parse_signed(data).payload))
        signer = rng.choice([*selling.CUSTOMERS.values()]).request_signer
        return toolbox.signed_message(signer, {}, encode_cbor(claims), Lease._DOMAIN)
    except Exception:  # no envelope, or no claims
        return mutate(rng, data or b"x")


def read_license_state(data: bytes) -> None:
    """License states: what is read says the same when it is written again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state")
        path.write_bytes(data)
        with LicenseState(path) as state:
            newest, released = state.newest, state.released
            state.bury("00" * 16)
        with LicenseState(path) as state:
            assert (state.newest, state.released >= released) == (newest, True)


def change_json(rng: random.Random, data: bytes) -> bytes:
    """A value is changed somewhere inside."""
    try:
        return json.dumps(edit(rng, json.loads(data))).encode()
    except Exception:  # nothing that JSON holds
        return mutate(rng, data or b"x")


def license_state_seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted(VECTORS.glob("*.license_state"))]


def read_state(data: bytes) -> None:
    """State files: what is read is written again as it was."""
    with contextlib.suppress(ValueError):
        assert Memory.parse(data).encode() == data


def read_policy(data: bytes) -> None:
    """Policies as JSON, TOML or armor: what is read is written and read again; it judges."""
    policy = nnguard.TrustPolicy.parse(data)
    assert nnguard.TrustPolicy.parse(json.dumps(policy.to_json())) == policy
    assert nnguard.TrustPolicy.parse(write_toml(policy.to_json())) == policy
    assert nnguard.TrustPolicy.parse(str(policy)) == policy
    list(advise(policy, NOW))
    with contextlib.suppress(NnguardError):
        assert evaluate(policy, [SIGNATURE], NOW).rule in policy.rules
    policy.authenticate()
    policy.check_succeeds(PINNED)
    assert policy.version >= PINNED.version
    assert policy.message is not None


def change_policy(rng: random.Random, data: bytes) -> bytes:
    """A value is changed somewhere inside; then it is TOML, or signed by its root."""
    try:
        text = data if data[:1] == b"{" else nnguard.TrustPolicy.parse(data).payload
        members = edit(rng, json.loads(text))
        if rng.random() < 0.3:
            return write_toml(members).encode()
        if rng.random() < 0.3:
            return policies.signed(members, rng.choice(["other", "vendor"])).encode()
        return json.dumps(members).encode()
    except Exception:  # nothing that JSON, TOML or CBOR holds
        return mutate(rng, data or b"x")


def policy_seeds() -> list[bytes]:
    found = [path.read_bytes() for path in sorted(VECTORS.glob("*.policy"))]
    return [data for data in found if len(data) < 8192]


def read_keys(data: bytes) -> None:
    """Everything that PEM and JSON bring, each read as whatever it may be."""
    for read in (
        nnguard.PublicKey.from_pem,
        nnguard.SigningKey.from_pem,
        identity.Recipient.from_pem,
        identity.Identity.from_pem,
    ):
        try:
            found = read(data)
        except NnguardError:
            continue
        if isinstance(found, (nnguard.PublicKey, identity.Recipient)):
            assert type(found).from_pem(found.pem) == found
    try:
        text = data.decode("utf-8", "replace")
        device = nnguard.licensing.Device.from_json(text)
        assert nnguard.licensing.Device.from_json(device.to_json()) == device
    except nnguard.errors.ArgumentError:
        pass
    try:
        assert armor.read_armor("X", armor.write_armor("X", data)) == data
        armor.read_armor("LICENSE", text)
    except ValueError:  # documented
        pass


def read_record(data: bytes) -> None:
    """What lies in a frame, and frames."""
    header = frame.parse_header(data)
    assert header is None or data.startswith(bytes(header))
    readers = (SignatureRecord.parse, Attachment.parse, LockRecord.parse, LockContent.parse)
    for read in (*readers, LockRecord.peek):
        try:
            found = read(data)
        except NnguardError:
            continue
        if isinstance(found, LockContent):
            assert bytes(found) == data
    value = parse_cbor(data)
    assert encode_cbor(value) == data


def read_bundle(data: bytes) -> None:
    """Bundles of OpenSSF Model Signing; only the key's word makes a statement."""
    try:
        payload, _ = open_envelope(data, {BUNDLE_KEY.hint: BUNDLE_KEY})
        statement = Statement.parse(payload)
        assert Statement.parse(statement.encode()) == statement
    except ValueError:  # documented; "." is read, and not written
        pass


def change_bundle(rng: random.Random, data: bytes) -> bytes:
    """A value is changed somewhere inside: outside what is signed, or in it, and signed again."""
    try:
        if rng.random() < 0.5:
            return json.dumps(edit(rng, json.loads(data))).encode()
        payload = base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"])
        if rng.random() < 0.3:
            return seal(mutate(rng, payload), toolbox.P256)
        return seal(json.dumps(edit(rng, json.loads(payload))).encode(), toolbox.P256)
    except Exception:  # no bundle, or no JSON any longer
        return mutate(rng, data or b"x")


def bundle_seeds() -> list[bytes]:
    files = {"a.nnc": bytes(32), "sub/b.json": bytes([1]) * 32}
    statements = [Statement("m", files, GIT), Statement("", files, allow_symlinks=True)]
    return [seal(statement.encode(), toolbox.P256) for statement in statements]


NOW = datetime.fromtimestamp(selling.NOW, timezone.utc)
PINNED = nnguard.TrustPolicy.parse(policies.FIRST)
SIGNATURE = Signature(
    toolbox.VENDOR.public_key.id.hex(),
    "ed25519",
    nnguard.Claims("vendor.example", "small", "1.2", release=7),
    "",
)
BUNDLE_KEY = EcdsaKey.from_pem(toolbox.P256.public_key.pem)
POLICY = nnguard.licensing.Policy(now=selling.ISSUED)
LICENSE_DOMAIN, LIST_DOMAIN = b"nnguard license v1\0", b"nnguard revocation list v1\0"
LATEST_DOMAIN = b"nnguard latest statement v1\0"


def signed_bytes(encoded: bytes, domain: bytes) -> bytes:
    """The Sig_structure of RFC 9052, section 4.4, of an envelope."""
    protected, _, payload, _ = cbor2.loads(encoded).value
    return encode_cbor(["Signature1", protected, domain, payload])


def change_envelope(domain: bytes) -> Callable[[random.Random, bytes], bytes]:
    """Claims are changed, and signed again by one of the test keys."""

    def change(rng: random.Random, data: bytes) -> bytes:
        try:
            payload = cose.parse_signed(data).payload
            claims = encode_cbor(edit(rng, parse_cbor(payload)))
        except Exception:  # no envelope
            return mutate(rng, data or b"x")
        if rng.random() < 0.2:
            claims = mutate(rng, payload)
        key = rng.choice(
            [toolbox.VENDOR, toolbox.VENDOR, toolbox.OTHER, toolbox.P256, toolbox.HYBRID_65]
        )
        return toolbox.signed_message(key, {}, claims, domain)

    return change


def change_pem(rng: random.Random, data: bytes) -> bytes:
    """The bytes in one of the blocks are changed, or the blocks change places."""
    blocks = data.split(b"-----END")
    at = rng.randrange(len(blocks))
    lines = blocks[at].splitlines()
    try:
        content = base64.b64decode(b"".join(lines[-2:])) if rng.random() < 0.7 else b""
        if content:
            blocks[at] = b"\n".join([*lines[:-2], base64.b64encode(mutate(rng, content)), b""])
    except ValueError:
        pass
    if rng.random() < 0.2:
        blocks.append(rng.choice(blocks))
    return b"-----END".join(blocks)


def change_state(rng: random.Random, data: bytes) -> bytes:
    """A value is changed somewhere inside, and the checksum is right."""
    try:
        members = edit(rng, json.loads(data))
        del members["sha256"]
        members["sha256"] = hashlib.sha256(json.dumps(members).encode()).hexdigest()
        return (json.dumps(members, indent=1) + "\n").encode()
    except Exception:  # nothing that JSON holds
        return mutate(rng, data or b"x")


def change_cbor(rng: random.Random, data: bytes) -> bytes:
    """A value is changed somewhere inside."""
    try:
        return encode_cbor(edit(rng, parse_cbor(data)))
    except Exception:  # no CBOR
        return mutate(rng, data or b"x")


def envelopes(ending: str, label: str) -> list[bytes]:
    found = []
    for path in sorted(VECTORS.glob(f"*.{ending}")):
        with contextlib.suppress(ValueError):  # some are wrong on purpose
            found.append(armor.read_armor(label, path.read_text("utf-8")))
    return found


def key_seeds() -> list[bytes]:
    customers = [customer.recipient.pem for customer in selling.CUSTOMERS.values()]
    device = (
        nnguard.licensing.Device.of_values([("host", "a"), ("network", "b")]).to_json().encode()
    )
    text = (VECTORS / "license.license").read_bytes()
    return [*customers, toolbox.VENDOR.public_key.pem, toolbox.VENDOR.pem(), device, text]


def record_seeds() -> list[bytes]:
    return list(_records())


def _records() -> Iterator[bytes]:
    for path in sorted(VECTORS.glob("*.nnc")):
        try:
            found = extract(nnguard.Stream.open(path))
        except NnguardError:
            continue
        yield found.record
        yield frame.frame_record(found.header, found.record)
        with contextlib.suppress(NnguardError):
            yield bytes(lock_of(found).open(selling.FULL, bytes(found.header)))


TARGETS = {
    "licenses": Target(
        read_license,
        change_envelope(LICENSE_DOMAIN),
        lambda: envelopes("license", "NNGUARD LICENSE"),
    ),
    "lists": Target(
        read_list,
        change_envelope(LIST_DOMAIN),
        lambda: envelopes("revocations", "NNGUARD REVOCATION LIST"),
    ),
    "requests": Target(read_request, change_request, request_seeds),
    "leases": Target(
        read_lease, change_lease, lambda: envelopes("license", "NNGUARD LICENSE LEASE")
    ),
    "license-states": Target(read_license_state, change_json, license_state_seeds),
    "statements": Target(
        read_statement,
        change_envelope(LATEST_DOMAIN),
        lambda: envelopes("statement", "NNGUARD LATEST STATEMENT"),
    ),
    "states": Target(
        read_state, change_state, lambda: [path.read_bytes() for path in VECTORS.glob("*.state")]
    ),
    "policies": Target(read_policy, change_policy, policy_seeds),
    "keys": Target(read_keys, change_pem, key_seeds),
    "bundles": Target(read_bundle, change_bundle, bundle_seeds),
    "records": Target(read_record, change_cbor, record_seeds),
}


def main() -> None:
    """Fuzz what the first argument names."""
    logging.disable()  # levels of policies warn
    target = TARGETS[sys.argv.pop(1)]
    fuzz(target.read, target.change, target.seeds())


if __name__ == "__main__":
    main()
