"""A customer with a license gets the release back, whatever way the license took."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard._hiding import Plan, embed, extract, room_of
from nnguard._hiding.frame import FrameHeader
from nnguard._licensing.license import License
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._operations.unlock import lock_id
from nnguard._records.kinds import RecordKind

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def customer() -> nnguard.Identity:
    return nnguard.Identity.generate()


@pytest.fixture(scope="module")
def release(key: nnguard.SigningKey) -> nnguard.Stream:
    """A release with room for a signature, locks, and a mark."""
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=20_000))
    return nnguard.sign(model, key, issuer="acme.ai", name="small", version="1.0")


@pytest.fixture(scope="module")
def locked(release: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.Locked:
    return nnguard.lock(release, signer=key, soft=nnguard.Soft(fraction=0.002))


@pytest.fixture(scope="module")
def license_(
    locked: nnguard.Locked, customer: nnguard.Identity, key: nnguard.SigningKey
) -> nnguard.licensing.License:
    return nnguard.licensing.issue(
        locked.trial,
        locked.content_key,
        to=customer.recipient,
        signer=key,
        terms=nnguard.licensing.Terms(customer="Ada Lovelace", metadata={"order": "4711"}),
    )


# Where things are


def test_unlocked_in_memory(
    release: nnguard.Stream,
    locked: nnguard.Locked,
    license_: nnguard.licensing.License,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
) -> None:
    full = nnguard.unlock(locked.trial, license_, customer, key.public_key)
    assert bytes(full) == bytes(release)
    assert nnguard.verify(full, key.public_key, allow_trial=True).claims.name == "small"


def test_unlocked_from_files_to_a_file(
    tmp_path: Path,
    release: nnguard.Stream,
    locked: nnguard.Locked,
    license_: nnguard.licensing.License,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
) -> None:
    locked.trial.save(tmp_path / "trial.nnc")
    license_.save(tmp_path / "ada.license")
    customer.save(tmp_path / "ada.key")
    key.public_key.save(tmp_path / "vendor.pub")
    paths = (tmp_path / name for name in ("trial.nnc", "ada.license", "ada.key"))
    full = nnguard.unlock(*paths, trust=tmp_path)
    full.save(tmp_path / "full.nnc")
    assert (tmp_path / "full.nnc").read_bytes() == bytes(release)
    assert (tmp_path / "trial.nnc").read_bytes() == bytes(locked.trial)


def test_trial_that_is_not_signed_itself(
    release: nnguard.Stream, customer: nnguard.Identity, key: nnguard.SigningKey
) -> None:
    made = nnguard.lock(release)
    trial, content_key = made.trial, made.content_key
    license_ = nnguard.licensing.issue(trial, content_key, to=customer.recipient, signer=key)
    assert bytes(nnguard.unlock(trial, license_, customer, key.public_key)) == bytes(release)


def test_release_that_is_not_signed(customer: nnguard.Identity, key: nnguard.SigningKey) -> None:
    model = nnguard.Stream.from_bytes(samples.small_stream())
    made = nnguard.lock(model, scramble=1.0)
    trial, content_key = made.trial, made.content_key
    license_ = nnguard.licensing.issue(trial, content_key, to=customer.recipient, signer=key)
    assert bytes(nnguard.unlock(trial, license_, customer, key.public_key)) == bytes(model)


def test_trial_of_a_stream_that_is_signed_by_two(
    release: nnguard.Stream,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
) -> None:
    """A reseller signs on top of the vendor, and sells."""
    resold = nnguard.sign(release, other_key, issuer="shop")
    made = nnguard.lock(resold, signer=other_key)
    trial, content_key = made.trial, made.content_key
    license_ = nnguard.licensing.issue(trial, content_key, to=customer.recipient, signer=other_key)
    full = nnguard.unlock(trial, license_, customer, other_key.public_key)
    assert bytes(nnguard.strip(full, other_key.public_key)) == bytes(release)


def test_progress_counts_the_bytes_of_the_trial(
    locked: nnguard.Locked,
    license_: nnguard.licensing.License,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
) -> None:
    seen: list[int] = []
    nnguard.unlock(locked.trial, license_, customer, key.public_key, progress=seen.append)
    assert sum(seen) == 2 * locked.trial.size  # hashed, and opened


# Identities


@pytest.mark.parametrize("post_quantum", [False, True])
@pytest.mark.parametrize("passphrase", [None, "pässword 模型"])
def test_identities_of_every_kind(
    tmp_path: Path,
    release: nnguard.Stream,
    locked: nnguard.Locked,
    key: nnguard.SigningKey,
    *,
    post_quantum: bool,
    passphrase: str | None,
) -> None:
    customer = nnguard.Identity.generate(post_quantum=post_quantum)
    customer.save(tmp_path / "ada.key", passphrase=passphrase)
    customer.recipient.save(tmp_path / "ada.pub")
    license_ = nnguard.licensing.issue(
        locked.trial, locked.content_key, to=tmp_path / "ada.pub", signer=key
    )
    identity = nnguard.Identity.load(tmp_path / "ada.key", passphrase=passphrase)
    full = nnguard.unlock(locked.trial, license_, identity, key.public_key)
    assert bytes(full) == bytes(release)


def test_path_of_an_identity_with_passphrase_says_what_is_missing(
    tmp_path: Path,
    locked: nnguard.Locked,
    license_: nnguard.licensing.License,
    key: nnguard.SigningKey,
) -> None:
    nnguard.Identity.generate().save(tmp_path / "ada.key", passphrase="secret")
    with pytest.raises(nnguard.errors.KeyFormatError, match="passphrase is needed"):
        nnguard.unlock(locked.trial, license_, tmp_path / "ada.key", key.public_key)


# Tiers


@pytest.fixture(scope="module")
def tiers(release: nnguard.Stream, key: nnguard.SigningKey) -> list[nnguard.Locked]:
    names = ("professional", "standard", "basic")
    wanted = [nnguard.Tier(name, soft=nnguard.Soft(fraction=0.001)) for name in names]
    return nnguard.lock_tiers(release, wanted, signer=key)


@pytest.mark.parametrize("depth", range(3))
def test_license_of_a_tier_gives_the_bytes_of_that_tier(
    depth: int,
    release: nnguard.Stream,
    tiers: list[nnguard.Locked],
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
) -> None:
    """The highest tier's content key issues them all, and so does each tier's own."""
    trial, name = tiers[-1].trial, tiers[depth].tier
    expected = release if depth == 0 else tiers[depth - 1].trial
    for content_key in (tiers[0].content_key, tiers[depth].content_key):
        license_ = nnguard.licensing.issue(
            trial,
            content_key,
            to=customer.recipient,
            signer=key,
            terms=nnguard.licensing.Terms(tier=name),
        )
        assert license_.terms.tier == name
        full = nnguard.unlock(trial, license_, customer, key.public_key, tier=name)
        assert bytes(full) == bytes(expected)
        assert nnguard.verify(full, key.public_key, allow_trial=True).claims.name == "small"


def test_license_of_a_lower_tier_is_refused_for_a_higher(
    tiers: list[nnguard.Locked], customer: nnguard.Identity, key: nnguard.SigningKey
) -> None:
    trial, content_key = tiers[-1].trial, tiers[1].content_key
    license_ = nnguard.licensing.issue(trial, content_key, to=customer.recipient, signer=key)
    assert license_.terms.tier == "standard"
    with pytest.raises(nnguard.errors.LicenseError, match="opens tier 'standard'") as caught:
        nnguard.unlock(trial, license_, customer, key.public_key, tier="professional")
    assert caught.value.reason is nnguard.licensing.Refusal.OTHER_TIER


def test_key_of_a_lower_tier_opens_no_higher(
    tiers: list[nnguard.Locked], customer: nnguard.Identity, key: nnguard.SigningKey
) -> None:
    basic = tiers[-1].content_key
    with pytest.raises(nnguard.errors.UnlockError, match="professional"):
        nnguard.licensing.issue(
            tiers[-1].trial,
            basic,
            to=customer.recipient,
            signer=key,
            terms=nnguard.licensing.Terms(tier="professional"),
        )
    for locked in tiers[:2]:
        with pytest.raises(nnguard.errors.WrongKeyError):
            nnguard.licensing.issue(locked.trial, basic, to=customer.recipient, signer=key)


# The mark


@pytest.fixture(scope="module")
def marked(
    locked: nnguard.Locked,
    license_: nnguard.licensing.License,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
) -> nnguard.Stream:
    return nnguard.unlock(locked.trial, license_, customer, key.public_key, watermark=True)


def test_mark_says_whom_the_release_is_licensed_to(
    marked: nnguard.Stream, license_: nnguard.licensing.License, key: nnguard.SigningKey
) -> None:
    report = nnguard.verify(nnguard.Stream.from_bytes(bytes(marked)), key.public_key)
    assert report.licensed_to == license_.terms
    assert report.claims.name == "small"
    assert report.to_json()["licensed_to"]["customer"] == "Ada Lovelace"


def test_release_without_mark_is_licensed_to_nobody(
    release: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    report = nnguard.verify(release, key.public_key)
    assert report.licensed_to is None
    assert "licensed_to" not in report.to_json()


def test_mark_is_stripped_with_the_signature(
    marked: nnguard.Stream, release: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    original = nnguard.strip(marked, key.public_key)
    assert bytes(original) == bytes(nnguard.strip(release, key.public_key))


def test_mark_moved_to_another_release_is_refused(
    license_: nnguard.licensing.License, key: nnguard.SigningKey
) -> None:
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=20_000, seed=1))
    other = nnguard.sign(model, key, name="small")
    moved = embed(other, license_.encoded, kind=RecordKind.LICENSE)
    for refuse in (nnguard.verify, nnguard.strip):
        with pytest.raises(nnguard.errors.VerificationError, match="another stream"):
            refuse(moved, key.public_key)


def test_mark_of_another_vendor_is_refused(
    release: nnguard.Stream,
    license_: nnguard.licensing.License,
    locked: nnguard.Locked,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
) -> None:
    foreign = License.make(
        license_.terms, Unwrapped(locked.content_key), customer.recipient, other_key
    )
    marked = embed(release, foreign.encoded, kind=RecordKind.LICENSE)
    with pytest.raises(nnguard.errors.WrongKeyError):
        nnguard.verify(marked, key.public_key)
    for refuse in (nnguard.verify, nnguard.strip):
        with pytest.raises(nnguard.errors.VerificationError, match=other_key.public_key.id.hex()):
            refuse(marked, [key.public_key, other_key.public_key])


def test_mark_of_another_vendor_is_not_made(
    release: nnguard.Stream,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
) -> None:
    """A reseller sells what the vendor signed: that unlocks, but nobody could verify a mark."""
    made = nnguard.lock(release, signer=other_key)
    trial, content_key = made.trial, made.content_key
    license_ = nnguard.licensing.issue(trial, content_key, to=customer.recipient, signer=other_key)
    trust = [key.public_key, other_key.public_key]
    assert bytes(nnguard.unlock(trial, license_, customer, trust)) == bytes(release)
    with pytest.raises(nnguard.errors.UnlockError, match=key.public_key.id.hex()):
        nnguard.unlock(trial, license_, customer, trust, watermark=True)


def of_many_tensors(key: nnguard.SigningKey) -> nnguard.Stream:
    rng = np.random.default_rng(0)
    arrays = {f"{n}": rng.normal(0, 0.05, (60, 50)).astype(np.float32) for n in range(8)}
    return nnguard.sign(nnguard.Stream.from_bytes(stock.encode(arrays, qp=-20)), key)


@pytest.mark.parametrize(
    ("layer", "carriers"),
    [
        (2, (4, 3)),
        (2, (3,)),
        (2, (3, 5)),
        (2, (3, 4, 9)),
        (2, tuple(range(3, 11))),
        (1, (3, 4)),
        (3, (3, 4)),
        (255, (3, 4)),
    ],
)
def test_mark_has_one_place(
    layer: int, carriers: tuple[int, ...], customer: nnguard.Identity, key: nnguard.SigningKey
) -> None:
    """Whoever has license and full model can hide it in other ways; each would be another file."""
    release = of_many_tensors(key)
    made = nnguard.lock(release, signer=key, soft=nnguard.Soft(fraction=0.002))
    trial, content_key = made.trial, made.content_key
    license_ = nnguard.licensing.issue(trial, content_key, to=customer.recipient, signer=key)
    marked = nnguard.unlock(trial, license_, customer, key.public_key, watermark=True)
    assert nnguard.verify(marked, key.public_key).licensed_to == license_.terms
    header = extract(marked).header
    assert (header.layer, header.carriers) == (2, (3, 4))
    size = 0 if carriers == (3,) else len(license_.encoded)
    moved = FrameHeader(RecordKind.LICENSE, layer, size, carriers)
    places = tuple(room_of(release, unit).places for unit in carriers)
    file = Plan(release, moved, places).embed(license_.encoded[:size])
    for refuse in (nnguard.verify, nnguard.strip):
        with pytest.raises(
            nnguard.errors.VerificationError, match=r"not where it belongs|was changed"
        ):
            refuse(nnguard.Stream.from_bytes(bytes(file)), key.public_key)


def test_changed_mark_is_refused(
    release: nnguard.Stream, license_: nnguard.licensing.License, key: nnguard.SigningKey
) -> None:
    forgeries = [
        license_.encoded.replace(b"Ada Lovelace", b"Eve Lovelace"),
        license_.encoded[:-1] + bytes([license_.encoded[-1] ^ 1]),
        license_.encoded[:-1],
        b"",
    ]
    for forged in forgeries:
        marked = embed(release, forged, kind=RecordKind.LICENSE)
        with pytest.raises(nnguard.errors.VerificationError, match="watermark was changed"):
            nnguard.verify(marked, key.public_key)


def test_no_bit_of_a_marked_release_can_be_changed(
    marked: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    data = bytes(marked)
    for bit in range(0, 8 * len(data), 449):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(nnguard.NnguardError):
            verify_bytes(bytes(changed), key)


def verify_bytes(data: bytes, key: nnguard.SigningKey) -> None:
    nnguard.verify(nnguard.Stream.from_bytes(data), key.public_key)


def test_mark_needs_no_changed_weights_below(
    marked: nnguard.Stream, release: nnguard.Stream
) -> None:
    """Under the mark is the release, byte for byte."""
    taken = extract(marked)
    assert taken.header.kind == RecordKind.LICENSE
    assert bytes(taken.original) == bytes(release)


# The way of a license by mail


def quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in text.splitlines())


MAIL: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "quoted": quoted,
    "quoted twice": lambda text: quoted(quoted(text)),
    "quoted with bars": lambda text: "".join(f"| {line}\n" for line in text.splitlines()),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "CR": lambda text: text.replace("\n", "\r"),
    "text around": lambda text: f"Dear Ada,\n\nyour license:\n\n{text}\n-- \nThe shop\n",
    "byte order mark": lambda text: "\ufeff" + text,
    "indented": lambda text: textwrap.indent(text, "    "),
    "blank lines": lambda text: text.replace("\n", "\n\n"),
    "spaces at the ends": lambda text: text.replace("\n", "  \n"),
    "no-break spaces": lambda text: text.replace("\n", "\n\u00a0"),
    "rewrapped": lambda text: rewrap(text, 40),
    "one line": lambda text: text.replace("\n", " "),
    "no line end": lambda text: text.rstrip("\n"),
    "all of it": lambda text: "\ufeffHi!\r\n" + quoted(rewrap(text, 50)).replace("\n", " \r\n"),
}


def rewrap(text: str, width: int) -> str:
    first, *body, last = text.splitlines()
    return "\n".join([first, *textwrap.wrap("".join(body), width), last, ""])


@pytest.mark.parametrize("way", MAIL)
def test_license_survives_mail(
    way: str,
    tmp_path: Path,
    license_: nnguard.licensing.License,
    locked: nnguard.Locked,
    release: nnguard.Stream,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
) -> None:
    path = tmp_path / "ada.license"
    path.write_bytes(MAIL[way](str(license_)).encode())
    assert nnguard.licensing.License.load(path).encoded == license_.encoded
    full = nnguard.unlock(locked.trial, path, customer, key.public_key)
    assert bytes(full) == bytes(release)


def test_mail_in_another_encoding_around_a_license(
    tmp_path: Path, license_: nnguard.licensing.License
) -> None:
    path = tmp_path / "ada.license"
    path.write_bytes("Für Ada:\n".encode("latin-1") + str(license_).encode() + b"\xff\xfe")
    assert nnguard.licensing.License.load(path).encoded == license_.encoded


def test_license_with_names_in_every_script(
    locked: nnguard.Locked, customer: nnguard.Identity, key: nnguard.SigningKey
) -> None:
    license_ = nnguard.licensing.issue(
        locked.trial,
        locked.content_key,
        to=customer.recipient,
        signer=key,
        terms=nnguard.licensing.Terms(
            issuer="Crème & Söhne",
            customer="王小明 🦊",
            product="модель",
            features=["übersetzen", "日本語"],
            metadata={"Größe": "groß", "": ""},
        ),
    )
    assert str(license_).isascii()
    terms = nnguard.licensing.License.from_text(str(license_)).terms
    assert (terms.issuer, terms.customer, terms.product) == ("Crème & Söhne", "王小明 🦊", "модель")
    assert terms.features == ("übersetzen", "日本語")
    assert dict(terms.metadata) == {"Größe": "groß", "": ""}
    assert nnguard.unlock(locked.trial, license_, customer, key.public_key)


# What issuing fills in, and refuses


def test_license_for_a_trial_that_another_key_signed_is_not_issued(
    locked: nnguard.Locked,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
) -> None:
    with pytest.raises(nnguard.errors.WrongKeyError, match="the license would be") as caught:
        nnguard.licensing.issue(
            locked.trial, locked.content_key, to=customer.recipient, signer=other_key
        )
    assert key.public_key.id.hex() in str(caught.value)
    assert other_key.public_key.id.hex() in str(caught.value)


def test_license_of_another_key_than_the_trial_where_the_seller_insists(
    locked: nnguard.Locked,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
) -> None:
    license_ = nnguard.licensing.issue(
        locked.trial,
        locked.content_key,
        to=customer.recipient,
        signer=other_key,
        terms=nnguard.licensing.Terms(product="small"),
        any_signer=True,
    )
    assert (license_.terms.product, license_.terms.issuer) == ("small", "")
    both = [key.public_key, other_key.public_key]
    assert nnguard.unlock(locked.trial, license_, customer, both)
    with pytest.raises(nnguard.errors.WrongKeyError):
        nnguard.unlock(locked.trial, license_, customer, other_key.public_key)
    own = nnguard.licensing.issue(
        locked.trial, locked.content_key, to=customer.recipient, signer=key, any_signer=True
    )
    assert own.terms.issuer == "acme.ai", "as the trial says, which is checked then"


def test_license_for_a_trial_that_does_not_verify_is_not_issued(
    locked: nnguard.Locked, customer: nnguard.Identity, key: nnguard.SigningKey
) -> None:
    units = [unit.read() for unit in locked.trial]
    plain = next(i for i, unit in enumerate(locked.trial) if unit.name == "conv.steps")
    units[plain] = units[plain][:-1] + bytes([units[plain][-1] ^ 1])
    changed = nnguard.Stream.from_bytes(b"".join(units))
    with pytest.raises(nnguard.errors.VerificationError):
        nnguard.licensing.issue(changed, locked.content_key, to=customer.recipient, signer=key)


def test_license_says_what_the_trial_says(
    license_: nnguard.licensing.License, locked: nnguard.Locked
) -> None:
    terms = license_.terms
    assert terms.customer == "Ada Lovelace"
    assert (terms.issuer, terms.product, terms.tier) == ("acme.ai", "small", "full")
    assert terms.expires_at is None
    assert terms.not_before == terms.issued_at
    assert abs(datetime.now(timezone.utc) - terms.issued_at) < HOUR
    assert terms.lock == locked.content_key.id.hex()


def test_licenses_have_ids_of_their_own(
    locked: nnguard.Locked, customer: nnguard.Identity, key: nnguard.SigningKey
) -> None:
    made = [
        nnguard.licensing.issue(locked.trial, locked.content_key, to=customer.recipient, signer=key)
        for _ in range(5)
    ]
    assert len({license_.terms.id for license_ in made}) == 5
    assert len({license_.encoded for license_ in made}) == 5


def test_mark_needs_a_signature_under_it(
    customer: nnguard.Identity, key: nnguard.SigningKey
) -> None:
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=20_000))
    locked = nnguard.lock(model, soft=nnguard.Soft(fraction=0.002))
    license_ = nnguard.licensing.issue(
        locked.trial, locked.content_key, to=customer.recipient, signer=key
    )
    with pytest.raises(
        nnguard.errors.UnlockError, match="was restored is not signed, and a watermark"
    ):
        nnguard.unlock(locked.trial, license_, customer, key.public_key, watermark=True)
    full = nnguard.unlock(locked.trial, license_, customer, key.public_key)
    assert bytes(full) == bytes(model)


@pytest.mark.parametrize("signed", [False, True])
def test_lock_is_known_by_its_content_key(
    release: nnguard.Stream, key: nnguard.SigningKey, *, signed: bool
) -> None:
    made = nnguard.lock(release, signer=key if signed else None)
    trial, content_key = made.trial, made.content_key
    assert lock_id(trial) == content_key.id.hex()


def test_release_that_was_changed_before_it_was_locked(
    release: nnguard.Stream, customer: nnguard.Identity, key: nnguard.SigningKey
) -> None:
    """The lock and the license are right; the release's own signature is not."""
    units = [unit.read() for unit in release]
    steps = next(index for index, unit in enumerate(release) if unit.name == "conv.steps")
    units[steps] = units[steps][:-2] + bytes([units[steps][-2] ^ 1, units[steps][-1]])
    made = nnguard.lock(nnguard.Stream.from_bytes(b"".join(units)))
    trial, content_key = made.trial, made.content_key
    license_ = nnguard.licensing.issue(trial, content_key, to=customer.recipient, signer=key)
    with pytest.raises(nnguard.errors.VerificationError, match="changed after it was signed"):
        nnguard.unlock(trial, license_, customer, key.public_key)


