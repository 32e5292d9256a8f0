"""Databases by URL or file name: transactions, and errors that keep passwords to themselves.

Knows nothing of what is in the tables. Needs SQLAlchemy, of which it uses Core, not the ORM.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from nnguard._base.files import check_regular, open_file
from nnguard.errors import LedgerError

__all__ = ["Database"]

_PATIENCE = 30.0
"""Seconds to wait for other processes that write to the same SQLite file."""

_MAKING = threading.Lock()
"""Held while a file is made: until it was closed again, no thread takes it for one that exists."""

_WRITES = "nnguard_writes"
_EXAMPLE = (
    "an example: postgresql+psycopg://user:password@host/database, where user and password have "
    "@ as %40, / as %2F, : as %3A and % as %25"
)


class Database:
    """A database, and the connections to it.

    Args:
        url_or_path: A text with `://` is a SQLAlchemy URL, all else the path of an SQLite file,
            which is made when something is written, for its owner's eyes only. `postgresql://`
            and `postgres://` mean `postgresql+psycopg://`.

    Raises:
        LedgerError: The URL is malformed, or names nothing that lasts.
        ImportError: The database's driver is not installed.
        OSError: The file cannot be opened, or is not a regular file; or it has no folder.
    """

    def __init__(self, url_or_path: str | os.PathLike[str]) -> None:
        self._url = _to_url(os.fspath(url_or_path))
        self._engine = _make_engine(self._url)
        self._closed = False
        self._file = _file_of(self._url)
        if self._file is not None:
            _check_file(self._file)

    def exists(self) -> bool:
        """Tell whether there is anything to read; a file that nobody has made yet is not there.

        Raises:
            ValueError: The database was closed.
        """
        self._check_open()
        with _MAKING:
            return self._file is None or self._file.exists()

    @contextlib.contextmanager
    def transaction(self, *, writes: bool = False) -> Iterator[Connection]:
        """Give a connection whose changes are there together at the end, or not at all.

        Args:
            writes: Something will be changed. In SQLite one such transaction runs at a time, the
                others wait before they read anything.

        Raises:
            LedgerError: The database fails.
            ValueError: It was closed.
        """
        self._check_open()
        if writes and self._file is not None:
            _make_file(self._file)
        try:
            with self._engine.connect() as connection:
                connection.execution_options(**{_WRITES: writes})
                with connection.begin():
                    yield connection
        except SQLAlchemyError as error:
            raise _translated(error, self._url) from None

    def close(self) -> None:
        """Give the connections back; no transaction can begin anymore."""
        self._closed = True
        self._engine.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the ledger is closed")

    def __str__(self) -> str:
        """Return the URL without its password."""
        return _shown(self._url)


def _to_url(text: str) -> URL:
    """Read a URL or path; of a URL that cannot be read nothing is repeated to the user."""
    try:
        url = make_url(text) if "://" in text else URL.create("sqlite", database=text)
        if url.username is not None and text.count("@") > 1:
            raise ValueError  # what follows the first could be the rest of the password
    except (ArgumentError, ValueError):
        raise LedgerError("the ledger's URL is malformed", hint=_EXAMPLE) from None
    if url.drivername in (
        "postgresql",
        "postgres",
    ):  # psycopg2 for SQLAlchemy 2.0, psycopg from 2.1 on
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise LedgerError("a ledger needs a file: memory forgets it")
    return url


def _make_engine(url: URL) -> Engine:
    options: dict[str, Any] = {}
    isolation: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite":
        options["timeout"] = _PATIENCE
    elif url.drivername in ("postgresql+psycopg", "postgresql+psycopg2"):
        options["client_encoding"] = "utf8"  # whatever the encoding of the database is
    if url.get_backend_name() == "postgresql":  # who waited for a lock sees what is there now
        isolation["isolation_level"] = "READ COMMITTED"
    try:
        engine = create_engine(
            url, connect_args=options, hide_parameters=True, pool_pre_ping=True, **isolation
        )
    except ImportError:
        advice = f"pip install the SQLAlchemy driver for {url.get_backend_name()}"
        if url.drivername == "postgresql+psycopg":
            advice = 'pip install "nnguard[postgresql]"; without libpq "psycopg[binary]", too'
        raise ImportError(f"the driver for {url.drivername} cannot be loaded: {advice}") from None
    except SQLAlchemyError as error:
        raise _translated(error, url) from None
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "begin", _begin)
    return engine


def _file_of(url: URL) -> Path | None:
    """Return the path of an SQLite file; None for servers, and for what SQLite itself names."""
    path = str(url.database)
    is_file = url.get_backend_name() == "sqlite" and not path.startswith("file:")
    return Path(path) if is_file else None


def _check_file(path: Path) -> None:
    """Make sure that there is a regular file, or a folder that it may be made in."""
    try:
        check_regular(path.stat(), path)
    except FileNotFoundError:
        os.scandir(path.resolve().parent).close()


def _make_file(path: Path) -> None:
    """Make the file before SQLite does, which would let everybody read it.

    A file that exists is not opened: on closing it, POSIX takes all locks on it from the process,
    those of other threads that write to it, too.
    """
    with _MAKING:
        if not path.exists():
            os.close(open_file(path, os.O_CREAT))


def _begin(connection: Connection) -> None:
    """Begin; a writer takes its turn now, since SQLite lets no reader become one later."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _translated(error: SQLAlchemyError, url: URL) -> LedgerError:
    """Return an error in the driver's words, without statements, values and the password."""
    words = str(getattr(error, "orig", None) or error).strip()
    message = words.splitlines()[0] if words else type(error).__name__
    if url.password:
        message = message.replace(str(url.password), "***")
    return LedgerError(f"the ledger's database fails: {message}", hint=f"it is {_shown(url)}")


def _shown(url: URL) -> str:
    return url.set(query={}).render_as_string(hide_password=True)
