"""A ledger is backed up while it is in use, restored elsewhere, and goes on from there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from instances import Vendor, vendor
from nnguard.errors import ActivationError
from nnguard.licensing import ActivationReason, Issuer, Ledger
from postgresql import PASSWORD, PROGRAMS, Server


def run(program: str, *arguments: object) -> None:
    """Run a program of PostgreSQL."""
    assert PROGRAMS is not None
    found = PROGRAMS / program
    command = [str(found if found.exists() else shutil.which(program)), *map(str, arguments)]
    environment = os.environ | {"PGPASSWORD": PASSWORD, "PGUSER": "vendor"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_of_sqlite(tmp_path: Path) -> None:
    path, copied = tmp_path / "licenses.db", tmp_path / "copy.db"

    def copy() -> str:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copied)) as copy:
            source.backup(copy)
        return str(copied)

    with vendor(str(path), tmp_path) as seller:
        goes_on(seller, copy)


def test_of_postgresql(tmp_path: Path, postgresql: Server) -> None:
    name, other = postgresql.make_database(), postgresql.make_database()

    def copy() -> str:
        where = "--host", postgresql.folder
        run("pg_dump", *where, "--format=custom", f"--file={tmp_path / 'dump'}", name)
        run("pg_restore", *where, "--exit-on-error", f"--dbname={other}", tmp_path / "dump")
        return postgresql.url(other)

    with vendor(postgresql.url(name), tmp_path) as seller:
        goes_on(seller, copy)


def goes_on(seller: Vendor, copy: Callable[[], str]) -> None:
    """Copy a ledger while licenses are issued; the copy has all that was there, and goes on."""
    order = seller.issuer.order("small", seats=3, reference="first")
    requests = seller.requests(order, 4)
    licenses = [seller.issuer.answer(each) for each in requests[:2]]
    seller.issuer.revoke([licenses[1].terms.id])
    before = seller.ledger.check_audit()
    assert before is not None
    ended = threading.Event()

    def sell() -> None:
        while not ended.is_set():
            other = seller.issuer.order("small")
            seller.issuer.answer(seller.requests(other, 1)[0])

    selling = threading.Thread(target=sell)
    selling.start()
    try:
        url = copy()
    finally:
        ended.set()
        selling.join()
    with Ledger(url) as ledger:
        restored = Issuer(ledger, seller.folder / "vendor.key", seller.folder / "desk.key")
        head = ledger.check_audit(expect=before.hash)
        assert head is not None
        seller.ledger.check_audit(expect=head.hash)
        assert ledger.seats(order.id) == seller.ledger.seats(order.id)
        assert ledger.revoked_ids() == [licenses[1].terms.id]
        assert ledger.order_with("first") == order
        assert restored.code(order) == seller.issuer.code(order)
        assert restored.answer(requests[0]) == licenses[0]
        restored.answer(requests[2])
        with pytest.raises(ActivationError) as caught:
            restored.answer(requests[3])
        assert caught.value.reason is ActivationReason.NO_SEATS
        for each in ledger.orders(limit=1000):
            assert len(ledger.licenses(order=each.id)) in (0, 1, 3)
        last = ledger.check_audit()
        assert last is not None
        assert last.number > head.number
