"""Nothing that is shown, logged, raised or written gives a secret away.

A whole life is lived with planted secrets: locking, issuing, unlocking, refusals of every kind.
Then all that came of it is searched for them: as bytes, as hexadecimal, in Base64, as Python shows
bytes and arrays. Tracebacks are printed with the local variables of every frame of nnguard.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import nnguard
import samples
from nnguard._base import atomic
from nnguard._cli import main
from nnguard._crypto.trust import load_trust
from nnguard._hiding import extract
from nnguard._licensing.license import License
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._locking.choice import choose
from nnguard._locking.coding import read_all
from nnguard._records.lock import LockContent
from opening import lock_of, open_locks
from planting import Secrets, planted

pytest.importorskip("sqlalchemy")

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
PASSPHRASE = "correct horse battery staple"


@dataclass
class Shop:
    """A vendor, a customer and their things, made of planted secrets."""

    folder: Path
    vendor: nnguard.SigningKey
    issuer_identity: nnguard.Identity
    customer: nnguard.Identity
    tiers: list[nnguard.Locked]
    license: nnguard.licensing.License
    release: nnguard.Stream
    secrets: Secrets

    def __repr__(self) -> str:
        return "<shop>"

    @property
    def trial(self) -> nnguard.Stream:
        return self.tiers[-1].trial

    def unlock(self, license_: nnguard.licensing.License, **changes: Any) -> nnguard.Stream:
        given = {"identity": self.customer, "trust": [self.vendor.public_key]}
        policy = nnguard.licensing.Policy(now=START)
        return nnguard.unlock(
            self.trial, license_, **{**given, "license_policy": policy, **changes}
        )

    def make(
        self, signer: nnguard.Signer | None = None, **choices: Any
    ) -> nnguard.licensing.License:
        return nnguard.licensing.issue(
            self.trial,
            self.tiers[0].content_key,
            to=self.customer.recipient,
            signer=signer or self.vendor,
            terms=nnguard.licensing.Terms(**{"issued_at": START, **choices}),
        )


def identity_of(name: str) -> nnguard.Identity:
    return nnguard.Identity(X25519PrivateKey.from_private_bytes(planted(name)))


def plant_lock(secrets: Secrets, name: str, locked: nnguard.Locked) -> LockContent:
    """Plant what a lock hides, and the keys that are derived for it."""
    key, outer = locked.content_key, extract(locked.trial)
    if outer.header.kind == 1:
        outer = extract(outer.original)
    record = lock_of(outer)
    content = record.open(key, bytes(outer.header))
    secrets.add(f"content key of {name}", key.secret)
    secrets.add(f"record key of {name}", key._derive(b"record", record.envelope.nonce))
    for use in ("choice", "scramble"):
        keystream = key.keystream(use, record.envelope.nonce)
        secrets.add(f"keystream {use} of {name}", keystream._key)
    secrets.add(f"content of {name}", bytes(content)[:-50])
    for part in content.replaced:
        secrets.add_numbers(f"positions of {name}", part.positions)
        secrets.add_numbers(f"values of {name}", part.values)
    return content


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for temporary files, of which nothing is ever removed."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Shop:
    secrets = Secrets()
    for name in ("vendor", "issuer", "customer", "stranger"):
        secrets.add(f"private key of the {name}", planted(name))
    secrets.add("passphrase", PASSPHRASE.encode())
    vendor = nnguard.SigningKey(Ed25519PrivateKey.from_private_bytes(planted("vendor")))
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=20_000))
    release = nnguard.sign(model, vendor, issuer="acme.ai", name="small")
    wanted = [
        nnguard.Tier("gold", soft=nnguard.Soft(fraction=0.002)),
        nnguard.Tier("silver", scramble=0.1, soft=nnguard.Soft(fraction=0.002)),
    ]
    key = nnguard.ContentKey(planted("content"))
    tiers = nnguard.lock_tiers(release, wanted, content_key=key, signer=vendor)
    for locked in tiers:
        plant_lock(secrets, locked.tier, locked)
    customer, issuer = identity_of("customer"), identity_of("issuer")
    trial = tiers[-1].trial
    license_ = nnguard.licensing.issue(
        trial,
        key,
        to=customer.recipient,
        signer=vendor,
        terms=nnguard.licensing.Terms(issued_at=START),
    )
    folder = tmp_path_factory.mktemp("shop")
    return Shop(folder, vendor, issuer, customer, tiers, license_, release, secrets)


def test_search_finds_what_is_planted(shop: Shop) -> None:
    """Every secret is found in every form, wherever in a text it begins."""
    assert len(shop.secrets.named) >= 16
    for name, secret in (("private key of the vendor", planted("vendor")),):
        for before in range(7):
            data = b"x" * before + secret + b"y" * 5
            for shown in (
                data,
                data.hex().encode(),
                base64.b64encode(data),
                base64.urlsafe_b64encode(data),
                repr(data).encode(),
                str([*data]).encode(),
                str({"secret": data}).encode(),
            ):
                assert name in shop.secrets.found_in(shown)
    content = LockContent.parse(content_of(shop))
    shown = f"{content.replaced[0].positions!r} {content.replaced[0].values!r}"
    assert {"positions of gold", "values of gold"} <= {*shop.secrets.found_in(shown.encode())}
    assert shop.secrets.found_in(b"nothing of the kind" + bytes(range(256))) == []


def content_of(shop: Shop) -> bytes:
    locked = shop.tiers[0]
    outer = extract(extract(locked.trial).original)
    return bytes(lock_of(outer).open(locked.content_key, bytes(outer.header)))


# What goes out


def test_what_is_given_away(shop: Shop) -> None:
    """The trial, the license, public keys, lists; a gold license says nothing of gold."""
    revoked = nnguard.licensing.RevocationList.make([shop.license.terms.id], shop.vendor)
    given = [
        bytes(shop.trial),
        shop.license.encoded,
        str(shop.license).encode(),
        revoked.encoded,
        shop.vendor.public_key.pem,
        shop.customer.recipient.pem,
        json.dumps(shop.license.terms.to_json()).encode(),
        json.dumps(
            nnguard.verify(shop.trial, shop.vendor.public_key, allow_trial=True).to_json()
        ).encode(),
        repr(nnguard.inspect(shop.trial)).encode(),
        repr(shop.license).encode(),
    ]
    for data in given:
        assert shop.secrets.found_in(data) == []


def test_license_of_a_lower_tier_holds_no_higher_key(shop: Shop) -> None:
    """Even unwrapped, it leads down only."""
    silver = shop.make(tier="silver").unwrap(shop.customer).content_key
    below = {silver.below(steps).secret for steps in range(8)}
    assert shop.tiers[0].content_key.secret not in below


def objects(shop: Shop) -> list[object]:
    """Return everything that holds a secret, or is next to one."""
    locked = shop.tiers[0]
    key = locked.content_key
    content = LockContent.parse(content_of(shop))
    units = [index for index, unit in enumerate(shop.release) if unit.name == "conv.weight"]
    tensors = read_all(shop.release, units)
    trial = shop.trial
    outer = extract(trial)
    with nnguard.licensing.Ledger(shop.folder / "objects.db") as ledger:
        issuer = nnguard.licensing.Issuer(ledger, shop.vendor, shop.issuer_identity)
        return [
            key,
            key.keystream("choice", bytes(12)),
            shop.vendor,
            shop.customer,
            shop.customer.recipient,
            shop.issuer_identity,
            shop.license,
            shop.license.terms,
            locked,
            shop.tiers,
            content,
            *content.replaced,
            choose(tensors, 40, key.keystream("choice", bytes(12)), None),
            lock_of(extract(outer.original)),
            open_locks(trial, key),
            nnguard.licensing.check(
                shop.license,
                shop.vendor.public_key,
                license_policy=nnguard.licensing.Policy(now=START),
            ),
            issuer,
            ledger,
        ]


def test_what_objects_show(shop: Shop) -> None:
    for each in objects(shop):
        for shown in (repr(each), str(each), f"{each}", repr([each]), repr({"a": each})):
            assert shop.secrets.found_in(shown.encode()) == [], type(each)


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy])
def test_objects_with_keys_are_not_copied(shop: Shop, copier: Callable[[object], object]) -> None:
    locked = shop.tiers[0]
    keystream = locked.content_key.keystream("scramble", bytes(12))
    for each in (locked.content_key, keystream, shop.customer):
        with pytest.raises(TypeError):
            copier(each)
    with pytest.raises(TypeError):
        pickle.dumps(locked)
    with pytest.raises(TypeError):
        pickle.dumps(shop.vendor)


# What errors say


def wrong_key_license(shop: Shop) -> nnguard.licensing.License:
    terms = shop.license.terms
    stranger = nnguard.ContentKey(planted("stranger"))
    return License.make(terms, Unwrapped(stranger), shop.customer.recipient, shop.vendor)


def changed_trial(shop: Shop) -> nnguard.Stream:
    data = bytearray(bytes(shop.trial))
    data[-20] ^= 1
    return nnguard.Stream.from_bytes(bytes(data))


def broken_lock(shop: Shop) -> object:
    """Open a trial that was changed where nothing but the lock's digest tells."""
    bare = extract(shop.trial).original
    units = samples.split(bytes(bare))
    at = [unit.name for unit in bare].index("conv.bias")
    units[at] = units[at][:-2] + bytes([units[at][-2] ^ 1]) + units[at][-1:]
    changed = nnguard.Stream.from_bytes(b"".join(units))
    key = shop.tiers[-1].content_key
    return open_locks(changed, key)


