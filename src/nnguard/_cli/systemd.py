"""What a service manager is told."""

from __future__ import annotations

import contextlib
import os
import socket

__all__ = ["tell_systemd"]


def tell_systemd(state: str) -> None:
    """Say how it goes to the service manager that asked to be told, as sd_notify(3) has it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith(("/", "@")):
        place = "\0" + address[1:] if address[0] == "@" else address
        with (
            contextlib.suppress(OSError),  # nobody listens any more
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        ):
            manager.sendto(state.encode(), place)
