"""Digests that stand for models: of one stream, and of a set of shards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

__all__ = ["model_digest", "set_digest"]

_MODEL_LABEL = b"nnguard model digest v1\0"
_SET_LABEL = b"nnguard set digest v1\0"


def model_digest(unit_digests: Sequence[bytes]) -> bytes:
    """Return the digest of a model: SHA-256 over a label, the number of units, and their SHA-256.

    Args:
        unit_digests: SHA-256 of every unit of the stream, in order.
    """
    count = len(unit_digests).to_bytes(4, "big")
    return hashlib.sha256(_MODEL_LABEL + count + b"".join(unit_digests)).digest()


def set_digest(digests: Mapping[str, bytes], files: Mapping[str, bytes] = {}) -> bytes:
    """Return the digest of a set (SPEC 6.3); names count in their order.

    Args:
        digests: Names of the shards to the digests of the original models in them (`model_digest`).
        files: Names of the files beside them to their SHA-256.
    """
    parts = [_SET_LABEL]
    for each in (digests, files) if files else (digests,):
        parts.append(len(each).to_bytes(4, "big"))
        for name in sorted(each):
            encoded = name.encode()
            parts += [len(encoded).to_bytes(4, "big"), encoded, each[name]]
    return hashlib.sha256(b"".join(parts)).digest()
