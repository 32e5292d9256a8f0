"""What spares people a detour: several files, standard input, quiet, passphrases, completion."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

import nnguard
import samples
from nnguard._cli.options import read_duration, read_time
from transcripts import Result, Run, is_one_line

VERIFY = ("verify", "release.nnc", "--trust", "vendor.pub")
SIGN = ("sign", "model.nnc", "-o", "out.nnc", "--key")


def piped(*command: str, given: bytes = b"", **environment: str) -> Result:
    """Run a command in a process that has no terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "nnguard", *command],
        input=given,
        capture_output=True,
        check=False,
        env=os.environ | environment,
        start_new_session=True,
        timeout=60,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


# Verifying


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        ("--name small --issuer acme.ai --version 1.0", 0),
        ("--version >=0.9,<2", 0),
        ("--issued-after 2020-01-01", 0),
        ("--name large", 16),
        ("--issuer acme.com", 16),
        ("--version 1.1", 16),
        ("--version >=1.1", 16),
        ("--issued-after 2090-01-01", 16),
        ("--issued-after 1d", 2),
        ("--version >=x", 2),
    ],
)
def test_verify_says_what_was_expected(run: Run, expected: str, code: int) -> None:
    result = run(*VERIFY, *expected.split())
    assert result.code == code
    assert is_one_line(result.err) == bool(code)
    if code == 16:
        assert json.loads(run(*VERIFY, *expected.split(), "--json").out)["error"] == "ClaimsError"


@pytest.mark.parametrize("option", ["--name", "--issuer", "--version", "--issued-after"])
def test_verify_does_not_take_nothing_for_no_expectation(run: Run, option: str) -> None:
    result = run(*VERIFY, option, "")
    assert (result.code, is_one_line(result.err)) == (2, True)


def test_verify_takes_several_files(run: Run, folder: Path) -> None:
    shutil.copy("release.nnc", "copy.nnc")
    verify = ("verify", "release.nnc", "model.nnc", "copy.nnc", "--trust", "vendor.pub")
    result = run(*verify)
    assert (result.code, is_one_line(result.err)) == (5, True)
    assert result.err.startswith("nnguard: model.nnc: the stream is not signed")
    assert result.out.splitlines() == [
        "Verified: release.nnc acme.ai small 1.0",
        "Verified: copy.nnc acme.ai small 1.0",
    ]
    printed = json.loads(run(*verify, "--json").out)
    assert printed["ok"] is False
    assert {name: each["ok"] for name, each in printed["files"].items()} == {
        "release.nnc": True,
        "model.nnc": False,
        "copy.nnc": True,
    }
    assert run("verify", "release.nnc", "copy.nnc", "--trust", "vendor.pub").code == 0
    assert run("verify", "no.nnc", "model.nnc", "--trust", "vendor.pub").code == 1, "the first"


def test_standard_input(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def give(name: str) -> None:
        data = SimpleNamespace(buffer=io.BytesIO((folder / name).read_bytes()))
        monkeypatch.setattr(sys, "stdin", data)

    give("release.nnc")
    result = run("verify", "-", "--trust", "vendor.pub")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Verified: standard input\n")
    give("release.nnc")
    assert run("inspect", "-").out.startswith("standard input: an NNCodec stream of ")
    give("model.nnc")
    assert run("verify", "-", "--trust", "vendor.pub").code == 5


def test_pipes() -> None:
    data = Path("release.nnc").read_bytes()
    assert piped("verify", "-", "--trust", "vendor.pub", given=data).code == 0
    assert piped("verify", "-", "--trust", "vendor.pub").code == 3, "nothing came"
    python = f"{sys.executable} -m nnguard inspect release.nnc --tensors"
    script = f"{{ {python}; echo $? >&2; }} | true"
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False, text=True)
    assert done.stderr in ("141\n", "0\n"), "no words; 0 where all was written before"


# How much is said


def test_quiet(run: Run) -> None:
    assert run(*VERIFY, "--quiet") == Result(0, "", "")
    assert run("keygen", "new", "-q") == Result(0, "", "")
    failure = run("verify", "model.nnc", "--trust", "vendor.pub", "-q")
    assert (failure.code, failure.out, is_one_line(failure.err)) == (5, "", True)


