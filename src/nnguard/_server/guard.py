"""What stands in front of every request: limits of bodies; headers, log and metrics of answers.

The body is here before anything is done with the request: nobody holds a thread, or the database,
by sending slowly.

Law: whatever an app raises, the caller gets an answer that says nothing of it, and the log a line.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nnguard._server.logs import tell
from nnguard._server.metrics import HttpMetrics
from nnguard._server.problems import Problem, Respond, problem_of, response_of
from nnguard._server.settings import ServerSettings

__all__ = ["Guard"]

_QUIET = ("/healthz", "/readyz", "/metrics")
"""Asked every few seconds: logged only where they fail."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer that does not say otherwise."""

_DROPPED = 8 << 20
"""Bytes of a body that are read, and dropped, although it is too large: a browser that is still
sending would show no answer."""

_CLOSE = {"Connection": "close"}
_BAD_LENGTH = "Content-Length is not a number"
_TWO_LENGTHS = "a request has Content-Length or Transfer-Encoding, not both"


class Guard:
    """Middleware, outermost of all.

    Args:
        app: What answers.
        settings: Limits, and whether there is TLS.
        metrics: Counts answers.
        respond: Makes the response where something is wrong.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        metrics: HttpMetrics,
        respond: Respond = response_of,
    ) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send, secure=self._settings.is_https)
        start = time.monotonic()
        bug: BaseException | None = None
        try:
            body = await self._read(scope, receive)
            if body is None:
                return  # the caller went away
            await self._app(scope, _replay(body, receive), answer)
        except Exception as error:
            problem = problem_of(error)
            bug = None if error is problem else error
            scope["nnguard.problem"] = (problem, error)
            if not answer.status:
                await self._respond(problem, scope)(scope, receive, answer)
        finally:
            self._note(scope, answer, time.monotonic() - start, bug)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body, all of it; None where the caller went away."""
        most = self._settings.max_body
        headers = Headers(scope=scope)
        told = headers.get("content-length", "0")
        if not (told.isascii() and told.isdigit()):
            raise Problem(400, _BAD_LENGTH, reason="malformed", headers=_CLOSE)
        if "content-length" in headers and "transfer-encoding" in headers:  # RFC 9112, 6.1
            raise Problem(400, _TWO_LENGTHS, reason="malformed", headers=_CLOSE)
        size, asks = int(told[:20]), "expect" in headers
        if size > most and (asks or size > _DROPPED):
            raise self._too_large()
        deadline = time.monotonic() + self._settings.body_seconds
        body, seen = bytearray(), 0
        while True:
            message = await self._next(receive, deadline)
            if message["type"] != "http.request":
                return None
            piece = message.get("body", b"")
            seen += len(piece)
            if seen <= most:
                body += piece
            if seen > max(most, _DROPPED) or (seen > most and not message.get("more_body")):
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(body)

    async def _next(self, receive: Receive, deadline: float) -> Message:
        """Return what comes next of the body."""
        try:
            return await asyncio.wait_for(receive(), max(deadline - time.monotonic(), 0.001))
        except asyncio.TimeoutError:
            detail = f"the body was not there after {self._settings.body_seconds:g} seconds"
            raise Problem(408, detail, headers=_CLOSE) from None

    def _too_large(self) -> Problem:
        detail = f"the body is larger than {self._settings.max_body} bytes"
        return Problem(413, detail, headers=_CLOSE)

    def _note(
        self, scope: Scope, answer: _Answer, seconds: float, bug: BaseException | None
    ) -> None:
        """Count and log an answer."""
        route = getattr(scope.get("route"), "path", "") or "none"
        method = scope["method"] if scope["method"].isalpha() else "other"
        method = method if len(method) <= len("OPTIONS") else "other"
        self._metrics.requests.labels(method, route, str(answer.status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        known: dict[str, Any] = {
            "request": answer.id,
            "method": method,
            "route": route,
            "status": answer.status,
            "seconds": round(seconds, 4),
            "client": (scope.get("client") or ("",))[0],
            **scope.get("nnguard.known", {}),
        }
        level = logging.INFO
        problem, error = scope.get("nnguard.problem", (None, None))
        if problem is not None:
            self._metrics.refusals.labels(problem.reason).inc()
            known["reason"] = problem.reason
            level = logging.WARNING if problem.status < 500 else logging.ERROR
            if problem.status == 503 and bug is None and error is not problem:
                known["why"] = str(error)  # in the words of the database, without its password
        if level > logging.INFO or route not in _QUIET:
            tell("request", level=level, bug=bug, **known)


class _Answer:
    """Sends the answer on, with the headers that all answers have."""

    def __init__(self, scope: Scope, send: Send, *, secure: bool) -> None:
        self.id = secrets.token_hex(8)
        self.status = 0
        self._send = send
        self._secure = secure or scope.get("scheme") == "https"

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-Id"] = self.id
            if self._secure:
                headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        await self._send(message)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body in one piece, and then whatever comes."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message
