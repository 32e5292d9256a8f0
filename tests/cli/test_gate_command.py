"""`nnguard gate`: exit codes, what it logs, and how it watches."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import nnguard
from nnguard._cli.gating import read_interval
from policies import document
from transcripts import Run

GATE = ("gate", "release.nnc", "models", "--trust", "vendor.pub")
MADE = ["model.safetensors", "nnguard-gate.json"]


def made() -> list[str]:
    return sorted(path.name for path in Path("models").iterdir())


def logged(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_passed(run: Run) -> None:
    result = run(*GATE)
    assert result.code == 0
    assert result.out.startswith("Passed: acme.ai small 1.0: models\n")
    assert result.err == ""
    assert made() == MADE


def test_in_json(run: Run) -> None:
    values = json.loads(run(*GATE, "--json").out)
    assert values["ok"] is True
    assert values["folder"] == "models"
    assert values["claims"]["name"] == "small"


def test_logged(run: Run) -> None:
    began = datetime.now(timezone.utc) - timedelta(seconds=1)
    result = run(*GATE, "--log-json")
    assert result.out == ""
    lines = logged(result.err)
    assert [line["event"] for line in lines] == ["copied", "verified", "decoded", "placed"]
    report = nnguard.verify("release.nnc", "vendor.pub")
    for line in lines:
        assert (line["source"], line["destination"]) == ("release.nnc", "models")
        assert began < datetime.fromisoformat(line["time"]) <= datetime.now(timezone.utc)
        assert line["seconds"] >= 0
    for line in lines[1:]:
        assert (line["model"], line["version"], line["issuer"]) == ("small", "1.0", "acme.ai")
        assert (line["key"], line["digest"]) == (report.key_id, report.digest)


REFUSED = {
    "not signed": (("gate", "model.nnc", "models", "--trust", "vendor.pub"), 5, "NoRecordError"),
    "another key": (
        ("gate", "release.nnc", "models", "--trust", "other.pub"),
        7,
        "WrongKeyError",
    ),
    "another version": ((*GATE, "--version", ">=2"), 16, "ClaimsError"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(run: Run, what: str) -> None:
    arguments, code, error = REFUSED[what]
    plain = run(*arguments)
    assert plain.code == code
    assert plain.err.startswith("nnguard: ")
    result = run(*arguments, "--log-json")
    assert result.code == code
    *_, last = logged(result.err)
    assert (last["event"], last["code"], last["error"]) == ("refused", code, error)
    assert last["message"] in plain.err
    assert not Path("models").exists()


def test_refused_takes_away_what_is_there(run: Run) -> None:
    run(*GATE)
    expect = ("--force", "--version", ">=2")
    assert run(*GATE, *expect).code == 16
    assert made() == MADE
    result = run(*GATE, *expect, "--remove", "--log-json")
    assert result.code == 16
    assert [line["event"] for line in logged(result.err)][-2:] == ["refused", "removed"]
    assert not Path("models").exists()


def test_what_cannot_be_read_takes_nothing_away(run: Run) -> None:
    run(*GATE)
    gone = ("gate", "gone.nnc", "models", "--trust", "vendor.pub", "--force", "--remove")
    assert run(*gone).code == 1
    result = run(*gone, "--log-json")
    assert [line["event"] for line in logged(result.err)] == ["failed"]
    no_key = ("gate", "release.nnc", "models", "--trust", "release.nnc", "--force", "--remove")
    assert run(*no_key).code == 6
    Path("policy.json").write_text("{")
    half = ("gate", "release.nnc", "models", "--policy", "policy.json", "--force", "--remove")
    assert run(*half).code == 18
    assert made() == MADE


def test_a_policy_that_is_not_the_right_one_takes_nothing_away(
    run: Run, key: nnguard.SigningKey
) -> None:
    root = nnguard.SigningKey.generate()
    keys = {"acme": key.public_key}, {"root": root.public_key}
    policy = nnguard.TrustPolicy.new(["*/*"], keys[0], root=keys[1])
    policy.sign(root).save("signed.policy")
    gate = ("gate", "release.nnc", "models", "--state", "state", "--force", "--remove")
    assert run(*gate, "--policy", "signed.policy").code == 0
    assert run(*gate, "--trust", "vendor.pub").code == 18
    policy.save("plain.json")
    assert run(*gate, "--policy", "plain.json").code == 18
    assert made() == MADE


def test_what_is_there_stays(run: Run) -> None:
    assert run(*GATE).code == 0
    result = run(*GATE)
    assert result.code == 1
    assert result.err == "nnguard: models exists already; --force overwrites it\n"
    assert run(*GATE, "--force").code == 0


def test_in_place(run: Run) -> None:
    assert run(*GATE, "--in-place").code == 1
    Path("models").mkdir()
    assert run(*GATE, "--in-place").code == 0
    assert made() == MADE


def test_in_place_in_the_folder_that_one_is_in(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("models").mkdir()
    monkeypatch.chdir("models")
    gate = ("gate", folder / "release.nnc", ".", "--trust", folder / "vendor.pub", "--in-place")
    assert run(*gate).code == 0
    monkeypatch.chdir(folder)
    assert made() == MADE


@pytest.mark.parametrize("interval", ["0s", "-1s", "60", "1w", "often"])
def test_watch_takes_a_length_of_time(run: Run, interval: str) -> None:
    result = run(*GATE, "--watch", interval)
    assert (result.code, "such as 30s, 5m or 1h" in result.err) == (2, True)


def test_lengths_of_time() -> None:
    assert [*map(read_interval, ("1.5s", "5m", "1h", "1d"))] == [1.5, 300, 3600, 86400]


@pytest.mark.parametrize("options", [("--license", "license"), ("--identity", "customer.key")])
def test_license_and_identity(run: Run, options: tuple[str, str]) -> None:
    nnguard.Identity.generate().save("customer.key")
    assert run(*GATE, *options).code == 2
    assert not Path("models").exists()


def test_a_trial(run: Run, key: nnguard.SigningKey) -> None:
    customer = nnguard.Identity.generate()
    customer.save("customer.key")
    locked = nnguard.lock("release.nnc", signer=key, soft=nnguard.Soft(fraction=0.002))
    locked.trial.save("trial.nnc")
    terms = nnguard.licensing.Terms(issued_at="2026-01-01", expires_at="2026-06-01")
    nnguard.licensing.issue(
        locked.trial, locked.content_key, to=customer.recipient, signer=key, terms=terms
    ).save("license")
    trial = ("gate", "trial.nnc", "models", "--trust", "vendor.pub")
    licensed = (*trial, "--license", "license", "--identity", "customer.key", "--log-json", "--now")
    assert run(*trial).code == 17
    assert run(*licensed, "2026-06-02").code == 9
    assert not Path("models").exists()
    result = run(*licensed, "2026-05-31")
    assert result.code == 0
    events = [line["event"] for line in logged(result.err)]
    assert events == ["copied", "unlocked", "verified", "decoded", "placed"]


def test_a_warning_is_a_line_of_json(
    run: Run, model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    name = 'small\n{"event": "placed"}'
    for number in (2, 1):
        nnguard.sign(model, key, name=name, release=number).save(f"{number}.nnc")
    policy = document({"acme": key.public_key}, {"level": "audit"})
    Path("a.policy").write_text(json.dumps(policy))
    assert run("verify", "2.nnc", "--policy", "a.policy", "--state", "st").code == 0
    result = run("gate", "1.nnc", "models", "--policy", "a.policy", "--state", "st", "--log-json")
    events = [line["event"] for line in logged(result.err)]
    assert events == ["copied", "warning", "verified", "decoded", "placed"]


def test_an_older_release(run: Run, model: nnguard.Stream, key: nnguard.SigningKey) -> None:
    Path("policy.json").write_text(json.dumps(document({"vendor": key.public_key})))
    gate = ("gate", "release.nnc", "models", "--policy", "policy.json", "--state", "state")

    def deliver(number: int) -> None:
        release = nnguard.sign(model, key, issuer="acme.ai", name="small", release=number)
        release.save("release.nnc", overwrite=True)

    deliver(2)
    result = run(*gate, "--log-json")
    assert result.code == 0
    _, told, verified, *_ = logged(result.err)
    (warning,) = verified["warnings"]
    assert warning["reason"] == "state"
    assert told["message"] == warning["message"]
    deliver(1)
    result = run(*gate, "--force", "--log-json")
    assert result.code == 18
    *_, last = logged(result.err)
    assert (last["event"], last["code"], last["reason"]) == ("refused", 18, "rollback")
    assert made() == MADE


# Watching


@contextmanager
def watching(*options: str) -> Iterator[subprocess.Popen[str]]:
    """Run a gate that checks again every few milliseconds; what it logs is to be read."""
    command = [sys.executable, "-m", "nnguard", *GATE, "--log-json", "--watch", "0.02s", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """Read lines up to one about an event."""
    assert process.stderr is not None
    seen = []
    for text in process.stderr:
        line: dict[str, Any] = json.loads(text)
        seen.append(line["event"])
        if line["event"] == event:
            return line
    pytest.fail(f"{event} never came, only {seen}")


@pytest.mark.parametrize("remove", [False, True])
def test_watching(
    model: nnguard.Stream, release: nnguard.Stream, key: nnguard.SigningKey, *, remove: bool
) -> None:
    with watching(*["--remove"] * remove) as process:
        assert wait_for(process, "placed")["version"] == "1.0"
        nnguard.sign(model, key, name="small", version="2.0").save("release.nnc", overwrite=True)
        assert wait_for(process, "placed")["version"] == "2.0"
        model.save("release.nnc", overwrite=True)
        assert wait_for(process, "refused")["code"] == 5
        assert process.wait() == 5
    assert Path("models").exists() != remove
    assert not [*Path().glob(".models*")]


def test_watching_says_what_it_has_put_there() -> None:
    command = [sys.executable, "-m", "nnguard", *GATE, "--watch", "60s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "Passed: acme.ai small 1.0: models\n"
        finally:
            process.kill()


def test_what_is_logged_as_json_is_nothing_else(run: Run, key: nnguard.SigningKey) -> None:
    rule = {"level": "audit", "min_release": 5}
    Path("policy.json").write_text(json.dumps(document({"vendor": key.public_key}, rule)))
    result = run(*GATE[:3], "--policy", "policy.json", "--log-json")
    placed = logged(result.err)[-1]
    assert (placed["event"], placed["release"]) == ("placed", None)
    assert [warning["reason"] for warning in placed["warnings"]] == ["release"]


@pytest.mark.parametrize("name", ["manager", "@nnguard-test-manager"])
def test_watching_tells_systemd(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    address = name if name.startswith("@") else str(folder / name)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        manager.settimeout(60)
        with watching():
            assert manager.recv(100) == b"READY=1"
            assert made() == MADE


def test_watching_ends_when_it_is_told_to() -> None:
    with watching() as process:
        wait_for(process, "placed")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert made() == MADE
    assert not [*Path().glob(".models*")]


def closed_twice(*_: object, **__: object) -> None:
    """What `shutil.rmtree` does when a signal comes right after it has closed a folder."""
    try:
        raise KeyboardInterrupt(signal.SIGTERM)
    finally:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def test_an_interruption_is_none_of_the_errors_that_come_of_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nnguard._operations.destination.shutil.rmtree", closed_twice)
    with pytest.raises(KeyboardInterrupt) as told:
        run(*GATE, "--log-json")
    assert told.value.args == (signal.SIGTERM,)
    assert logged(capsys.readouterr().err)[-1]["event"] == "placed"


def test_an_interruption_ends_the_verification_of_many(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nnguard._cli.verifying._verify", closed_twice)
    with pytest.raises(KeyboardInterrupt):
        run("verify", "release.nnc", "release.nnc", "--trust", "vendor.pub")
    assert capsys.readouterr().err == ""
