"""Vectors whose records a vendor's key signed, and that are refused all the same."""

from __future__ import annotations

from dataclasses import replace

import cbor2

from vectors.toolbox import (
    DOMAIN,
    OTHER,
    VENDOR,
    Made,
    attach,
    digest_of,
    edit,
    envelope,
    header_of,
    hide,
    malformed,
    position,
    several,
    sign,
    small,
    vector,
    with_carriers,
    with_header,
)


@vector("7", "VerificationError: record of another model", message="changed after it was signed")
def other_model() -> Made:
    """The record signs another network; header and signature are right."""
    stream, other = small(), small(seed=50)
    return Made(bytes(hide(stream, lambda aad: envelope(other, aad))))


@vector(
    "6.1",
    "VerificationError: re-embedded in other tensors (second plan, same record)",
    message="signature is wrong",
)
def second_plan() -> Made:
    """The record of one plan, hidden by another: the signature covers the plan."""
    stream = several(2, (50, 60), dependent=False)
    header = header_of(stream)
    (carrier,) = header.carriers
    other = with_carriers(header, carrier, carrier + 1)
    return with_header(stream, other, signed_as=header)


@vector("6.1", "VerificationError: layer changed", message="signature is wrong")
def layer_changed() -> Made:
    """Layer 2 where 1 was signed."""
    stream = small()
    header = header_of(stream)
    return with_header(stream, replace(header, layer=2), signed_as=header)


@vector(
    "6.1", "VerificationError: signature does not cover the header", message="signature is wrong"
)
def no_aad() -> Made:
    """Signed with an empty `external_aad`."""
    stream = small()
    return Made(bytes(hide(stream, lambda _: envelope(stream, b""))))


@vector("6.1", "VerificationError: signature lacks the domain label", message="signature is wrong")
def no_label() -> Made:
    """`external_aad` is the header alone."""
    stream = small()
    return Made(bytes(hide(stream, lambda aad: envelope(stream, aad[len(DOMAIN) :]))))


@vector("7", "VerificationError: signature wrong", message="signature is wrong")
def zero_signature() -> Made:
    """64 bytes of zeros."""
    return malformed(signature=bytes(64))


@vector(
    "6.1",
    "VerificationError: signature by another key under this kid",
    message="signature is wrong",
)
def stolen_kid() -> Made:
    """The other key signed, and the record has the vendor's `kid`."""
    stream = small()

    def record(aad: bytes) -> bytes:
        message = cbor2.loads(envelope(stream, aad)).value
        message[3] = OTHER.sign(cbor2.dumps(["Signature1", message[0], aad, message[2]]))
        return bytes(cbor2.dumps(cbor2.CBORTag(18, message)))

    return Made(bytes(hide(stream, record)))


@vector("6.1", "VerificationError: signature of 63 bytes", message="not a COSE_Sign1")
def short_signature() -> Made:
    """One byte too few."""
    return malformed(signature=bytes(63))


@vector("6.1", "VerificationError: unprotected COSE header present", message="not a COSE_Sign1")
def unprotected() -> Made:
    """An entry there is not signed, so that anyone could change it."""
    return malformed(unprotected={4: VENDOR.public_key.id})


@vector("6.1", "VerificationError: COSE message without its tag", message="not a COSE_Sign1")
def untagged() -> Made:
    """The array alone."""
    return malformed(tag=None)


@vector(
    "6.1",
    "VerificationError: COSE message with another tag",
    message="not a COSE_Sign1",
)
def other_tag() -> Made:
    """Tag 98, COSE_Sign, where one signature is."""
    return malformed(tag=98)


@vector("6.1", "VerificationError: detached payload", message="definite lengths and plain types")
def detached_payload() -> Made:
    """The payload is null."""
    return malformed(payload=None)


@vector("6.1", "VerificationError: payload of 31 bytes", message="not a SHA-256")
def short_payload() -> Made:
    """The digest without its last byte."""
    return malformed(payload=digest_of(small())[:31])


@vector("6.1", "VerificationError: another algorithm", message="not a COSE_Sign1")
def other_algorithm() -> Made:
    """ES256, says the protected header."""
    return malformed(header={1: -7})


@vector("6.1", "VerificationError: no kid", message="not a COSE_Sign1")
def no_kid() -> Made:
    """The key is not named."""
    return malformed(header={4: None})


@vector("6.1", "VerificationError: unknown entry in the protected header", message="header")
def unknown_entry() -> Made:
    """A critical entry, say, would have to be understood."""
    return malformed(header={2: ["x"], "x": 1})


