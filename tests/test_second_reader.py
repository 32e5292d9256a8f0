"""A reader that was written from the specification alone comes to the same outcomes."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import second_reader

FOLDER = Path(__file__).parent / "vectors"
LISTING: dict[str, Any] = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))
TRUST = [
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(LISTING["keys"][name]["public"]))
    for name in LISTING["trusted"]
]
ALLOWED = {"cbor2", "cryptography", "nncodec", "numpy"}

vectors = pytest.mark.parametrize("vector", LISTING["vectors"], ids=lambda vector: vector["file"])


def perform(operation: str, data: bytes) -> object:
    if operation == "detach":
        return second_reader.detach(data)
    return second_reader.verify(data, TRUST)


@vectors
def test_agrees(vector: dict[str, Any]) -> None:
    data = (FOLDER / vector["file"]).read_bytes()
    if vector["expect"] == "verifies":
        header, taken = second_reader.verify(data, TRUST)
        assert header[4].hex() == vector["kid"]
        assert hashlib.sha256(b"".join(taken[0].original)).hexdigest() == vector["original_sha256"]
        assert second_reader.model_digest(taken[0].original).hex() == vector["digest"]
        assert len(taken) == vector["layers"]
    elif vector["expect"] == "detaches":
        media_type, payload, original = second_reader.detach(data)
        assert (media_type, payload.hex()) == (vector["media_type"], vector["payload"])
        assert hashlib.sha256(b"".join(original)).hexdigest() == vector["original_sha256"]
    else:
        with pytest.raises(second_reader.Outcome) as caught:
            perform(vector["operation"], data)
        assert caught.value.name == vector["expect"].split(":")[0]
        assert list(caught.value.tensors) == vector.get("tensors", [])


def test_uses_nothing_of_nnguard() -> None:
    source = Path(second_reader.__file__).read_text(encoding="utf-8")
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    standard = {"__future__", "contextlib", "dataclasses", "datetime", "fractions", "hashlib"}
    assert imported <= ALLOWED | standard | {"math", "typing", "zlib"}
