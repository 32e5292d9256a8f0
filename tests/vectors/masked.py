"""Vectors of locks with masks, and of licenses that take them off."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import cbor2
import numpy as np

from nnguard._operations.sign import Signing
from nnguard._records.claims import Claims
from nnguard._records.layers import Layer
from nnguard._records.masks import MaskedTensor, Masks
from nnguard._records.replaced import Replaced
from nnguard._stream import Stream
from nnguard._tracing.casting import Caster, take_off
from nnguard._tracing.masking import levels_of
from vectors.carried import LOWER, weaker
from vectors.leases import LEASED, lease_of
from vectors.licenses import sold, with_trial
from vectors.selling import FULL, LICENSE_ID, armor, hide_lock, license_of, opens
from vectors.toolbox import (
    CLAIMS,
    ISSUED,
    VENDOR,
    Made,
    digest_of,
    position,
    small,
    tensor_of,
    vector,
)

MASKS_NONCE = bytes(range(0xB0, 0xBC))
SAID = Claims(CLAIMS["issuer"], CLAIMS["name"], CLAIMS["version"], ISSUED)


def part_of(release: Stream, name: str, entries: int, sparsity: int, width: int) -> MaskedTensor:
    """Masks for a tensor; not for the first of its rows, nor for the last place in each."""
    at = position(release, name)
    tensor = tensor_of(release, at)
    rows, width_of_row = tensor.indices.shape[0], tensor.indices[0].size
    large = np.flatnonzero(np.abs(levels_of(tensor)) + 2 > 1 << width - 1)
    outliers = Replaced(at, large, tensor.indices.reshape(-1)[large]) if large.size else None
    flags = [np.ones(count, bool) for count in (rows, width_of_row)]
    flags[0][0] = flags[1][-1] = False
    packed = [np.packbits(each).tobytes() for each in flags]
    return MaskedTensor(at, width, entries, sparsity, packed[0], packed[1], outliers)


class Sale(NamedTuple):
    """A release with masks, and one license for it."""

    release: Stream
    masks: Masks
    masked: Stream
    license_key: bytes
    copy: Stream
    signature: bytes


@functools.cache
def sale(*, dependent: bool = False, signed: bool = True) -> Sale:
    """Two tensors have masks, one of them at every weight; the key of the lock is `LOWER`."""
    release = small(dependent=dependent)
    parts = (
        part_of(release, "conv.weight", 150, 2, 4 if dependent else 5),
        part_of(release, "fc.weight", 7, 0, 7),
    )
    masks = Masks(MASKS_NONCE, parts, SAID if signed else None)
    caster = Caster(FULL, masks)
    masked = caster.mask(release)
    license_key = caster.key_for(LICENSE_ID.hex())
    copy, signature = take_off(masked, masks, LOWER, license_key), b""
    if signed:
        made = Signing(VENDOR).sign_again(copy, SAID, {})
        assert isinstance(made, Stream)
        copy, signature = made, Layer(made).record
    return Sale(release, masks, masked, license_key, copy, signature)


def lock_masked(
    trial: Stream, masked: Stream, masks: Any, units: Any = None, **options: Any
) -> Stream:
    """Hide a lock that opens a stream with masks: in another, or by `units` in itself."""
    given = [bytes(masked)] if units is None else units
    content = [[], [], [["", digest_of(masked), given, masks]]]
    return hide_lock(trial, cbor2.dumps(content, canonical=True), key=LOWER, **options)


@functools.cache
def trial_of(*, dependent: bool = False, signed: bool = True) -> Stream:
    """Another network that carries the release, masked."""
    made = sale(dependent=dependent, signed=signed)
    return lock_masked(weaker(), made.masked, made.masks.to_cbor(), bits=12)


def license_for(trial: Stream, made: Sale, **changes: Any) -> bytes:
    """A license, right but for what is changed: `license_key`, `signature`; see `license_of`."""
    secret = LOWER.secret + changes.pop("license_key", made.license_key)
    record = changes.pop("signature", made.signature) or None
    claims = {"copy": record, **changes.pop("claims", {})}
    given = {"content_key": LOWER, "secret": secret, "claims": claims, **changes}
    return license_of(trial, given.pop("opens", made.copy), **given)


def unlocks(trial: Stream, made: Sale, license_: bytes | None = None) -> Made:
    return with_trial(trial, made.copy, license_for(trial, made) if license_ is None else license_)


@vector("6.7", "ok", operation="unlock")
def masked_urq() -> Made:
    """Masks on two tensors, with outliers; the license has the signature of its copy."""
    return unlocks(trial_of(), sale())


@vector("6.7", "ok", operation="unlock")
def masked_tcq() -> Made:
    """The same of a release that is TCQ: the last bits of its integers stay."""
    return unlocks(trial_of(dependent=True), sale(dependent=True))


@vector("6.7", "ok", operation="unlock")
def masked_unsigned() -> Made:
    """Copies are not signed."""
    return unlocks(trial_of(signed=False), sale(signed=False))


@vector("6.7", "ok", operation="unlock")
def masked_leased() -> Made:
    """A lease, which has the license key, too."""
    made, trial = sale(), trial_of()
    license_ = license_for(trial, made, to="eve", claims={**LEASED, "copy": made.signature})
    text = lease_of(license_, secret=LOWER.secret + made.license_key)
    usual = with_trial(trial, made.copy, b"")
    return Made(b"", usual.original, usual.details, (("license", text),), "masked_urq")


@vector("6.7", "ok", operation="unlock")
def masked_to_hybrid() -> Made:
    """To a customer whose key is a hybrid."""
    made = sale()
    license_ = armor(license_for(trial_of(), made, to="hybrid"))
    found = sold(license_, file="masked_urq", customer="hybrid", in_grace=False)
    return Made(b"", bytes(made.copy), found.details, found.texts, found.file)


@vector("6.4", "ok", operation="open")
def masked_opened() -> Made:
    """The key of the lock opens the release with its masks on."""
    made = opens(trial_of(), sale().masked, ["full"], "lower")
    return Made(b"", made.original, made.details, file="masked_urq")


@vector("6.4", "ok", operation="open")
def masked_opened_by_vendor() -> Made:
    """So does the vendor's key, one step above: there is no lock of a higher tier in it."""
    made = opens(trial_of(), sale().masked, ["full"])
    return Made(b"", made.original, made.details, file="masked_urq")


@vector("11.3", "ok", operation="unlock")
def masks_that_are_not_there() -> Made:
    """A license for masks, of a lock that has none: neither license key nor signature is used."""
    release = small()
    trial = hide_lock(
        weaker(), cbor2.dumps([[], [], [["", digest_of(release), [bytes(release)]]]]), bits=12
    )
    secret = FULL.secret + sale().license_key
    license_ = license_of(trial, release, secret=secret, claims={"copy": sale().signature})
    return with_trial(trial, release, license_)
