"""The vendor's signed files, for anybody, as caches want them: the revocation list, the policy.

The list is signed anew when it is out of date, or an hour old; the ledger keeps it, so that all
instances hand out the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fastapi import Request, Response

from nnguard._base.files import read_file
from nnguard._base.times import seconds_of
from nnguard._server.problems import Problem
from nnguard.licensing import Issuer, RevocationList

__all__ = ["file_response", "policy", "revocations"]

_NAME = "revocations"
_AGE = timedelta(hours=1)
_FRESH = 60
"""Seconds for which a cache need not ask again: so long a revocation may stay unheard of."""

_LARGEST_POLICY = 1 << 20


@dataclass(frozen=True, slots=True)
class Published:
    """A file to hand out.

    Attributes:
        text: What is in it.
        media_type: What it is.
    """

    text: str
    media_type: str = "text/plain; charset=utf-8"

    @property
    def tag(self) -> str:
        """Its entity tag: other bytes have another."""
        return f'"{hashlib.sha256(self.text.encode()).hexdigest()[:32]}"'


def revocations(issuer: Issuer, now: datetime) -> Published:
    """Return the list of all licenses that are revoked.

    Raises:
        LedgerError: The ledger cannot be read or written.
    """
    kept = issuer.ledger.document(_NAME)
    if kept is not None:
        text, _ = kept
        issued_at, count = _known(text)
        age = abs(seconds_of(now) - seconds_of(issued_at))
        if age < _AGE.total_seconds() and count == issuer.ledger.count_revoked():
            return Published(text)
    text = str(issuer.revocation_list(at=now))
    issuer.ledger.keep_document(_NAME, text, at=now)
    return Published(text)


@functools.lru_cache(maxsize=2)
def _known(text: str) -> tuple[datetime, int]:
    """Return when a list was signed, and how many licenses it has; a long one takes long."""
    found = RevocationList.from_text(text)
    return found.issued_at, len(found.hashes)


def policy(path: Path | None) -> Published:
    """Return the vendor's trust policy.

    Raises:
        Problem: There is none.
    """
    if path is None:
        raise Problem(404, "this server has no policy", hint="nnguard serve --policy names one")
    try:
        text = read_file(path, _LARGEST_POLICY).decode()
    except (OSError, UnicodeDecodeError):
        raise Problem(503, "the policy cannot be read", headers={"Retry-After": "60"}) from None
    return Published(text)


def file_response(request: Request, file: Published) -> Response:
    """Return the response with a file, or the one that says that the caller has it."""
    headers = {"ETag": file.tag, "Cache-Control": f"public, max-age={_FRESH}"}
    known = [tag.strip().removeprefix("W/") for tag in _listed(request, "if-none-match")]
    if file.tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(file.text, media_type=file.media_type, headers=headers)


def _listed(request: Request, name: str) -> list[str]:
    return ",".join(request.headers.getlist(name)).split(",")
