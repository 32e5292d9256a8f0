"""Vectors of licenses and revocation lists that are refused, whatever the trial."""

from __future__ import annotations

from typing import Any

import cbor2

from vectors.licenses import DEVICE, TRAITS, sale, sold
from vectors.selling import DAY, LICENSE_ID, NOW, SALT, armor, license_of, revocation_list
from vectors.toolbox import HYBRID_65, OTHER, PARTNER, Made, vector

ENDED = {4: NOW + DAY}


def issued(**changes: Any) -> bytes:
    return license_of(*sale(), **changes)


def claiming(claims: dict[Any, Any]) -> Made:
    return sold(issued(claims=claims))


# The form


@vector("11.1", "LicenseError: malformed", message="there is no line", operation="unlock")
def license_missing() -> Made:
    """Text without a license."""
    return sold("Dear Ada,\nthe license is attached.\n")


@vector("11.1", "LicenseError: malformed", message="there is no line", operation="unlock")
def license_cut() -> Made:
    """The last line is missing."""
    return sold("\n".join(armor(issued()).splitlines()[:-1]) + "\n")


@vector("11.1", "LicenseError: malformed", message="was changed", operation="unlock")
def license_other_character() -> Made:
    """A question mark in the middle."""
    lines = armor(issued()).splitlines()
    return sold("\n".join([*lines[:3], "?" + lines[3], *lines[4:], ""]))


@vector("11.1", "LicenseError: malformed", message="was changed", operation="unlock")
def license_bits_behind() -> Made:
    """Bits of the last character of Base64 that belong to no byte."""
    name = next(n for n in range(9) if len(issued(claims={2: n * "a"})) % 3 == 2)
    text = armor(issued(claims={2: name * "a"}))
    body, end = text.split("=\n")
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return sold(f"{body[:-1]}{digits[digits.index(body[-1]) + 1]}=\n{end}")


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_trailing() -> Made:
    """A zero byte after the message."""
    return sold(issued() + b"\0")


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_indefinite() -> Made:
    """The map of claims is `bf ... ff`."""
    return sold(issued(payload=lambda claims: b"\xbf" + claims[1:] + b"\xff"))


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_unsorted() -> Made:
    """The claims in another order."""

    def turned(claims: bytes) -> bytes:
        return bytes(cbor2.dumps(dict(reversed(cbor2.loads(claims).items()))))

    return sold(issued(payload=turned))


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_without_lock() -> Made:
    """A required claim is missing."""
    return claiming({"lock": None})


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_without_grace() -> Made:
    """It is required, be it 0."""
    return claiming({"grace": None})


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_negative_grace() -> Made:
    """-1 second."""
    return claiming({4: NOW + 9 * DAY, "grace": -1})


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_unknown_claim() -> Made:
    """`aud`, which a reader would have to heed."""
    return claiming({3: "atelier"})


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_empty_text() -> Made:
    """An empty text is left out, or there were two licenses of one content."""
    return claiming({"product": ""})


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_features_as_text() -> Made:
    """A text where an array of texts belongs."""
    return claiming({"features": "gpu"})


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_far_end() -> Made:
    """The grace period ends after the year 9999."""
    return claiming({4: 253402300799, "grace": 1})


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_short_id() -> Made:
    """15 bytes."""
    return claiming({7: LICENSE_ID[:15]})


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_unsorted_device() -> Made:
    """Prints in another order."""
    return claiming({"device": [1, SALT, b"\1" * 16 + bytes(16)]})


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_no_traits_required() -> Made:
    """None of three traits would have to match."""
    return claiming({"device": [0, *DEVICE[1:]]})


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_too_many_traits_required() -> Made:
    """Four of three."""
    return claiming({"device": [4, *DEVICE[1:]]})


# The signature


@vector("11.3", "LicenseError: malformed", message="the license was changed", operation="unlock")
def license_changed() -> Made:
    """Another customer's name."""
    return sold(issued().replace(b"Ada", b"Eda"))


@vector("11.1", "LicenseError: malformed", message="the license was changed", operation="unlock")
def license_without_label() -> Made:
    """The `external_aad` is empty."""
    return sold(issued(domain=b""))


@vector("11.3", "LicenseError: malformed", message="the license was changed", operation="unlock")
def license_stolen_kid() -> Made:
    """The other key signed, and the license has the vendor's `kid`."""
    vendor, other = cbor2.loads(issued()).value[0], cbor2.loads(issued(key=OTHER)).value[0]
    return sold(issued(key=OTHER).replace(other, vendor))


@vector("11.3", "WrongKeyError: license of another vendor", message="not among", operation="unlock")
def license_of_other_vendor() -> Made:
    """Signed by the other test key."""
    return sold(issued(key=OTHER))


