"""Which seat of an order a machine has, and whether there is one for it.

The order's row is locked meanwhile, so that two never count at the same time.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from nnguard._licensing.device import Device
from nnguard._selling.order import Order, Seat
from nnguard.errors import ActivationError, ActivationReason

if TYPE_CHECKING:
    from nnguard._selling.rows.orders import SeatRows

__all__ = ["Machine", "check_device", "take_seat"]

_FEWEST = 2
"""Components of a fingerprint that are the same, at least, on the same machine."""


class Machine(NamedTuple):
    """Who asks for a seat.

    Attributes:
        recipient: Identifier of the customer's key, in hexadecimal.
        request_key: The key that signed the request, in hexadecimal, or None.
        device: The machine, if it was told.
        name: What people call it.
        leases: How many seats a relay wants to lease; 0 for one machine.
    """

    recipient: str
    request_key: str | None
    device: Device | None = None
    name: str = ""
    leases: int = 0

    def has(self, seat: Seat, *, named: bool) -> bool:
        """Tell whether a seat is this machine's."""
        if seat.recipient != self.recipient or seat.name != self.name:
            return False
        if seat.request_key not in (None, self.request_key):
            return False
        if bool(seat.leases) != bool(self.leases):
            return False  # the license that is out would go on beside the other kind
        return _is_same(seat.device, self.device, named=named)


def check_device(order: Order, device: Device | None) -> Device | None:
    """Return the device that a license of this order is bound to.

    Raises:
        ActivationError: The order wants to know the machine better (REFUSED).
    """
    if not order.named_devices:
        told = () if device is None else _unnamed(device)
        if len(told) < _FEWEST:
            raise ActivationError(
                "this order wants to know the machine, by its fingerprint",
                reason=ActivationReason.REFUSED,
                hint="nnguard license request --device takes a file of nnguard license device",
            )
        return Device(told)
    if device is not None and device.is_named:
        return Device(tuple(part for part in device.fingerprint if part[0] == "name"))
    return device


def take_seat(rows: SeatRows, order: Order, machine: Machine, at: datetime) -> Seat:
    """Return the seat that a machine has, or a new one.

    Args:
        rows: The seats.
        order: The order, locked.
        machine: Who asks.
        at: When.

    Raises:
        ActivationError: All seats are taken (NO_SEATS); or a relay would go on with fewer, while
            the license for more still holds (REFUSED).
    """
    mine = rows.of_recipient(order.id, machine.recipient)
    found = next((seat for seat in mine if machine.has(seat, named=order.named_devices)), None)
    used, free_at = rows.in_use(order.id, at)
    others = used - (0 if found is None else found.weight)
    if others + max(1, machine.leases) > order.seats:
        raise _no_seats(order, used, free_at)
    if found is not None:
        if machine.leases < found.leases:
            raise ActivationError(
                f"this relay has a license for {found.leases} leases, which would still hold",
                reason=ActivationReason.REFUSED,
                hint="give it back (nnguard license release), and then ask for fewer",
            )
        device, key = machine.device, found.request_key or machine.request_key
        return replace(found, device=device, request_key=key, leases=machine.leases)
    return Seat(
        id=secrets.token_hex(8),
        order_id=order.id,
        recipient=machine.recipient,
        request_key=machine.request_key,
        device=machine.device,
        name=machine.name,
        leases=machine.leases,
        taken_at=at,
        license_id="",
        expires_at=None,
    )


def _is_same(one: Device | None, other: Device | None, *, named: bool) -> bool:
    """Tell whether two fingerprints are those of one machine."""
    if one is None or other is None:
        return one is other
    if named and (one.is_named or other.is_named):
        names = ({part for part in each.fingerprint if part[0] == "name"} for each in (one, other))
        return bool(set.intersection(*names))
    first, second = set(_unnamed(one)), set(_unnamed(other))
    fewest = max(min(_FEWEST, len(first), len(second)), -(-max(len(first), len(second)) // 2), 1)
    return len(first & second) >= fewest


def _unnamed(device: Device) -> tuple[tuple[str, str], ...]:
    return tuple(part for part in device.fingerprint if part[0] != "name")


def _no_seats(order: Order, used: int, free_at: datetime | None) -> ActivationError:
    hint = "give a seat back where it is no longer needed (nnguard license release), or buy more"
    if free_at is not None:
        hint = f"one that was taken back is free at {free_at.isoformat()}; or {hint}"
    return ActivationError(
        f"{used} of {order.seats} seats of the order are taken",
        reason=ActivationReason.NO_SEATS,
        hint=hint,
    )