def test_verbose(run: Run) -> None:
    result = run(*VERIFY, "-v")
    assert (result.code, result.err.startswith("nnguard: this took ")) == (0, True)
    result = run("verify", "model.nnc", "--trust", "vendor.pub", "--verbose")
    assert (result.code, "Traceback" in result.err) == (5, True)
    assert is_one_line(result.err.splitlines(keepends=True)[-1])


def test_inspect_begins_with_a_summary(run: Run) -> None:
    summary = run("inspect", "release.nnc").out.splitlines()
    assert summary[0].startswith("release.nnc: an NNCodec stream of ")
    assert [line.split()[0] for line in summary[1:4]] == ["tensors", "coded", "record"]
    listed = run("inspect", "release.nnc", "--tensors").out.splitlines()
    assert listed[: len(summary)] == summary
    assert listed[len(summary)].split() == [
        "tensor",
        "or",
        "unit",
        "coded",
        "as",
        "shape",
        "size",
        "(bytes)",
    ]
    assert len(set(map(len, listed[len(summary) :]))) == 1, "sizes stand below each other"


def test_plot_of_a_stream_without_a_record(run: Run, folder: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run("inspect", "model.nnc", "--plot", "carrier.png")
    assert (result.code, result.err) == (0, "")
    assert (folder / "carrier.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colors_only_where_they_are_wanted(environment: dict[str, str], colored: bool) -> None:
    ours, theirs = pty.openpty()
    usual = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    done = subprocess.run(
        [sys.executable, "-m", "nnguard", "verify", "model.nnc", "--trust", "vendor.pub"],
        env=usual | {"TERM": "xterm"} | environment,
        stderr=theirs,
        check=False,
    )
    os.close(theirs)
    said = os.read(ours, 4096)
    os.close(ours)
    assert (done.returncode, b"\x1b[" in said) == (5, colored)
    assert b"\x1b[" not in piped("verify", "model.nnc", "--trust", "vendor.pub").err.encode()


# Passphrases


@pytest.fixture
def protected(key: nnguard.SigningKey, folder: Path) -> str:
    key.save("protected.key", passphrase="secret")
    return "protected.key"


def test_passphrase_from_the_environment(
    run: Run, protected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNGUARD_PASSPHRASE", "secret")
    assert run(*SIGN, protected).code == 0
    assert run(*SIGN, "vendor.key", "--force").code == 0, "which has none"
    assert run("keygen", "new").code == 0
    assert nnguard.SigningKey.load("new.key", passphrase="secret")
    monkeypatch.setenv("NNGUARD_PASSPHRASE", "guess")
    result = run(*SIGN, protected, "--force")
    assert (result.code, is_one_line(result.err)) == (6, True)
    assert "guess" not in result.err


def test_nobody_waits_for_a_passphrase(protected: str) -> None:
    """Neither for the terminal that there is not, nor for what may come through a pipe."""
    for command in ((*SIGN, protected), ("keygen", "new", "--protect")):
        result = piped(*command, given=b"secret\n")
        assert (result.code, result.out) == (6, "")
        assert is_one_line(result.err)
        assert "NNGUARD_PASSPHRASE" in result.err
    assert not Path("new.key").exists()


def test_passphrase_is_asked_for_on_a_terminal(protected: str) -> None:
    number, terminal = pty.fork()
    if not number:
        os.execv(sys.executable, [sys.executable, "-m", "nnguard", *SIGN, protected])
    shown = b""
    while b"Passphrase of protected.key: " not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"secret\n")
    _, status = os.waitpid(number, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert Path("out.nnc").exists()


# Selling


def test_selling_needs_no_ledger_and_makes_no_file_unasked(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NNGUARD_LEDGER", raising=False)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=20_000))
    nnguard.sign(model, "vendor.key").save("release.nnc", overwrite=True)
    commands = {
        "keygen ada --identity": {"ada.key", "ada.pub"},
        "lock release.nnc -o trial.nnc --content-key content.key": {"trial.nnc", "content.key"},
        "license issue trial.nnc -o ada.license --key vendor.key --content-key content.key "
        "--to ada.pub --expires 30d --grace 2w": {"ada.license"},
        "license show ada.license": set(),
        "license check ada.license --trust vendor.pub": set(),
        "unlock trial.nnc -o full.nnc --license ada.license --identity ada.key "
        "--trust vendor.pub": {"full.nnc"},
    }
    for command, made in commands.items():
        before = {path.name for path in folder.iterdir()}
        result = run(*command.split())
        assert (result.code, result.err) == (0, ""), command
        assert {path.name for path in folder.iterdir()} - before == made
    terms = nnguard.licensing.License.load("ada.license").terms
    assert terms.grace == timedelta(weeks=2)
    assert terms.expires_at is not None
    left = terms.expires_at - datetime.now(timezone.utc)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)


def test_lengths_of_time() -> None:
    assert read_duration("7") == read_duration("7d") == timedelta(days=7)
    assert read_duration("36h") == timedelta(hours=36)
    assert read_duration("1.5w") == timedelta(days=10.5)
    for text in ("", "d", "-1d", "7 d", "7m", "1e3", "nan", "9" * 30):
        with pytest.raises(ValueError, match="7d, 12h or 2w"):
            read_duration(text)
    for text in ("soon", "9" * 30 + "d", "99999999d"):
        with pytest.raises(ValueError, match=r"2027-12-31|7d, 12h or 2w|too far out"):
            read_time(text)


def test_score_before_and_after_a_fraction(run: Run, folder: Path) -> None:
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=20_000))
    model.save("large.nnc")
    (folder / "score.py").write_text("score = lambda w: float((w['conv.weight'] > 0).mean())\n")
    lock = ("lock", "large.nnc", "-o", "t.nnc", "--content-key", "c.key", "--soft")
    result = run(*lock, "--fraction", "0.01", "--evaluate", "score.py:score")
    assert result.code == 0
    assert result.err == (
        "nnguard: large.nnc is not signed, nor will what a license opens be: sign it first\n"
    )
    assert "200 weights replaced (1.0000 %), score 0." in result.out
    assert " -> 0." in result.out


def test_fraction_that_does_not_fit_is_an_error(run: Run, folder: Path) -> None:
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=20_000))
    model.save("large.nnc")
    lock = ("lock", "large.nnc", "-o", "t.nnc", "--content-key", "c.key", "--soft")
    result = run(*lock, "--fraction", "1")
    assert (result.code, is_one_line(result.err)) == (15, True)
    assert "give a fraction of 0.2" in result.err
    assert not (folder / "t.nnc").exists()


