"""Models in several files: a folder of shards and an index, signed as one.

Large models come as safetensors shards with `model.safetensors.index.json`, which says where each
tensor is. Here such a folder becomes one of streams, with `model.nnc.index.json`. Signing it signs
every stream, together with a digest of the whole set: a shard that is missing, swapped or of
another release is refused, and so is an index that does not say where things are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from nnguard.compression.compress import compress
from nnguard.compression.decompress import (
    CodedTensor,
    check_size,
    coded_tensors,
    decompress_to_file,
)
from nnguard.compression.settings import Settings
from nnguard.crypto.keys import Signer, Trust, load_trust
from nnguard.errors import FormatError, ModelError, NnguardError, VerificationError
from nnguard.files import make_folder_atomically
from nnguard.mappings import FrozenMapping
from nnguard.models.index import is_set, read_index, write_index
from nnguard.models.sources import open_model as open_source
from nnguard.records import Claims, Shard, model_digest
from nnguard.signing import Progress, Report, make_claims, sign_claims, verify_and_strip
from nnguard.stream import Stream

__all__ = [
    "Folder",
    "SetReport",
    "StreamSet",
    "compress_set",
    "decompress_set",
    "naming",
    "open_model",
    "set_digest",
    "shard_names",
    "sign_set",
    "strip_set",
    "verify_set",
]

SAFETENSORS_INDEX = "model.safetensors.index.json"
STREAM_INDEX = "model.nnc.index.json"
_is_ours = partial(is_set, suffix=".nnc")

_DIGEST_LABEL = b"nnguard set digest v1\0"

Folder = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class StreamSet:
    """The streams of a folder, in the order of their names.

    Attributes:
        weight_map: Name of the file that holds each tensor, as the index says.
        streams: Names of the files to their streams.
    """

    weight_map: Mapping[str, str]
    streams: Mapping[str, Stream]

    @classmethod
    def open(cls, folder: Folder, *, in_memory: bool = False) -> StreamSet:
        """Index the streams that the folder's index lists.

        Args:
            folder: The folder.
            in_memory: Read the files whole, so that what is verified is what is used.

        Raises:
            FormatError: The index or a stream is malformed.
            VerificationError: A file is missing, or there is a stream or a folder that the index
                does not list.
            OSError: The folder cannot be read.
        """
        folder = Path(folder)
        weight_map = read_index(folder, ".nnc", FormatError)
        names = sorted(set(weight_map.values()))
        present = {path.name for path in folder.iterdir() if _may_hold_streams(path)}
        if missing := set(names) - present:
            raise VerificationError(f"shards are missing: {_first(missing)}")
        if stray := present - set(names):
            raise VerificationError(f"not part of the set: {_first(stray)}")

        def opened(path: Path) -> Stream:
            with naming(path.name):
                stream = Stream.open(path)
                return stream.in_memory() if in_memory else stream

        return cls(weight_map, {name: opened(folder / name) for name in names})

    @classmethod
    def of(cls, streams: Mapping[str, Stream]) -> StreamSet:
        """Make a set of streams, by the names of their files.

        Raises:
            FormatError: A stream has a tensor that is not decoded here, or two have one of a name.
        """
        ordered = dict(sorted(streams.items()))
        tensors = [
            (tensor.header.name, name)
            for name, stream in ordered.items()
            for tensor in _tensors_of(name, stream)
        ]
        if len(weight_map := dict(tensors)) < len(tensors):
            raise FormatError("two shards have a tensor of one name")
        return cls(weight_map, ordered)

    @property
    def size(self) -> int:
        """Bytes of all streams."""
        return sum(stream.size for stream in self.streams.values())

    def save(
        self,
        folder: Folder,
        *,
        overwrite: bool = False,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """Write the streams and their index to a folder: a temporary one that is then renamed.

        Args:
            folder: The folder to make.
            overwrite: Replace a folder that is there already.
            before: Called when all is written, just before the folder gets its name.

        Raises:
            FileExistsError: The folder exists and `overwrite` is false, or it holds something else
                than shards and their index.
            OSError: It cannot be written; nothing is left behind.
        """
        with make_folder_atomically(
            Path(folder), overwrite=overwrite, is_ours=_is_ours
        ) as temporary:
            for name, stream in self.streams.items():
                stream.save(temporary / name)
            write_index(temporary / STREAM_INDEX, self.weight_map)
            before()


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


def open_model(path: Folder) -> Stream | StreamSet:
    """Open a stream, or a folder of streams.

    Raises:
        NnguardError: See `Stream.open` and `StreamSet.open`.
    """
    return StreamSet.open(path) if Path(path).is_dir() else Stream.open(path)


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
    with make_folder_atomically(Path(output), overwrite=overwrite, is_ours=_is_ours) as temporary:
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
    streams = _as_set(streams)
    tensors = _check_index(streams, FormatError)
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
    streams = _as_set(streams)
    _check_index(streams, FormatError)
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
    return verify_and_strip_set(_as_set(streams), trust, progress)[0]


def strip_set(
    streams: StreamSet | Folder, trust: Trust, *, progress: Progress | None = None
) -> StreamSet:
    """Verify a set and return the originals that were signed, byte for byte.

    Args and errors are those of `verify_set`.
    """
    return verify_and_strip_set(_as_set(streams), trust, progress)[1]


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
    _check_index(streams, VerificationError)
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
        raise VerificationError(f"not of the same release: {_first(strangers)}")
    claims = replace(first.claims, shard=None)
    for name, report in reports.items():
        if report.key_id != first.key_id or replace(report.claims, shard=None) != claims:
            raise VerificationError(f"{name} has other claims than the rest of its set")
    return SetReport(claims, first.key_id, digest.hex(), FrozenMapping(reports))


def _shard(report: Report) -> Shard:
    assert report.claims.shard is not None
    return report.claims.shard


def _check_index(
    streams: StreamSet, error: type[FormatError] | type[VerificationError]
) -> list[CodedTensor]:
    """Check that the index, which is not signed, is the one that the shards make.

    Returns:
        The tensors of all shards.
    """
    tensors = [
        (tensor, file)
        for file, stream in streams.streams.items()
        for tensor in _tensors_of(file, stream)
    ]
    files = {tensor.header.name: file for tensor, file in tensors}
    if len(files) != len(tensors) or files != dict(streams.weight_map):
        raise error("the index does not say where the tensors are")
    return [tensor for tensor, _ in tensors]


@contextlib.contextmanager
def naming(file: str) -> Iterator[None]:
    """Say in errors which file they are about."""
    try:
        yield
    except NnguardError as error:
        if file:
            error.args = (f"{file}: {error}",)
        raise


def _may_hold_streams(path: Path) -> bool:
    """Tell whether a loader could find a stream here, by a name in capitals or in a folder, too."""
    return path.name.lower().endswith(".nnc") or path.is_dir()


def _first(names: Iterable[str]) -> str:
    """Return a few names to show, whatever bytes a file system has for them."""
    return ", ".join(sorted(names)[:5]).encode(errors="backslashreplace").decode()


def _as_set(streams: StreamSet | Folder) -> StreamSet:
    return streams if isinstance(streams, StreamSet) else StreamSet.open(streams)


def _tensors_of(file: str, stream: Stream) -> list[CodedTensor]:
    with naming(file):
        return coded_tensors(stream)
