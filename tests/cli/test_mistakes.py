"""Mistakes of people who are new to nnguard: each is answered by one line that says what to do.

`docs/mistakes.md` shows them all, as they are printed here. `NNGUARD_UPDATE=1` writes it anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import nnguard
import samples
from transcripts import Result, is_one_line

PAGE = Path(__file__).parents[2] / "docs" / "mistakes.md"
HEAD = """\
# Mistakes, and what nnguard says

A test makes these mistakes, each in a process of its own, and this page shows what was printed and
the exit code. `NNGUARD_UPDATE=1 pytest tests/cli/test_mistakes.py` writes it anew.

| mistake | command | answer | exit code |
|---|---|---|---|
"""
WITHOUT = """
import sys
sys.modules[{module!r}] = None  # as if it were not installed
from nnguard.__main__ import run
sys.argv = ["nnguard", *sys.argv[1:]]
run()
"""


@dataclass(frozen=True)
class Mistake:
    """A mistake: what it is, the command, what the answer has to say, and the exit code.

    Attributes:
        without: A package that is not installed.
        shell: What a shell does around the command: `{}`.
    """

    what: str
    command: str
    advice: str
    code: int
    without: str = ""
    shell: str = ""


VERIFY, SIGN = "verify release.nnc --trust vendor.pub", "sign model.nnc -o out.nnc --key vendor.key"
LOCK = "lock release.nnc -o t.nnc --content-key c.key"
AIM = f"{LOCK} --soft --evaluate score.py:score"
ISSUE = "license issue trial.nnc -o a.license --key vendor.key --content-key content.key"
REQUEST = "license request -o new.request --identity ada.key"
UNLOCK = "unlock trial.nnc -o full.nnc --trust vendor.pub"
MISTAKES = [
    Mistake("A command with a typo", "verfy release.nnc", "did you mean verify?", 2),
    Mistake("A command of `license` with a typo", "license isue", "did you mean issue?", 2),
    Mistake("An option with a typo", "verify release.nnc --trst vendor.pub", "--trust", 2),
    Mistake("No argument", "verify --trust vendor.pub", "give the signed streams", 2),
    Mistake("No trusted key", "verify release.nnc", "give the trusted public keys", 2),
    Mistake("No output", "compress model.safetensors", "give the stream", 2),
    Mistake("An option without its value", f"{SIGN} --name", "--name", 2),
    Mistake("A value that is not a pair", f"{SIGN} --meta git", "KEY=VALUE", 2),
    Mistake("A file name with a typo", "verify relese.nnc --trust vendor.pub", "release.nnc?", 1),
    Mistake("A file that does not exist", "inspect resnet.bin", "is the name right?", 1),
    Mistake("A folder that does not exist", "strip release.nnc -o no/out.nnc --trust vendor.pub",
            "make it first", 1),
    Mistake("An output that exists", "strip release.nnc -o model.nnc --trust vendor.pub",
            "--force", 1),
    Mistake("A folder instead of a file", "license show empty", "name a file", 1),
    Mistake("A folder without a model", "verify empty --trust vendor.pub", "name the file", 3),
    Mistake("Weights that are not compressed", "verify model.safetensors --trust vendor.pub",
            "a safetensors file; compress it first", 3),
    Mistake("A PyTorch checkpoint", "inspect model.pt", "compress it first", 3),
    Mistake("An ONNX model", "compress model.onnx -o out.nnc", "save the weights", 12),
    Mistake("A GGUF file", "inspect model.gguf", "save the weights", 3),
    Mistake("A picture", "inspect picture.png", "a PNG picture", 3),
    Mistake("A ZIP archive", "inspect archive.zip", "a ZIP archive", 3),
    Mistake("A pointer of Git LFS", "sign pointer.safetensors -o out.nnc --key vendor.key",
            "git lfs pull", 12),
    Mistake("An empty file", "inspect nothing.nnc", "an empty file", 3),
    Mistake("A stream that is compressed again", "compress model.nnc -o out.nnc",
            "compressed already", 12),
    Mistake("Coding options for a stream", f"{SIGN} --qp -20", "leave out the options", 2),
    Mistake("Model and key swapped", "verify vendor.pub --trust release.nnc", "--trust", 3),
    Mistake("The public key to sign with", "sign model.nnc -o out.nnc --key vendor.pub",
            "--key takes a private key", 6),
    Mistake("The private key as trusted", "verify release.nnc --trust vendor.key", "public", 6),
    Mistake("A stream that is not signed", "verify model.nnc --trust vendor.pub",
            "nnguard sign", 5),
    Mistake("The key of somebody else", "verify release.nnc --trust other.pub", "trust", 7),
    Mistake("A file that was changed", "verify changed.nnc --trust vendor.pub", "changed", 8),
    Mistake("Another release than expected", f"{VERIFY} --name resnet56", "resnet56", 16),
    Mistake("An older version than expected", f'{VERIFY} --version ">=2"', "2", 16),
    Mistake("An older release than expected", f"{VERIFY} --issued-after 2090-01-01", "2090", 16),
    Mistake("A version that is not one", f'{VERIFY} --version ">=one"', "version", 2),
    Mistake("A date that is not one", f"{VERIFY} --issued-after yesterday", "2027-12-31", 2),
    Mistake("A trial that is taken for the product", "verify trial.nnc --trust vendor.pub",
            "LOCKED TRIAL", 17),
    Mistake("A trial that is decompressed", "decompress trial.nnc -o out.safetensors",
            "--allow-trial", 17),
    Mistake("A passphrase that nobody can be asked for",
            "sign model.nnc -o out.nnc --key protected.key", "NNGUARD_PASSPHRASE", 6),
    Mistake("A wrong passphrase", "sign model.nnc -o out.nnc --key protected.key "
            "--passphrase-file wrong.txt", "passphrase", 6),
    Mistake("A key pair that exists", "keygen vendor", "--force", 1),
    Mistake("A model without room", "sign tiny.nnc -o out.nnc --key vendor.key", "bits", 4),
    Mistake("Tensors that are not there", "compress model.safetensors -o out.nnc --qp-of w=-30",
            "w", 2),
    Mistake("A weight that is NaN", "compress nan.safetensors -o out.nnc", "NaN", 12),
    Mistake("A soft lock unasked for", f"{LOCK} --fraction 0.1", "--soft", 2),
    Mistake("A target without a score", f"{LOCK} --soft --target 0.4", "--evaluate", 2),
    Mistake("A target in percent", f"{AIM} --target 40", "did you mean 0.4?", 2),
    Mistake("A function that is not there", f"{LOCK} --evaluate score.py:acuracy",
            "no function acuracy", 2),
    Mistake("A function that fails", f"{LOCK} --evaluate score.py:failing", "correct your", 2),
    Mistake("A fraction above 1", f"{LOCK} --soft --fraction 10", "at most 1", 2),
    Mistake("A trial that is the release", f"{LOCK} --trial release.nnc", "clear", 15),
    Mistake("No content key", "license issue trial.nnc -o a.license --key vendor.key --to ada.pub",
            "--content-key", 2),
    Mistake("The vendor's key as the customer's", f"{ISSUE} --to vendor.pub", "--identity", 6),
    Mistake("A license for what is not locked", "license issue release.nnc -o a.license "
            "--key vendor.key --content-key content.key --to ada.pub", "nnguard lock", 5),
    Mistake("An expiry in words", f"{ISSUE} --to ada.pub --expires tomorrow", "2027-12-31", 2),
    Mistake("An expiry in the past", f"{ISSUE} --to ada.pub --expires 2020-01-01", "hold", 2),
    Mistake("A ledger without SQLAlchemy", f"{ISSUE} --to ada.pub --ledger l.db",
            'pip install "nnguard[', 1, without="sqlalchemy"),
    Mistake("A picture without matplotlib", "inspect release.nnc --plot out.png",
            'pip install "nnguard[plot]"', 1, without="matplotlib.backends.backend_agg"),
    Mistake("A list without a ledger", "license list", "NNGUARD_LEDGER", 2),
    Mistake("A ledger that does not exist", "license list --ledger licences.db", "--ledger", 14),
    Mistake("License and key swapped", f"{UNLOCK} --license ada.key --identity ada.license",
            "takes", 6),
    Mistake("A license for another customer", f"{UNLOCK} --license ada.license --identity eve.key",
            "license", 7),
    Mistake("A license that has expired", f"{UNLOCK} --license ada.license --identity ada.key "
            "--now 2091-01-01", "expired", 9),
    Mistake("A release that is unlocked", "unlock release.nnc -o full.nnc --trust vendor.pub "
            "--license ada.license --identity ada.key", "unlock takes the trial", 9),
    Mistake("A key that would be overwritten",
            "sign model.nnc -o vendor.key --key vendor.key --force", "write elsewhere", 2),
    Mistake("A license that would be overwritten", f"{UNLOCK.replace('full.nnc', 'ada.license')} "
            "--license ada.license --identity ada.key --force", "write elsewhere", 2),
    Mistake("A customer's key as trusted", "verify release.nnc --trust ada.pub", "--identity", 6),
    Mistake("A folder without keys as trusted", "verify release.nnc --trust empty", ".pub", 6),
    Mistake("A date in the order of another country", f"{ISSUE} --to ada.pub --expires 31.12.2027",
            "30d", 2),
    Mistake("A list of revocations that is not there", f"{UNLOCK} --license ada.license "
            "--identity ada.key --max-age 7d", "of the last 7 days is", 9),
    Mistake("A shell variable that is not set", 'verify "" --trust vendor.pub', "is empty", 2),
    Mistake("Standard output as the output", "strip release.nnc -o - --trust vendor.pub",
            "name a file", 2),
    Mistake("Help for a command with a typo", "help verfy", "did you mean verify?", 2),
    Mistake("A trial that is stripped", "strip trial.nnc -o out.nnc --trust vendor.pub",
            "--allow-trial", 17),
    Mistake("A name with the name of the file", "keygen vendor.key", "vendor.key exists", 1),
    Mistake("A folder of the Hub that is not compressed", "verify hub --trust vendor.pub",
            "nnguard compress hub", 3),
    Mistake("A file that is attached to a folder", "attach hub -o out --payload score.py",
            "put the file there", 2),
    Mistake("A small stream that decodes to much", "decompress model.nnc -o out.safetensors "
            "--max-size 1000", "--max-size", 11),
    Mistake("A closed standard input", "verify - --trust vendor.pub", "pipe a stream in", 2,
            shell="{} <&-"),
    Mistake("A full disk", "keygen new", "free some space", 1, shell="{} > /dev/full"),
    Mistake("A key in the place of a trust policy", "verify release.nnc --policy vendor.pub",
            "--policy takes a trust policy", 18),
    Mistake("A trust policy in the place of a key", "verify release.nnc --trust policy.toml",
            "give it with --policy", 6),
    Mistake("A trust policy that is about other models", "verify release.nnc --policy others.json",
            "add its scope to a rule", 18),
    Mistake("A trust policy with a typo", "verify release.nnc --policy typo.toml",
            "did you mean threshold?", 18),
    Mistake("A scope without a name", "policy new -o p.toml --scope acme.ai --trust vendor.pub",
            "--scope: 'acme.ai' is not ISSUER/NAME; such as acme.ai/resnet*", 2),
    Mistake("A threshold above the number of keys",
            'policy new -o p.toml --scope "acme.ai/*" --trust vendor.pub --threshold 2',
            "--threshold: 2 signatures of 1 key can never be", 2),
    Mistake("A level that is none",
            'policy new -o p.toml --scope "acme.ai/*" --trust vendor.pub --level warn',
            "--level: expected one of strict, permissive, audit", 2),
    Mistake("A trust policy that is signed by anybody",
            "policy sign policy.toml -o p.policy --key vendor.key", "add its root keys", 2),
    Mistake("A bundle without its key", f"{VERIFY} --oms model.sig", "give both", 2),
    Mistake("A bundle signed by the vendor's key", f"{SIGN} --oms model.sig --oms-key vendor.key",
            "--algorithm p256", 6),
    Mistake("An order of what is no product", "order new digits --ledger shop.db "
            "--ledger-key desk.key", "nnguard product add", 14),
    Mistake("An order without the ledger's key", "order new small --ledger shop.db",
            "--ledger-key is missing", 2),
    Mistake("An order code with a typo", "order show K7Q2-9DXM --ledger shop.db "
            "--ledger-key desk.key", "groups of four", 19),
    Mistake("A role that there is not", "ledger token new --role root --name web --ledger shop.db",
            "one of shop, support, auditor", 2),
    Mistake("A ledger of an older nnguard", "license list --ledger old.db",
            "nnguard ledger upgrade", 14),
    Mistake("A request without an order code", f"{REQUEST} trial.nnc", "--order belongs to", 2),
    Mistake("A request for the product in place of the trial",
            f"{REQUEST} release.nnc --order K7Q2-9DXM", "is not locked", 5),
    Mistake("A request in the place of a license",
            "license check ada.request --trust vendor.pub", "is a request", 9),
    Mistake("A license server without TLS", "license activate trial.nnc -o new.license "
            "--order K7Q2-9DXM --server http://licenses.acme.ai --identity ada.key "
            "--trust vendor.pub", "asked over TLS", 2),
    Mistake("A license server that is not there", "license activate trial.nnc -o new.license "
            "--order K7Q2-9DXM --server http://127.0.0.1:9 --identity ada.key --trust vendor.pub",
            "try again later", 19),
    Mistake("A license that no server renews", "license refresh ada.license --early "
            "--identity ada.key --trust vendor.pub", "names no server", 2),
    Mistake("A license of another customer that is given back", "license release ada.license "
            "-o a.receipt --identity eve.key --license-state a.state", "is made out to", 7),
    Mistake("A key in the place of a license state", "license check ada.license "
            "--trust vendor.pub --license-state vendor.pub", "is not a license state file", 9),
]  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the mistakes are made with."""
    folder = tmp_path_factory.mktemp("shop")
    key, other = nnguard.SigningKey.generate(), nnguard.SigningKey.generate()
    key.save(folder / "vendor.key")
    key.public_key.save(folder / "vendor.pub")
    key.save(folder / "protected.key", passphrase="secret")
    other.public_key.save(folder / "other.pub")
    ada, eve = nnguard.Identity.generate(), nnguard.Identity.generate()
    ada.save(folder / "ada.key")
    ada.recipient.save(folder / "ada.pub")
    eve.save(folder / "eve.key")
    arrays = samples.small_network(20_000)
    save_file(arrays, folder / "model.safetensors")
    model = nnguard.compress(arrays)
    model.save(folder / "model.nnc")
    release = nnguard.sign(
        model, key, issuer="acme.ai", name="small", version="1.0", issued_at="2027-01-01"
    )
    release.save(folder / "release.nnc")
    locked = nnguard.lock(release, signer=key)
    locked.trial.save(folder / "trial.nnc")
    locked.content_key.save(folder / "content.key")
    terms = nnguard.licensing.Terms(customer="Ada", expires_at="2090-01-01")
    nnguard.licensing.issue(
        locked.trial, locked.content_key, to=ada.recipient, signer=key, terms=terms
    ).save(folder / "ada.license")
    nnguard.licensing.request(locked.trial, ada, order="K7Q2-9DXM").save(folder / "ada.request")
    _make_odd_files(folder, bytes(release))
    nnguard.Identity.generate().save(folder / "desk.key")
    with nnguard.licensing.Ledger(folder / "shop.db") as ledger:
        issuer = nnguard.licensing.Issuer(ledger, key, folder / "desk.key")
        issuer.add_product(locked.trial, locked.content_key)
    golden = Path(__file__).parents[1] / "golden" / "0.1.0" / "ledger.db"
    shutil.copy(golden, folder / "old.db")
    return folder


