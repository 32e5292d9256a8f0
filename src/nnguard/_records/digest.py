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


def set_digest(digests: Mapping[str, bytes]) -> bytes:
    """Return the digest of a set: SHA-256 over a label, the number of shards, names and digests.

    Args:
        digests: Names of the files to the digests of the original models in them (`model_digest`).
            They count in the order of the names.
    """
    parts = [_SET_LABEL, len(digests).to_bytes(4, "big")]
    for name in sorted(digests):
        encoded = name.encode()
        parts += [len(encoded).to_bytes(4, "big"), encoded, digests[name]]
    return hashlib.sha256(b"".join(parts)).digest()