def test_license_of_nobody_is_made_out_to_nobody(
    release: nnguard.Stream, customer: nnguard.Identity, key: nnguard.SigningKey
) -> None:
    """What is not given, and not in the trial's signature, is empty."""
    made = nnguard.lock(release)
    trial, content_key = made.trial, made.content_key
    terms = nnguard.licensing.issue(trial, content_key, to=customer.recipient, signer=key).terms
    assert (terms.issuer, terms.customer, terms.product, terms.tier) == ("", "", "", "full")
    assert (terms.features, dict(terms.metadata), terms.device) == ((), {}, None)
    assert terms.grace == timedelta(0)
    odd = nnguard.licensing.issue(
        trial,
        content_key,
        to=customer.recipient,
        signer=key,
        terms=nnguard.licensing.Terms(grace=timedelta(seconds=3)),
    )
    assert odd.terms.grace == timedelta(seconds=3)


@pytest.mark.parametrize(("traits", "required"), [(1, 1), (2, 2), (3, 2), (4, 3), (9, 8)])
def test_all_traits_of_a_device_but_one_have_to_match(
    traits: int,
    required: int,
    locked: nnguard.Locked,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
) -> None:
    device = nnguard.licensing.Device.of_values(("card", f"{number}") for number in range(traits))
    license_ = nnguard.licensing.issue(
        locked.trial,
        locked.content_key,
        to=customer.recipient,
        signer=key,
        terms=nnguard.licensing.Terms(device=device),
    )
    assert license_.terms.device is not None
    assert license_.terms.device.required == required


def test_lock_of_nothing_is_refused(release: nnguard.Stream) -> None:
    with pytest.raises(ValueError, match="fraction is 0, not above 0"):
        nnguard.lock(release, soft=nnguard.Soft(fraction=0))
