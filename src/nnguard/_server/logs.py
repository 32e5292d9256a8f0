"""Logs: a line of JSON for each event, on standard error.

Law: no line holds what somebody sent as a body, a query or a credential. Of an exception that is a
bug there are the kind and the places in the code, never its message, which may quote values.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import datetime, timezone
from typing import Any, TextIO

from starlette.requests import Request

__all__ = ["LOG", "log_to", "note", "tell"]

LOG = logging.getLogger("nnguard.server")

_SERVERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "httpx", "httpcore")
_EVENT = "nnguard_event"


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        known: dict[str, Any] = getattr(record, _EVENT, None) or {
            "event": "message",
            "logger": record.name,
            "message": record.getMessage(),
        }
        when = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **known,
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= _of_bug(record.exc_info[1])
        return json.dumps(line)


def tell(event: str, /, *, level: int = logging.INFO, **known: Any) -> None:
    """Log an event, with what is known of it; a bug as `error`."""
    error = known.pop("bug", None)
    LOG.log(level, event, exc_info=error, extra={_EVENT: {"event": event, **known}})


def note(request: Request, **known: str) -> None:
    """Note what is known of a request, for its line in the log."""
    request.scope.setdefault("nnguard.known", {}).update(known)


def log_to(file: TextIO | None = None) -> logging.Handler:
    """Write the lines of this server, and the warnings of what it is made of, to a file.

    Args:
        file: Standard error, if not given.
    """
    handler = logging.StreamHandler(file or sys.stderr)
    handler.setFormatter(_Lines())
    for name in _SERVERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True  # it would log queries
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.INFO)
    return handler


def _of_bug(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    kinds = [type(each).__name__ for each in _causes(error)]
    return {
        "error": " < ".join(kinds),
        "at": [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
    }


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def _short(path: str) -> str:
    """Return the end of a path: the package and what follows."""
    return path.rpartition("site-packages/")[2].rpartition("/src/")[2]
