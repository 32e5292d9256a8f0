"""OpenSSL reads the keys and verifies the signatures."""

import shutil
import subprocess
from pathlib import Path

import pytest

import nnguard
from nnguard._crypto.trust import load_trust

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")


def openssl(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_openssl_reads_private_keys(
    tmp_path: Path, key: nnguard.SigningKey, passphrase: str | None
) -> None:
    key.save(tmp_path / "a.key", passphrase=passphrase)
    given = () if passphrase is None else ("-passin", f"pass:{passphrase}")
    public = openssl("pkey", "-in", tmp_path / "a.key", *given, "-pubout")
    assert nnguard.PublicKey.from_pem(public.encode()) == key.public_key


def test_openssl_reads_public_keys(tmp_path: Path, key: nnguard.SigningKey) -> None:
    key.public_key.save(tmp_path / "a.pub")
    text = openssl("pkey", "-pubin", "-in", tmp_path / "a.pub", "-text", "-noout")
    assert "ED25519 Public-Key" in text
    assert key.public_key.raw.hex() in "".join(text.split()).replace(":", "")


def test_keys_of_openssl_are_read(tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / "a.key")
    openssl("pkey", "-in", tmp_path / "a.key", "-pubout", "-out", tmp_path / "a.pub")
    key = nnguard.SigningKey.load(tmp_path / "a.key")
    assert nnguard.PublicKey.load(tmp_path / "a.pub") == key.public_key


def test_other_keys_of_openssl_are_refused(tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "x25519", "-out", tmp_path / "a.key")
    openssl("pkey", "-in", tmp_path / "a.key", "-pubout", "-out", tmp_path / "a.pub")
    with pytest.raises(nnguard.errors.KeyFormatError, match="Ed25519"):
        nnguard.SigningKey.load(tmp_path / "a.key")
    with pytest.raises(nnguard.errors.KeyFormatError, match="Ed25519"):
        load_trust(tmp_path / "a.pub")


def test_openssl_verifies_a_signature(tmp_path: Path, key: nnguard.SigningKey) -> None:
    key.public_key.save(tmp_path / "a.pub")
    (tmp_path / "data").write_bytes(b"weights")
    (tmp_path / "signature").write_bytes(key.sign(b"weights"))
    command = ("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", tmp_path / "a.pub")
    files = ("-in", tmp_path / "data", "-sigfile", tmp_path / "signature")
    assert "Successfully" in openssl(*command, *files)
    (tmp_path / "data").write_bytes(b"other weights")
    with pytest.raises(AssertionError):
        openssl(*command, *files)
