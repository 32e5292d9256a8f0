"""Vectors of requests, receipts, license states, and of licenses that only warn."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

import cbor2

from nnguard._crypto.armor import write_armor
from vectors.licenses import sale, sold, unlocks
from vectors.selling import CUSTOMERS, DAY, LICENSE_ID, NOW, armor, license_of, revocation_list
from vectors.toolbox import HYBRID_65, P256, VENDOR, Made, signed_message, vector

REQUESTED = b"nnguard license request v1\0"
GIVEN_BACK = b"nnguard license receipt v1\0"
TRAIT = hashlib.sha256(b"nnguard device trait v1\0host\0atelier").digest()
NONCE = bytes(range(48, 64))
ENDED = {4: NOW + DAY // 2}

requests = functools.partial(vector, "14.1", operation="request")
receipts = functools.partial(vector, "14.2", operation="receipt")
malformed = functools.partial(
    requests, "LicenseError: malformed", message="not a license request, or it was changed"
)
unlocking = functools.partial(vector, operation="unlock")


def request(customer: str = "ada", **changes: Any) -> bytes:
    """A request made by hand.

    Args:
        customer: Whose.
        changes: `claims`: None to leave one out; `key`: who signs; `domain`.
    """
    identity = CUSTOMERS[customer]
    claims = {
        6: NOW,
        7: NONCE,
        "stream": bytes(32),
        "lock": bytes(8),
        "to": identity.recipient.pem,
        "key": identity.request_signer.public_key.raw,
        "order": "K7Q29DXM4T0CVB31",
        **changes.get("claims", {}),
    }
    payload = cbor2.dumps({k: v for k, v in claims.items() if v is not None}, canonical=True)
    signer = changes.get("key", identity.request_signer)
    return signed_message(signer, {}, payload, changes.get("domain", REQUESTED))


def asked(encoded: bytes | str, **details: Any) -> Made:
    """A request file, and what a reader finds in it."""
    text = encoded if isinstance(encoded, str) else write_armor("NNGUARD LICENSE REQUEST", encoded)
    return Made(details=tuple(details.items()), texts=(("request", text),))


def claiming(**claims: Any) -> Made:
    return asked(request(claims=claims))


def found_in(encoded: bytes) -> str:
    text = hashlib.sha256(encoded).digest()[:10]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    number = int.from_bytes(text, "big")
    letters = "".join(alphabet[number >> shift & 31] for shift in range(75, -5, -5))
    return "-".join(letters[at : at + 4] for at in range(0, 16, 4))


@requests("ok")
def request_with_an_order() -> Made:
    """A code, and the customer's key."""
    encoded, ada = request(), CUSTOMERS["ada"]
    return asked(
        encoded,
        digest=found_in(encoded),
        kid=ada.request_signer.public_key.id.hex(),
        to=ada.recipient.id.hex(),
        order="K7Q29DXM4T0CVB31",
    )


@requests("ok")
def request_to_renew() -> Made:
    """A license in place of a code, a device, and leases; the customer has a hybrid key."""
    more = {"order": None, "license": LICENSE_ID, "device": [["host", TRAIT]], "leases": 8}
    encoded, hybrid = request("hybrid", claims=more), CUSTOMERS["hybrid"]
    return asked(
        encoded,
        digest=found_in(encoded),
        kid=hybrid.request_signer.public_key.id.hex(),
        to=hybrid.recipient.id.hex(),
        license=LICENSE_ID.hex(),
        device=[["host", TRAIT.hex()]],
        leases=8,
    )


@requests("ok")
def request_without_an_order() -> Made:
    """Neither a code nor a license: for a seller who knows what was bought."""
    encoded = request(claims={"order": None})
    return asked(encoded, digest=found_in(encoded))


@malformed()
def request_with_order_and_license() -> Made:
    """A code, and a license to renew."""
    return claiming(license=LICENSE_ID)


@malformed()
def request_with_empty_order() -> Made:
    """A code of no characters."""
    return claiming(order="")


@malformed()
def request_with_long_order() -> Made:
    """A code of 65 bytes."""
    return claiming(order="K" * 65)


@malformed()
def request_without_nonce() -> Made:
    """There is no `cti`."""
    return asked(request(claims={7: None}))


