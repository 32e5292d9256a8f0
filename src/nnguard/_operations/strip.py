"""Getting the original back that was signed.

original = nnguard.strip("release.nnc", trust=["vendor.pub"])
"""

from __future__ import annotations

from typing import overload

from nnguard._base.progress import Progress
from nnguard._crypto.trust import Trust
from nnguard._models.stream_set import AnyModel, Model, ModelLike, as_model
from nnguard._oms.bundle import Bundle
from nnguard._operations.authority import LatestLike, PathLike, authority_of
from nnguard._operations.verify import verified
from nnguard._policy.policy import PolicyLike

__all__ = ["strip"]


@overload
def strip(
    model: AnyModel,
    trust: Trust | None = ...,
    *,
    policy: PolicyLike | None = ...,
    state: PathLike | None = ...,
    latest: LatestLike | None = ...,
    allow_trial: bool = ...,
    oms: Bundle | None = ...,
    progress: Progress | None = ...,
) -> AnyModel: ...
@overload
def strip(
    model: ModelLike,
    trust: Trust | None = ...,
    *,
    policy: PolicyLike | None = ...,
    state: PathLike | None = ...,
    latest: LatestLike | None = ...,
    allow_trial: bool = ...,
    oms: Bundle | None = ...,
    progress: Progress | None = ...,
) -> Model: ...


def strip(
    model: ModelLike,
    trust: Trust | None = None,
    *,
    policy: PolicyLike | None = None,
    state: PathLike | None = None,
    latest: LatestLike | None = None,
    allow_trial: bool = False,
    oms: Bundle | None = None,
    progress: Progress | None = None,
) -> Model:
    """Verify a model and return the original that was signed, byte for byte.

    Args and errors are those of `verify`: a locked trial is refused unless `allow_trial`.

    Examples:
        >>> original = nnguard.strip("release.nnc", "vendor.pub")
        >>> original.save("stripped.nnc")
    """
    authority = authority_of(trust, policy, state, latest)
    report, original = verified(as_model(model), authority.keys, progress, oms=oms)
    authority.accept(report, allow_trial=allow_trial, remember=True)
    return original