def save_all(shop: Shop) -> Path:
    folder = shop.folder / "keys"
    folder.mkdir(exist_ok=True)
    for name, save in (
        ("vendor.key", shop.vendor.save),
        ("ada.key", shop.customer.save),
        ("content.key", shop.tiers[0].content_key.save),
    ):
        save(folder / name, overwrite=True)
    shop.customer.save(folder / "safe.key", passphrase="another one", overwrite=True)
    return folder


class BrokenSigner:
    """An HSM that signs wrongly."""

    def __init__(self, key: nnguard.PublicKey) -> None:
        self.public_key = key

    def sign(self, data: bytes) -> bytes:
        return bytes(64)


DAY = timedelta(days=1)
REFUSALS: dict[str, Callable[[Shop], object]] = {
    "wrong customer": lambda shop: shop.unlock(shop.license, identity=identity_of("stranger")),
    "wrong vendor": lambda shop: shop.unlock(
        shop.license, trust=[nnguard.SigningKey.generate().public_key]
    ),
    "wrong content key": lambda shop: shop.unlock(wrong_key_license(shop)),
    "changed license": lambda shop: shop.unlock(
        nnguard.licensing.License.parse(
            shop.license.encoded[:-1] + bytes([shop.license.encoded[-1] ^ 1])
        )
    ),
    "changed trial": lambda shop: nnguard.unlock(
        changed_trial(shop), shop.license, shop.customer, shop.vendor.public_key
    ),
    "broken lock": broken_lock,
    "not locked": lambda shop: nnguard.unlock(
        shop.release, shop.license, shop.customer, shop.vendor.public_key
    ),
    "other result": lambda shop: shop.unlock(
        License.make(
            replace(shop.license.terms, opens="00" * 32),
            Unwrapped(shop.tiers[0].content_key),
            shop.customer.recipient,
            shop.vendor,
        )
    ),
    "expired": lambda shop: shop.unlock(
        shop.make(expires_at=START + DAY), license_policy=nnguard.licensing.Policy(now=START + DAY)
    ),
    "not yet valid": lambda shop: shop.unlock(shop.make(not_before=START + DAY)),
    "other tier": lambda shop: shop.unlock(shop.license, tier="platinum"),
    "clock": lambda shop: shop.unlock(
        shop.license, license_policy=nnguard.licensing.Policy(now=START - DAY)
    ),
    "no list": lambda shop: shop.unlock(
        shop.license, license_policy=nnguard.licensing.Policy(now=START, max_age=DAY)
    ),
    "other device": lambda shop: shop.unlock(
        shop.make(device=nnguard.licensing.Device.of_values([("a", "b")]))
    ),
    "issue for another key": lambda shop: nnguard.licensing.issue(
        shop.trial,
        nnguard.ContentKey(planted("stranger")),
        to=shop.customer.recipient,
        signer=shop.vendor,
    ),
    "issue with another tier": lambda shop: shop.make(tier="platinum"),
    "issue without time zone": lambda shop: shop.make(expires_at=datetime(2026, 1, 1)),
    "issue with a number for a name": lambda shop: shop.make(customer=7),
    "issue by a broken HSM": lambda shop: shop.make(signer=BrokenSigner(shop.vendor.public_key)),
    "lock by a broken HSM": lambda shop: nnguard.lock(
        shop.release,
        content_key=shop.tiers[0].content_key,
        signer=BrokenSigner(shop.vendor.public_key),
    ),
    "lock without room": lambda shop: nnguard.lock(
        nnguard.compress({"w": np.eye(40, dtype=np.float32)}),
        content_key=shop.tiers[0].content_key,
        soft=nnguard.Soft(fraction=0.01),
    ),
    "key file exists": lambda shop: shop.tiers[0].content_key.save(save_all(shop) / "content.key"),
    "identity file exists": lambda shop: shop.customer.save(save_all(shop) / "ada.key"),
    "content key for an identity": lambda shop: nnguard.Identity.load(
        save_all(shop) / "content.key"
    ),
    "identity for a content key": lambda shop: nnguard.ContentKey.load(save_all(shop) / "ada.key"),
    "identity for a vendor's key": lambda shop: nnguard.SigningKey.load(save_all(shop) / "ada.key"),
    "vendor's key for an identity": lambda shop: nnguard.Identity.load(
        save_all(shop) / "vendor.key"
    ),
    "private key to be trusted": lambda shop: load_trust(save_all(shop) / "vendor.key"),
    "wrong passphrase": lambda shop: nnguard.Identity.load(
        save_all(shop) / "safe.key", passphrase=PASSPHRASE
    ),
    "pickle": lambda shop: pickle.dumps(shop.tiers[0]),
}

