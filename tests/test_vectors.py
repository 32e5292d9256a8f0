"""The vectors of the specification: each has the one outcome that it is there for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import nnguard
from vectors import make, toolbox
from vectors.example import EXAMPLE, example, with_example

FOLDER = Path(__file__).parent / "vectors"
LISTING: dict[str, Any] = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))
VECTORS: list[dict[str, Any]] = LISTING["vectors"]


def of(*outcomes: str) -> pytest.MarkDecorator:
    chosen = [v for v in VECTORS if v["expect"].split(":")[0] in outcomes]
    assert chosen
    return pytest.mark.parametrize("vector", chosen, ids=lambda vector: vector["file"])


def trusted() -> list[nnguard.PublicKey]:
    return [toolbox.KEYS[name].public_key for name in LISTING["trusted"]]


def read(vector: dict[str, Any]) -> nnguard.Stream:
    return nnguard.Stream.open(FOLDER / vector["file"])


def perform(vector: dict[str, Any]) -> object:
    if vector["operation"] == "detach":
        return nnguard.detach(read(vector))
    return nnguard.verify(read(vector), trusted())


def sha256(stream: nnguard.Stream) -> str:
    return hashlib.sha256(bytes(stream)).hexdigest()


@of("verifies")
def test_verifies(vector: dict[str, Any]) -> None:
    report = nnguard.verify(read(vector), trusted())
    assert report.claims.to_json() == vector["claims"]
    assert report.digest == vector["digest"]
    assert report.key_id == vector["kid"]
    nested = [{"kind": record.kind, "kid": record.key_id} for record in report.nested]
    assert nested == vector.get("nested", [])
    assert sha256(nnguard.strip(read(vector), trusted())) == vector["original_sha256"]


@of("detaches")
def test_detaches(vector: dict[str, Any]) -> None:
    attachment, original = nnguard.detach(read(vector))
    assert attachment.media_type == vector["media_type"]
    assert attachment.payload == bytes.fromhex(vector["payload"])
    assert sha256(original) == vector["original_sha256"]


@of("FormatError", "NoRecordError", "WrongKeyError", "VerificationError", "LimitError")
def test_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(nnguard.NnguardError) as caught:
        perform(vector)
    assert type(caught.value).__name__ == vector["expect"].split(":")[0]
    assert vector["message"] in str(caught.value)
    if "tensors" in vector:
        stream = read(vector)
        names = tuple(stream[position].name for position in vector["tensors"])
        assert isinstance(caught.value, nnguard.VerificationError)
        assert caught.value.tensors == names


def test_expectations_are_distinct() -> None:
    assert len({(v["expect"], v["about"]) for v in VECTORS}) == len(VECTORS)
    assert all(": " in v["expect"] for v in VECTORS if "message" in v)


def test_make_gives_the_same_files(tmp_path: Path) -> None:
    make.main(tmp_path)
    committed = {path.name: path for path in FOLDER.iterdir() if path.suffix in {".nnc", ".json"}}
    made = {path.name: path for path in tmp_path.iterdir()}
    assert made.keys() == committed.keys()
    for name in made:
        assert made[name].read_bytes() == committed[name].read_bytes(), name


def test_specification_has_the_worked_example() -> None:
    page = make.SPEC.read_text(encoding="utf-8")
    text = example((FOLDER / f"{EXAMPLE}.nnc").read_bytes())
    assert with_example(page, text) == page
    assert LISTING["spec"] == make.SPEC_VERSION
    assert f"Version {make.SPEC_VERSION}." in page
