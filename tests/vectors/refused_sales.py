"""Vectors of licenses that hold, but do not open the trial; and of marks that are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nnguard._hiding import extract
from nnguard._hiding.frame import FrameHeader, frame_record
from nnguard._stream import Stream
from vectors.licenses import sale, sold, with_trial
from vectors.locks import LOWER, large, locked, of_four, watermarked
from vectors.refused_licenses import issued
from vectors.selling import CONTENT_KEYS, FULL, armor, license_of, lock
from vectors.toolbox import (
    OTHER,
    PARTNER,
    Made,
    edit,
    place,
    position,
    sign,
    sixteen_bits,
    small,
    vector,
    with_carriers,
)


def refused(trial: Stream, release: Stream, **changes: Any) -> Made:
    """A trial of its own that a license does not open."""
    return without_result(with_trial(trial, release, license_of(trial, release, **changes)))


def without_result(made: Made) -> Made:
    details = tuple(item for item in made.details if item[0] != "in_grace")
    return replace(made, original=None, details=details)


# The customer


@vector(
    "11.3", "WrongKeyError: license of another customer", message="made out to", operation="unlock"
)
def license_other_customer() -> Made:
    """Ada's license, Eve's key."""
    return sold(issued(), customer="eve")


@vector(
    "11.1", "WrongKeyError: content key of another customer", message="made out", operation="unlock"
)
def license_wrapped_to_other() -> Made:
    """It names Ada, and the content key is wrapped to Eve."""
    return sold(issued(wrapped_to="eve"))


@vector(
    "11.1", "WrongKeyError: content key of other claims", message="made out to", operation="unlock"
)
def license_bound_to_others() -> Made:
    """The content key of another license to the same customer."""
    return sold(issued(bound_to={"product": "large"}))


# The trial


@vector("11.3", "FormatError: no trial, no license", message="are left", operation="unlock")
def license_of_no_stream() -> Made:
    """The trial lacks its last byte, the license its last line: the trial is looked at first."""
    made = sold("\n".join(armor(issued()).splitlines()[:-1]), file="")
    return replace(made, data=bytes(sale()[0])[:-1])


@vector("11.3", "LicenseError: other-stream", message="another trial", operation="unlock")
def license_of_other_stream() -> Made:
    """A trial that was locked with another content key."""
    other = sign(locked(small(), key=CONTENT_KEYS["other"]))
    made = refused(other, small())
    return replace(made, texts=sold(issued()).texts)


@vector("11.3", "LicenseError: other-stream", message="another trial", operation="unlock")
def license_of_unlocked_stream() -> Made:
    """A stream without any record."""
    made = refused(small(), small())
    return replace(made, texts=sold(issued()).texts)


@vector("11.3", "VerificationError: trial changed", message="since the license", operation="unlock")
def trial_changed() -> Made:
    """One bit of a tensor that carries nothing; the lock is that of the license."""
    release = small()
    trial = sign(locked(release))
    made = refused(trial, release)
    return replace(made, data=edit(trial, position(trial, "fc.weight"), -5))


@vector(
    "11.3", "VerificationError: signature taken off the trial", message="since", operation="unlock"
)
def trial_stripped() -> Made:
    """The license is for the signed trial."""
    release = small()
    bare = locked(release)
    license_ = license_of(sign(bare), release)
    return without_result(with_trial(bare, release, license_))


@vector("11.3", "NoRecordError: trial is not locked", message="holds no record", operation="unlock")
def trial_without_record() -> Made:
    """A license for a stream without any record."""
    return refused(small(), small())


@vector("11.3", "NoRecordError: trial is signed, not locked", message="record", operation="unlock")
def trial_signed_only() -> Made:
    """A license for a signed release."""
    return refused(sign(small()), small())


@vector(
    "11.3",
    "WrongKeyError: trial signed by another vendor",
    message="signed with",
    operation="unlock",
)
def trial_of_other_vendor() -> Made:
    """The license is by the vendor, the trial's signature is not."""
    release = small()
    return refused(sign(locked(release), OTHER), release)


@vector(
    "11.3", "WrongKeyError: content key of another lock", message="locked with", operation="unlock"
)
def license_with_other_content_key() -> Made:
    """All is right but for the 32 bytes."""
    wrong = CONTENT_KEYS["other"]
    return sold(issued(content_key=wrong, claims={"lock": FULL.id}))


# The result


@vector(
    "11.3",
    "UnlockError: license promises another result",
    message="license says",
    operation="unlock",
)
def license_of_other_result() -> Made:
    """`opens` is the digest of another stream."""
    return sold(license_of(sale()[0], small()))


