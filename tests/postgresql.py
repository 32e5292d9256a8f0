"""A real PostgreSQL server, which tests start and stop: the fixture `postgresql` is one for all."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import pytest

psycopg = pytest.importorskip(
    "psycopg", reason="psycopg, or its libpq, is not installed", exc_type=ImportError
)

PASSWORD = "p@ss/w:ord %41 geheim"
PATIENCE = 60
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


def find_programs() -> Path | None:
    """Return the folder of the newest server: beside the initdb on PATH, or where Debian has it."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(debian, key=lambda path: path.parent.name.zfill(4), reverse=True)
    return next((path for path in folders if (path / "postgres").exists()), None)


PROGRAMS = find_programs()


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
        start: Starts it.
    """

    folder: Path
    password: str
    start: Callable[[], subprocess.Popen[bytes]] = field(repr=False)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _shared: str = ""
    _process: subprocess.Popen[bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process = self.start()
        try:
            wait_until_ready(self, self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        stop(self._process)

    def crash(self) -> None:
        """End without a checkpoint, in the middle of transactions, and start again."""
        self._process.send_signal(signal.SIGQUIT)  # immediate mode
        self._process.wait(PATIENCE)
        self._begin()

    def make_database(self, encoding: str = "UTF8") -> str:
        """Make a database; return its name."""
        name = f"ledger{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0")
        return name

    def fresh_url(self) -> str:
        """Empty a database that tests share, which is faster than to make one; return its URL."""
        if not self._shared:
            self._shared = self.make_database()
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", self._shared)
        return self.url(self._shared)

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
def running_server(
    programs: Path | None = None, settings: Mapping[str, str] = NO_SETTINGS
) -> Iterator[Server]:
    """Run a server for a while; tests are skipped where none is installed.

    Args:
        programs: Folder of the server's programs.
        settings: Of the server, in place of those for tests, which are careless and quick.
    """
    programs = programs or PROGRAMS
    if programs is None:
        pytest.skip("no PostgreSQL server is installed")
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
        chosen = {"listen_addresses": "", "shared_buffers": "16MB", "fsync": "off", **settings}
        serving += [text for name, value in chosen.items() for text in ("-c", f"{name}={value}")]

        def start() -> subprocess.Popen[bytes]:
            with (folder / "log").open("ab") as log:
                return subprocess.Popen(serving, stdout=log, stderr=log, **options)

        server = Server(folder, PASSWORD, start)
        try:
            yield server
        finally:
            server.stop()
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