SHOWN_WITH_LOCALS = {
    "key file exists",
    "identity file exists",
    "content key for an identity",
    "identity for a content key",
    "identity for a vendor's key",
    "vendor's key for an identity",
    "private key to be trusted",
    "wrong passphrase",
}
"""Refusals of key files: their bytes and the passphrase are local variables while they are read and
written, so a debugger that prints these shows them. The message and the traceback do not."""

WRONG_TYPES = {"issue with a number for a name": [TypeError], "pickle": [TypeError]}


def refuse(case: str, shop: Shop) -> BaseException:
    try:
        REFUSALS[case](shop)
    except (nnguard.NnguardError, OSError, *WRONG_TYPES.get(case, ())) as error:
        return error
    raise AssertionError(f"{case}: not refused")


def frames_of_nnguard(error: BaseException) -> str:
    """Print the chain of an error with the local variables of nnguard's frames, not of the test."""
    lines = []
    shown: BaseException | None = error
    while shown is not None:
        trace = traceback.TracebackException.from_exception(shown, capture_locals=True)
        frames = [frame for frame in trace.stack if frame.filename != __file__]
        assert all(frame.locals is not None for frame in frames)
        lines += traceback.StackSummary.from_list(frames).format()
        lines += trace.format_exception_only()
        shown = shown.__cause__ or shown.__context__
    return "".join(lines)


