"""Clocks that nobody sets: seconds since the machine was started, suspension included."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nnguard._relay.deadman import now

__all__ = ["Clock"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/time")

_PROCESS = secrets.token_hex(16)
"""Where nothing tells which start of the machine this is, each process has a clock of its own."""


def _which() -> str:
    """Tell the clock of this machine, since it was started, from all others."""
    try:
        parts = [_BOOT.read_text().strip()]
    except OSError:
        return _PROCESS
    with contextlib.suppress(OSError):  # a container may have a clock with another beginning
        parts.append(str(_NAMESPACE.readlink()))
    return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock that only goes forward.

    Attributes:
        id: Times of clocks with another identifier cannot be compared with this one's.
        seconds: Return the time.
    """

    id: str = field(default_factory=_which)
    seconds: Callable[[], float] = now
