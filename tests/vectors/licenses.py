"""Vectors of licenses that unlock a trial."""

from __future__ import annotations

import functools
from typing import Any

from nnguard._stream import Stream
from vectors.carried import weaker
from vectors.locks import LOWER, large, locked, much_work
from vectors.selling import (
    DAY,
    NOW,
    SALT,
    armor,
    carry,
    license_of,
    lock,
    print_of,
    revocation_list,
    spread,
)
from vectors.toolbox import HYBRID_65, P256, Made, carrier_of, several, sign, small, vector

TRIAL = "license"
"""Vector with the trial that most licenses are for."""
TRAITS = [["host", "atelier"], ["machine-id", "0123"], ["disk", "\u00e4"]]
DEVICE = [2, SALT, b"".join(sorted(print_of(kind, value) for kind, value in TRAITS))]


@functools.cache
def sale() -> tuple[Stream, Stream]:
    """A signed trial, and the signed release in it."""
    release = sign(large())
    return sign(locked(release)), release


def sold(license_: bytes | str, *, file: str = TRIAL, **details: Any) -> Made:
    """A license for the usual trial.

    Args:
        license_: Its bytes or its text.
        file: Vector that has the stream.
        details: What a deployment knows, or what a reader finds; `revocations` is a list.
    """
    text = license_ if isinstance(license_, str) else armor(license_)
    texts = [("license", text)]
    if (revocations := details.pop("revocations", None)) is not None:
        texts.append(("revocations", armor(revocations, "REVOCATION LIST")))
    known = {"customer": "ada", "now": NOW + DAY, **details}
    return Made(details=tuple(known.items()), texts=tuple(texts), file=file)


def unlocks(license_: bytes | str, **details: Any) -> Made:
    """A license that unlocks the usual trial."""
    found = {"in_grace": False, **details}
    made = sold(license_, **found)
    return Made(b"", bytes(sale()[1]), made.details, made.texts, made.file)


def with_trial(trial: Stream, release: Stream, license_: bytes, **details: Any) -> Made:
    """A license with a trial of its own."""
    found = {"in_grace": False, **details}
    made = sold(license_, file="", **found)
    return Made(bytes(trial), bytes(release), made.details, made.texts)


@vector("11.3", "ok", operation="unlock")
def license() -> Made:  # noqa: A001
    """A signed trial of a signed release."""
    trial, release = sale()
    return with_trial(trial, release, license_of(trial, release))


@vector("8", "ok", operation="unlock")
def license_of_much_work() -> Made:
    """The trial costs more than the limit; the license vouches for it."""
    trial, release = much_work()
    return with_trial(trial, release, license_of(trial, release))


@vector("11.1", "ok", operation="unlock")
def license_in_mail() -> Made:
    """Quoted in a mail, with text around it, other line ends, and spaces that do not break."""
    trial, release = sale()
    lines = armor(license_of(trial, release)).splitlines()
    body = "".join(f"> {line[:40]}\u00a0\r\n>> {line[40:]}\t\r\n" for line in lines[1:-1])
    text = f"Dear Ada,\r\n\r\n> {lines[0]}\r\n{body}> {lines[-1]}\r\n\r\nYours, Vendor\r\n"
    return unlocks(text)


@vector("11.3", "ok", operation="unlock")
def license_with_all_claims() -> Made:
    """Expiry, features, metadata, a device of which two of three traits match, and a list."""
    trial, release = sale()
    claims = {
        4: NOW + 30 * DAY,
        "grace": 7 * DAY,
        "features": ["batch", "gpu", ""],
        "meta": {"order": "1234", "L\u00e4nge": "\u2713"},
        "device": DEVICE,
    }
    return unlocks(
        license_of(trial, release, claims=claims),
        revocations=revocation_list([bytes(16)], NOW),
        max_age=DAY,
        traits=[*TRAITS[:2], ["disk", "a"], ["network", "00"]],
        seen=NOW + DAY,
        tier="full",
    )


