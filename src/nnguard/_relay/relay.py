"""What a relay does: it checks its own license, counts, and signs a lease of it.

It needs nobody for that but the files that it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from nnguard._crypto.identity import Identity, Recipient
from nnguard._licensing.lease import Lease
from nnguard._licensing.license import License
from nnguard._licensing.policy import Policy, Status, check_license
from nnguard._operations.authority import Authority
from nnguard._relay.leases import Leases
from nnguard.errors import LicenseError, Refusal, WrongKeyError

__all__ = ["Held", "Relay"]


@dataclass(frozen=True, slots=True)
class Held:
    """A license that a relay holds, and that holds.

    Attributes:
        license: The license.
        status: Its status.
    """

    license: License
    status: Status


@dataclass(frozen=True, slots=True)
class Relay:
    """Leases of one license.

    Attributes:
        license: Path of the license, which may be renewed meanwhile.
        identity: The license is made out to it; a key derived from it signs leases.
        authority: Returns whom to believe.
        leases: Which of them are out.
        license_policy: Returns what else to ask of the license.
    """

    license: Path
    identity: Identity
    authority: Callable[[], Authority]
    leases: Leases
    license_policy: Callable[[], Policy] = Policy

    def held(self) -> Held:
        """Read the license, and check that it holds, and is to be leased by this relay.

        Raises:
            WrongKeyError: It is another vendor's, or made out to another key.
            PolicyError: The trust policy has revoked its key.
            LicenseError: It does not hold, or is not for leases.
            OSError: It cannot be read.
        """
        found = License.load(self.license)
        authority = self.authority()
        status = check_license(found, authority.keys, self.license_policy())
        authority.refuse_revoked(found)
        terms = found.terms
        if terms.leaser is None:
            raise LicenseError(
                "the license is for one machine, not for leases",
                reason=Refusal.NOT_LEASED,
                hint="ask for one with nnguard license request --leases N",
            )
        mine = self.identity.request_signer.public_key
        if terms.leaser != mine or terms.recipient != self.identity.recipient.id.hex():
            raise WrongKeyError(
                f"the license is made out to key {terms.recipient}, which is another relay's",
                hint="start the relay with the identity that asked for the license",
            )
        return Held(found, status)

    def take(self, lease_id: str, to: Recipient, nonce: str) -> Lease:
        """Hand out a lease, or renew the one that this machine has.

        Args:
            lease_id: A secret of the machine's, for this lease.
            to: The machine's public key.
            nonce: Of this very message, 16 bytes in hexadecimal: the lease repeats it.

        Raises:
            ActivationError: All leases are out; or this one is another key's.
            NnguardError: The license does not hold: see `held`. Or the leases file cannot be used.
            OSError: The license cannot be read.
        """
        held = self.held()
        self.leases.take(lease_id, to.pem.decode(), held.license.terms.leases)
        return self._sign(held.license, to, nonce)

    def renew(self, lease_id: str, to: Recipient, nonce: str) -> Lease:
        """Let a lease that is out hold for once more; see `take`."""
        held = self.held()
        self.leases.renew(lease_id, to.pem.decode(), held.license.terms.leases)
        return self._sign(held.license, to, nonce)

    def _sign(self, license: License, to: Recipient, nonce: str) -> Lease:  # noqa: A002
        return Lease.make(
            license,
            license.unwrap(self.identity),
            to,
            self.identity.request_signer,
            id=nonce,
            lasts=timedelta(seconds=int(self.leases.lasts)),
        )
