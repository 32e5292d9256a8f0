"""Getting the original back that was signed.

original = nnguard.strip("release.nnc", trust=["vendor.pub"])
"""

from __future__ import annotations

from typing import overload

from nnguard._base.threads import Progress
from nnguard._crypto.trust import Trust, load_trust
from nnguard._models.stream_set import AnyModel, Model, ModelLike, as_model
from nnguard._operations.verify import check_report, verified

__all__ = ["strip"]


@overload
def strip(
    model: AnyModel, trust: Trust, *, allow_trial: bool = ..., progress: Progress | None = ...
) -> AnyModel: ...
@overload
def strip(
    model: ModelLike, trust: Trust, *, allow_trial: bool = ..., progress: Progress | None = ...
) -> Model: ...


def strip(
    model: ModelLike,
    trust: Trust,
    *,
    allow_trial: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Verify a model and return the original that was signed, byte for byte.

    Args and errors are those of `verify`: a locked trial is refused unless `allow_trial`.

    Examples:
        >>> original = nnguard.strip("release.nnc", "vendor.pub")
        >>> original.save("stripped.nnc")
    """
    report, original = verified(as_model(model), load_trust(trust), progress)
    check_report(report, None, allow_trial=allow_trial)
    return original
