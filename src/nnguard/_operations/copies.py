"""Licensees' copies of a traceable release: made for a license, and taken from a trial with one.

Each has a fingerprint, and the vendor's signature, which comes with the license.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from secrets import token_hex
from typing import NamedTuple

from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.keys import Signer
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._locking.opening import Opened
from nnguard._locking.tiers import Tier
from nnguard._models.stream_set import Model, StreamSet, streams_of
from nnguard._operations.sign import Signing, plan_signature
from nnguard._records.claims import Claims
from nnguard._records.hashed import Hashed, hash_files
from nnguard._records.kinds import RecordKind
from nnguard._records.layers import Layer, layers
from nnguard._records.masks import Masks
from nnguard._records.signature import SignatureRecord
from nnguard._stream import Stream
from nnguard._tracing import casting
from nnguard._tracing.casting import Caster, take_off
from nnguard._tracing.choosing import choose
from nnguard.errors import (
    ArgumentError,
    CapacityError,
    FormatError,
    LimitError,
    NoRecordError,
    UnlockError,
    WrongKeyError,
)

__all__ = ["Copy", "any_copy", "cast", "caster_of", "check_traceable", "mask", "take_copy"]


def check_traceable(release: Model, tier: Tier) -> None:
    """Refuse what cannot have a traceable lock.

    Raises:
        ArgumentError: The release is a folder, or the trial is not another network.
    """
    if isinstance(release, StreamSet):
        raise ArgumentError("traceable: fingerprints are for a single stream, not for a folder")
    if tier.trial is None:
        raise ArgumentError(
            "traceable: the trial has to be another network",
            hint="give one: a lock that scrambles leaves most of the release in the clear",
        )


def mask(
    release: Stream, known: Iterable[Stream], key: ContentKey
) -> tuple[dict[str, Hashed], Masks]:
    """Take weights out of a release, and mask them.

    Args:
        release: The release; its signature is taken out, as each copy gets its own.
        known: Networks that are given away.
        key: The vendor's content key.

    Raises:
        LockError: It has too few weights for fingerprints.
        ArgumentError: It holds more than one signature.
    """
    bare, claims = _without_signature(release)
    chosen, entries = choose(bare, known)
    masked, masks = casting.mask(bare, chosen, entries, claims, key)
    if bytes(Caster(key, masked, masks).release()) != bytes(bare):
        raise RuntimeError("the release does not come out of its masks as it was")
    return hash_files(masked), masks


def _without_signature(release: Stream) -> tuple[Stream, Claims | None]:
    """Return a release below its signature, and what that says."""
    found: list[Layer] = []
    try:
        for layer in layers(release, vouched=True):
            kind = layer.kind
            found.append(layer)
            if kind != RecordKind.SIGNATURE or len(found) > 1:
                raise ArgumentError(
                    "traceable: the release has more in it than one signature, which is what a "
                    "copy gets",
                    hint="lock the release as it was signed first",
                )
    except (NoRecordError, FormatError):  # none, or tensors of a foreign encoder
        pass
    if not found:
        return release, None
    claims = SignatureRecord.parse(found[0].record).claims
    return found[0].below, replace(claims, shard=None)


class Copy(NamedTuple):
    """What a license has for its copy.

    Attributes:
        license_key: Takes the masks off.
        signature: Record of the copy's signature; empty where copies are not signed.
        digest: Model digest of the copy.
    """

    license_key: bytes
    signature: bytes
    digest: bytes


def cast(opened: Opened, key: ContentKey, license_id: str, signer: Signer) -> Copy:
    """Return what a license needs for its copy.

    Args:
        opened: What the lock opens.
        key: The vendor's content key.
        license_id: In hexadecimal.
        signer: Signs the copy.

    Raises:
        WrongKeyError: The key opens the lock, but is not the vendor's.
    """
    assert opened.masks is not None
    license_key = caster_of(opened, key).key_for(license_id)
    copy = _take_off(opened, key.below(), license_key)
    signature = b""
    if opened.masks.claims is not None:
        copy = streams_of(Signing(signer).sign_again(copy, opened.masks.claims, {}))[""]
        signature = Layer(copy, vouched=True).record
    return Copy(license_key, signature, hash_files(copy)[""].digest)


def any_copy(opened: Opened, key: ContentKey) -> Stream:
    """Return what a content key opens; of a traceable release a copy that nobody gets."""
    if opened.masks is None:
        return opened.files[""].stream
    license_key = caster_of(opened, key).key_for(token_hex(16))
    return _take_off(opened, key.below(), license_key)


def take_copy(opened: Opened, secrets: Unwrapped, signature: bytes) -> Hashed:
    """Return a licensee's copy; it is to be believed once it has the digest that its license names.

    Args:
        opened: What the lock opens.
        secrets: Those of the license.
        signature: See `Copy`.

    Raises:
        UnlockError: The license has nothing for it, or something for another lock.
    """
    if not secrets.license_key:
        raise UnlockError("the lock is traceable, and the license is not made for that")
    copy = _take_off(opened, secrets.content_key, secrets.license_key)
    if signature:
        try:
            copy = plan_signature(copy, len(signature)).embed(signature)
        except (CapacityError, FormatError, LimitError):
            raise UnlockError("the license has a signature that its copy has no room for") from None
    return hash_files(copy)[""]


def _take_off(opened: Opened, key: ContentKey, license_key: bytes) -> Stream:
    assert opened.masks is not None
    return take_off(opened.files[""].stream, opened.masks, key, license_key)


def caster_of(opened: Opened, key: ContentKey) -> Caster:
    """Return what makes copies.

    Raises:
        WrongKeyError: The key opens the lock, but is not the vendor's.
    """
    assert opened.masks is not None
    if opened.key_id == key.id:
        raise WrongKeyError(
            "the key opens the trial, but makes no copies: it is what licensees have",
            hint="give the content key that lock made",
        )
    if opened.key_id != key.below().id:
        raise WrongKeyError(
            "the key opens the trial, but makes no copies: it is above the key that lock had",
            hint="give the content key that lock was given",
        )
    return Caster(key, opened.files[""].stream, opened.masks)
