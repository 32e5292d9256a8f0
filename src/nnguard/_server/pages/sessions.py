"""Who is at a page: signed cookies, and the tokens that forms carry.

A cookie says which order or which API token its holder showed, and until when; nothing is kept on
the server. Whether the token was revoked since is asked anew by whoever reads the cookie.

Law: a form is acted on only when it comes from a page that this server gave to the same browser.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta

from fastapi import Request
from fastapi.responses import Response
from itsdangerous import BadData, URLSafeTimedSerializer

from nnguard._base.http import is_loopback

__all__ = ["Sessions", "Visit"]

_LABEL = b"nnguard forms v1\0"


@dataclass(frozen=True, slots=True)
class Visit:
    """A browser at some page.

    Attributes:
        id: What its forms are bound to.
        subject: Id of the order or the API token that it showed; empty before that.
    """

    id: str
    subject: str = ""


class Sessions:
    """Visits of one kind: at orders, or at the desk.

    Args:
        secret: Signs cookies and forms.
        name: Of the kind.
        lasts: For how long a cookie holds.
    """

    def __init__(self, secret: bytes, name: str, lasts: timedelta) -> None:
        self._secret = secret
        self._name = name
        self._lasts = lasts // timedelta(seconds=1)
        self._signer = URLSafeTimedSerializer(
            secret,
            salt=f"nnguard {name} visits v1",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def visit(self, request: Request) -> Visit:
        """Return who is there: known by a cookie that holds, or somebody new."""
        text = request.cookies.get(self._cookie(request, self._name), "")
        try:
            visit_id, subject = self._signer.loads(text, max_age=self._lasts)
            return Visit(visit_id, subject)
        except (BadData, ValueError, TypeError):
            before = request.cookies.get(self._cookie(request, f"{self._name}-form"), "")
            known = re.fullmatch(r"[\w-]{43}", before, flags=re.ASCII)
            return Visit(before if known else secrets.token_urlsafe(32))

    def welcome(self, request: Request, response: Response, visit: Visit) -> None:
        """Let a browser that showed nothing yet send the form of a response."""
        self._set(request, response, f"{self._name}-form", visit.id)

    def open(self, request: Request, response: Response, subject: str) -> None:
        """Remember what a browser showed, under an id that was never used before."""
        text = self._signer.dumps([secrets.token_urlsafe(32), subject])
        self._set(request, response, self._name, text)

    def close(self, request: Request, response: Response) -> None:
        """Forget it."""
        self._set(request, response, self._name, "", lasts=0)

    def token(self, visit: Visit) -> str:
        """Return what the forms of a visit carry."""
        message = _LABEL + f"{self._name}\0{visit.subject}\0{visit.id}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()

    def allows(self, request: Request, visit: Visit, token: str) -> bool:
        """Say whether a form that was sent is one of ours.

        Browsers tell where a form was (Fetch Metadata); those that do not must have the token, too.
        """
        own = request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        return own and hmac.compare_digest(token.encode(), self.token(visit).encode())

    def _set(
        self, request: Request, response: Response, name: str, text: str, lasts: int | None = None
    ) -> None:
        response.set_cookie(
            self._cookie(request, name),
            text,
            max_age=self._lasts if lasts is None else lasts,
            secure=_secure(request),
            httponly=True,
            samesite="strict",
        )

    def _cookie(self, request: Request, name: str) -> str:
        """Return a cookie's name: other hosts and unencrypted pages cannot set `__Host-`."""
        return f"__Host-nnguard-{name}" if _secure(request) else f"nnguard-{name}"


def _secure(request: Request) -> bool:
    """Say whether cookies are for TLS only: always, unless somebody tries the server at home.

    Behind a proxy that ends TLS the scheme is http here, and the host is the public one.
    """
    return request.url.scheme == "https" or not is_loopback(request.url.hostname)
