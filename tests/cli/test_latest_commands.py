"""`nnguard latest`, and what commands do with a statement and a state file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import nnguard
from transcripts import Run, is_one_line

TRUST = ("--trust", "vendor.pub")
NEW = ("latest", "new", "second.nnc", "-o", "net.latest", "--expires", "30d", "--key")


@pytest.fixture(autouse=True)
def releases(folder: Path, run: Run, other_key: nnguard.SigningKey) -> None:
    """Two releases with numbers, and the key of somebody else."""
    other_key.save("other.key")
    for number, name in enumerate(("first", "second"), 1):
        claims = ("--issuer", "acme.ai", "--name", "net", "--release", str(number))
        assert (
            run("sign", "model.nnc", "-o", f"{name}.nnc", "--key", "vendor.key", *claims).code == 0
        )


def answer(run: Run, *command: str) -> tuple[int, dict[str, Any]]:
    done = run(*command, "--json")
    return done.code, json.loads(done.out)


def test_statement(run: Run, key: nnguard.SigningKey) -> None:
    made = run(*NEW, "vendor.key")
    assert made.code == 0
    assert "that release 2 of net is the newest: net.latest" in made.out
    code, shown = answer(run, "latest", "show", "net.latest")
    assert (code, shown["release"], shown["key_id"]) == (0, 2, key.public_key.id.hex())
    assert run("latest", "show", "net.latest").out.startswith("Not checked:\n")
    assert run("verify", "second.nnc", *TRUST, "--latest", "net.latest").code == 0
    code, refused = answer(run, "verify", "first.nnc", *TRUST, "--latest", "net.latest")
    assert (code, refused["error"], refused["reason"]) == (18, "PolicyError", "stale")


def test_statement_about_what_another_vendor_signed(run: Run) -> None:
    assert run(*NEW, "other.key").code == 7
    assert not Path("net.latest").exists()
    assert run(*NEW, "other.key", *TRUST).code == 0
    verify = ("verify", "second.nnc", *TRUST, "--latest", "net.latest")
    refused = run(*verify)
    assert refused.code == 7
    assert "the latest statement is signed with key" in refused.err
    assert run(*verify, "--trust", "other.pub").code == 7  # trusted, and not the release's
    new = ("policy", "new", "-o", "both.toml", "--scope", "acme.ai/net", "--trust", "vendor.pub")
    assert run(*new, "--trust", "other.pub").code == 0
    assert run("verify", "second.nnc", "--policy", "both.toml", "--latest", "net.latest").code == 0


def test_statement_is_not_overwritten(run: Run) -> None:
    Path("net.latest").touch()
    assert run(*NEW, "vendor.key").code == 1
    assert run(*NEW, "vendor.key", "--force").code == 0


def test_wrong_files(run: Run) -> None:
    refused = run("verify", "second.nnc", *TRUST, "--latest", "vendor.pub")
    assert refused.code == 18
    assert is_one_line(refused.err)
    refused = run("latest", "show", "model.nnc")
    assert refused.code == 18
    assert is_one_line(refused.err)
    refused = run("latest", "new", "release.nnc", *NEW[3:], "vendor.key")
    assert refused.code == 2
    assert "the release has no number" in refused.err


def test_state(run: Run) -> None:
    verify = ("verify", "second.nnc", *TRUST, "--state", "state")
    assert "the state file state is new" in run(*verify).err
    code, refused = answer(run, "verify", "first.nnc", *TRUST, "--state", "state")
    assert (code, refused["reason"]) == (18, "rollback")
    code, found = answer(run, *verify)
    assert code == 0
    assert "warnings" not in found
    Path("state").write_text("{}")
    refused_again = run(*verify)
    assert refused_again.code == 18
    assert is_one_line(refused_again.err)
    assert "put a copy back" in refused_again.err


def test_lowest_number(run: Run) -> None:
    assert run("verify", "second.nnc", *TRUST, "--release", "2").code == 0
    refused = run("verify", "second.nnc", *TRUST, "--release", "3")
    assert refused.code == 16
    assert "the release number is 2, expected 3 or higher" in refused.err


def test_countersigned(run: Run, key: nnguard.SigningKey) -> None:
    sign = ("sign", "second.nnc", "-o", "both.nnc", "--key", "other.key", "--countersign")
    assert run(*sign, "vendor.pub").code == 0
    both = ("verify", "both.nnc", *TRUST, "--trust", "other.pub")
    assert f"  and by      {key.public_key.id.hex()}\n" in run(*both).out
    _, found = answer(run, *both)
    assert [each["counts"] for each in found["signatures"]] == [True, True]
    assert run(*sign, "vendor.pub", "--name", "mine", "--force").code == 2
    assert run(*sign, "other.pub", "--force").code == 7
