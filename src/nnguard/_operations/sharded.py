"""Models in several files: a folder of shards and an index, signed as one.

Large models come as safetensors shards with `model.safetensors.index.json`, which says where each
tensor is. Here such a folder becomes one of streams, with `model.nnc.index.json`. Signing it signs
every stream, together with a digest of the whole set: a shard that is missing, swapped or of
another release is refused, and so is an index that does not say where things are.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from nnguard._base.files import make_folder_atomically
from nnguard._base.mappings import FrozenMapping
from nnguard._compression.compress import compress
from nnguard._compression.decompress import check_size, decompress_to_file
from nnguard._compression.settings import Settings
from nnguard._crypto.keys import Signer
from nnguard._crypto.trust import Trust, load_trust
from nnguard._models.index import is_set, read_index, write_index
from nnguard._models.sources import open_model as open_source
from nnguard._models.stream_set import (
    STREAM_INDEX,
    Folder,
    StreamSet,
    as_set,
    check_index,
    is_ours,
    naming,
    some_of,
)
from nnguard._operations.sign import Progress, Report, make_claims, sign_claims, verify_and_strip
from nnguard._records.signature import Claims, Shard, model_digest
from nnguard._stream import Stream
from nnguard.errors import FormatError, ModelError, VerificationError

__all__ = [
    "SetReport",
    "compress_set",
    "decompress_set",
    "set_digest",
    "shard_names",
    "sign_set",
    "strip_set",
    "verify_set",
]

SAFETENSORS_INDEX = "model.safetensors.index.json"
_DIGEST_LABEL = b"nnguard set digest v1\0"


@dataclass(frozen=True, slots=True)
class SetReport:
    """What `verify_set` found; there is none for a set that is not what was signed.

    Attributes:
        claims: What the vendor says of the release.
        key_id: The key that signed, in hexadecimal.
        digest: Digest of the original set, in hexadecimal; see `set_digest`.
        shards: Names of the files to the reports of their streams, in order.
    """

    claims: Claims
    key_id: str
    digest: str
    shards: Mapping[str, Report]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "claims": self.claims.to_json(),
            "key_id": self.key_id,
            "digest": self.digest,
            "shards": {name: report.to_json() for name, report in self.shards.items()},
        }


def set_digest(digests: Mapping[str, bytes]) -> bytes:
    """Return the digest of a set: SHA-256 over a label, the number of shards, names and digests.

    Args:
        digests: Names of the files to the digests of the original models in them (`model_digest`).
            They count in the order of the names.
    """
    parts = [_DIGEST_LABEL, len(digests).to_bytes(4, "big")]
    for name in sorted(digests):
        encoded = name.encode()
        parts += [len(encoded).to_bytes(4, "big"), encoded, digests[name]]
    return hashlib.sha256(b"".join(parts)).digest()


def shard_names(folder: Folder) -> list[str]:
    """Return the names of the safetensors files that a folder's index lists.

    Raises:
        ModelError: There is no index, or it is malformed.
        OSError: It cannot be read.
    """
    return sorted(set(read_index(Path(folder), ".safetensors", ModelError).values()))


def compress_set(
    folder: Folder,
    output: Folder,
    settings: Settings | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Compress the safetensors shards of a folder to a folder of streams, shard by shard.

    Args:
        folder: Holds the shards and `model.safetensors.index.json`.
        output: The folder to make.
        settings: See `compress`.
        workers: See `compress`.
        executor: See `compress`.
        overwrite: Replace a folder that is there already, and holds only shards and their index.
        progress: See `compress`.

    Raises:
        ModelError: The index does not fit the shards; see also `compress`.
        FileExistsError: The folder exists and may not be replaced.
        WorkerError: See `compress`.
    """
    folder, settings = Path(folder), settings or Settings()
    weight_map = read_index(folder, ".safetensors", ModelError)
    settings.check_names(weight_map)
    stream_map = {name: Path(file).stem + ".nnc" for name, file in weight_map.items()}
    with make_folder_atomically(Path(output), overwrite=overwrite, is_ours=is_ours) as temporary:
        for file in sorted(set(weight_map.values())):
            names = {tensor.name for tensor in open_source(folder / file)}
            if names != {name for name, where in weight_map.items() if where == file}:
                raise ModelError(f"the index of {folder} does not list the tensors of {file}")
            own = {name: qp for name, qp in settings.qp_per_tensor.items() if name in names}
            stream = compress(
                folder / file,
                replace(settings, qp_per_tensor=own),
                workers=workers,
                executor=executor,
                spool=temporary,
                progress=progress,
            )
            stream.save(temporary / (Path(file).stem + ".nnc"))
        write_index(temporary / STREAM_INDEX, stream_map)


