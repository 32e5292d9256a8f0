"""Other people's COSE, HPKE and OpenSSL read licenses, locks and customers' keys."""

from __future__ import annotations

import hmac
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cwt import COSE, VerifyError
from pycose.keys import SymmetricKey
from pycose.messages import CoseMessage, Enc0Message
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, OpenError

import nnguard
import samples
from cose_peers import peers_of
from nnguard._hiding import Extraction, extract
from nnguard._records.digest import model_digest

RAW = bytes(range(1, 33))
"""The customer's private key, as RFC 7748 has it."""

LICENSE_DOMAIN = b"nnguard license v1\0"
WRAPPING = b"nnguard license content key v1\0"
LOCK_DOMAIN = b"nnguard lock v1\0"


@pytest.fixture(scope="module")
def customer() -> nnguard.Identity:
    return nnguard.Identity(X25519PrivateKey.from_private_bytes(RAW))


@pytest.fixture(scope="module")
def release(key: nnguard.SigningKey) -> nnguard.Stream:
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=6000))
    return nnguard.sign(model, key, issuer="acme.ai", name="small")


@pytest.fixture(scope="module")
def locked(release: nnguard.Stream) -> nnguard.Locked:
    return nnguard.lock(release, tier="gold", soft=nnguard.Soft(fraction=0.003))


@pytest.fixture(scope="module")
def license_(
    locked: nnguard.Locked, customer: nnguard.Identity, key: nnguard.SigningKey
) -> nnguard.licensing.License:
    return nnguard.licensing.issue(
        locked.trial,
        locked.content_key,
        to=customer.recipient,
        signer=key,
        terms=nnguard.licensing.Terms(
            customer="Ada",
            features=["int8"],
            device=nnguard.licensing.Device.of_values([("host", "a"), ("network", "b")]),
        ),
    )


# cwt and the license


def payload_of(encoded: bytes, key: nnguard.PublicKey, domain: bytes = LICENSE_DOMAIN) -> bytes:
    payload: bytes = COSE.new().decode(encoded, peers_of(key), external_aad=domain)
    return payload


def test_cwt_verifies_a_license(
    license_: nnguard.licensing.License, key: nnguard.SigningKey
) -> None:
    claims = cbor2.loads(payload_of(license_.encoded, key.public_key))
    assert claims[2] == "Ada"  # sub
    assert claims[7] == bytes.fromhex(license_.terms.id)  # cti
    assert claims[5] == claims[6] == license_.terms.issued_at.timestamp()  # nbf, iat
    assert claims["features"] == ["int8"]


def test_cwt_refuses_what_nnguard_refuses(
    license_: nnguard.licensing.License, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    forged = license_.encoded.replace(b"Ada", b"Eve")
    with pytest.raises(VerifyError):
        payload_of(forged, key.public_key)
    with pytest.raises((VerifyError, ValueError)):
        payload_of(license_.encoded, other_key.public_key)
    with pytest.raises(VerifyError):
        payload_of(license_.encoded, key.public_key, b"")


# pyhpke and the content key


def unwrap(claims: dict[Any, Any], private: bytes) -> bytes:
    """Do what the specification says, with pyhpke."""
    claims = dict(claims)
    wrapped = claims.pop("key")
    info = WRAPPING + cbor2.dumps(claims, canonical=True)
    suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)
    secret = suite.kem.deserialize_private_key(private)
    return suite.create_recipient_context(wrapped[:32], secret, info=info).open(wrapped[32:])


def claims_of(license_: nnguard.licensing.License) -> dict[Any, Any]:
    claims: dict[Any, Any] = cbor2.loads(cbor2.loads(license_.encoded).value[2])
    return claims


def test_pyhpke_unwraps_the_content_key(
    license_: nnguard.licensing.License, locked: nnguard.Locked
) -> None:
    assert unwrap(claims_of(license_), RAW) == locked.content_key.secret


def test_pyhpke_refuses_other_claims_and_other_keys(license_: nnguard.licensing.License) -> None:
    claims = claims_of(license_)
    with pytest.raises(OpenError):
        unwrap({**claims, "tier": "platinum"}, RAW)
    with pytest.raises(OpenError):
        unwrap(claims, RAW[::-1])


def test_nnguard_unwraps_what_pyhpke_wrapped(customer: nnguard.Identity) -> None:
    suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)
    raw = X25519PrivateKey.from_private_bytes(RAW).public_key().public_bytes_raw()
    public = suite.kem.deserialize_public_key(raw)
    enc, sender = suite.create_sender_context(public, info=b"info")
    assert customer.unwrap(enc + sender.seal(b"secret"), b"info") == b"secret"