@malformed()
def request_with_short_license() -> Made:
    """The identifier of the license to renew has 15 bytes."""
    return claiming(order=None, license=LICENSE_ID[1:])


@malformed()
def request_with_more() -> Made:
    """A request with a claim of licenses."""
    return claiming(product="small")


@malformed()
def request_of_no_device() -> Made:
    """A device without traits."""
    return claiming(device=[])


@malformed()
def request_of_long_device() -> Made:
    """A device of 65 traits."""
    return claiming(device=[["host", TRAIT]] * 65)


@malformed()
def request_of_short_trait() -> Made:
    """A trait of 31 bytes."""
    return claiming(device=[["host", TRAIT[1:]]])


@malformed()
def request_of_no_leases() -> Made:
    """0 leases."""
    return claiming(leases=0)


@malformed()
def request_of_too_many_leases() -> Made:
    """1,048,577 leases."""
    return claiming(leases=(1 << 20) + 1)


@malformed()
def request_with_other_line_ends() -> Made:
    """The customer's key with line ends of Windows: it would be a second identifier of one key."""
    return claiming(to=CUSTOMERS["ada"].recipient.pem.replace(b"\n", b"\r\n"))


@malformed()
def request_to_a_vendor() -> Made:
    """The customer's key is a vendor's."""
    return claiming(to=VENDOR.public_key.pem)


@malformed()
def request_with_weak_key() -> Made:
    """The request key is of small order: anybody can sign with it."""
    return claiming(key=bytes(32))


@requests("LicenseError: malformed", message="is not signed by the key in it")
def request_of_another() -> Made:
    """Signed by another customer's request key than the one in it."""
    return asked(request(key=CUSTOMERS["eve"].request_signer))


@requests("LicenseError: malformed", message="is not signed by the key in it")
def request_by_p256() -> Made:
    """Signed by another algorithm than that of the key in it."""
    return asked(request(key=P256))


@requests("LicenseError: malformed", message="is not signed by the key in it")
def request_by_hybrid() -> Made:
    """Signed by a hybrid vendor's key."""
    return asked(request(key=HYBRID_65))


@requests("LicenseError: malformed", message="was changed")
def request_changed() -> Made:
    """A code changed after it was signed."""
    return asked(request().replace(b"K7Q2", b"K7Q3"))


@requests("LicenseError: malformed", message="was changed")
def request_signed_as_receipt() -> Made:
    """Signed for another kind of file."""
    return asked(request(domain=GIVEN_BACK))


@requests("LicenseError: malformed", message="there is no line")
def request_in_other_armor() -> Made:
    """In the armor of a license."""
    return asked(armor(request()))


def receipt(customer: str = "ada", **changes: Any) -> bytes:
    """A receipt made by hand; see `request`."""
    signer = CUSTOMERS[customer].request_signer
    claims = {6: NOW, "license": LICENSE_ID, "key": signer.public_key.raw}
    claims |= changes.get("claims", {})
    payload = cbor2.dumps({k: v for k, v in claims.items() if v is not None}, canonical=True)
    domain = changes.get("domain", GIVEN_BACK)
    return signed_message(changes.get("key", signer), {}, payload, domain)


def given_back(encoded: bytes, **details: Any) -> Made:
    text = write_armor("NNGUARD LICENSE RECEIPT", encoded)
    return Made(details=tuple(details.items()), texts=(("receipt", text),))


@receipts("ok")
def receipt_of_a_license() -> Made:
    """A license is given back."""
    kid = CUSTOMERS["ada"].request_signer.public_key.id.hex()
    return given_back(receipt(), license=LICENSE_ID.hex(), kid=kid)


@receipts("LicenseError: malformed", message="not a license receipt, or it was changed")
def receipt_of_nothing() -> Made:
    """A receipt without a license."""
    return given_back(receipt(claims={"license": None}))


@receipts("LicenseError: malformed", message="not a license receipt, or it was changed")
def receipt_with_more() -> Made:
    """A receipt with a claim of requests."""
    return given_back(receipt(claims={7: NONCE}))


@receipts("LicenseError: malformed", message="is not signed by the key in it")
def receipt_of_another() -> Made:
    """A receipt signed by another than the key in it."""
    return given_back(receipt(key=CUSTOMERS["eve"].request_signer))


