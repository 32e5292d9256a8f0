"""`keygen --identity`, `lock` and `unlock`, as a seller and a customer see them."""

from __future__ import annotations

import json
import shutil
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard._cli import keys, main
from nnguard._licensing.license import License
from nnguard._licensing.unwrapped import Unwrapped
from transcripts import Run, is_one_line

pytest.importorskip("sqlalchemy")

LOCK = ("lock", "release.nnc", "-o", "trial.nnc", "--content-key", "content.key")
ISSUE = ("license", "issue", "trial.nnc", "--key", "vendor.key", "--content-key", "content.key")
WEIGHTS = 20_000
BIASES = 10
UNLOCK = ("unlock", "trial.nnc", "-o", "full.nnc", "--trust", "vendor.pub")
SCORE = """
from pathlib import Path

import numpy as np

from model import accuracy as accuracy_of

TEST = np.load(Path(__file__).parent / "digits_test.npz")


def accuracy(weights):
    print("scoring")
    return accuracy_of(weights, TEST["images"], TEST["labels"])
"""


@pytest.fixture(scope="module")
def model() -> nnguard.Stream:
    """A stream with room for a lock, a signature and a mark."""
    return nnguard.Stream.from_bytes(samples.small_stream(weights=WEIGHTS))


@pytest.fixture(scope="module")
def release(model: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.Stream:
    return nnguard.sign(model, key, issuer="acme.ai", name="small", version="1.0")


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory,
    release: nnguard.Stream,
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
) -> Path:
    """A folder with a signed trial, licenses of a customer for it, and some that do not unlock."""
    shop = tmp_path_factory.mktemp("shop")
    locked = nnguard.lock(release, soft=nnguard.Soft(fraction=0.005), signer=key)
    locked.trial.save(shop / "trial.nnc")
    locked.content_key.save(shop / "content.key")
    ada = nnguard.Identity.generate()
    ada.save(shop / "ada.key")
    ada.recipient.save(shop / "ada.pub")
    nnguard.Identity.generate().save(shop / "eve.key")

    def issue(
        name: str,
        signer: nnguard.SigningKey = key,
        to: nnguard.Recipient = ada.recipient,
        **choices: Any,
    ) -> nnguard.licensing.License:
        terms = nnguard.licensing.Terms(**{"customer": "Ada", **choices})
        made = nnguard.licensing.issue(
            locked.trial, locked.content_key, to=to, signer=signer, terms=terms
        )
        made.save(shop / name)
        return made

    begin, end = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in (2089, 2090))
    license_ = issue("ada.license", expires_at=end, grace=timedelta(days=7))
    License.make(license_.terms, Unwrapped(locked.content_key), ada.recipient, other_key).save(
        shop / "other.license"
    )
    issue("later.license", not_before=begin)
    issue(
        "bound.license", device=nnguard.licensing.Device.of_values([("host", "ada"), ("disk", "1")])
    )
    elsewhere = nnguard.licensing.Device.of_values([("host", "eve"), ("disk", "1")])
    (shop / "elsewhere").write_text(elsewhere.to_json())
    (shop / "torn.license").write_text(str(license_)[:200])
    nnguard.licensing.RevocationList.make([], key).save(shop / "acme.revoked")
    nnguard.licensing.RevocationList.make([license_.terms.id], key).save(shop / "all.revoked")
    nnguard.licensing.RevocationList.make([], other_key).save(shop / "other.revoked")
    (shop / "state").write_text(json.dumps({"newest": int(begin.timestamp())}))
    return shop


@pytest.fixture
def bought(folder: Path, shop: Path) -> None:
    """Put what is in the shop into the folder."""
    shutil.copytree(shop, folder, dirs_exist_ok=True)


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def change(path: Path, tensor: bytes) -> None:
    """Change the last bit of a tensor in a file."""
    units = samples.split(path.read_bytes())
    at = next(index for index, unit in enumerate(units) if tensor in unit)
    units[at] = units[at][:-1] + bytes([units[at][-1] ^ 1])
    path.write_bytes(b"".join(units))


def ratios(folder: Path) -> np.ndarray:
    """Return by how much the weights of the trial differ from those of the release."""
    full, trial = (
        stock.decode((folder / name).read_bytes())["conv.weight"]
        for name in ("release.nnc", "trial.nnc")
    )
    return trial[full != 0] / full[full != 0]


# Keys of customers