# pycose and the lock


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) to 32 bytes."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\1", "sha256")


def lock_message(extraction: Extraction, content_key: bytes) -> Enc0Message:
    message = CoseMessage.decode(extraction.record, allow_unknown_attributes=True)
    assert isinstance(message, Enc0Message)
    nonce = cbor2.loads(cbor2.loads(extraction.record).value[0])[5]
    info = b"nnguard content key v1\0" + b"record"
    message.key = SymmetricKey(k=hkdf(content_key, nonce, info))
    message.external_aad = LOCK_DOMAIN + bytes(extraction.header)
    return message


def test_pycose_opens_a_lock(locked: nnguard.Locked, release: nnguard.Stream) -> None:
    extraction = extract(locked.trial)
    content = cbor2.loads(lock_message(extraction, locked.content_key.secret).decrypt())
    scrambled, replaced, files = content
    assert files == [["", model_digest(release.sha256_of_units()), [[0, len(release)]]]]
    assert sum(count for _, count, *_ in replaced) == locked.replaced
    assert scrambled == []
    header = cbor2.loads(cbor2.loads(extraction.record).value[0])
    assert header["tier"] == "gold"
    assert header[1] == 3  # A256GCM
    assert header[4] == locked.content_key.id


def test_content_key_of_a_license_opens_the_lock(
    license_: nnguard.licensing.License, locked: nnguard.Locked
) -> None:
    """From the license's bytes to the weights without a line of nnguard's cryptography."""
    secret = unwrap(claims_of(license_), RAW)
    assert lock_message(extract(locked.trial), secret).decrypt()


def test_pycose_refuses_another_place_and_another_key(locked: nnguard.Locked) -> None:
    extraction = extract(locked.trial)
    message = lock_message(extraction, locked.content_key.secret)
    message.external_aad += b"\0"
    with pytest.raises(Exception, match=r"(?i)decrypt|tag|^$"):
        message.decrypt()
    with pytest.raises(Exception, match=r"(?i)decrypt|tag|^$"):
        lock_message(extraction, bytes(32)).decrypt()


# OpenSSL and the customer's keys


def openssl(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")


@needs_openssl
@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_openssl_reads_an_identity(
    tmp_path: Path, customer: nnguard.Identity, passphrase: str | None
) -> None:
    customer.save(tmp_path / "ada.key", passphrase=passphrase)
    given = () if passphrase is None else ("-passin", f"pass:{passphrase}")
    text = openssl("pkey", "-in", tmp_path / "ada.key", *given, "-text", "-noout")
    assert "X25519 Private-Key" in text
    assert RAW.hex() in "".join(text.split()).replace(":", "")
    public = openssl("pkey", "-in", tmp_path / "ada.key", *given, "-pubout")
    assert nnguard.Recipient.from_pem(public.encode()) == customer.recipient


@needs_openssl
def test_pair_of_openssl_buys_a_license(
    tmp_path: Path, locked: nnguard.Locked, release: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    openssl("genpkey", "-algorithm", "x25519", "-out", tmp_path / "eve.key")
    openssl("pkey", "-in", tmp_path / "eve.key", "-pubout", "-out", tmp_path / "eve.pub")
    license_ = nnguard.licensing.issue(
        locked.trial, locked.content_key, to=tmp_path / "eve.pub", signer=key
    )
    full = nnguard.unlock(locked.trial, license_, tmp_path / "eve.key", key.public_key)
    assert bytes(full) == bytes(release)


@needs_openssl
def test_openssl_reads_the_first_block_of_a_post_quantum_identity(tmp_path: Path) -> None:
    identity = nnguard.Identity.generate(post_quantum=True)
    identity.save(tmp_path / "ada.key")
    text = openssl("pkey", "-in", tmp_path / "ada.key", "-text", "-noout")
    assert "X25519 Private-Key" in text


@needs_openssl
def test_other_keys_of_openssl_are_refused(tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / "a.key")
    openssl("pkey", "-in", tmp_path / "a.key", "-pubout", "-out", tmp_path / "a.pub")
    for load in (nnguard.Identity.load, nnguard.Recipient.load):
        with pytest.raises(nnguard.errors.KeyFormatError):
            load(tmp_path / "a.key")
        with pytest.raises(nnguard.errors.KeyFormatError):
            load(tmp_path / "a.pub")