@vector("11.3", "LicenseError: malformed", message="not a license", operation="unlock")
def license_of_half_a_hybrid() -> Made:
    """The signature of ML-DSA was taken away."""
    fields = cbor2.loads(issued(key=HYBRID_65)).value
    half = cbor2.dumps(cbor2.CBORTag(98, [*fields[:3], fields[3][:1]]))
    return sold(half, trust=["vendor", "hybrid_65"])


@vector("11.2", "LicenseError: malformed", message="not a revocation list", operation="unlock")
def list_unsorted() -> Made:
    """Hashes in another order."""
    return sold(issued(), revocations=revocation_list([b"a" * 16, b"b" * 16], sort=False))


@vector("11.2", "LicenseError: malformed", message="not a revocation list", operation="unlock")
def list_is_license() -> Made:
    """The license in the armor of a list."""
    return sold(issued(), revocations=issued())


@vector("11.2", "LicenseError: malformed", message="list was changed", operation="unlock")
def list_without_label() -> Made:
    """Signed as if it were a license."""
    return sold(issued(), revocations=revocation_list([], domain=b"nnguard license v1\0"))


@vector(
    "11.3", "WrongKeyError: list of another vendor", message="revocation list", operation="unlock"
)
def list_of_other_vendor() -> Made:
    """Signed by the other test key."""
    return sold(issued(), revocations=revocation_list([], key=OTHER))


@vector(
    "11.3",
    "WrongKeyError: list of another trusted vendor",
    message="the license with key",
    operation="unlock",
)
def list_of_partner() -> Made:
    """Both keys are trusted; a list counts for licenses of its own key."""
    return sold(issued(), revocations=revocation_list([], key=PARTNER), max_age=DAY)


# Here and now


@vector("11.3", "LicenseError: clock-set-back", message="the clock says", operation="unlock")
def license_issued_later() -> Made:
    """Five minutes and a second before it was issued."""
    return sold(issued(claims={5: NOW - DAY}), now=NOW - 301)


@vector("11.3", "LicenseError: clock-set-back", message="the clock says", operation="unlock")
def license_list_issued_later() -> Made:
    """The same of the revocation list."""
    return sold(issued(), revocations=revocation_list([], NOW + DAY + 301))


@vector("11.3", "LicenseError: clock-set-back", message="the clock says", operation="unlock")
def license_used_later() -> Made:
    """The same of the newest time that the reader remembers."""
    return sold(issued(), seen=NOW + DAY + 301)


@vector("11.3", "LicenseError: revoked", message="was revoked", operation="unlock")
def license_revoked() -> Made:
    """It is on the list, which is too old, too; and it has expired."""
    listed = revocation_list([bytes(16), LICENSE_ID])
    return sold(issued(claims={4: NOW + 1}), revocations=listed, max_age=DAY - 1)


@vector("11.3", "LicenseError: stale-revocations", message="this one is of", operation="unlock")
def license_stale_list() -> Made:
    """The list is older than a day by one second; and the license has expired."""
    listed = revocation_list([], NOW - 1)
    return sold(issued(claims={4: NOW + 1}), revocations=listed, max_age=DAY)


@vector("11.3", "LicenseError: stale-revocations", message="there is none", operation="unlock")
def license_no_list() -> Made:
    """A list is asked for."""
    return sold(issued(), max_age=DAY)


@vector("11.3", "LicenseError: not-yet-valid", message="holds from", operation="unlock")
def license_not_yet_valid() -> Made:
    """It holds from the next second on."""
    return sold(issued(claims={5: NOW + DAY + 1}))


@vector("11.3", "LicenseError: expired", message="expired at", operation="unlock")
def license_expired() -> Made:
    """It holds until this very second; and the device is another one."""
    return sold(issued(claims={**ENDED, "device": DEVICE}), traits=TRAITS[:1])


@vector("11.3", "LicenseError: expired", message="expired at", operation="unlock")
def license_after_grace() -> Made:
    """So does the grace period."""
    return sold(issued(claims={4: NOW, "grace": DAY}))


@vector(
    "11.3",
    "LicenseError: other-device",
    message="1 of its 3 components match, 2 must",
    operation="unlock",
)
def license_other_device() -> Made:
    """One of three traits matches, one has the value of another; and the tier is another one."""
    traits = [TRAITS[0], ["network", TRAITS[1][1]]]
    return sold(issued(claims={"device": DEVICE}), traits=traits, tier="lower")


@vector("11.3", "LicenseError: other-tier", message="not 'lower'", operation="unlock")
def license_other_tier() -> Made:
    """The lower tier is asked for; and it is made out to another customer."""
    return sold(issued(), tier="lower", customer="eve")
