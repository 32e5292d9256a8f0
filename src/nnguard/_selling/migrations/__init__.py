"""Migrations of a ledger's tables, which Alembic runs. Needs Alembic.

Revision 1 are the tables of the first nnguard, which made them without Alembic; a ledger of that
kind counts as one of revision 1.
"""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect

__all__ = ["REVISION", "VERSION_TABLE", "migrate"]

REVISION = 2
"""Number of the newest revision, which is the version in `nnguard_ledger`, too."""

VERSION_TABLE = "nnguard_ledger_revision"
"""Alembic's own table; the ledger may share its database with others that use Alembic."""

_ALEMBIC = threading.Lock()
"""Held while Alembic works, which keeps what it works on in modules."""


def migrate(connection: Connection, revision: int = REVISION) -> None:
    """Bring the tables to a revision, in the transaction of this connection."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    tables = inspect(connection)
    with _ALEMBIC:
        if tables.has_table("nnguard_ledger") and not tables.has_table(VERSION_TABLE):
            command.stamp(config, "1")
        command.upgrade(config, str(revision))
