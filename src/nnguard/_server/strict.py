"""Bodies, read in one way only: JSON without names that stand twice, text in UTF-8."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from nnguard._base.strict_json import parse_json
from nnguard._server.problems import Problem

__all__ = ["StrictRoute", "json_of", "text_body"]

_TEXT = ("", "text/plain", "application/octet-stream")


class StrictRoute(APIRoute):
    """A route whose JSON has no name twice, no NaN, and no half surrogate pairs."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers, given requests that read JSON so."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return answer


class _StrictRequest(Request):
    async def json(self) -> Any:
        return json_of(await self.body())


def json_of(body: bytes) -> Any:
    """Read JSON.

    Raises:
        Problem: It is malformed.
    """
    try:
        return parse_json(body)
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8", reason="malformed") from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}", reason="malformed") from None


async def text_body(request: Request) -> str:
    """Return the body as text, for files in armor."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _TEXT:
        hint = "send the file as it is, with Content-Type: text/plain"
        raise Problem(415, "the body is not text/plain", reason="malformed", hint=hint)
    return (await request.body()).decode("utf-8", "replace")
