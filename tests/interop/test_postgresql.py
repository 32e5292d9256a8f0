"""The ledger in PostgreSQL: a real server, which these tests start and stop."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ledger_behavior import NAMES, NOW, LedgerBehavior, entry_of
from nnguard._selling.ledger import Ledger
from nnguard.errors import LedgerError

psycopg = pytest.importorskip(
    "psycopg", reason="psycopg, or its libpq, is not installed", exc_type=ImportError
)

PASSWORD = "p@ss/w:ord %41 geheim"
PATIENCE = 60


def find_programs() -> Path | None:
    """Return the folder of the newest server: beside the initdb on PATH, or where Debian has it."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(debian, key=lambda path: path.parent.name.zfill(4), reverse=True)
    return next((path for path in folders if (path / "postgres").exists()), None)


PROGRAMS = find_programs()

pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="no PostgreSQL server is installed")


def account() -> dict[str, Any]:
    """Return under whom to run the server, which refuses to be root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise AssertionError("root needs an account to run PostgreSQL under: postgres or nobody")


def reachable_folder() -> str:
    """Return a folder for temporary files that every account can reach, with a short name."""
    for name in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        path = Path(name).resolve()
        if len(name) < 60 and all(
            each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents)
        ):
            return name
    raise AssertionError("no folder for temporary files that every account can reach")


@dataclass
class Server:
    """A server that listens on a socket in its own folder, so that no port is ever taken.

    Attributes:
        folder: Of the data, the socket and the log.
        password: Of the user `vendor`, who may do everything.
    """

    folder: Path
    password: str

    def url(self, database: str, *, user: str = "vendor", password: str | None = None) -> str:
        word = quote(self.password if password is None else password, safe="")
        return f"postgresql+psycopg://{user}:{word}@/{database}?host={self.folder}"

    def connect(self, database: str = "postgres") -> Any:
        return psycopg.connect(
            host=str(self.folder),
            user="vendor",
            password=self.password,
            dbname=database,
            autocommit=True,
        )

    def execute(self, statement: str, database: str = "postgres") -> None:
        with self.connect(database) as connection:
            connection.execute(statement)


@contextlib.contextmanager
def running_server(programs: Path) -> Iterator[Server]:
    who = account()
    folder = Path(tempfile.mkdtemp(prefix="nnguard-pg-", dir=reachable_folder()))
    try:
        (folder / "password").write_text(PASSWORD)
        for path in (folder, folder / "password") if who else ():
            os.chown(path, who["user"], who["group"])
        surroundings = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "Asia/Tokyo"}
        options: dict[str, Any] = {"cwd": folder, "env": surroundings, **who}
        making = [programs / "initdb", "-D", folder / "data", "-U", "vendor", "--no-sync"]
        making += ["-E", "UTF8", "--locale=C", "-A", "scram-sha-256", "--pwfile=password"]
        done = subprocess.run(
            making, capture_output=True, text=True, timeout=PATIENCE, check=False, **options
        )
        assert done.returncode == 0, done.stderr
        serving = [programs / "postgres", "-D", folder / "data", "-k", folder]
        serving += ["-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(serving, stdout=log, stderr=log, **options)
        try:
            server = Server(folder, PASSWORD)
            wait_until_ready(server, process)
            yield server
        finally:
            stop(process)
    finally:
        shutil.rmtree(folder)


def wait_until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            server.connect().close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((server.folder / "log").read_text()) from None
            time.sleep(0.05)
        else:
            return


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)  # ends connections, then the server
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    assert PROGRAMS is not None
    with running_server(PROGRAMS) as running:
        yield running


@pytest.fixture(scope="module")
def make_database(server: Server) -> Callable[..., str]:
    """Make a database; return its name."""
    numbers = itertools.count(1)

    def make(encoding: str = "UTF8") -> str:
        name = f"ledger{next(numbers)}"
        server.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0")
        return name

    return make


@pytest.fixture
def url(server: Server, make_database: Callable[..., str]) -> str:
    return server.url(make_database())


class TestPostgreSQL(LedgerBehavior):
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
