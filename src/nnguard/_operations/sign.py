"""Signing a model inside its own weights.

key = nnguard.SigningKey.generate()
release = nnguard.sign("model.nnc", key, issuer="acme.ai", name="resnet56", version="1.0")
release.save("release.nnc")
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

from nnguard._base.arguments import check_text, check_texts
from nnguard._base.progress import Progress
from nnguard._base.times import TimeLike, time_or_now
from nnguard._crypto.keys import PublicKey, Signer, SignerLike, as_signer
from nnguard._crypto.trust import Trust, load_trust
from nnguard._hiding import Plan, plan_record
from nnguard._models.stream_set import AnyModel, Model, ModelLike, StreamSet, as_model, check_index
from nnguard._operations.verify import hashing, verified
from nnguard._records.claims import Claims, Shard, check_release
from nnguard._records.digest import model_digest, set_digest
from nnguard._records.hashed import hash_files
from nnguard._records.kinds import RecordKind
from nnguard._records.signature import SignatureRecord
from nnguard._stream import Stream
from nnguard.errors import ArgumentError, FormatError

__all__ = ["Planned", "Signing", "plan_signature", "sign"]

Planned = Callable[[int], object]
"""Called with the number of weights in the tensors that a signature goes into."""

_LONGEST = 1 << 10
"""Bytes of a text in the claims, at most: they go into the weights."""

_LOG = logging.getLogger("nnguard")


@overload
def sign(
    model: AnyModel,
    key: SignerLike,
    *,
    issuer: str = ...,
    name: str = ...,
    version: str = ...,
    release: int | None = ...,
    metadata: Mapping[str, str] | None = ...,
    issued_at: TimeLike | None = ...,
    countersign: Trust | None = ...,
    localize: bool = ...,
    progress: Progress | None = ...,
    planned: Planned | None = ...,
) -> AnyModel: ...
@overload
def sign(
    model: ModelLike,
    key: SignerLike,
    *,
    issuer: str = ...,
    name: str = ...,
    version: str = ...,
    release: int | None = ...,
    metadata: Mapping[str, str] | None = ...,
    issued_at: TimeLike | None = ...,
    countersign: Trust | None = ...,
    localize: bool = ...,
    progress: Progress | None = ...,
    planned: Planned | None = ...,
) -> Model: ...


def sign(
    model: ModelLike,
    key: SignerLike,
    *,
    issuer: str = "",
    name: str = "",
    version: str = "",
    release: int | None = None,
    metadata: Mapping[str, str] | None = None,
    issued_at: TimeLike | None = None,
    countersign: Trust | None = None,
    localize: bool = False,
    progress: Progress | None = None,
    planned: Planned | None = None,
) -> Model:
    """Sign a model and hide the signature in its weights.

    The signature covers every byte of the stream, the claims, and where it is hidden. The shards of
    a set are signed one by one and bound to each other, and to the other files of their folder, but
    hidden ones. A model may be signed again on top.

    Args:
        model: A stream, or a folder of shards.
        key: Signs: a `SigningKey`, the path of one, or your own `Signer`.
        issuer: Who signs.
        name: What is signed.
        version: Of the release.
        release: A number that only grows from release to release, 0 to 2^63 - 1: a deployment
            that keeps a state file refuses a lower one than it has seen.
        metadata: Anything else, text to text.
        issued_at: Time of signing, with a time zone, or ISO 8601 text; now, if not given.
        countersign: Trusted keys of whoever signed it before. It is verified, and signed with
            the very claims that are there; only the time is another. A policy that asks for
            several signatures counts both.
        localize: Sign a short digest of each unit too, so that `verify` can name the tensors that
            were changed. Takes 4 bytes a unit.
        progress: Called with the number of bytes hashed since the last call. The bytes
            of a set count twice: once for the digest of the set, once for the signatures.
        planned: Called once for each stream, before the key signs, with the number of weights in
            all tensors that the signature goes into. Every verification decodes these, and the
            file grows by about a bit for each; some 2,000 where the network has tensors of that
            size.

    Returns:
        The signed model, which every NNCodec decoder reads.

    Raises:
        CapacityError: The signature does not fit into the network.
        FormatError: The input is not a well-formed stream.
        LimitError: The stream holds too many records already.
        ArgumentError: `issued_at` has no time zone or lies too far out, a claim cannot be
            encoded or has more than 1,024 bytes, or the signer's signature does not verify with its
            own public key; claims are given for a countersignature, or it is that of a licensee's
            copy.
        WrongKeyError: What is to be countersigned is signed by another key.
        NoRecordError: It is not signed.
        VerificationError: It was changed.

    Examples:
        >>> release = nnguard.sign("model.nnc", "vendor.key", issuer="acme.ai", name="digits")
        >>> release.save("signed.nnc")
    """
    signing = Signing(as_signer(key), localize, progress, planned)
    model = as_model(model)
    claims = _make_claims(issuer, name, version, release, metadata, issued_at)
    if countersign is None:
        return signing.sign(model, claims)
    digests = {file: hashed.digests for file, hashed in hash_files(model, progress).items()}
    claims = _signed_before(model, load_trust(countersign), claims, digests)
    return signing.sign_again(model, claims, digests)


@dataclass(frozen=True, slots=True)
class Signing:
    """How models are signed, with claims that were checked.

    Attributes:
        key: Signs.
        localize: See `sign`, as for the others.
    """

    key: Signer
    localize: bool = False
    progress: Progress | None = None
    planned: Planned | None = None

    def sign(self, model: Model, claims: Claims) -> Model:
        """Sign a model, of a folder with all files in it."""
        if isinstance(model, StreamSet):
            model = model.with_all_files()
            check_index(model, FormatError)
        return self.sign_again(model, claims, {})

    def sign_again(
        self, model: Model, claims: Claims, digests: Mapping[str, Sequence[bytes]]
    ) -> Model:
        """Sign a model, of a folder with the files that were signed before.

        Args:
            model: The model.
            claims: What is claimed of it.
            digests: SHA-256 of the units of each stream, where they are known; see `verified`.
        """
        if isinstance(model, Stream):
            return self._sign_stream(model, claims, digests.get(""))
        models = {}
        for file, stream in model.streams.items():
            with hashing(stream, self.progress, digests.get(file)) as found:
                models[file] = model_digest(found())
        whole = set_digest(models, model.file_digests).hex()
        signed = {}
        for position, (file, stream) in enumerate(model.streams.items()):
            own = replace(claims, shard=Shard(whole, position, len(models)))
            signed[file] = self._sign_stream(stream, own, digests.get(file))
        return replace(model, streams=signed)

    def _sign_stream(
        self, stream: Stream, claims: Claims, digests: Sequence[bytes] | None
    ) -> Stream:
        public = self.key.public_key
        with hashing(stream, self.progress, digests) as found:
            size = SignatureRecord.size(public, claims, len(stream), localize=self.localize)
            plan = plan_signature(stream, size)
            if self.planned is not None:
                self.planned(plan.weights)
            record = SignatureRecord.make(
                self.key, claims, found(), bytes(plan.header), localize=self.localize
            )
        _LOG.info("signed with key %s: %d bytes in %d weights", public.id.hex(), size, plan.weights)
        return plan.embed(record)


def plan_signature(stream: Stream, size: int) -> Plan:
    """Choose where a signature of so many bytes goes; see `plan_record`."""
    return plan_record(stream, RecordKind.SIGNATURE, size, cheap=True)


def _make_claims(
    issuer: str,
    name: str,
    version: str,
    release: int | None,
    metadata: Mapping[str, str] | None,
    issued_at: TimeLike | None,
) -> Claims:
    """Check what the caller claims."""
    return Claims(
        check_text(issuer, "issuer", _LONGEST),
        check_text(name, "name", _LONGEST),
        check_text(version, "version", _LONGEST),
        time_or_now(issued_at, "issued_at"),
        check_texts({} if metadata is None else metadata, "metadata", _LONGEST),
        release=check_release(release),
    )


def _signed_before(
    model: Model,
    keys: Sequence[PublicKey],
    given: Claims,
    digests: Mapping[str, Sequence[bytes]],
) -> Claims:
    """Verify a release that is to be countersigned; return its claims, with the time of `given`."""
    if replace(given, issued_at=None) != Claims():
        raise ArgumentError(
            "countersign: the claims are those of the signature that is there",
            hint="give none, or sign without countersign",
        )
    report, _ = verified(model, keys, digests=digests)
    if report.licensed_to is not None:
        raise ArgumentError(
            "countersign: this is a licensee's copy, with a license hidden in it",
            hint="countersign the release itself",
        )
    return replace(report.claims, issued_at=given.issued_at, shard=None)