def decompress_set(
    streams: StreamSet | Folder,
    output: Folder,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    max_size: int | None = None,
    verified: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Decode a folder of streams to a folder of safetensors shards; nothing is verified.

    Args and errors are those of `decompress_to_file`; limits are for all streams together.
    """
    streams = as_set(streams)
    tensors = check_index(streams, FormatError)
    check_size(tensors, streams.size, max_size, verified=verified)
    with make_folder_atomically(
        Path(output), overwrite=overwrite, is_ours=partial(is_set, suffix=".safetensors")
    ) as temporary:
        for name, stream in streams.streams.items():
            decompress_to_file(
                stream,
                temporary / (Path(name).stem + ".safetensors"),
                workers=workers,
                executor=executor,
                max_size=sys.maxsize,  # all were checked together
                verified=verified,
                progress=progress,
            )
        weight_map = {
            tensor: Path(name).stem + ".safetensors" for tensor, name in streams.weight_map.items()
        }
        write_index(temporary / SAFETENSORS_INDEX, weight_map)


def sign_set(
    streams: StreamSet | Folder,
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
) -> StreamSet:
    """Sign all shards of a model, bound to each other.

    Args and errors are those of `sign`; `progress` counts every byte twice, once for the digest of
    the set and once for the signature, and `planned` is called for each shard.

    Returns:
        The signed set; its shards also verify one by one.
    """
    streams = as_set(streams)
    check_index(streams, FormatError)
    claims = make_claims(issuer, name, version, metadata, issued_at)
    digests = {}
    for file, stream in streams.streams.items():
        with stream.start_hashing(progress) as hashing:
            digests[file] = model_digest(hashing.result())
    whole = set_digest(digests).hex()
    signed = {
        file: sign_claims(
            stream,
            key,
            replace(claims, shard=Shard(whole, position, len(digests))),
            localize=localize,
            progress=progress,
            planned=planned,
        )
        for position, (file, stream) in enumerate(streams.streams.items())
    }
    return replace(streams, streams=signed)


def verify_set(
    streams: StreamSet | Folder, trust: Trust, *, progress: Progress | None = None
) -> SetReport:
    """Check that a folder of streams is the set that a trusted vendor signed, every bit of it.

    The checks, in this order: every file of the index is there, and no other stream; each stream
    verifies (see `verify`) and was signed as part of a set; all are of this set, by one key, with
    the same claims; none is missing; the index says where each tensor is.

    Raises:
        VerificationError: A shard is missing, stray, changed, or of another release; or the index
            was changed.
        NoRecordError: A shard is not signed.
        WrongKeyError: See `verify`.
        FormatError: See `verify`.
        LimitError: See `verify`.
    """
    return verify_and_strip_set(as_set(streams), trust, progress)[0]


def strip_set(
    streams: StreamSet | Folder, trust: Trust, *, progress: Progress | None = None
) -> StreamSet:
    """Verify a set and return the originals that were signed, byte for byte.

    Args and errors are those of `verify_set`.
    """
    return verify_and_strip_set(as_set(streams), trust, progress)[1]


def verify_and_strip_set(
    streams: StreamSet, trust: Trust, progress: Progress | None
) -> tuple[SetReport, StreamSet]:
    """Do what `verify_set` and `strip_set` do."""
    keys = load_trust(trust)
    reports: dict[str, Report] = {}
    originals: dict[str, Stream] = {}
    for name, stream in streams.streams.items():
        with naming(name):
            reports[name], originals[name] = verify_and_strip(stream, keys, progress)
    report = _check_set(reports)
    check_index(streams, VerificationError)
    return report, replace(streams, streams=originals)


def _check_set(reports: Mapping[str, Report]) -> SetReport:
    """Check that verified shards are one whole set."""
    digest = set_digest({name: bytes.fromhex(report.digest) for name, report in reports.items()})
    first = next(iter(reports.values()))
    for position, (name, report) in enumerate(reports.items()):
        shard = report.claims.shard
        if shard is None:
            raise VerificationError(f"{name} was signed by itself, not as part of a set")
        if shard.count != len(reports):
            raise VerificationError(
                f"{name} is one of {shard.count} shards, and there are {len(reports)}"
            )
        if shard.position != position:
            raise VerificationError(f"{name} is in the place of another shard of its set")
    found = {name: _shard(report).set_digest for name, report in reports.items()}
    if foreign := sorted(name for name, said in found.items() if said != digest.hex()):
        usual = max(found.values(), key=list(found.values()).count)
        strangers = sorted(name for name, said in found.items() if said != usual) or foreign
        raise VerificationError(f"not of the same release: {some_of(strangers)}")
    claims = replace(first.claims, shard=None)
    for name, report in reports.items():
        if report.key_id != first.key_id or replace(report.claims, shard=None) != claims:
            raise VerificationError(f"{name} has other claims than the rest of its set")
    return SetReport(claims, first.key_id, digest.hex(), FrozenMapping(reports))


def _shard(report: Report) -> Shard:
    assert report.claims.shard is not None
    return report.claims.shard
