"""The issuing desk's ledger: who got which license, and when.

    with Ledger("desk.db") as ledger:
        ledger.add(entry)
        ledger.revoke(entry.license_id, at=datetime.now(timezone.utc), reason="refunded")

An SQLite file by default, any database that SQLAlchemy reaches by its URL. The ledger keeps text
and bytes as they are given: it makes no license, checks none, and sees content keys only wrapped.
What a process adds is there whole or not at all, whoever else writes meanwhile.

Law: `ledger.get(entry.license_id) == entry` for whatever was added, in every database.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any

from nnguard._selling.database import Database
from nnguard.errors import LedgerError

try:
    from sqlalchemy import (
        BigInteger,
        Column,
        Connection,
        Integer,
        LargeBinary,
        MetaData,
        RowMapping,
        String,
        Table,
        Text,
        insert,
        inspect,
        select,
        update,
    )
    from sqlalchemy.exc import IntegrityError
except ImportError as error:
    raise ImportError("the ledger needs SQLAlchemy: pip install 'nnguard[desk]'") from error

__all__ = ["Entry", "Ledger"]

_VERSION = 1
_SHORTEST, _LONGEST = 8, 128
"""Digits of a license id: the fewest that look it up, and the most."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TIMES = ("issued_at", "not_before", "expires_at", "revoked_at")
_IDS = ("license_id", "recipient", "stream", "content_key_id")

