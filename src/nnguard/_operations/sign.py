"""Signing a model inside its own weights, verifying it, and getting the original back.

key = nnguard.SigningKey.generate()
release = nnguard.sign("model.nnc", key, issuer="acme.ai", name="resnet56", version="1.0")
release.save("release.nnc")
report = nnguard.verify("release.nnc", trust=[key.public_key])
original = nnguard.strip("release.nnc", trust=[key.public_key])
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from nnguard._base.mappings import FrozenMapping
from nnguard._crypto.cose import sign1
from nnguard._crypto.keys import PublicKey, Signer
from nnguard._crypto.trust import Trust, load_trust
from nnguard._hiding import (
    Extraction,
    RecordKind,
    extract,
    kind_name,
    lies_as_planned,
    peek,
    plan_record,
)
from nnguard._licensing.license import License, LicenseTerms
from nnguard._records.signature import Claims, SignatureRecord, model_digest
from nnguard._stream import Stream, StreamLike, as_stream
from nnguard.errors import (
    LicenseError,
    NnguardError,
    NoRecordError,
    VerificationError,
    WrongKeyError,
)

__all__ = ["NestedRecord", "Progress", "Report", "sign", "strip", "verify"]

Progress = Callable[[int], object]
"""Called with a number of bytes whenever so many more were hashed."""

_DOMAIN = b"nnguard signature v1\0"

_HINTS = {
    "attachment": "take it out first, with nnguard detach",
    "lock": "the trial is not signed itself; nnguard unlock needs a license",
}


@dataclass(frozen=True, slots=True)
class NestedRecord:
    """A record inside a signed stream; the outer signature covers it.

    Attributes:
        kind: `signature`, `attachment`, `lock`, `license`, `record of kind N` for kinds of later
            versions, or `unreadable` for one that was damaged before the outer vendor signed.
        key_id: Key of a signature, in hexadecimal; empty for all else.
        claims: Claims of a signature.
        verified: The signature is right, by a trusted key. False says only that no trusted key
            fits: the record is still what the outer vendor signed.
    """

    kind: str
    key_id: str
    claims: Claims | None
    verified: bool

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        claims = None if self.claims is None else self.claims.to_json()
        return {
            "kind": self.kind,
            "key_id": self.key_id,
            "claims": claims,
            "verified": self.verified,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found; there is none for a stream that is not what was signed.

    Attributes:
        claims: What the vendor says of the release.
        key_id: The key that signed, in hexadecimal.
        digest: Digest of the original model, in hexadecimal; see SPEC 7.
        nested: Records inside the signed stream, outermost first; what is under a lock is not
            looked at.
        licensed_to: License that the stream was unlocked with, where it carries that as a mark.
    """

    claims: Claims
    key_id: str
    digest: str
    nested: tuple[NestedRecord, ...]
    licensed_to: LicenseTerms | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        mark = self.licensed_to
        licensed_to = {} if mark is None else {"licensed_to": mark.to_json()}
        return {
            "claims": self.claims.to_json(),
            "key_id": self.key_id,
            "digest": self.digest,
            "nested": [record.to_json() for record in self.nested],
            **licensed_to,
        }


def sign(
    stream: StreamLike,
    key: Signer,
    *,
    issuer: str = "",
    name: str = "",
    version: str = "",
    metadata: Mapping[str, str] | None = None,
    issued_at: datetime | None = None,
    localize: bool = False,
    progress: Progress | None = None,
    planned: Callable[[int], object] | None = None,
) -> Stream:
    """Sign a model and hide the signature in its weights.

    The signature covers every byte of the stream, the claims, and where it is hidden. A stream may
    be signed again on top.

    Args:
        stream: A stream or the path of one.
        key: Signs: a `SigningKey`, or your own `Signer`.
        issuer: Who signs.
        name: What is signed.
        version: Of the release.
        metadata: Anything else, text to text.
        issued_at: Time of signing, with a time zone; now, if not given.
        localize: Sign a short digest of each unit too, so that `verify` can name the tensors that
            were changed. Takes 4 bytes a unit.
        progress: Called with the number of bytes whenever so many more were hashed.
        planned: Called once, before the key signs, with the number of weights in all tensors that
            the signature goes into. Every verification decodes these, and the file grows by about
            a bit for each; some 2,000 where the network has tensors of that size.

    Returns:
        The signed stream, which every NNCodec decoder reads.

    Raises:
        CapacityError: The signature does not fit into the network.
        FormatError: The input is not a well-formed stream.
        LimitError: The stream holds too many records already.
        ValueError: `issued_at` has no time zone or lies too far out, a claim cannot be encoded, or
            the signer's signature does not verify with its own public key.
    """
    claims = make_claims(issuer, name, version, metadata, issued_at)
    return sign_claims(
        as_stream(stream), key, claims, localize=localize, progress=progress, planned=planned
    )


