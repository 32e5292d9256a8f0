"""The errors of nnguard.

Everything that can be wrong with a stream, a record, a key file, a license or the arguments of a
call is an `NnguardError`. A wrong type stays a `TypeError`, and the operating system's own errors
stay `OSError`. Any other exception is a bug.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

__all__ = [
    "ActivationError",
    "ActivationReason",
    "ArgumentError",
    "CapacityError",
    "ClaimsError",
    "FormatError",
    "KeyFormatError",
    "LedgerError",
    "LedgerReason",
    "LicenseError",
    "LimitError",
    "LockError",
    "LockedTrialError",
    "ModelError",
    "NnguardError",
    "NoRecordError",
    "PolicyError",
    "PolicyReason",
    "Refusal",
    "UnlockError",
    "VerificationError",
    "WorkerError",
    "WrongKeyError",
]


class NnguardError(Exception):
    """Base of all errors of nnguard; never raised itself.

    Attributes:
        hint: What the user can do about it, or an empty string.

    Examples:
        >>> try:
        ...     nnguard.verify("model.nnc", "vendor.pub")
        ... except nnguard.NnguardError as error:
        ...     print(error, "-", error.hint)
        the stream is not signed: it holds no record - nnguard sign signs it
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle an error as it is: its class may ask for more than a message."""
        return _rebuild, (type(self), self.args, self.__dict__)


class ArgumentError(NnguardError, ValueError):
    """An argument has a value that cannot be, or arguments contradict each other."""


class FormatError(NnguardError):
    """The bytes are not a well-formed NNCodec stream.

    Attributes:
        offset: Where in the stream, in bytes from its start; None where no one place is to blame.
    """

    def __init__(self, message: str, *, offset: int | None = None, hint: str = "") -> None:
        super().__init__(message if offset is None else f"{message} (at byte {offset})", hint=hint)
        self.offset = offset


class CapacityError(NnguardError):
    """The record does not fit into the stream.

    Attributes:
        needed: Bits that the record needs, its frame included.
        available: Bits that the stream offers.
    """

    def __init__(self, message: str, *, needed: int, available: int, hint: str = "") -> None:
        super().__init__(f"{message}: {needed} bits needed, {available} available", hint=hint)
        self.needed = needed
        self.available = available


class NoRecordError(NnguardError):
    """The stream holds no record of the kind that was asked for."""


class KeyFormatError(NnguardError):
    """A key file cannot be read: not PEM, of another kind, or the passphrase does not fit.

    Or a key in a token cannot be used.
    """


class WrongKeyError(NnguardError):
    """The record was made with a key that is not among those given; another may fit."""


class VerificationError(NnguardError):
    """The stream is not what was signed.

    Attributes:
        tensors: Names of the units that were changed, where the record tells (`localize`).
    """

    def __init__(self, message: str, *, tensors: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.tensors = tuple(tensors)


class ClaimsError(VerificationError):
    """The signature is right, but the release is not the one that was expected."""


class PolicyReason(enum.Enum):
    """Why a trust policy does not allow a release."""

    MALFORMED = "malformed"
    UNSIGNED = "unsigned"
    POLICY_SIGNATURES = "policy-signatures"
    POLICY_VERSION = "policy-version"
    POLICY_EXPIRED = "policy-expired"
    NO_SCOPE = "no-scope"
    OTHER_KEY = "other-key"
    KEY_REVOKED = "key-revoked"
    KEY_EXPIRED = "key-expired"
    POST_QUANTUM = "post-quantum"
    THRESHOLD = "threshold"
    VERSION = "version"
    RELEASE = "release"
    STALE = "stale"
    ROLLBACK = "rollback"
    CLOCK_SET_BACK = "clock-set-back"
    STATE = "state"


class PolicyError(VerificationError):
    """The trust policy does not allow this release, or cannot itself be trusted.

    Attributes:
        reason: Why.
    """

    def __init__(self, message: str, *, reason: PolicyReason, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class LockedTrialError(NnguardError):
    """The stream is a trial, locked by its vendor, and not the product."""

    def __init__(
        self,
        message: str = "this is a locked trial, not the product",
        *,
        hint: str = "unlock it with a license; to accept a trial, say allow_trial=True",
    ) -> None:
        super().__init__(message, hint=hint)


class Refusal(enum.Enum):
    """Why a license does not permit what was asked for.

    Examples:
        >>> later = licensing.Policy(now="2036-01-01")
        >>> try:
        ...     licensing.check("me.license", "vendor.pub", license_policy=later)
        ... except nnguard.errors.LicenseError as error:
        ...     error.reason
        <Refusal.EXPIRED: 'expired'>
    """

    MALFORMED = "malformed"
    OTHER_STREAM = "other-stream"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    OTHER_DEVICE = "other-device"
    REVOKED = "revoked"
    STALE_REVOCATIONS = "stale-revocations"
    CLOCK_SET_BACK = "clock-set-back"
    OTHER_TIER = "other-tier"
    RELEASED = "released"
    NOT_LEASED = "not-leased"


class LicenseError(NnguardError):
    """The license does not permit this.

    Attributes:
        reason: Why.
    """

    def __init__(self, message: str, *, reason: Refusal, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class ActivationReason(enum.Enum):
    """Why a request for a license is not answered with one.

    Examples:
        >>> asked = licensing.request("trial.nnc", "ada.key", order="K7Q2-9DXM-4T0C-VB31")
        >>> try:
        ...     licensing.activate(asked, "https://127.0.0.1:9", "ada.key", "vendor.pub")
        ... except nnguard.errors.ActivationError as error:
        ...     error.reason
        <ActivationReason.UNREACHABLE: 'unreachable'>
    """

    UNKNOWN_ORDER = "unknown-order"
    ORDER_CANCELLED = "order-cancelled"
    ORDER_EXPIRED = "order-expired"
    NO_SEATS = "no-seats"
    OTHER_TRIAL = "other-trial"
    OTHER_KEY = "other-key"
    RELEASED = "released"
    STALE_REQUEST = "stale-request"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


class ActivationError(NnguardError):
    """There is no license for this request, or the server cannot be reached.

    Attributes:
        reason: Why.
    """

    def __init__(self, message: str, *, reason: ActivationReason, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class LockError(NnguardError):
    """A lock cannot be made: the network, its trial or the target do not allow it."""


class UnlockError(NnguardError):
    """A lock cannot be opened: what it restores is not what was locked."""


class LedgerReason(enum.Enum):
    """Why a ledger does not do what was asked for."""

    MISSING = "missing"
    CONFLICT = "conflict"
    UNAVAILABLE = "unavailable"


class LedgerError(NnguardError):
    """The ledger cannot be opened, or does not hold what was asked for.

    Attributes:
        reason: Why.
    """

    def __init__(
        self, message: str, *, reason: LedgerReason = LedgerReason.UNAVAILABLE, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class LimitError(NnguardError):
    """The input asks for more memory or work than nnguard is willing to spend on it."""


class ModelError(NnguardError):
    """A model cannot be read or compressed: NaN, an unknown number format, a malformed file."""


class WorkerError(NnguardError):
    """A worker that coded tensors died, or was stopped."""


def _rebuild(kind: type[NnguardError], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error
