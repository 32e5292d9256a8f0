"""Unlocking a trial with a license.

full = nnguard.unlock("trial.nnc", "ada.license", identity="ada.key", trust=["vendor.pub"])

Law: `unlock` returns the model that was locked, byte for byte, or raises. Steps are those of SPEC
11.3.
"""

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import NamedTuple, overload

from nnguard._base.arguments import loaded
from nnguard._base.progress import Progress
from nnguard._base.workers import HERE, Workers
from nnguard._crypto.identity import Identity, IdentityLike
from nnguard._crypto.trust import Trust
from nnguard._hiding import embed
from nnguard._licensing.license import License
from nnguard._licensing.policy import (
    LicenseLike,
    Policy,
    as_license,
    check_license,
    license_of,
)
from nnguard._locking.opening import Opened, check_lock, check_places, lock_id, open_files
from nnguard._models.stream_set import AnyModel, Model, ModelLike, StreamSet, as_model, streams_of
from nnguard._oms.bundle import Bundle
from nnguard._operations.authority import Authority, LatestLike, PathLike, authority_of
from nnguard._operations.copies import take_copy
from nnguard._operations.report import Report
from nnguard._operations.signatures import signed_by
from nnguard._operations.verify import check_bundle
from nnguard._policy.policy import PolicyLike
from nnguard._records.hashed import digest_of, hash_files
from nnguard._records.kinds import RecordKind
from nnguard._stream import Stream
from nnguard.errors import (
    ArgumentError,
    FormatError,
    LicenseError,
    NnguardError,
    NoRecordError,
    Refusal,
    UnlockError,
    VerificationError,
)

__all__ = ["Unlocked", "check_together", "unlock", "unlock_by"]

_LOG = logging.getLogger("nnguard")


@overload
def unlock(
    trial: AnyModel,
    license: LicenseLike,
    identity: IdentityLike,
    trust: Trust | None = ...,
    *,
    policy: PolicyLike | None = ...,
    state: PathLike | None = ...,
    latest: LatestLike | None = ...,
    tier: str = ...,
    license_policy: Policy | None = ...,
    oms: Bundle | None = ...,
    watermark: bool = ...,
    workers: int | None = ...,
    executor: Executor | None = ...,
    spool: str | os.PathLike[str] | None = ...,
    progress: Progress | None = ...,
) -> AnyModel: ...
@overload
def unlock(
    trial: ModelLike,
    license: LicenseLike,
    identity: IdentityLike,
    trust: Trust | None = ...,
    *,
    policy: PolicyLike | None = ...,
    state: PathLike | None = ...,
    latest: LatestLike | None = ...,
    tier: str = ...,
    license_policy: Policy | None = ...,
    oms: Bundle | None = ...,
    watermark: bool = ...,
    workers: int | None = ...,
    executor: Executor | None = ...,
    spool: str | os.PathLike[str] | None = ...,
    progress: Progress | None = ...,
) -> Model: ...


