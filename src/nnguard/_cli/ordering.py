"""`order`: what customers bought, and the seats that their machines take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import click

from nnguard._cli.commands import Group, Options, command
from nnguard._cli.options import argument, option, read_duration, read_time, under
from nnguard._cli.output import Outcome, table
from nnguard._cli.selling import LEDGER_KEY, ledger_option, load_ledger_key, open_ledger
from nnguard.licensing import Issuer, Ledger, Order, Receipt, Seat

__all__ = [
    "run_cancel",
    "run_give_back",
    "run_list",
    "run_new",
    "run_order",
    "run_seats",
    "run_show",
    "run_take_back",
]

_STATES = ("open", "expired", "cancelled")
_LIST = "sign the revocation list anew: nnguard license revoke -o FILE.revoked"


def read_end(text: str) -> datetime | timedelta:
    """Read when an order ends: a time, or so long after the order was made."""
    return read_duration(text) if re.fullmatch(r"[\d.]+[hdw]", text, re.ASCII) else read_time(text)


run_order = Group(
    "order",
    {
        "Orders": {"new": "ordering", "list": "ordering", "show": "ordering", "cancel": "ordering"},
        "Their seats": {"seats": "ordering", "take-back": "ordering", "give-back": "ordering"},
    },
    """
  nnguard order new digits --seats 2 --customer Ada --ledger licenses.db --ledger-key desk.key
  nnguard order list --ledger licenses.db
  nnguard order seats 5f0c2a91d3b84e67 --ledger licenses.db
  nnguard order take-back 0c9d1f7e35a24b68 --reason "broken" --ledger licenses.db
