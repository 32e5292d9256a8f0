"""The ledger in SQLite files, and what it refuses before it asks a database."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import subprocess
import sys
import traceback
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ledger_behavior import NOW, LedgerBehavior, entry_of, run
from nnguard._selling import database
from nnguard._selling.ledger import Ledger
from nnguard.errors import LedgerError
from selling_behavior import SellingBehavior


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


class TestSQLite(LedgerBehavior):
    pass


class TestSelling(SellingBehavior):
    pass


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_path_and_a_url_open_the_same_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ä ledger? 100%.db"
    with Ledger(path) as ledger:
        ledger.add(entry_of(1))
    with Ledger(str(path)) as ledger:
        assert ledger.entries() == [entry_of(1)]
    path.rename(tmp_path / "plain.db")
    with Ledger(f"sqlite:///{tmp_path / 'plain.db'}") as ledger:
        assert ledger.entries() == [entry_of(1)]


def test_only_the_owner_can_read_a_new_file(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        for name in (tmp_path / "a.db", f"sqlite:///{tmp_path / 'b.db'}"):
            with Ledger(name) as ledger:
                ledger.add(entry_of(1))
    finally:
        os.umask(old)
    assert [mode_of(path) for path in sorted(tmp_path.iterdir())] == [0o600, 0o600]


def test_the_mode_of_a_file_that_exists_stays(tmp_path: Path) -> None:
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.add(entry_of(1))
    (tmp_path / "a.db").chmod(0o640)
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.add(entry_of(2))
    assert mode_of(tmp_path / "a.db") == 0o640


def test_a_large_license_was_on_the_disk_when_its_process_died(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Ledger(path) as ledger:
        ledger.add(entry_of(1))
    before = path.stat().st_size
    run("die_adding", f"sqlite:///{path}")
    assert path.stat().st_size > before
    assert path.with_name("a.db-journal").exists()
    with Ledger(path) as ledger:
        assert ledger.entries() == [entry_of(1)]
    assert path.stat().st_size == before


def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"Call Example Inc.\n" * 100)
    with pytest.raises(LedgerError, match="not a database") as caught:
        Ledger(path)
    assert str(path) in caught.value.hint
    assert path.read_bytes() == b"Call Example Inc.\n" * 100


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Ledger(tmp_path)


def test_a_missing_folder_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Ledger(tmp_path / "missing" / "ledger.db")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Ledger(tmp_path / "file" / "ledger.db")


@pytest.mark.parametrize("place", ["", ":memory:", "sqlite://", "sqlite:///:memory:"])
def test_memory_is_no_place_for_a_ledger(place: str) -> None:
    with pytest.raises(LedgerError, match="memory"):
        Ledger(place)


def test_a_ledger_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.add(entry_of(1))
    before = (tmp_path / "a.db").read_bytes()
    with Ledger(f"sqlite:///file:{tmp_path / 'a.db'}?mode=ro&uri=true") as ledger:
        assert ledger.entries() == [entry_of(1)]
        for change in (
            lambda: ledger.add(entry_of(2)),
            lambda: ledger.revoke(entry_of(1).license_id, at=NOW),
            lambda: ledger.keep_content_key("aa", "resnet56", b"wrapped"),
        ):
            with pytest.raises(LedgerError, match="readonly"):
                change()
        assert ledger.entries() == [entry_of(1)]
    assert (tmp_path / "a.db").read_bytes() == before


def test_an_empty_database_that_cannot_be_written_stays_empty(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    with Ledger(f"sqlite:///file:{tmp_path / 'a.db'}?mode=ro&uri=true") as ledger:
        assert ledger.entries() == []
        with pytest.raises(LedgerError, match="readonly"):
            ledger.add(entry_of(1))
    assert (tmp_path / "a.db").read_bytes() == b""


@pytest.mark.parametrize("prefix", ["", "sqlite:///"])
def test_a_ledger_in_which_nothing_is_written_is_no_file(tmp_path: Path, prefix: str) -> None:
    with Ledger(f"{prefix}{tmp_path / 'a.db'}") as ledger:
        assert ledger.entries() == []
        with pytest.raises(LedgerError, match="no license 5f0c2a91 is in the ledger"):
            ledger.revoke("5f0c2a91", at=NOW)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_added_where_sqlite_cannot_make_its_journal(tmp_path: Path) -> None:
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.add(entry_of(1))
        (tmp_path / "a.db-journal").mkdir()  # stands in the way of root, too
        with pytest.raises(LedgerError, match="fails"):
            ledger.add(entry_of(2))
        (tmp_path / "a.db-journal").rmdir()
        assert ledger.entries() == [entry_of(1)]


def test_who_waits_too_long_for_others_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PATIENCE", 0.05)
    with Ledger(tmp_path / "a.db") as ledger:
        other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked"):
            ledger.add(entry_of(1))
        assert ledger.entries() == []  # readers need not wait
        other.execute("ROLLBACK")
        other.close()
        ledger.add(entry_of(1))
        assert ledger.entries() == [entry_of(1)]


def test_opening_a_ledger_again_does_not_end_the_turn_of_who_writes(tmp_path: Path) -> None:
    """Whoever closes a file gives up all locks on it that the process has (POSIX)."""
    path = tmp_path / "a.db"
    with Ledger(path) as ledger:
        ledger.add(entry_of(1))
    program = (
        "import sqlite3, sys\n"
        "other = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
        "try: other.execute('BEGIN IMMEDIATE')\n"
        "except sqlite3.OperationalError as error: sys.exit(str(error))\n"
    )
    database_ = database.Database(path)
    with database_.transaction(writes=True), Ledger(path) as again:
        assert again.entries() == [entry_of(1)]
        done = subprocess.run(
            [sys.executable, "-c", program, path],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "locked" in done.stderr
    database_.close()


def test_a_ledger_beside_other_tables_leaves_them_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "a.db")
    with other:
        other.execute("CREATE TABLE licenses (name TEXT)")
        other.execute("INSERT INTO licenses VALUES ('driving')")
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.add(entry_of(1))
    assert other.execute("SELECT * FROM licenses").fetchall() == [("driving",)]
    other.close()


def test_a_closed_ledger_is_closed(tmp_path: Path) -> None:
    with Ledger(tmp_path / "a.db") as ledger:
        pass
    with pytest.raises(ValueError, match="closed"):
        ledger.entries()
    ledger.close()


def test_the_ledger_shows_where_it_is(tmp_path: Path) -> None:
    with Ledger(tmp_path / "a.db") as ledger:
        assert repr(ledger) == f"<nnguard.licensing.Ledger sqlite:///{tmp_path / 'a.db'}>"


def test_a_log_of_statements_shows_no_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sqlalchemy")
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.add(entry_of(1))
        ledger.keep_content_key("c0ffee", "resnet56", b"wrapped")
    assert "INSERT INTO nnguard_licenses" in caplog.text
    for value in ("Example Inc.", "BEGIN NNGUARD", "wrapped'"):
        assert value not in caplog.text


@pytest.mark.parametrize("password", ["SE@CRET", "SE@CR/ET", "SE@CR?ET", "SE@CR:ET", "SE@CR@ET"])
def test_a_password_that_is_not_quoted_is_not_repeated(password: str) -> None:
    url = f"postgresql+psycopg://desk:{password}@127.0.0.1:1/ledger"
    with pytest.raises(LedgerError, match="malformed") as caught:
        Ledger(url)
    assert "%40" in caught.value.hint
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert not any(part in shown for part in ("SE@", "CR", "ET@"))


@pytest.mark.parametrize("url", ["postgresql://desk:SECRET@host:SECRET/x", "://desk:SECRET@host/x"])
def test_a_malformed_url_is_not_repeated(url: str) -> None:
    with pytest.raises(LedgerError, match="malformed") as caught:
        Ledger(url)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value)) + caught.value.hint


def test_an_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(LedgerError, match="filing"):
        Ledger("filing+cabinet://desk:SECRET@cellar/drawer")


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_a_missing_driver_is_told_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    url = f"{scheme}://desk:SECRET@host/ledger"
    with pytest.raises(ImportError, match=r'pip install "nnguard\[postgresql\]"') as caught:
        Ledger(url)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_without_sqlalchemy_only_the_ledger_is_missing(tmp_path: Path) -> None:
    program = (
        "import sys, inspect; sys.modules['sqlalchemy'] = None; import nnguard.licensing;"
        "from nnguard.licensing import *; inspect.getmembers(nnguard.licensing);"
        "print(Issuer, Terms()); Ledger('licenses.db')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert "Terms(" in done.stdout
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == 'ImportError: the ledger needs SQLAlchemy: pip install "nnguard[ledger]"'
    assert list(tmp_path.iterdir()) == []


def test_times_become_utc_and_whole_seconds() -> None:
    tokyo = timezone(timedelta(hours=9))
    entry = entry_of(1, issued_at=datetime(2026, 1, 1, 8, 0, 0, 999_999, tokyo))
    assert entry.issued_at == datetime(2025, 12, 31, 23, 0, 0, tzinfo=timezone.utc)
    assert entry.issued_at.tzinfo is timezone.utc


@pytest.mark.parametrize(
    "changes",
    [
        {"license_id": "abcdef0"},
        {"license_id": "abcdefgh"},
        {"license_id": "ABCDEF01"},
        {"license_id": "abcdef01\n"},
        {"license_id": "a" * 129},
        {"recipient": ""},
        {"stream": "ab cd"},
        {"content_key_id": "%"},
        {"customer": "Example\0Inc."},
        {"product": "\udcff"},
        {"armored": "\ud83d"},
        {"issued_at": datetime(2026, 1, 1)},
        {"expires_at": datetime(2026, 1, 1)},
    ],
    ids=repr,
)
def test_an_entry_that_not_every_database_can_hold_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        entry_of(1, **changes)


@pytest.mark.parametrize(
    "changes",
    [{"customer": None}, {"license_id": b"abcdef01"}, {"issued_at": None}, {"not_before": 5}],
    ids=repr,
)
def test_an_entry_of_wrong_types_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(changes))):
        entry_of(1, **changes)


def test_arguments_are_checked_like_entries(tmp_path: Path) -> None:
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.add(entry_of(1))
        for call in (
            lambda: ledger.revoke(entry_of(1).license_id, at=datetime(2026, 1, 1)),
            lambda: ledger.revoke(entry_of(1).license_id, at=NOW, reason="\0"),
            lambda: ledger.entries(customer="\0"),
            lambda: ledger.entries(product="\udcff"),
            lambda: ledger.keep_content_key("key", "resnet56", b""),
            lambda: ledger.wrapped_content_key("key"),
        ):
            with pytest.raises(ValueError, match=r"U\+0000|time zone|hexadecimal"):
                call()
        assert ledger.entries() == [entry_of(1)]


def test_json_holds_all_but_the_license_file() -> None:
    entry = entry_of(1, expires_at=None, revoked_at=NOW, reason="refunded")
    assert json.loads(json.dumps(entry.to_json())) == {
        "license_id": f"{1:032x}",
        "product": "resnet56",
        "customer": "Example Inc.",
        "recipient": "0123456789abcdef",
        "tier": "professional",
        "stream": "5e" * 32,
        "content_key_id": "c0ffee00",
        "issued_at": "2026-11-05T12:30:59+00:00",
        "not_before": "2026-11-05T12:30:59+00:00",
        "expires_at": None,
        "revoked_at": "2026-11-05T12:30:59+00:00",
        "reason": "refunded",
    }
    assert "BEGIN" not in repr(entry)


def test_file_behind_a_link_is_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("real.db")
    before = os.umask(0o022)
    try:
        with Ledger(tmp_path / "link.db") as ledger:
            ledger.add(entry_of(1))
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "real.db") == 0o600


@pytest.mark.parametrize("versions", [[], ["text"], [None], [1.5], [1, 2], [b"1"]])
def test_version_that_is_none(tmp_path: Path, versions: list[Any]) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        ledger.add(entry_of(1))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("drop table nnguard_ledger")
        connection.execute("create table nnguard_ledger (version)")
        connection.executemany("insert into nnguard_ledger values (?)", [(v,) for v in versions])
    with pytest.raises(LedgerError, match="does not say which version it has"):
        Ledger(path)


def test_time_that_there_is_not(tmp_path: Path) -> None:
    far = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
    with Ledger(tmp_path / "ledger.db") as ledger, pytest.raises(ValueError, match="too far out"):
        ledger.revoke("a" * 32, at=far)