@pytest.mark.parametrize(
    ("options", "suite"), [((), "X25519"), (("--post-quantum",), "ML-KEM-768+X25519")]
)
def test_keygen_makes_a_customers_pair(
    run: Run, folder: Path, options: tuple[str, ...], suite: str
) -> None:
    result = run("keygen", "ada", "--identity", *options)
    assert (result.code, result.err) == (0, "")
    identity = nnguard.Identity.load("ada.key")
    assert nnguard.Recipient.load("ada.pub") == identity.recipient
    assert identity.recipient.suite == suite
    assert identity.recipient.id.hex() in result.out
    assert "send it to the vendor" in result.out
    assert stat.S_IMODE((folder / "ada.key").stat().st_mode) == 0o600


def test_keygen_refuses_a_vendors_pair_against_quantum_computers(run: Run, folder: Path) -> None:
    result = run("keygen", "ada", "--post-quantum")
    assert result.code == 2
    assert "--identity" in result.err
    assert not list(folder.glob("ada.*"))


def test_protected_identity_unlocks_with_its_passphrase_only(
    run: Run, folder: Path, bought: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "secret").write_text("pässword\n")
    (folder / "wrong").write_text("guess\n")
    keygen = ("keygen", "eva", "--identity", "--post-quantum", "--passphrase-file", "secret")
    assert run(*keygen).code == 0
    assert (folder / "eva.key").read_bytes().count(b"ENCRYPTED PRIVATE KEY-----") == 4
    assert run(*ISSUE, "-o", "eva.license", "--to", "eva.pub").code == 0
    unlock = (*UNLOCK, "--license", "eva.license", "--identity", "eva.key")
    result = run(*unlock, "--passphrase-file", "wrong")
    assert result.code == 6
    assert "passphrase" in result.err
    assert not (folder / "full.nnc").exists()
    assert run(*unlock, "--passphrase-file", "secret").code == 0
    monkeypatch.setattr(keys, "_has_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "pässword" if "eva.key" in prompt else "")
    assert run(*unlock, "--force").code == 0
    assert (folder / "full.nnc").read_bytes() == (folder / "release.nnc").read_bytes()


def test_protected_identity_is_asked_for_its_passphrase_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["secret", "secret"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    monkeypatch.setattr(keys, "_has_terminal", lambda: True)
    assert run("keygen", "ada", "--identity", "--protect").code == 0
    assert nnguard.Identity.load("ada.key", passphrase="secret")
    with pytest.raises(nnguard.errors.KeyFormatError):
        nnguard.Identity.load("ada.key")


# Locking


def test_lock_writes_a_trial_and_its_key(run: Run, folder: Path) -> None:
    result = run(*LOCK, "--soft", "--fraction", "0.01")
    assert (result.code, result.err) == (0, "")
    assert "trial.nnc" in result.out
    assert "tier full: 200 weights replaced (1.0000 %)" in result.out
    assert "content.key (keep it secret)" in result.out
    assert stat.S_IMODE((folder / "content.key").stat().st_mode) == 0o600
    secret = nnguard.ContentKey.load("content.key").secret
    assert secret not in (folder / "trial.nnc").read_bytes()
    assert secret.hex() not in result.out
    assert 150 < np.count_nonzero(ratios(folder) < 0) <= 200, "the stock decoder reads the trial"


def test_trial_that_is_signed_says_so(run: Run) -> None:
    assert run(*LOCK, "--key", "vendor.key").code == 0
    verify = ("verify", "trial.nnc", "--trust", "vendor.pub")
    refused = run(*verify)
    assert (refused.code, refused.out) == (17, "")
    assert is_one_line(refused.err)
    assert refused.err.startswith("nnguard: LOCKED TRIAL")
    assert "--allow-trial" in refused.err
    result = run(*verify, "--allow-trial")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Verified, a LOCKED TRIAL: trial.nnc")
    decompress = ("decompress", "trial.nnc", "-o", "trial.safetensors")
    for trust in ((), ("--trust", "vendor.pub")):
        assert run(*decompress, *trust).code == 17
        assert not Path("trial.safetensors").exists()
        assert run(*decompress, *trust, "--allow-trial").code == 0
        Path("trial.safetensors").unlink()
    for shown in ("acme.ai", "small", "1.0", "locked=full", "inside      lock"):
        assert shown in result.out
    assert run("verify", "trial.nnc", "--trust", "other.pub").code == 7


def test_trial_that_is_not_signed_does_not_verify(run: Run) -> None:
    assert run(*LOCK).code == 0
    for command in (("verify",), ("strip", "-o", "out.nnc")):
        result = run(*command, "trial.nnc", "--trust", "vendor.pub")
        assert (result.code, result.out) == (5, "")
        assert "license" in result.err, "says what to do instead"
    assert not Path("out.nnc").exists()


def test_inspect_shows_the_lock(run: Run) -> None:
    assert run(*LOCK, "--tier", "professional", "--soft", "--fraction", "0.001").code == 0
    shown = run("inspect", "trial.nnc").out
    assert "lock of " in shown
    assert "tier      professional" in shown


def test_no_more_than_all_is_scrambled(run: Run) -> None:
    """Biases are, too, which are not among the weights."""
    small = nnguard.Stream.from_bytes(samples.small_stream(weights=4000))
    small.save("release.nnc", overwrite=True)
    assert "4,010 weights scrambled (100.0 %)" in run(*LOCK, "--scramble", "1").out


def test_scramble_encrypts_signs(run: Run, folder: Path) -> None:
    printed = json.loads(run(*LOCK, "--scramble", "0.5", "--json").out)
    (tier,) = printed["tiers"]
    assert (tier["tier"], tier["replaced"], tier["scrambled"]) == ("full", 0, WEIGHTS + BIASES)
    assert printed["size"] == (folder / "trial.nnc").stat().st_size
    assert printed["size_before"] == (folder / "release.nnc").stat().st_size
    assert printed["content_key"] == "content.key"
    assert 0.45 < np.mean(ratios(folder) < 0) < 0.55
    result = run(*LOCK, "--scramble", "0.5", "--force")
    assert "20,010 weights scrambled (100.0 %)" in result.out
    assert "has to train what is scrambled anew" in result.out
    result = run(*LOCK, "--scramble", "conv.*ght+conv.bias", "--force")
    assert "20,010 weights scrambled" in result.out
    tiers = ("--tier", "all:scramble=conv.bias", "--tier", "demo:scramble=0.1")
    scrambled = [
        tier["scrambled"]
        for tier in json.loads(run(*LOCK, *tiers, "--force", "--json").out)["tiers"]
    ]
    assert scrambled == [BIASES, WEIGHTS + BIASES]
    assert run(*LOCK, "--scramble", "head.*", "--force").code == 2


def test_trial_is_another_network(run: Run, folder: Path) -> None:
    (folder / "weaker.nnc").write_bytes(samples.small_stream(seed=3, weights=9_000))
    (folder / "score.py").write_text("size = lambda weights: weights['conv.weight'].size\n")
    lock = (*LOCK, "--trial", "weaker.nnc", "--evaluate", "score.py:size")
    result = run(*lock)
    assert (result.code, result.err) == (0, "")
    assert "bytes carried by another network" in result.out
    assert "score 20000 -> 9000, unlocked 20000" in result.out
    swapped = run("lock", "weaker.nnc", "--trial", "release.nnc", *LOCK[2:4], "--content-key", "c",
                  "--evaluate", "score.py:size", "--force")  # fmt: skip
    assert swapped.code == 15
    assert "are they swapped?" in swapped.err
    assert "worth: without a license one has the network that is the trial" in result.out
    printed = json.loads(run(*lock, "--force", "--json").out)
    (tier,) = printed["tiers"]
    assert tier["scores"] == {"release": 20_000, "trial": 9_000, "unlocked": 20_000}
    assert 0 < tier["carried"] <= (folder / "release.nnc").stat().st_size
    assert (tier["scrambled"], tier["replaced"], tier["curve"]) == (0, 0, [])
    weaker, trial = (
        stock.decode((folder / name).read_bytes())["conv.weight"]
        for name in ("weaker.nnc", "trial.nnc")
    )
    assert np.array_equal(np.sign(weaker), np.sign(trial)), "the stock decoder reads the trial"


def test_tiers_of_other_networks(run: Run, folder: Path) -> None:
    for name, weights in (("medium.nnc", 9_000), ("small.nnc", 20_000)):
        (folder / name).write_bytes(samples.small_stream(seed=weights, weights=weights))
    tiers = ("--tier", "gold:trial=medium.nnc", "--tier", "silver:trial=small.nnc")
    printed = json.loads(run(*LOCK, *tiers, "--json").out)
    assert [bool(tier["carried"]) for tier in printed["tiers"]] == [True, True]
    mixed = ("--soft", "--tier", "gold:trial=medium.nnc", "--tier", "silver:fraction=0.01")
    printed = json.loads(run(*LOCK, *mixed, "--force", "--json").out)
    assert [tier["replaced"] > 0 for tier in printed["tiers"]] == [False, True]
    mixed = ("--trial", "medium.nnc", "--tier", "gold:scramble=0.1", "--tier", "silver")
    printed = json.loads(run(*LOCK, *mixed, "--force", "--json").out)
    assert [tier["scrambled"] > 0 for tier in printed["tiers"]] == [True, False]


def test_lock_alone_scrambles(run: Run, folder: Path) -> None:
    (tier,) = json.loads(run(*LOCK, "--json").out)["tiers"]
    assert (tier["carried"], tier["replaced"], tier["scrambled"]) == (0, 0, WEIGHTS + BIASES)
    (tier,) = json.loads(run(*LOCK, "--soft", "--force", "--json").out)["tiers"]
    assert (tier["carried"], tier["replaced"], tier["scrambled"]) == (0, 2, 0)


def test_target_is_found_with_the_sellers_own_function(
    run: Run, folder: Path, key: nnguard.SigningKey
) -> None:
    """The tolerance is wide, since the search draws weights by chance; the score must be true."""
    pytest.importorskip("matplotlib")
    for name in ("model.py", "digits_test.npz"):
        shutil.copy(samples.DIGITS / name, folder)
    (folder / "score.py").write_text(SCORE)
    nnguard.sign(samples.DIGITS / "digits.nnc", key, name="digits").save("digits.nnc")
    lock = ("lock", "digits.nnc", "-o", "trial.nnc", "--content-key", "content.key")
    amount = ("--soft", "--target", "0.5", "--tolerance", "0.3", "--max-fraction", "0.01")
    result = run(*lock, *amount, "--evaluate", "score.py:accuracy", "--plot", "curve.png", "--json")
    assert result.code == 0, result.err
    (tier,) = json.loads(result.out)["tiers"]
    from model import accuracy

    test = np.load(samples.DIGITS / "digits_test.npz")
    weights = stock.decode((folder / "trial.nnc").read_bytes())
    score = accuracy(weights, test["images"], test["labels"])
    assert 0.2 <= score <= 0.8
    assert tier["curve"][-1] == {"fraction": tier["replaced"] / tier["weights"], "score": score}
    assert tier["curve"][0]["score"] > 0.97, "of the network as it is"
    assert f"replaced: score {score:g}" in result.err, "the search is shown"
    assert "scoring" in result.err, "what the function prints is no result"
    assert (folder / "curve.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("options", "code", "advice"),
    [
        ("--soft --target 0.4", 2, "--evaluate"),
        ("--target 0.4 --evaluate score.py:zero", 2, "anybody can repair that with a few inputs"),
        ("--fraction 0.1", 2, "--soft"),
        ("--tier a:fraction=0.1", 2, "--soft"),
        ("--tier a:soft=1", 2, "soft needs no value"),
        ("--tier a:trial", 2, "trial needs a file"),
        ("--trial vendor.pub", 3, "not an NNCodec stream"),
        ("--trial missing.nnc", 1, "missing.nnc"),
        ("--trial release.nnc", 15, "in the clear"),
        ("--trial model.nnc", 15, "in the clear"),
        ("--trial tiny.nnc", 4, "at 16 bits a weight"),
        ("--trial tiny.nnc --scramble 0.1", 2, "another network is the trial"),
        ("--trial tiny.nnc --soft", 2, "another network is the trial"),
        ("--evaluate score.py:silent", 2, "NoneType"),
        ("--soft --target 0.4 --evaluate score.py", 2, "FILE.py:FUNCTION"),
        ("--soft --target 0.4 --evaluate score.py:nothing", 2, "no function nothing"),
        ("--soft --target 0.4 --evaluate missing.py:zero", 1, "there is no file missing.py"),
        ("--soft --target 0.4 --evaluate vendor.pub:zero", 2, "not a Python file"),
        ("--soft --target 0.4 --evaluate broken.py:zero", 2, "SyntaxError"),
        (
            "--soft --target 0.4 --evaluate score.py:failing",
            2,
            "line 5: KeyError: 'no.such.tensor'",
        ),
        ("--soft --target 0.4 --evaluate score.py:silent", 2, "NoneType"),
        ("--soft --target 0.4 --evaluate score.py:zero", 2, "not below the score"),
        ("--soft --target 0.4 --fraction 0.1 --evaluate score.py:zero", 2, "not both"),
        (
            "--soft --target 0.4 --scramble 0.1 --evaluate score.py:zero",
            2,
            "no target with scramble",
        ),
        ("--soft --target 0.4 --tolerance 0 --evaluate score.py:zero", 2, "tolerance"),
        ("--tier :fraction=0.1", 2, "a tier needs a name"),
        ("--tier a --tier a", 2, "different names"),
        ("--tier a --tier b", 2, "tiers a and b have the same lock"),
        ("--allow-near", 2, "--allow-near is for --trial"),
        ("--tolerance 4", 2, "--tolerance and --max-fraction are for --target"),
        ("--soft --max-fraction 0.1", 2, "--tolerance and --max-fraction are for --target"),
        ("--tier a:fractoin=0.1", 2, "fractoin is not one of trial, scramble, soft"),
        ("--tier a:fraction=much", 2, "'much' is not a number"),
        ("--tier a:soft,fraction=0.1,target=0.4 --evaluate score.py:zero", 2, "not both"),
        ("--plot curve.png", 2, "--target"),
        ("--content-key ./trial.nnc", 2, "files of their own"),
        ("--content-key ./release.nnc --force", 2, "is made of release.nnc"),
        ("--trial tiny.nnc -o tiny.nnc --force", 2, "is made of tiny.nnc"),
        ("--tier a:trial=tiny.nnc --tier b --content-key tiny.nnc --force", 2, "is made of"),
        ("--content-key no/such.key", 1, "no folder no"),
        ("-o no/such.nnc", 1, "no folder no"),
        ("--key vendor.pub", 6, "vendor.pub"),
    ],
)
def test_lock_that_cannot_be_made(
    run: Run, folder: Path, options: str, code: int, advice: str
) -> None:
    score = "zero = lambda weights: 0\nsilent = lambda weights: None\n\n"
    score += "def failing(weights):\n    return weights['no.such.tensor']\n"
    (folder / "score.py").write_text(score)
    (folder / "broken.py").write_text("def zero(weights) 0\n")
    (folder / "tiny.nnc").write_bytes(samples.small_stream(seed=3, weights=500))
    before = listing(folder)
    result = run(*LOCK, *options.split())
    assert (result.code, result.out) == (code, "")
    assert advice in result.err
    assert listing(folder) - {"__pycache__"} == before, "nothing is written"


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("lock release.nnc -o trial.nnc", "--content-key"),
        ("lock release.nnc --content-key content.key", "--output is missing"),
        ("lock release.nnc -o t --content-key c --fraction 2", "at most 1"),
        ("lock release.nnc -o t --content-key c --fraction much", "'much' is not a number"),
        ("lock release.nnc -o t --content-key c --scramble 0", "above 0"),
        ("lock release.nnc -o t --content-key c --target nan", "'nan' is not a number"),
        ("unlock trial.nnc -o full.nnc --license l --identity i", "--trust"),
        ("unlock trial.nnc -o full.nnc --license l --trust vendor.pub", "--identity"),
        ("unlock trial.nnc -o full.nnc --identity i --trust vendor.pub", "--license"),
        ("unlock t -o f --license l --identity i --trust k --now soon", "2027-12-31"),
        ("unlock t -o f --license l --identity i --trust k --max-age -1", "length of time"),
    ],
)
def test_wrong_usage_of_lock_and_unlock(
    command: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    printed = capsys.readouterr().err
    assert is_one_line(printed)
    assert advice in printed


def test_model_that_is_too_small_to_lock(run: Run, folder: Path) -> None:
    """There are two weights, and a lock's record takes hundreds."""
    weights = {"w": np.array([[0.5, -0.25]], np.float32)}
    (folder / "tiny.nnc").write_bytes(stock.encode(weights, qp=-20))
    before = listing(folder)
    result = run("lock", "tiny.nnc", "-o", "trial.nnc", "--content-key", "content.key")
    assert (result.code, result.out) in ((4, ""), (15, ""))
    assert listing(folder) == before


def test_lock_overwrites_neither_file(run: Run, folder: Path) -> None:
    for name in ("trial.nnc", "content.key"):
        (folder / name).write_text("mine")
        result = run(*LOCK)
        assert result.code == 1
        assert f"{name} exists already; --force" in result.err
        assert (folder / name).read_text() == "mine"
        assert len(listing(folder) & {"trial.nnc", "content.key"}) == 1
        (folder / name).unlink()
    assert run(*LOCK).code == 0
    first = (folder / "content.key").read_bytes()
    assert run(*LOCK, "--force").code == 0
    assert (folder / "content.key").read_bytes() != first


def test_dataclasses_may_be_in_the_sellers_file(run: Run, folder: Path) -> None:
    (folder / "score.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Data:\n    score: float\n\n"
        "def zero(weights):\n    return Data(0.0).score\n"
    )
    result = run(*LOCK, "--soft", "--target", "0.5", "--evaluate", "score.py:zero")
    assert "the score of the network as it is, 0" in result.err


# Unlocking


def test_unlock_gives_the_release_back(run: Run, folder: Path, bought: None) -> None:
    unlock = (*UNLOCK, "--license", "ada.license", "--identity", "ada.key")
    result = run(*unlock)
    assert (result.code, result.err) == (0, "")
    size = (folder / "release.nnc").stat().st_size
    assert result.out == f"Unlocked: full.nnc, {size:,} bytes, tier full\n"
    assert (folder / "full.nnc").read_bytes() == (folder / "release.nnc").read_bytes()
    assert run("verify", "full.nnc", "--trust", "vendor.pub").code == 0
    printed = json.loads(run(*unlock, "--force", "--json").out)
    assert (printed["ok"], printed["file"], printed["size"]) == (True, "full.nnc", size)
    assert printed["license"]["customer"] == "Ada"
    assert printed["in_grace"] is False


def test_unlock_overwrites_only_by_force(run: Run, folder: Path, bought: None) -> None:
    (folder / "full.nnc").write_text("mine")
    result = run(*UNLOCK, "--license", "ada.license", "--identity", "ada.key")
    assert result.code == 1
    assert (folder / "full.nnc").read_text() == "mine"
    trial = ("unlock", "trial.nnc", "-o", "trial.nnc", "--trust", "vendor.pub", "--force")
    assert run(*trial, "--license", "ada.license", "--identity", "ada.key").code == 0
    assert (folder / "trial.nnc").read_bytes() == (folder / "release.nnc").read_bytes()


def test_mark_names_the_customer(run: Run, folder: Path, bought: None) -> None:
    unlock = (*UNLOCK, "--license", "ada.license", "--identity", "ada.key", "--watermark")
    assert run(*unlock).code == 0
    assert (folder / "full.nnc").read_bytes() != (folder / "release.nnc").read_bytes()
    license_id = nnguard.licensing.License.load("ada.license").terms.id
    shown = run("verify", "full.nnc", "--trust", "vendor.pub").out
    assert f"licensed to Ada (license {license_id})" in shown
    printed = json.loads(run("verify", "full.nnc", "--trust", "vendor.pub", "--json").out)
    assert printed["licensed_to"]["id"] == license_id
    assert license_id in run("inspect", "full.nnc").out
    assert run("strip", "full.nnc", "-o", "model2.nnc", "--trust", "vendor.pub").code == 0
    assert (folder / "model2.nnc").read_bytes() == (folder / "model.nnc").read_bytes()


def test_license_within_its_grace_period_asks_to_be_renewed(run: Run, bought: None) -> None:
    unlock = (*UNLOCK, "--license", "ada.license", "--identity", "ada.key")
    late = run(*unlock, "--now", "2090-01-08")
    assert late.code == 9
    assert "expired at 2090-01-01" in late.err
    result = run(*unlock, "--now", "2090-01-07T23:59:59")
    assert result.code == 0
    assert "renew it" in result.out


@pytest.mark.parametrize(
    ("options", "code", "error", "reason"),
    [
        ("--identity eve.key", 7, "WrongKeyError", None),
        ("--trust other.pub", 7, "WrongKeyError", None),
        ("--license other.license", 7, "WrongKeyError", None),
        ("--revocations other.revoked", 7, "WrongKeyError", None),
        ("--now 2020-01-01", 9, "LicenseError", "clock-set-back"),
        ("--license later.license", 9, "LicenseError", "not-yet-valid"),
        ("--now 2091-01-01", 9, "LicenseError", "expired"),
        ("--tier professional", 9, "LicenseError", "other-tier"),
        ("--max-age 7", 9, "LicenseError", "stale-revocations"),
        ("--revocations acme.revoked --max-age 7 --now 2089-01-01", 9, "LicenseError",
         "stale-revocations"),
        ("--revocations all.revoked", 9, "LicenseError", "revoked"),
        ("--revocations vendor.pub", 9, "LicenseError", "malformed"),
        ("--license-state vendor.pub", 9, "LicenseError", "clock-set-back"),
        ("--license-state state", 9, "LicenseError", "clock-set-back"),
        ("--license bound.license --device elsewhere", 9, "LicenseError", "other-device"),
        ("--license vendor.pub", 9, "LicenseError", "malformed"),
        ("--license torn.license", 9, "LicenseError", "malformed"),
        ("--identity vendor.key", 6, "KeyFormatError", None),
        ("--identity ada.pub", 6, "KeyFormatError", None),
        ("--license bound.license --device vendor.pub", 2, "ArgumentError", None),
        ("--license missing", 1, "FileNotFoundError", None),
        ("-o no/such.nnc", 1, "FileNotFoundError", None),
    ],
)  # fmt: skip
def test_unlock_refuses(
    run: Run,
    folder: Path,
    bought: None,
    options: str,
    code: int,
    error: str,
    reason: str | None,
) -> None:
    unlock = {
        "-o": "full.nnc",
        "--license": "ada.license",
        "--identity": "ada.key",
        "--trust": "vendor.pub",
    }
    words = options.split()
    unlock |= dict(zip(words[::2], words[1::2], strict=True))
    arguments = [word for option in unlock.items() for word in option]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    result = run("unlock", "trial.nnc", *arguments)
    assert (result.code, result.out) == (code, "")
    assert is_one_line(result.err)

    result = run("unlock", "trial.nnc", *arguments, "--json")
    assert (result.code, result.err) == (code, "")
    failure = json.loads(result.out)
    assert (failure["ok"], failure["error"], failure.get("reason")) == (False, error, reason)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: data for name, data in after.items() if name != "state.lock"} == before


