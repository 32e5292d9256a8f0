"""`policy`: new, sign, show, check; and `--policy` in place of `--trust`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomllib

import nnguard
from transcripts import Result, Run, is_one_line

NEW = ("policy", "new", "--scope", "acme.ai/*", "--trust", "vendor.pub")


@pytest.fixture
def roots(folder: Path) -> None:
    for name in ("root-a", "root-b", "root-c"):
        key = nnguard.SigningKey.generate()
        key.save(folder / f"{name}.key")
        key.public_key.save(folder / f"{name}.pub")


def new(run: Run, name: str, *roots: str) -> Result:
    options = [word for root in roots for word in ("--root", f"{root}.pub")]
    return run(*NEW, "-o", name, *options, "--root-threshold", str(max(len(roots), 1)))


def refused(result: Result, code: int = 18) -> str:
    assert result.code == code
    assert is_one_line(result.err)
    return result.err


@pytest.mark.parametrize("name", ["policy.toml", "policy.json"])
def test_new_is_used_by_every_command(run: Run, name: str) -> None:
    assert new(run, name).code == 0
    assert run("verify", "release.nnc", "--policy", name).code == 0
    assert run("strip", "release.nnc", "-o", "bare.nnc", "--policy", name).code == 0
    done = run("decompress", "release.nnc", "-o", "weights.safetensors", "--policy", name)
    assert done.code == 0
    found = Path(name).read_text()
    assert (tomllib.loads(found) if name.endswith(".toml") else json.loads(found))["version"] == 1


def test_new_names_keys_as_their_files_are(run: Run, folder: Path) -> None:
    (folder / "keys").mkdir()
    for name in ("vendor.pub", "other.pub"):
        (folder / name).rename(folder / "keys" / name)
    done = run("policy", "new", "-o", "p.json", "--scope", "*/*", "--trust", "keys")
    assert done.code == 0
    assert json.loads(Path("p.json").read_text())["rules"][0]["keys"] == ["other", "vendor"]
    (folder / "vendor.pem").write_bytes((folder / "keys" / "vendor.pub").read_bytes())
    twice = run(
        "policy",
        "new",
        "-o",
        "q.json",
        "--scope",
        "*/*",
        "--trust",
        "keys",
        "--trust",
        "vendor.pem",
    )
    assert "have the same name" in refused(twice, 2)
    assert not Path("q.json").exists()


@pytest.mark.parametrize("missing", ["--scope", "--trust"])
def test_new_asks_for_what_it_needs(run: Run, missing: str) -> None:
    at = NEW.index(missing)
    done = run(*NEW[:at], *NEW[at + 2 :], "-o", "p.toml")
    assert f"{missing} is missing" in refused(done, 2)


def test_neither_trust_nor_policy(run: Run) -> None:
    assert "--trust is missing" in refused(run("verify", "release.nnc"), 2)
    new(run, "p.toml")
    both = run("verify", "release.nnc", "--trust", "vendor.pub", "--policy", "p.toml")
    assert "either trusted keys or a trust policy" in refused(both, 2)


def test_the_report_names_the_rule(run: Run) -> None:
    run(*NEW, "-o", "p.toml", "--level", "permissive")
    verify = ("verify", "release.nnc", "--policy", "p.toml")
    assert "  policy      version 1, acme.ai/*, permissive\n" in run(*verify).out
    told = json.loads(run(*verify, "--json").out)["policy"]
    digest = nnguard.TrustPolicy.load("p.toml").digest
    assert told == {
        "version": 1,
        "digest": digest,
        "scopes": ["acme.ai/*"],
        "level": "permissive",
    }
    assert digest in run("policy", "show", "p.toml").out
    assert "policy" not in json.loads(
        run("verify", "release.nnc", "--trust", "vendor.pub", "--json").out
    )


def test_a_refusal_as_json(run: Run) -> None:
    run("policy", "new", "-o", "p.toml", "--scope", "other/*", "--trust", "vendor.pub")
    done = run("verify", "release.nnc", "--policy", "p.toml", "--json")
    told = json.loads(done.out)
    assert (done.code, told["error"], told["reason"]) == (18, "PolicyError", "no-scope")


def test_warnings_are_shown(run: Run) -> None:
    new_and_expired(run, "audit")
    done = run("verify", "release.nnc", "--policy", "p.toml")
    assert done.code == 0
    assert done.err == "nnguard: the trust policy held until 2020-01-01T00:00:00+00:00 (audit)\n"
    assert run("verify", "release.nnc", "--policy", "p.toml", "--quiet").err == ""
    stripped = run("strip", "release.nnc", "-o", "bare.nnc", "--policy", "p.toml")
    assert "held until 2020" in stripped.err
    told = json.loads(run("verify", "release.nnc", "--policy", "p.toml", "--json").out)
    assert [warning["reason"] for warning in told["warnings"]] == ["policy-expired"]


@pytest.mark.usefixtures("roots")
def test_two_holders_sign(run: Run) -> None:
    new(run, "p.toml", "root-a", "root-b")
    first = run("policy", "sign", "p.toml", "-o", "a.policy", "--key", "root-a.key")
    assert "not in force yet: version 1 asks for signatures of 2" in first.out
    assert "nnguard policy sign" in refused(run("verify", "release.nnc", "--policy", "a.policy"))
    refused(run("policy", "check", "a.policy"))
    second = run(
        "policy", "sign", "a.policy", "-o", "a.policy", "--force", "--key", "root-b.key", "--json"
    )
    assert json.loads(second.out)["complete"]
    assert run("policy", "check", "a.policy").out == "Version 1 can be used: a.policy, signed\n"
    assert run("verify", "release.nnc", "--policy", "a.policy").code == 0


@pytest.mark.usefixtures("roots")
def test_root_keys_rotate(run: Run, folder: Path) -> None:
    new(run, "p.toml", "root-a")
    assert run("policy", "sign", "p.toml", "-o", "a.policy", "--key", "root-a.key").code == 0
    new(run, "q.json", "root-b")
    members = json.loads((folder / "q.json").read_text()) | {"version": 2}
    (folder / "q.json").write_text(json.dumps(members))
    step = ("policy", "sign", "-o", "b.policy", "--force")
    run(*step, "q.json", "--key", "root-a.key", "--after", "a.policy")
    assert "version 2 asks for" in refused(run("policy", "check", "b.policy"))
    run(*step, "b.policy", "--key", "root-b.key")
    assert run("policy", "check", "b.policy", "--after", "a.policy").code == 0
    assert "older one" in refused(run("policy", "check", "a.policy", "--after", "b.policy"))
    for name in ("a.policy", "b.policy"):
        done = run("verify", "release.nnc", "--policy", name, "--state", "machine.state")
        assert done.code == 0
    back = run("verify", "release.nnc", "--policy", "a.policy", "--state", "machine.state")
    assert "version 2 of the trust policy was in force" in refused(back)


@pytest.mark.usefixtures("roots")
def test_only_root_keys_sign(run: Run) -> None:
    new(run, "p.toml", "root-a")
    done = run("policy", "sign", "p.toml", "-o", "a.policy", "--key", "root-c.key")
    assert "is not a root key" in refused(done, 2)
    new(run, "q.toml")
    done = run("policy", "sign", "q.toml", "-o", "a.policy", "--key", "root-c.key")
    assert "add its root keys" in refused(done, 2)
    assert not Path("a.policy").exists()


def test_show(run: Run, key: nnguard.SigningKey) -> None:
    run(*NEW, "-o", "p.json", "--expires", "2030-01-01", "--root", "other.pub")
    members = json.loads(Path("p.json").read_text())
    members["keys"]["vendor"] |= {"revoked": True, "not_after": "2029-01-01"}
    members["rules"][0] |= {"min_version": "1", "min_release": 2, "latest": {"max_age": "7d"}}
    Path("p.json").write_text(json.dumps(members))
    shown = run("policy", "show", "p.json").out
    for text in (
        "Version 1 (not checked)",
        "expires at  2030-01-01",
        "root        1 of other",
        f"vendor: {key.public_key.id.hex()}, ed25519, until 2029-01-01T00:00:00+00:00, REVOKED",
        "rule        acme.ai/*",
        "strict, 1 of vendor",
        "version: 1 or later",
        "release: 2 or later",
        "latest: a statement not older than 7d",
    ):
        assert text in shown
    told = json.loads(run("policy", "show", "p.json", "--json").out)
    assert told["policy"]["keys"]["vendor"]["revoked"] is True


def test_check_names_what_is_likely_a_mistake(run: Run, folder: Path) -> None:
    run(*NEW, "-o", "p.json", "--expires", "10d", "--trust", "other.pub", "--root", "other.pub")
    members = json.loads((folder / "p.json").read_text())
    pem = nnguard.SigningKey.generate().public_key.pem.decode()
    members["keys"] |= {"idle": {"pem": pem}}
    members["keys"]["vendor"]["revoked"] = True
    members["rules"][0]["threshold"] = 2
    members["rules"].append(members["rules"][0] | {"scopes": ["acme.ai/x*", "b/*"]})
    (folder / "p.json").write_text(json.dumps(members))
    advice = json.loads(run("policy", "check", "p.json", "--json").out)["advice"]
    assert [said.partition(": ")[2] or said for said in advice] == [
        "sign its next version",
        "nothing can meet it: threshold 2, keys that still count: other",
        "rules[0] decides about acme.ai/x* before it",
        "nothing can meet it: threshold 2, keys that still count: other",
        "nobody has signed the policy yet, so that its root keys count for nothing",
        "root keys are best kept offline",
        "keys.idle is in no rule",
    ]


def new_and_expired(run: Run, level: str) -> None:
    """Write a policy of this level, `p.toml`, that has expired."""
    assert run(*NEW, "-o", "p.toml", "--force", "--level", level).code == 0
    file = Path("p.toml")
    file.write_text('expires = "2020-01-01"\n' + file.read_text())


def test_a_policy_that_has_expired_is_not_made(run: Run, folder: Path) -> None:
    result = run(*NEW, "-o", "p.toml", "--expires", "2020-01-01")
    assert (result.code, "is in the past" in refused(result, 2)) == (2, True)
    assert not (folder / "p.toml").exists()


@pytest.mark.usefixtures("roots")
def test_root_keys_that_have_not_signed_are_told(run: Run) -> None:
    run(*NEW, "-o", "p.toml", "--root", "root-a.pub")
    verify = run("verify", "release.nnc", "--policy", "p.toml")
    assert (verify.code, "its root keys count for nothing" in verify.err) == (0, True)
    warned = json.loads(run("verify", "release.nnc", "--policy", "p.toml", "--json").out)
    assert [warning["reason"] for warning in warned["warnings"]] == ["unsigned"]
    run("policy", "sign", "p.toml", "-o", "p.policy", "--key", "root-a.key")
    assert run("verify", "release.nnc", "--policy", "p.policy").err == ""


def test_check_refuses_what_verify_would(run: Run) -> None:
    for level, code in (("strict", 18), ("permissive", 0), ("audit", 0)):
        new_and_expired(run, level)
        checked = run("policy", "check", "p.toml")
        assert "held until 2020-01-01" in (refused(checked) if code else checked.out)
        assert checked.code == run("verify", "release.nnc", "--policy", "p.toml").code == code


def test_ages_are_said_as_policies_have_them(run: Run, folder: Path) -> None:
    run(*NEW, "-o", "p.json")
    members = json.loads((folder / "p.json").read_text())
    members["rules"][0]["latest"] = {"max_age": "36h"}
    (folder / "p.json").write_text(json.dumps(members))
    asked = run("verify", "release.nnc", "--policy", "p.json")
    assert "a statement not older than 36h is required" in refused(asked)
    assert "latest: a statement not older than 36h\n" in run("policy", "show", "p.json").out


@pytest.mark.usefixtures("roots")
def test_a_version_without_the_one_before_says_so(run: Run, folder: Path) -> None:
    new(run, "p.json", "root-a")
    signed = run("policy", "sign", "p.json", "-o", "a.policy", "--key", "root-a.key")
    assert "--after" not in signed.out
    members = json.loads((folder / "p.json").read_text()) | {"version": 2}
    (folder / "p.json").write_text(json.dumps(members))
    alone = ("policy", "sign", "p.json", "-o", "b.policy", "--key", "root-a.key")
    assert "version 1 is not in it: --after adds it" in run(*alone).out
    assert "--after" not in run(*alone, "--force", "--after", "a.policy").out


def test_a_key_that_ends_soon(run: Run, folder: Path) -> None:
    run(*NEW, "-o", "p.json")
    members = json.loads((folder / "p.json").read_text())
    members["keys"]["vendor"]["not_after"] = "2020-01-01"
    (folder / "p.json").write_text(json.dumps(members))
    assert "threshold 1, keys that still count: none" in run("policy", "check", "p.json").out


def test_a_typo_in_a_policy(run: Run, folder: Path) -> None:
    run(*NEW, "-o", "p.toml")
    text = (folder / "p.toml").read_text().replace("level =", "levels =")
    (folder / "p.toml").write_text(text)
    said = refused(run("verify", "release.nnc", "--policy", "p.toml"))
    assert "p.toml: rules[0].levels: unknown member; did you mean level?" in said
