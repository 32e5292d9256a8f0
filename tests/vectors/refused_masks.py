"""Vectors of masks that are malformed, and of licenses that do not take them off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nnguard._operations.sign import Signing
from nnguard._records.layers import Layer
from nnguard._records.masks import Masks
from nnguard._records.replaced import Replaced
from nnguard._stream import Stream
from nnguard._tracing.casting import take_off
from vectors.carried import LOWER
from vectors.licenses import sold
from vectors.masked import MASKS_NONCE, SAID, license_for, lock_masked, sale, trial_of
from vectors.selling import armor, with_key
from vectors.toolbox import OTHER, Made, small, vector

MALFORMED = "the content of the lock is malformed"
PART: list[Any] = [3, 8, 5, 1, b"\xff" * 5, b"\xff" * 21]
LIST = [3, 1, 0, 0, b"\xe0"]


# The form


def content(masks: Any) -> Made:
    """A lock that opens the stream that it is in, with masks that may be wrong."""
    stream = small()
    return with_key(lock_masked(stream, stream, masks, [[0, len(stream)]]), "lower")


def with_part(**changes: Any) -> Made:
    names = ("unit", "width", "entries", "sparsity", "rows", "columns", "outliers")
    fields = {**dict(zip(names, PART, strict=False)), **changes}
    return content([MASKS_NONCE, [[*fields.values()]]])


def malformed(make: Callable[[], Made]) -> Callable[[], Made]:
    about = (make.__doc__ or "").split(".")[0]
    expect = f"UnlockError: {about[0].lower()}{about[1:]}"
    return vector("6.7", expect, message=MALFORMED, operation="open")(make)


@malformed
def masks_of_nothing() -> Made:
    """No tensor has masks."""
    return content([MASKS_NONCE, []])


@malformed
def masks_with_short_nonce() -> Made:
    """A nonce of 11 bytes."""
    return content([bytes(11), [PART]])


@malformed
def masks_unsorted() -> Made:
    """Two tensors stand in the wrong order."""
    return content([MASKS_NONCE, [[5, *PART[1:]], PART]])


@malformed
def masks_twice() -> Made:
    """One tensor has masks twice."""
    return content([MASKS_NONCE, [PART, PART]])


@malformed
def masks_with_other_claims() -> Made:
    """An empty text among the claims."""
    return content([MASKS_NONCE, [PART], {1: ""}])


@malformed
def masks_with_more() -> Made:
    """Masks of four fields."""
    return content([MASKS_NONCE, [PART], {}, {}])


@malformed
def masks_before_the_first_unit() -> Made:
    """A position of -1."""
    return with_part(unit=-1)


@malformed
def masks_of_one_bit() -> Made:
    """Masks of one bit."""
    return with_part(width=1)


@malformed
def masks_of_25_bits() -> Made:
    """Masks of 25 bits."""
    return with_part(width=25)


@malformed
def masks_without_entries() -> Made:
    """A tensor has no entries."""
    return with_part(entries=0)


@malformed
def masks_with_many_entries() -> Made:
    """A tensor has 2^20 entries and one."""
    return with_part(entries=(1 << 20) + 1)


@malformed
def masks_too_sparse() -> Made:
    """One of 2^8 weights is a mark."""
    return with_part(sparsity=8)


@malformed
def masks_with_text_for_rows() -> Made:
    """The bits of rows are a text."""
    return with_part(rows="rows")


@malformed
def masks_with_outliers_of_another() -> Made:
    """Outliers of another tensor."""
    return with_part(outliers=[5, *LIST[1:]])


@malformed
def masks_with_empty_list() -> Made:
    """A list of no outliers."""
    return with_part(outliers=[3, 0, 0, 0, b"\x80"])


# What the masks say, and the stream does not have


def fits_not(change: Callable[[Masks], Masks], *, dependent: bool = False) -> Made:
    """A trial whose masks were changed after they were put on, and a license for it."""
    made = sale(dependent=dependent)
    masks = change(made.masks)
    trial = in_itself(made.masked, masks)
    license_ = license_for(trial, made, license_key=made.license_key[: masks.key_size])
    told = sold(license_, file="")
    return Made(bytes(trial), None, told.details, told.texts)


def in_itself(masked: Stream, masks: Masks) -> Stream:
    return lock_masked(masked, masked, masks.to_cbor(), [[0, len(masked)]], bits=2)


def first(**changes: Any) -> Callable[[Masks], Masks]:
    def change(masks: Masks) -> Masks:
        return replace(masks, tensors=(replace(masks.tensors[0], **changes),))

    return change


@vector(
    "6.7",
    "UnlockError: the masks do not fit the stream",
    message="cannot be masked",
    operation="unlock",
)
def masks_of_a_vector() -> Made:
    """Position of a unit that is no tensor."""
    return fits_not(first(unit=1, outliers=None))


@vector(
    "6.7",
    "UnlockError: the masks do not fit the stream",
    message="cannot be masked",
    operation="unlock",
)
def masks_behind_the_last_unit() -> Made:
    """Position of a unit that is not there."""
    return fits_not(first(unit=1000, outliers=None))


@vector(
    "6.7",
    "UnlockError: the masks do not fit the stream",
    message="cannot be restored",
    operation="unlock",
)
def masks_with_short_rows() -> Made:
    """There are bits for 32 rows of 36."""
    return fits_not(first(rows=b"\xff" * 4))


@vector(
    "6.7",
    "UnlockError: the masks do not fit the stream",
    message="cannot be restored",
    operation="unlock",
)
def masks_with_long_columns() -> Made:
    """There are bits for places that rows do not have."""
    return fits_not(first(columns=b"\xff" * 22))


@vector(
    "6.7",
    "UnlockError: the masks do not fit the stream",
    message="cannot be restored",
    operation="unlock",
)
def masks_with_far_outlier() -> Made:
    """An outlier at the first position behind the last weight."""
    far = Replaced(3, np.array([36 * 18 * 9]), np.array([40], np.int32))
    return fits_not(first(outliers=far))


@vector(
    "6.7",
    "UnlockError: the masks do not fit the stream",
    message="cannot be restored",
    operation="unlock",
)
def masks_with_outlier_of_other_state() -> Made:
    """TCQ: the first weight is even, and an outlier says that it is odd."""
    odd = Replaced(3, np.array([0]), np.array([41], np.int32))
    return fits_not(first(outliers=odd), dependent=True)


# Licenses


def refused(**changes: Any) -> Made:
    """A license for the usual trial, right but for what is changed."""
    return sold(armor(license_for(trial_of(), sale(), **changes)), file="masked_urq")


@vector("6.7", "UnlockError: no license key", message="not made for that", operation="unlock")
def license_without_license_key() -> Made:
    """The content key alone is wrapped."""
    return refused(license_key=b"")


@vector(
    "6.7",
    "UnlockError: another license key",
    message="masks of another lock",
    operation="unlock",
)
def license_key_cut() -> Made:
    """The last byte of the license key is missing."""
    return refused(license_key=sale().license_key[:-1])


@vector(
    "6.7",
    "UnlockError: another license key",
    message="masks of another lock",
    operation="unlock",
)
def license_key_with_more() -> Made:
    """There is a zero byte after the license key."""
    return refused(license_key=sale().license_key + b"\0")


NOT_THE_COPY = "UnlockError: not what the license says"
OTHERWISE = "not what the license says"


@vector("6.7", NOT_THE_COPY, message=OTHERWISE, operation="unlock")
def license_key_with_other_bit() -> Made:
    """One number of the license key is larger by one."""
    key = bytearray(sale().license_key)
    key[len(key) // 2] ^= 1
    return refused(license_key=bytes(key))


@vector("6.7", NOT_THE_COPY, message=OTHERWISE, operation="unlock")
def license_opens_masked() -> Made:
    """The license names the stream with its masks on."""
    return refused(opens=sale().masked)


@vector("6.7", NOT_THE_COPY, message=OTHERWISE, operation="unlock")
def license_opens_release() -> Made:
    """The license names the release, without a fingerprint."""
    return refused(opens=sale().release, signature=b"")


@vector("6.7", NOT_THE_COPY, message=OTHERWISE, operation="unlock")
def license_without_signature_of_copy() -> Made:
    """The signature of the copy is missing."""
    return refused(signature=b"")


@vector("6.7", NOT_THE_COPY, message=OTHERWISE, operation="unlock")
def license_with_other_signature_of_copy() -> Made:
    """The last bit of the signature of the copy is another one."""
    record = sale().signature
    return refused(signature=record[:-1] + bytes([record[-1] ^ 1]))


@vector("6.7", "UnlockError: no room for the signature", message="no room for", operation="unlock")
def license_with_long_signature_of_copy() -> Made:
    """A signature of 16,000 bytes, for which the copy has no room."""
    return refused(signature=bytes(16_000))


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_with_empty_signature_of_copy() -> Made:
    """`"copy"` has no bytes."""
    return refused(claims={"copy": b""})


@vector(
    "11.1",
    "LicenseError: malformed",
    message="not a license, or it was changed",
    operation="unlock",
)
def license_with_text_for_copy() -> Made:
    """`"copy"` is a text."""
    return refused(claims={"copy": "copy"})


@vector(
    "11.3",
    "WrongKeyError: the copy is signed by another",
    message="signed with",
    operation="unlock",
)
def license_of_copy_by_a_stranger() -> Made:
    """The copy is signed by a key that is not trusted, and the license names it."""
    made = sale()
    bare = take_off(made.masked, made.masks, LOWER, made.license_key)
    copy = Signing(OTHER).sign_again(bare, SAID, {})
    assert isinstance(copy, Stream)
    return refused(opens=copy, signature=Layer(copy).record)
