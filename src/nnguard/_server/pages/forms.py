"""What forms bring: files within their limits, dates and numbers as people write them."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone

from fastapi import UploadFile

from nnguard._server.pages.problems import Problem, ProblemError

__all__ = ["days_of", "end_of", "number_of", "pasted_text_of", "text_of"]

_KINDS = {
    "NNGUARD LICENSE REQUEST": "license request",
    "NNGUARD LICENSE RECEIPT": "receipt",
    "NNGUARD LICENSE": "license",
    "PUBLIC KEY": "public key",
}
"""What people may take for one another, by the label of its armor."""


_LARGEST_FILE = 1 << 16
_LATEST_YEAR = 9000
_MOST = 1_000_000


def text_of(upload: UploadFile | None, field: str, label: str) -> str:
    """Return the text of a small file in armor that was uploaded.

    Args:
        upload: What came.
        field: The form's field that it came in.
        label: What the armor should say.
    """
    data = b"" if upload is None else upload.file.read(_LARGEST_FILE + 1)
    if not data:
        raise ProblemError(Problem("Choose a file first", field=field))
    if len(data) > _LARGEST_FILE:
        text = "Files of this kind have a few kilobytes. Did you choose the right one?"
        raise ProblemError(Problem("This file is too large", text, 413, field))
    return pasted_text_of(data.decode("utf-8", "replace"), field, label)


def pasted_text_of(text: str, field: str, label: str) -> str:
    """Return text in armor, if it is of the kind that was asked for."""
    found = re.search("-----BEGIN ([A-Z0-9 ]+)-----", text)
    if found and "PRIVATE KEY" in found[1]:
        advice = "Keep it to yourself: nobody else needs it. It was not kept here."
        raise ProblemError(Problem("This is your private key", advice, 422, field))
    if not found or found[1] != label:
        title = f"This is not a {_KINDS[label]}"
        other = _KINDS.get(found[1] if found else "")
        told = f"It is a {other}. " if other else ""
        advice = f"{told}Look for a text that begins with “-----BEGIN {label}-----”."
        raise ProblemError(Problem(title, advice, 422, field))
    return text


def number_of(text: str, field: str, *, least: int = 0, most: int = _MOST) -> int:
    """Return a whole number."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= len(str(most))):
        raise ProblemError(Problem("Write a whole number", field=field))
    number = int(digits)
    if not least <= number <= most:
        raise ProblemError(Problem(f"Write a number from {least} to {most:,}", field=field))
    return number


def days_of(text: str, field: str, *, least: int = 0) -> timedelta:
    """Return a number of days."""
    return timedelta(days=number_of(text, field, least=least))


def end_of(text: str, field: str) -> datetime | None:
    """Return the end of a day in UTC; None where nothing was written."""
    if not text.strip():
        return None
    try:
        day = date.fromisoformat(text.strip())
    except ValueError:
        raise ProblemError(Problem("Write a date such as 2027-12-31", field=field)) from None
    if day.year > _LATEST_YEAR:
        raise ProblemError(Problem("This date lies too far out", field=field))
    return datetime.combine(day, time(), timezone.utc) + timedelta(days=1)
