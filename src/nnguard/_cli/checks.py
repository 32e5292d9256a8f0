"""What commands ask of a license besides its signature, and the options for that."""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta

import nnguard
from nnguard._base.times import to_utc

__all__ = [
    "add_checks",
    "checks_of",
    "load_device",
    "parse_days",
    "parse_time",
]


def add_checks(parser: argparse.ArgumentParser) -> None:
    """Add the options that ask something of a license besides its signature."""
    group = parser.add_argument_group("checks")
    group.add_argument("--revocations", metavar="FILE", help="the vendor's revocation list")
    group.add_argument(
        "--max-age", type=parse_days, metavar="DAYS",
        help="require a revocation list no older than this",
    )  # fmt: skip
    group.add_argument(
        "--state", metavar="FILE", help="remember the newest time: notices clocks that are set back"
    )
    group.add_argument(
        "--device", metavar="FILE", help="device instead of this machine (nnguard license device)"
    )
    group.add_argument("--now", type=parse_time, metavar="TIME", help="time instead of the clock's")


def checks_of(options: argparse.Namespace) -> nnguard.licensing.Policy:
    """Return the checks that the options ask for."""
    return nnguard.licensing.Policy(
        now=options.now,
        device=load_device(options.device),
        revocations=options.revocations,
        max_age=options.max_age,
        state=options.state,
    )


def load_device(path: str | None) -> nnguard.licensing.Device | None:
    """Read a device file, if there is one."""
    if path is None:
        return None
    return nnguard.licensing.Device.load(path)


def parse_time(text: str) -> datetime:
    """Read a date or a time in ISO 8601."""
    try:
        return to_utc(text)
    except nnguard.NnguardError as error:
        raise argparse.ArgumentTypeError(f"{error}; {error.hint}") from None


def parse_days(text: str) -> timedelta:
    """Read a number of days, not below 0."""
    try:
        days = timedelta(days=float(text))
    except (ValueError, OverflowError):
        days = timedelta(-1)
    if days < timedelta(0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return days
