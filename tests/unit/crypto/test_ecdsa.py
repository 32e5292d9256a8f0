"""ECDSA as other tools have it: signatures in DER, on three curves."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

import nnguard
from ecdsa_keys import CURVES
from nnguard._crypto.ecdsa import EcdsaKey, load_ecdsa_trust, sign_in_der
from nnguard._crypto.keys import AlgorithmName
from nnguard.errors import ArgumentError, KeyFormatError

HASHES = {"P-256": hashes.SHA256(), "P-384": hashes.SHA384(), "P-521": hashes.SHA512()}


@pytest.mark.parametrize("curve", CURVES)
def test_each_curve_has_its_hash(curve: str) -> None:
    private = ec.generate_private_key(CURVES[curve]())
    key = EcdsaKey(private.public_key())
    for name, hashing in HASHES.items():
        signature = private.sign(b"data", ec.ECDSA(hashing))
        assert key.verifies(signature, b"data") == (name == curve)
        assert not key.verifies(signature, b"other data")
    for malformed in (b"", bytes(64), b"\x30\x00"):
        assert not key.verifies(malformed, b"data")


@pytest.mark.parametrize("algorithm", ["p256", "p384"])
def test_our_keys_sign_in_der(algorithm: AlgorithmName) -> None:
    key = nnguard.SigningKey.generate(algorithm)
    signature = sign_in_der(key, b"data")
    assert EcdsaKey.from_pem(key.public_key.pem).verifies(signature, b"data")
    assert not key.public_key.verifies(signature, b"data")


@pytest.mark.parametrize("algorithm", ["ed25519", "ml-dsa-65"])
def test_other_keys_do_not(algorithm: AlgorithmName) -> None:
    with pytest.raises(KeyFormatError):
        sign_in_der(nnguard.SigningKey.generate(algorithm), b"data")


@pytest.mark.parametrize("answer", [b"", bytes(64), b"\x01" * 63])
def test_signer_that_answers_something_else(answer: bytes) -> None:
    class Token:
        public_key = nnguard.SigningKey.generate("p256").public_key

        def sign(self, data: bytes) -> bytes:
            return answer

    with pytest.raises(ArgumentError, match="does not verify"):
        sign_in_der(Token(), b"data")


def test_other_curves_are_refused() -> None:
    with pytest.raises(KeyFormatError, match="P-256, P-384 or P-521"):
        EcdsaKey(ec.generate_private_key(ec.SECP256K1()).public_key())


def test_folder_without_keys(tmp_path: Path) -> None:
    with pytest.raises(KeyFormatError, match="no trusted key"):
        load_ecdsa_trust(tmp_path)
    with pytest.raises(TypeError, match="trust"):
        load_ecdsa_trust(b"oms.pub")  # type: ignore[arg-type]


def test_empty_path_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "oms.pub").write_bytes(EcdsaKey(key).pem)
    monkeypatch.chdir(tmp_path)
    assert load_ecdsa_trust(".")
    with pytest.raises(KeyFormatError, match="path of a trusted key is empty"):
        load_ecdsa_trust("")
