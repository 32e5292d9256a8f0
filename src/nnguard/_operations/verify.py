"""Verifying a model: is it what a trusted vendor signed, every bit of it?

report = nnguard.verify("release.nnc", trust=["vendor.pub"])

Law: `verify` returns a report or raises. Steps are those of SPEC 7 and, of sets, 6.3.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from nnguard._base.arguments import check_type
from nnguard._base.progress import Progress
from nnguard._base.texts import shown
from nnguard._crypto.keys import PublicKey
from nnguard._crypto.trust import Trust, find_key
from nnguard._hiding import lies_as_planned
from nnguard._licensing.license import License
from nnguard._models.stream_set import Model, ModelLike, as_model, check_index, naming
from nnguard._oms.bundle import Bundle
from nnguard._operations.authority import LatestLike, PathLike, authority_of
from nnguard._operations.expect import Expect
from nnguard._operations.report import NestedRecord, Report
from nnguard._operations.whole_set import check_set
from nnguard._policy.policy import PolicyLike
from nnguard._records.digest import model_digest
from nnguard._records.hashed import Files, hash_files
from nnguard._records.kinds import RecordKind, kind_name
from nnguard._records.layers import Layer, layers
from nnguard._records.signature import Signature, SignatureRecord
from nnguard._stream import Stream
from nnguard.errors import (
    LicenseError,
    NnguardError,
    NoRecordError,
    VerificationError,
    WrongKeyError,
)

__all__ = ["check_bundle", "hashing", "verified", "verify"]

_UNREADABLE = "unreadable"
"""Kind of a nested record that does not come out, or is malformed."""

_LOG = logging.getLogger("nnguard")

_HINTS = {
    "attachment": "take it out first, with nnguard detach",
    "lock": "the trial is not signed itself; nnguard unlock needs a license",
}


def verify(
    model: ModelLike,
    trust: Trust | None = None,
    *,
    policy: PolicyLike | None = None,
    state: PathLike | None = None,
    latest: LatestLike | None = None,
    expect: Expect | None = None,
    allow_trial: bool = False,
    oms: Bundle | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check that a model is what a trusted vendor signed, every bit of it.

    The checks of a stream, in this order: it is well formed; it holds a record; the record comes
    out, and putting it back gives the same bytes; it is a signature; by a trusted key; the
    signature is right; the restored original has the digest that was signed. Of a folder: every
    file of the index is there, and no other stream; each stream verifies, as part of this set, by
    one key, with the same claims; the other files are those that were signed; the index says where
    each tensor is. Files that were added since are named in the report.

    Args:
        model: A signed stream, or a folder of shards.
        trust: Trusted keys: keys, PEM files with one or more, directories of them.
        policy: Trust policy, or its path, in place of trusted keys.
        state: State file, made where there is none. It remembers the highest release number of
            each release and key, and older releases are refused from then on.
        latest: The vendor's statement on which release is the newest, or its path; others are
            refused.
        expect: Claims that the release has to make.
        allow_trial: Accept a trial that is locked, too.
        oms: A bundle of OpenSSF Model Signing that has to say the same of the files. They are read
            once for both.
        progress: Called with the number of bytes hashed since the last call.

    Returns:
        What was signed. There is no other return: everything else raises.

    Raises:
        FormatError: The file is not a stream, or damaged.
        NoRecordError: The stream is not signed.
        WrongKeyError: It is signed, by a key that is not among those trusted.
        VerificationError: It was changed after it was signed; or a shard is missing, stray, or of
            another release.
        PolicyError: The trust policy, the state or the latest statement does not allow it, or is
            malformed; `reason` says why.
        ClaimsError: It is what the vendor signed, but not what you expect.
        LockedTrialError: It is what the vendor signed, but a trial.
        KeyFormatError: A trusted key cannot be read.
        LimitError: Reading the record would take too much memory or time.

    Examples:
        >>> expected = nnguard.Expect(name="digits", version=">=1.0")
        >>> nnguard.verify("release.nnc", "vendor.pub", expect=expected).claims.version
        '1.0'
    """
    authority = authority_of(trust, policy, state, latest)
    report, _ = verified(as_model(model), authority.keys, progress, oms=oms)
    return authority.accept(report, expect, allow_trial=allow_trial, remember=True)