@vector("11.1", "ok", operation="unlock")
def license_of_few_claims() -> Made:
    """No issuer, no customer, no product, no tier."""
    trial, release = sale()
    claims = {1: None, 2: None, "product": None, "tier": None}
    return unlocks(license_of(trial, release, claims=claims))


@vector("11.3", "ok", operation="unlock")
def license_last_second() -> Made:
    """The second before it expires."""
    trial, release = sale()
    return unlocks(license_of(trial, release, claims={4: NOW + DAY + 1}))


@vector("11.3", "ok", operation="unlock")
def license_in_grace() -> Made:
    """It has expired this very second, and holds for one more."""
    trial, release = sale()
    license_ = license_of(trial, release, claims={4: NOW + DAY, "grace": 1})
    return unlocks(license_, in_grace=True)


@vector("11.3", "ok", operation="unlock")
def license_clocks_differ() -> Made:
    """The clock is five minutes behind the vendor's; the license holds from before that."""
    trial, release = sale()
    return unlocks(license_of(trial, release, claims={5: NOW - DAY}), now=NOW - 300)


@vector("11.1", "ok", operation="unlock")
def license_hybrid() -> Made:
    """Wrapped by ML-KEM-768 and X25519."""
    trial, release = sale()
    return unlocks(license_of(trial, release, to="hybrid"), customer="hybrid")


@vector("11.1", "ok", operation="unlock")
def license_by_p256() -> Made:
    """Signed by ECDSA on P-256, as is the list; the trial by the vendor's other key."""
    trial, release = sale()
    encoded = license_of(trial, release, key=P256)
    revoked = revocation_list([], key=P256)
    return unlocks(encoded, revocations=revoked, trust=["vendor", "p256"])


@vector("11.1", "ok", operation="unlock")
def license_by_hybrid() -> Made:
    """Signed by Ed25519 and ML-DSA-65."""
    trial, release = sale()
    encoded = license_of(trial, release, key=HYBRID_65)
    return unlocks(encoded, trust=["vendor", "hybrid_65"])


@vector("11.3", "ok", operation="unlock")
def license_unsigned() -> Made:
    """Neither the trial nor the release is signed."""
    release = large()
    trial = locked(release)
    return with_trial(trial, release, license_of(trial, release))


@vector("11.3", "ok", operation="unlock")
def license_of_two_tiers() -> Made:
    """A license of the lower of two tiers, which opens the outer lock."""
    middle = sign(locked(sign(large())))
    trial = sign(locked(middle, key=LOWER, header={"tier": "lower"}))
    license_ = license_of(trial, middle, content_key=LOWER, claims={"tier": "lower"})
    return with_trial(trial, middle, license_)


@vector("11.3", "ok", operation="unlock")
def license_of_highest_tier() -> Made:
    """The same trial, and a license that opens both locks."""
    release = sign(large())
    trial = sign(locked(sign(locked(release)), key=LOWER, header={"tier": "lower"}))
    license_ = license_of(trial, release, claims={"lock": LOWER.id})
    made = sold(license_, file="license_of_two_tiers", in_grace=False)
    return Made(b"", bytes(release), made.details, made.texts, made.file)


@vector("11.3", "ok", operation="unlock")
def license_of_carried_release() -> Made:
    """The trial is another network, signed, which carries the signed release."""
    release = sign(small())
    trial = sign(carry(release, weaker(), bits=9))
    return with_trial(trial, release, license_of(trial, release))


@vector("11.3", "ok", operation="unlock")
def license_of_foreign_tensor() -> Made:
    """The best primary carrier has a size field of four bytes where two would do: a release that
    is not signed, and in which a reader that looks for a signature finds damage."""
    units = [unit.read() for unit in several(2, (100, 120), dependent=False)]
    units[3] = ((len(units[3]) + 2) | 1 << 31).to_bytes(4, "big") + units[3][2:]
    release = Stream.from_bytes(b"".join(units))
    other = carrier_of(release) + 1
    trial = lock(release, {other: spread(release, other)})
    return with_trial(trial, release, license_of(trial, release))
