"""Pages made of templates, and the headers that all of them have.

Law: what a page shows was escaped; nothing on it runs, loads from elsewhere, or is framed.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nnguard._base.texts import visible

__all__ = ["HEADERS", "asset", "day", "lasting", "moment", "show"]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every page and download."""

_TYPES = {"style.css": "text/css; charset=utf-8", "mark.svg": "image/svg+xml"}
_ASSETS = {
    name: files(__package__).joinpath("assets").joinpath(name).read_bytes() for name in _TYPES
}
_EDITION = hashlib.sha256(b"".join(_ASSETS.values())).hexdigest()[:12]
_UNITS = [
    (timedelta(days=1), "day"),
    (timedelta(hours=1), "hour"),
    (timedelta(minutes=1), "minute"),
]


def show(name: str, request: Request, /, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Make a page.

    Args:
        name: Of the template.
        request: What it answers.
        status: HTTP status.
        values: What the template asks for.
    """
    desk = request.url.path.startswith("/desk")
    text = _TEMPLATES.get_template(name).render(path=request.url.path, desk=desk, **values)
    return HTMLResponse(text, status, HEADERS)


def asset(name: str) -> Response:
    """Answer with a style sheet or a picture, which browsers keep for as long as it is the same."""
    if name not in _ASSETS:
        return Response("there is no such file", 404, HEADERS, "text/plain")
    headers = HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_ASSETS[name], 200, headers, _TYPES[name])


def day(time: datetime) -> Markup:
    """Write a day, such as 5 Nov 2026."""
    return _time(time, f"{time.day} {time:%b %Y}")


def moment(time: datetime) -> Markup:
    """Write a time in UTC, such as 5 Nov 2026, 12:30 UTC."""
    return Markup("<span>{}, {}</span>").format(day(time), _time(time, f"{time:%H:%M} UTC"))


def _time(time: datetime, text: str) -> Markup:
    """Mark a time up; it is not broken into lines."""
    return Markup('<time datetime="{}">{}</time>').format(time.isoformat(), text)


def lasting(length: timedelta) -> str:
    """Write a length of time in its largest whole unit, such as 7 days."""
    for unit, name in _UNITS:
        if length >= unit and not length % unit:
            number = length // unit
            return f"{number} {name}{'s' * (number != 1)}"
    return f"{length // timedelta(seconds=1)} seconds"


_TEMPLATES = Environment(
    loader=PackageLoader(__package__ or ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: visible(value) if type(value) is str else value,
)
_TEMPLATES.filters |= {"day": day, "moment": moment, "lasting": lasting}
_TEMPLATES.globals["edition"] = _EDITION
