"""`ledger`: what a ledger itself needs: upgrades, its audit log, and tokens for its server."""

from __future__ import annotations

from collections.abc import Iterator

import click

import nnguard
from nnguard._cli.commands import Group, Options, command
from nnguard._cli.options import option
from nnguard._cli.output import Outcome, table
from nnguard._cli.selling import check_exists, ledger_option, open_ledger

__all__ = ["run_audit", "run_ledger", "run_upgrade"]

run_ledger = Group(
    "ledger",
    {"Sellers": {"upgrade": "ledgers", "audit": "ledgers", "token": "tokens"}},
    """
  nnguard ledger upgrade --ledger licenses.db
  nnguard ledger audit --ledger licenses.db
  nnguard ledger token new --role shop --name web --ledger licenses.db
""",
    help="Upgrade a ledger, check its audit log, and make tokens.\n\nThe ledger is made by the "
    "first command that writes into it.",
)


@command(
    ledger_option(),
)
def run_upgrade(options: Options) -> Outcome:
    """Bring a ledger of an older nnguard up to date.

    Older versions of nnguard cannot open it after that: make a backup first.

    Examples:
      nnguard ledger upgrade --ledger licenses.db
    """
    check_exists(options.ledger)
    upgraded = nnguard.licensing.Ledger.upgrade(options.ledger)
    line = "The ledger is upgraded" if upgraded else "The ledger is up to date"
    return Outcome({"upgraded": upgraded}, [line])


@command(
    ledger_option(),
    option("--expect HASH", "Of an entry that you noted: it has to be in the log."),
    option("--show N", "Print so many of the newest entries.", default=0),
    option("--subject ID", "Only those about this order, seat or license."),
)
def run_audit(options: Options) -> Outcome:
    """Check the audit log.

    Each entry holds the hash of the one before: what was changed, removed or moved is found.
    Whoever can write to the database could make a shorter log, or another one: note the newest hash
    where they cannot write, and give it as --expect the next time.

    Examples:
      nnguard ledger audit --ledger licenses.db
      nnguard ledger audit --show 20 --ledger licenses.db
    """
    if options.show < 0:
        raise click.UsageError("--show: 0 or more")
    with open_ledger(options.ledger) as ledger:
        head = ledger.check_audit(options.expect or None)
        shown = (
            ledger.audit(newest=True, limit=options.show, subject=options.subject)
            if options.show
            else []
        )

    def lines() -> Iterator[str]:
        if head is None:
            yield "The audit log is empty"
            return
        yield f"The audit log is whole: {head.number} entries"
        yield f"Newest: {head.hash}"
        rows = (
            (
                str(each.number),
                each.at.isoformat(),
                each.actor,
                each.action,
                each.subject,
                ", ".join(f"{key}={value}" for key, value in each.details.items() if value),
            )
            for each in shown
        )
        if shown:
            yield from table(("number", "at", "who", "what", "of", "details"), rows, "number")

    values = {
        "entries": 0 if head is None else head.number,
        "head": None if head is None else head.hash,
        "shown": [each.to_json() for each in shown],
    }
    return Outcome(values, lines())