""",
    help="Write down orders, and see to their seats.\n\nAn order is a product for so many "
    "machines. Its code lets a customer's machines take its seats: by the license server, or by "
    "nnguard license issue --request.",
)


@command(
    argument("PRODUCT", "Name of the product (nnguard product list).", type=str),
    ledger_option(),
    LEDGER_KEY,
    option("--seats N", "On how many machines it may run at once.", default=1),
    option("--customer TEXT", "Who buys."),
    option("--reference TEXT", "Your own number; the same one again gives the same order."),
    under(
        "Terms",
        option("--tier NAME", "Which tier; by default, the highest."),
        option("--lasts DURATION", "Licenses hold so long, and are refreshed; or to the end."),
        option("--expires TIME", "The order's end, such as 365d; by default, none.", read=read_end),
        option("--grace DURATION", "Licenses hold so long after they expired.", default="0d"),
        option("--cooling DURATION", "A seat that you take back is free so late.", default="7d"),
        option("--warn-only", "Licenses that hold no longer only warn."),
        option("--fingerprints", "Machines have to tell their fingerprints: a name will not do."),
        option("--feature NAME...", "May be repeated."),
        option("--meta KEY=VALUE...", "Anything else; may be repeated."),
    ),
)
def run_new(options: Options) -> Outcome:
    r"""Write down an order, and print its code.

    The customer needs the code to get licenses; whoever has it can take the order's seats.

    Examples:
      nnguard order new digits --seats 2 --customer Ada --ledger licenses.db --ledger-key desk.key
      nnguard order new digits --lasts 30d --grace 14d --expires 365d --ledger licenses.db \
          --ledger-key desk.key
    """
    with open_ledger(options.ledger) as ledger:
        issuer = _issuer(ledger, options, needs_key=True)
        order = issuer.order(
            options.product,
            seats=options.seats,
            customer=options.customer,
            reference=options.reference,
            tier=options.tier,
            lasts=options.lasts,
            grace=options.grace,
            expires_at=options.expires,
            cooling=options.cooling,
            warn_only=options.warn_only,
            named_devices=not options.fingerprints,
            features=options.feature,
            metadata=dict(options.meta),
        )
        code = issuer.code(order)
    return Outcome(
        {"order": order.to_json(), "code": code},
        [f"Order {order.id} of {order.product}, for {_seats(order.seats)}", f"Code: {code}"],
    )


@command(
    ledger_option(),
    option("--search TEXT", "Only those with this in customer, reference or id."),
    option("--product NAME", "Only those of this product."),
    option("--state STATE", f"Only those that are {' or '.join(_STATES)}."),
    option("--after ID", "Go on after this order."),
    option("--limit N", "At most so many.", default=100),
)
def run_list(options: Options) -> Outcome:
    """List orders, the newest first.

    Examples:
      nnguard order list --ledger licenses.db
      nnguard order list --search Ada --state open --ledger licenses.db --json
    """
    if options.state not in ("", *_STATES):
        raise click.UsageError(f"--state: one of {', '.join(_STATES)}")
    if options.limit < 1:
        raise click.UsageError("--limit: 1 or more")
    with open_ledger(options.ledger) as ledger:
        orders = ledger.orders(
            search=options.search,
            product=options.product,
            state=options.state or None,
            limit=options.limit,
            after=options.after,
        )

    def lines() -> Iterator[str]:
        headings = ("order", "made", "customer", "product", "seats", "reference", "state")
        rows = (
            (
                each.id,
                _day(each.created_at),
                each.customer or "-",
                each.product,
                str(each.seats),
                each.reference or "-",
                each.state,
            )
            for each in orders
        )
        yield from table(headings, rows, "seats") if orders else ["There is no such order."]

    return Outcome({"orders": [each.to_json() for each in orders]}, lines())


@command(
    argument("ORDER", "Id of the order, or its code.", type=str),
    ledger_option(),
    LEDGER_KEY,
)
def run_show(options: Options) -> Outcome:
    """Show an order, and its code where you give the ledger's key.

    Examples:
      nnguard order show 5f0c2a91d3b84e67 --ledger licenses.db --ledger-key desk.key
    """
    with open_ledger(options.ledger) as ledger:
        issuer = _issuer(ledger, options)
        order = _order(ledger, issuer, options.order)
        code = "" if options.ledger_key is None else issuer.code(order)
        used = sum(seat.weight for seat in ledger.seats(order.id) if seat.state != "free")
    values = {"order": order.to_json(), "seats_used": used}
    return Outcome(values | ({"code": code} if code else {}), _lines(order, used, code))


@command(
    argument("ORDER", "Id of the order.", type=str),
    option("--reason TEXT", "For the ledger, and for whoever asks why."),
    ledger_option(),
)
def run_cancel(options: Options) -> Outcome:
    """Cancel an order, and revoke its licenses.

    Deployments learn it from the revocation list, which has to be signed anew.

    Examples:
      nnguard order cancel 5f0c2a91d3b84e67 --reason refund --ledger licenses.db
    """
    with open_ledger(options.ledger) as ledger:
        order = Issuer(ledger, None).cancel(options.order, reason=options.reason)
    return Outcome({"order": order.to_json()}, [f"Cancelled order {order.id}; {_LIST}"])


@command(
    argument("ORDER", "Id of the order.", type=str),
    ledger_option(),
)
def run_seats(options: Options) -> Outcome:
    """List the seats of an order, those that were given back as well.

    Examples:
      nnguard order seats 5f0c2a91d3b84e67 --ledger licenses.db
    """
    with open_ledger(options.ledger) as ledger:
        order = ledger.order(options.order)
        seats = ledger.seats(order.id)

    def lines() -> Iterator[str]:
        headings = ("seat", "taken", "machine", "license", "until", "state")
        rows = (
            (
                each.id,
                _day(each.taken_at),
                _machine(each),
                each.license_id,
                "-" if each.expires_at is None else _day(each.expires_at),
                each.state,
            )
            for each in seats
        )
        yield from table(headings, rows) if seats else ["No seat was ever taken."]

    return Outcome({"seats": [each.to_json() for each in seats]}, lines())


@command(
    argument("SEAT", "Id of the seat (nnguard order seats).", type=str),
    option("--reason TEXT", "For the ledger."),
    ledger_option(),
)
def run_take_back(options: Options) -> Outcome:
    """Take a seat back from a machine that is dead.

    Its licenses are revoked at once; the seat is free when the order's cooling period is over, so
    that nobody moves a license from machine to machine by telling you that one died.

    Examples:
      nnguard order take-back 0c9d1f7e35a24b68 --reason "broken" --ledger licenses.db
    """
    with open_ledger(options.ledger) as ledger:
        seat = Issuer(ledger, None).take_back(options.seat, reason=options.reason)
    free = "" if seat.free_at is None else seat.free_at.isoformat()
    return Outcome(
        {"seat": seat.to_json()}, [f"Took seat {seat.id} back; free at {free}", f"Next, {_LIST}"]
    )


@command(
    argument("RECEIPT", "What the customer's nnguard license release wrote."),
    ledger_option(),
)
def run_give_back(options: Options) -> Outcome:
    """Free the seat that a customer gives back.

    Examples:
      nnguard order give-back ada.receipt --ledger licenses.db
    """
    receipt = Receipt.load(options.receipt)
    with open_ledger(options.ledger) as ledger:
        seat = Issuer(ledger, None).give_back(receipt)
    return Outcome({"seat": seat.to_json()}, [f"Seat {seat.id} is free", f"Next, {_LIST}"])


def _issuer(ledger: Ledger, options: Options, *, needs_key: bool = False) -> Issuer:
    if needs_key and options.ledger_key is None:
        raise click.UsageError("--ledger-key is missing: the order's code comes from it")
    return Issuer(ledger, None, load_ledger_key(options))


def _order(ledger: Ledger, issuer: Issuer, text: str) -> Order:
    """Return the order of an id or a code."""
    is_id = re.fullmatch("[0-9a-f]{16}", text) is not None
    return ledger.order(text) if is_id else issuer.order_of(text)


def _lines(order: Order, used: int, code: str) -> Iterator[str]:
    yield f"Order {order.id}, {order.state}"
    facts = [
        ("code", code),
        ("reference", order.reference),
        ("product", f"{order.product}, {order.tier}"),
        ("customer", order.customer),
        ("seats", f"{used} of {order.seats} taken"),
        ("made", order.created_at.isoformat()),
        ("licenses", "" if order.lasts is None else f"hold {_span(order.lasts)}"),
        ("ends", "" if order.expires_at is None else order.expires_at.isoformat()),
        ("grace", _span(order.grace) if order.grace else ""),
        ("cooling", _span(order.cooling)),
        ("features", ", ".join(order.features)),
        ("cancelled", "" if order.cancelled_at is None else order.cancelled_at.isoformat()),
        ("reason", order.reason),
    ]
    facts += [("meta", f"{key}={value}") for key, value in order.metadata.items()]
    for label, value in facts:
        if value:
            yield f"  {label:<11} {value}"


def _machine(seat: Seat) -> str:
    if seat.leases:
        return f"relay of {seat.leases}"
    if seat.name:
        return seat.name
    if seat.device is None:
        return "-"
    return "named" if seat.device.is_named else f"{len(seat.device.fingerprint)} components"


def _seats(count: int) -> str:
    return "1 seat" if count == 1 else f"{count} seats"


def _day(time: datetime) -> str:
    return str(time.date())


def _span(span: object) -> str:
    return str(span).removesuffix(", 0:00:00")
