"""Selling a trial: issuing a license for it, and unlocking it with one.

    license = nnguard.issue_license(trial, content_key, to=customer, signer=key, customer="Ada")
    full = nnguard.unlock("trial.nnc", license, identity="customer.key", trust=["vendor.pub"])

Law: `unlock` returns the stream that was locked, byte for byte, or raises.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone

from nnguard.crypto.content import ContentKey
from nnguard.crypto.identity import Identity, Recipient
from nnguard.crypto.keys import PublicKey, Signer, Trust, load_trust
from nnguard.errors import (
    FormatError,
    LicenseError,
    NoRecordError,
    Refusal,
    UnlockError,
    VerificationError,
    WrongKeyError,
)
from nnguard.hiding import Extraction, RecordKind, embed, extract, peek
from nnguard.licensing.checks import Checks, LicenseLike, as_license, check
from nnguard.licensing.device import Device, DeviceBinding
from nnguard.licensing.license import License, LicenseTerms, seconds_of, time_of
from nnguard.locking.opening import Opened, extract_lock, open_locks, peek_lock
from nnguard.mappings import FrozenMapping
from nnguard.records import Claims, SignatureRecord, model_digest
from nnguard.signing import Progress, check_digest, check_signature
from nnguard.stream import Stream, StreamLike, as_stream

__all__ = ["IdentityLike", "issue_license", "lock_id", "unlock"]

_FEWEST_TRAITS = 2

RecipientLike = Recipient | str | os.PathLike[str]
IdentityLike = Identity | str | os.PathLike[str]


def issue_license(
    trial: StreamLike,
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
) -> License:
    """Make out a license for a trial.

    The trial is opened first, in memory: a license that would not open it is never issued.

    Args:
        trial: The very stream that the customer has, or its path.
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
    trial = as_stream(trial)
    recipient = to if isinstance(to, Recipient) else Recipient.load(to)
    digests = trial.sha256_of_units()
    outer = extract_lock(trial)
    if outer.header.kind == RecordKind.SIGNATURE:
        _check_signer(outer, digests, signer.public_key)
    key, opened = _open_tier(trial, digests, content_key, tier)
    claims = _claims(outer)
    terms = LicenseTerms(
        id=secrets.token_hex(16),
        issuer=issuer or claims.issuer,
        customer=customer,
        product=product or claims.name,
        tier=opened.tiers[-1],
        issued_at=issued,
        not_before=begins,
        expires_at=ends,
        grace=grace,
        features=tuple(features),
        metadata=FrozenMapping(metadata or {}),
        device=None if device is None else _bind(device, device_traits),
        stream=model_digest(digests).hex(),
        opens=model_digest(opened.digests).hex(),
        lock=lock_id(trial),
        recipient=recipient.id.hex(),
    )
    return License.make(terms, key, recipient, signer)


def unlock(
    trial: StreamLike,
    license: LicenseLike,  # noqa: A002
    identity: IdentityLike,
    trust: Trust,
    *,
    tier: str = "",
    checks: Checks | None = None,
    mark: bool = False,
    progress: Progress | None = None,
) -> Stream:
    """Restore what a license opens, byte for byte.

    The checks, in this order: a trusted vendor signed the license; it holds here and now; it is
    made out to this identity; it is of this very stream; the trial's own signature, if there is
    one; the lock is authentic; what was restored has the digest that the lock and the license name;
    its own signature, if there is one.

    Args:
        trial: The trial, or its path.
        license: The license, or its path.
        identity: The customer's private key, or the path of one without a passphrase.
        trust: Trusted keys of the vendor; see `nnguard.verify`.
        tier: Refuse a license of another tier.
        checks: What else to ask of the license.
        mark: Hide the license in the result: `verify` then says whom it is licensed to, and
            `strip` takes it out with the signature. What is restored has to be signed, by the key
            that signed the license.
        progress: Called with the number of bytes whenever so many more were hashed.

    Raises:
        WrongKeyError: The license is another vendor's or another customer's, or the trial is signed
            by a key that is not trusted.
        LicenseError: The license does not hold, or is of another stream; `reason` says why.
        VerificationError: The trial was changed.
        UnlockError: What was restored is not what was locked; or it is not signed by the key of
            the license, and so cannot be marked.
        CapacityError: There is no room for the mark.
        NoRecordError: The stream is not locked.
        FormatError: It is no stream, or damaged.
        KeyFormatError: A key cannot be read.
    """
    stream, license = as_stream(trial), as_license(license)  # noqa: A001
    keys = load_trust(trust)
    identity = identity if isinstance(identity, Identity) else Identity.load(identity)
    with stream.start_hashing(progress) as hashing:
        _check_license(license, keys, checks or Checks(), tier)
        key = license.unwrap(identity)
        digests = hashing.result()
    _check_binding(license, stream, digests)
    outer = extract_lock(stream)
    if outer.header.kind == RecordKind.SIGNATURE:
        check_digest(check_signature(outer, keys), outer, digests)
    opened = open_locks(stream, digests, key, outermost=outer)
    signature = _check_result(license, opened, keys)
    if not mark:
        return opened.stream
    if signature is None or signature.key_id.hex() != license.key_id:
        what = "not signed" if signature is None else f"signed with key {signature.key_id.hex()}"
        raise UnlockError(
            f"what was restored is {what}, and a mark needs a signature under it by the key of the "
            f"license, {license.key_id}",
            hint="unlock it without a mark; the vendor signs a release before locking it",
        )
    return embed(opened.stream, license.encoded, kind=RecordKind.LICENSE)


