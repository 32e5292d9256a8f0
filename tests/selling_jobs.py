"""What processes do in tests of orders: they race, and are killed. It imports little."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import sqlalchemy

from nnguard.errors import ActivationError
from nnguard.licensing import Issuer, Ledger, Request


def outcome(issuer: Issuer, request: Request, at: datetime | None = None) -> str:
    """Answer a request; return "license", or why there is none."""
    try:
        issuer.answer(request, at=at)
    except ActivationError as error:
        return error.reason.value
    return "license"


@contextlib.contextmanager
def answering(url: str, folder: str) -> Iterator[tuple[Issuer, list[Request]]]:
    requests = [Request.load(path) for path in sorted(Path(folder).glob("*.request"))]
    with Ledger(url) as ledger:
        yield Issuer(ledger, f"{folder}/vendor.key", f"{folder}/ledger.key"), requests


def race(url: str, folder: str) -> None:
    """Answer requests as soon as told to; say how many got a license."""
    with answering(url, folder) as (issuer, requests):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        outcomes = [outcome(issuer, request) for request in requests]
        sys.stdout.write(f"{outcomes.count('license')}\n")


def die(url: str, folder: str, statement: str) -> None:
    """Be killed in the middle of an answer: before a statement, or at the commit."""
    left = int(statement)

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    with answering(url, folder) as (issuer, (request,)), issuer.ledger.writing():
        if left:
            sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)
        else:
            _die_at_commit()
        issuer.answer(request)


def die_upgrading(url: str) -> None:
    _die_at_commit()
    Ledger.upgrade(url)


def _die_at_commit() -> None:
    def die(connection: sqlalchemy.Connection) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", die)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
