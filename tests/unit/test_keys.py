"""Keys are written for their owner alone, and read strictly."""

import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import nnguard


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
    with pytest.raises(nnguard.KeyFormatError, match=r"a\.key.*passphrase is needed"):
        nnguard.SigningKey.load(path)
    with pytest.raises(nnguard.KeyFormatError, match="wrong passphrase"):
        nnguard.SigningKey.load(path, passphrase="guess")
    with pytest.raises(nnguard.KeyFormatError, match="not protected"):
        nnguard.SigningKey.from_pem(key.pem(), passphrase="needless")
    with pytest.raises(ValueError, match="empty passphrase"):
        key.pem(passphrase="")


def test_identifier_is_that_of_the_public_key_info(key: nnguard.SigningKey) -> None:
    info = serialization.load_pem_public_key(key.public_key.pem).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert key.public_key.id == hashlib.sha256(info).digest()[:8]
    assert info.endswith(key.public_key.raw)


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


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_other_kinds_of_keys_are_refused(kind: str) -> None:
    made = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if kind == "rsa"
        else ec.generate_private_key(ec.SECP256R1())
    )
    public = made.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(nnguard.KeyFormatError, match="Ed25519"):
        nnguard.SigningKey.from_pem(pem(made))
    with pytest.raises(nnguard.KeyFormatError, match="Ed25519"):
        nnguard.PublicKey.from_pem(public)
    with pytest.raises(TypeError):
        nnguard.SigningKey(made)
    with pytest.raises(TypeError):
        nnguard.PublicKey(made)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"]
)
def test_files_that_are_no_keys(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    for read in (nnguard.SigningKey.load, nnguard.PublicKey.load, nnguard.load_trust):
        with pytest.raises(nnguard.KeyFormatError, match=str(tmp_path / "a")):
            read(tmp_path / "a")


def test_trust_of_all_sorts(
    tmp_path: Path, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    first, second = key.public_key, other_key.public_key
    bundle = tmp_path / "all.pem"
    bundle.write_bytes(b"# ours\n" + first.pem + b"\n# theirs\n" + second.pem)
    assert nnguard.load_trust(first) == (first,)
    assert nnguard.load_trust([first, first]) == (first,)
    assert nnguard.load_trust(bundle) == (first, second)
    assert nnguard.load_trust(str(bundle)) == (first, second)
    folder = tmp_path / "trust"
    folder.mkdir()
    (folder / "b.pub").write_bytes(second.pem)
    (folder / "a.pem").write_bytes(first.pem)
    (folder / "README").write_text("not a key")
    (folder / "folder.pub").mkdir()
    assert nnguard.load_trust(folder) == (first, second)
    assert nnguard.load_trust([folder, bundle, first]) == (first, second)


def test_trust_that_is_none(tmp_path: Path, key: nnguard.SigningKey) -> None:
    (tmp_path / "empty").mkdir()
    for nothing in ([], tmp_path / "empty"):
        with pytest.raises(nnguard.KeyFormatError, match="no trusted key"):
            nnguard.load_trust(nothing)
    with pytest.raises(TypeError):
        nnguard.load_trust([key])
    with pytest.raises(FileNotFoundError):
        nnguard.load_trust(tmp_path / "missing.pub")


def test_private_key_is_not_trusted(tmp_path: Path, key: nnguard.SigningKey) -> None:
    (tmp_path / "a.pub").write_bytes(key.public_key.pem + key.pem())
    with pytest.raises(nnguard.KeyFormatError, match="private key"):
        nnguard.load_trust(tmp_path / "a.pub")


def test_one_bad_key_of_many_is_refused(tmp_path: Path, key: nnguard.SigningKey) -> None:
    bad = key.public_key.pem.replace(b"MC", b"MD")
    (tmp_path / "a.pub").write_bytes(key.public_key.pem + bad)
    with pytest.raises(nnguard.KeyFormatError):
        nnguard.load_trust(tmp_path / "a.pub")


def test_large_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pub").write_bytes(bytes((1 << 20) + 1))
    for read in (nnguard.SigningKey.load, nnguard.PublicKey.load, nnguard.load_trust):
        with pytest.raises(nnguard.KeyFormatError, match="too large"):
            read(tmp_path / "a.pub")