@pytest.mark.parametrize(
    ("trial", "code", "reason"),
    [
        ("changed.nnc", 8, None),
        ("stripped.nnc", 8, None),
        ("release.nnc", 9, "other-stream"),
        ("model.nnc", 9, "other-stream"),
        ("other.nnc", 9, "other-stream"),
        ("vendor.pub", 3, None),
    ],
)
def test_unlock_refuses_another_stream(
    run: Run, folder: Path, bought: None, trial: str, code: int, reason: str | None
) -> None:
    shutil.copy("trial.nnc", "changed.nnc")
    change(folder / "changed.nnc", b"conv.bias")
    strip = ("strip", "trial.nnc", "-o", "stripped.nnc", "--trust", "vendor.pub")
    assert run(*strip).code == 17, "as for verify"
    assert run(*strip, "--allow-trial").code == 0
    nnguard.lock("release.nnc").trial.save("other.nnc")
    arguments = ("--license", "ada.license", "--identity", "ada.key", "--trust", "vendor.pub")
    result = run("unlock", trial, "-o", "full.nnc", *arguments, "--json")
    assert result.code == code
    assert json.loads(result.out).get("reason") == reason
    assert not (folder / "full.nnc").exists()


def test_device_file_stands_for_the_customers_machine(run: Run, bought: None) -> None:
    result = run("license", "device", "-o", "ada.device")
    assert result.code == 0
    assert "send it to the vendor" in result.out
    assert run(*ISSUE, "-o", "d.license", "--to", "ada.pub", "--device", "ada.device").code == 0
    unlock = (*UNLOCK, "--license", "d.license", "--identity", "ada.key")
    assert run(*unlock).code == 0, "this is the device"
    assert run(*unlock, "--force", "--device", "ada.device").code == 0


