"""Writing down products and orders."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from nnguard._base.arguments import check_text, check_texts, wrong_type
from nnguard._base.times import TimeLike, now, to_utc
from nnguard._selling.catalog import Opened
from nnguard._selling.entry import check_storable
from nnguard._selling.order import Order
from nnguard._selling.product import Product
from nnguard._selling.steps import order_data
from nnguard._selling.terms import features_of
from nnguard.errors import (
    ActivationError,
    ActivationReason,
    ArgumentError,
    LedgerError,
    LedgerReason,
)

if TYPE_CHECKING:
    from nnguard._selling.store import Transaction

__all__ = ["add_opened", "add_order", "make_order", "unknown_order"]

_LONGEST = 200
"""Bytes of a customer, a reference and so on."""

_MOST_SEATS = 1_000_000
_SIZE_OF_REST = 16_384
"""Bytes of features and metadata together."""


def add_opened(
    rows: Transaction, opened: Opened, wrapped_to: str, actor: str, *, renamed: bool
) -> Product:
    """Insert a product; the same trial again only brings along what a higher key opens.

    Raises:
        LedgerError: The trial is there under another name, or the name stands for another trial.
    """
    product = opened.product
    if rows.products.add(product, opened.signed_by, wrapped_to):
        rows.note(actor, "product.added", product.lock, name=product.name, stream=product.stream)
        return product
    kept = rows.products.of_stream(product.stream)
    if kept is None:
        raise LedgerError(
            f"there is a product {product.name} already, with another trial",
            reason=LedgerReason.CONFLICT,
            hint="give this one another name",
        )
    if renamed and kept.name != product.name:
        message = f"this trial is in the ledger already, as product {kept.name}"
        raise LedgerError(message, reason=LedgerReason.CONFLICT)
    if len(product.tiers) <= len(kept.tiers):
        return kept
    changed = replace(kept, tiers=product.tiers)
    rows.products.set_tiers(changed)
    rows.note(actor, "product.changed", product.lock, name=kept.name, tier=product.tiers[-1].name)
    return changed


def make_order(
    product: Product,
    *,
    seats: int,
    customer: str,
    reference: str,
    tier: str,
    lasts: timedelta | None,
    grace: timedelta,
    expires_at: TimeLike | timedelta | None,
    cooling: timedelta,
    warn_only: bool,
    named_devices: bool,
    features: Sequence[str],
    metadata: Mapping[str, str],
) -> Order:
    """Return an order of these values, which all are checked; see `Issuer.order`."""
    for name, text in {"customer": customer, "reference": reference, "tier": tier}.items():
        check_storable(check_text(text, name, _LONGEST), name)
    if type(seats) is not int:
        raise wrong_type("seats", "a whole number", seats)
    if not 1 <= seats <= _MOST_SEATS:
        raise ArgumentError(f"seats: 1 to {_MOST_SEATS:,}, not {seats:,}")
    tiers = [each.name for each in product.tiers]
    if tier and tier not in tiers:
        raise ArgumentError(
            f"the product {product.name} has no tier {tier!r}", hint=f"it has {', '.join(tiers)}"
        )
    created, ends = now(), None
    if isinstance(expires_at, timedelta):
        _check_span(expires_at, "expires_at", 1)
        ends = created + expires_at
    elif expires_at is not None:
        ends = to_utc(expires_at, "expires_at")
    if ends is not None and ends <= created:
        raise ArgumentError(f"an order that ends at {ends.isoformat()} would never hold")
    spans = {"grace": grace, "cooling": cooling} | ({} if lasts is None else {"lasts": lasts})
    for name, span in spans.items():
        _check_span(span, name, 1 if name == "lasts" else 0)
    named, rest = features_of(features), check_texts(metadata, "metadata")
    if sum(len(text.encode()) for text in (*named, *rest, *rest.values())) > _SIZE_OF_REST:
        raise ArgumentError(f"features and metadata: {_SIZE_OF_REST:,} bytes at most")
    return Order(
        id=secrets.token_hex(8),
        reference=reference,
        product=product.name,
        customer=customer,
        tier=tier or tiers[-1],
        seats=seats,
        lasts=lasts,
        grace=grace,
        expires_at=ends,
        cooling=cooling,
        warn_only=bool(warn_only),
        named_devices=bool(named_devices),
        features=named,
        metadata=rest,
        created_at=created,
    )


def add_order(rows: Transaction, order: Order, actor: str, *, relative: bool = False) -> Order:
    """Insert an order, unless the one of its reference is there, and says the same.

    Args:
        rows: Where.
        order: What is to be there.
        actor: Who does it.
        relative: Whether it ends so long after it was made, rather than at a time.

    Raises:
        LedgerError: It says something else.
    """
    if rows.orders.add(order):
        rows.note(actor, "order.created", order.id, product=order.product, seats=order.seats)
        rows.events.add("order.created", order.created_at, order_data(order))
        return order
    kept = rows.orders.of_reference(order.reference)
    if kept is not None and relative and kept.expires_at and order.expires_at:
        order = replace(order, expires_at=kept.created_at + (order.expires_at - order.created_at))
    own = {"id": order.id, "created_at": order.created_at, "cancelled_at": None, "reason": ""}
    if kept is None or replace(kept, **own) != order:  # type: ignore[arg-type]
        raise LedgerError(
            f"there is another order with the reference {order.reference!r}",
            reason=LedgerReason.CONFLICT,
            hint="it says something else: look it up, or give this one another reference",
        )
    return kept


def unknown_order(message: str = "there is no order of this code") -> ActivationError:
    """Return the error about an order that is not there."""
    return ActivationError(
        message,
        reason=ActivationReason.UNKNOWN_ORDER,
        hint="compare it with what the seller sent: letters and digits in groups of four",
    )


def _check_span(span: timedelta, name: str, least: int) -> None:
    if not isinstance(span, timedelta):
        raise wrong_type(name, "a timedelta", span)
    if span < timedelta(seconds=least) or span % timedelta(seconds=1):
        raise ArgumentError(f"{name}: expected whole seconds, {least} or more")
    if span > timedelta(days=36_525):
        raise ArgumentError(f"{name}: a hundred years at most")