@pytest.mark.parametrize("case", REFUSALS)
def test_what_refusals_say(case: str, shop: Shop) -> None:
    error = refuse(case, shop)
    said = "".join(traceback.format_exception(error))
    said += f"{error}{error!r}{error.args}{getattr(error, 'hint', '')}{vars(error)}"
    assert shop.secrets.found_in(said.encode()) == []


@pytest.mark.parametrize("case", [case for case in REFUSALS if case not in SHOWN_WITH_LOCALS])
def test_local_variables_of_refusals(case: str, shop: Shop) -> None:
    shown = frames_of_nnguard(refuse(case, shop))
    assert "src/nnguard" in shown or "nnguard/" in shown
    assert shop.secrets.found_in(shown.encode()) == []


# What is written


def test_ledger(shop: Shop) -> None:
    path = shop.folder / "licenses.db"
    with nnguard.licensing.Ledger(path) as ledger:
        issuer = nnguard.licensing.Issuer(ledger, shop.vendor, shop.issuer_identity)
        first = issuer.issue(shop.trial, shop.tiers[0].content_key, to=shop.customer.recipient)
        terms = nnguard.licensing.Terms(tier="silver", customer="Ada")
        issuer.issue(shop.trial, to=shop.customer.recipient, terms=terms)
        issuer.revoke([first.terms.id], reason="refund")
        shown = repr([ledger, issuer, *ledger.entries()]).encode()
        files = b"".join(file.read_bytes() for file in shop.folder.glob("licenses.db*"))
    assert b"refund" in files
    assert first.terms.id.encode() in files
    for data in (files, path.read_bytes(), shown):
        assert shop.secrets.found_in(data) == []


