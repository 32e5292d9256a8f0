"""Issuing licenses for a trial.

license = nnguard.licensing.issue(
    "trial.nnc", "content.key", to="ada.pub", signer="vendor.key", terms=Terms(customer="Ada")
)
"""

from __future__ import annotations

import secrets
import tempfile
from concurrent.futures import Executor
from datetime import datetime

from nnguard._base.arguments import check_type, loaded
from nnguard._base.mappings import FrozenMapping
from nnguard._base.progress import Progress
from nnguard._base.times import now, to_utc
from nnguard._base.workers import Workers
from nnguard._crypto.content_key import ContentKey, ContentKeyLike
from nnguard._crypto.identity import Recipient, RecipientLike
from nnguard._crypto.keys import PublicKey, SignerLike, as_signer
from nnguard._licensing.device import Device, DeviceBinding
from nnguard._licensing.license import License, LicenseTerms
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._locking.opening import Opened, lock_id, open_files
from nnguard._models.stream_set import StreamSet, as_model
from nnguard._operations.copies import Copy, cast
from nnguard._operations.signatures import signed_by, signer_of
from nnguard._records.claims import Claims
from nnguard._records.hashed import Files, digest_of, hash_files
from nnguard._selling.terms import Terms
from nnguard._stream import Stream, StreamLike
from nnguard.errors import ArgumentError, UnlockError, WrongKeyError

__all__ = ["bind", "issue", "signed_claims"]

_FEWEST_MATCHES = 2


def issue(
    trial: StreamLike | StreamSet,
    content_key: ContentKeyLike,
    *,
    to: RecipientLike,
    signer: SignerLike,
    terms: Terms = Terms(),  # noqa: B008 - it is frozen
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    any_signer: bool = False,
) -> License:
    """Make out a license for a trial.

    The trial is opened first, in memory: a license that would not open it is never issued.

    Args:
        trial: The very stream or set that the customer has, or its path.
        content_key: That of the tier, or of a higher one, or its path.
        to: The customer's public key, or its path.
        signer: Signs: the vendor's key, its path, or your own `Signer`.
        terms: What you choose: customer, expiry, device and so on.
        workers: See `nnguard.unlock`.
        executor: See `nnguard.unlock`.
        progress: See `nnguard.unlock`.
        any_signer: The trial may be signed by another key than the license is: whoever unlocks it
            has to trust both. That signature is not checked then, and product and issuer are what
            `terms` say.

    Returns:
        The license. The content key is in it, readable for the customer alone.

    Raises:
        NoRecordError: The stream is not locked.
        WrongKeyError: The content key does not open it; or the trial is signed, by another key than
            the license would be, and not `any_signer`.
        VerificationError: The trial was changed.
        UnlockError: No lock of that tier is opened by the key.
        KeyFormatError: A key cannot be read.
        WorkerError: A worker of the executor died.
        ArgumentError: The license would never hold, or asks for more than the device has.

    Examples:
        >>> license = licensing.issue("trial.nnc", "content.key", to="ada.pub", signer="vendor.key")
        >>> license.save("second.license")
    """
    check_type(terms, Terms, "terms")
    issued, begins, ends = _period(terms)
    device = None
    if terms.device is not None:
        device = bind(loaded(terms.device, Device, "device"), terms.device_matches)
    content_key = loaded(content_key, ContentKey, "content_key")
    recipient = loaded(to, Recipient, "to")
    signer = as_signer(signer)
    model = as_model(trial)
    files = hash_files(model, progress)
    lock = lock_id(model)
    try:
        claims = signed_claims(model, files, signer.public_key)
    except WrongKeyError as error:
        if not any_signer:
            error.hint += "; if customers trust both, say --any-signer (any_signer=True)"
            raise
        claims = Claims()  # nobody has vouched for those that the trial makes
    license_id = secrets.token_hex(16)
    opened, key = _open_tier(files, content_key, terms.tier, Workers(workers, executor), progress)
    if opened.masks is None:
        copy = Copy(b"", b"", digest_of(opened.files))
    else:
        copy, key = cast(opened, key, license_id, signer), key.below()
    said = LicenseTerms(
        id=license_id,
        issuer=terms.issuer or claims.issuer,
        customer=terms.customer,
        product=terms.product or claims.name,
        tier=opened.tiers[-1],
        issued_at=issued,
        not_before=begins,
        expires_at=ends,
        grace=terms.grace,
        features=tuple(terms.features),
        metadata=FrozenMapping(terms.metadata),
        device=device,
        stream=digest_of(files).hex(),
        opens=copy.digest.hex(),
        lock=lock,
        recipient=recipient.id.hex(),
    )
    unwrapped = Unwrapped(key, copy.license_key)
    return License.make(said, unwrapped, recipient, signer, signature=copy.signature)


def _period(terms: Terms) -> tuple[datetime, datetime, datetime | None]:
    """Return when the license is issued, begins and ends."""
    issued = to_utc(terms.issued_at or now())
    begins = to_utc(terms.not_before or issued)
    if terms.expires_at is None:
        return issued, begins, None
    ends = to_utc(terms.expires_at)
    if ends <= max(begins, issued):
        raise ArgumentError(f"a license that expires at {ends.isoformat()} would never hold")
    return issued, begins, ends


def signed_claims(model: Stream | StreamSet, files: Files, key: PublicKey) -> Claims:
    """Return the claims of the trial's signature, which has to be of this key; none without one."""
    try:
        signature = signed_by(model, files, [key])
    except WrongKeyError:
        raise WrongKeyError(
            f"the trial is signed with key {signer_of(model)}, "
            f"the license would be with {key.id.hex()}",
            hint="issue the license with the key that signed the trial",
        ) from None
    return Claims() if signature is None else signature[0].claims


def _open_tier(
    trial: Files,
    content_key: ContentKey,
    tier: str,
    workers: Workers,
    progress: Progress | None,
) -> tuple[Opened, ContentKey]:
    """Open the locks down to a tier; also return the key of that, of a traceable one the vendor's.

    The vendor's key is above that of the lock: locks of lower tiers are one step further down.
    """
    spool = None if "" in trial else tempfile.gettempdir()
    opened = open_files(trial, content_key, spool=spool, progress=progress, workers=workers)
    tiers = opened.tiers
    if not tier or tiers[-1] == tier:
        return opened, content_key
    if tier in tiers:
        above = 0 if opened.key_id == content_key.id else 1
        key = content_key.below(above + len(tiers) - 1 - tiers.index(tier))
        return open_files(trial, key, spool=spool, workers=workers), key
    raise UnlockError(
        f"the content key opens no tier {tier!r}", hint=f"it opens {', '.join(tiers)}"
    )


def bind(device: Device, matches: int | None = None) -> DeviceBinding:
    """Bind to a device: all components but one have to match, and two at least, if None."""
    count = len(device.fingerprint)
    enough = max(min(_FEWEST_MATCHES, count), count - 1)
    return DeviceBinding.make(device, enough if matches is None else matches)
