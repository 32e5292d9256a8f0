"""Letting a model pass: verify it, unlock it, decode it into a folder that any server loads.

report = nnguard.gate("incoming/digits", "models/digits", trust=["vendor.pub"])

Law: nothing is at the destination unless every check has passed, and what is there was made of the
bytes that were checked: the source is read once, into files without names.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nnguard._base.workers import Workers
from nnguard._compression.decompress import decompress_to_file
from nnguard._crypto.identity import IdentityLike
from nnguard._crypto.keys import SignerLike
from nnguard._crypto.trust import Trust
from nnguard._licensing.policy import LicenseLike, Policy
from nnguard._models.stream_set import Model, ModelLike, as_model
from nnguard._oms import signing
from nnguard._oms.bundle import Bundle
from nnguard._operations.authority import Authority, LatestLike, PathLike, authority_of
from nnguard._operations.destination import Destination, write_list
from nnguard._operations.expect import Expect
from nnguard._operations.report import Report
from nnguard._operations.unlock import check_together, unlock_by
from nnguard._operations.verify import verified
from nnguard._policy.policy import PolicyLike
from nnguard._records.claims import Claims
from nnguard._stream import Stream
from nnguard.errors import (
    FormatError,
    LicenseError,
    LockedTrialError,
    NoRecordError,
    PolicyError,
    PolicyReason,
    Refusal,
    UnlockError,
    VerificationError,
    WrongKeyError,
)

__all__ = ["Gate", "Tell", "gate", "is_refusal"]

_REFUSALS = (
    FormatError,
    NoRecordError,
    WrongKeyError,
    VerificationError,
    LockedTrialError,
    LicenseError,
    UnlockError,
)
_UNCHECKED = (
    PolicyReason.MALFORMED,
    PolicyReason.UNSIGNED,
    PolicyReason.POLICY_SIGNATURES,
    PolicyReason.POLICY_VERSION,
    PolicyReason.STATE,
    Refusal.MALFORMED,
)
"""Reasons of such errors that speak of the deployment's own files, and not of the model."""

_WEIGHTS = "model.safetensors"
_BUNDLE = "model.sig"

Tell = Callable[[str, float, Report | None], object]
"""Called after each step with its name, the seconds that it took, and what is known by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Who may pass, from where and where to; see `gate`, which has it all.

    Keys, licenses and lists that are paths are read again for each check, as `authority` and `oms`
    are called.
    """

    source: ModelLike
    destination: Destination
    authority: Callable[[], Authority]
    oms: Callable[[], Bundle | None] = lambda: None
    license: LicenseLike | None = None
    identity: IdentityLike | None = None
    license_policy: Policy | None = None
    expect: Expect | None = None
    allow_trial: bool = False
    oms_key: SignerLike | None = None
    workers: int | None = None
    tell: Tell = lambda *_: None

    def __post_init__(self) -> None:
        check_together(self.license, self.identity, self.license_policy)

    def let_pass(self, *, overwrite: bool) -> Report:
        """Check the source, and put what it decodes to at the destination; see `gate`."""
        self.destination.check(overwrite=overwrite)
        with self.destination.staging() as folder:
            self.destination.check_exchange(folder)
            with self._step("copied"):
                model = as_model(self.source, "source").spooled(folder)
            report, model = self._admit(model, folder)
            made = folder / (self.destination.path.resolve().name or "model")
            with self._step("decoded", report):
                self._decode(model, made)
            write_list(made, {"report": report.to_json()}, *[_BUNDLE] * (self.oms_key is not None))
            if self.oms_key is not None:
                with self._step("signed", report):
                    signing.sign(made, made / _BUNDLE, self.oms_key)
            with self._step("placed", report):
                self.destination.put(made, overwrite=overwrite)
        return report

    def check(self) -> Report:
        """Check the source, and leave the destination alone."""
        model = as_model(self.source, "source")
        if self.license is None:
            return self._admit(model, None)[0]
        with self.destination.staging() as folder:
            return self._admit(model, folder)[0]

    def watch(self, seconds: float, report: Report) -> None:
        """Check again and again; put there what has changed, until something does not pass.

        Args:
            seconds: Between two checks.
            report: On what is at the destination.

        Raises:
            NnguardError: A check has failed, or the system has, as an `OSError`.
        """
        while True:
            time.sleep(seconds)
            if _release(self.check()) != _release(report):
                report = self.let_pass(overwrite=True)

    def _admit(self, model: Model, spool: Path | None) -> tuple[Report, Model]:
        """Unlock a model, if there is a license, and verify it."""
        authority, oms = self.authority(), self.oms()
        digests: Mapping[str, Sequence[bytes]] = {}
        signed: tuple[Report, Model] | None = None
        licensed = self.license is not None
        if self.license is not None and self.identity is not None:
            with self._step("unlocked"):
                opened = unlock_by(
                    authority,
                    model,
                    self.license,
                    self.identity,
                    license_policy=self.license_policy,
                    oms=oms,
                    spool=spool,
                    workers=Workers(self.workers),
                )
            model, digests, signed = opened.model, opened.digests, opened.signed
        start = time.monotonic()
        report, _ = signed or verified(
            model, authority.keys, digests=digests, oms=None if licensed else oms, vouched=licensed
        )
        report = replace(report, oms=oms)
        allow_trial = self.allow_trial or licensed  # a trial of a higher tier
        report = authority.accept(report, self.expect, allow_trial=allow_trial, remember=True)
        self.tell("verified", time.monotonic() - start, report)
        return report, model

    def _decode(self, model: Model, made: Path) -> None:
        """Write a model that was verified to a folder."""
        target = made
        if isinstance(model, Stream):
            made.mkdir()
            target = made / _WEIGHTS
        decompress_to_file(model, target, allow_trial=True, workers=self.workers, verified=True)

    @contextlib.contextmanager
    def _step(self, name: str, report: Report | None = None) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.tell(name, time.monotonic() - start, report)


