"""Telling others what happened: the ledger's events, as Standard Webhooks has it.

A thread takes events that are due, one instance each, and posts them to every URL, signed. What
fails is tried again, later each time, for three days. A receiver may hear of an event twice; its id
is then the same.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import random
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx

from nnguard._server.logs import tell
from nnguard._server.metrics import Metrics
from nnguard._server.settings import ServerSettings
from nnguard.errors import NnguardError
from nnguard.licensing import Issuer

if TYPE_CHECKING:
    from nnguard._selling.outbox import Event

__all__ = ["Teller", "secret_of", "signature_of", "wait_before"]

_LABEL = b"nnguard webhooks v1\0"
_GIVE_UP = timedelta(days=3)
_FIRST, _FACTOR, _LONGEST = 5.0, 3.0, 6 * 3600.0
_JITTER = 0.2
_TIMEOUT = 10.0
_HOLD = timedelta(minutes=10)
_HURRY = 240.0
"""Seconds after which no more of a batch is told: long before others may take it."""

_PAUSE = 2.0
"""Seconds between two looks at the ledger."""

_BATCH = 20
_HOUR = 3600.0


def secret_of(issuer: Issuer, url: str) -> str:
    """Return the secret that a receiver checks signatures with: each has its own."""
    key = issuer.secret(_LABEL)
    derived = hmac.new(key, url.encode(), hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(derived).decode()


def signature_of(secret: str, event_id: str, seconds: int, body: bytes) -> str:
    """Return the value of `webhook-signature`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{event_id}.{seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def wait_before(attempt: int, chance: float) -> timedelta:
    """Return how long to wait before trying again.

    Args:
        attempt: How often it was tried.
        chance: From 0 to 1: moves it by a fifth, so that not all come at once.
    """
    seconds = min(_FIRST * _FACTOR ** min(attempt - 1, 20), _LONGEST)
    return timedelta(seconds=seconds * (1 + _JITTER * (2 * chance - 1)))


class Teller:
    """Tells others what happened, from a thread of its own between `start` and `stop`.

    Where nobody wants to hear of them, events are given up when they are three days old. What the
    ledger need not remember any more is forgotten, each hour.

    Args:
        issuer: Its ledger has the events.
        settings: Who is told.
        metrics: Counts what was told.
        pause: Seconds between two looks at the ledger.
    """

    def __init__(
        self, issuer: Issuer, settings: ServerSettings, metrics: Metrics, pause: float = _PAUSE
    ) -> None:
        self._issuer, self._settings, self._metrics = issuer, settings, metrics
        self._pause = pause
        self._secrets = {url: secret_of(issuer, url) for url in settings.webhook_urls}
        self._client = httpx.Client(timeout=_TIMEOUT, trust_env=False, follow_redirects=False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nnguard-webhooks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being told right now."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(2 * _TIMEOUT)
        self._client.close()

    def tell_due(self) -> int:
        """Tell of what is due; return how many events there were.

        Raises:
            LedgerError: The ledger cannot be reached.
        """
        due = self._settings.now() if self._secrets else self._settings.now() - _GIVE_UP
        events = self._issuer.ledger.take_events(_BATCH, at=due, hold=_HOLD)
        begun = time.monotonic()
        for event in events:
            if self._ended.is_set() or time.monotonic() - begun > _HURRY:
                break  # it is due again when the hold ends
            self._tell(event)
        return len(events)

    def _run(self) -> None:
        tidied = -_HOUR
        while not self._ended.is_set():
            found = 0
            try:
                found = self.tell_due()
                if time.monotonic() - tidied >= _HOUR:
                    self._issuer.ledger.tidy(at=self._settings.now())
                    tidied = time.monotonic()
            except NnguardError as error:
                tell("webhooks-stopped", level=logging.WARNING, why=str(error))
            except Exception as error:
                tell("webhooks-stopped", level=logging.ERROR, bug=error)
            pause = self._pause if self._secrets else _HOUR
            self._ended.wait(0 if found == _BATCH else pause)

    def _tell(self, event: Event) -> None:
        heard = set(event.delivered_to)
        try:
            body = self._body(event)
        except NnguardError as error:  # of an order that is not there anymore
            tell("webhook-malformed", level=logging.ERROR, id=event.id, why=str(error))
            self._issuer.ledger.event_delivered(event.id, at=self._settings.now())
            return
        for url in self._secrets:
            if url not in heard and self._post(url, event, body):
                heard.add(url)
        if heard >= self._secrets.keys():
            self._issuer.ledger.event_delivered(event.id, at=self._settings.now())
            return
        retry_at = self._settings.now() + wait_before(event.attempts, random.random())  # noqa: S311
        if retry_at > event.at + _GIVE_UP:
            self._note("given up", event, "", level=logging.ERROR)
            self._issuer.ledger.event_delivered(event.id, at=self._settings.now())
            return
        self._issuer.ledger.event_failed(
            event.id, retry_at=retry_at, delivered_to=tuple(sorted(heard))
        )

    def _body(self, event: Event) -> bytes:
        data: dict[str, Any] = dict(event.data)
        if event.kind == "order.created":
            data["code"] = self._issuer.code(str(data["order"]))
            data["url"] = self._settings.public_url
        message = {"type": event.kind, "timestamp": event.at.isoformat(), "data": data}
        return json.dumps(message, separators=(",", ":")).encode()

    def _post(self, url: str, event: Event, body: bytes) -> bool:
        seconds = int(self._settings.clock())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "nnguard",
            "webhook-id": event.id,
            "webhook-timestamp": str(seconds),
            "webhook-signature": signature_of(self._secrets[url], event.id, seconds, body),
        }
        try:
            with self._client.stream("POST", url, content=body, headers=headers) as response:
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._note("failed", event, url, why=type(error).__name__, level=logging.WARNING)
            return False
        if response.is_success:
            self._note("delivered", event, url)
            return True
        self._note("failed", event, url, status=status, level=logging.WARNING)
        return False

    def _note(
        self, outcome: str, event: Event, url: str, *, level: int = logging.INFO, **known: Any
    ) -> None:
        self._metrics.webhooks.labels(outcome).inc()
        place = httpx.URL(url).host if url else ""
        known = {"outcome": outcome, "id": event.id, "kind": event.kind, "host": place, **known}
        tell("webhook", level=level, attempt=event.attempts, **known)
