"""Rows of products, of orders, and of the seats that are taken of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    RowMapping,
    Select,
    case,
    func,
    insert,
    literal_column,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError

from nnguard._base.mappings import FrozenMapping
from nnguard._base.times import time_of
from nnguard._licensing.device import Device
from nnguard._selling.order import Order, OrderState, Seat
from nnguard._selling.product import Product, Tier
from nnguard._selling.steps import there
from nnguard._selling.tables import ACTIVATIONS, ORDERS, PRODUCTS, SEATS
from nnguard.errors import LedgerError

__all__ = ["OrderRows", "ProductRows", "SeatRows"]

_DAY = 86400


class ProductRows:
    """Products that orders name."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> list[Product]:
        """Return all, by name."""
        return self._ask(select(PRODUCTS).order_by(PRODUCTS.c.name))

    def find(self, name: str) -> Product | None:
        """Return the one of a name, or None."""
        return next(iter(self._ask(select(PRODUCTS).where(PRODUCTS.c.name == name))), None)

    def of_stream(self, stream: str) -> Product | None:
        """Return the one of a trial, or None."""
        return next(iter(self._ask(select(PRODUCTS).where(PRODUCTS.c.stream == stream))), None)

    def signed(self, name: str) -> tuple[Product, str] | None:
        """Return a product and the key that signed its trial, empty where none did, or None."""
        query = select(PRODUCTS).where(PRODUCTS.c.name == name)
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else (_to_product(row), row["signed_by"])

    def of_others(self, recipient: str) -> str | None:
        """Return the name of a product whose content key is wrapped to another key, or None."""
        query = select(PRODUCTS.c.name).where(PRODUCTS.c.wrapped_to != recipient)
        return self._connection.execute(query.limit(1)).scalar_one_or_none()

    def add(self, product: Product, signed_by: str, wrapped_to: str) -> bool:
        """Insert a product; False where its name or its trial is there.

        Args:
            product: The product.
            signed_by: Identifier of the key that signed its trial; empty where none did.
            wrapped_to: Identifier of the key that its content key is wrapped to.
        """
        values = {each.name: getattr(product, each.name) for each in fields(product)}
        values |= {"signed_by": signed_by, "wrapped_to": wrapped_to}
        try:
            with self._connection.begin_nested():
                self._connection.execute(insert(PRODUCTS).values(**values))
        except IntegrityError:
            return False
        return True

    def set_tiers(self, product: Product) -> None:
        """Update what the key of a product opens."""
        query = update(PRODUCTS).where(PRODUCTS.c.name == product.name)
        self._connection.execute(query.values(tiers=product.tiers))

    def _ask(self, query: Select[Any]) -> list[Product]:
        return [_to_product(row) for row in self._connection.execute(query).mappings()]


class OrderRows:
    """What customers bought."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, order: Order) -> bool:
        """Insert an order; False where one with its reference is there."""
        values = {each.name: getattr(order, each.name) for each in fields(order)}
        values |= {"reference": order.reference or None, "metadata": dict(order.metadata)}
        try:
            with self._connection.begin_nested():
                self._connection.execute(insert(ORDERS).values(values))
        except IntegrityError:
            return False
        return True

    def find(self, order_id: str) -> Order | None:
        """Return an order, or None."""
        return next(iter(self._ask(select(ORDERS).where(ORDERS.c.id == order_id))), None)

    def locked(self, order_id: str) -> Order | None:
        """Return an order that no other transaction locks until this one is over, or None."""
        query = select(ORDERS).where(ORDERS.c.id == order_id).with_for_update()
        return next(iter(self._ask(query)), None)

    def of_reference(self, reference: str) -> Order | None:
        """Return the order of a shop's own number, or None."""
        return next(iter(self._ask(select(ORDERS).where(ORDERS.c.reference == reference))), None)

    def search(
        self,
        *,
        search: str,
        product: str,
        state: OrderState | None,
        at: datetime,
        limit: int,
        after: str,
    ) -> list[Order]:
        """Return orders, the newest first; empty text and None ask for all."""
        query = select(ORDERS).order_by(ORDERS.c.number.desc()).limit(limit)
        if search:
            columns = ORDERS.c.customer, ORDERS.c.reference, ORDERS.c.id
            query = query.where(or_(*(at.icontains(search, autoescape=True) for at in columns)))
        if product:
            query = query.where(ORDERS.c.product == product)
        if state is not None:
            cancelled = ORDERS.c.cancelled_at.is_not(None)
            end = ORDERS.c.expires_at
            wanted = {"cancelled": cancelled, "expired": ~cancelled & (end <= at)}
            query = query.where(wanted.get(state, ~cancelled & (end.is_(None) | (end > at))))
        if after:
            last = select(ORDERS.c.number).where(ORDERS.c.id == after)
            number = there(self._connection.execute(last).scalar_one_or_none(), f"order {after}")
            query = query.where(ORDERS.c.number < number)
        return self._ask(query)

    def cancel(self, order_id: str, at: datetime, reason: str) -> None:
        """Note that an order is cancelled."""
        query = update(ORDERS).where(ORDERS.c.id == order_id)
        self._connection.execute(query.values(cancelled_at=at, reason=reason))

    def _ask(self, query: Select[Any]) -> list[Order]:
        return [_to_order(row) for row in self._connection.execute(query).mappings()]


