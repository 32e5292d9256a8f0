"""What earlier versions wrote: verified, unlocked and read by this one."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import nnguard
from golden import make
from nnguard._hiding import extract
from nnguard.licensing import Device, Issuer, Ledger, License, Policy, Refusal, Terms, check
from opening import open_locks

FOLDERS = sorted(
    path for path in Path(__file__).parent.iterdir() if (path / "expected.json").exists()
)


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy, since some files are written to when they are opened."""
    return Path(shutil.copytree(request.param, tmp_path / "files"))


@pytest.fixture
def expected(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def policy(folder: Path, expected: dict[str, Any]) -> Policy:
    return Policy(
        now=datetime.fromisoformat(expected["now"]),
        device=Device.of_values(map(tuple, expected["traits"])),
        revocations=folder / "vendor.revoked",
        max_age=timedelta(days=1),
        state=folder / "state.json",
    )


def test_there_are_files_of_this_version() -> None:
    assert nnguard.__version__ in [folder.name for folder in FOLDERS]


def test_keys(folder: Path, expected: dict[str, Any]) -> None:
    key = nnguard.SigningKey.load(folder / "vendor.key", passphrase=expected["passphrase"])
    assert key.public_key == nnguard.PublicKey.load(folder / "vendor.pub")
    assert key.public_key.id.hex() == expected["vendor"]
    for name, passphrase in (("ada", expected["passphrase"]), ("eve", None)):
        identity = nnguard.Identity.load(folder / f"{name}.key", passphrase=passphrase)
        assert identity.recipient == nnguard.Recipient.load(folder / f"{name}.pub")
    assert nnguard.ContentKey.load(folder / "content.key").id.hex() == expected["content_key"]


def test_release(folder: Path, expected: dict[str, Any]) -> None:
    trust = folder / "vendor.pub"
    assert make.sha256(nnguard.Stream.open(folder / "original.nnc")) == expected["original"]
    report = nnguard.verify(folder / "signed.nnc", trust)
    assert report.key_id == expected["vendor"]
    assert report.claims.to_json().items() >= expected["claims"].items()  # later versions know more
    assert make.sha256(nnguard.strip(folder / "signed.nnc", trust)) == expected["original"]
    signed = nnguard.Stream.open(folder / "signed.nnc")
    assert extract(signed).record == (folder / "signed.record").read_bytes()
    original = nnguard.Stream.open(folder / "original.nnc")
    assert make.sha256_of_weights(original) == expected["weights"]


def test_attachment(folder: Path, expected: dict[str, Any]) -> None:
    trust = folder / "vendor.pub"
    (nested,) = nnguard.verify(folder / "attached.nnc", trust).nested
    assert nested.kind == "attachment"
    attachment, original = nnguard.detach(nnguard.strip(folder / "attached.nnc", trust))
    assert attachment == nnguard.Attachment(b"# Model card\n", "text/markdown")
    assert make.sha256(original) == expected["original"]


def test_set(folder: Path, expected: dict[str, Any]) -> None:
    report = nnguard.verify(folder / "set", folder / "vendor.pub")
    assert report.key_id == expected["vendor"]
    originals = nnguard.strip(folder / "set", folder / "vendor.pub").streams
    assert {name: make.sha256(stream) for name, stream in originals.items()} == expected["shards"]


def test_sale(folder: Path, expected: dict[str, Any], policy: Policy) -> None:
    trust, trial = folder / "vendor.pub", folder / "trial.nnc"
    ada = nnguard.Identity.load(folder / "ada.key", passphrase=expected["passphrase"])
    assert check(folder / "ada.license", trust, license_policy=policy).in_grace
    release = nnguard.unlock(trial, folder / "ada.license", ada, trust, license_policy=policy)
    assert make.sha256(release) == expected["release"]
    assert make.sha256(nnguard.strip(release, trust)) == expected["original"]
    standard = nnguard.unlock(
        trial,
        folder / "eve.license",
        folder / "eve.key",
        trust,
        tier="standard",
        license_policy=policy,
    )
    assert make.sha256(standard) == expected["standard"]
    with pytest.raises(nnguard.errors.LicenseError) as caught:
        nnguard.unlock(
            trial, folder / "revoked.license", folder / "eve.key", trust, license_policy=policy
        )
    assert caught.value.reason is Refusal.REVOKED


def test_carried_release(folder: Path, expected: dict[str, Any]) -> None:
    trial = nnguard.Stream.open(folder / "carried.nnc")
    assert nnguard.verify(trial, folder / "vendor.pub", allow_trial=True).nested[0].kind == "lock"
    content_key = nnguard.ContentKey.load(folder / "carried.key")
    assert make.sha256(open_locks(trial, content_key).stream) == expected["carried"]


def test_locked_set(folder: Path, expected: dict[str, Any], policy: Policy) -> None:
    trust, trial = folder / "vendor.pub", folder / "locked-set"
    assert nnguard.verify(trial, trust, allow_trial=True).key_id == expected["vendor"]
    released = nnguard.unlock(
        trial, folder / "set.license", folder / "eve.key", trust, license_policy=policy
    )
    shards = {name: make.sha256(stream) for name, stream in released.streams.items()}
    assert shards == expected["locked_set"]


def test_watermark(folder: Path, expected: dict[str, Any], policy: Policy) -> None:
    trust = folder / "vendor.pub"
    report = nnguard.verify(folder / "marked.nnc", trust)
    assert report.licensed_to == License.load(folder / "ada.license").terms
    assert make.sha256(nnguard.strip(folder / "marked.nnc", trust)) == expected["original"]
    ada = nnguard.Identity.load(folder / "ada.key", passphrase=expected["passphrase"])
    files = folder / "trial.nnc", folder / "ada.license"
    again = nnguard.unlock(*files, ada, trust, license_policy=policy, watermark=True)
    assert bytes(again) == (folder / "marked.nnc").read_bytes()


def test_state(folder: Path, expected: dict[str, Any]) -> None:
    earlier = datetime.fromisoformat(expected["now"]) - timedelta(days=1)
    policy = Policy(now=earlier, state=folder / "state.json")
    with pytest.raises(nnguard.errors.LicenseError) as caught:
        check(folder / "eve.license", folder / "vendor.pub", license_policy=policy)
    assert caught.value.reason is Refusal.CLOCK_SET_BACK


def test_ledger(folder: Path, expected: dict[str, Any]) -> None:
    key = nnguard.SigningKey.load(folder / "vendor.key", passphrase=expected["passphrase"])
    Ledger.upgrade(folder / "ledger.db")
    with Ledger(folder / "ledger.db") as ledger:
        entries = ledger.entries()
        assert [entry.to_json() for entry in entries] == expected["entries"]
        texts = [entry.armored for entry in entries]
        names = ("ada", "eve", "revoked")
        assert texts == [(folder / f"{name}.license").read_text() for name in names]
        issuer = Issuer(ledger, key, folder / "desk.key")
        terms = Terms(customer="Eve")
        issued = issuer.issue(folder / "trial.nnc", to=folder / "eve.pub", terms=terms)
        assert len(ledger.entries()) == len(entries) + 1
        listed = issuer.revocation_list()
    assert listed.revokes(expected["entries"][2]["license_id"])
    eve = folder / "eve.key"
    release = nnguard.unlock(folder / "trial.nnc", issued, eve, folder / "vendor.pub")
    assert make.sha256(release) == expected["release"]
