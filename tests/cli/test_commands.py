"""The commands, as their users see them: files, lines, exit codes."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nnguard
import samples
import stock
from nnguard import errors
from nnguard._cli import keys, main, signing
from nnguard._cli.failures import EXIT_CODES, exit_code_of
from transcripts import Run, is_one_line

HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\u202eVerified: all"


def test_keygen_writes_a_pair(run: Run, folder: Path) -> None:
    result = run("keygen", "new")
    private = nnguard.SigningKey.load("new.key")
    assert nnguard.PublicKey.load("new.pub") == private.public_key
    assert (result.code, result.err) == (0, "")
    assert private.public_key.id.hex() in result.out
    assert stat.S_IMODE((folder / "new.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("algorithm", ["ed25519", "p256", "p384", "ml-dsa-65", "ml-dsa-87"])
def test_keygen_of_each_algorithm(run: Run, algorithm: str) -> None:
    nnguard.Stream.from_bytes(samples.small_stream(weights=6000)).save("large.nnc")
    assert run("keygen", "new", "--algorithm", algorithm).code == 0
    assert run("sign", "large.nnc", "-o", "new.nnc", "--key", "new.key").code == 0
    result = run("verify", "new.nnc", "--trust", "new.pub")
    assert result.code == 0
    assert f"({algorithm})" in result.out


def test_keygen_of_no_algorithm(run: Run) -> None:
    result = run("keygen", "new", "--algorithm", "rsa")
    assert (result.code, "is one of ed25519, p256, p384, ml-dsa-65" in result.err) == (2, True)
    assert not Path("new.key").exists()
    result = run("keygen", "new", "--algorithm", "p256", "--identity")
    assert result.code == 2
    assert "leave out --identity" in result.err


def test_keygen_overwrites_only_by_force(run: Run, folder: Path) -> None:
    before = (folder / "vendor.key").read_bytes()
    result = run("keygen", "vendor")
    assert result.code == 1
    assert "exists already" in result.err
    assert (folder / "vendor.key").read_bytes() == before
    assert run("keygen", "vendor", "--force").code == 0
    assert (folder / "vendor.key").read_bytes() != before


def test_keygen_leaves_no_key_without_its_half(run: Run, folder: Path) -> None:
    (folder / "new.pub").write_text("mine")
    assert run("keygen", "new").code == 1
    assert not (folder / "new.key").exists()
    assert (folder / "new.pub").read_text() == "mine"


def test_passphrase_from_a_file(run: Run, folder: Path) -> None:
    (folder / "secret").write_bytes("pässword\r\nsecond line\n".encode())
    assert run("keygen", "new", "--passphrase-file", "secret").code == 0
    assert b"ENCRYPTED" in (folder / "new.key").read_bytes()
    assert nnguard.SigningKey.load("new.key", passphrase="pässword")
    sign = ("sign", "model.nnc", "-o", "out.nnc", "--key", "new.key")
    assert run(*sign, "--passphrase-file", "secret").code == 0
    (folder / "wrong").write_text("guess\n")
    result = run(*sign, "--force", "--passphrase-file", "wrong")
    assert result.code == 6
    assert "passphrase" in result.err


def test_passphrase_that_is_empty_is_refused(run: Run, folder: Path) -> None:
    (folder / "secret").write_text("\n")
    assert run("keygen", "new", "--passphrase-file", "secret").code == 6
    assert not (folder / "new.key").exists()


def test_passphrase_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "secret"

    monkeypatch.setattr("getpass.getpass", answer)
    monkeypatch.setattr(keys, "_has_terminal", lambda: True)
    assert run("keygen", "new", "--protect").code == 0
    assert len(asked) == 2
    assert run("sign", "model.nnc", "-o", "out.nnc", "--key", "new.key").code == 0
    assert "new.key" in asked[2]


def test_passphrases_that_differ_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["a", "b"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    monkeypatch.setattr(keys, "_has_terminal", lambda: True)
    assert run("keygen", "new", "--protect").code == 6
    assert not Path("new.key").exists()


def test_sign_verify_strip(run: Run, folder: Path, key: nnguard.SigningKey) -> None:
    claims = ("--issuer", "acme.ai", "--name", "digits", "--version", "1.0", "--meta", "git=4f=2")
    signing = run("sign", "model.nnc", "-o", "out.nnc", "--key", "vendor.key", *claims)
    assert (signing.code, signing.err) == (0, "")
    assert key.public_key.id.hex() in signing.out
    assert "out.nnc" in signing.out
    verifying = run("verify", "out.nnc", "--trust", "vendor.pub")
    assert (verifying.code, verifying.err) == (0, "")
    assert verifying.out.startswith("Verified: out.nnc\n")
    for shown in ("acme.ai", "digits", "1.0", "git=4f=2", key.public_key.id.hex()):
        assert shown in verifying.out
    stripping = run("strip", "out.nnc", "-o", "original.nnc", "--trust", "vendor.pub")
    assert (stripping.code, stripping.err) == (0, "")
    assert (folder / "original.nnc").read_bytes() == (folder / "model.nnc").read_bytes()


def test_trust_may_be_a_folder_or_several_files(run: Run, folder: Path) -> None:
    (folder / "trust").mkdir()
    (folder / "trust" / "a.pub").write_bytes((folder / "other.pub").read_bytes())
    assert run("verify", "release.nnc", "--trust", "trust").code == 7
    assert run("verify", "release.nnc", "--trust", "trust", "--trust", "vendor.pub").code == 0
    (folder / "trust" / "b.pem").write_bytes((folder / "vendor.pub").read_bytes())
    assert run("verify", "release.nnc", "--trust", "trust").code == 0


@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        ("verify missing.nnc --trust vendor.pub", 1, "FileNotFoundError"),
        ("verify release.nnc --trust missing.pub", 1, "FileNotFoundError"),
        ("sign model.nnc -o release.nnc --key vendor.key", 1, "FileExistsError"),
        ("sign model.nnc -o no/such/folder.nnc --key vendor.key", 1, "FileNotFoundError"),
        ("verify vendor.pub --trust vendor.pub", 3, "FormatError"),
        ("inspect vendor.pub", 3, "FormatError"),
        ("capacity vendor.pub", 3, "FormatError"),
        ("attach model.nnc -o out.nnc --payload large", 4, "CapacityError"),
        ("verify model.nnc --trust vendor.pub", 5, "NoRecordError"),
        ("strip model.nnc -o out.nnc --trust vendor.pub", 5, "NoRecordError"),
        ("detach release.nnc -o out.nnc --payload out.bin", 5, "NoRecordError"),
        ("verify release.nnc --trust model.nnc", 6, "KeyFormatError"),
        ("verify release.nnc --trust vendor.key", 6, "KeyFormatError"),
        ("sign model.nnc -o out.nnc --key vendor.pub", 6, "KeyFormatError"),
        ("verify release.nnc --trust other.pub", 7, "WrongKeyError"),
        ("strip release.nnc -o out.nnc --trust other.pub", 7, "WrongKeyError"),
        ("verify changed.nnc --trust vendor.pub", 8, "VerificationError"),
        ("strip changed.nnc -o out.nnc --trust vendor.pub", 8, "VerificationError"),
    ],
)
def test_failures(run: Run, folder: Path, command: str, code: int, error: str) -> None:
    (folder / "large").write_bytes(bytes(1 << 16))
    units = samples.split((folder / "release.nnc").read_bytes())
    at = next(index for index, unit in enumerate(units) if b"conv.bias" in unit)
    units[at] = units[at][:-1] + bytes([units[at][-1] ^ 1])
    (folder / "changed.nnc").write_bytes(b"".join(units))
    before = sorted(path.name for path in folder.iterdir())

    result = run(*command.split())
    assert result.code == code
    assert result.out == ""
    assert is_one_line(result.err)

    result = run(*command.split(), "--json")
    assert result.code == code
    assert result.err == ""
    failure = json.loads(result.out)
    assert (failure["ok"], failure["error"]) == (False, error)
    assert failure["message"]
    assert sorted(path.name for path in folder.iterdir()) == before, "nothing is written"


def test_every_family_has_a_code_of_its_own() -> None:
    families = [*errors.NnguardError.__subclasses__(), errors.ClaimsError]
    arguments: dict[type, dict[str, Any]] = {
        errors.CapacityError: {"needed": 1, "available": 0},
        errors.LicenseError: {"reason": errors.Refusal.EXPIRED},
        errors.ActivationError: {"reason": errors.ActivationReason.NO_SEATS},
    }
    codes = [exit_code_of(family("", **arguments.get(family, {}))) for family in families]
    assert sorted(codes) == [*range(2, 18), 19]  # PolicyError is a kind of another
    assert set(codes) < set(EXIT_CODES)


def test_changed_tensors_are_named(run: Run, folder: Path) -> None:
    assert run("sign", "model.nnc", "-o", "out.nnc", "--key", "vendor.key", "--localize").code == 0
    data = (folder / "out.nnc").read_bytes()
    units = samples.split(data)
    at = next(index for index, unit in enumerate(units) if b"conv.bias" in unit)
    units[at] = units[at][:-1] + bytes([units[at][-1] ^ 1])
    (folder / "out.nnc").write_bytes(b"".join(units))
    result = run("verify", "out.nnc", "--trust", "vendor.pub", "--json")
    assert result.code == 8
    assert json.loads(result.out)["tensors"] == ["conv.bias"]
    other = run("verify", "release.nnc", "--trust", "other.pub", "--json")
    assert "tensors" not in json.loads(other.out)  # nothing was changed
    assert "conv.bias" in run("verify", "out.nnc", "--trust", "vendor.pub").err


@pytest.mark.parametrize(
    "command",
    [
        "keygen",
        "verify release.nnc",
        "sign model.nnc -o out.nnc",
        "sign model.nnc -o out.nnc --key vendor.key --meta nothing",
        "unknown",
        "",
    ],
)
def test_wrong_usage(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    printed = capsys.readouterr().err
    assert is_one_line(printed) or (not command and printed.startswith("Usage: nnguard COMMAND"))


def test_wrong_usage_as_json(run: Run) -> None:
    result = run("verify", "release.nnc", "--trst", "vendor.pub", "--json")
    assert (result.code, result.err) == (2, "")
    failure = json.loads(result.out)
    assert (failure["ok"], failure["error"]) == (False, "NoSuchOption")
    assert failure["hint"].startswith("did you mean --trust")


def test_bug_shows_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("ours")

    monkeypatch.setattr(nnguard, "verify", fail)
    result = run("verify", "release.nnc", "--trust", "vendor.pub")
    assert (result.code, result.out) == (70, "")
    assert "Traceback" in result.err
    assert "ValueError: ours" in result.err
    assert result.err.splitlines()[-1].startswith("nnguard: this is a bug in nnguard")


def test_json_of_every_command(run: Run, folder: Path, key: nnguard.SigningKey) -> None:
    (folder / "card.md").write_text("# Card\n")
    commands = {
        "keygen new": {"ok", "key_id", "private_key", "public_key"},
        "sign model.nnc -o a.nnc --key vendor.key": {"ok", "file", "key_id", "size"},
        "verify a.nnc --trust vendor.pub": {"ok", "claims", "key_id", "digest", "nested"},
        "strip a.nnc -o b.nnc --trust vendor.pub": {"ok", "file", "size"},
        "attach model.nnc -o c.nnc --payload card.md": {"ok", "file", "size"},
        "inspect c.nnc": {"ok", "size", "units", "records", "note"},
        "detach c.nnc -o d.nnc --payload card2.md": {"ok", "file", "payload", "media_type"},
        "capacity model.nnc": {"ok", "bits", "tensors"},
    }
    for command, fields in commands.items():
        result = run(*command.split(), "--json")
        assert (result.code, result.err) == (0, ""), command
        printed = json.loads(result.out)
        assert printed["ok"] is True
        assert fields <= set(printed), command
    assert (
        json.loads(run("verify", "a.nnc", "--trust", "vendor.pub", "--json").out)["key_id"]
        == key.public_key.id.hex()
    )


def test_attach_and_detach(run: Run, folder: Path) -> None:
    (folder / "card.html").write_bytes(b"<p>Digits")
    assert run("attach", "model.nnc", "-o", "out.nnc", "--payload", "card.html").code == 0
    inspected = run("inspect", "out.nnc")
    assert "text/html" in inspected.out
    assert "not verified" in inspected.out
    result = run("detach", "out.nnc", "-o", "original.nnc", "--payload", "copy.html")
    assert result.code == 0
    assert "not signed" in result.out
    assert (folder / "copy.html").read_bytes() == b"<p>Digits"
    assert (folder / "original.nnc").read_bytes() == (folder / "model.nnc").read_bytes()


def test_detach_overwrites_neither_file(run: Run, folder: Path) -> None:
    (folder / "card").write_bytes(b"card")
    run("attach", "model.nnc", "-o", "out.nnc", "--payload", "card")
    for output, payload in (("vendor.pub", "copy"), ("original.nnc", "vendor.pub")):
        before = (folder / "vendor.pub").read_bytes()
        assert run("detach", "out.nnc", "-o", output, "--payload", payload).code == 1
        assert (folder / "vendor.pub").read_bytes() == before
        assert not (folder / "copy").exists()
        assert not (folder / "original.nnc").exists()


def test_output_may_be_the_input(run: Run, folder: Path) -> None:
    before = (folder / "model.nnc").read_bytes()
    assert run("sign", "model.nnc", "-o", "model.nnc", "--key", "vendor.key", "--force").code == 0
    assert run("verify", "model.nnc", "--trust", "vendor.pub").code == 0
    assert run("strip", "model.nnc", "-o", "model.nnc", "--trust", "vendor.pub", "-f").code == 0
    assert (folder / "model.nnc").read_bytes() == before


def test_inspect_shows_units_and_records(run: Run, key: nnguard.SigningKey) -> None:
    shown = run("inspect", "release.nnc").out
    assert shown.startswith("release.nnc: an NNCodec stream of ")
    assert "conv.steps" not in shown, "a summary"
    shown = run("inspect", "release.nnc", "--tensors").out
    for text in ("conv.weight", "30x10x10", "TCQ", "conv.steps", "INT", "MPS[1]"):
        assert text in shown
    assert "signature" in shown
    assert key.public_key.id.hex() in shown
    assert "not verified" in shown
    assert "none: it is not signed" in run("inspect", "model.nnc").out


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_inspect_plots(run: Run, folder: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    picture = folder / f"carrier.{suffix}"
    assert run("inspect", "release.nnc", "--plot", picture).code == 0
    assert picture.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    assert run("inspect", "release.nnc", "--plot", picture).code == 1
    assert run("inspect", "release.nnc", "--plot", picture, "--force").code == 0
    assert run("inspect", "model.nnc", "--plot", folder / "other.png").code == 0


def test_capacity_counts_bits(run: Run) -> None:
    printed = json.loads(run("capacity", "model.nnc", "--json").out)
    assert [tensor["name"] for tensor in printed["tensors"]] == ["conv.weight"]
    assert 1000 < printed["places"] < 3000
    assert printed["bits"] == 16 * printed["places"]
    said = run("capacity", "model.nnc").out
    assert f"{printed['places'] // 8:,} bytes at one bit in each" in said
    assert f"{printed['bits'] // 8:,} bytes at most" in said


def test_hostile_names_are_printed_harmlessly(run: Run, folder: Path) -> None:
    arrays = {HOSTILE: samples.small_network()["conv.weight"]}
    (folder / "hostile.nnc").write_bytes(stock.encode(arrays, qp=-20))
    sign = ("sign", "hostile.nnc", "-o", "out.nnc", "--key", "vendor.key", "--localize")
    assert run(*sign, "--name", HOSTILE).code == 0
    commands = (
        "inspect hostile.nnc --tensors",
        "inspect out.nnc --tensors",
        "capacity hostile.nnc",
        "verify out.nnc --trust vendor.pub",
        "inspect out.nnc --json",
        "verify out.nnc --trust vendor.pub --json",
    )
    for command in commands:
        result = run(*command.split())
        assert result.code == 0
        assert not set("\x1b\x07\r\u202e") & set(result.out), command
        assert "Verified: all" not in result.out.splitlines()
        assert "x1b" in result.out or "u001b" in result.out


def test_help_has_an_example_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ["keygen", "sign", "verify", "strip", "attach", "detach", "inspect", "capacity"]:
        assert main([command, "--help"]) == 0
        assert f"  nnguard {command} " in capsys.readouterr().out


def test_process_prints_results_and_failures_apart() -> None:
    done = samples.run_process("verify", "release.nnc", "--trust", "vendor.pub")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"Verified: release.nnc")
    done = samples.run_process("verify", "model.nnc", "--trust", "vendor.pub")
    assert (done.returncode, done.stdout) == (5, b"")
    assert done.stderr.startswith(b"nnguard: the stream is not signed")
    done = samples.run_process("--version")
    assert done.stdout.decode().strip() == f"nnguard {nnguard.__version__}"


def test_import_loads_neither_torch_nor_nncodec() -> None:
    code = (
        "import sys, nnguard; "
        "loaded = [getattr(nnguard, name) for name in nnguard.__all__]; "
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in"
        " ('torch', 'nncodec', 'pandas', 'matplotlib', 'cwt')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


WITHOUT_NNCODEC = """
import sys
sys.modules["nncodec"] = None  # as if it were not installed
from nnguard._cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_nothing_needs_nncodec(folder: Path) -> None:
    def run(*command: str) -> subprocess.CompletedProcess[str]:
        python = [sys.executable, "-c", WITHOUT_NNCODEC]
        return subprocess.run([*python, *command], capture_output=True, text=True, check=False)

    assert "Usage: nnguard" in run("--help").stdout
    for command in (
        "decompress model.nnc -o model.safetensors",
        "compress model.safetensors -o new.nnc --qp=-20",
        "sign new.nnc -o signed.nnc --key vendor.key",
        "verify signed.nnc --trust vendor.pub",
        "strip signed.nnc -o original.nnc --trust vendor.pub",
        "lock signed.nnc -o trial.nnc --content-key content.key --key vendor.key",
        "attach model.nnc --payload vendor.pub -o card.nnc",
        "inspect trial.nnc",
        "capacity trial.nnc",
    ):
        done = run(*command.split())
        assert (done.returncode, done.stderr) == (0, ""), command
    assert (folder / "original.nnc").read_bytes() == (folder / "new.nnc").read_bytes()


