"""Vectors of locks that do not open with a content key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cbor2

from nnguard._hiding.frame import frame_record
from vectors.locks import locked
from vectors.selling import (
    CONTENT_KEYS,
    FULL,
    LOCK_DOMAIN,
    UNIT,
    content_of,
    degrade,
    seal,
    spread,
    with_key,
)
from vectors.toolbox import (
    Made,
    attach,
    hide,
    place,
    plan,
    several,
    sign,
    small,
    vector,
    with_carriers,
)


def sealed(**changes: Any) -> Made:
    """A lock whose message is wrong."""
    return with_key(locked(small(), **changes))


def record(change: Callable[[bytes, bytes], bytes]) -> Made:
    """A lock whose record is made of a right one and the `external_aad`."""
    stream = small()
    chosen = {UNIT: spread(stream, UNIT)}
    content = cbor2.dumps(content_of(stream, chosen, []))
    degraded = degrade(stream, chosen, [])
    hidden = hide(degraded, lambda aad: change(content, aad), kind=3, domain=LOCK_DOMAIN)
    return with_key(hidden)


# What is outermost


@vector("6.4", "NoRecordError: not locked", message="holds no record", operation="open")
def open_unsigned() -> Made:
    """A stream that holds nothing."""
    return with_key(small())


@vector("6.4", "NoRecordError: signed, not locked", message="is not locked", operation="open")
def open_signed() -> Made:
    """A signature is taken off, and nothing is below it."""
    return with_key(sign(small()))


@vector("6.4", "NoRecordError: attachment above the lock", message="attachment", operation="open")
def open_attachment() -> Made:
    """Only signatures are taken off."""
    return with_key(attach(locked(small()), b"anything"))


@vector(
    "6.4", "NoRecordError: no lock above that of the derived key", message="no", operation="open"
)
def open_no_higher_tier() -> Made:
    """The lower tier's lock opens; that of the key itself is not there."""
    return with_key(locked(small(), key=FULL.below()))


# Keys


@vector(
    "6.4", "WrongKeyError: another content key", message="locked with content key", operation="open"
)
def open_other_key() -> Made:
    """Locked with the key named `full`, opened with `other`."""
    return Made(file="lock_urq", details=(("content_key", "other"),))


@vector(
    "6.4", "WrongKeyError: key of a lower tier", message="locked with content key", operation="open"
)
def open_key_of_lower_tier() -> Made:
    """Nothing leads up."""
    return Made(file="lock_urq", details=(("content_key", "lower"),))


@vector("6.4", "WrongKeyError: key that is derived eight times", message="locked", operation="open")
def open_ninth_tier() -> Made:
    """Seven is the limit."""
    return with_key(locked(small(), key=FULL.below(8)))


# The message


@vector("6.4", "VerificationError: kid of another key", message="not authentic", operation="open")
def lock_stolen_kid() -> Made:
    """Encrypted with one key, named as another; this one is given."""
    return sealed(key=CONTENT_KEYS["other"], header={4: FULL.id})


@vector("6.4", "VerificationError: ciphertext changed", message="not authentic", operation="open")
def lock_ciphertext() -> Made:
    """The first bit of the content, below a right checksum."""

    def flipped(content: bytes, aad: bytes) -> bytes:
        whole = bytearray(seal(content, aad))
        whole[-len(content) - 16] ^= 0x80
        return bytes(whole)

    return record(flipped)


@vector(
    "6.4", "VerificationError: tag of the ciphertext changed", message="authentic", operation="open"
)
def lock_tag() -> Made:
    """The last bit of the record."""
    return record(lambda content, aad: seal(content, aad)[:-1] + b"\xff")


@vector("6.4", "VerificationError: ciphertext without a tag", message="authentic", operation="open")
def lock_short_ciphertext() -> Made:
    """Fifteen bytes."""
    header = cbor2.dumps({1: 3, 4: FULL.id, 5: bytes(12), "tier": "full"}, canonical=True)
    message = cbor2.dumps(cbor2.CBORTag(16, [header, {}, bytes(15)]))
    return record(lambda content, aad: bytes(message))


@vector(
    "6.4", "VerificationError: name of the tier changed", message="not authentic", operation="open"
)
def lock_tier_changed() -> Made:
    """The protected header is authenticated."""
    return record(lambda content, aad: seal(content, aad).replace(b"dtierdfull", b"dtierdfool"))