@receipts("LicenseError: malformed", message="was changed")
def receipt_signed_as_request() -> Made:
    """A receipt signed as a request."""
    return given_back(receipt(domain=REQUESTED))


# What is warned of, and what was given back


def issued(**claims: Any) -> bytes:
    return license_of(*sale(), claims={"warn": 1, **claims})


def remembered(**members: Any) -> str:
    return json.dumps({"newest": NOW, **members})


def marked(license_id: bytes) -> str:
    return hashlib.sha256(b"nnguard released license v1\0" + license_id).hexdigest()


@unlocking("11.3", "ok")
def license_of_a_server() -> Made:
    """It names its order and the server that renews it, and would warn."""
    named = issued(order="0123456789abcdef", server="https://licenses.vendor.example")
    return unlocks(named, warned=False)


@unlocking("11.3", "ok")
def license_warns_of_its_end() -> Made:
    """It has expired, and only warns."""
    return unlocks(license_of(*sale(), claims={"warn": 1, **ENDED}), warned=True)


@unlocking("11.3", "ok")
def license_warns_of_revocation() -> Made:
    """It was revoked, and only warns."""
    return unlocks(issued(), revocations=revocation_list([LICENSE_ID], NOW), warned=True)


@unlocking("11.3", "ok")
def license_warns_of_the_clock() -> Made:
    """The clock was set back before `nbf`; the newest time counts, and it only warns."""
    return unlocks(issued(), now=NOW - 30 * DAY, seen=NOW + DAY, warned=True)


@unlocking("11.3", "ok")
def license_warns_of_its_end_by_the_newest_time() -> Made:
    """The clock was set back to before its end: of that it warns, too."""
    ended = license_of(*sale(), claims={"warn": 1, **ENDED})
    return unlocks(ended, now=NOW, seen=NOW + DAY, warned=True)


@unlocking("11.3", "LicenseError: stale-revocations", message="is required")
def license_warns_and_list_is_missing() -> Made:
    """It only warns, and the deployment asks for a list."""
    return sold(issued(), max_age=DAY)


@unlocking("11.3", "LicenseError: not-yet-valid", message="holds from")
def license_warns_and_has_not_begun() -> Made:
    """It only warns, and holds from tomorrow on."""
    return sold(license_of(*sale(), claims={"warn": 1, 5: NOW + 2 * DAY}))


@unlocking("11.1", "LicenseError: malformed", message="not a license, or it was changed")
def license_warns_twice() -> Made:
    """`warn` is 2."""
    return sold(license_of(*sale(), claims={"warn": 2}))


@unlocking("11.1", "LicenseError: malformed", message="not a license, or it was changed")
def license_with_leases_and_no_leaser() -> Made:
    """Leases, and nobody who signs them."""
    return sold(license_of(*sale(), claims={"leases": 3}))


def remembers(text: str, license_: bytes | None = None, **details: Any) -> Made:
    made = sold(license_of(*sale()) if license_ is None else license_, **details)
    return Made(
        made.data, made.original, made.details, (*made.texts, ("license_state", text)), made.file
    )


@unlocking("14.4", "LicenseError: released", message="was given back")
def license_given_back() -> Made:
    """The reader remembers that it was given back."""
    return remembers(remembered(released=[marked(bytes(16)), marked(LICENSE_ID)]))


@unlocking("14.4", "LicenseError: released", message="was given back")
def license_warns_and_was_given_back() -> Made:
    """It only warns, and was given back."""
    return remembers(remembered(released=[marked(LICENSE_ID)]), issued())


@unlocking("14.4", "LicenseError: clock-set-back", message="is not a license state file")
def license_state_with_more() -> Made:
    """A state file with another member."""
    return remembers(remembered(released=[], more=1))


@unlocking("14.4", "LicenseError: clock-set-back", message="is not a license state file")
def license_state_of_capitals() -> Made:
    """A state file with a mark in upper hexadecimal."""
    return remembers(remembered(released=[marked(bytes(16)).upper()]))


@unlocking("14.4", "LicenseError: clock-set-back", message="is not a license state file")
def license_state_without_time() -> Made:
    """A state file that has no newest time, not even `null`."""
    return remembers(json.dumps({"released": []}))
