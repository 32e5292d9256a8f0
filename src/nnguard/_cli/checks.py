"""What commands ask of a license besides its signature, and the options for that."""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta, timezone

import nnguard
from nnguard._base.files import read_file

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


def checks_of(options: argparse.Namespace) -> nnguard.Checks:
    """Return the checks that the options ask for."""
    return nnguard.Checks(
        now=options.now,
        device=load_device(options.device),
        revocations=options.revocations,
        max_age=options.max_age,
        state=options.state,
    )


def load_device(path: str | None) -> nnguard.Device | None:
    """Read a device file, if there is one."""
    if path is None:
        return None
    try:
        return nnguard.Device.from_json(read_file(path).decode())
    except ValueError:
        raise ValueError(f"{path} is no device: nnguard license device writes one") from None


def parse_time(text: str) -> datetime:
    """Read a date or a time in ISO 8601; UTC, where it does not say."""
    try:
        time = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        time = time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)
        return time.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        example = "such as 2027-12-31 or 2027-12-31T18:00+01:00"
        raise argparse.ArgumentTypeError(f"{text!r} is no date or time, {example}") from None


def parse_days(text: str) -> timedelta:
    """Read a number of days, not below 0."""
    try:
        days = timedelta(days=float(text))
    except (ValueError, OverflowError):
        days = timedelta(-1)
    if days < timedelta(0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return days
