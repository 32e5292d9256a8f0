"""What a customer does to get a license, to keep it fresh, and to give it back.

request = nnguard.licensing.request("trial.nnc", "ada.key", order="K7Q2-9DXM-4T0C-VB31-6A")
request.save("ada.request")
"""

from __future__ import annotations

from nnguard._base.arguments import loaded
from nnguard._base.threads import Progress
from nnguard._base.times import TimeLike
from nnguard._crypto.identity import IdentityLike
from nnguard._licensing.device import Device
from nnguard._licensing.request import Request
from nnguard._locking.opening import lock_id
from nnguard._models.stream_set import ModelLike, as_model
from nnguard._operations.authority import PathLike
from nnguard._records.hashed import digest_of, hash_files

__all__ = ["request"]


def request(
    trial: ModelLike,
    identity: IdentityLike,
    *,
    order: str = "",
    device: Device | PathLike | None = None,
    leases: int = 0,
    issued_at: TimeLike | None = None,
    progress: Progress | None = None,
) -> Request:
    """Ask for a license for a trial: a signed file that the seller, or a server, answers.

    Args:
        trial: The trial: a stream, or a folder of shards.
        identity: The customer's private key, or its path; a key derived from it signs.
        order: Code of the order.
        device: The machine that the license is to be bound to, or the path of its fingerprint;
            none, if None.
        leases: How many machines are to hold a lease of it (`nnguard relay`); 0 of a license for
            one machine.
        issued_at: Now, if None.
        progress: Called with the number of bytes hashed since the last call.

    Raises:
        NoRecordError: The stream is not locked.
        FormatError: It is not a stream, or damaged.
        ArgumentError: The order's code is not one; the number of leases is out of range.
        KeyFormatError: The identity cannot be read.

    Examples:
        >>> asked = licensing.request("trial.nnc", "ada.key", order="K7Q2-9DXM-4T0C-VB31-6A")
        >>> asked.authenticate_self()
        >>> asked.recipient == nnguard.Recipient.load("ada.pub")
        True
    """
    model = as_model(trial, "trial")
    lock = lock_id(model)
    return Request.make(
        identity,
        stream=digest_of(hash_files(model, progress)).hex(),
        lock=lock,
        order=order,
        device=None if device is None else loaded(device, Device, "device"),
        leases=leases,
        issued_at=issued_at,
    )
