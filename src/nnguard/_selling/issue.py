"""Issuing licenses for a trial.

license = nnguard.issue_license(trial, content_key, to=customer, signer=key, customer="Ada")
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone

from nnguard._base.mappings import FrozenMapping
from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.identity import Recipient
from nnguard._crypto.keys import PublicKey, Signer
from nnguard._licensing.device import Device, DeviceBinding
from nnguard._licensing.license import License, LicenseTerms, seconds_of, time_of
from nnguard._records.hashed import Files, digest_of, hash_files
from nnguard._locking.opening import lock_id, open_files
from nnguard._models.stream_set import StreamSet, as_model
from nnguard._operations.sign import Progress
from nnguard._operations.signatures import signed_by, signer_of
from nnguard._records.claims import Claims
from nnguard._stream import Stream, StreamLike
from nnguard.errors import UnlockError, WrongKeyError

__all__ = ["issue_license"]

_FEWEST_TRAITS = 2

RecipientLike = Recipient | str | os.PathLike[str]


def issue_license(
    trial: StreamLike | StreamSet,
    content_key: ContentKey,
    *,
    to: RecipientLike,
    signer: Signer,
    customer: str = "",
    product: str = "",
    issuer: str = "",
    tier: str = "",
    expires: datetime | None = None,
    not_before: datetime | None = None,
    issued_at: datetime | None = None,
    grace: timedelta = timedelta(0),
    features: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    device: Device | None = None,
    device_traits: int | None = None,
    progress: Progress | None = None,
) -> License:
    """Make out a license for a trial.

    The trial is opened first, in memory: a license that would not open it is never issued.

    Args:
        trial: The very stream or set that the customer has, or its path.
        content_key: That of the tier, or of a higher one.
        to: The customer's public key, or the path of one.
        signer: Signs: the vendor's key, or your own `Signer`.
        customer: Who buys.
        product: What; the name in the trial's signature, if not given.
        issuer: Who sells; the issuer in the trial's signature, if not given.
        tier: Name of the tier that the license opens; that of the content key, if not given.
        expires: It holds until then; forever, if not given.
        not_before: It holds from then on; from `issued_at` on, if not given.
        issued_at: Now, if not given.
        grace: It still holds for so long after it has expired.
        features: Names that your own software may act on.
        metadata: Anything else, text to text.
        device: Bind the license to this device of the customer.
        device_traits: How many of the device's traits have to be there; all but one, and no
            fewer than two, if not given.
        progress: See `nnguard.unlock`.

    Returns:
        The license. The content key is in it, readable for the customer alone.

    Raises:
        NoRecordError: The stream is not locked.
        WrongKeyError: The content key does not open it; or the trial is signed, by another key than
            the license would be.
        VerificationError: The trial was changed.
        UnlockError: No lock of that tier is opened by the key.
        KeyFormatError: The customer's key cannot be read.
        ValueError: The license would never hold; a time has no time zone, or lies too far out; a
            claim has not its type, or cannot be encoded.
    """
    issued = _to_second(datetime.now(timezone.utc) if issued_at is None else issued_at)
    begins = issued if not_before is None else _to_second(not_before)
    ends = None if expires is None else _to_second(expires)
    if ends is not None and ends <= max(begins, issued):
        raise ValueError(f"a license that expires at {ends.isoformat()} would never hold")
    if isinstance(features, str):
        raise ValueError("features are a list of names, not one text")
    if grace % timedelta(seconds=1):
        raise ValueError("grace is counted in whole seconds")
    model = as_model(trial)
    recipient = to if isinstance(to, Recipient) else Recipient.load(to)
    files = hash_files(model, progress)
    lock = lock_id(model)
    claims = _claims(model, files, signer.public_key)
    key, opened, tiers = _open_tier(files, content_key, tier, progress)
    terms = LicenseTerms(
        id=secrets.token_hex(16),
        issuer=issuer or claims.issuer,
        customer=customer,
        product=product or claims.name,
        tier=tiers[-1],
        issued_at=issued,
        not_before=begins,
        expires_at=ends,
        grace=grace,
        features=tuple(features),
        metadata=FrozenMapping(metadata or {}),
        device=None if device is None else _bind(device, device_traits),
        stream=digest_of(files).hex(),
        opens=digest_of(opened).hex(),
        lock=lock,
        recipient=recipient.id.hex(),
    )
    return License.make(terms, key, recipient, signer)


def _claims(model: Stream | StreamSet, files: Files, key: PublicKey) -> Claims:
    """Return the claims of the trial's signature, which has to be of this key; none without one."""
    try:
        signature = signed_by(model, files, [key])
    except WrongKeyError:
        raise WrongKeyError(
            f"the trial is signed with key {signer_of(model)}, "
            f"the license would be with {key.id.hex()}",
            hint="issue the license with the key that signed the trial",
        ) from None
    return Claims() if signature is None else signature.claims


def _open_tier(
    trial: Files, content_key: ContentKey, tier: str, progress: Progress | None
) -> tuple[ContentKey, Files, tuple[str, ...]]:
    """Find the key of a tier, and what it opens."""
    spool = None if "" in trial else tempfile.gettempdir()
    opened, tiers = open_files(trial, content_key, spool=spool, progress=progress)
    if not tier or tiers[-1] == tier:
        return content_key, opened, tiers
    if tier in tiers:
        key = content_key.below(len(tiers) - 1 - tiers.index(tier))
        return key, *open_files(trial, key, spool=spool)
    raise UnlockError(
        f"the content key opens no tier {tier!r}", hint=f"it opens {', '.join(tiers)}"
    )


def _to_second(time: datetime) -> datetime:
    return time_of(seconds_of(time))


def _bind(device: Device, required: int | None) -> DeviceBinding:
    enough = max(min(_FEWEST_TRAITS, len(device.traits)), len(device.traits) - 1)
    return DeviceBinding.make(device, enough if required is None else required)