def _make_odd_files(folder: Path, release: bytes) -> None:
    units = samples.split(release)
    at = next(at for at, unit in enumerate(units) if b"conv.bias" in unit)
    units[at] = units[at][:-1] + bytes([units[at][-1] ^ 1])
    (folder / "changed.nnc").write_bytes(b"".join(units))
    nnguard.compress({"w": np.ones((2, 2), np.float32)}).save(folder / "tiny.nnc")
    save_file({"w": np.array([[np.nan, 1]], np.float32)}, folder / "nan.safetensors")
    (folder / "empty").mkdir()
    (folder / "hub").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "hub")
    policy = nnguard.TrustPolicy.new(["acme.ai/*"], {"vendor": folder / "vendor.pub"})
    policy.save(folder / "policy.toml")
    policy = nnguard.TrustPolicy.new(["others/*"], {"vendor": folder / "vendor.pub"})
    policy.save(folder / "others.json")
    text = (folder / "policy.toml").read_text().replace("threshold", "treshold")
    (folder / "typo.toml").write_text(text)
    (folder / "nothing.nnc").touch()
    (folder / "wrong.txt").write_text("guess\n")
    (folder / "model.onnx").write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(80))
    (folder / "model.gguf").write_bytes(b"GGUF\3\0\0\0" + bytes(80))
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(80))
    (folder / "model.pt").write_bytes(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9" + bytes(80))
    (folder / "archive.zip").write_bytes(b"PK\3\4" + bytes(80))
    (folder / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (folder / "score.py").write_text(
        "def score(weights):\n    return 0.9\n\n\ndef failing(weights):\n    return weights['w']\n"
    )


def made(mistake: Mistake, folder: Path) -> Result:
    """Make a mistake, in a process without a terminal."""
    script = (
        ["-c", WITHOUT.format(module=mistake.without)] if mistake.without else ["-m", "nnguard"]
    )
    command = [sys.executable, *script, *shlex.split(mistake.command)]
    if mistake.shell:
        command = ["sh", "-c", mistake.shell.format(shlex.join(command))]
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | {"LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def answers(
    shop: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Result, list[str]]]:
    """What is answered to each mistake, and the files that came with it."""
    found = {}
    for mistake in MISTAKES:
        folder = tmp_path_factory.mktemp("mistake") / "shop"
        shutil.copytree(shop, folder)
        before = {path.name for path in folder.iterdir()}
        result = made(mistake, folder)
        new = sorted({path.name for path in folder.iterdir()} - before - {"__pycache__"})
        found[mistake.what] = (result, new)
    return found


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_mistake(mistake: Mistake, answers: dict[str, tuple[Result, list[str]]]) -> None:
    result, new = answers[mistake.what]
    if "/dev/full" in mistake.shell and not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    assert (result.code, result.out) == (mistake.code, ""), result.err
    lines = result.err.splitlines(keepends=True)
    theirs = result.err.replace("KeyError", "")  # of their own Python code
    assert is_one_line(theirs if "failing" in mistake.command else result.err), result.err
    assert mistake.advice in lines[-1]
    assert new == ([] if mistake.command != "keygen new" else ["new.key", "new.pub"])


def test_page_shows_what_is_printed(answers: dict[str, tuple[Result, list[str]]]) -> None:
    assert len(MISTAKES) >= 40
    assert len({mistake.what for mistake in MISTAKES}) == len(MISTAKES)
    rows = []
    for mistake in MISTAKES:
        result, _ = answers[mistake.what]
        command = (mistake.shell or "{}").format(f"nnguard {mistake.command}")
        said = re.sub(r"\b[0-9a-f]{16}\b", "0123456789abcdef", result.err)  # keys are new each time
        said = said.strip().removeprefix("nnguard: ")
        cells = (mistake.what, f"`{command}`", said, str(result.code))
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
    page = HEAD + "".join(rows)
    if os.environ.get("NNGUARD_UPDATE"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "NNGUARD_UPDATE=1 writes it anew"


def test_as_json_mistakes_name_their_kind(shop: Path, tmp_path: Path) -> None:
    """For machines: the class is there, and nothing is on standard error."""
    shutil.copytree(shop, tmp_path / "shop")
    for mistake in MISTAKES[::8]:
        asked = Mistake(mistake.what, f"{mistake.command} --json", "", 0, mistake.without)
        result = made(asked, tmp_path / "shop")
        assert (result.code, result.err) == (mistake.code, "")
        values = json.loads(result.out)
        assert values["ok"] is False
        assert values["error"].isidentifier()
