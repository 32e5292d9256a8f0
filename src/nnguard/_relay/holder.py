"""A machine's side: it takes a lease, keeps it as long as it can, and knows when it is over.

Law: it never takes a lease to last longer than the relay counts it for, whatever the wall clock
says: it counts from before it asked, with a clock that nobody sets.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol

from nnguard._crypto.identity import Identity, Recipient
from nnguard._crypto.keys import PublicKey
from nnguard._licensing.lease import Lease
from nnguard._relay.clock import Clock
from nnguard.errors import ActivationError, ActivationReason, WrongKeyError

__all__ = ["Holder", "Line"]

_ID_SIZE = 16


class Line(Protocol):
    """How a relay is reached. Each call may raise an ActivationError, with its reason."""

    def take(self, lease_id: str, to: Recipient, nonce: str) -> Lease:
        """Ask for a lease, or renew it."""

    def renew(self, lease_id: str, to: Recipient, nonce: str) -> Lease:
        """Renew a lease that is out."""

    def give_back(self, lease_id: str) -> None:
        """End it."""


class Holder:
    """Holds one lease.

    Args:
        line: Leads to the relay.
        identity: The machine's keys.
        keys: Trusted keys of the vendor.
        clock: That of this machine.
    """

    def __init__(
        self, line: Line, identity: Identity, keys: Sequence[PublicKey], clock: Clock | None = None
    ) -> None:
        self._line, self._identity, self._keys = line, identity, keys
        self._clock = Clock() if clock is None else clock
        self._id = ""
        self.lease: Lease | None = None
        self.end = 0.0

    @property
    def left(self) -> float:
        """Seconds until the lease is over, by this machine's own clock; 0 where it is."""
        return max(0.0, self.end - self._clock.seconds()) if self.lease is not None else 0.0

    def ask(self) -> Lease:
        """Take a lease, or renew it.

        Raises:
            ActivationError: The relay does not give one; the old one goes on until its end.
            WrongKeyError: What it gives is another vendor's, or is for another machine.
            LicenseError: It was changed, or the license allows no such lease.
        """
        self._id = self._id or secrets.token_hex(_ID_SIZE)
        nonce, to = secrets.token_hex(_ID_SIZE), self._identity.recipient
        start = self._clock.seconds()  # before anything is sent
        try:
            if not self.left:
                lease = self._line.take(self._id, to, nonce)
            else:
                lease = self._line.renew(self._id, to, nonce)
        except ActivationError as error:
            if error.reason is not ActivationReason.RELEASED or not self.left:
                raise
            start = self._clock.seconds()
            lease = self._line.take(self._id, to, nonce)  # the relay may have lost its file
        self._check(lease, nonce)
        self.lease = lease
        self.end = max(self.end, start + lease.lasts.total_seconds())
        return lease

    def _check(self, lease: Lease, nonce: str) -> None:
        """Make sure that this is what was asked for, and just now; its times are not ours."""
        lease.license.authenticate(self._keys)
        lease.authenticate_lease()
        if lease.recipient != self._identity.recipient.id.hex() or lease.id != nonce:
            raise WrongKeyError("the relay's answer is to another machine, or to another question")

    def give_back(self) -> None:
        """End the lease; what it was for has stopped.

        Raises:
            ActivationError: The relay did not hear of it, and counts it until its end.
        """
        lease_id, self._id, self.lease = self._id, "", None
        if lease_id:
            self._line.give_back(lease_id)
