"""Tools of the standard that nnguard does not decode: the nncodec package does, if it is there.

Codebooks, blocks, sparsification and the like. nncodec is not made for hostile input, so only
streams whose signature has been checked are handed to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnguard._models.formats import Array
from nnguard._stream import Stream
from nnguard.errors import FormatError

__all__ = ["decode_with_nncodec"]

_MAPS = ("sparsification", "pruning", "unification", "decomposition_performance_map")


def decode_with_nncodec(stream: Stream) -> dict[str, Array]:
    """Decode a stream that a trusted key has signed.

    Returns:
        Names to arrays as nncodec gives them: float32 or int32, scalars with one dimension.

    Raises:
        FormatError: nncodec does not decode it, or is not installed.
    """
    try:
        from nncodec.nnc_core import approximator, coder
    except ImportError:
        raise FormatError(
            "the stream uses tools of the standard that nnguard does not decode",
            hint='nncodec decodes them: pip install "nnguard[nncodec]"',
        ) from None

    model: dict[str, Any] = {
        "parameter_type": {},
        "parameter_dimensions": {},
        "parameter_index": {},
        "block_identifier": {},
        "topology_storage_format": None,
        "topology_compression_format": None,
        "performance_maps": {"mps": {}, "lps": {}},
        "performance_map_flags": {
            f"{unit}_{name}_flag": {} for name in _MAPS for unit in ("mps", "lps")
        },
    }
    try:
        decoded = coder.decode(bytearray(bytes(stream)), model, oob_dict={}, hls_stats={})
        approximator.rec(decoded)
        found = approximator.recompose_params(model, decoded)["parameters"]
    except (Exception, SystemExit) as error:  # asserts, bare exits: its way of saying no
        raise FormatError(f"nncodec does not decode this stream: {type(error).__name__}") from None
    return {name: np.asarray(array) for name, array in found.items()}
