"""Getting the original back that was signed.

original = nnguard.strip("release.nnc", trust=["vendor.pub"])
"""

from __future__ import annotations

from typing import overload

from nnguard._base.threads import Progress
from nnguard._crypto.trust import Trust
from nnguard._models.stream_set import Model, ModelLike, StreamSet, as_model
from nnguard._operations.authority import authority_of
from nnguard._operations.verify import verified
from nnguard._policy.policy import PolicyLike
from nnguard._stream import Stream

__all__ = ["strip"]


@overload
def strip(
    model: Stream,
    trust: Trust | None = ...,
    *,
    policy: PolicyLike | None = ...,
    progress: Progress | None = ...,
) -> Stream: ...
@overload
def strip(
    model: StreamSet,
    trust: Trust | None = ...,
    *,
    policy: PolicyLike | None = ...,
    progress: Progress | None = ...,
) -> StreamSet: ...
@overload
def strip(
    model: ModelLike,
    trust: Trust | None = ...,
    *,
    policy: PolicyLike | None = ...,
    progress: Progress | None = ...,
) -> Model: ...


def strip(
    model: ModelLike,
    trust: Trust | None = None,
    *,
    policy: PolicyLike | None = None,
    progress: Progress | None = None,
) -> Model:
    """Verify a model and return the original that was signed, byte for byte.

    Args and errors are those of `verify`.

    Examples:
        >>> original = nnguard.strip("release.nnc", "vendor.pub")
        >>> original.save("stripped.nnc")
    """
    authority = authority_of(trust, policy)
    report, original = verified(as_model(model), authority.keys, progress)
    authority.judge(report)
    return original
