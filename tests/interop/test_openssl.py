"""OpenSSL reads the keys and verifies the signatures.

It has ML-DSA since 3.5. `OPENSSL` may name a program; `openssl` on the path is the default.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

import nnguard
from nnguard._crypto.keys import AlgorithmName
from nnguard._crypto.pem import pem_blocks
from nnguard._crypto.trust import load_trust

OPENSSL = os.environ.get("OPENSSL", "openssl")
GENPKEY = {
    "ed25519": ["-algorithm ed25519"],
    "p256": ["-algorithm EC -pkeyopt ec_paramgen_curve:P-256"],
    "p384": ["-algorithm EC -pkeyopt ec_paramgen_curve:P-384"],
    "ml-dsa-65": ["-algorithm ed25519", "-algorithm ML-DSA-65"],
    "ml-dsa-87": ["-algorithm ed25519", "-algorithm ML-DSA-87"],
}
SEED = ("-provparam", "ml-dsa.output_formats=seed-only")
"""What `cryptography` reads of ML-DSA, and RFC 9881 recommends: the seed."""

pytestmark = pytest.mark.skipif(shutil.which(OPENSSL) is None, reason="no openssl")


def openssl(*arguments: str | Path) -> str:
    done = subprocess.run(
        [OPENSSL, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=get_args(AlgorithmName))
def algorithm(request: pytest.FixtureRequest) -> AlgorithmName:
    found = re.match(r"OpenSSL (\d+)\.(\d+)", openssl("version"))
    if "ml-dsa" in request.param and (found is None or tuple(map(int, found.groups())) < (3, 5)):
        pytest.skip("this openssl has no ML-DSA: OPENSSL may name one of 3.5 or later")
    name: AlgorithmName = request.param
    return name


@pytest.fixture
def key(algorithm: AlgorithmName) -> nnguard.SigningKey:
    return nnguard.SigningKey.generate(algorithm)


def write_blocks(folder: Path, pem: bytes) -> list[Path]:
    paths = []
    for number, block in enumerate(pem_blocks(pem)):
        paths.append(folder / f"{number}.pem")
        paths[-1].write_bytes(block + b"\n")
    return paths


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_openssl_reads_private_keys(
    tmp_path: Path, key: nnguard.SigningKey, passphrase: str | None
) -> None:
    given = () if passphrase is None else ("-passin", f"pass:{passphrase}")
    public = "".join(
        openssl("pkey", "-in", path, *given, "-pubout")
        for path in write_blocks(tmp_path, key.pem(passphrase=passphrase))
    )
    assert nnguard.PublicKey.from_pem(public.encode()) == key.public_key


def test_openssl_reads_public_keys(tmp_path: Path, key: nnguard.SigningKey) -> None:
    paths = write_blocks(tmp_path, key.public_key.pem)
    for path, part in zip(paths, key.public_key.parts, strict=True):
        text = openssl("pkey", "-pubin", "-in", path, "-text", "-noout")
        shown = "".join(text.split()).replace(":", "")
        assert part.der[-32:].hex() in shown


def test_keys_of_openssl_are_read(tmp_path: Path, algorithm: AlgorithmName) -> None:
    private, public = tmp_path / "a.key", tmp_path / "a.pub"
    for number, options in enumerate(GENPKEY[algorithm]):
        single = tmp_path / f"{number}.key"
        openssl("genpkey", *options.split(), "-out", single)
        for path, more in ((private, SEED * ("ML-DSA" in options)), (public, ("-pubout",))):
            with path.open("a") as file:
                file.write(openssl("pkey", "-in", single, *more))
    key = nnguard.SigningKey.load(private)
    assert key.public_key.algorithm == algorithm
    assert load_trust(public) == (key.public_key,)


def test_other_keys_of_openssl_are_refused(tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "x25519", "-out", tmp_path / "a.key")
    openssl("pkey", "-in", tmp_path / "a.key", "-pubout", "-out", tmp_path / "a.pub")
    with pytest.raises(nnguard.errors.KeyFormatError, match="Ed25519"):
        nnguard.SigningKey.load(tmp_path / "a.key")
    with pytest.raises(nnguard.errors.KeyFormatError, match="Ed25519"):
        load_trust(tmp_path / "a.pub")


def test_openssl_verifies_a_signature(tmp_path: Path, key: nnguard.SigningKey) -> None:
    paths = write_blocks(tmp_path, key.public_key.pem)
    data, signature = tmp_path / "data", tmp_path / "signature"
    signed = [part.sign(b"weights") for part in key.parts]
    assert b"".join(signed) != key.sign(b"other weights")
    for path, part, value in zip(paths, key.public_key.parts, signed, strict=True):
        command = ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", path]
        if part.algorithm.name.startswith("ESP"):
            half = len(value) // 2
            r, s = (int.from_bytes(each, "big") for each in (value[:half], value[half:]))
            value = encode_dss_signature(r, s)
            command += ["-digest", f"sha{half * 8}"]
        signature.write_bytes(value)
        data.write_bytes(b"weights")
        files = ("-in", data, "-sigfile", signature)
        assert "Successfully" in openssl(*command, *files)
        data.write_bytes(b"other weights")
        with pytest.raises(AssertionError):
            openssl(*command, *files)