def test_logs_and_output(
    shop: Shop, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        with nnguard.licensing.Ledger(shop.folder / "logged.db") as ledger:
            issuer = nnguard.licensing.Issuer(ledger, shop.vendor, shop.issuer_identity)
            license_ = issuer.issue(
                shop.trial,
                shop.tiers[0].content_key,
                to=shop.customer.recipient,
                terms=nnguard.licensing.Terms(issued_at=START),
            )
            full = shop.unlock(license_)
        assert bytes(full) == bytes(shop.release)
        nnguard.lock(shop.release, content_key=shop.tiers[0].content_key, scramble=0.1)
        for case in REFUSALS:
            refuse(case, shop)
    out, err = capfd.readouterr()
    assert shop.secrets.found_in((caplog.text + out + err).encode()) == []


def test_temporary_files(shop: Shop, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlocking to memory and to a file leaves nothing behind, and puts nothing elsewhere."""
    made: list[Path] = []
    make = atomic._open_temporary

    def watched(path: Path, mode: int) -> BinaryIO:
        made.append(path)
        return make(path, mode)

    monkeypatch.setattr(atomic, "_open_temporary", watched)
    shop.trial.save(shop.folder / "trial.nnc")
    full = nnguard.unlock(
        shop.folder / "trial.nnc",
        shop.license,
        shop.customer,
        shop.vendor.public_key,
        license_policy=nnguard.licensing.Policy(now=START),
    )
    assert [path.parent for path in made] == [shop.folder], "only the trial itself was written"
    full.save(shop.folder / "full.nnc")
    assert {path.parent for path in made} == {shop.folder}
    for case in REFUSALS:
        refuse(case, shop)
    assert list(temporary.iterdir()) == []
    left = {path.name for path in shop.folder.iterdir()}
    assert not any(name.startswith(".") for name in left)


def test_commands(
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A whole life on the command line: each secret is in its own file, and nowhere else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nnguard.ContentKey, "generate", lambda: nnguard.ContentKey(planted("life")))
    model = samples.path_of("default").read_bytes()
    (tmp_path / "model.nnc").write_bytes(model)
    issue = "license issue trial.nnc --key vendor.key --to ada.pub --customer Ada"
    ledger = "--ledger licenses.db --ledger-key issuer.key"
    unlock = "unlock trial.nnc --license ada.license --trust vendor.pub"
    for command, code in (
        ("keygen vendor", 0),
        ("keygen ada --identity", 0),
        ("keygen issuer --identity", 0),
        ("sign model.nnc -o release.nnc --key vendor.key", 0),
        ("lock release.nnc -o trial.nnc --content-key content.key --key vendor.key --json", 0),
        (f"{issue} -o ada.license --content-key content.key {ledger}", 0),
        (f"{issue} -o second.license {ledger} --json", 0),
        (f"{issue} -o third.license --content-key ada.key", 6),
        ("license show ada.license --json", 0),
        ("license list --ledger licenses.db", 0),
        ("inspect trial.nnc --json", 0),
        (f"{unlock} -o full.nnc --identity ada.key --watermark", 0),
        ("verify full.nnc --trust vendor.pub --json", 0),
        ("strip full.nnc -o model2.nnc --trust vendor.pub", 0),
        (f"{unlock} -o no.nnc --identity issuer.key", 7),
        (f"{unlock} -o no.nnc --identity vendor.key", 6),
        (f"{unlock} -o no.nnc --identity ada.key --now 2020-01-01", 9),
    ):
        assert main(command.split()) == code, capsys.readouterr()
    assert (tmp_path / "model2.nnc").read_bytes() == model
    said = "".join(capsys.readouterr())
    assert "Ada" in said
    secrets = Secrets()
    secrets.add("content.key", planted("life"))
    for name in ("vendor.key", "ada.key", "issuer.key"):
        secrets.add(name, base64.b64decode((tmp_path / name).read_bytes().splitlines()[1])[-32:])
    assert secrets.found_in(said.encode()) == []
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        found = secrets.found_in(file.read_bytes())
        assert found == ([file.name] if file.name in secrets.named else []), file
    assert list(temporary.iterdir()) == []