def test_state_file_remembers_the_newest_time(run: Run, folder: Path, bought: None) -> None:
    unlock = (
        *UNLOCK,
        "--license",
        "ada.license",
        "--identity",
        "ada.key",
        "--license-state",
        "new.state",
    )
    assert run(*unlock, "--now", "2080-01-02").code == 0
    assert (folder / "new.state").exists()
    back = run(*unlock, "--force", "--now", "2080-01-01")
    assert back.code == 9
    assert "2080-01-02" in back.err
    assert run(*unlock, "--force", "--now", "2080-01-03").code == 0


def test_tiers_open_as_far_as_their_licenses_say(run: Run, folder: Path) -> None:
    tiers = ("--soft", "--tier", "professional:fraction=1e-3", "--tier", "standard:fraction=1e-2")
    result = run(*LOCK, "--key", "vendor.key", *tiers)
    assert result.code == 0
    assert [line.split(":")[0].strip() for line in result.out.splitlines()[1:5]] == [
        "tier professional",
        "worth",
        "tier standard",
        "worth",
    ]
    assert run("keygen", "ada", "--identity").code == 0
    for tier in ("professional", "standard"):
        to = ("--to", "ada.pub", "--tier", tier)
        assert run(*ISSUE, "-o", f"{tier}.license", *to).code == 0
        unlock = ("unlock", "trial.nnc", "-o", f"{tier}.nnc", "--trust", "vendor.pub")
        customer = ("--license", f"{tier}.license", "--identity", "ada.key")
        result = run(*unlock, *customer, "--tier", tier)
        assert (result.code, result.err) == (0, "")
        assert f"tier {tier}" in result.out
    assert (folder / "professional.nnc").read_bytes() == (folder / "release.nnc").read_bytes()
    shown = run("verify", "standard.nnc", "--trust", "vendor.pub", "--allow-trial").out
    assert "locked=professional" in shown
    result = run(*ISSUE, "-o", "gold.license", "--to", "ada.pub", "--tier", "gold")
    assert (result.code, result.out) == (10, "")
    assert "it opens standard, professional" in result.err
    assert not (folder / "gold.license").exists()