_TABLES = MetaData()
_SCHEMA = Table(
    "nnguard_ledger", _TABLES, Column("version", Integer, primary_key=True, autoincrement=False)
)
_LICENSES = Table(
    "nnguard_licenses",
    _TABLES,
    Column("number", Integer, primary_key=True),
    Column("license_id", String(_LONGEST), nullable=False, unique=True),
    Column("product", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("recipient", String(_LONGEST), nullable=False),
    Column("tier", Text, nullable=False),
    Column("stream", String(_LONGEST), nullable=False),
    Column("content_key_id", String(_LONGEST), nullable=False),
    Column("issued_at", BigInteger, nullable=False),  # times: seconds since 1970
    Column("not_before", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("armored", Text, nullable=False),
    Column("revoked_at", BigInteger),
    Column("reason", Text, nullable=False),
)
_CONTENT_KEYS = Table(
    "nnguard_content_keys",
    _TABLES,
    Column("content_key_id", String(_LONGEST), primary_key=True),
    Column("product", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A license that was issued.

    Times become UTC and lose what is below a second. Identifiers are hexadecimal, lower case, of
    at most 128 digits. Text is Unicode without U+0000, which not every database can hold.

    Attributes:
        license_id: Of the license; 8 digits or more.
        product: What was sold.
        customer: Who bought it.
        recipient: Identifier of the customer's key.
        tier: Up to which tier the license opens the product.
        stream: Digest of the trial that the license is for.
        content_key_id: Which content key the license holds.
        issued_at: When the license was issued.
        not_before: When it begins.
        expires_at: When it ends, or None.
        armored: The text of the license file; it holds the content key only wrapped to the
            customer.
        revoked_at: When it was revoked, or None.
        reason: Why it was revoked.

    Raises:
        ValueError: A time has no zone or lies too far out, or a text or identifier is not as above.
    """

    license_id: str
    product: str
    customer: str
    recipient: str
    tier: str
    stream: str
    content_key_id: str
    issued_at: datetime
    not_before: datetime
    expires_at: datetime | None
    armored: str = field(repr=False)
    revoked_at: datetime | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in _IDS:
                _check_id(value, each.name)
            elif each.name not in _TIMES:
                _check_text(value, each.name)
            elif value is not None or each.name in ("issued_at", "not_before"):
                object.__setattr__(self, each.name, _to_second(value, each.name))
        if len(self.license_id) < _SHORTEST:
            raise ValueError(f"license_id has fewer than {_SHORTEST} digits")

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON values, without the license file."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        del values["armored"]
        times = {name: values[name].isoformat() for name in _TIMES if values[name] is not None}
        return values | times


class Ledger:
    """A ledger in a database; a context manager that closes it.

    Threads may share a ledger; each process opens its own.

    Args:
        url_or_path: A text with `://` is a SQLAlchemy URL, all else the path of an SQLite file. A
            new file can be read by its owner only. `postgresql://` means `postgresql+psycopg://`.

    Raises:
        LedgerError: The database cannot be opened, or holds a ledger of another version.
        ImportError: The database's driver is not installed.
        OSError: The file cannot be made.
    """

    def __init__(self, url_or_path: str | os.PathLike[str]) -> None:
        self._database = Database(url_or_path)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def add(self, entry: Entry) -> None:
        """Write down a license.

        Raises:
            LedgerError: One with the same id is there already.
        """
        values = {each.name: getattr(entry, each.name) for each in fields(entry)}
        seconds = {name: _to_seconds(values[name]) for name in _TIMES}
        with self._database.transaction(writes=True) as connection:
            try:
                connection.execute(insert(_LICENSES).values(values | seconds))
            except IntegrityError:
                raise LedgerError(f"license {entry.license_id} is in the ledger already") from None

    def get(self, license_id: str) -> Entry:
        """Return the entry of a license.

        Args:
            license_id: The whole id, or its first digits, 8 or more, if no other begins with them.

        Raises:
            LedgerError: There is no such license, or more than one.
        """
        with self._database.transaction() as connection:
            return _find(connection, license_id)

    def entries(
        self, *, customer: str = "", product: str = "", revoked: bool | None = None
    ) -> list[Entry]:
        """Return entries in the order of issue.

        Args:
            customer: Only this customer's; the exact name.
            product: Only this product's; the exact name.
            revoked: Only those that are revoked (True), or are not (False).
        """
        query = select(_LICENSES).order_by(_LICENSES.c.issued_at, _LICENSES.c.number)
        if customer:
            query = query.where(_LICENSES.c.customer == _check_text(customer, "customer"))
        if product:
            query = query.where(_LICENSES.c.product == _check_text(product, "product"))
        if revoked is not None:
            never = _LICENSES.c.revoked_at.is_(None)
            query = query.where(~never if revoked else never)
        with self._database.transaction() as connection:
            return [_to_entry(row) for row in connection.execute(query).mappings()]

    def revoke(self, license_id: str, *, at: datetime, reason: str = "") -> Entry:
        """Note that a license is revoked, and return its entry.

        A license that is revoked already keeps its first time and reason, as the entry says.

        Args:
            license_id: As in `get`.
            at: When.
            reason: Why.

        Raises:
            LedgerError: There is no such license, or more than one.
        """
        seconds = _to_seconds(_to_second(at, "at"))
        values = {"revoked_at": seconds, "reason": _check_text(reason, "reason")}
        with self._database.transaction(writes=True) as connection:
            found = _find(connection, license_id).license_id
            query = update(_LICENSES).where(_LICENSES.c.license_id == found)
            connection.execute(query.where(_LICENSES.c.revoked_at.is_(None)).values(values))
            return _find(connection, found)

    def revoked_ids(self) -> list[str]:
        """Return the ids of all revoked licenses, in the order of revocation."""
        query = select(_LICENSES.c.license_id).where(_LICENSES.c.revoked_at.is_not(None))
        query = query.order_by(_LICENSES.c.revoked_at, _LICENSES.c.number)
        with self._database.transaction() as connection:
            return list(connection.execute(query).scalars())

    def keep_content_key(self, content_key_id: str, product: str, wrapped: bytes) -> None:
        """Keep a content key, which the caller has wrapped to the vendor's own key.

        Keeping the same id again replaces what was kept.
        """
        column = _CONTENT_KEYS.c.content_key_id
        values = {"product": _check_text(product, "product"), "wrapped": bytes(wrapped)}
        replace = update(_CONTENT_KEYS).where(column == _check_id(content_key_id, column.name))
        with self._database.transaction(writes=True) as connection:
            if connection.execute(replace.values(values)).rowcount:
                return
            new = insert(_CONTENT_KEYS).values({column.name: content_key_id, **values})
            try:
                with connection.begin_nested():
                    connection.execute(new)
            except IntegrityError:  # another process has kept it meanwhile
                connection.execute(replace.values(values))

    def wrapped_content_key(self, content_key_id: str) -> bytes | None:
        """Return what `keep_content_key` kept, or None."""
        column = _CONTENT_KEYS.c.content_key_id
        query = select(_CONTENT_KEYS.c.wrapped)
        query = query.where(column == _check_id(content_key_id, column.name))
        with self._database.transaction() as connection:
            wrapped = connection.execute(query).scalar()
        return None if wrapped is None else bytes(wrapped)

    def close(self) -> None:
        """Give the connections back; the ledger can no longer be used."""
        self._database.close()

    def _prepare(self) -> None:
        """Make the tables where there are none, and check the version."""
        with self._database.transaction() as connection:  # needs no right to write
            version = _version(connection)
        if version is None:
            try:
                version = self._create()
            except LedgerError:  # another process makes them too, and was first
                version = self._create()
        if version != _VERSION:
            raise LedgerError(
                f"the ledger has version {version}, this nnguard knows version {_VERSION}",
                hint="another version of nnguard wrote it: use that one, or a newer",
            )

    def _create(self) -> int:
        with self._database.transaction(writes=True) as connection:
            version = _version(connection)
            if version is None:
                _TABLES.create_all(connection)
                connection.execute(insert(_SCHEMA).values(version=_VERSION))
            return _VERSION if version is None else version

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<nnguard.Ledger {self._database}>"


def _version(connection: Connection) -> int | None:
    """Return the version of the tables, None where there are none."""
    if not inspect(connection).has_table(_SCHEMA.name):
        return None
    match connection.execute(select(_SCHEMA.c.version).limit(2)).scalars().all():
        case [int() as version]:
            return version
    raise LedgerError("the ledger does not say which version it has")


def _find(connection: Connection, license_id: str) -> Entry:
    """Return the entry with this id; otherwise the one whose id begins so."""
    digits = license_id.lower()
    if not re.fullmatch(f"[0-9a-f]{{{_SHORTEST},{_LONGEST}}}", digits):
        hint = f"give a license's id, or its first {_SHORTEST} or more hexadecimal digits"
        raise LedgerError(f"no license id: {license_id[:_LONGEST]!r}", hint=hint)
    column = _LICENSES.c.license_id
    for condition in (column == digits, column.startswith(digits)):
        rows = connection.execute(select(_LICENSES).where(condition).limit(2)).mappings().all()
        if len(rows) > 1:
            raise LedgerError(f"more than one license begins with {digits}", hint="give more of it")
        if rows:
            return _to_entry(rows[0])
    raise LedgerError(f"no license {digits} is in the ledger")


def _to_entry(row: RowMapping) -> Entry:
    values = {name: value for name, value in row.items() if name != "number"}
    try:
        return Entry(**values | {name: _from_seconds(values[name]) for name in _TIMES})
    except (TypeError, ValueError, OverflowError):
        raise LedgerError(f"row {row['number']} of the ledger is malformed") from None


def _to_seconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(seconds=1)


def _from_seconds(seconds: int | None) -> datetime | None:
    return None if seconds is None else _EPOCH + timedelta(seconds=seconds)


def _to_second(moment: datetime, name: str) -> datetime:
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} is no datetime")
    if moment.utcoffset() is None:
        raise ValueError(f"{name} has no time zone")
    try:
        return moment.astimezone(timezone.utc).replace(microsecond=0)
    except OverflowError:
        raise ValueError(f"{name} lies too far out") from None


def _check_text(text: str, name: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name} is no text")
    if re.search("[\0\ud800-\udfff]", text):
        raise ValueError(f"{name} holds U+0000 or half a surrogate pair, which databases cannot")
    return text


def _check_id(text: str, name: str) -> str:
    if not re.fullmatch(f"[0-9a-f]{{1,{_LONGEST}}}", _check_text(text, name)):
        raise ValueError(f"{name} is not 1 to {_LONGEST} hexadecimal digits, lower case")
    return text
