"""Times: what people write, the UTC datetimes in between, and the seconds that files hold.

All times count whole seconds; what is below a second is cut.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from nnguard._base.arguments import wrong_type
from nnguard.errors import ArgumentError

__all__ = [
    "CLOCKS_DIFFER",
    "EXAMPLES",
    "UNITS",
    "TimeLike",
    "now",
    "seconds_of",
    "time_of",
    "time_or_now",
    "to_utc",
]

TimeLike = datetime | str
"""A datetime with a time zone, or ISO 8601 text, which is UTC unless it says otherwise."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECOND = timedelta(seconds=1)
CLOCKS_DIFFER = timedelta(minutes=5)
"""How far a clock may be behind those of others before it counts as set back."""

UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
"""What lengths of time are written in."""

EXAMPLES = "such as 2027-12-31 or 2027-12-31T18:00+01:00"


def now() -> datetime:
    """Return the system's time in UTC."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def to_utc(time: TimeLike, argument: str = "time") -> datetime:
    """Return a time in UTC.

    Args:
        time: What the caller wrote.
        argument: Where it was written, for errors.

    Raises:
        TypeError: It is neither a datetime nor text.
        ArgumentError: It has no time zone, lies too far out, or is not ISO 8601.
    """
    if isinstance(time, str):
        time = _parse(time, argument)
    elif not isinstance(time, datetime):
        raise wrong_type(argument, "a datetime or ISO 8601 text", time)
    try:
        if time.utcoffset() is None:
            raise ArgumentError(
                f"{argument}: {time} has no time zone", hint="datetime.timezone.utc is one"
            )
        return time.astimezone(timezone.utc).replace(microsecond=0)
    except OverflowError:
        raise ArgumentError(f"{argument}: {time} lies too far out") from None


def time_or_now(time: TimeLike | None, argument: str) -> datetime:
    """Return a time in UTC, the system's if there is None; errors are those of `to_utc`."""
    return now() if time is None else to_utc(time, argument)


def seconds_of(time: TimeLike) -> int:
    """Return seconds since 1970; errors are those of `to_utc`."""
    return (to_utc(time) - _EPOCH) // _SECOND


def time_of(seconds: Any) -> datetime:
    """Return the UTC time that a number of seconds since 1970 names.

    Raises:
        ArgumentError: It is not an integer, or names no time that a datetime can hold.
    """
    if type(seconds) is not int:
        raise ArgumentError("a time is not a number of seconds")
    try:
        return _EPOCH + seconds * _SECOND
    except OverflowError:
        raise ArgumentError("a time lies too far out") from None


def _parse(text: str, argument: str) -> datetime:
    """Read a date or a time; Python 3.10 does not know that Z means UTC."""
    try:
        time = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text)
        return time if time.utcoffset() is not None else time.replace(tzinfo=timezone.utc)
    except ValueError:
        raise ArgumentError(f"{argument}: {text!r} is not a date or time", hint=EXAMPLES) from None