def test_search_shows_how_it_goes(run: Run, folder: Path) -> None:
    """Evaluations, the best so far, and what is left."""
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=20_000))
    model.save("large.nnc")
    (folder / "score.py").write_text(
        "import numpy as np\n"
        "from nnguard import decompress\n"
        "FULL = decompress('large.nnc')['conv.weight']\n"
        "def score(weights):\n"
        "    return 1 - 50 * float(np.mean(np.sign(weights['conv.weight']) != np.sign(FULL)))\n"
    )
    lock = ("lock", "large.nnc", "-o", "t.nnc", "--content-key", "c.key", "--soft")
    result = run(*lock, "--target", "0.8", "--evaluate", "score.py:score")
    assert result.code == 0, result.err
    lines = result.err.splitlines()
    assert lines[0].startswith("nnguard: evaluation 1, 0.0000 % replaced: score 1 (best 1, target")
    assert any(" more, " in line for line in lines[1:])
    assert "score 1 -> 0.8" in result.out or "score 1 -> 0.79" in result.out
    assert run(*lock, "--target", "80", "--evaluate", "score.py:score", "-f").err.endswith(
        "did you mean 0.8?\n"
    )
    quiet = run(*lock, "--target", "0.8", "--evaluate", "score.py:score", "-f", "-q")
    assert quiet == Result(0, "", "")


# Folders and shells


