"""What the OpenAPI document says besides what the code of routes tells by itself."""

from __future__ import annotations

from typing import Any

from nnguard._server.models import ProblemOut
from nnguard._server.problems import MEDIA_TYPE

__all__ = ["TITLE", "TOP", "armored", "problems", "published"]

TITLE = "nnguard license server"

TOP = """Orders, licenses and seats of models that are sold as locked trials.

Machines of customers send signed files, and need no token. Shops, support and auditors have API
tokens: `Authorization: Bearer nng_...`. What fails is told as RFC 9457 has it, with a `reason` for
programs. A `POST` with an `Idempotency-Key` may be sent again: it is done once.
"""

_MEANINGS = {
    400: "The request is malformed.",
    401: "There is no API token, or it is not valid.",
    403: "This token, or this key, may not do that.",
    404: "There is no such thing.",
    408: "The body did not come in time.",
    409: "All seats are taken; or the same reference, or key, stands for something else.",
    410: "The order was cancelled or has expired; or the seat was given or taken back.",
    413: "The body is too large.",
    415: "The body is of another type.",
    422: "A value is missing, malformed or out of range.",
    429: "Too many requests.",
    503: "The ledger cannot be reached.",
}
_ALWAYS = (400, 408, 413, 503)
_LABELS = {
    "License": "NNGUARD LICENSE",
    "License request": "NNGUARD LICENSE REQUEST",
    "License receipt": "NNGUARD LICENSE RECEIPT",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses that tell problems of these, and those that any route may have."""
    found: dict[int | str, dict[str, Any]] = {}
    schema = {"$ref": f"#/components/schemas/{ProblemOut.__name__}"}
    for status in sorted({*statuses, *_ALWAYS}):
        content = {MEDIA_TYPE: {"schema": schema}}
        found[status] = {"description": _MEANINGS[status], "content": content}
        if status == 429:
            found[status]["headers"] = {
                "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}
            }
    return found


def armored(what: str, description: str) -> dict[str, Any]:
    """Return what a body in armor is."""
    label = _LABELS[what]
    example = f"-----BEGIN {label}-----\nhEOhAScE...\n-----END {label}-----\n"
    schema = {"type": "string", "title": what, "examples": [example]}
    return {
        "description": description,
        "required": True,
        "content": {"text/plain": {"schema": schema}},
    }


def published() -> dict[int | str, dict[str, Any]]:
    """Return the responses with a signed file."""
    tag = {"description": "Of these bytes.", "schema": {"type": "string"}}
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {
        200: {"description": "The file.", "content": content, "headers": {"ETag": tag}},
        304: {"description": "The caller has it (If-None-Match)."},
    }
