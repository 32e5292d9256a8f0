"""Vectors of leases: parts of a license, for a machine and for minutes."""

from __future__ import annotations

from typing import Any

import cbor2

from vectors.licenses import DEVICE, sale, sold, unlocks
from vectors.locks import large
from vectors.selling import (
    CUSTOMERS,
    DAY,
    FULL,
    LICENSE_ID,
    NOW,
    armor,
    license_of,
    revocation_list,
    wrap,
)
from vectors.toolbox import OTHER, VENDOR, Made, sign, signed_message, small, vector

RELAY = CUSTOMERS["eve"]
LEASED = {"leases": 3, "leaser": RELAY.request_signer.public_key.raw}
MINUTES = 300


def leased(claims: dict[Any, Any] | None = None) -> bytes:
    """A license that the relay may lease."""
    return license_of(*sale(), to="eve", claims={**LEASED, **(claims or {})})


def lease_of(license_: bytes, **changes: Any) -> str:
    """A lease made by hand, right but for what is changed.

    Args:
        license_: Its license.
        changes: `claims`: None to leave one out; `key`: who signs; `to`, `wrapped_to`: names of
            customers; `bound_to`: claims that the wrapped key is bound to; `secret`: what is
            wrapped; `domain`: `external_aad`; `changed`: function of the lease's bytes.
    """
    to = changes.get("to", "ada")
    claims: dict[Any, Any] = {
        4: NOW + DAY + MINUTES,
        6: NOW + DAY,
        7: bytes(range(32, 48)),
        "license": license_,
        "to": CUSTOMERS[to].recipient.id,
        **changes.get("claims", {}),
    }
    claims = {label: value for label, value in claims.items() if value is not None}
    bound = cbor2.dumps({**claims, **changes.get("bound_to", {})}, canonical=True)
    wrapped_to = changes.get("wrapped_to", to)
    info = b"nnguard license lease content key v1\0" + bound
    claims["key"] = wrap(
        changes.get("secret", FULL.secret), CUSTOMERS[wrapped_to], info, wrapped_to
    )
    payload = cbor2.dumps(claims, canonical=True)
    domain = changes.get("domain", b"nnguard license lease v1\0")
    key = changes.get("key", RELAY.request_signer)
    return armor(
        changes.get("changed", bytes)(signed_message(key, {}, payload, domain)), "LICENSE LEASE"
    )


def refused(license_: bytes | None = None, **changes: Any) -> Made:
    return sold(lease_of(leased() if license_ is None else license_, **changes))


@vector("14.5", "ok", operation="unlock")
def lease() -> Made:
    """A lease of five minutes, of a license of another key."""
    return unlocks(lease_of(leased()))


@vector("14.5", "ok", operation="unlock")
def lease_of_another_device() -> Made:
    """The license is bound to the relay's machine; whose the lease is does not matter."""
    return unlocks(lease_of(leased({"device": DEVICE})), traits=[["host", "pod"]])


@vector("14.5", "ok", operation="unlock")
def lease_last_second() -> Made:
    """The second before it ends, which is when its license does."""
    license_ = leased({4: NOW + DAY, "grace": MINUTES})
    return unlocks(lease_of(license_), now=NOW + DAY + MINUTES - 1, in_grace=True)


@vector("14.5", "ok", operation="unlock")
def lease_clocks_differ() -> Made:
    """The clock is five minutes behind the relay's, and the lease holds for a day."""
    claims = {4: NOW + 2 * DAY}
    return unlocks(lease_of(leased(), claims=claims), now=NOW + DAY - 300)


@vector("14.5", "ok", operation="unlock")
def lease_to_hybrid() -> Made:
    """To a machine whose key is a hybrid."""
    return unlocks(lease_of(leased(), to="hybrid"), customer="hybrid")


@vector("14.5", "ok", operation="unlock")
def lease_below_license() -> Made:
    """A text with an expired lease and a license: it is the license."""
    text = lease_of(leased(), claims={4: NOW + DAY, 6: NOW})
    return unlocks(text + armor(license_of(*sale())))


MALFORMED = "LicenseError: malformed"
NOT_LEASED = "LicenseError: not-leased"


@vector("14.5", MALFORMED, message="not a lease, or it was changed", operation="unlock")
def lease_with_more() -> Made:
    """A claim that there is not."""
    return refused(claims={"seat": 1})


@vector("14.5", MALFORMED, message="not a lease, or it was changed", operation="unlock")
def lease_without_license() -> Made:
    """The license is missing."""
    return refused(claims={"license": None})


@vector("14.5", MALFORMED, message="not a lease, or it was changed", operation="unlock")
def lease_of_armored_license() -> Made:
    """The license in it is text."""
    return refused(armor(leased()).encode())


@vector("14.5", MALFORMED, message="not a lease, or it was changed", operation="unlock")
def lease_ends_when_it_begins() -> Made:
    """`exp` is `iat`."""
    return refused(claims={4: NOW + DAY})


