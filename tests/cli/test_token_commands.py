"""Commands sign with a key in a token wherever they take a private key."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import nnguard
import samples
from nnguard._cli import main
from nnguard._crypto import token as token_module
from softhsm import MODULE, PIN, Token
from transcripts import Run, is_one_line


@pytest.fixture(autouse=True)
def pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGUARD_PIN", PIN)


@pytest.mark.parametrize("algorithm", ["ed25519", "p256", "p384"])
def test_token_signs_wherever_a_key_does(
    run: Run, token: Token, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("NNGUARD_LEDGER", "licenses.db")
    key = ("--key", token.uri(algorithm))
    trust = ("--trust", "token.pub")
    nnguard.Stream.from_bytes(samples.small_stream(weights=20_000)).save("large.nnc")
    commands = [
        ("keygen", "token", "--public-of", key[1]),
        ("keygen", "ada", "--identity"),
        ("sign", "large.nnc", "-o", "signed.nnc", *key),
        ("verify", "signed.nnc", *trust),
        (
            "lock",
            "signed.nnc",
            "-o",
            "demo.nnc",
            "--content-key",
            "d.key",
            "--soft",
            "--fraction",
            "0.01",
            *key,
        ),
        ("verify", "demo.nnc", "--allow-trial", *trust),
    ]
    for command in commands:
        result = run(*command)
        assert result.code == 0, result
    issued = ("license", "issue", "demo.nnc", *key, "--content-key", "d.key", "--to", "ada.pub")
    assert run(*issued, "-o", "ada.license").code == 0
    unlock = ("unlock", "demo.nnc", "-o", "full.nnc", "--license", "ada.license")
    assert run(*unlock, "--identity", "ada.key", *trust).code == 0
    assert Path("full.nnc").read_bytes() == Path("signed.nnc").read_bytes()
    assert run("license", "revoke", *key, "-o", "token.revoked").code == 0
    check = ("license", "check", "ada.license", *trust, "--revocations", "token.revoked")
    assert run(*check).code == 0


@pytest.mark.parametrize("algorithm", ["ed25519", "p256", "p384"])
def test_token_signs_policies_and_statements(run: Run, token: Token, algorithm: str) -> None:
    key, claims = ("--key", token.uri(algorithm)), ("--issuer", "acme.ai", "--name", "net")
    trust = ("--trust", "token.pub", "--root", "token.pub")
    nnguard.Stream.from_bytes(samples.small_stream(weights=20_000)).save("net.nnc")
    for command in (
        ("keygen", "token", "--public-of", key[1]),
        ("sign", "net.nnc", "-o", "signed.nnc", *key, *claims, "--release", "7"),
        ("latest", "new", "signed.nnc", "-o", "net.latest", "--expires", "30d", *key),
        ("policy", "new", "-o", "acme.toml", "--scope", "acme.ai/*", *trust),
        ("policy", "sign", "acme.toml", "-o", "acme.policy", *key),
        ("verify", "signed.nnc", "--policy", "acme.policy", "--latest", "net.latest"),
    ):
        result = run(*command)
        assert result.code == 0, result
    assert nnguard.TrustPolicy.load("acme.policy").message is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("token=vendor", "token=nobody"), "there is no such token"),
        (("object=ed25519", "object=none"), "there is no such private key"),
        (("object=ed25519", "object=two"), "2 private keys fit"),
        (("?module-path=", "?module-path=/no"), "is not a PKCS#11 library"),
        (("?module-path=", "?pin-value=1&module-path="), "which others see"),
        (("?module-path=", "?what="), "unknown or twice"),
    ],
)
def test_what_goes_wrong_is_one_line(
    run: Run, token: Token, change: tuple[str, str], said: str
) -> None:
    result = run("sign", "model.nnc", "-o", "x.nnc", "--key", token.uri("ed25519").replace(*change))
    assert result.code == 6
    assert is_one_line(result.err)
    assert said in result.err
    assert not Path("x.nnc").exists()


def second(token: Token) -> str:
    return token.uri("release").replace("token=vendor", "token=second")


def test_pin_is_asked_for(run: Run, token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    token_module._SESSIONS.clear()
    monkeypatch.delenv("NNGUARD_PIN")
    monkeypatch.setattr("nnguard._cli.keys._has_terminal", lambda: False)
    sign = ("sign", "model.nnc", "-o", "x.nnc", "--key", second(token))
    result = run(*sign)
    assert result.code == 6
    assert is_one_line(result.err)
    assert "needs a PIN; set NNGUARD_PIN" in result.err
    prompts = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return PIN

    monkeypatch.setattr("nnguard._cli.keys._has_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", answer)
    assert run(*sign).code == 0
    assert prompts == ["PIN of the token second: "]
    for session in token_module._SESSIONS.values():
        session.close()  # logs out, so that other tests need a PIN again
    token_module._SESSIONS.clear()


def test_wrong_pin(token: Token) -> None:
    """In a process of its own, where nobody has logged in."""
    command = [sys.executable, "-m", "nnguard", "sign", "model.nnc", "-o", "x.nnc"]
    done = subprocess.run(
        [*command, "--key", token.uri("ed25519")],
        env={**os.environ, "NNGUARD_PIN": "000000"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 6
    assert is_one_line(done.stderr)
    assert "the PIN is wrong; mind that tokens lock" in done.stderr
    assert "000000" not in done.stderr


def test_pin_in_a_file(token: Token, folder: Path) -> None:
    (folder / "pin").write_text(f"{PIN}\n")
    command = [sys.executable, "-m", "nnguard", "sign", "model.nnc", "-o", "x.nnc"]
    environment = {name: value for name, value in os.environ.items() if name != "NNGUARD_PIN"}
    uri = token.uri("ed25519", "&pin-source=file:pin")
    subprocess.run([*command, "--key", uri], env=environment, check=True, timeout=60)
    public = token_module.open_token(token.uri("ed25519")).public_key
    assert nnguard.verify("x.nnc", public).claims.name == ""


def test_token_has_no_passphrase(run: Run, token: Token, folder: Path) -> None:
    (folder / "secret").write_text("secret")
    key = ("--key", token.uri("ed25519"), "--passphrase-file", "secret")
    assert run("sign", "model.nnc", "-o", "x.nnc", *key).code == 2


def test_public_half_of_a_key_file(run: Run, folder: Path, key: nnguard.SigningKey) -> None:
    result = run("keygen", "again", "--public-of", "vendor.key")
    assert result.code == 0
    assert nnguard.PublicKey.load("again.pub") == key.public_key
    assert not Path("again.key").exists()
    assert run("keygen", "again", "--public-of", "vendor.key").code == 1
    wrong = ("keygen", "new", "--public-of", "vendor.key", "--algorithm", "p256")
    assert run(*wrong).code == 2


def test_page_shows_commands_that_run(
    token: Token, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of nnguard; the token's own tools are not ours."""
    token.generate("release-2026")
    page = Path(__file__).parents[2] / "docs" / "how-to" / "hardware-keys.md"
    joined = page.read_text(encoding="utf-8").replace("\\\n", "")
    commands = [line for line in joined.splitlines() if line.startswith("nnguard ")]
    assert len(commands) == 3
    monkeypatch.setenv("NNGUARD_PKCS11_MODULE", MODULE)
    Path("release.nnc").unlink()
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0
