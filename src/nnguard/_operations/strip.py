"""Getting the original back that was signed.

original = nnguard.strip("release.nnc", trust=["vendor.pub"])
"""

from __future__ import annotations

from typing import overload

from nnguard._base.threads import Progress
from nnguard._crypto.trust import Trust, load_trust
from nnguard._models.stream_set import Model, ModelLike, StreamSet, as_model
from nnguard._operations.verify import verified
from nnguard._stream import Stream

__all__ = ["strip"]


@overload
def strip(model: Stream, trust: Trust, *, progress: Progress | None = ...) -> Stream: ...
@overload
def strip(model: StreamSet, trust: Trust, *, progress: Progress | None = ...) -> StreamSet: ...
@overload
def strip(model: ModelLike, trust: Trust, *, progress: Progress | None = ...) -> Model: ...


def strip(model: ModelLike, trust: Trust, *, progress: Progress | None = None) -> Model:
    """Verify a model and return the original that was signed, byte for byte.

    Args and errors are those of `verify`.

    Examples:
        >>> original = nnguard.strip("release.nnc", "vendor.pub")
        >>> original.save("stripped.nnc")
    """
    return verified(as_model(model), load_trust(trust), progress)[1]
