"""Algorithms of signatures, as COSE numbers them, and single keys of each.

Ed25519 (RFC 8032), ECDSA on P-256 and P-384 (RFC 9864), and ML-DSA (FIPS 204, RFC 9964), which
signs beside Ed25519 only: `keys.py` says which single keys make a vendor's key.

Law: for a key and data, nobody makes a second valid signature out of a first. So of ECDSA's two,
(r, s) and (r, n - s), the one with the smaller s is valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm

from nnguard.errors import KeyFormatError

__all__ = [
    "ALGORITHMS",
    "ED25519",
    "KEY_ALGORITHMS",
    "ML_DSA_65",
    "ML_DSA_87",
    "Algorithm",
    "Part",
    "SigningPart",
    "algorithm_of",
]

_PRIME = 2**255 - 19
_EIGHTH = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = {0, 1, _EIGHTH, _PRIME - _EIGHTH, _PRIME - 1}
"""The y of the eight points whose order divides 8: anybody can sign with them as keys."""


@dataclass(frozen=True, slots=True, eq=False)
class Algorithm:
    """An algorithm of single signatures; this class is for those that need nothing but a key.

    Attributes:
        name: As the registry of COSE has it.
        number: Of that registry.
        signature_size: Bytes.
        private: Class of its private keys.
        public: Class of its public keys.
    """

    name: str
    number: int
    signature_size: int
    private: Any
    public: Any

    def generate(self) -> Any:
        """Make a private key from the system's randomness."""
        return self.private.generate()

    def fits(self, key: Any) -> bool:
        """Tell whether a public key is of this algorithm."""
        return isinstance(key, self.public)

    def check(self, key: Any) -> None:
        """Refuse public keys that anybody can sign with.

        Raises:
            KeyFormatError: It is one of them.
        """

    def sign(self, key: Any, data: bytes) -> bytes:
        """Sign with a private key."""
        signature: bytes = key.sign(data)
        return signature

    def verify(self, key: Any, signature: bytes, data: bytes) -> None:
        """Check a signature of the right size with a public key.

        Raises:
            InvalidSignature: It is wrong.
        """
        key.verify(signature, data)

    def canonical(self, signature: bytes) -> bytes:
        """Return the one valid signature of those that are as good as this one."""
        return signature


@dataclass(frozen=True, slots=True, eq=False)
class _EdDSA(Algorithm):
    """Ed25519, strictly: OpenSSL checks that S is reduced, and we that the key is a proper one."""

    def check(self, key: Any) -> None:
        y = int.from_bytes(key.public_bytes_raw(), "little") % 2**255
        if y >= _PRIME or y in _SMALL_ORDER:
            raise KeyFormatError(
                "no Ed25519 key that anybody has made: of small order, or not reduced"
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Ecdsa(Algorithm):
    """ECDSA; a signature is r and s, each as long as the group's order, s at most half of it."""

    curve: ec.EllipticCurve
    hashing: HashAlgorithm

    def generate(self) -> Any:
        return ec.generate_private_key(self.curve)

    def fits(self, key: Any) -> bool:
        return isinstance(key, self.public) and isinstance(key.curve, type(self.curve))

    def sign(self, key: Any, data: bytes) -> bytes:
        encoded = key.sign(data, ec.ECDSA(self.hashing, deterministic_signing=True))  # RFC 6979
        return self.canonical(self._joined(*decode_dss_signature(encoded)))

    def verify(self, key: Any, signature: bytes, data: bytes) -> None:
        r, s = self._split(signature)
        if s > self.curve.group_order // 2:
            raise InvalidSignature
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(self.hashing))

    def canonical(self, signature: bytes) -> bytes:
        r, s = self._split(signature)
        order = self.curve.group_order
        return self._joined(r, order - s) if order // 2 < s < order else signature

    def _split(self, signature: bytes) -> tuple[int, int]:
        half = self.signature_size // 2
        return int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")

    def _joined(self, r: int, s: int) -> bytes:
        half = self.signature_size // 2
        return r.to_bytes(half, "big") + s.to_bytes(half, "big")


_EC = ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey

ED25519 = _EdDSA("Ed25519", -19, 64, ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)
ESP256 = _Ecdsa("ESP256", -9, 64, *_EC, ec.SECP256R1(), SHA256())
ESP384 = _Ecdsa("ESP384", -51, 96, *_EC, ec.SECP384R1(), SHA384())
ML_DSA_65 = Algorithm("ML-DSA-65", -49, 3309, mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey)
ML_DSA_87 = Algorithm("ML-DSA-87", -50, 4627, mldsa.MLDSA87PrivateKey, mldsa.MLDSA87PublicKey)

ALGORITHMS = {each.number: each for each in (ED25519, ESP256, ESP384, ML_DSA_65, ML_DSA_87)}
"""All of them, by their numbers."""

KEY_ALGORITHMS: dict[tuple[Algorithm, ...], str] = {
    (ED25519,): "ed25519",
    (ESP256,): "p256",
    (ESP384,): "p384",
    (ED25519, ML_DSA_65): "ml-dsa-65",
    (ED25519, ML_DSA_87): "ml-dsa-87",
}
"""Which single keys, in this order, make a vendor's key, and what that is called."""


def algorithm_of(key: Any) -> Algorithm | None:
    """Return the algorithm of a public key; None where it is none of ours."""
    return next((each for each in ALGORITHMS.values() if each.fits(key)), None)


class Part:
    """A single public key: a vendor's key has one, or two.

    Attributes:
        algorithm: Which signatures it verifies.
        key: The key, as `cryptography` has it.
        der: SubjectPublicKeyInfo in DER.

    Raises:
        KeyFormatError: Anybody can sign with it.
    """

    __slots__ = ("algorithm", "der", "key")

    def __init__(self, algorithm: Algorithm, key: Any) -> None:
        algorithm.check(key)
        self.algorithm = algorithm
        self.key = key
        self.der: bytes = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Tell whether a signature over data was made with the private half of this key."""
        if len(signature) != self.algorithm.signature_size:
            return False
        try:
            self.algorithm.verify(self.key, signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SigningPart:
    """A single private key.

    Attributes:
        algorithm: That of its signatures.
        key: The key, as `cryptography` has it.
    """

    algorithm: Algorithm
    key: Any

    def sign(self, data: bytes) -> bytes:
        """Return the signature over data."""
        return self.algorithm.sign(self.key, data)
