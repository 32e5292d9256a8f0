"""`lock --traceable`, and `trace`: whose copy a suspect is, from the first command to the last."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import nnguard
from nnguard._cli import main
from nnguard._licensing.unwrapped import Unwrapped
from nnguard.licensing import License
from transcripts import Run

pytest.importorskip("sqlalchemy")

TRACE = ("trace", "--trial", "trial.nnc", "--content-key", "content.key")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, key: nnguard.SigningKey) -> Path:
    """A folder with a traceable trial, and what Ada and Eve have of it."""
    folder = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    release, weaker = (
        nnguard.compress(
            {name: random.normal(0, 0.05, shape).astype(np.float32)},
            nnguard.Settings(dependent=False),
        )
        for name, shape in (("w", (200, 200)), ("v", (300, 300)))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        key.save("vendor.key")
        key.public_key.save("vendor.pub")
        nnguard.sign(release, key, name="digits").save("release.nnc")
        weaker.save("weaker.nnc")
        do("lock release.nnc --trial weaker.nnc --traceable -o trial.nnc --key vendor.key")
        for name in ("ada", "eve"):
            do(f"keygen {name} --identity")
            do(
                f"license issue trial.nnc -o {name}.license --key vendor.key --to {name}.pub "
                f"--customer {name} --ledger licenses.db"
            )
            do(
                f"unlock trial.nnc -o {name}.nnc --license {name}.license --identity {name}.key "
                "--trust vendor.pub"
            )
        nnguard.decompress_to_file("eve.nnc", "eve.safetensors")
    return folder


def do(line: str) -> None:
    command, *rest = line.split()
    key = ["--content-key", "content.key"] if command in ("lock", "license") else []
    assert main([command, *rest, *key]) == 0, line


@pytest.fixture
def folder(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "folder"
    shutil.copytree(shop, folder)
    monkeypatch.chdir(folder)
    return folder


def test_copy_names_its_licensee(run: Run) -> None:
    result = run(*TRACE, "eve.safetensors", "--ledger", "licenses.db")
    license_id = nnguard.licensing.License.load("eve.license").terms.id
    assert result.code == 0
    assert "with the copies of 2 licenses" in result.out
    assert f"Made with the copy of eve, license {license_id}" in result.out
    assert "below 1e-38" in result.out
    assert "ada" not in result.out


def test_a_folder_of_shards_is_read_as_it_is(run: Run, folder: Path) -> None:
    weights = load_file(folder / "eve.safetensors")
    (folder / "found").mkdir()
    (folder / "found" / "config.json").write_text("{}")
    save_file(weights, folder / "found" / "model-00001.safetensors")
    save_file({"x": np.ones(3, np.float32)}, folder / "found" / "model-00002.safetensors")
    for suspect in ("found", "nothing"):
        result = run(*TRACE, suspect, "--ledger", "licenses.db")
        assert ("Made with the copy of eve" in result.out) is (suspect == "found")
    assert result.code != 0


def test_mixture_names_both_for_machines(run: Run, folder: Path) -> None:
    both = [nnguard.decompress(f"{name}.nnc")["w"] for name in ("ada", "eve")]
    save_file({"module.w": (both[0] + both[1]) / 2}, folder / "mixed.safetensors")
    result = run(*TRACE, "mixed.safetensors", "--ledger", "licenses.db", "--json")
    told = json.loads(result.out)
    assert {each["customer"] for each in told["accused"]} == {"ada", "eve"}
    assert told["tensors"]["w"]["how"] == "named module.w"
    assert told["licenses"] == 2


def test_nobody_is_accused_of_what_is_not_a_copy(run: Run, folder: Path) -> None:
    weights = load_file(folder / "eve.safetensors")
    weights["w"] = np.random.default_rng(1).normal(0, 0.05, (200, 200)).astype(np.float32)
    save_file(weights, folder / "other.safetensors")
    for suspect in ("other.safetensors", "release.nnc", "trial.nnc", "weaker.nnc"):
        result = run(*TRACE, suspect, "--ledger", "licenses.db")
        assert (result.code, "Nobody: " in result.out) == (0, True), suspect


def test_licenses_stand_for_a_ledger(run: Run) -> None:
    trust = ("--trust", "vendor.pub")
    result = run(*TRACE, "eve.nnc", "--license", "ada.license", *trust)
    assert "Nobody: no score is high enough" in result.out
    both = ("--license", "ada.license", "--license", "eve.license")
    assert "Made with the copy of eve" in run(*TRACE, "eve.nnc", *both, *trust).out


def test_a_customer_cannot_put_another_name_on_a_license(
    run: Run, folder: Path, key: nnguard.SigningKey
) -> None:
    """Nobody but the vendor says whose license it is; nor does the vendor say two things."""
    license_ = nnguard.licensing.License.load("eve.license")
    terms = replace(license_.terms, customer="ada")
    secrets = Unwrapped(nnguard.ContentKey.generate(), bytes(99840))
    for name, signer in (("forged", nnguard.SigningKey.generate()), ("changed", key)):
        recipient = nnguard.Identity.load("eve.key").recipient
        License.make(terms, secrets, recipient, signer).save(folder / f"{name}.license")
    line = (*TRACE, "eve.nnc", "--trust", "vendor.pub", "--ledger", "licenses.db", "--license")
    forged = run(*line, "forged.license")
    assert (forged.code, "Made with" in forged.out) == (7, False)
    changed = run(*line, "changed.license")
    assert (changed.code, "the ledger names another customer" in changed.err) == (2, True)
    unsure = run(*TRACE, "eve.nnc", "--license", "eve.license")
    assert (unsure.code, "--trust is missing" in unsure.err) == (2, True)


def test_picture_of_the_scores(run: Run, folder: Path) -> None:
    pytest.importorskip("matplotlib")
    assert run(*TRACE, "eve.nnc", "--ledger", "licenses.db", "--plot", "scores.svg").code == 0
    assert "license " in (folder / "scores.svg").read_text()


def test_what_cannot_be_traced(run: Run, folder: Path) -> None:
    nothing = run(*TRACE, "eve.nnc")
    assert (nothing.code, "give --ledger, or --license" in nothing.err) == (2, True)
    key = nnguard.ContentKey.load("content.key").below()
    key.save(folder / "licensee.key")
    line = ("trace", "eve.nnc", "--trial", "trial.nnc", "--content-key", "licensee.key")
    result = run(*line, "--ledger", "licenses.db")
    assert (result.code, "makes no copies" in result.err) == (7, True)
    exact = nnguard.lock("release.nnc", trial="weaker.nnc")
    exact.trial.save("exact.nnc")
    exact.content_key.save("exact.key")
    issuer = nnguard.licensing.issue("exact.nnc", "exact.key", to="ada.pub", signer="vendor.key")
    issuer.save("exact.license")
    line = ("trace", "eve.nnc", "--trial", "exact.nnc", "--content-key", "exact.key")
    result = run(*line, "--license", "exact.license", "--trust", "vendor.pub")
    assert (result.code, "not traceable" in result.err) == (2, True)
    line = ("trace", "eve.nnc", "--trial", "exact.nnc", "--content-key", "exact.key")
    result = run(*line, "--ledger", "licenses.db")
    assert (result.code, "has no license of exact.nnc" in result.err) == (2, True)
    other = run(*TRACE, "eve.nnc", "--license", "exact.license", "--trust", "vendor.pub")
    assert (other.code, "of another trial" in other.err) == (2, True)
