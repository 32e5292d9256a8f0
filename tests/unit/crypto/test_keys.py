"""Keys are written for their owner alone, and read strictly."""

import hashlib
import pickle
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import nnguard
from nnguard._crypto.keys import as_signer
from nnguard._crypto.trust import load_trust


def test_key_is_read_as_written(tmp_path: Path, key: nnguard.SigningKey) -> None:
    key.save(tmp_path / "a.key")
    key.public_key.save(tmp_path / "a.pub")
    assert nnguard.SigningKey.load(tmp_path / "a.key").public_key == key.public_key
    assert nnguard.PublicKey.load(tmp_path / "a.pub") == key.public_key
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600


def test_key_is_never_open_to_others(tmp_path: Path, key: nnguard.SigningKey) -> None:
    path = tmp_path / "a.key"
    path.touch(mode=0o644)
    key.save(path, overwrite=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_key_overwrites_only_when_told(tmp_path: Path, key: nnguard.SigningKey) -> None:
    for save in (key.save, key.public_key.save):
        (tmp_path / "a").write_text("mine")
        with pytest.raises(FileExistsError):
            save(tmp_path / "a")
        assert (tmp_path / "a").read_text() == "mine"


def test_passphrase(tmp_path: Path, key: nnguard.SigningKey) -> None:
    path = tmp_path / "a.key"
    key.save(path, passphrase="pässword")
    assert nnguard.SigningKey.load(path, passphrase="pässword").public_key == key.public_key
    with pytest.raises(nnguard.errors.KeyFormatError, match=r"a\.key.*passphrase is needed"):
        nnguard.SigningKey.load(path)
    with pytest.raises(nnguard.errors.KeyFormatError, match="wrong passphrase"):
        nnguard.SigningKey.load(path, passphrase="guess")
    with pytest.raises(nnguard.errors.KeyFormatError, match="not protected"):
        nnguard.SigningKey.from_pem(key.pem(), passphrase="needless")
    with pytest.raises(ValueError, match="empty passphrase"):
        key.pem(passphrase="")


def test_identifier_is_that_of_the_public_key_info(key: nnguard.SigningKey) -> None:
    info = serialization.load_pem_public_key(key.public_key.pem).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert key.public_key.id == hashlib.sha256(info).digest()[:8]
    assert key.public_key.parts[0].der == info


def test_private_key_does_not_print_itself(key: nnguard.SigningKey) -> None:
    secret = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    shown = repr(nnguard.SigningKey(secret))
    assert bytes(range(32)).hex()[:16] not in shown
    assert key.public_key.id.hex() in repr(key)


def test_signatures_verify(key: nnguard.SigningKey, other_key: nnguard.SigningKey) -> None:
    signature = key.sign(b"data")
    assert key.public_key.verifies(signature, b"data")
    assert not key.public_key.verifies(signature, b"date")
    assert not other_key.public_key.verifies(signature, b"data")
    assert not key.public_key.verifies(signature[:-1], b"data")
    assert not key.public_key.verifies(b"", b"data")


def pem(key: object) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


OTHERS = {
    "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "x25519": X25519PrivateKey.generate,
    "ed448": Ed448PrivateKey.generate,
    "ml-dsa-44": MLDSA44PrivateKey.generate,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_keys_are_refused(kind: str) -> None:
    made = OTHERS[kind]()
    public = made.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(nnguard.errors.KeyFormatError, match="Ed25519"):
        nnguard.SigningKey.from_pem(pem(made))
    with pytest.raises(nnguard.errors.KeyFormatError, match="Ed25519"):
        nnguard.PublicKey.from_pem(public)
    for wrong in (nnguard.SigningKey, nnguard.PublicKey):
        with pytest.raises((TypeError, nnguard.errors.KeyFormatError)):
            wrong(made)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"]
)
def test_files_that_are_no_keys(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    for read in (nnguard.SigningKey.load, nnguard.PublicKey.load, load_trust):
        with pytest.raises(nnguard.errors.KeyFormatError, match=str(tmp_path / "a")):
            read(tmp_path / "a")


def test_large_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pub").write_bytes(bytes((1 << 20) + 1))
    for read in (nnguard.SigningKey.load, nnguard.PublicKey.load, load_trust):
        with pytest.raises(nnguard.errors.KeyFormatError, match="has more than 65536 bytes"):
            read(tmp_path / "a.pub")


def edwards() -> list[tuple[int, int]]:
    """Return the points of edwards25519 whose order divides 8 (RFC 8032, section 5.1)."""
    prime = 2**255 - 19
    d = -121665 * pow(121666, -1, prime) % prime

    def add(one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
        (x, y), (u, v) = one, two
        t = d * x * u * y * v
        over, under = pow(1 + t, -1, prime), pow(1 - t, -1, prime)
        return (x * v + u * y) * over % prime, (y * v + x * u) * under % prime

    def point(y: int) -> tuple[int, int] | None:
        square = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
        x = pow(square, (prime + 3) // 8, prime)
        if x * x % prime != square:
            x = x * pow(2, (prime - 1) // 4, prime) % prime
        return (x, y) if x * x % prime == square else None

    order = 2**252 + 27742317777372353535851937790883648493
    for y in range(2, 100):
        base = point(y)
        if base is None:
            continue
        found, power, rest = (0, 1), base, order
        while rest:
            found = add(found, power) if rest & 1 else found
            power, rest = add(power, power), rest >> 1
        points = [(0, 1)]
        while (following := add(points[-1], found)) != (0, 1):
            points.append(following)
        if len(points) == 8:
            return points
    raise AssertionError


def test_keys_of_small_order_are_not_trusted(tmp_path: Path) -> None:
    """With them, R = A and S = 0 is a signature over one message of eight, or over all."""
    prime = 2**255 - 19
    encodings = {y | (x & 1) << 255 for x, y in edwards()}
    assert len(encodings) == 8
    encodings |= {1 | 1 << 255, prime - 1 | 1 << 255}  # x is 0 and has a sign
    encodings |= {y | sign << 255 for y in range(prime, 2**255) for sign in (0, 1)}  # not reduced
    for number in encodings:
        raw = number.to_bytes(32, "little")
        wrapped = Ed25519PublicKey.from_public_bytes(raw)
        with pytest.raises(nnguard.errors.KeyFormatError, match="small order, or not reduced"):
            nnguard.PublicKey(wrapped)
        (tmp_path / "weak.pub").write_bytes(
            wrapped.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        with pytest.raises(nnguard.errors.KeyFormatError, match=r"weak\.pub: no Ed25519 key"):
            load_trust(tmp_path)


def test_keys_in_another_process(key: nnguard.SigningKey) -> None:
    assert pickle.loads(pickle.dumps(key.public_key)) == key.public_key
    with pytest.raises(TypeError, match="private keys are not pickled"):
        pickle.dumps(key)


def test_signer_or_the_path_of_a_key(tmp_path: Path, key: nnguard.SigningKey) -> None:
    class Remote:
        public_key = key.public_key

        def sign(self, data: bytes) -> bytes:
            return key.sign(data)

    key.save(tmp_path / "vendor.key")
    remote = Remote()
    assert as_signer(key) is key
    assert as_signer(remote) is remote
    for path in (tmp_path / "vendor.key", str(tmp_path / "vendor.key")):
        assert as_signer(path).public_key == key.public_key


def test_signer_behind_a_passphrase_is_refused(tmp_path: Path, key: nnguard.SigningKey) -> None:
    key.save(tmp_path / "vendor.key", passphrase="secret")
    with pytest.raises(nnguard.errors.KeyFormatError, match="passphrase is needed"):
        as_signer(tmp_path / "vendor.key")


@pytest.mark.parametrize("nobody", [7, None, b"vendor.key", "public"])
def test_what_does_not_sign(nobody: object, key: nnguard.SigningKey) -> None:
    given = key.public_key if nobody == "public" else nobody
    with pytest.raises(TypeError, match=f"key: expected .* not {type(given).__name__}"):
        as_signer(given, "key")
