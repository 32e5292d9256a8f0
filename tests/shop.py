"""A shop for tests of pages: a product, its ledger, a server that runs, and people who visit it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from typing import Any

import httpx

import nnguard
from license_server import Running, running
from nnguard._server.app import make_app
from nnguard._server.settings import ServerSettings
from nnguard.licensing import Device, Issuer, Ledger, Order, Request
from sales import Sale, sell

__all__ = ["ROLES", "Shop", "Visitor", "opened"]

ROLES = ("shop", "support", "auditor")
PRODUCT = "small"


@dataclass
class Visitor:
    """Somebody with a browser that knows forms, cookies and nothing else.

    Attributes:
        client: Talks to the server.
        page: What was seen last.
    """

    client: httpx.Client
    page: httpx.Response = field(init=False)

    def get(self, path: str) -> httpx.Response:
        """Go to a page."""
        self.page = self.client.get(path)
        return self.page

    def send(self, path: str, *, file: str | bytes = "", **values: str) -> httpx.Response:
        """Send a form of the page that was seen last; go where that leads."""
        files = {"file": ("some.file", file)} if file else None
        data = {"token": self.token(), **values}
        self.page = self.client.post(path, data=data, files=files)
        return self.page

    def token(self) -> str:
        """Return what the forms of the page carry."""
        return re.findall('name="token" value="([0-9a-f]+)"', self.page.text)[0]

    @property
    def text(self) -> str:
        """What the page says, without its tags."""
        without = re.sub("<[^>]+>", " ", self.page.text)
        return " ".join(unescape(without).split())


@dataclass
class Shop:
    """A product that is sold by a server.

    Attributes:
        sale: The product, and a customer.
        issuer: Signs licenses.
        server: Runs.
        path: Of the ledger.
        secrets: Text of an API token for each role.
    """

    sale: Sale
    issuer: Issuer
    server: Running
    path: str
    secrets: dict[str, str] = field(repr=False)

    @property
    def ledger(self) -> Ledger:
        return self.issuer.ledger

    def order(self, **choices: Any) -> Order:
        """Sell."""
        return self.issuer.order(PRODUCT, **{"customer": "Ada", **choices})

    def request(
        self, order: Order, device: str = "", identity: nnguard.Identity | None = None
    ) -> Request:
        """Ask for a license, for a machine that has a name."""
        product = self.ledger.product(order.product)
        return Request.make(
            identity or nnguard.Identity.generate(),
            stream=product.stream,
            lock=product.lock,
            order=self.issuer.code(order),
            device=Device.named(device) if device else None,
        )

    @contextlib.contextmanager
    def visitor(self, **headers: str) -> Iterator[Visitor]:
        """Let somebody come."""
        with httpx.Client(
            base_url=self.server.url, follow_redirects=True, headers=headers, verify=False
        ) as client:
            yield Visitor(client)

    @contextlib.contextmanager
    def customer(self, order: Order) -> Iterator[Visitor]:
        """Let somebody come who has the code of an order."""
        with self.visitor() as visitor:
            visitor.get("/")
            visitor.send("/", code=self.issuer.code(order))
            yield visitor

    @contextlib.contextmanager
    def seller(self, role: str) -> Iterator[Visitor]:
        """Let somebody log in at the desk."""
        with self.visitor() as visitor:
            visitor.get("/desk/login")
            visitor.send("/desk/login", secret=self.secrets[role])
            yield visitor


@contextlib.contextmanager
def opened(url: str, **settings: Any) -> Iterator[Shop]:
    """Open a shop, with its ledger at some URL or path."""
    vendor = nnguard.SigningKey.generate()
    sale = sell(vendor, sign_trial=True)
    generous = {"rate": "100000/minute", "token_rate": "100000/minute", "guess_rate": "1000/minute"}
    with Ledger(url) as ledger:
        issuer = Issuer(ledger, vendor, nnguard.Identity.generate())
        issuer.add_product(sale.locked.trial, sale.locked.content_key, name=PRODUCT)
        secrets = {role: ledger.new_token(role, f"{role} of tests")[1] for role in ROLES}
        app = make_app(issuer, ServerSettings(**{**generous, **settings}))
        with running(app) as server:
            yield Shop(sale, issuer, server, url, secrets)