def test_process_unlocks_without_a_word_on_standard_error(run: Run, bought: None) -> None:
    customer = ("--license", "ada.license", "--identity", "ada.key")
    done = samples.run_process(*UNLOCK, *customer)
    assert (done.returncode, done.stderr) == (0, b"")
    done = samples.run_process(*UNLOCK, *customer)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"exists already" in done.stderr


@pytest.mark.parametrize("command", ["keygen", "lock", "unlock"])
def test_help_of_commands_for_trials_has_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    assert f"  nnguard {command} " in capsys.readouterr().out


def test_trial_much_larger_than_the_release_gets_a_warning(
    run: Run, folder: Path, key: nnguard.SigningKey
) -> None:
    """Swapped, they would give the release away."""
    rng = np.random.default_rng(8)
    for name, rows in (("small", 60), ("large", 100)):
        arrays = {"w": rng.laplace(0, 0.05, (rows, 100)).astype(np.float32)}
        nnguard.sign(nnguard.compress(arrays), key).save(folder / f"{name}.nnc")
    lock = ("-o", "t.nnc", "--content-key", "c.key", "--force")
    usual = run("lock", "large.nnc", "--trial", "small.nnc", *lock)
    assert (usual.code, usual.err) == (0, "")
    swapped = run("lock", "small.nnc", "--trial", "large.nnc", *lock)
    assert (swapped.code, "large.nnc is much larger" in swapped.err) == (0, True)


def test_release_of_a_foreign_encoder_is_locked(run: Run) -> None:
    """The tensor that a record would lie in first has a size field that no encoder writes."""
    rng = np.random.default_rng(8)
    arrays = {"w": rng.laplace(0, 0.05, (60, 50)).astype(np.float32)}
    units = [unit.read() for unit in nnguard.compress(arrays)]
    units[-1] = (0x80000000 | len(units[-1]) + 2).to_bytes(4, "big") + units[-1][2:]
    Path("long.nnc").write_bytes(b"".join(units))
    nnguard.compress(
        {name: rng.laplace(0, 0.05, (90, 90)).astype(np.float32) for name in "ab"}
    ).save("weaker.nnc")
    result = run(
        *("lock", "long.nnc", "--trial", "weaker.nnc", "-o", "t.nnc", "--content-key", "c.key")
    )
    assert result.code == 0
    assert result.err.endswith("sign it first\n")


def test_tensors_that_are_scrambled_are_named(run: Run) -> None:
    assert ": conv.weight, all of one dimension" in run(*LOCK, "--scramble", "1").out
    assert json.loads(run(*LOCK, "--json", "--force").out)["tiers"][0]["tensors"] == ["conv.weight"]