def sign_claims(
    stream: Stream,
    key: Signer,
    claims: Claims,
    *,
    localize: bool,
    progress: Progress | None,
    planned: Callable[[int], object] | None = None,
) -> Stream:
    """Sign a stream with claims that `make_claims` made; see `sign`."""

    def envelope(signer: Signer | None, digests: Sequence[bytes], aad: bytes) -> bytes:
        header = SignatureRecord.protected_header(
            key.public_key.id, claims, digests if localize else None
        )
        return sign1(signer, header, model_digest(digests), aad)

    with stream.start_hashing(progress) as hashing:
        size = len(envelope(None, [bytes(32)] * len(stream), b""))
        plan = plan_record(stream, RecordKind.SIGNATURE, size)
        if planned is not None:
            planned(plan.weights)
        record = envelope(key, hashing.result(), _DOMAIN + bytes(plan.header))
    return plan.embed(record)


def verify(stream: StreamLike, trust: Trust, *, progress: Progress | None = None) -> Report:
    """Check that a stream is what a trusted vendor signed, every bit of it.

    The checks, in this order: the stream is well formed; it holds a record; the record comes out,
    and putting it back gives the same bytes; it is a signature; by a trusted key; the signature is
    right; the restored original has the digest that was signed.

    Args:
        stream: A stream or the path of one.
        trust: Trusted keys: keys, PEM files with one or more, directories of them.
        progress: Called with the number of bytes whenever so many more were hashed.

    Returns:
        What was signed. There is no other return: everything else raises.

    Raises:
        FormatError: The file is not a stream, or damaged.
        NoRecordError: The stream is not signed.
        WrongKeyError: It is signed, by a key that is not among those trusted.
        VerificationError: It was changed after it was signed.
        KeyFormatError: A trusted key cannot be read.
        LimitError: Reading the record would take too much memory or time.
    """
    return verify_and_strip(as_stream(stream), load_trust(trust), progress)[0]


def strip(stream: StreamLike, trust: Trust, *, progress: Progress | None = None) -> Stream:
    """Verify a stream and return the original that was signed, byte for byte.

    Args and errors are those of `verify`.
    """
    return verify_and_strip(as_stream(stream), load_trust(trust), progress)[1]


def make_claims(
    issuer: str,
    name: str,
    version: str,
    metadata: Mapping[str, str] | None,
    issued_at: datetime | None,
) -> Claims:
    """Check what the caller claims; errors and meaning are those of `sign`."""
    metadata = FrozenMapping(metadata or {})
    if issued_at is None:
        issued_at = datetime.now(timezone.utc)
    texts = (issuer, name, version, *metadata, *metadata.values())
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("claims are text")
    for text in texts:
        text.encode()  # a ValueError where there is no UTF-8 for it
    if issued_at.tzinfo is None:
        raise ValueError("issued_at needs a time zone")
    try:
        in_utc = issued_at.astimezone(timezone.utc).replace(microsecond=0)
    except OverflowError:
        raise ValueError("issued_at lies too far out") from None
    return Claims(issuer, name, version, in_utc, metadata)


def verify_and_strip(
    stream: Stream, keys: Sequence[PublicKey], progress: Progress | None
) -> tuple[Report, Stream]:
    """Do what `verify` and `strip` do."""
    with stream.start_hashing(progress) as hashing:
        outer = _extract(stream)
        mark = read_mark(outer, keys)
        extraction = outer if mark is None else _extract(outer.original)
        record = check_signature(extraction, keys)
        digests = hashing.result()
    below = digests if mark is None else outer.digests_of_original(digests)
    digests = check_digest(record, extraction, below)
    if mark is not None:
        check_mark(mark, outer, record, below)
    report = Report(
        claims=record.claims,
        key_id=record.key_id.hex(),
        digest=record.digest.hex(),
        nested=tuple(_nested(extraction, digests, keys)),
        licensed_to=None if mark is None else mark.terms,
    )
    return report, extraction.original.pinned(digests)


def _extract(stream: Stream) -> Extraction:
    """Take the outermost record out of what is to be signed."""
    try:
        return extract(stream)
    except NoRecordError:
        raise NoRecordError(
            "the stream is not signed: it holds no record", hint="nnguard sign signs it"
        ) from None


