"""Types of columns: databases differ in times and structures, so they hold numbers and text."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Dialect, Text
from sqlalchemy.types import TypeDecorator

from nnguard._base.times import seconds_of, time_of
from nnguard.errors import LedgerError

__all__ = ["Json", "Seconds", "Span"]


class Seconds(TypeDecorator[datetime]):
    """A time, as seconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return what is kept."""
        return None if value is None else seconds_of(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return what was meant."""
        return None if value is None else _read(time_of, value)


class Span(TypeDecorator[timedelta]):
    """A length of time, as seconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return what is kept."""
        return None if value is None else int(value.total_seconds())

    def process_result_value(self, value: Any, dialect: Dialect) -> timedelta | None:  # noqa: ARG002
        """Return what was meant."""
        return None if value is None else _read(lambda seconds: timedelta(seconds=seconds), value)


class Json(TypeDecorator[Any]):
    """Lists, mappings, texts and numbers, as JSON in ASCII."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        """Return what is kept."""
        return json.dumps(value, sort_keys=True)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """Return what was meant."""
        return _read(json.loads, value)


def _read(read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise LedgerError("a row of the ledger is malformed") from None
