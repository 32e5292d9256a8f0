"""`sign` and `verify` with bundles of OpenSSF Model Signing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nnguard
from ecdsa_keys import write_key
from transcripts import Run

SIGN = "sign streams -o release --key vendor.key"
VERIFY = "verify release --trust vendor.pub"
INSIDE = "release/model.sig"


@pytest.fixture
def run(run: Run) -> Run:
    """Run a command that is given as one line."""
    return lambda command: run(*command.split())


@pytest.fixture(autouse=True)
def streams(folder: Path, model: nnguard.Stream) -> Path:
    """A set of one shard, `streams`, and keys for bundles."""
    write_key(folder)
    nnguard.StreamSet.of({"a.nnc": model}).save(folder / "streams")
    (folder / "streams" / "config.json").write_text("{}")
    return folder / "streams"


@pytest.mark.parametrize("bundle", [INSIDE, "model.sig"])
def test_signing_and_verifying(run: Run, folder: Path, bundle: str) -> None:
    signed = run(f"{SIGN} --oms {bundle} --oms-key oms.key")
    assert signed.code == 0
    key_id = nnguard.oms.Bundle.open(folder / bundle, folder / "oms.pub").key_id
    assert f"OMS bundle: {bundle}, signed with key {key_id}" in signed.out
    verified = run(f"{VERIFY} --oms {bundle} --oms-trust oms.pub")
    assert verified.code == 0
    assert f"OMS bundle  {bundle}, signed with key {key_id}" in verified.out
    assert "NOT covered" not in verified.out
    as_json = json.loads(run(f"{VERIFY} --oms {bundle} --oms-trust oms.pub --json").out)
    assert as_json["oms"] == {"key_id": key_id, "name": "release", "files": 3}


def test_signing_as_json_names_the_bundle(run: Run) -> None:
    values = json.loads(run(f"{SIGN} --oms model.sig --oms-key oms.key --json").out)
    assert values["oms"]["file"] == "model.sig"
    assert len(values["oms"]["key_id"]) == 64


def test_refusals(run: Run, folder: Path, key: nnguard.SigningKey) -> None:
    assert run(f"{SIGN} --oms {INSIDE} --oms-key oms.key").code == 0
    write_key(folder, "stranger")
    assert run(f"{VERIFY} --oms {INSIDE} --oms-trust stranger.pub").code == 7
    assert run(f"{VERIFY} --oms {INSIDE} --oms-trust vendor.pub").code == 6
    assert run(f"{VERIFY} --oms none.sig --oms-trust oms.pub").code == 1
    assert run(f"{VERIFY} --oms release/config.json --oms-trust oms.pub").code == 8
    (folder / "release" / "added").touch()
    result = run(f"{VERIFY} --oms {INSIDE} --oms-trust oms.pub")
    assert (result.code, "does not list: added" in result.err) == (8, True)
    assert run(VERIFY).code == 0


@pytest.mark.parametrize(
    "more",
    ["--oms model.sig", "--oms-key oms.key"],
)
def test_half_of_the_options_of_sign(run: Run, folder: Path, more: str) -> None:
    result = run(f"{SIGN} {more}")
    assert (result.code, "belong together" in result.err) == (2, True)
    assert not (folder / "release").exists()


def test_gate_and_strip_check_a_bundle(run: Run, folder: Path) -> None:
    assert run(f"{SIGN} --oms {INSIDE} --oms-key oms.key").code == 0
    more = f"--trust vendor.pub --oms {INSIDE} --oms-trust oms.pub"
    assert run(f"strip release -o stripped {more}").code == 0
    assert run(f"gate release served {more}").code == 0
    (folder / "release" / "added.txt").touch()
    for command in ("strip release -o again", "gate release again"):
        result = run(f"{command} {more}")
        assert (result.code, "does not list: added.txt" in result.err) == (8, True)
        assert not (folder / "again").exists()


def test_gate_reads_the_bundle_again(run: Run, folder: Path) -> None:
    """One that cannot be read takes nothing away; one that says no does."""
    assert run(f"{SIGN} --oms {INSIDE} --oms-key oms.key").code == 0
    gate = f"gate release served --trust vendor.pub --oms {INSIDE} --oms-trust oms.pub"
    assert run(gate).code == 0
    bundle = folder / INSIDE
    bundle.rename(folder / "away")
    assert run(f"{gate} --force --remove").code == 1
    assert (folder / "served").exists()
    bundle.write_text("{}")
    assert run(f"{gate} --force --remove").code == 8
    assert not (folder / "served").exists()


@pytest.mark.parametrize("more", ["--oms model.sig", "--oms-trust oms.pub"])
@pytest.mark.parametrize("command", ["verify release.nnc", "gate release.nnc served"])
def test_half_of_the_options(run: Run, command: str, more: str) -> None:
    result = run(f"{command} --trust vendor.pub {more}")
    assert (result.code, "belong together" in result.err) == (2, True)


def test_one_bundle_is_of_one_model(run: Run) -> None:
    more = "--oms model.sig --oms-trust oms.pub"
    result = run(f"verify release.nnc release.nnc --trust vendor.pub {more}")
    assert (result.code, "one after the other" in result.err) == (2, True)


def test_nothing_is_written_over(run: Run, folder: Path) -> None:
    (folder / "model.sig").write_text("mine")
    result = run(f"{SIGN} --oms model.sig --oms-key oms.key")
    assert (result.code, "exists already" in result.err) == (1, True)
    assert not (folder / "release").exists()
    assert run(f"{SIGN} --oms model.sig --oms-key oms.key --force").code == 0
    for place in ("oms.key", "vendor.key"):
        before = (folder / place).read_bytes()
        result = run(f"{SIGN} --oms {place} --oms-key oms.key --force")
        assert (result.code, "overwritten" in result.err) == (2, True)
        assert (folder / place).read_bytes() == before


def test_key_that_signs_no_bundles(run: Run, folder: Path) -> None:
    result = run(f"{SIGN} --oms model.sig --oms-key vendor.key")
    assert (result.code, "keygen --algorithm p256" in result.err) == (6, True)
    assert not (folder / "release").exists()


def test_made_key(run: Run) -> None:
    assert run("keygen made --algorithm p256").code == 0
    assert run(f"{SIGN} --oms {INSIDE} --oms-key made.key").code == 0
    assert run(f"{VERIFY} --oms {INSIDE} --oms-trust made.pub").code == 0