def read_mark(extraction: Extraction, keys: Sequence[PublicKey]) -> License | None:
    """Return the license that marks a stream, once a trusted key has verified it; None without.

    Raises:
        WrongKeyError: It is another vendor's.
        VerificationError: It was changed.
    """
    if extraction.header.kind != RecordKind.LICENSE:
        return None
    try:
        mark = License.parse(extraction.record)
        mark.authenticate(keys)
    except LicenseError as error:
        raise VerificationError(f"the mark of the licensee was changed: {error}") from None
    return mark


def check_mark(
    mark: License, extraction: Extraction, record: SignatureRecord, digests: Sequence[bytes]
) -> None:
    """Make sure that a mark is the one that `unlock` makes for the stream below it.

    Args:
        mark: The license, authenticated.
        extraction: Where it was.
        record: The signature below it, verified.
        digests: SHA-256 of the units of the stream below it.

    Raises:
        VerificationError: It is another vendor's or of another stream, or lies where `unlock` would
            not put it.
    """
    if mark.key_id != record.key_id.hex():
        raise VerificationError(
            f"the mark of the licensee is signed with key {mark.key_id}, "
            f"the release with {record.key_id.hex()}"
        )
    if not hmac.compare_digest(model_digest(digests).hex(), mark.terms.opens):
        raise VerificationError("the mark of the licensee is that of another stream")
    if not lies_as_planned(extraction):
        raise VerificationError("the mark of the licensee is not where it belongs")


def check_signature(extraction: Extraction, keys: Sequence[PublicKey]) -> SignatureRecord:
    """Return the record once a trusted key has verified it; the digest is yet to be checked."""
    if extraction.header.kind != RecordKind.SIGNATURE:
        kind = kind_name(extraction.header.kind)
        raise NoRecordError(
            f"the outermost record is not a signature: {kind}", hint=_HINTS.get(kind, "")
        )
    record = SignatureRecord.parse(extraction.record)
    key = next((key for key in keys if key.id == record.key_id), None)
    if key is None:
        raise WrongKeyError(
            f"signed with key {record.key_id.hex()}, which is not among the {len(keys)} trusted",
            hint="get the vendor's public key over a channel that you trust",
        )
    if not record.envelope.verified_by(key, _DOMAIN + bytes(extraction.header)):
        raise VerificationError("the signature is wrong: the record was changed")
    return record


def check_digest(
    record: SignatureRecord, extraction: Extraction, digests: Sequence[bytes]
) -> list[bytes]:
    """Check the digest of what was signed, and return the SHA-256 of its units.

    Args:
        record: The signature, verified.
        extraction: Where it was.
        digests: SHA-256 of the units of the signed stream.

    Raises:
        VerificationError: It is another one.
    """
    found = extraction.digests_of_original(digests)
    _compare(record, extraction.original, found)
    return found


def _compare(record: SignatureRecord, original: Stream, digests: Sequence[bytes]) -> None:
    if hmac.compare_digest(model_digest(digests), record.digest):
        return
    changed = record.changed_units(digests)
    if not changed:
        detail = "" if record.short_digests is None else ": units were added or taken away"
        raise VerificationError(
            f"the stream was changed after it was signed{detail}",
            hint="" if detail else "signed with localize, nnguard would name the tensors",
        )
    names = [original[index].name for index in changed]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    raise VerificationError(f"changed after signing: {shown}", tensors=names)


def _nested(
    outer: Extraction, digests: Sequence[bytes], keys: Sequence[PublicKey]
) -> list[NestedRecord]:
    """List the records inside a stream whose digest was verified."""
    found: list[NestedRecord] = []
    inner, current = outer, digests
    while inner.header.layer > 1:
        try:
            if peek(inner.original, 0)[0].kind == RecordKind.LOCK:  # as large as a network, perhaps
                found.append(NestedRecord(kind_name(RecordKind.LOCK), "", None, verified=False))
                break
            inner = extract(inner.original)
            current = inner.digests_of_original(current)
            found.append(_describe(inner, current, keys))
        except NnguardError:  # damaged or malformed before the outer vendor signed it
            found.append(NestedRecord("unreadable", "", None, verified=False))
            break
    return found


def _describe(
    extraction: Extraction, digests: Sequence[bytes], keys: Sequence[PublicKey]
) -> NestedRecord:
    kind = extraction.header.kind
    if kind != RecordKind.SIGNATURE:
        return NestedRecord(kind_name(kind), "", None, verified=False)
    record = SignatureRecord.parse(extraction.record)
    key = next((key for key in keys if key.id == record.key_id), None)
    verified = (
        key is not None
        and record.envelope.verified_by(key, _DOMAIN + bytes(extraction.header))
        and hmac.compare_digest(model_digest(digests), record.digest)
    )
    return NestedRecord(kind_name(kind), record.key_id.hex(), record.claims, verified)
