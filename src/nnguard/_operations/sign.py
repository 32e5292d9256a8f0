"""Signing a model inside its own weights.

key = nnguard.SigningKey.generate()
release = nnguard.sign("model.nnc", key, issuer="acme.ai", name="resnet56", version="1.0")
release.save("release.nnc")
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar, overload

from nnguard._base.arguments import check_text
from nnguard._base.mappings import FrozenMapping
from nnguard._base.times import TimeLike, now, to_utc
from nnguard._crypto.keys import Signer, SignerLike, as_signer
from nnguard._hiding import plan_record
from nnguard._models.stream_set import Model, ModelLike, StreamSet, as_model, check_index
from nnguard._operations.verify import Progress
from nnguard._records.claims import Claims, Shard
from nnguard._records.digest import model_digest, set_digest
from nnguard._records.kinds import RecordKind
from nnguard._records.signature import SignatureRecord
from nnguard._stream import Stream
from nnguard.errors import FormatError

__all__ = ["Planned", "sign", "sign_model"]

Planned = Callable[[int], object]
"""Called with the number of weights in the tensors that a signature goes into."""

_USUAL_WEIGHTS = 1700
"""A record goes into about so many weights, whatever its size: every verification decodes them."""

_LOG = logging.getLogger("nnguard")
_Model = TypeVar("_Model", Stream, StreamSet)


@overload
def sign(
    model: _Model,
    key: SignerLike,
    *,
    issuer: str = ...,
    name: str = ...,
    version: str = ...,
    metadata: Mapping[str, str] | None = ...,
    issued_at: TimeLike | None = ...,
    localize: bool = ...,
    progress: Progress | None = ...,
    planned: Planned | None = ...,
) -> _Model: ...
@overload
def sign(
    model: ModelLike,
    key: SignerLike,
    *,
    issuer: str = ...,
    name: str = ...,
    version: str = ...,
    metadata: Mapping[str, str] | None = ...,
    issued_at: TimeLike | None = ...,
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
    metadata: Mapping[str, str] | None = None,
    issued_at: TimeLike | None = None,
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
        metadata: Anything else, text to text.
        issued_at: Time of signing, with a time zone, or ISO 8601 text; now, if not given.
        localize: Sign a short digest of each unit too, so that `verify` can name the tensors that
            were changed. Takes 4 bytes a unit.
        progress: Called with the number of bytes each time that many more were hashed. The bytes
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
        ArgumentError: `issued_at` has no time zone or lies too far out, a claim cannot be encoded,
            or the signer's signature does not verify with its own public key.

    Examples:
        >>> release = nnguard.sign("model.nnc", "vendor.key", issuer="acme.ai", name="digits")
        >>> release.save("signed.nnc")
    """
    claims = _make_claims(issuer, name, version, metadata, issued_at)
    return sign_model(as_model(model), as_signer(key), claims, localize, progress, planned)


def sign_model(
    model: Model,
    key: Signer,
    claims: Claims,
    localize: bool = False,
    progress: Progress | None = None,
    planned: Planned | None = None,
) -> Model:
    """Sign a model with claims that were checked; see `sign`."""
    if isinstance(model, Stream):
        return _sign_stream(model, key, claims, localize, progress, planned)
    model = model.with_all_files()
    check_index(model, FormatError)
    digests = {}
    for file, stream in model.streams.items():
        with stream.start_hashing(progress) as hashing:
            digests[file] = model_digest(hashing.result())
    whole = set_digest(digests, model.file_digests).hex()
    signed = {}
    for position, (file, stream) in enumerate(model.streams.items()):
        own = replace(claims, shard=Shard(whole, position, len(digests)))
        signed[file] = _sign_stream(stream, key, own, localize, progress, planned)
    return replace(model, streams=signed)


def _sign_stream(
    stream: Stream,
    key: Signer,
    claims: Claims,
    localize: bool,
    progress: Progress | None,
    planned: Planned | None,
) -> Stream:
    public = key.public_key
    with stream.start_hashing(progress) as hashing:
        size = SignatureRecord.size(public, claims, len(stream), localize=localize)
        plan = plan_record(stream, RecordKind.SIGNATURE, size, weights=_USUAL_WEIGHTS)
        if planned is not None:
            planned(plan.weights)
        record = SignatureRecord.make(
            key, claims, hashing.result(), bytes(plan.header), localize=localize
        )
    _LOG.info("signed with key %s: %d bytes in %d weights", public.id.hex(), size, plan.weights)
    return plan.embed(record)


def _make_claims(
    issuer: str,
    name: str,
    version: str,
    metadata: Mapping[str, str] | None,
    issued_at: TimeLike | None,
) -> Claims:
    """Check what the caller claims."""
    metadata = FrozenMapping(metadata or {})
    for text in (*metadata, *metadata.values()):
        check_text(text, "metadata")
    return Claims(
        check_text(issuer, "issuer"),
        check_text(name, "name"),
        check_text(version, "version"),
        now() if issued_at is None else to_utc(issued_at, "issued_at"),
        metadata,
    )
