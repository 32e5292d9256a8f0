"""The ledger in PostgreSQL: a real server, which the tests start and stop."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from ledger_behavior import NAMES, NOW, LedgerBehavior, entry_of
from nnguard._selling.ledger import Ledger
from nnguard.errors import LedgerError
from postgresql import PASSWORD, Server
from selling_behavior import SellingBehavior


@pytest.fixture
def server(postgresql: Server) -> Server:
    return postgresql


@pytest.fixture
def make_database(server: Server) -> Callable[..., str]:
    return server.make_database


@pytest.fixture
def url(server: Server) -> str:
    return server.fresh_url()


class TestPostgreSQL(LedgerBehavior):
    pass


class TestSelling(SellingBehavior):
    pass


def everything_about(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + getattr(error, "hint", "") + repr(error)


def test_a_wrong_password_is_refused_and_not_repeated(server: Server) -> None:
    url = server.url("postgres", password="WRONG word")
    with pytest.raises(LedgerError, match="authentication failed") as caught:
        Ledger(url)
    assert "vendor:***@" in caught.value.hint
    for secret in ("WRONG", PASSWORD, quote(PASSWORD)):
        assert secret not in everything_about(caught.value)


def test_a_password_in_the_words_of_the_server_is_taken_out(server: Server) -> None:
    server.execute("CREATE USER teller PASSWORD 'SECRET'")
    url = server.url("SECRET", user="teller", password="SECRET")
    with pytest.raises(LedgerError, match=r'"\*\*\*" does not exist') as caught:
        Ledger(url)  # there is no database of that name
    assert "SECRET" not in str(caught.value)


def test_neither_the_ledger_nor_its_logs_show_the_password(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    for library in ("sqlalchemy", "psycopg"):
        caplog.set_level(logging.DEBUG, library)
    with Ledger(url) as ledger:
        ledger.add(entry_of(1))
        shown = repr(ledger)
    assert shown.startswith("<nnguard.licensing.Ledger postgresql+psycopg://vendor:***@/ledger")
    assert "INSERT INTO nnguard_licenses" in caplog.text
    for secret in (PASSWORD, quote(PASSWORD), quote(PASSWORD, safe="")):
        assert secret not in caplog.text + shown


def test_the_short_scheme_means_psycopg(url: str) -> None:
    with Ledger(url.replace("postgresql+psycopg:", "postgresql:")) as ledger:
        ledger.add(entry_of(1))
        assert "postgresql+psycopg:" in repr(ledger)
    with Ledger(url) as ledger:
        assert ledger.entries() == [entry_of(1)]


def test_a_server_that_is_not_there_is_told(server: Server, tmp_path: Path) -> None:
    url = server.url("postgres").replace(str(server.folder), str(tmp_path))
    with pytest.raises(LedgerError, match="connection") as caught:
        Ledger(url)
    assert PASSWORD not in everything_about(caught.value)


def test_a_missing_database_is_told(server: Server) -> None:
    with pytest.raises(LedgerError, match='"nowhere" does not exist'):
        Ledger(server.url("nowhere"))


def test_connections_that_the_server_ended_are_made_again(server: Server, url: str) -> None:
    with Ledger(url) as ledger:
        ledger.add(entry_of(1))
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname LIKE 'ledger%' AND pid <> pg_backend_pid()"
        )
        ledger.add(entry_of(2))
        assert ledger.entries() == [entry_of(1), entry_of(2)]


def test_who_may_only_read_can_read(server: Server, make_database: Callable[..., str]) -> None:
    name = make_database()
    with Ledger(server.url(name)) as ledger:
        ledger.add(entry_of(1))
    server.execute("CREATE USER auditor PASSWORD 'looking'")
    auditors = server.url(name, user="auditor", password="looking")
    with pytest.raises(LedgerError, match="permission denied"):
        Ledger(auditors)
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO auditor", name)
    with Ledger(auditors) as ledger:
        assert ledger.entries() == [entry_of(1)]
        with pytest.raises(LedgerError, match="permission denied"):
            ledger.add(entry_of(2))
        with pytest.raises(LedgerError, match="permission denied"):
            ledger.revoke(entry_of(1).license_id, at=NOW)
        assert ledger.entries() == [entry_of(1)]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "EUC_JP"])
def test_what_the_encoding_of_the_database_holds_comes_back(
    server: Server, make_database: Callable[..., str], encoding: str
) -> None:
    with Ledger(server.url(make_database(encoding))) as ledger:
        ledger.add(entry_of(1, customer="株式会社"))
        assert ledger.entries(customer="株式会社") == [entry_of(1, customer="株式会社")]


def test_what_the_encoding_of_the_database_cannot_hold_is_refused(
    server: Server, make_database: Callable[..., str]
) -> None:
    with Ledger(server.url(make_database("LATIN1"))) as ledger:
        ledger.add(entry_of(1, customer=NAMES[0]))
        with pytest.raises(LedgerError, match="LATIN1"):
            ledger.add(entry_of(2, customer="株式会社"))
        assert ledger.entries() == [entry_of(1, customer=NAMES[0])]