@vector(
    "6.4",
    "VerificationError: lock does not cover the header",
    message="authentic",
    operation="open",
)
def lock_no_header() -> Made:
    """The `external_aad` is the label alone."""
    return record(lambda content, aad: seal(content, LOCK_DOMAIN))


@vector(
    "6.4", "VerificationError: lock lacks the domain label", message="authentic", operation="open"
)
def lock_no_label() -> Made:
    """The `external_aad` is the header alone."""
    return record(lambda content, aad: seal(content, aad[len(LOCK_DOMAIN) :]))


@vector(
    "6.4", "VerificationError: lock in another place", message="not authentic", operation="open"
)
def lock_moved() -> Made:
    """The record of one plan, hidden by another, which lists a carrier more."""
    stream = several(2, (50, 60), dependent=False)
    chosen = {UNIT: spread(stream, UNIT)}
    content = bytes(cbor2.dumps(content_of(stream, chosen, [])))
    degraded = degrade(stream, chosen, [])
    first = plan(degraded, 3, len(seal(content, b"")))
    (carrier,) = first.carriers
    second = with_carriers(first, carrier, carrier + 1)
    sealed_record = seal(content, LOCK_DOMAIN + bytes(first))
    return with_key(place(degraded, second.carriers, frame_record(second, sealed_record)))


@vector("6.4", "VerificationError: shard without its set", message="locked set", operation="open")
def lock_shard_alone() -> Made:
    """The first of two, opened by itself."""
    return sealed(header={"shard": [bytes(16), 0, 2]})


@vector("6.4", "VerificationError: shard of two numbers", message="protected", operation="open")
def lock_shard_malformed() -> Made:
    """The number of shards is missing."""
    return sealed(header={"shard": [bytes(16), 0]})


@vector("6.4", "VerificationError: identifier of 15 bytes", message="protected", operation="open")
def lock_shard_short_identifier() -> Made:
    """One byte too few."""
    return sealed(header={"shard": [bytes(15), 0, 1]})


@vector("6.4", "VerificationError: shard beyond the last", message="protected", operation="open")
def lock_shard_beyond() -> Made:
    """The second of one."""
    return sealed(header={"shard": [bytes(16), 1, 1]})


@vector("6.4", "VerificationError: kid of 7 bytes", message="protected header", operation="open")
def lock_short_kid() -> Made:
    """One byte too few."""
    return sealed(header={4: FULL.id[:7]})


@vector("6.4", "VerificationError: IV of 11 bytes", message="not a COSE_Encrypt0", operation="open")
def lock_short_iv() -> Made:
    """One byte too few."""
    return sealed(header={5: bytes(11)})


@vector("6.4", "VerificationError: another cipher", message="not a COSE_Encrypt0", operation="open")
def lock_other_algorithm() -> Made:
    """A128GCM, says the protected header."""
    return sealed(header={1: 1})


@vector(
    "6.4", "VerificationError: lock without the name of a tier", message="header", operation="open"
)
def lock_no_tier() -> Made:
    """Not even an empty one."""
    return sealed(header={"tier": None})


@vector("6.4", "VerificationError: name of a tier too long", message="header", operation="open")
def lock_long_tier() -> Made:
    """256 bytes."""
    return sealed(header={"tier": "\u00e4" * 128})


@vector(
    "6.4",
    "VerificationError: unknown entry in the lock's header",
    message="header",
    operation="open",
)
def lock_unknown_entry() -> Made:
    """It would have to be understood."""
    return sealed(header={"x": 1})


@vector("6.4", "VerificationError: unprotected header of a lock", message="COSE", operation="open")
def lock_unprotected() -> Made:
    """The IV there."""
    return sealed(unprotected={5: bytes(12)})


@vector(
    "6.4", "VerificationError: lock with the tag of a signature", message="COSE", operation="open"
)
def lock_other_tag() -> Made:
    """18 instead of 16."""
    return sealed(tag=18)


@vector("6.4", "VerificationError: lock of indefinite length", message="definite", operation="open")
def lock_indefinite() -> Made:
    """The outer array is `9f ... ff`."""
    return record(lambda content, aad: b"\xd0\x9f" + seal(content, aad)[2:] + b"\xff")


@vector("6.4", "VerificationError: bytes after the lock", message="deterministic", operation="open")
def lock_trailing() -> Made:
    """A zero byte."""
    return record(lambda content, aad: seal(content, aad) + b"\0")