@vector("14.5", MALFORMED, message="not a lease, or it was changed", operation="unlock")
def lease_short_id() -> Made:
    """`cti` of 15 bytes."""
    return refused(claims={7: bytes(15)})


@vector("14.5", MALFORMED, message="not a lease, or it was changed", operation="unlock")
def lease_far_end() -> Made:
    """It ends in the year 10000."""
    return refused(claims={4: 253402300800})


@vector("14.5", MALFORMED, message="the lease was changed", operation="unlock")
def lease_changed() -> Made:
    """The last bit of the signature is another one."""
    return refused(changed=lambda data: data[:-1] + bytes([data[-1] ^ 1]))


@vector("14.5", MALFORMED, message="the lease was changed", operation="unlock")
def lease_without_label() -> Made:
    """Signed for something else."""
    return refused(domain=b"nnguard license v1\0")


@vector("14.5", MALFORMED, message="the license was changed", operation="unlock")
def lease_of_more() -> Made:
    """The license in it was for three leases, and says nine."""
    return refused(leased().replace(b"\x66leases\x03", b"\x66leases\x09"))


@vector(
    "14.5",
    "WrongKeyError: the lease is signed by another",
    message="the lease is signed with key",
    operation="unlock",
)
def lease_by_customer() -> Made:
    """The machine signed it itself."""
    return refused(key=CUSTOMERS["ada"].request_signer)


@vector(
    "14.5",
    "WrongKeyError: the lease is signed by another",
    message="the lease is signed with key",
    operation="unlock",
)
def lease_by_vendor() -> Made:
    """The vendor signed it, whose key is trusted, and is not the one that the license names."""
    return refused(key=VENDOR)


@vector(
    "14.5",
    "WrongKeyError: the license is signed by another",
    message="the license is signed with key",
    operation="unlock",
)
def lease_of_strange_license() -> Made:
    """The license in it is signed by a key that is not trusted."""
    license_ = license_of(*sale(), to="eve", claims=LEASED, key=OTHER)
    return refused(license_)


@vector("14.5", NOT_LEASED, message="not one to lease", operation="unlock")
def lease_of_plain_license() -> Made:
    """The license names nobody who may sign leases."""
    return refused(license_of(*sale(), to="eve"))


@vector("14.5", NOT_LEASED, message="for longer than it may", operation="unlock")
def lease_of_more_than_a_day() -> Made:
    """It holds for a day and a second."""
    return refused(claims={4: NOW + 2 * DAY + 1})


@vector("14.5", NOT_LEASED, message="for longer than it may", operation="unlock")
def lease_beyond_license() -> Made:
    """It ends a second after the grace period of its license."""
    return refused(leased({4: NOW + DAY, "grace": MINUTES - 1}))


@vector("14.5", "LicenseError: expired", message="the lease ended at", operation="unlock")
def lease_ended() -> Made:
    """It ends this very second."""
    return sold(lease_of(leased()), now=NOW + DAY + MINUTES)


@vector("14.5", "LicenseError: expired", message="the license expired", operation="unlock")
def lease_of_expired_license() -> Made:
    """Its license has ended before it was signed."""
    return refused(leased({4: NOW + DAY}))


@vector("14.5", "LicenseError: revoked", operation="unlock")
def lease_of_revoked_license() -> Made:
    """Its license was revoked."""
    return sold(lease_of(leased()), revocations=revocation_list([LICENSE_ID]))


@vector("14.5", "LicenseError: clock-set-back", message="the lease is of", operation="unlock")
def lease_of_tomorrow() -> Made:
    """The clock is five minutes and a second behind the relay's."""
    return sold(lease_of(leased()), now=NOW + DAY - 301)


@vector(
    "14.5",
    "WrongKeyError: the lease is made out to another",
    message="the lease is made out to key",
    operation="unlock",
)
def lease_to_another() -> Made:
    """It is another machine's, which may be the relay's own."""
    return refused(to="eve")


@vector(
    "14.5",
    "WrongKeyError: the lease is made out to another",
    message="the lease is made out to key",
    operation="unlock",
)
def lease_wrapped_to_another() -> Made:
    """Its content key is wrapped to another machine."""
    return refused(wrapped_to="eve")


@vector(
    "14.5",
    "WrongKeyError: the lease is made out to another",
    message="the lease is made out to key",
    operation="unlock",
)
def lease_prolonged() -> Made:
    """Its content key is bound to another end."""
    return refused(bound_to={4: NOW + DAY + 60})


@vector("14.5", "LicenseError: other-stream", operation="unlock")
def lease_of_other_stream() -> Made:
    """Its license is of another trial."""
    other = license_of(
        sign(small(seed=5)), sign(large()), to="eve", claims={**LEASED, "lock": bytes(8)}
    )
    return refused(other)
