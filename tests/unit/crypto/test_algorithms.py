"""Each algorithm has one valid signature, and a hybrid key has two that nobody takes apart."""

from __future__ import annotations

import base64
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import nnguard
from nnguard._crypto.algorithms import ESP256, ESP384, ML_DSA_65
from nnguard._crypto.cose import Signature, Signed, parse_signed, sign, sign_by_all, signed_size
from nnguard._crypto.keys import AlgorithmName, PublicKey, SigningKey
from nnguard._crypto.trust import find_key, load_trust
from nnguard.errors import ArgumentError, KeyFormatError, VerificationError, WrongKeyError

AAD = b"a label\0"
HYBRIDS: list[AlgorithmName] = ["ml-dsa-65", "ml-dsa-87"]
HEADER = {15: {1: "acme.ai"}}


@pytest.fixture(scope="module", params=get_args(AlgorithmName))
def key(request: pytest.FixtureRequest) -> SigningKey:
    return SigningKey.generate(request.param)


@pytest.fixture(scope="module", params=HYBRIDS)
def hybrid(request: pytest.FixtureRequest) -> SigningKey:
    return SigningKey.generate(request.param)


def message_of(*keys: nnguard.Signer, payload: bytes = b"digest") -> Signed:
    return parse_signed(sign_by_all(keys, HEADER, payload, AAD))


def half_of(key: SigningKey) -> SigningKey:
    """The Ed25519 part, as a key."""
    return SigningKey(key.parts[0].key)


def refused(signed: Signed, key: PublicKey) -> bool:
    """Whether a message is malformed or does not verify."""
    try:
        return not parse_signed(bytes(signed)).verified_by(key, AAD)
    except VerificationError:
        return True


# What holds for each algorithm


def test_message_verifies_by_its_key_alone(key: SigningKey) -> None:
    encoded = sign(key, HEADER, b"digest", AAD)
    message = parse_signed(encoded)
    assert bytes(message) == encoded
    assert len(encoded) == signed_size(key.public_key, HEADER, b"digest")
    assert message.key_id == key.public_key.id
    assert message.algorithm == key.public_key.algorithm
    assert message.protected == HEADER
    assert message.verified_by(key.public_key, AAD)
    assert not message.verified_by(key.public_key, b"another label\0")
    assert not message.verified_by(SigningKey.generate().public_key, AAD)
    assert refused(replace(message, payload=b"other"), key.public_key)


