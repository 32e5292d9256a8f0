"""The vectors of the specification: each has the one outcome that it is there for."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import nnguard
from nnguard.hiding import extract
from nnguard.locking.opening import Opened, open_locks
from vectors import make, selling, toolbox
from vectors.example import example, with_example

FOLDER = Path(__file__).parent / "vectors"
LISTING: dict[str, Any] = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))
VECTORS: list[dict[str, Any]] = LISTING["vectors"]


def of(*outcomes: str) -> pytest.MarkDecorator:
    chosen = [v for v in VECTORS if v["expect"].split(":")[0] in outcomes]
    assert chosen
    return pytest.mark.parametrize("vector", chosen, ids=lambda vector: vector["name"])


def trusted() -> list[nnguard.PublicKey]:
    return [toolbox.KEYS[name].public_key for name in LISTING["trusted"]]


def read(vector: dict[str, Any]) -> nnguard.Stream:
    return nnguard.Stream.open(FOLDER / vector["file"])


def perform(vector: dict[str, Any], folder: Path) -> object:
    """Do what the vector is for; `folder` is for files of our own."""
    match vector["operation"]:
        case "detach":
            return nnguard.detach(read(vector))
        case "open":
            return open_with_key(vector)
        case "unlock":
            return unlock(vector, folder)
    return nnguard.verify(read(vector), trusted())


def open_with_key(vector: dict[str, Any]) -> Opened:
    stream = read(vector)
    key = selling.CONTENT_KEYS[vector["content_key"]]
    return open_locks(extract(stream), stream.sha256_of_units(), key)


def license_path(vector: dict[str, Any]) -> Path:
    return FOLDER / vector["license"]


def checks_of(vector: dict[str, Any], folder: Path) -> nnguard.Checks:
    state = None
    if "seen" in vector:
        state = folder / "state.json"
        state.write_text(json.dumps({"newest": vector["seen"]}))
    return nnguard.Checks(
        now=datetime.fromtimestamp(vector["now"], timezone.utc),
        device=nnguard.Device.of_values(map(tuple, vector.get("traits", []))),
        revocations=FOLDER / vector["revocations"] if "revocations" in vector else None,
        max_age=timedelta(seconds=vector["max_age"]) if "max_age" in vector else None,
        state=state,
    )


def unlock(vector: dict[str, Any], folder: Path) -> nnguard.Stream:
    return nnguard.unlock(
        read(vector),
        license_path(vector),
        selling.CUSTOMERS[vector["customer"]],
        trusted(),
        tier=vector.get("tier", ""),
        checks=checks_of(vector, folder),
    )


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
    licensed_to = report.licensed_to and report.licensed_to.id
    assert licensed_to == vector.get("licensed_to")
    assert sha256(nnguard.strip(read(vector), trusted())) == vector["original_sha256"]


@of("detaches")
def test_detaches(vector: dict[str, Any]) -> None:
    attachment, original = nnguard.detach(read(vector))
    assert attachment.media_type == vector["media_type"]
    assert attachment.payload == bytes.fromhex(vector["payload"])
    assert sha256(original) == vector["original_sha256"]


@of("opens")
def test_opens(vector: dict[str, Any]) -> None:
    opened = open_with_key(vector)
    assert list(opened.tiers) == vector["tiers"]
    assert sha256(opened.stream) == vector["original_sha256"]


@of("unlocks")
def test_unlocks(vector: dict[str, Any], tmp_path: Path) -> None:
    assert sha256(unlock(vector, tmp_path)) == vector["original_sha256"]
    checks = checks_of(vector, tmp_path)
    status = nnguard.check_license(license_path(vector), trusted(), checks=checks)
    assert status.in_grace is vector["in_grace"]


@of(
    "FormatError",
    "NoRecordError",
    "WrongKeyError",
    "VerificationError",
    "LimitError",
    "LicenseError",
    "UnlockError",
)
def test_is_refused(vector: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(nnguard.NnguardError) as caught:
        perform(vector, tmp_path)
    outcome, _, what = vector["expect"].partition(": ")
    assert type(caught.value).__name__ == outcome
    assert vector.get("message", "") in str(caught.value)
    if isinstance(caught.value, nnguard.LicenseError):
        assert caught.value.reason.value == what
    if "tensors" in vector:
        stream = read(vector)
        names = tuple(stream[position].name for position in vector["tensors"])
        assert isinstance(caught.value, nnguard.VerificationError)
        assert caught.value.tensors == names


def test_expectations_are_distinct() -> None:
    assert len({v["name"] for v in VECTORS}) == len(VECTORS)
    assert len({(v["expect"], v["about"]) for v in VECTORS}) == len(VECTORS)
    assert all(": " in v["expect"] for v in VECTORS if "message" in v)


def test_make_gives_the_same_files(tmp_path: Path) -> None:
    make.main(tmp_path)
    suffixes = {".nnc", ".json", ".license", ".revocations"}
    committed = {path.name: path for path in FOLDER.iterdir() if path.suffix in suffixes}
    made = {path.name: path for path in tmp_path.iterdir()}
    assert made.keys() == committed.keys()
    for name in made:
        assert made[name].read_bytes() == committed[name].read_bytes(), name


def test_specification_has_the_worked_example() -> None:
    page = make.SPEC.read_text(encoding="utf-8")
    assert with_example(page, example(FOLDER)) == page
    assert LISTING["spec"] == make.SPEC_VERSION
    assert f"Version {make.SPEC_VERSION}." in page