@vector("6.1", "VerificationError: another hash algorithm", message="header")
def other_hash() -> Made:
    """SHA-512, says the protected header."""
    return malformed(header={258: -44})


@vector(
    "6.1", "VerificationError: unit digests of a length that is no multiple of 4", message="header"
)
def odd_unit_digests() -> Made:
    """Three bytes."""
    return malformed(header={"units": b"abc"})


@vector("6.1", "VerificationError: claims missing", message="claims")
def no_claims() -> Made:
    """Not even an empty map."""
    return malformed(header={15: None})


@vector("6.1", "VerificationError: unknown claim", message="claims")
def unknown_claim() -> Made:
    """An expiry, which readers would not heed."""
    return malformed(header={15: {4: 1700000000}})


@vector("6.1", "VerificationError: empty claim", message="claims")
def empty_claim() -> Made:
    """An empty text is left out, or there were two records of one content."""
    return malformed(header={15: {1: ""}})


@vector("6.1", "VerificationError: time is text", message="claims")
def text_time() -> Made:
    """Where an integer belongs."""
    return malformed(header={15: {6: "2026-11-01"}})


@vector("6.1", "VerificationError: time beyond the year 9999", message="claims")
def far_time() -> Made:
    """2^62 seconds."""
    return malformed(header={15: {6: 1 << 62}})


@vector("6.1", "VerificationError: time is a float", message="definite lengths and plain types")
def float_time() -> Made:
    """1.0, which some languages take for 1."""
    return malformed(header={15: {6: 1.0}})


@vector(
    "6.1", "VerificationError: label is a truth value", message="definite lengths and plain types"
)
def true_label() -> Made:
    """`true` stands for the label 1."""
    kid = VENDOR.public_key.id
    header = cbor2.dumps({True: -8, 4: kid, 15: {}, 258: -16, 259: 42}, canonical=True)
    return malformed(protected=header)


@vector("6.1", "VerificationError: metadata of numbers", message="claims")
def number_metadata() -> Made:
    """Text to text only."""
    return malformed(header={15: {"meta": {"a": 1}}})


@vector("6.1", "VerificationError: shard beyond its set", message="claims")
def shard_beyond_set() -> Made:
    """The fourth of three."""
    return malformed(header={15: {"shard": [bytes(32), 3, 3]}})


@vector("6", "VerificationError: map keys not sorted", message="deterministic")
def unsorted_header() -> Made:
    """The protected header with its first entries swapped; the signature is right."""
    kid = VENDOR.public_key.id
    return malformed(protected=cbor2.dumps({4: kid, 1: -19, 15: {}, 258: -16, 259: 42}))


@vector("6", "VerificationError: indefinite length", message="definite lengths and plain types")
def indefinite_length() -> Made:
    """The outer array is `9f ... ff`."""
    stream = small()
    return Made(bytes(hide(stream, lambda aad: b"\xd2\x9f" + envelope(stream, aad)[2:] + b"\xff")))


@vector("6", "VerificationError: number in more bytes than it needs", message="deterministic")
def long_integer() -> Made:
    """The tag 18 as two bytes more."""
    stream = small()
    return Made(bytes(hide(stream, lambda aad: b"\xd9\x00\x12" + envelope(stream, aad)[1:])))


@vector("6", "VerificationError: bytes after the record", message="deterministic")
def trailing_record() -> Made:
    """A zero byte behind the message."""
    stream = small()
    return Made(bytes(hide(stream, lambda aad: envelope(stream, aad) + b"\0")))


@vector("6", "VerificationError: not CBOR", message="not CBOR")
def not_cbor() -> Made:
    """A record of kind 1 that breaks off."""
    stream = small()
    return Made(bytes(hide(stream, lambda aad: envelope(stream, aad)[:-1])))


@vector(
    "6.2",
    "VerificationError: changed after the attachment",
    message="after the file",
    operation="detach",
)
def attachment_changed() -> Made:
    """One bit of a tensor that carries nothing."""
    stream = attach(small(), b"anything")
    return Made(edit(stream, position(stream, "fc.weight"), -5))


@vector("6.2", "VerificationError: attachment malformed", message="malformed", operation="detach")
def attachment_malformed() -> Made:
    """Two fields where there are three."""
    record = cbor2.dumps(["text/plain", b"anything"])
    return Made(bytes(hide(small(), lambda _: bytes(record), kind=2)))


@vector("6.2", "NoRecordError: no attachment", message="not an attachment", operation="detach")
def signature_outermost() -> Made:
    """The outermost record is a signature."""
    return Made(bytes(sign(attach(small(), b"anything"))))