def test_every_bit_of_a_message_counts(key: SigningKey) -> None:
    encoded = sign(key, HEADER, b"digest", AAD)
    step = 1 if len(encoded) < 200 else 37  # of ML-DSA not every bit, for time
    for at in range(0, 8 * len(encoded), step):
        changed = bytearray(encoded)
        changed[at // 8] ^= 1 << at % 8
        try:
            message = parse_signed(bytes(changed))
        except VerificationError:
            continue
        assert not message.verified_by(key.public_key, AAD), at


def test_keys_are_read_as_written(key: SigningKey, tmp_path: Path) -> None:
    key.save(tmp_path / "a.key", passphrase="secret")
    key.public_key.save(tmp_path / "a.pub")
    assert SigningKey.load(tmp_path / "a.key", passphrase="secret").public_key == key.public_key
    assert PublicKey.load(tmp_path / "a.pub") == key.public_key
    assert key.public_key.post_quantum == (key.public_key.algorithm in HYBRIDS)
    assert key.public_key.algorithm in repr(key)


def test_signature_over_data(key: SigningKey) -> None:
    signature, public = key.sign(b"data"), key.public_key
    assert public.verifies(signature, b"data")
    for wrong in (b"", signature[:-1], signature + b"\0", bytes(len(signature))):
        assert not public.verifies(wrong, b"data")
    assert not public.verifies(signature, b"date")


# ECDSA


@pytest.mark.parametrize(("name", "algorithm"), [("p256", ESP256), ("p384", ESP384)])
def test_signer_may_return_either_s(name: AlgorithmName, algorithm: Any) -> None:
    key = SigningKey.generate(name)
    half, order = algorithm.signature_size // 2, algorithm.curve.group_order

    class Token:
        public_key = key.public_key

        def sign(self, data: bytes) -> bytes:
            low = key.sign(data)
            self.high = low[:half] + (order - int.from_bytes(low[half:], "big")).to_bytes(
                half, "big"
            )
            return self.high

    token = Token()
    message = message_of(token)
    (signature,) = message.signatures
    assert message.verified_by(key.public_key, AAD)
    assert signature.value != token.high
    assert 2 * int.from_bytes(signature.value[half:], "big") <= order
    assert refused(
        replace(message, signatures=(replace(signature, value=token.high),)), key.public_key
    )


@pytest.mark.parametrize(("name", "algorithm"), [("p256", ESP256), ("p384", ESP384)])
def test_numbers_that_are_no_signature(name: AlgorithmName, algorithm: Any) -> None:
    key = SigningKey.generate(name)
    half, order = algorithm.signature_size // 2, algorithm.curve.group_order
    signature = key.sign(b"data")
    numbers = [0, 1, order // 2, order - 1, order, order + 1, 2 ** (8 * half) - 1]
    r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
    for r, s in [
        *itertools.product(numbers, numbers),
        *((r, n) for n in numbers),
        *((n, s) for n in numbers),
    ]:
        value = r.to_bytes(half, "big") + s.to_bytes(half, "big")
        assert not key.public_key.verifies(value, b"data")
        algorithm.canonical(value)


def pem_with_point(info: bytes, point: bytes, other: bytes) -> bytes:
    """PEM of a SubjectPublicKeyInfo of P-256 in which another point stands."""
    head = info[2 : -len(point) - 3]  # AlgorithmIdentifier
    body = head + bytes([3, len(other) + 1, 0]) + other
    der = bytes([0x30, len(body)]) + body
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(der) + b"-----END PUBLIC KEY-----\n"


def test_points_in_another_form_are_refused(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    info = PublicKey(key).parts[0].der
    long = key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    compressed = key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    assert PublicKey.from_pem(pem_with_point(info, long, long)) == PublicKey(key)
    mixed = bytes([6 | long[-1] & 1]) + long[1:]
    off = long[:-1] + bytes([long[-1] ^ 1])
    for point in (compressed, mixed, off, b"\0", bytes(65), long[:-1]):
        (tmp_path / "a.pub").write_bytes(pem_with_point(info, long, point))
        with pytest.raises(KeyFormatError, match=r"a\.pub"):
            load_trust(tmp_path / "a.pub")


# Hybrids


def test_neither_half_can_be_taken_away(hybrid: SigningKey) -> None:
    message = message_of(hybrid)
    first, second = message.signatures
    public = hybrid.public_key
    for kept in [(first,), (second,), (second, first), (first, first), (first, second, second)]:
        assert refused(replace(message, signatures=kept), public)
    own = replace(first, key_id=half_of(hybrid).public_key.id)
    assert refused(replace(message, signatures=(own,)), half_of(hybrid).public_key)
    with pytest.raises(WrongKeyError):
        find_key([half_of(hybrid).public_key], message.key_id)


def test_halves_of_two_messages_do_not_go_together(hybrid: SigningKey) -> None:
    one, two = message_of(hybrid), message_of(hybrid, payload=b"other")
    for signatures in (
        (one.signatures[0], two.signatures[1]),
        (two.signatures[0], one.signatures[1]),
    ):
        assert refused(replace(one, signatures=signatures), hybrid.public_key)
        assert refused(replace(two, signatures=signatures), hybrid.public_key)


def test_ed25519_part_does_not_sign_for_the_hybrid(hybrid: SigningKey) -> None:
    """Nor for another hybrid that has the same Ed25519 key."""
    half, message = half_of(hybrid), message_of(hybrid)
    forged = message_of(half)
    renamed = replace(forged.signatures[0], key_id=hybrid.public_key.id)
    assert refused(replace(forged, signatures=(renamed,)), hybrid.public_key)
    other = SigningKey(half.parts[0].key, ML_DSA_65.generate())
    assert other.public_key.id != hybrid.public_key.id
    moved = tuple(replace(each, key_id=other.public_key.id) for each in message.signatures)
    assert refused(replace(message, signatures=moved), other.public_key)


def test_half_of_a_hybrid_is_no_signature_of_the_ed25519_key(hybrid: SigningKey) -> None:
    signature = message_of(hybrid).signatures[0]
    half = half_of(hybrid).public_key
    alone = Signed(HEADER, b"digest", (Signature(half.id, signature.algorithm, signature.value),))
    assert refused(alone, half)


def test_ml_dsa_is_no_key_by_itself(hybrid: SigningKey, tmp_path: Path) -> None:
    ed25519, ml_dsa = hybrid.parts
    for keys in ([ml_dsa.key], [ml_dsa.key, ed25519.key], [ed25519.key, ed25519.key], []):
        with pytest.raises(KeyFormatError):
            SigningKey(*keys)
    (tmp_path / "a.pub").write_bytes(
        hybrid.public_key.pem.partition(b"-----END PUBLIC KEY-----\n")[2]
    )
    with pytest.raises(KeyFormatError, match="an ML-DSA key by itself"):
        load_trust(tmp_path / "a.pub")


def test_ecdsa_is_no_part_of_a_hybrid(hybrid: SigningKey) -> None:
    with pytest.raises(KeyFormatError, match="only ML-DSA goes with another, and that is Ed25519"):
        SigningKey(ec.generate_private_key(ec.SECP256R1()), hybrid.parts[1].key)


def test_bundle_of_hybrids_and_single_keys(tmp_path: Path) -> None:
    keys = [
        SigningKey.generate(name).public_key
        for name in ("ed25519", "ml-dsa-65", "p256", "ed25519", "ml-dsa-87")
    ]
    bundle = tmp_path / "all.pem"
    bundle.write_bytes(b"\n".join(key.pem for key in keys))
    assert load_trust(bundle) == tuple(keys)
    with pytest.raises(KeyFormatError, match="5 public keys, where one is expected"):
        PublicKey.load(bundle)


def test_signer_of_a_hybrid_has_parts(hybrid: SigningKey) -> None:
    class Whole:
        public_key = hybrid.public_key
        sign = hybrid.sign

    with pytest.raises(ArgumentError, match="has two `parts`"):
        message_of(Whole())

    class Parts(Whole):
        parts = hybrid.parts

    assert message_of(Parts()).verified_by(hybrid.public_key, AAD)


# Several keys


def test_several_keys_sign_the_same_content() -> None:
    keys = [SigningKey.generate(name) for name in get_args(AlgorithmName)]
    message = message_of(*keys)
    assert list(message.key_ids) == sorted(key.public_key.id for key in keys)
    assert bytes(message_of(*reversed(keys[:3]))) == bytes(message_of(*keys[:3]))
    for key in keys:
        assert message.verified_by(key.public_key, AAD)
    with pytest.raises(VerificationError, match="5 keys signed, where one is expected"):
        message.key_id  # noqa: B018


def test_order_of_keys_is_fixed_and_each_signs_once() -> None:
    keys = [SigningKey.generate() for _ in range(3)]
    message = message_of(*keys)
    one, two, three = message.signatures
    for signatures in [(two, one, three), (one, one, two), (one, two, one), (one, three, two)]:
        with pytest.raises(VerificationError):
            parse_signed(bytes(replace(message, signatures=signatures)))
    for signers in ([], [keys[0], keys[0]], [keys[0], SigningKey.from_pem(keys[0].pem())]):
        with pytest.raises(ArgumentError, match="each key once"):
            sign_by_all(signers, HEADER, b"digest", AAD)


def test_signature_is_not_taken_from_several_to_one() -> None:
    keys = [SigningKey.generate() for _ in range(2)]
    message = message_of(*keys)
    for signature, key in zip(
        message.signatures, sorted(keys, key=lambda k: k.public_key.id), strict=True
    ):
        assert refused(replace(message, signatures=(signature,)), key.public_key)


def test_unknown_algorithm_is_not_generated() -> None:
    with pytest.raises(ArgumentError, match="algorithm is one of ed25519, p256"):
        SigningKey.generate("RSA")  # type: ignore[arg-type]
