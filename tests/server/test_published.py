"""Signed files that everybody may have, made anew in time; and a ledger that is gone."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from nnguard.licensing import RevocationList
from postgresql import PASSWORD, Server
from shop import PRODUCT, opened


class Clock:
    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def test_the_revocation_list_is_signed_each_hour(tmp_path: Path) -> None:
    clock = Clock()
    with opened(str(tmp_path / "licenses.db"), clock=clock) as shop:

        def ask() -> RevocationList:
            answer = httpx.get(f"{shop.server.url}/v1/revocations")
            found = RevocationList.from_text(answer.text)
            found.authenticate(shop.sale.trust)
            return found

        first = ask()
        clock.ahead = 3500
        assert ask() == first
        clock.ahead = 3700
        second = ask()
        assert 3600 <= (second.issued_at - first.issued_at).total_seconds() <= 3800
        assert ask() == second
        clock.ahead = 0  # another instance, whose clock is behind
        assert ask().issued_at < second.issued_at


def test_the_policy_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    with opened(str(tmp_path / "licenses.db"), policy_path=path) as shop:
        url = f"{shop.server.url}/v1/policy"
        assert httpx.get(url).status_code == 503
        path.write_text("one")
        first = httpx.get(url)
        assert (first.status_code, first.text) == (200, "one")
        known = {"If-None-Match": first.headers["ETag"]}
        assert httpx.get(url, headers=known).status_code == 304
        path.write_text("two")
        assert httpx.get(url, headers=known).text == "two"


def test_a_ledger_that_is_gone_is_told_without_its_password(postgresql: Server) -> None:
    name = postgresql.make_database()
    with opened(postgresql.url(name)) as shop:
        assert httpx.get(f"{shop.server.url}/readyz").status_code == 200
        postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)")
        answer = httpx.get(f"{shop.server.url}/readyz")
        assert (answer.status_code, answer.json()["reason"]) == (503, "unreachable")
        assert name not in answer.text
        assert httpx.get(f"{shop.server.url}/healthz").status_code == 200
        assert "does not exist" in shop.server.event("request", route="/readyz", status=503)["why"]
        assert PASSWORD not in shop.server.log.getvalue()


def test_keys_that_do_not_fit_the_ledger_are_no_fault_of_customers(tmp_path: Path) -> None:
    """The ledger of another desk: its codes are ours, its content keys are not."""
    with opened(str(tmp_path / "licenses.db")) as shop:
        text = str(shop.request(shop.order(), "a"))
        lock = shop.ledger.product(PRODUCT).lock
        shop.ledger.keep_content_key(lock, PRODUCT, b"wrapped to somebody else")
        url = f"{shop.server.url}/v1/licenses"
        answer = httpx.post(url, content=text, headers={"Content-Type": "text/plain"})
        assert (answer.status_code, answer.json()["reason"]) == (503, "unreachable")
        assert "key" not in answer.text
        line = shop.server.event("request", route="/v1/licenses", status=503)
        assert "do not fit its ledger" in line["why"]