def test_only_what_the_standard_has_besides_needs_nncodec(
    folder: Path, key: nnguard.SigningKey
) -> None:
    data = (folder / "model.nnc").read_bytes() + samples.data_unit("codes", codebook=True)
    nnguard.sign(nnguard.Stream.from_bytes(data), key).save("codes.nnc")
    command = ["decompress", "codes.nnc", "-o", "out.safetensors"]
    python = [sys.executable, "-c", WITHOUT_NNCODEC]
    for trust, hint in (
        ([], "nnguard hands it only what it has verified"),
        (["--trust", "vendor.pub"], 'pip install "nnguard[nncodec]"'),
    ):
        done = subprocess.run(
            [*python, *command, *trust], capture_output=True, text=True, check=False
        )
        assert done.returncode == 3
        assert "tools of the standard that nnguard does not decode" in done.stderr
        assert hint in done.stderr
        assert not (folder / "out.safetensors").exists()


# Where there are only large tensors


def test_signing_says_what_large_carriers_cost(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, key: nnguard.SigningKey
) -> None:
    """One line before the key signs; the estimate is not far off."""
    monkeypatch.setattr(signing, "_MANY_WEIGHTS", 2999)
    sign = ("sign", "model.nnc", "-o", "out.nnc", "--key", "vendor.key")
    result = run(*sign)
    assert result.code == 0
    assert result.out.startswith("Signed with key ")
    assert result.err == (
        "nnguard: no small tensors for the signature: every verification will decode 3,000 "
        "weights, and the file grows by some 375 bytes\n"
    )
    grown = (folder / "out.nnc").stat().st_size - (folder / "model.nnc").stat().st_size
    assert 375 / 2 < grown < 375 * 2
    result = run(*sign, "--force", "--json")
    assert json.loads(result.out)["ok"] is True
    assert "decode 3,000 weights" in result.err

    def refuse(*_: object) -> bytes:
        raise ValueError("no, thank you")

    monkeypatch.setattr(nnguard.SigningKey, "sign", refuse)
    assert "decode 3,000 weights" in run(*sign, "--force").err, "it can still be called off"


def test_signing_says_nothing_of_small_carriers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "_MANY_WEIGHTS", 3000)
    assert run("sign", "model.nnc", "-o", "out.nnc", "--key", "vendor.key").err == ""
