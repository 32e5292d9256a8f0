"""NNCodec bitstreams: units, headers, and the entropy coding of one tensor.

Knows nothing of what is hidden in a stream, nor of keys.
"""

from nnguard._stream.stream import Stream, StreamLike
from nnguard._stream.units import Unit

__all__ = ["Stream", "StreamLike", "Unit", "as_stream"]


def as_stream(stream: StreamLike) -> Stream:
    """Return the stream itself, or the one in the file of this path."""
    return stream if isinstance(stream, Stream) else Stream.open(stream)