def unlock(
    trial: ModelLike,
    license: LicenseLike,  # noqa: A002
    identity: IdentityLike,
    trust: Trust | None = None,
    *,
    policy: PolicyLike | None = None,
    state: PathLike | None = None,
    latest: LatestLike | None = None,
    tier: str = "",
    license_policy: Policy | None = None,
    oms: Bundle | None = None,
    watermark: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    spool: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Model:
    """Restore what a license opens, byte for byte.

    The checks, in this order: a trusted vendor signed the license; it holds here and now; it is
    made out to this identity; it is of this very trial; the trial's own signature, if there is one;
    the lock is authentic; what was restored has the digest that the lock and the license name; its
    own signature, if there is one.

    Args:
        trial: The trial: a stream, or a folder of shards.
        license: The license, a lease of it, or the path of either.
        identity: The customer's private key, or the path of one without a passphrase.
        trust: Trusted keys of the vendor; see `nnguard.verify`.
        policy: Trust policy, in place of trusted keys. It has to allow the trial and what it opens
            to, one of which is signed, and the license: by a key that may sign them.
        tier: Refuse a license of another tier.
        state: State file, against older releases; see `nnguard.verify`.
        latest: Statement on which release is the newest; see `nnguard.verify`.
        license_policy: What else to ask of the license.
        oms: A bundle of OpenSSF Model Signing that has to say the same of the trial's files.
        watermark: Hide the license in the result: `verify` then says whom it is licensed to, and
            `strip` takes it out with the signature. What is restored has to be a single stream,
            signed by the key that signed the license.
        workers: See `nnguard.compress`.
        executor: See `nnguard.compress`. It is sent tensors, never a key.
        spool: Folder for temporary files that hold what was restored of a set; in memory, if None.
        progress: Called with the number of bytes hashed since the last call, and again
            when they were opened: with twice the size of the trial in all.

    Returns:
        What was locked.

    Raises:
        WrongKeyError: The license is another vendor's or another customer's, or the trial is signed
            by a key that is not trusted.
        LicenseError: The license does not hold, or is of another trial; `reason` says why.
        VerificationError: The trial was changed; of a set, the error names the file.
        PolicyError: The trust policy does not allow the trial, what it opens to, or the license.
        UnlockError: What was restored is not what was locked; or it is not signed by the key of
            the license, and so cannot have a watermark.
        CapacityError: There is no room for the watermark.
        NoRecordError: The stream is not locked.
        FormatError: It is not a stream, or damaged.
        KeyFormatError: A key cannot be read.
        WorkerError: A worker of the executor died.
        ArgumentError: A watermark is asked for in a set.

    Examples:
        >>> full = nnguard.unlock("trial.nnc", "me.license", "me.key", "vendor.pub")
        >>> nnguard.verify(full, "vendor.pub").claims.name
        'digits'
    """
    model = as_model(trial, "trial")
    if watermark and isinstance(model, StreamSet):
        raise ArgumentError("watermark: a license is hidden in a single stream, not in a set")
    authority = authority_of(trust, policy, state, latest)
    given = as_license(license)
    opened = unlock_by(
        authority,
        model,
        given,
        identity,
        tier=tier,
        license_policy=license_policy,
        oms=oms,
        spool=spool,
        progress=progress,
        workers=Workers(workers, executor),
    )
    result = _with_watermark(opened, license_of(given)) if watermark else opened.model
    if state is not None and opened.judged is not None:
        authority.judge(opened.judged, remember=True)
    return result


def check_together(
    license: LicenseLike | None,  # noqa: A002
    identity: IdentityLike | None,
    license_policy: Policy | None,
) -> None:
    """Refuse parts of what unlocks a trial, where the others are missing.

    Raises:
        ArgumentError: They are.
    """
    if (license is None) != (identity is None):
        raise ArgumentError("a license and an identity belong together")
    if license is None and license_policy is not None:
        raise ArgumentError("there is no license that a policy could be asked of")


class Unlocked(NamedTuple):
    """What a license opened.

    Attributes:
        model: What was locked.
        digests: SHA-256 of the units of each of its streams, by the names of files.
        signed: On its signature, if it has one, and what was signed; see `verified`.
        of_trial: On the trial's signature, if that has one.
    """

    model: Model
    digests: Mapping[str, Sequence[bytes]]
    signed: tuple[Report, Model] | None
    of_trial: Report | None

    @property
    def report(self) -> Report | None:
        """On its signature, if it has one."""
        return None if self.signed is None else self.signed[0]

    @property
    def judged(self) -> Report | None:
        """What speaks for the model: its own signature, or else that of the trial."""
        return self.of_trial if self.report is None else self.report


def unlock_by(
    authority: Authority,
    model: Model,
    license: LicenseLike,  # noqa: A002
    identity: IdentityLike,
    *,
    tier: str = "",
    license_policy: Policy | None = None,
    oms: Bundle | None = None,
    workers: Workers = HERE,
    spool: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Unlocked:
    """Restore what a license opens, by an authority; see `unlock`. No release is remembered."""
    keys = authority.keys
    given = as_license(license)
    license = license_of(given)  # noqa: A001
    mine = loaded(identity, Identity, "identity")
    check_license(given, keys, license_policy)  # steps 2 to 6
    authority.refuse_revoked(license)
    if tier and license.terms.tier != tier:  # step 7
        raise LicenseError(
            f"the license opens tier {license.terms.tier!r}, not {tier!r}",
            reason=Refusal.OTHER_TIER,
        )
    secrets = given.unwrap(mine)  # step 8
    files = hash_files(model, progress, whole=oms is not None)
    if not hmac.compare_digest(digest_of(files).hex(), license.terms.stream):  # step 9
        raise _of_another(license, model)
    trial = signed_by(model, files, keys)  # step 10
    if trial is not None:
        authority.judge_licensed(trial[0], license)
    if oms is not None:
        check_bundle(oms, model, files)
    opened = open_files(  # step 11
        files, secrets.content_key, spool=spool, progress=progress, workers=workers
    )
    if opened.masks is not None:
        copy = take_copy(opened, secrets, license.signature)
        opened = opened._replace(files={"": copy})
    if not hmac.compare_digest(digest_of(opened.files).hex(), license.terms.opens):
        raise UnlockError("what was restored is not what the license says that it opens")
    result = _model_of(opened, model)
    _LOG.info("license %s opened tier %r", license.terms.id, opened.tiers[-1])
    try:
        signed = signed_by(result, opened.files, keys)  # step 12
    except FormatError:  # tensors of a foreign encoder, locked as they are
        signed = None
    if signed is not None:
        authority.judge_licensed(signed[0], license)
    elif trial is None:
        authority.refuse_unsigned()
    digests = {name: file.digests for name, file in opened.files.items()}
    return Unlocked(result, digests, signed, None if trial is None else trial[0])


def _model_of(opened: Opened, trial: Model) -> Model:
    """Return what was opened, with the release's own files, which lie in the trial's folder."""
    if isinstance(trial, Stream):
        return opened.files[""].stream
    found = StreamSet.of({name: file.stream for name, file in opened.files.items()})
    return replace(found, files=trial.files_below(opened.carried))


def _of_another(license: License, trial: Model) -> NnguardError:  # noqa: A002
    """Say what is wrong with a trial whose digest is not the one in the license."""
    try:
        lock = lock_id(trial)
    except NoRecordError:
        lock = ""
    if lock == license.terms.lock:
        check_places(trial)
        return VerificationError(
            "the trial was changed since the license was issued",
            hint="if it is signed, nnguard verify says which file"
            if isinstance(trial, StreamSet)
            else "",
        )
    if lock:
        check_lock(trial, license.terms.lock)
    hint = "" if lock else "the stream is not locked: unlock takes the trial"
    return LicenseError("the license is for another trial", reason=Refusal.OTHER_STREAM, hint=hint)


def _with_watermark(opened: Unlocked, license: License) -> Stream:  # noqa: A002
    """Hide the license in what it opened."""
    signers = [] if opened.report is None else [by.key_id for by in opened.report.counted]
    if license.key_id not in signers:
        what = f"signed with key {' and '.join(signers)}" if signers else "not signed"
        raise UnlockError(
            f"what was restored is {what}, and a watermark needs a signature under it by the key "
            f"of the license, {license.key_id}",
            hint="unlock it without a watermark; the vendor signs a release before locking it",
        )
    return embed(streams_of(opened.model)[""], license.encoded, kind=RecordKind.LICENSE)
