"""A vendor's keys as PEM files, and what signs.

A key is single, or a hybrid of Ed25519 and ML-DSA, both of which sign. Private keys are PKCS#8,
public keys SubjectPublicKeyInfo (RFC 8410, RFC 5480, RFC 9881), one block of PEM for each single
key, so `openssl pkey` reads them.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, Literal, Protocol, runtime_checkable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from nnguard._base.arguments import wrong_type
from nnguard._crypto.algorithms import (
    KEY_ALGORITHMS,
    ML_DSA_65,
    ML_DSA_87,
    Algorithm,
    Part,
    SigningPart,
    algorithm_of,
)
from nnguard._crypto.pairs import PrivateHalf, PublicHalf
from nnguard._crypto.pem import (
    key_blocks,
    load_private_pem,
    load_public_pem,
    public_blocks,
)
from nnguard._crypto.token_uri import is_token_uri
from nnguard.errors import ArgumentError, KeyFormatError

__all__ = [
    "AlgorithmName",
    "PublicKey",
    "Signer",
    "SignerLike",
    "SigningKey",
    "as_signer",
    "parse_public_keys",
]

AlgorithmName = Literal["ed25519", "p256", "p384", "ml-dsa-65", "ml-dsa-87"]
"""What a vendor's key may be: Ed25519, ECDSA on P-256 or P-384, or Ed25519 with ML-DSA."""

_ALGORITHMS = {name: algorithms for algorithms, name in KEY_ALGORITHMS.items()}
_HINT = "nnguard keygen makes one; with --identity it makes a customer's, which signs nothing"


class PublicKey(PublicHalf):
    """A vendor's public key: Ed25519, P-256, P-384, or Ed25519 with ML-DSA.

    Args:
        keys: One public key of `cryptography`; of a hybrid, Ed25519 and ML-DSA.

    Raises:
        KeyFormatError: These are other keys, or one that anybody can sign with.

    Examples:
        >>> key = nnguard.PublicKey.load("vendor.pub")
        >>> key.id.hex() == nnguard.verify("release.nnc", key).key_id
        True
        >>> key.algorithm
        'ed25519'
    """

    __slots__ = ("_algorithm", "_id", "_parts")

    def __init__(self, *keys: Any) -> None:
        algorithms: Any = tuple(map(algorithm_of, keys))
        if algorithms not in KEY_ALGORITHMS:
            raise KeyFormatError(_what_is_wrong(algorithms), hint=_HINT)
        self._algorithm = KEY_ALGORITHMS[algorithms]
        self._parts = tuple(map(Part, algorithms, keys))
        self._keys = keys
        self._id = hashlib.sha256(b"".join(part.der for part in self._parts)).digest()[:8]

    @property
    def id(self) -> bytes:
        """Key identifier: the first 8 bytes of the SHA-256 of the SubjectPublicKeyInfo in DER.

        Of a hybrid key: of the two, joined.
        """
        return self._id

    @property
    def algorithm(self) -> str:
        """What it verifies: an `AlgorithmName`."""
        return self._algorithm

    @property
    def post_quantum(self) -> bool:
        """Whether nobody can sign in its name with a quantum computer either."""
        return len(self._parts) > 1

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its single keys; all of them have to sign."""
        return self._parts

    @classmethod
    def from_pem(cls, data: bytes) -> PublicKey:
        """Read a public key.

        Raises:
            KeyFormatError: It is not one public key of a vendor.
        """
        keys = parse_public_keys(data)
        if len(keys) > 1:
            raise KeyFormatError(f"{len(keys)} public keys, where one is expected")
        return keys[0]

    @classmethod
    def from_raw(cls, data: bytes) -> PublicKey:
        """Read the 32 bytes of an Ed25519 key (RFC 8032).

        Raises:
            KeyFormatError: They are none, or a key that anybody can sign with.
        """
        try:
            return cls(Ed25519PublicKey.from_public_bytes(data))
        except (TypeError, ValueError):
            raise KeyFormatError("not the bytes of an Ed25519 key") from None

    @property
    def raw(self) -> bytes:
        """The bytes of an Ed25519 key, which `from_raw` reads."""
        if self._algorithm != "ed25519":
            raise KeyFormatError(f"a key of {self._algorithm}, where ed25519 is needed")
        data: bytes = self._keys[0].public_bytes_raw()
        return data

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Tell whether a signature over data was made with the private half of this key.

        Args:
            signature: What `Signer.sign` returned.
            data: The data.
        """
        right, at = True, 0
        for part in self._parts:
            end = at + part.algorithm.signature_size
            right &= part.verifies(signature[at:end], data)
            at = end
        return right and at == len(signature)

    def __repr__(self) -> str:
        return f"<nnguard.PublicKey {self._id.hex()} {self._algorithm}>"


def parse_public_keys(data: bytes) -> list[PublicKey]:
    """Read the public keys in PEM; a block of ML-DSA belongs to that of Ed25519 right before it.

    Raises:
        KeyFormatError: There are none, or others.
    """
    groups: list[list[Any]] = []
    for key in map(load_public_pem, public_blocks(data)):
        if groups and algorithm_of(key) in (ML_DSA_65, ML_DSA_87):
            groups[-1].append(key)
        else:
            groups.append([key])
    return [PublicKey(*group) for group in groups]