def is_refusal(error: Exception) -> bool:
    """Tell whether an error says that the model may not pass, or that it could not be checked."""
    if isinstance(error, PolicyError | LicenseError) and error.reason in _UNCHECKED:
        return False
    return isinstance(error, _REFUSALS)


def _release(report: Report) -> tuple[str, str, Claims]:
    return report.digest, report.key_id, report.claims


def gate(
    source: ModelLike,
    destination: str | os.PathLike[str],
    trust: Trust | None = None,
    *,
    policy: PolicyLike | None = None,
    state: PathLike | None = None,
    latest: LatestLike | None = None,
    license: LicenseLike | None = None,  # noqa: A002
    identity: IdentityLike | None = None,
    license_policy: Policy | None = None,
    expect: Expect | None = None,
    allow_trial: bool = False,
    oms: Bundle | None = None,
    oms_key: SignerLike | None = None,
    in_place: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    tell: Tell = lambda *_: None,
) -> Report:
    """Write a folder that any server loads, of a model that a trusted vendor signed.

    The source is copied once, into temporary files that have no name; these are verified, unlocked
    if there is a license, and decoded, tensor by tensor. The folder has `model.safetensors`, or the
    shards, their index, and the files beside them that the signature covers; `nnguard-gate.json`
    lists them and has the report. It gets its name in one step, when all of it is on the disk.

    Args:
        source: A signed model, or, with a license, a trial; see `nnguard.verify`.
        destination: The folder to make.
        trust: Trusted keys; see `nnguard.verify`.
        policy: Trust policy, in place of trusted keys; see `nnguard.verify`.
        state: State file, against older releases; see `nnguard.verify`. It remembers a release just
            before it is decoded.
        latest: Statement on which release is the newest; see `nnguard.verify`.
        license: Unlocks a trial; see `nnguard.unlock`. What it opens has to be signed, too.
        identity: The customer's private key, which goes with the license.
        license_policy: What else to ask of the license.
        expect: Claims that the release has to make; see `nnguard.verify`.
        allow_trial: Let a trial pass as it is, without a license.
        oms: A bundle of OpenSSF Model Signing that has to say the same of the files at the source;
            see `nnguard.verify`.
        oms_key: Sign the folder, too: a bundle of OpenSSF Model Signing, `model.sig`, by this ECDSA
            key; see `nnguard.oms.sign`.
        in_place: The destination is there and stays, as the mount point of a volume does; files are
            put into it one by one, the index last.
        overwrite: Replace what a gate has put there before.
        workers: See `nnguard.decompress`.
        tell: Called after each step with its name, the seconds that it took, and the report, once
            there is one: `copied`, `unlocked`, `verified`, `decoded`, `signed`, `placed`.

    Returns:
        What was verified.

    Raises:
        NnguardError: See `nnguard.verify`, `nnguard.unlock` and `nnguard.decompress`.
        FileExistsError: There is something at the destination; with `overwrite`, something that no
            gate has put there.
        OSError: The source cannot be read, or the destination not be written.

    Examples:
        >>> nnguard.gate("release.nnc", "served", "vendor.pub").claims.name
        'digits'
        >>> from pathlib import Path
        >>> sorted(path.name for path in Path("served").iterdir())
        ['model.safetensors', 'nnguard-gate.json']
    """
    return Gate(
        source=source,
        destination=Destination(Path(destination), in_place=in_place),
        authority=partial(authority_of, trust, policy, state, latest),
        oms=lambda: oms,
        license=license,
        identity=identity,
        license_policy=license_policy,
        expect=expect,
        allow_trial=allow_trial,
        oms_key=oms_key,
        workers=workers,
        tell=tell,
    ).let_pass(overwrite=overwrite)