def test_side_files_are_named(run: Run, folder: Path) -> None:
    (folder / "model").mkdir()
    weights = np.random.default_rng(2).normal(0, 0.05, (80, 100)).astype(np.float32)
    save_file({"w": weights}, folder / "model" / "m.safetensors")
    index = json.dumps({"weight_map": {"w": "m.safetensors"}})
    (folder / "model" / "model.safetensors.index.json").write_text(index)
    for name in ("config.json", "model.onnx"):
        (folder / "model" / name).write_text("{}")
    result = run("compress", "model", "-o", "streams", "--qp", "-20")
    assert "  left out: model.onnx: " in result.out
    assert (folder / "streams" / "config.json").exists()
    assert run("sign", "streams", "-o", "release", "--key", "vendor.key").code == 0
    assert "NOT covered" not in run("verify", "release", "--trust", "vendor.pub").out
    for name in ("notes.md", "tokenizer.json"):
        (folder / "release" / name).write_text("{}")
    result = run("verify", "release", "--trust", "vendor.pub")
    assert result.code == 0
    assert "  2 files are NOT covered by the signature: notes.md, tokenizer.json\n" in result.out
    printed = json.loads(run("verify", "release", "--trust", "vendor.pub", "--json").out)
    assert printed["not_covered"] == ["notes.md", "tokenizer.json"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert (result.code, result.err) == (0, "")
    assert f"_NNGUARD_COMPLETE={shell}_complete" in result.out


def test_completion_completes_commands_and_options() -> None:
    def complete(words: str) -> list[str]:
        count = str(len(words.split(" ")) - 1)
        asked = {"COMP_WORDS": words, "COMP_CWORD": count, "_NNGUARD_COMPLETE": "bash_complete"}
        return [line.split(",")[1] for line in piped(**asked).out.split()]

    assert complete("nnguard ve") == ["verify"]
    assert complete("nnguard license rev") == ["revoke"]
    assert complete("nnguard verify --al") == ["--allow-trial"]


def test_help_groups_commands_by_who_uses_them(run: Run) -> None:
    shown = run("--help").out
    places = [
        shown.index(heading) for heading in ("Vendors", "Deployments", "Sellers", "Customers")
    ]
    assert places == sorted(places)
    assert shown.index("Deployments") < shown.index("  verify ") < shown.index("Sellers")
    for option in ("-h", "--help"):
        assert run("verify", option).out.startswith("Usage: nnguard verify ")


def test_help_is_a_word_too(run: Run) -> None:
    for words in ("verify", "license issue", ""):
        asked = run(*f"help {words}".split())
        assert (asked.code, asked.out) == (0, run(*f"{words} --help".split()).out)


@pytest.mark.parametrize("name", ["third.key", "third.pub", "third"])
def test_suffix_of_a_key_is_not_doubled(run: Run, folder: Path, name: str) -> None:
    before = set(folder.iterdir())
    assert run("keygen", name).code == 0
    assert {path.name for path in set(folder.iterdir()) - before} == {"third.key", "third.pub"}


def test_lock_of_a_trial_says_so(run: Run, folder: Path) -> None:
    lock = "lock {} -o {} --content-key {} --scramble conv.bias"
    first = run(*lock.format("release.nnc", "first.nnc", "first.key").split())
    assert (first.code, first.err) == (0, "")
    second = run(*lock.format("first.nnc", "second.nnc", "second.key").split())
    assert second.code == 0
    assert "first.nnc is a locked trial: what a license opens will be that trial" in second.err


def test_folder_with_one_file_needs_no_index(run: Run, folder: Path) -> None:
    """As most models of the Hub are."""
    (folder / "hub").mkdir()
    save_file(samples.small_network(2_000), folder / "hub" / "model.safetensors")
    (folder / "hub" / "config.json").write_text("{}")
    assert run("sign", "hub", "-o", "release", "--key", "vendor.key").code == 0
    assert run("verify", "release", "--trust", "vendor.pub").code == 0
    assert run("decompress", "release", "-o", "back").code == 0
    assert (folder / "back" / "config.json").read_text() == "{}"
    (folder / "release" / "config.json").write_text("{ }")
    assert run("verify", "release", "--trust", "vendor.pub").code == 8
    shutil.copy(folder / "hub" / "model.safetensors", folder / "hub" / "more.safetensors")
    refused = run("compress", "hub", "-o", "streams")
    assert (refused.code, "needs one" in refused.err) == (12, True)
