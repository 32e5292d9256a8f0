"""One exchange with a license server: small texts over TLS, and errors as it names them.

Law: whatever a server does, an exchange ends after half a minute, with a small answer or with an
ActivationError.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import threading
import urllib.error
import urllib.request
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from nnguard._base.texts import visible
from nnguard.errors import ActivationError, ActivationReason, ArgumentError

__all__ = ["check_server", "delete", "get", "is_loopback", "post"]

_DEADLINE = 30.0
_LARGEST = 1 << 20
_LONGEST_TEXT = 500
_PROBLEM = "application/problem+json"  # RFC 9457
_TEXT = "text/plain; charset=utf-8"
_AGENT = "nnguard"


def check_server(server: str) -> str:
    """Return the URL of a server without a slash at its end.

    Args:
        server: `https://...`; or `http://...` of this machine, where nobody listens in between.

    Raises:
        ArgumentError: It is something else.
    """
    try:
        parts = urlsplit(server)
        safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
        whole = bool(parts.hostname) and parts.port != 0 and server.isprintable()
    except ValueError:
        raise ArgumentError(f"{_cut(server)!r} is not a URL") from None
    if parts.scheme == "http" and not safe:
        raise ArgumentError(
            "a license server is asked over TLS, so that nobody reads the order's code on the way",
            hint=f"https://{_cut(parts.netloc)}, if it is there",
        )
    if not safe or not whole or parts.username is not None or parts.query or parts.fragment:
        raise ArgumentError(
            f"{_cut(server)!r} is not the URL of a license server",
            hint="such as https://licenses.example.com",
        )
    return server.rstrip("/")


def post(
    server: str,
    path: str,
    text: str,
    *,
    media_type: str = _TEXT,
    token: str = "",
    deadline: float = _DEADLINE,
) -> str:
    """Send a text to a server, and return its answer; see `get`.

    Args:
        server: Its URL.
        path: Where to, from a slash on.
        text: What to send.
        media_type: What it is.
        token: Says who asks, if the server wants to know.
        deadline: Seconds until it has to have answered.
    """
    return _exchange(_Question(server, path, text.encode(), "POST", token, media_type), deadline)


def delete(server: str, path: str, *, token: str = "", deadline: float = _DEADLINE) -> None:
    """Have something deleted; see `post`."""
    _exchange(_Question(server, path, None, "DELETE", token), deadline)


def get(server: str, path: str) -> str:
    """Return a text of a server.

    Args:
        server: Its URL.
        path: Of what is asked for, from a slash on.

    Raises:
        ActivationError: As the server says; or it cannot be reached.
        ArgumentError: It is not a URL that is asked.
    """
    return _exchange(_Question(server, path, None, "GET"), _DEADLINE)


def is_loopback(host: str | None) -> bool:
    """Tell whether a host is this machine, by its address or the one name that means it."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Whoever answers for another server is not believed."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Question(NamedTuple):
    server: str
    path: str
    body: bytes | None
    method: str
    token: str = ""
    media_type: str = _TEXT


def _exchange(question: _Question, deadline: float) -> str:
    """Ask in a thread, which is left alone where it takes too long: names resolve without limit."""
    server = question.server
    check_server(server)
    answer: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(_ask(question, deadline))
        except Exception as error:
            answer.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answer.get(timeout=deadline)
    except queue.Empty:
        raise _unreachable(server, f"no answer in {deadline:.0f} s") from None
    match found:
        case str():
            return found
        case urllib.error.HTTPError():
            raise _refused(server, found) from None
        case urllib.error.URLError(reason=reason):
            raise _unreachable(server, _why(reason)) from None
        case OSError() | http.client.HTTPException() | ValueError():
            raise _unreachable(server, _why(found)) from None
    raise found


def _ask(question: _Question, deadline: float) -> str:
    url, body = check_server(question.server) + question.path, question.body
    headers = {"Accept": f"text/plain, {_PROBLEM}", "User-Agent": _AGENT}
    if body is not None:
        headers["Content-Type"] = question.media_type
    if question.token:
        headers["Authorization"] = f"Bearer {question.token}"
    asked = urllib.request.Request(  # noqa: S310 - see check_server
        url, data=body, headers=headers, method=question.method
    )
    opener = urllib.request.build_opener(_NoRedirects)
    if asked.type == "http":  # to this machine, and so not through others
        opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=deadline) as response:
            return _text(response)
    except urllib.error.HTTPError as error:
        with error:
            error.msg = _text(error)  # while it is open
        raise


def _text(response: Any) -> str:
    data = response.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise http.client.HTTPException(f"an answer of more than {_LARGEST:,} bytes")
    if getattr(response, "length", None):
        raise http.client.HTTPException("the answer was cut short")
    text: str = data.decode("utf-8", "replace")
    return text


def _refused(server: str, error: urllib.error.HTTPError) -> ActivationError:
    """Return the error that a server answered with."""
    problem: Any = {}
    if error.headers.get_content_type() == _PROBLEM:
        with contextlib.suppress(ValueError, RecursionError):
            problem = json.loads(error.msg)
    if not isinstance(problem, dict):
        problem = {}
    message, hint = (_cut(str(problem.get(name) or "")) for name in ("detail", "hint"))
    if error.code == 429 or error.code >= 500:
        return _unreachable(server, message or f"it answered {error.code}", hint)
    try:
        reason = ActivationReason(problem.get("reason"))
    except ValueError:
        reason = ActivationReason.REFUSED
    if not problem:
        message = f"{_host(server)} answered {error.code}, and not as a license server does"
        hint = "see whether the URL is right"
    return ActivationError(message or f"the server answered {error.code}", reason=reason, hint=hint)


def _why(error: str | BaseException) -> str:
    """Return what went wrong, without the number that Python puts before it."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return said[:1].lower() + said[1:] if said[1:2].islower() else said


def _unreachable(server: str, why: str, hint: str = "") -> ActivationError:
    return ActivationError(
        f"{_host(server)} cannot be reached, or does not answer: {_cut(why)}",
        reason=ActivationReason.UNREACHABLE,
        hint=hint or "try again later; or send the request by mail (nnguard license request)",
    )


def _host(server: str) -> str:
    return _cut(urlsplit(server).netloc)


def _cut(text: str) -> str:
    """Return a text of others in one line, so much of it as fits into a message."""
    shown = visible(text[: _LONGEST_TEXT + 1])
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[: _LONGEST_TEXT - 3]}..."