@vector(
    "11.3",
    "UnlockError: license promises the higher tier",
    message="license says",
    operation="unlock",
)
def license_of_higher_result() -> Made:
    """The content key opens the lower tier."""
    release = sign(large())
    trial = locked(locked(release), key=LOWER)
    return refused(trial, release, content_key=LOWER)


@vector(
    "11.3", "WrongKeyError: release signed by another vendor", message="signed", operation="unlock"
)
def release_of_other_vendor() -> Made:
    """The vendor sells what another signed."""
    release = sign(large(), OTHER)
    return refused(locked(release), release)


# Marks


def watermarked_with(license_: bytes) -> Made:
    return Made(bytes(watermarked(sign(small()), license_)))


@vector("6.5", "VerificationError: mark of another stream", message="that of another stream")
def mark_of_other_stream() -> Made:
    """A license that opens something else."""
    return watermarked_with(license_of(small(), small()))


@vector("6.5", "VerificationError: mark changed", message="watermark was changed")
def mark_changed() -> Made:
    """Another customer's name."""
    return watermarked_with(license_of(small(), sign(small())).replace(b"Ada", b"Eda"))


@vector("6.5", "VerificationError: mark malformed", message="watermark was changed")
def mark_malformed() -> Made:
    """A zero byte after the license."""
    return watermarked_with(license_of(small(), sign(small())) + b"\0")


def damaged(trial: Stream) -> Stream:
    """A trial, the checksum of whose record is wrong."""
    taken = extract(trial)
    data = bytearray(frame_record(taken.header, taken.record))
    data[-1] ^= 1
    return place(taken.original, taken.header.carriers, bytes(data), bits=taken.header.widths)


@vector("11.3", "LicenseError: other-stream", message="another trial", operation="unlock")
def license_of_other_damaged() -> Made:
    """The record of the lock, which is of another key, has a wrong checksum: that is not asked."""
    trial = damaged(locked(small(), key=LOWER))
    return without_result(with_trial(trial, small(), license_of(small(), small())))


@vector(
    "11.3",
    "VerificationError: trial with a wrong checksum",
    message="was changed",
    operation="unlock",
)
def license_of_damaged() -> Made:
    """The record of the lock has a wrong checksum; its key is that of the license."""
    trial = damaged(locked(small()))
    return without_result(with_trial(trial, small(), license_of(small(), small())))


@vector("11.3", "LicenseError: other-stream", message="another trial", operation="unlock")
def license_of_other_much_work() -> Made:
    """The lock, which is of another key, costs more than the limit."""
    trial = lock(sixteen_bits(257), {}, bits=16, key=LOWER)
    return without_result(with_trial(trial, small(), license_of(small(), small())))


@vector("6.5", "WrongKeyError: mark of another vendor", message="license is signed with")
def mark_of_other_vendor() -> Made:
    """The release is the vendor's."""
    return watermarked_with(license_of(small(), sign(small()), key=OTHER))


@vector("6.5", "VerificationError: mark of another trusted vendor", message="the release with")
def mark_of_partner() -> Made:
    """Both keys are trusted, but the release is the vendor's."""
    return watermarked_with(license_of(small(), sign(small()), key=PARTNER))


def watermark_at(change: Callable[[FrameHeader], FrameHeader]) -> Made:
    """A mark that is right but for its header."""
    release = of_four()
    license_ = license_of(small(), release)
    header = change(extract(watermarked(release, license_)).header)
    return Made(bytes(place(release, header.carriers, frame_record(header, license_))))


@vector("6.5", "VerificationError: mark with a carrier more", message="not where it belongs")
def mark_in_more() -> Made:
    """A tensor is listed that holds none of its bits."""
    return watermark_at(lambda header: with_carriers(header, *header.carriers, 5))


@vector("5.2", "VerificationError: mark with another carrier", message="not where it belongs")
def mark_in_others() -> Made:
    """Without the small tensor that 5.2 takes before the last."""
    return watermark_at(lambda header: with_carriers(header, 3, 6))


@vector("6.5", "VerificationError: mark of another layer", message="not where it belongs")
def mark_of_other_layer() -> Made:
    """Layer 3, on a release of layer 1."""
    return watermark_at(lambda header: replace(header, layer=3))


@vector(
    "6.5", "WrongKeyError: mark of another stream, signed by another vendor", message="signed with"
)
def mark_on_other_vendor() -> Made:
    """Below the mark is another vendor's release: that is looked at before the mark's digest."""
    release = sign(small(), OTHER)
    return Made(bytes(watermarked(release, license_of(small(), small()))))