@runtime_checkable
class Signer(Protocol):
    """What signs: a `SigningKey`, or your own class in front of an HSM, a KMS or an agent.

    Examples:
        >>> class Token:
        ...     def __init__(self) -> None:
        ...         self._key = nnguard.SigningKey.generate()
        ...
        ...     @property
        ...     def public_key(self) -> nnguard.PublicKey:
        ...         return self._key.public_key
        ...
        ...     def sign(self, data: bytes) -> bytes:
        ...         return self._key.sign(data)
        >>> token = Token()
        >>> release = nnguard.sign("model.nnc", token, name="digits")
        >>> nnguard.verify(release, token.public_key).claims.name
        'digits'
    """

    @property
    def public_key(self) -> PublicKey:
        """The key that signatures verify with."""

    def sign(self, data: bytes) -> bytes:
        """Return the signature over data.

        64 bytes for Ed25519 (RFC 8032). For ECDSA r and s, 32 bytes each on P-256 and 48 on P-384,
        as a PKCS#11 token has it; the data are yet to be hashed, by SHA-256 and SHA-384. The signer
        of a hybrid key has `parts` besides, two objects that sign, Ed25519 and ML-DSA, and returns
        their signatures joined.
        """


class SigningKey(PrivateHalf):
    """A vendor's private key; a `Signer`.

    Args:
        keys: One private key of `cryptography`; of a hybrid, Ed25519 and ML-DSA.

    Raises:
        KeyFormatError: These are other keys.

    Examples:
        >>> key = nnguard.SigningKey.generate()
        >>> key.save("new-vendor.key", passphrase="correct horse battery staple")
        >>> key.public_key.save("new-vendor.pub")
    """

    __slots__ = ("_parts", "_public")

    def __init__(self, *keys: Any) -> None:
        if not all(hasattr(key, "private_bytes") for key in keys):
            raise TypeError("SigningKey wraps private keys of `cryptography`")
        self._keys = keys
        self._public = PublicKey(*(key.public_key() for key in keys))
        self._parts = tuple(map(SigningPart, _ALGORITHMS[self._public.algorithm], keys))

    @classmethod
    def generate(cls, algorithm: AlgorithmName = "ed25519") -> SigningKey:
        """Make a new key from the system's randomness.

        Args:
            algorithm: Of its signatures. Of a hybrid, which "ml-dsa-65" and "ml-dsa-87" make with
                Ed25519, a signature takes 3 kB more, and holds as long as one of the two does.
        """
        if algorithm not in _ALGORITHMS:
            raise ArgumentError(f"algorithm is one of {', '.join(_ALGORITHMS)}, not {algorithm!r}")
        return cls(*(single.generate() for single in _ALGORITHMS[algorithm]))

    @property
    def public_key(self) -> PublicKey:
        return self._public

    @property
    def parts(self) -> tuple[SigningPart, ...]:
        """Its single keys."""
        return self._parts

    def sign(self, data: bytes) -> bytes:
        return b"".join(part.sign(data) for part in self._parts)

    @classmethod
    def from_pem(cls, data: bytes, *, passphrase: str | None = None) -> SigningKey:
        """Read a private key.

        Raises:
            KeyFormatError: It is not a vendor's private key, or the passphrase is missing or wrong.
        """
        return cls(*(load_private_pem(block, passphrase) for block in key_blocks(data)))

    def __repr__(self) -> str:
        return f"<nnguard.SigningKey {self._public.id.hex()} {self._public.algorithm}>"


SignerLike = Signer | str | os.PathLike[str]
"""What functions take for a signer: a `Signer`, the path of an unprotected private key, or the
`pkcs11:` URI of a key in a token."""


def as_signer(signer: SignerLike, argument: str = "signer") -> Signer:
    """Return what signs: the argument itself, or the key that it names; see `SignerLike`.

    Raises:
        KeyFormatError: The file holds no private key of a vendor, or a protected one; or the token
            cannot be opened.
        TypeError: The argument is neither a path nor a `Signer`.
    """
    if isinstance(signer, str) and is_token_uri(signer):
        from nnguard._crypto.token import open_token

        return open_token(signer)
    if isinstance(signer, (str, os.PathLike)):
        return SigningKey.load(signer)
    if isinstance(signer, Signer):
        return signer
    raise wrong_type(argument, "a path, a SigningKey or a Signer", signer)


def _what_is_wrong(found: tuple[Algorithm | None, ...]) -> str:
    """Say what is wrong with keys that make no vendor's key."""
    if not found or None in found:
        return "not a vendor's key: Ed25519, P-256 or P-384"
    if found[0] in (ML_DSA_65, ML_DSA_87):
        return "an ML-DSA key by itself: it belongs right after its Ed25519 key"
    return "not one key of a vendor: only ML-DSA goes with another, and that is Ed25519"
