"""Vectors of locks with masks, and of licenses that take them off."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple
from unittest import mock

import cbor2
import numpy as np

import nnguard
from nnguard._operations.sign import Signing
from nnguard._records.claims import Claims
from nnguard._records.layers import Layer
from nnguard._records.masks import Masks
from nnguard._stream import Stream
from nnguard._tracing.casting import Caster, mask, take_off
from nnguard._tracing.choosing import Chosen
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
ENTRIES = 53
SAID = Claims(CLAIMS["issuer"], CLAIMS["name"], CLAIMS["version"], ISSUED)


def choose(release: Stream, name: str, share: float, sparsity: int) -> Chosen:
    at = position(release, name)
    levels = levels_of(tensor_of(release, at))
    width = int(np.sort(np.abs(levels))[-levels.size // 8] + 1).bit_length() + 1
    return Chosen(at, levels.size, width, share, sparsity)


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
    chosen = [choose(release, "conv.weight", 1.0, 4), choose(release, "fc.weight", 0.5, 0)]
    with mock.patch.object(nnguard.ContentKey, "new_nonce", return_value=MASKS_NONCE):
        masked, masks = mask(release, chosen, ENTRIES, SAID if signed else None, FULL)
    license_key = Caster(FULL, masked, masks).key_for(LICENSE_ID.hex())
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
    """Masks on two tensors, on one at all weights that are not too large; the license has the
    signature of its copy."""
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