def verified(
    model: Model,
    keys: Sequence[PublicKey],
    progress: Progress | None = None,
    digests: Mapping[str, Sequence[bytes]] = {},
    *,
    oms: Bundle | None = None,
    vouched: bool = False,
) -> tuple[Report, Model]:
    """Verify a model; return the report, and the original that was signed, byte for byte.

    Args:
        model: The model.
        keys: Those that are trusted.
        progress: See `verify`.
        digests: SHA-256 of the units of each stream, by the names of their files, where they are
            known; `""` for a stream by itself. Others are hashed.
        oms: See `verify`.
        vouched: These are the digests that a license names; see `nnguard._hiding.extract`.
    """
    if oms is not None:
        files = hash_files(model, progress, whole=True)
        digests = {name: file.digests for name, file in files.items()}
        report, original = verified(model, keys, digests=digests, vouched=vouched)
        not_covered = check_bundle(oms, model, files)
        return replace(report, oms=oms, not_covered=not_covered), original
    if isinstance(model, Stream):
        return _verify_stream(model, keys, progress, digests.get(""), vouched=vouched)
    reports: dict[str, Report] = {}
    originals: dict[str, Stream] = {}
    for name, stream in model.streams.items():
        with naming(name):
            found = _verify_stream(stream, keys, progress, digests.get(name), vouched=vouched)
            reports[name], originals[name] = found
    report = check_set(reports, model)  # steps 4 to 6 of SPEC 6.3
    check_index(model, VerificationError)  # steps 7 and 8
    return report, replace(model, streams=originals)


def check_bundle(oms: Bundle, model: Model, files: Files) -> tuple[str, ...]:
    """Make sure that a bundle says the same of a model's files, which were hashed whole.

    Returns:
        Names of files that the bundle leaves out.
    """
    check_type(oms, Bundle, "oms")
    return oms.check_model(model, {name: file.whole for name, file in files.items()})


def _verify_stream(
    stream: Stream,
    keys: Sequence[PublicKey],
    progress: Progress | None,
    digests: Sequence[bytes] | None,
    *,
    vouched: bool,
) -> tuple[Report, Stream]:
    with hashing(stream, progress, digests) as found:
        layer = outer = Layer(stream, vouched=vouched)
        watermark = _read_watermark(outer, keys)
        if watermark is not None:
            layer = Layer(outer.below, vouched=vouched)
        record = _check_signature(layer, keys)
        digests = found()
    below = digests if watermark is None else outer.digests_below(digests)
    originals = layer.digests_below(below)
    _check_digest(record, layer.below, originals)
    nested = tuple(_nested(layer, originals, keys))
    signatures = tuple(_signatures(record, nested, keys))
    if watermark is not None:
        _check_watermark(watermark, outer, signatures, below)
    report = Report(
        claims=record.claims,
        key_id=record.key_id.hex(),
        algorithm=record.algorithm,
        digest=record.digest.hex(),
        signatures=signatures,
        nested=nested,
        licensed_to=None if watermark is None else watermark.terms,
        license_key_id="" if watermark is None else watermark.key_id,
    )
    return report, layer.below.pinned(originals)


@contextlib.contextmanager
def hashing(
    stream: Stream, progress: Progress | None, digests: Sequence[bytes] | None
) -> Iterator[Callable[[], Sequence[bytes]]]:
    """Hash a stream in the background, unless its digests are known."""
    if digests is not None:
        yield lambda: digests
        return
    with stream.start_hashing(progress) as running:
        yield running.result


def _read_watermark(layer: Layer, keys: Sequence[PublicKey]) -> License | None:
    """Return the license in a stream, once a trusted key has verified it; None without one.

    Raises:
        NoRecordError: There is no record at all.
        WrongKeyError: The license is another vendor's.
        VerificationError: It was changed.
    """
    try:
        if layer.extraction.header.kind != RecordKind.LICENSE:  # steps 1 to 5
            return None
    except NoRecordError:
        raise NoRecordError(
            "the stream is not signed: it holds no record", hint="nnguard sign signs it"
        ) from None
    try:
        watermark = License.parse(layer.record)
        watermark.authenticate(keys)
    except LicenseError as error:
        raise VerificationError(f"the watermark was changed: {error}") from None
    return watermark


def _check_watermark(
    watermark: License, layer: Layer, below: Sequence[Signature], digests: Sequence[bytes]
) -> None:
    """Make sure that a watermark is the one that `unlock` makes for the stream below it (SPEC 6.5).

    Args:
        watermark: The license, authenticated.
        layer: Where it was.
        below: The signatures below it.
        digests: SHA-256 of the units of the stream below it.

    Raises:
        VerificationError: It is another vendor's or of another stream, or lies where `unlock` would
            not put it.
    """
    signers = [signature.key_id for signature in below if signature.counts]
    if watermark.key_id not in signers:
        raise VerificationError(
            f"the watermark is signed with key {watermark.key_id}, "
            f"the release with {' and '.join(signers)}"
        )
    if not hmac.compare_digest(model_digest(digests).hex(), watermark.terms.opens):
        raise VerificationError("the watermark is that of another stream")
    if not lies_as_planned(layer.extraction):
        raise VerificationError("the watermark is not where it belongs")


