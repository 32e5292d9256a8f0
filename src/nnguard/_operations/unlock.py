"""Unlocking a trial with a license.

full = nnguard.unlock("trial.nnc", license, identity="customer.key", trust=["vendor.pub"])

Law: `unlock` returns the stream that was locked, byte for byte, or raises.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence

from nnguard._crypto.identity import Identity
from nnguard._crypto.keys import PublicKey
from nnguard._crypto.trust import Trust, load_trust
from nnguard._hiding import RecordKind, embed
from nnguard._licensing.license import License
from nnguard._licensing.policy import LicenseLike, Policy, as_license, check
from nnguard._locking.hashed import Files, digest_of, hash_files
from nnguard._locking.opening import check_places, lock_id, open_files
from nnguard._models.stream_set import Folder, StreamSet, as_set
from nnguard._operations.sign import Progress
from nnguard._operations.signatures import Signature, signed_by
from nnguard._stream import Stream, StreamLike, as_stream
from nnguard.errors import (
    FormatError,
    LicenseError,
    NnguardError,
    NoRecordError,
    Refusal,
    UnlockError,
    VerificationError,
)

__all__ = ["IdentityLike", "unlock", "unlock_set"]

IdentityLike = Identity | str | os.PathLike[str]


def unlock(
    trial: StreamLike,
    license: LicenseLike,  # noqa: A002
    identity: IdentityLike,
    trust: Trust,
    *,
    tier: str = "",
    checks: Policy | None = None,
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
        progress: Called with the number of bytes whenever so many more were hashed, and again
            when they were opened: with twice the size of the trial in all.

    Raises:
        WrongKeyError: The license is another vendor's or another customer's, or the trial is signed
            by a key that is not trusted.
        LicenseError: The license does not hold, or is of another stream; `reason` says why.
        VerificationError: The trial was changed.
        UnlockError: What was restored is not what was locked; or it is not signed by the key of
            the license, and so cannot be marked.
        CapacityError: There is no room for the mark.
        NoRecordError: The stream is not locked.
        FormatError: It is not a stream, or damaged.
        KeyFormatError: A key cannot be read.
    """
    stream = as_stream(trial)
    keys = load_trust(trust)
    license = as_license(license)  # noqa: A001
    result, signature = _open(stream, license, identity, keys, tier, checks, None, progress)
    assert isinstance(result, Stream)
    if not mark:
        return result
    if signature is None or signature.key_id != license.key_id:
        what = "not signed" if signature is None else f"signed with key {signature.key_id}"
        raise UnlockError(
            f"what was restored is {what}, and a mark needs a signature under it by the key of the "
            f"license, {license.key_id}",
            hint="unlock it without a mark; the vendor signs a release before locking it",
        )
    return embed(result, license.encoded, kind=RecordKind.LICENSE)


def unlock_set(
    trial: StreamSet | Folder,
    license: LicenseLike,  # noqa: A002
    identity: IdentityLike,
    trust: Trust,
    *,
    tier: str = "",
    checks: Policy | None = None,
    spool: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> StreamSet:
    """Restore a set that a license opens, file by file, byte for byte.

    Args and errors are those of `unlock`; which file an error is about stands in front of it.
    `spool` is a folder for temporary files that hold what was restored; it is in memory, if None.
    """
    streams = as_set(trial)
    license = as_license(license)  # noqa: A001
    keys = load_trust(trust)
    result, _ = _open(streams, license, identity, keys, tier, checks, spool, progress)
    assert isinstance(result, StreamSet)
    return result


def _open(
    trial: Stream | StreamSet,
    license: License,  # noqa: A002
    identity: IdentityLike,
    keys: Sequence[PublicKey],
    tier: str,
    checks: Policy | None,
    spool: str | os.PathLike[str] | None,
    progress: Progress | None,
) -> tuple[Stream | StreamSet, Signature | None]:
    """Return what a license opens and its signature, once all has been checked."""
    identity = identity if isinstance(identity, Identity) else Identity.load(identity)
    check(license, keys, policy=checks)
    if tier and license.terms.tier != tier:
        raise LicenseError(
            f"the license opens tier {license.terms.tier!r}, not {tier!r}",
            reason=Refusal.OTHER_TIER,
        )
    key = license.unwrap(identity)
    files = hash_files(trial, progress)
    if not hmac.compare_digest(digest_of(files).hex(), license.terms.stream):
        raise _of_another(license, trial)
    signed_by(trial, files, keys)
    opened, _ = open_files(files, key, spool=spool, progress=progress)
    if not hmac.compare_digest(digest_of(opened).hex(), license.terms.opens):
        raise UnlockError("what was restored is not what the license says that it opens")
    result = _model_of(opened)
    try:
        return result, signed_by(result, opened, keys)
    except FormatError:  # tensors of a foreign encoder, locked as they are
        return result, None


def _model_of(files: Files) -> Stream | StreamSet:
    if "" in files:
        return files[""].stream
    return StreamSet.of({name: file.stream for name, file in files.items()})


def _of_another(license: License, trial: Stream | StreamSet) -> NnguardError:  # noqa: A002
    """Say what is wrong with a trial whose digest is not the one in the license."""
    try:
        lock = lock_id(trial)
    except NoRecordError:
        lock = ""
    if lock == license.terms.lock:
        check_places(trial)
        return VerificationError("the trial was changed since the license was issued")
    hint = "" if lock else "the stream is not locked: unlock takes the trial"
    return LicenseError("the license is of another stream", reason=Refusal.OTHER_STREAM, hint=hint)
