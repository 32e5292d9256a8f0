"""A reader that was written from the specification alone comes to the same outcomes."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import nnguard
import second_coder
import second_hpke
import second_licensing
import second_reader
import second_unlocker
import stock
from nnguard.hiding import plan_record

FOLDER = Path(__file__).parent / "vectors"
LISTING: dict[str, Any] = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))
TRUST = [
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(LISTING["keys"][name]["public"]))
    for name in LISTING["trusted"]
]
ALLOWED = {"cbor2", "cryptography", "numpy"}

vectors = pytest.mark.parametrize("vector", LISTING["vectors"], ids=lambda vector: vector["name"])


def perform(vector: dict[str, Any]) -> object:
    data = (FOLDER / vector["file"]).read_bytes()
    match vector["operation"]:
        case "detach":
            return second_reader.detach(data)
        case "open":
            return open_with_key(vector, data)
        case "unlock":
            return unlock(vector, data)
    return second_licensing.verify(data, TRUST)


def open_with_key(vector: dict[str, Any], data: bytes) -> second_unlocker.Opened:
    key = bytes.fromhex(LISTING["content_keys"][vector["content_key"]])
    return second_unlocker.open_locks(data, key)


def customer(name: str) -> second_hpke.Customer:
    keys = LISTING["customers"][name]
    x25519 = X25519PrivateKey.from_private_bytes(bytes.fromhex(keys["x25519_private"]))
    if "mlkem768_seed" not in keys:
        return second_hpke.Customer(x25519)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(keys["mlkem768_seed"]))
    return second_hpke.Customer(x25519, mlkem)


def text(name: str) -> str:
    return (FOLDER / name).read_bytes().decode()


def unlock(vector: dict[str, Any], data: bytes) -> tuple[second_unlocker.Opened, bool]:
    here = second_licensing.Deployment(
        now=vector["now"],
        seen=vector.get("seen"),
        revocations=text(vector["revocations"]) if "revocations" in vector else None,
        max_age=vector.get("max_age"),
        traits=tuple((kind, value) for kind, value in vector.get("traits", [])),
        tier=vector.get("tier"),
    )
    buyer = customer(vector["customer"])
    return second_licensing.unlock(data, text(vector["license"]), buyer, TRUST, here)


@vectors
def test_agrees(vector: dict[str, Any]) -> None:
    data = (FOLDER / vector["file"]).read_bytes()
    if vector["expect"] == "verifies":
        header, taken, mark = second_licensing.verify(data, TRUST)
        assert header[4].hex() == vector["kid"]
        assert hashlib.sha256(b"".join(taken[0].original)).hexdigest() == vector["original_sha256"]
        assert second_reader.model_digest(taken[0].original).hex() == vector["digest"]
        assert len(taken) == vector["layers"]
        assert (mark and mark[7].hex()) == vector.get("licensed_to")
    elif vector["expect"] == "detaches":
        media_type, payload, original = second_reader.detach(data)
        assert (media_type, payload.hex()) == (vector["media_type"], vector["payload"])
        assert hashlib.sha256(b"".join(original)).hexdigest() == vector["original_sha256"]
    elif vector["expect"] == "opens":
        check_opened(vector, open_with_key(vector, data))
    elif vector["expect"] == "unlocks":
        opened, in_grace = unlock(vector, data)
        check_opened(vector, opened)
        assert in_grace is vector["in_grace"]
    else:
        with pytest.raises(second_reader.Outcome) as caught:
            perform(vector)
        outcome, _, what = vector["expect"].partition(": ")
        assert caught.value.name == outcome
        assert getattr(caught.value, "reason", what) == what
        assert list(caught.value.tensors) == vector.get("tensors", [])


def check_opened(vector: dict[str, Any], opened: second_unlocker.Opened) -> None:
    assert opened.tiers == vector["tiers"]
    assert hashlib.sha256(b"".join(opened.units)).hexdigest() == vector["original_sha256"]


MODULES = [second_coder, second_hpke, second_licensing, second_reader, second_unlocker]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_uses_nothing_of_nnguard_or_nncodec(module: ModuleType) -> None:
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
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
    ours = {each.__name__ for each in MODULES}
    assert imported <= ALLOWED | ours | sys.stdlib_module_names


def test_plans_the_same_carriers() -> None:
    """5.2, for streams of tensors that are too small, damaged, or hold a record already."""
    random = np.random.default_rng(0)
    found: Counter[int] = Counter()
    for round_ in range(60):
        shapes = [(int(rows), 16) for rows in random.integers(4, 120, random.integers(1, 12))]
        arrays = {f"{n}": random.laplace(0, 0.05, shape) for n, shape in enumerate(shapes)}
        sparse = {n: np.where(random.random(a.shape) < 0.5, a, 0) for n, a in arrays.items()}
        chosen = arrays if round_ % 2 else sparse
        data = stock.encode({n: a.astype(np.float32) for n, a in chosen.items()}, qp=-24)
        stream = nnguard.Stream.from_bytes(data)
        if round_ % 3 == 0:
            with contextlib.suppress(nnguard.CapacityError):
                stream = nnguard.attach(stream, bytes(20))
        for size in random.integers(1, 1500, 4).tolist():
            try:
                expected = bytes(plan_record(stream, 4, size).header)
            except nnguard.CapacityError:
                expected = None
            assert second_reader.plan(second_reader.split(bytes(stream)), 4, size) == expected
            found[0 if expected is None else expected[6:8][1] - 17] += 1
    assert len(found) > 8, found