def _check_signature(layer: Layer, keys: Sequence[PublicKey]) -> SignatureRecord:
    """Return the record once a trusted key has verified it; the digest is yet to be checked."""
    extraction = layer.extraction  # steps 1 to 5
    if layer.kind != RecordKind.SIGNATURE:  # step 6
        kind = kind_name(layer.kind)
        raise NoRecordError(
            f"the outermost record is not a signature: {kind}", hint=_HINTS.get(kind, "")
        )
    record = SignatureRecord.parse(extraction.record)  # step 7
    names = [layer.stream[carrier].name for carrier in layer.header.carriers]
    _LOG.debug("a signature of %d bytes lies in %r", len(extraction.record), names)
    key = find_key(keys, record.key_id)  # step 8
    if not record.verified_by(key, extraction.header):  # step 9
        raise VerificationError("the signature is wrong: the record was changed")
    return record


def _check_digest(record: SignatureRecord, original: Stream, digests: Sequence[bytes]) -> None:
    """Check that these are the digests of what was signed (step 10)."""
    if hmac.compare_digest(model_digest(digests), record.digest):
        return
    changed = record.changed_units(digests)
    if not changed:
        detail = "" if record.short_digests is None else ": units were added or taken away"
        raise VerificationError(
            f"the stream was changed after it was signed{detail}",
            hint="" if detail else "signed with localize=True, nnguard would name the tensors",
        )
    names = [original[index].name for index in changed]
    some = ", ".join(map(shown, names[:5])) + (
        f" and {len(names) - 5} more" if len(names) > 5 else ""
    )
    raise VerificationError(f"changed after signing: {some}", tensors=names)


def _nested(
    outer: Layer, digests: Sequence[bytes], keys: Sequence[PublicKey]
) -> Iterator[NestedRecord]:
    """List the records inside a stream whose digest was verified: its vendor vouches for it.

    Args:
        outer: The verified signature.
        digests: SHA-256 of the units of the stream below it.
        keys: Those that are trusted.
    """
    if outer.header.layer <= 1:  # which is signed, unlike those below
        return
    walk = layers(outer.below, vouched=True)
    while True:
        try:
            layer = next(walk, None)
            if layer is None:
                return
            if layer.kind == RecordKind.LOCK:  # as large as a network, perhaps
                yield NestedRecord(kind_name(layer.kind))
                return
            digests = layer.digests_below(digests)
            yield _describe(layer, digests, keys)
        except NnguardError:  # damaged or malformed before the outer vendor signed it
            yield NestedRecord(_UNREADABLE)
            return


def _describe(layer: Layer, digests: Sequence[bytes], keys: Sequence[PublicKey]) -> NestedRecord:
    if layer.kind != RecordKind.SIGNATURE:
        return NestedRecord(kind_name(layer.kind))
    try:
        record = SignatureRecord.parse(layer.record)
    except VerificationError:
        return NestedRecord(_UNREADABLE)  # there may be more below it
    try:
        key = find_key(keys, record.key_id)
    except WrongKeyError:
        trusted = False
    else:
        trusted = record.verified_by(key, layer.header) and hmac.compare_digest(
            model_digest(digests), record.digest
        )
    return NestedRecord(
        kind_name(layer.kind), record.key_id.hex(), record.claims, trusted, record.digest.hex()
    )


def _signatures(
    record: SignatureRecord, nested: Sequence[NestedRecord], keys: Sequence[PublicKey]
) -> Iterator[Signature]:
    """Pick the signatures that are right, and tell which of them count (SPEC 6.6).

    Args:
        record: The outermost one, verified.
        nested: What is below it.
        keys: Those that are trusted.
    """
    counts = True
    outermost = NestedRecord(
        kind_name(RecordKind.SIGNATURE),
        record.key_id.hex(),
        record.claims,
        True,
        record.digest.hex(),
    )
    for found in (outermost, *nested):
        if not found.verified or found.claims is None:
            counts = False
            continue
        counts = counts and found.claims.same_release(record.claims)
        algorithm = find_key(keys, bytes.fromhex(found.key_id)).algorithm
        yield Signature(found.key_id, algorithm, found.claims, found.digest, counts)
