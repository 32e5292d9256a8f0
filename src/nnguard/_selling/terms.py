"""What a seller chooses for a license; what the trial settles (digests, keys) is not among it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from nnguard._base.arguments import check_text, check_texts, wrong_type
from nnguard._base.mappings import EMPTY
from nnguard._base.times import TimeLike, to_utc
from nnguard._licensing.device import Device
from nnguard.errors import ArgumentError

__all__ = ["Terms", "features_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a seller chooses for a license.

    Times are datetimes with a time zone or ISO 8601 text, such as "2027-12-31", which is UTC unless
    it says otherwise. They count whole seconds, and become datetimes in UTC.

        Terms(customer="Ada", expires_at="2027-12-31", grace=timedelta(days=14))

    Attributes:
        customer: Who buys.
        product: What; the name in the trial's signature, if empty.
        issuer: Who sells; the issuer in the trial's signature, if empty.
        tier: Name of the tier that the license opens; that of the content key, if empty.
        expires_at: It holds until then; forever, if None.
        not_before: It holds from then on; from `issued_at` on, if None.
        issued_at: Now, if None.
        grace: It still holds for so long after it has expired; whole seconds.
        features: Names that your own software may act on.
        metadata: Anything else, text to text.
        device: Bind the license to this device of the customer, or to that in the file of this
            path.
        device_matches: How many components of the device's fingerprint must match; all but one,
            and at least two, if None.

    Raises:
        ArgumentError: Such a license could never hold; a time has no time zone or lies too far out;
            `device_matches` has no device; a text cannot be encoded.
        TypeError: An argument has the wrong type.

    Examples:
        >>> terms = licensing.Terms(customer="Ada", expires_at="2035-12-31", features=["export"])
        >>> license = licensing.issue(
        ...     "trial.nnc", "content.key", to="ada.pub", signer="vendor.key", terms=terms
        ... )
        >>> license.terms.features
        ('export',)
    """

    customer: str = ""
    product: str = ""
    issuer: str = ""
    tier: str = ""
    expires_at: TimeLike | None = None
    not_before: TimeLike | None = None
    issued_at: TimeLike | None = None
    grace: timedelta = timedelta(0)
    features: Sequence[str] = ()
    metadata: Mapping[str, str] = EMPTY
    device: Device | str | os.PathLike[str] | None = None
    device_matches: int | None = None

    def __post_init__(self) -> None:
        for name in ("customer", "product", "issuer", "tier"):
            check_text(getattr(self, name), name)
        for name in ("expires_at", "not_before", "issued_at"):
            if (time := getattr(self, name)) is not None:
                object.__setattr__(self, name, to_utc(time, name))
        object.__setattr__(self, "features", features_of(self.features))
        object.__setattr__(self, "metadata", check_texts(self.metadata, "metadata"))
        if not isinstance(self.grace, timedelta):
            raise wrong_type("grace", "a timedelta", self.grace)
        if self.grace < timedelta(0) or self.grace % timedelta(seconds=1):
            raise ArgumentError("grace: expected whole seconds, 0 or more")
        if self.device is None and self.device_matches is not None:
            raise ArgumentError("device_matches needs a device")


def features_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of features; errors are those of `Terms`."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise wrong_type("features", "a sequence of names", names)
    return tuple(check_text(name, "features") for name in names)