def lock_id(trial: Stream) -> str:
    """Return the identifier of the content key of a trial's outermost lock, in hexadecimal.

    Raises:
        NoRecordError: The stream is not locked.
    """
    return peek_lock(trial).envelope.key_id.hex()


def _check_signer(outer: Extraction, digests: Sequence[bytes], key: PublicKey) -> None:
    """Make sure that a signed trial verifies with the key that is to sign the license."""
    try:
        record = check_signature(outer, [key])
    except WrongKeyError:
        other = SignatureRecord.parse(outer.record).key_id.hex()
        raise WrongKeyError(
            f"the trial is signed with key {other}, the license would be with {key.id.hex()}",
            hint="issue the license with the key that signed the trial",
        ) from None
    check_digest(record, outer, digests)


def _check_license(license: License, keys: Sequence[PublicKey], checks: Checks, tier: str) -> None:  # noqa: A002
    check(license, keys, checks)
    if tier and license.terms.tier != tier:
        raise LicenseError(
            f"the license opens tier {license.terms.tier!r}, not {tier!r}",
            reason=Refusal.OTHER_TIER,
        )


def _check_binding(
    license: License,  # noqa: A002
    stream: Stream,
    digests: Sequence[bytes],
) -> None:
    """Make sure that the license is of this very stream; if not, say what is wrong with it."""
    if hmac.compare_digest(model_digest(digests).hex(), license.terms.stream):
        return
    try:
        lock = peek_lock(stream).envelope.key_id.hex()
    except NoRecordError:
        lock = ""
    if lock == license.terms.lock:
        raise VerificationError("the trial was changed since the license was issued")
    hint = "" if lock else "the stream is not locked: unlock takes the trial"
    raise LicenseError("the license is of another stream", reason=Refusal.OTHER_STREAM, hint=hint)


def _check_result(
    license: License,  # noqa: A002
    opened: Opened,
    keys: Sequence[PublicKey],
) -> SignatureRecord | None:
    """Make sure that the result is what the vendor says, by the license and by its signature.

    Returns:
        Its signature, if there is one.
    """
    if not hmac.compare_digest(model_digest(opened.digests).hex(), license.terms.opens):
        raise UnlockError("what was restored is not what the license says that it opens")
    try:
        header, _ = peek(opened.stream, 0)
        if header.kind != RecordKind.SIGNATURE:
            return None
        inner = extract(opened.stream, vouched=True)
    except (FormatError, NoRecordError):  # tensors of a foreign encoder, locked as they are
        return None
    signature = check_signature(inner, keys)
    check_digest(signature, inner, opened.digests)
    return signature


def _open_tier(
    trial: Stream, digests: Sequence[bytes], content_key: ContentKey, tier: str
) -> tuple[ContentKey, Opened]:
    """Find the key of a tier, and what it opens."""
    opened = open_locks(trial, digests, content_key)
    if not tier or opened.tiers[-1] == tier:
        return content_key, opened
    if tier in opened.tiers:
        key = content_key.below(len(opened.tiers) - 1 - opened.tiers.index(tier))
        return key, open_locks(trial, digests, key)
    raise UnlockError(
        f"the content key opens no tier {tier!r}", hint=f"it opens {', '.join(opened.tiers)}"
    )


def _claims(outer: Extraction) -> Claims:
    """Return the claims of the trial's signature; none where it has no signature."""
    if outer.header.kind == RecordKind.SIGNATURE:
        return SignatureRecord.parse(outer.record).claims
    return Claims()


def _to_second(time: datetime) -> datetime:
    return time_of(seconds_of(time))


def _bind(device: Device, required: int | None) -> DeviceBinding:
    enough = max(min(_FEWEST_TRAITS, len(device.traits)), len(device.traits) - 1)
    return DeviceBinding.make(device, enough if required is None else required)
