"""Answering requests: one transaction that counts seats, signs a license and writes it down.

Checks, in this order: the request's own signature; an order that is there and neither cancelled nor
over; the same request again gets the same license; the request is new enough; it is for the trial
that was bought; there is a seat. The content key is unwrapped only when all of them have passed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from nnguard._base.mappings import FrozenMapping
from nnguard._base.times import CLOCKS_DIFFER
from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.identity import Recipient
from nnguard._crypto.keys import PublicKey, Signer
from nnguard._licensing.device import Device
from nnguard._licensing.license import License, LicenseTerms
from nnguard._licensing.request import Request
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._locking.tiers import MAX_TIERS
from nnguard._selling.entry import LedgerEntry
from nnguard._selling.issue import bind
from nnguard._selling.order import Order, Seat
from nnguard._selling.ordering import unknown_order
from nnguard._selling.product import Product
from nnguard._selling.returning import revoke_seat
from nnguard._selling.seating import Machine, check_device, take_seat
from nnguard._selling.steps import note_issued, there
from nnguard.errors import ActivationError, ActivationReason, WrongKeyError

if TYPE_CHECKING:
    from nnguard._selling.store import Transaction

__all__ = ["Answer", "Answerer"]

_OLDEST = timedelta(days=7)
"""A request travels for so long at most; its answer can be had again for ever."""


class Answer(NamedTuple):
    """What a request got.

    Attributes:
        license: The license.
        repeated: The same request had got it before.
    """

    license: License
    repeated: bool


@dataclass(frozen=True, slots=True)
class Answerer:
    """What answers are made with.

    Attributes:
        signer: Signs licenses.
        content_key: Gives the content key of a lock.
        actor: Who does it, for the audit log.
        server: URL that licenses are refreshed from, or empty.
    """

    signer: Signer
    content_key: Callable[[str], ContentKey]
    actor: str
    server: str

    def answer(self, rows: Transaction, order_id: str, request: Request, at: datetime) -> Answer:
        """Answer a request that the customer signed; see `Issuer.answer`."""
        order = _open_order(rows, order_id, at)
        key = request.key.raw.hex()
        earlier = rows.seats.answered(key, request.nonce)
        if earlier is not None:
            return Answer(_again(rows, *earlier), repeated=True)
        _check_age(request.issued_at, at)
        product = self._product(rows, order)
        if (request.stream, request.lock) != (product.stream, product.lock):
            raise ActivationError(
                f"the request is for another trial than the order's, which is {product.name}",
                reason=ActivationReason.OTHER_TRIAL,
                hint="make the request with the trial that came with the order",
            )
        renewed = None
        if request.license:
            renewed = _renewed(rows, request, key)
        machine = Machine(
            request.recipient.id.hex(),
            key,
            check_device(order, request.device),
            "" if renewed is None else renewed.name,
            request.leases,
        )
        seat = take_seat(rows.seats, order, machine, at)
        if renewed is not None and seat.id != renewed.id:
            raise ActivationError(
                "this is not the machine that the license was made out for",
                reason=ActivationReason.REFUSED,
                hint="nnguard license request --order takes a seat for another machine",
            )
        leaser = request.key if request.leases else None
        license_ = self._license(rows, order, product, seat, request.recipient, leaser, at)
        rows.seats.activate(_seated(rows, seat, license_), key, request.nonce)
        return Answer(license_, repeated=False)

    def grant(
        self, rows: Transaction, order_id: str, recipient: Recipient, name: str, at: datetime
    ) -> License:
        """Make out a license for a public key; see `Issuer.grant`."""
        order = _open_order(rows, order_id, at)
        check_device(order, None)
        product = self._product(rows, order)
        machine = Machine(recipient.id.hex(), None, None, name)
        seat = take_seat(rows.seats, order, machine, at)
        if seat.license_id and not _is_half_over(kept := _again(rows, seat, seat.license_id), at):
            return kept
        license_ = self._license(rows, order, product, seat, recipient, None, at)
        rows.seats.activate(_seated(rows, seat, license_), None, None)
        return license_

    def _product(self, rows: Transaction, order: Order) -> Product:
        found = there(rows.products.signed(order.product), f"product {order.product!r}")
        (product, signed_by), mine = found, self.signer.public_key.id.hex()
        if signed_by not in ("", mine):
            raise WrongKeyError(
                f"the trial is signed with key {signed_by}, the license would be with {mine}",
                hint="issue licenses with the key that signed the trial",
            )
        return product

    def _license(
        self,
        rows: Transaction,
        order: Order,
        product: Product,
        seat: Seat,
        recipient: Recipient,
        leaser: PublicKey | None,
        at: datetime,
    ) -> License:
        """Sign a license for a seat and write it down."""
        if seat.license_id:
            newest = _again(rows, seat, seat.license_id)  # unless it was revoked
            if not _holds_on(newest, seat.device):  # of a machine that changed, or of its twin
                revoke_seat(rows, order, seat.id, at, "made out anew", self.actor)
        tiers = [tier.name for tier in product.tiers]
        place = tiers.index(order.tier)
        terms = LicenseTerms(
            id=secrets.token_hex(16),
            issuer=product.issuer,
            customer=order.customer,
            product=product.name,
            tier=order.tier,
            issued_at=at,
            not_before=at,
            expires_at=_end(order, at),
            grace=order.grace,
            features=order.features,
            metadata=FrozenMapping(order.metadata),
            device=None if seat.device is None else bind(seat.device),
            stream=product.stream,
            opens=product.tiers[place].opens,
            lock=product.lock,
            recipient=recipient.id.hex(),
            order=order.id,
            server=self.server,
            warn_only=order.warn_only,
            leases=seat.leases,
            leaser=leaser,
        )
        key = _key_of_tier(self.content_key(product.lock), product.lock, place)
        license_ = License.make(terms, Unwrapped(key), recipient, self.signer)
        entry = LedgerEntry.of(license_)
        rows.licenses.add(entry)
        note_issued(rows, entry, self.actor, order=order, seat=seat.id)
        return license_


def _open_order(rows: Transaction, order_id: str, at: datetime) -> Order:
    """Lock an order, and make sure that it still gives licenses."""
    order = rows.orders.locked(order_id)
    if order is None:  # of a code of ours, from before a backup that was restored
        raise unknown_order()
    state = order.state_at(at)
    if state == "cancelled":
        raise ActivationError(
            "the order was cancelled",
            reason=ActivationReason.ORDER_CANCELLED,
            hint="ask the seller",
        )
    if state == "expired":
        raise ActivationError(
            f"the order ended at {order.expires_at}",
            reason=ActivationReason.ORDER_EXPIRED,
            hint="buy again to go on",
        )
    return order


def _again(rows: Transaction, seat: Seat, license_id: str) -> License:
    """Return a license that was issued for a seat before, as long as both hold."""
    entry = rows.licenses.find(license_id)
    if seat.free_at is not None or entry.revoked_at is not None:
        raise ActivationError(
            "the seat of this machine was given back, or taken back by the seller",
            reason=ActivationReason.RELEASED,
            hint="a new request with the order code takes another seat; or ask the seller",
        )
    return License.from_text(entry.armored)


def _renewed(rows: Transaction, request: Request, key: str) -> Seat:
    """Return the seat of the license that a request renews."""
    seat = there(rows.seats.of_license(request.license), f"license {request.license}")
    if (seat.request_key, seat.recipient) != (key, request.recipient.id.hex()):
        raise ActivationError(
            "the request is signed with another key than the one that the license came with",
            reason=ActivationReason.OTHER_KEY,
            hint="use the identity that the license was requested with",
        )
    for license_id in (request.license, seat.license_id):
        _again(rows, seat, license_id)
    return seat


def _holds_on(license_: License, device: Device | None) -> bool:
    """Tell whether a license holds on the machine that gets the next one of its seat."""
    bound = license_.terms.device
    return bound is None or (device is not None and bound.matches(device) >= bound.required)


def _check_age(issued_at: datetime, at: datetime) -> None:
    if not at - _OLDEST <= issued_at <= at + CLOCKS_DIFFER:
        raise ActivationError(
            f"the request was made at {issued_at.isoformat()}, by its machine's clock",
            reason=ActivationReason.STALE_REQUEST,
            hint=f"make it anew: it holds for {_OLDEST.days} days; and set the clock",
        )


def _end(order: Order, at: datetime) -> datetime | None:
    """Return when a license ends that is issued now."""
    ends = [] if order.lasts is None else [at + order.lasts]
    ends += [] if order.expires_at is None else [order.expires_at]
    return min(ends, default=None)


def _is_half_over(license_: License, at: datetime) -> bool:
    terms = license_.terms
    return terms.expires_at is not None and at - terms.issued_at > terms.expires_at - at


def _seated(rows: Transaction, seat: Seat, license_: License) -> Seat:
    """Write down who has a seat, and until when."""
    terms = license_.terms
    seated = replace(seat, license_id=terms.id, expires_at=terms.expires_at)
    if seat.license_id:
        rows.seats.change(seated)
    else:
        rows.seats.add(seated)
    return seated


def _key_of_tier(kept: ContentKey, lock: str, place: int) -> ContentKey:
    """Return the key of a tier, counted from the lowest, whose key has the identifier of the lock.

    Args:
        kept: The key that the ledger keeps; it may be that of a higher tier by now.
        lock: Identifier of the lowest tier's key.
        place: Of the tier, 0 for the lowest.
    """
    keys = [kept]
    while keys[-1].id.hex() != lock:
        if len(keys) == MAX_TIERS:
            raise WrongKeyError(f"the content key in the ledger is not one of lock {lock}")
        keys.append(keys[-1].below())
    return keys[len(keys) - 1 - place]