class SeatRows:
    """Who sits where, and sat, and with which licenses."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_order(self, order_id: str) -> list[Seat]:
        """Return all seats of an order, the newest last."""
        query = select(SEATS).where(SEATS.c.order_id == order_id).order_by(SEATS.c.number)
        return self._ask(query)

    def of_recipient(self, order_id: str, recipient: str) -> list[Seat]:
        """Return the seats of an order that a customer's key has now."""
        query = select(SEATS).where(SEATS.c.order_id == order_id, SEATS.c.free_at.is_(None))
        return self._ask(query.where(SEATS.c.recipient == recipient).order_by(SEATS.c.number))

    def in_use(self, order_id: str, at: datetime) -> tuple[int, datetime | None]:
        """Return how many seats of an order are not free, and when the next one is, if it is known.

        The order is locked, or the number may have changed already.
        """
        weight = case((SEATS.c.leases > 1, SEATS.c.leases), else_=1)
        query = select(func.coalesce(func.sum(weight), 0), func.min(SEATS.c.free_at))
        query = query.where(SEATS.c.order_id == order_id)
        held = or_(SEATS.c.free_at.is_(None), SEATS.c.free_at > at)
        count, free_at = self._connection.execute(query.where(held)).one()
        return int(count), free_at

    def find(self, seat_id: str) -> Seat | None:
        """Return a seat, or None."""
        return next(iter(self._ask(select(SEATS).where(SEATS.c.id == seat_id))), None)

    def of_license(self, license_id: str) -> Seat | None:
        """Return the seat that a license is of, or None."""
        query = select(SEATS).join(ACTIVATIONS, ACTIVATIONS.c.seat_id == SEATS.c.id)
        found = self._ask(query.where(ACTIVATIONS.c.license_id == license_id))
        return found[0] if found else None

    def answered(self, request_key: str, nonce: str) -> tuple[Seat, str] | None:
        """Return the seat and the license that a request was answered with, or None."""
        query = select(ACTIVATIONS.c.license_id)
        query = query.where(ACTIVATIONS.c.request_key == request_key, ACTIVATIONS.c.nonce == nonce)
        license_id = self._connection.execute(query).scalar_one_or_none()
        seat = None if license_id is None else self.of_license(license_id)
        return None if seat is None else (seat, str(license_id))

    def add(self, seat: Seat) -> None:
        """Insert a seat."""
        self._connection.execute(insert(SEATS).values(_seat_values(seat)))

    def change(self, seat: Seat) -> None:
        """Replace a seat."""
        replace = update(SEATS).where(SEATS.c.id == seat.id)
        self._connection.execute(replace.values(_seat_values(seat)))

    def activate(self, seat: Seat, request_key: str | None, nonce: str | None) -> None:
        """Note that the newest license of a seat is its, and which request it answers."""
        new = insert(ACTIVATIONS).values(license_id=seat.license_id, seat_id=seat.id)
        new = new.values(order_id=seat.order_id, request_key=request_key, nonce=nonce)
        self._connection.execute(new)

    def activations(self, since: datetime, until: datetime, product: str) -> dict[date, int]:
        """Return how many seats were taken on each day; an empty text asks for all products."""
        day = type_coerce(SEATS.c.taken_at, BigInteger).op("/")(literal_column(str(_DAY)))
        query = select(day, func.count()).group_by(day).order_by(day)
        query = query.where(SEATS.c.taken_at >= since, SEATS.c.taken_at < until)
        if product:
            query = query.join(ORDERS, ORDERS.c.id == SEATS.c.order_id)
            query = query.where(ORDERS.c.product == product)
        rows = self._connection.execute(query)
        return {time_of(number * _DAY).date(): count for number, count in rows}

    def _ask(self, query: Select[Any]) -> list[Seat]:
        return [_to_seat(row) for row in self._connection.execute(query).mappings()]


def _values(row: RowMapping, *others: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("number", *others)}


def _seat_values(seat: Seat) -> dict[str, Any]:
    values = {each.name: getattr(seat, each.name) for each in fields(seat)}
    return values | {"device": None if seat.device is None else seat.device.fingerprint}


def _to_product(row: RowMapping) -> Product:
    values = _values(row, "signed_by", "wrapped_to")
    try:
        return Product(**values | {"tiers": tuple(Tier(*tier) for tier in values["tiers"])})
    except (TypeError, ValueError):
        raise _malformed(row, "products") from None


def _to_order(row: RowMapping) -> Order:
    values = _values(row)
    try:
        metadata: Mapping[str, str] = FrozenMapping(values["metadata"])
        values |= {"features": tuple(values["features"]), "metadata": metadata}
        return Order(**values | {"reference": values["reference"] or ""})
    except (TypeError, ValueError):
        raise _malformed(row, "orders") from None


def _to_seat(row: RowMapping) -> Seat:
    values = _values(row)
    try:
        if values["device"] is not None:
            parts = tuple((str(kind), str(digest)) for kind, digest in values["device"])
            values["device"] = Device(parts)
        return Seat(**values)
    except (TypeError, ValueError):
        raise _malformed(row, "seats") from None


def _malformed(row: RowMapping, what: str) -> LedgerError:
    return LedgerError(f"row {row['number']} of the ledger's {what} is malformed")
