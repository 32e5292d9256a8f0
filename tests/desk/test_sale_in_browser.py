"""A sale from payment to refusal: a real browser without scripts, and what people type.

The pictures that it takes on the way are in `out/pages`, for somebody to look at.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe
from playwright.sync_api import expect

import chromium
import nnguard
from nnguard.licensing import Issuer, Ledger
from postgresql import Server

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"
PICTURES = ROOT / "out" / "pages"
NNGUARD = str(Path(sys.executable).with_name("nnguard"))
STRIPE = "whsec_test"
PATIENCE = 60
REVOKED = 9


@dataclass
class Vendor:
    """A vendor whose server runs.

    Attributes:
        folder: Keys, the release, and its trial.
        url: Of the server.
        issuer: Of the same ledger.
        support: API token.
    """

    folder: Path
    url: str
    issuer: Issuer
    support: str

    def hears_of_payment(self, customer: str) -> str:
        """Report as Stripe does that somebody paid; return the code that the shop mails."""
        session = {
            "id": "cs_1",
            "payment_intent": "pi_1",
            "payment_status": "paid",
            "customer_details": {"name": customer},
            "metadata": {
                "nnguard_product": "digits",
                "nnguard_seats": "2",
                "nnguard_lasts_days": "365",
            },
        }
        kind = "checkout.session.completed"
        body = json.dumps({"id": "evt_1", "type": kind, "data": {"object": session}})
        when = int(time.time())
        signature = stripe.WebhookSignature._compute_signature(f"{when}.{body}", STRIPE)
        answer = httpx.post(
            f"{self.url}/v1/webhooks/stripe",
            content=body,
            headers={"Stripe-Signature": f"t={when},v1={signature}"},
        )
        assert answer.status_code == 200, answer.text
        return self.issuer.code(answer.json()["order"])


def run(*arguments: object, folder: Path, code: int = 0) -> str:
    """Run nnguard in a folder; return what it prints."""
    done = subprocess.run(
        [NNGUARD, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def vendor(postgresql: Server, tmp_path: Path) -> Iterator[Vendor]:
    folder = tmp_path / "vendor"
    folder.mkdir()
    key, identity = nnguard.SigningKey.generate(), nnguard.Identity.generate()
    key.save(folder / "vendor.key")
    key.public_key.save(folder / "vendor.pub")
    identity.save(folder / "desk.key")
    (folder / "stripe").write_text(STRIPE)
    release = nnguard.sign(DIGITS / "digits.nnc", key, issuer="acme.ai", name="digits")
    release.save(folder / "release.nnc")
    locked = nnguard.lock(release, trial=DIGITS / "weaker.nnc", signer=key)
    locked.trial.save(folder / "trial.nnc")
    url = postgresql.fresh_url()
    with Ledger(url) as ledger:
        issuer = Issuer(ledger, key, identity)
        issuer.add_product(locked.trial, locked.content_key)
        _, support = ledger.new_token("support", "Grace")
        serve = [NNGUARD, "serve", "--port", "0", "--ledger", url, "--key", "vendor.key"]
        serve += ["--ledger-key", "desk.key", "--stripe-secret-file", "stripe"]
        with subprocess.Popen(serve, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
            try:
                yield Vendor(folder, listening(server), issuer, support)
            finally:
                server.send_signal(signal.SIGTERM)
                _, log = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0
        for secret in (support, issuer.code(ledger.orders()[0])):
            assert secret not in log


def listening(server: subprocess.Popen[str]) -> str:
    """Wait until a server is there; return its URL."""
    assert server.stderr is not None
    for line in server.stderr:
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "listening":
            return str(event["url"])
    raise AssertionError("the server has ended")


def test_sold_unlocked_revoked_refused(
    vendor: Vendor, browser: chromium.Browser, tmp_path: Path
) -> None:
    ada = tmp_path / "ada"
    ada.mkdir()
    for name in ("trial.nnc", "vendor.pub"):
        os.link(vendor.folder / name, ada / name)
    PICTURES.mkdir(parents=True, exist_ok=True)
    code = vendor.hears_of_payment("Ada's Imaging Lab")
    context = browser.new_context(
        base_url=vendor.url,
        java_script_enabled=False,
        viewport={"width": 960, "height": 720},
    )
    context.set_default_timeout(PATIENCE * 1000)

    customer = context.new_page()
    customer.goto("/")
    customer.screenshot(path=PICTURES / "entrance.png")
    customer.get_by_label("Order code").fill(code.lower())
    customer.get_by_role("button", name="Open the order").click()
    expect(customer.get_by_role("heading", level=1)).to_have_text("digits")
    expect(customer.get_by_text("2 of 2 free")).to_be_visible()

    run("license", "request", "trial.nnc", "-o", "ada.request", "--identity", "ada.key",
        "--order", code, folder=ada)  # fmt: skip
    customer.get_by_label("Request file").set_input_files(ada / "ada.request")
    customer.get_by_role("button", name="Get the license").first.click()
    expect(customer.get_by_role("status")).to_contain_text("The license for Machine 1 is ready")
    expect(customer.get_by_text("1 of 2 free")).to_be_visible()
    customer.screenshot(path=PICTURES / "order.png", full_page=True)
    with customer.expect_download() as download:
        customer.get_by_role("link", name="Download the license", exact=True).click()
    assert download.value.suggested_filename == "digits-Machine-1.license"
    download.value.save_as(ada / "ada.license")

    trusting = ["--trust", "vendor.pub"]
    run("unlock", "trial.nnc", "-o", "full.nnc", "--license", "ada.license", "--identity",
        "ada.key", *trusting, folder=ada)  # fmt: skip
    assert (ada / "full.nnc").read_bytes() == (vendor.folder / "release.nnc").read_bytes()
    deployment = ["license", "check", "ada.license", *trusting, "--revocations", "acme.revoked"]
    fetch_revocations(vendor, ada)
    run(*deployment, folder=ada)

    seller = context.new_page()
    seller.goto("/desk")
    seller.get_by_label("API token").fill(vendor.support)
    seller.get_by_role("button", name="Log in").click()
    seller.get_by_label("Customer, reference or id").fill("imaging")
    seller.get_by_role("button", name="Search").click()
    seller.screenshot(path=PICTURES / "desk-orders.png", full_page=True)
    seller.get_by_role("link", name="Ada's Imaging Lab").click()
    seller.screenshot(path=PICTURES / "desk-order.png", full_page=True)
    seller.get_by_role("link", name="Revoke").click()
    seller.get_by_label("Reason").fill("The license was posted in a forum")
    seller.screenshot(path=PICTURES / "desk-revoke.png", full_page=True)
    seller.get_by_role("button", name="Revoke the license").click()
    expect(seller.get_by_role("status")).to_contain_text("The license was revoked")
    expect(seller.get_by_text("The license was posted in a forum")).to_be_visible()
    seller.get_by_role("link", name="Activity").click()
    expect(seller.get_by_text("1 machine was activated in the last 30 days")).to_be_visible()
    seller.screenshot(path=PICTURES / "desk-activity.png", full_page=True)
    context.close()

    fetch_revocations(vendor, ada)
    assert "revoked" in run(*deployment, folder=ada, code=REVOKED)


def fetch_revocations(vendor: Vendor, folder: Path) -> None:
    """Fetch the revocation list, as deployments do."""
    answer = httpx.get(f"{vendor.url}/v1/revocations")
    assert answer.status_code == 200
    (folder / "acme.revoked").write_bytes(answer.content)
