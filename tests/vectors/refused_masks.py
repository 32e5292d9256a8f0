"""Vectors of masks that are malformed, and of licenses that do not take them off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nnguard._operations.sign import Signing
from nnguard._records.layers import Layer
from nnguard._records.masks import MaskedTensor, Masks
from nnguard._stream import Stream
from nnguard._stream.quantized import encode
from nnguard._tracing.casting import take_off
from vectors.carried import LOWER, weaker
from vectors.licenses import sold
from vectors.masked import MASKS_NONCE, SAID, license_for, lock_masked, sale, trial_of
from vectors.selling import armor, with_key
from vectors.toolbox import OTHER, Made, position, several, small, tensor_of, vector

MALFORMED = "the content of the lock is malformed"
PART: list[Any] = [3, 8, 7, bytes(50), bytes(50)]


# The form


def content(masks: Any) -> Made:
    """A lock that opens the stream that it is in, with masks that may be wrong."""
    stream = small()
    return with_key(lock_masked(stream, stream, masks, [[0, len(stream)]]), "lower")


def with_part(**changes: Any) -> Made:
    names = ("unit", "width", "sparsity", "first", "second")
    fields = {**dict(zip(names, PART, strict=True)), **changes}
    return content([MASKS_NONCE, 5, [[*fields.values()]]])


def malformed(make: Callable[[], Made]) -> Callable[[], Made]:
    about = (make.__doc__ or "").split(".")[0]
    expect = f"UnlockError: {about[0].lower()}{about[1:]}"
    return vector("6.7", expect, message=MALFORMED, operation="open")(make)


@malformed
def masks_of_nothing() -> Made:
    """No tensor has masks."""
    return content([MASKS_NONCE, 5, []])


@malformed
def masks_with_short_nonce() -> Made:
    """A nonce of 11 bytes."""
    return content([bytes(11), 5, [PART]])


@malformed
def masks_unsorted() -> Made:
    """Two tensors stand in the wrong order."""
    return content([MASKS_NONCE, 5, [[5, *PART[1:]], PART]])


@malformed
def masks_twice() -> Made:
    """One tensor has masks twice."""
    return content([MASKS_NONCE, 5, [PART, PART]])


@malformed
def masks_with_other_claims() -> Made:
    """An empty text among the claims."""
    return content([MASKS_NONCE, 5, [PART], {1: ""}])


@malformed
def masks_with_more() -> Made:
    """Masks of five fields."""
    return content([MASKS_NONCE, 5, [PART], {}, {}])


@malformed
def masks_before_the_first_unit() -> Made:
    """A position of -1."""
    return with_part(unit=-1)


@malformed
def masks_of_one_bit() -> Made:
    """Masks of one bit."""
    return with_part(width=1)


@malformed
def masks_of_17_bits() -> Made:
    """Masks of 17 bits."""
    return with_part(width=17)


@malformed
def masks_without_entries() -> Made:
    """There are no entries."""
    return content([MASKS_NONCE, 0, [PART]])


@malformed
def masks_with_many_entries() -> Made:
    """There are 2^16 entries and one."""
    return content([MASKS_NONCE, (1 << 16) + 1, [PART]])


@malformed
def masks_too_sparse() -> Made:
    """One of 2^8 weights is masked."""
    return with_part(sparsity=8)


@malformed
def masks_with_text_for_variant() -> Made:
    """A variant is a text."""
    return with_part(first="first")


@malformed
def masks_of_unequal_variants() -> Made:
    """The second variant has a byte more."""
    return with_part(second=bytes(51))


# What the masks say, and the stream does not have


def fits_not(change: Callable[[Masks], Masks], *, dependent: bool = False) -> Made:
    """A trial whose masks were changed after they were put on, and a license for it."""
    made = sale(dependent=dependent)
    masks = change(made.masks)
    trial = in_itself(made.masked, masks)
    license_ = license_for(trial, made)
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
    return fits_not(first(unit=1))


@vector(
    "6.7",
    "UnlockError: the masks do not fit the stream",
    message="cannot be masked",
    operation="unlock",
)
def masks_behind_the_last_unit() -> Made:
    """Position of a unit that is not there."""
    return fits_not(first(unit=1000))


@vector(
    "6.7",
    "UnlockError: the masks do not fit the stream",
    message="another number of weights",
    operation="unlock",
)
def masks_of_fewer_weights() -> Made:
    """A variant is shorter by a byte than the masked weights of its tensor."""
    return fits_not(lambda masks: cut(masks, -1))


@vector(
    "6.7",
    "UnlockError: the masks do not fit the stream",
    message="another number of weights",
    operation="unlock",
)
def masks_of_more_weights() -> Made:
    """A variant is longer by a byte."""
    return fits_not(lambda masks: cut(masks, 1))


@vector(
    "6.7",
    "UnlockError: the masks do not fit the stream",
    message="another number of weights",
    operation="unlock",
)
def masks_of_other_sparsity() -> Made:
    """Where one of 16 weights is masked, the lock says one of 8."""
    return fits_not(first(sparsity=3))


def cut(masks: Masks, by: int) -> Masks:
    part = masks.tensors[0]
    one, two = ((bytes(each) + b"\0")[: len(each) + by] for each in part.variants)
    return first(variants=(one, two))(masks)


@vector(
    "6.7",
    "UnlockError: a row that is skipped",
    message="cannot be restored",
    operation="unlock",
)
def masks_in_skipped_row() -> Made:
    """A license key that makes weights of a row of zeros, which is skipped."""
    release = several(1, (40, 60), dependent=False)
    at = position(release, "layer0.weight")
    tensor = tensor_of(release, at)
    skipped = replace(tensor.parameters, skipped_rows=bytes(row == 7 for row in range(40)))
    changed = replace(tensor.with_indices(0 * tensor.indices), parameters=skipped)
    masked = release.replace({at: encode(changed)})
    masks = Masks(MASKS_NONCE, 1, (MaskedTensor(at, 2, 0, (b"\x1b" * 600, b"\x1b" * 600)),), None)
    trial = lock_masked(weaker(), masked, masks.to_cbor(), bits=10)
    license_ = license_for(trial, sale(), license_key=bytes(9), signature=b"")
    told = sold(license_, file="")
    return Made(bytes(trial), None, told.details, told.texts)


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
    message="keys for another lock",
    operation="unlock",
)
def license_key_cut() -> Made:
    """The last byte of the license key is missing."""
    return refused(license_key=sale().license_key[:-1])


@vector(
    "6.7",
    "UnlockError: another license key",
    message="keys for another lock",
    operation="unlock",
)
def license_key_with_more() -> Made:
    """There is a zero byte after the license key."""
    return refused(license_key=sale().license_key + b"\0")


NOT_THE_COPY = "UnlockError: not what the license says"
OTHERWISE = "not what the license says"


@vector("6.7", NOT_THE_COPY, message=OTHERWISE, operation="unlock")
def license_key_with_other_bit() -> Made:
    """One bit of the key of an entry is another one."""
    key = bytearray(sale().license_key)
    key[len(key) // 2] ^= 1
    return refused(license_key=bytes(key))


@vector("6.7", NOT_THE_COPY, message=OTHERWISE, operation="unlock")
def license_key_with_other_variant() -> Made:
    """Of one entry it has the key of one variant, and says that it is of the other."""
    key = bytearray(sale().license_key)
    key[2] ^= 1
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
