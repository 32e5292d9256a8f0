"""What orders, seats and the audit log do in every database: tests to inherit."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnguard
import samples
import selling_jobs
from ledger_behavior import entry_of, execute, run, run_together
from nnguard._base.times import now
from nnguard._selling.migrations import VERSION_TABLE, migrate
from nnguard._selling.tables import TABLES
from nnguard.errors import ActivationError, LedgerError, LedgerReason, WrongKeyError
from nnguard.licensing import (
    ActivationReason,
    AuditEntry,
    Device,
    Issuer,
    Ledger,
    License,
    Order,
    Receipt,
    Request,
    Seat,
)
from selling_jobs import outcome

JOBS = selling_jobs.__file__
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SEATS = 5
SERVER = "https://licenses.example"


class Goods(NamedTuple):
    """What a vendor sells."""

    key: nnguard.SigningKey
    identity: nnguard.Identity
    release: nnguard.Stream
    locked: nnguard.Locked


@functools.cache
def goods() -> Goods:
    key = nnguard.SigningKey.generate()
    model = nnguard.Stream.from_bytes(samples.small_stream())
    release = nnguard.sign(model, key, issuer="acme.ai", name="small")
    locked = nnguard.lock(release, signer=key, soft=nnguard.Soft(fraction=0.005))
    return Goods(key, nnguard.Identity.generate(), release, locked)


@contextlib.contextmanager
def shop(url: str) -> Iterator[Issuer]:
    """Give an issuer whose ledger has a product."""
    key, identity, _, locked = goods()
    with Ledger(url) as ledger:
        issuer = Issuer(ledger, key, identity, actor="shop", server=SERVER)
        issuer.add_product(locked.trial, locked.content_key)
        yield issuer


def ask(
    code: str = "",
    *,
    who: nnguard.Identity | None = None,
    device: Device | None = None,
    renews: License | None = None,
    at: datetime | None = None,
    **changes: Any,
) -> Request:
    """Make a request of a new customer, or of this one."""
    values = {"stream": _stream(), "lock": goods().locked.content_key.id.hex()} | changes
    return Request.make(
        who or nnguard.Identity.generate(),
        order=code,
        license="" if renews is None else renews.terms.id,
        device=device,
        issued_at=at,
        **values,
    )


@functools.cache
def _stream() -> str:
    request = nnguard.licensing.request(goods().locked.trial, nnguard.Identity.generate())
    return request.stream


def machine(*values: str, name: str = "") -> Device:
    """Return the fingerprint of a machine with these components."""
    parts = [(f"kind{place}", value) for place, value in enumerate(values)]
    return Device.of_values([*parts, *([("name", name)] if name else [])])


def refused(reason: ActivationReason, call: Callable[[], object]) -> ActivationError:
    with pytest.raises(ActivationError) as caught:
        call()
    assert caught.value.reason == reason, caught.value
    assert caught.value.hint
    return caught.value


def in_use(ledger: Ledger, order: Order, at: datetime | None = None) -> list[Seat]:
    return [seat for seat in ledger.seats(order.id) if seat.state_at(at or now()) != "free"]


class SellingBehavior:
    """Tests that need a fixture `url`: a database of which nobody has made a ledger yet."""

    def test_a_license_of_an_order_unlocks_and_says_what_was_bought(self, url: str) -> None:
        ada = nnguard.Identity.generate()
        with shop(url) as issuer:
            order = issuer.order(
                "small",
                customer="Ada",
                lasts=30 * DAY,
                grace=7 * DAY,
                warn_only=True,
                features=["export"],
                metadata={"po": "4711"},
            )
            license_ = issuer.answer(ask(issuer.code(order), who=ada))
            (entry,) = issuer.ledger.licenses(order=order.id)
        assert entry.armored == str(license_)
        terms = license_.terms
        assert (terms.customer, terms.product, terms.tier) == ("Ada", "small", "full")
        assert (terms.issuer, terms.order, terms.server) == ("acme.ai", order.id, SERVER)
        assert (terms.warn_only, terms.grace, terms.features) == (True, 7 * DAY, ("export",))
        assert (terms.metadata, terms.expires_at) == ({"po": "4711"}, terms.issued_at + 30 * DAY)
        key, _, release, locked = goods()
        unlocked = nnguard.unlock(locked.trial, license_, ada, [key.public_key])
        assert bytes(unlocked) == bytes(release)

    def test_the_same_request_gets_the_same_license(self, url: str) -> None:
        with shop(url) as issuer:
            order = issuer.order("small")
            request = ask(issuer.code(order))
            first, repeated = issuer.answer_once(request)
            assert not repeated
            assert issuer.answer_once(request) == (first, True)
            later = now() + 30 * DAY  # long after it is too old to be answered for the first time
            assert issuer.answer(request, at=later).encoded == first.encoded
            assert len(issuer.ledger.entries()) == 1

    def test_many_who_send_the_same_request_at_once_get_one_license(self, url: str) -> None:
        with shop(url) as issuer, ThreadPoolExecutor(16) as pool:
            request = ask(issuer.code(issuer.order("small", seats=SEATS)))
            answers = [*pool.map(lambda _: issuer.answer_once(request), range(1000))]
            assert len({each.license for each in answers}) == len(issuer.ledger.entries()) == 1
            assert sum(not each.repeated for each in answers) == 1

    def test_a_refresh_of_the_same_machine_takes_no_seat(self, url: str) -> None:
        ada, rack = nnguard.Identity.generate(), machine("a", "b", "c")
        with shop(url) as issuer:
            order = issuer.order("small", lasts=30 * DAY)
            code = issuer.code(order)
            first = issuer.answer(ask(code, who=ada, device=rack))
            later = now() + 20 * DAY
            changed = machine("a", "b", "new card")
            second = issuer.answer(ask(who=ada, device=changed, renews=first, at=later), at=later)
            again = issuer.answer(ask(code, who=ada, device=rack, at=later), at=later)
            assert len({license_.terms.id for license_ in (first, second, again)}) == 3
            assert second.terms.expires_at == later + 30 * DAY
            (seat,) = issuer.ledger.seats(order.id)
            assert seat.license_id == again.terms.id

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            (None, None, True),
            (None, machine("a", "b"), False),
            (machine("a", "b"), None, False),
            (machine("a", "b"), machine("a", "b"), True),
            (machine("a", "b", "c"), machine("a", "b", "x"), True),
            (machine("a", "b", "c", "d"), machine("a", "b", "x", "y"), True),
            (machine("a", "b", "c", "d"), machine("a", "x", "y", "z"), False),
            (machine("a", "b", "c", "d", "e"), machine("a", "b", "x", "y", "z"), False),
            (machine("a"), machine("a"), True),
            (machine("a", name="rack-7"), machine("b", name="rack-7"), True),
            (machine("a", "b", name="rack-7"), machine("a", "b", name="rack-8"), False),
            (machine(name="rack-7"), machine(name="rack-7"), True),
        ],
    )
    def test_machines_are_the_same_by_name_or_by_half_of_their_fingerprints(
        self, url: str, one: Device | None, other: Device | None, same: bool
    ) -> None:
        ada = nnguard.Identity.generate()
        with shop(url) as issuer:
            order = issuer.order("small", seats=2)
            for device in (one, other):
                issuer.answer(ask(issuer.code(order), who=ada, device=device))
            assert len(issuer.ledger.seats(order.id)) == (1 if same else 2)

    def test_an_order_may_ask_for_fingerprints(self, url: str) -> None:
        with shop(url) as issuer:
            order = issuer.order("small", named_devices=False)
            code = issuer.code(order)
            for device in (None, machine("a"), machine(name="rack-7")):
                request = ask(code, device=device)
                refused(ActivationReason.REFUSED, functools.partial(issuer.answer, request))
            recipient = nnguard.Identity.generate().recipient
            refused(ActivationReason.REFUSED, lambda: issuer.grant(order, recipient))
            license_ = issuer.answer(ask(code, device=machine("a", "b", "c", name="rack-7")))
            assert license_.terms.device is not None
            assert license_.terms.device.matches(machine("a", "b", "c")) == 3

    def test_one_more_machine_than_seats_is_refused(self, url: str) -> None:
        with shop(url) as issuer:
            order = issuer.order("small", seats=2)
            for _ in range(2):
                issuer.answer(ask(issuer.code(order)))
            refused(ActivationReason.NO_SEATS, lambda: issuer.answer(ask(issuer.code(order))))
            recipient = nnguard.Identity.generate().recipient
            refused(ActivationReason.NO_SEATS, lambda: issuer.grant(order, recipient))
            assert len(issuer.ledger.entries()) == 2

    def test_no_more_seats_than_were_bought_however_many_race(self, url: str) -> None:
        with shop(url) as issuer, ThreadPoolExecutor(50) as pool:
            order = issuer.order("small", seats=SEATS)
            code = issuer.code(order)
            requests = [ask(code) for _ in range(200)]
            start = threading.Barrier(50)

            def race(requests: list[Request]) -> list[str]:
                start.wait(60)
                return [outcome(issuer, request) for request in requests]

            parts = [requests[at::50] for at in range(50)]
            outcomes = [each for part in pool.map(race, parts) for each in part]
            assert outcomes.count("license") == SEATS
            assert outcomes.count("no-seats") == len(requests) - SEATS
            assert len(in_use(issuer.ledger, order)) == len(issuer.ledger.entries()) == SEATS
            issuer.ledger.check_audit()

    def test_no_more_seats_than_were_bought_for_processes(self, url: str, tmp_path: Path) -> None:
        with shop(url) as issuer:
            order = issuer.order("small", seats=SEATS)
            code = issuer.code(order)
            folders = [save_requests(tmp_path / str(at), code, 10) for at in range(4)]
            said = run_together(*(("race", url, str(folder)) for folder in folders), program=JOBS)
            assert sum(map(int, said)) == SEATS
            assert len(in_use(issuer.ledger, order)) == len(issuer.ledger.entries()) == SEATS
            issuer.ledger.check_audit()

    def test_a_relay_takes_as_many_seats_as_it_leases(self, url: str) -> None:
        relay = nnguard.Identity.generate()
        with shop(url) as issuer:
            order = issuer.order("small", seats=SEATS)
            code = issuer.code(order)
            license_ = issuer.answer(ask(code, who=relay, leases=3))
            assert (license_.terms.leases, license_.terms.leaser) == (
                3,
                relay.request_signer.public_key,
            )
            more = ask(who=relay, renews=license_, leases=5)
            assert issuer.answer(more).terms.leases == 5
            refused(ActivationReason.NO_SEATS, lambda: issuer.answer(ask(code)))

    def test_a_relay_with_fewer_leases_has_given_back_the_license_for_more(self, url: str) -> None:
        relay = nnguard.Identity.generate()
        with shop(url) as issuer:
            code = issuer.code(issuer.order("small", seats=SEATS))
            license_ = issuer.answer(ask(code, who=relay, leases=SEATS))
            for fewer in (SEATS - 1, 1):
                for question in (
                    ask(who=relay, renews=license_, leases=fewer),
                    ask(code, who=relay, leases=fewer),
                ):
                    refused(ActivationReason.REFUSED, functools.partial(issuer.answer, question))
            alone = ask(who=relay, renews=license_)
            refused(ActivationReason.NO_SEATS, functools.partial(issuer.answer, alone))
            refused(ActivationReason.NO_SEATS, lambda: issuer.answer(ask(code)))
            issuer.give_back(Receipt.make(relay, license_.terms.id))
            issuer.answer(ask(code, who=relay, leases=SEATS - 1))
            issuer.answer(ask(code))

    def test_licenses_of_one_seat_hold_on_one_machine(self, url: str) -> None:
        """Machines that were copied are alike by half, and each could have a license."""
        ada, twins = (
            nnguard.Identity.generate(),
            [machine("a", "b", *more) for more in ("cd", "ef")],
        )
        with shop(url) as issuer:
            code = issuer.code(issuer.order("small"))
            first, second = (issuer.answer(ask(code, who=ada, device=twin)) for twin in twins)
            assert issuer.ledger.revoked_ids() == [first.terms.id]
            refresh = ask(who=ada, device=twins[0], renews=first)
            refused(ActivationReason.RELEASED, lambda: issuer.answer(refresh))
            refresh = ask(who=ada, device=machine("a", "b", "e", "new card"), renews=second)
            issuer.answer(refresh)  # the license would hold there, too: no other machine has one
            assert issuer.ledger.revoked_ids() == [first.terms.id]

    def test_a_seat_that_is_given_back_is_free_at_once(self, url: str) -> None:
        ada = nnguard.Identity.generate()
        with shop(url) as issuer:
            order = issuer.order("small")
            request = ask(issuer.code(order), who=ada)
            license_ = issuer.answer(request)
            receipt = Receipt.make(ada, license_.terms.id)
            seat = issuer.give_back(receipt)
            assert (seat.state, issuer.give_back(receipt)) == ("free", seat)
            assert issuer.ledger.revoked_ids() == [license_.terms.id]
            refused(ActivationReason.RELEASED, lambda: issuer.answer(request))
            refresh = ask(who=ada, renews=license_)
            refused(ActivationReason.RELEASED, lambda: issuer.answer(refresh))
            issuer.answer(ask(issuer.code(order)))

    def test_only_its_own_key_gives_a_seat_back_or_renews_it(self, url: str) -> None:
        ada, eve = nnguard.Identity.generate(), nnguard.Identity.generate()
        with shop(url) as issuer:
            order = issuer.order("small", seats=2)
            license_ = issuer.answer(ask(issuer.code(order), who=ada))
            receipt = Receipt.make(eve, license_.terms.id)
            refused(ActivationReason.OTHER_KEY, lambda: issuer.give_back(receipt))
            request = ask(who=eve, renews=license_)
            refused(ActivationReason.OTHER_KEY, lambda: issuer.answer(request))
            granted = issuer.grant(order, eve.recipient)
            receipt = Receipt.make(eve, granted.terms.id)
            refused(ActivationReason.OTHER_KEY, lambda: issuer.give_back(receipt))

    def test_a_renewal_is_for_the_same_machine(self, url: str) -> None:
        ada = nnguard.Identity.generate()
        with shop(url) as issuer:
            order = issuer.order("small", seats=2)
            license_ = issuer.answer(ask(issuer.code(order), who=ada, device=machine("a", "b")))
            request = ask(who=ada, renews=license_, device=machine("c", "d"))
            refused(ActivationReason.REFUSED, lambda: issuer.answer(request))
            assert len(issuer.ledger.seats(order.id)) == 1

    def test_a_seat_that_is_taken_back_cools_down(self, url: str) -> None:
        with shop(url) as issuer:
            order = issuer.order("small", cooling=3 * DAY)
            license_ = issuer.answer(ask(issuer.code(order)))
            at = now()
            (seat,) = issuer.ledger.seats(order.id)
            taken = issuer.take_back(seat.id, reason="it burned down", at=at)
            assert issuer.take_back(seat.id, at=at + DAY) == taken == issuer.ledger.seat(seat.id)
            assert issuer.ledger.get(license_.terms.id).reason == "it burned down"
            assert [taken.state_at(at + days * DAY) for days in (2, 3)] == ["cooling", "free"]
            request = ask(issuer.code(order), at=at + 2 * DAY)
            error = refused(
                ActivationReason.NO_SEATS, lambda: issuer.answer(request, at=at + 2 * DAY)
            )
            assert (at + 3 * DAY).isoformat() in error.hint
            issuer.answer(request, at=at + 3 * DAY)

    def test_a_receipt_ends_the_cooling(self, url: str) -> None:
        ada = nnguard.Identity.generate()
        with shop(url) as issuer:
            order = issuer.order("small")
            license_ = issuer.answer(ask(issuer.code(order), who=ada))
            (seat,) = issuer.ledger.seats(order.id)
            issuer.take_back(seat.id)
            assert issuer.give_back(Receipt.make(ada, license_.terms.id)).state == "free"
            issuer.answer(ask(issuer.code(order)))

    def test_a_cancelled_order_gives_nothing_more(self, url: str) -> None:
        with shop(url) as issuer:
            order = issuer.order("small", seats=2)
            request = ask(issuer.code(order))
            license_ = issuer.answer(request)
            cancelled = issuer.cancel(order.id, reason="refund")
            assert cancelled == issuer.ledger.order(order.id) == issuer.cancel(order.id)
            assert (cancelled.state, cancelled.reason) == ("cancelled", "refund")
            assert issuer.revocation_list().revokes(license_.terms.id)
            for again in (request, ask(issuer.code(order))):
                refused(ActivationReason.ORDER_CANCELLED, functools.partial(issuer.answer, again))

    def test_a_revoked_license_takes_its_seat_along(self, url: str) -> None:
        ada = nnguard.Identity.generate()
        with shop(url) as issuer:
            order = issuer.order("small")
            request = ask(issuer.code(order), who=ada)
            first = issuer.answer(request)
            second = issuer.answer(ask(who=ada, renews=first))
            (entry,) = issuer.revoke([first.terms.id], reason="stolen")
            assert entry.license_id == first.terms.id
            assert {*issuer.ledger.revoked_ids()} == {first.terms.id, second.terms.id}
            for again in (request, ask(who=ada, renews=second), ask(issuer.code(order), who=ada)):
                refused(ActivationReason.RELEASED, functools.partial(issuer.answer, again))

    def test_an_order_ends(self, url: str) -> None:
        with shop(url) as issuer:
            at = now()
            order = issuer.order("small", lasts=30 * DAY, expires_at=at + 40 * DAY)
            license_ = issuer.answer(ask(issuer.code(order)), at=at)
            assert license_.terms.expires_at == at + 30 * DAY
            late = ask(issuer.code(order), at=at + 20 * DAY)
            refused(ActivationReason.NO_SEATS, lambda: issuer.answer(late, at=at + 20 * DAY))
            after = ask(issuer.code(order), at=at + 40 * DAY)
            refused(ActivationReason.ORDER_EXPIRED, lambda: issuer.answer(after, at=at + 40 * DAY))
            assert issuer.ledger.orders(state="open") == [order]

    def test_requests_that_fit_no_order_are_refused(self, url: str) -> None:
        with shop(url) as issuer:
            code = issuer.code(issuer.order("small"))
            old = ask(code, at=now() - 8 * DAY)
            refused(ActivationReason.STALE_REQUEST, lambda: issuer.answer(old))
            early = ask(code, at=now() + HOUR)
            refused(ActivationReason.STALE_REQUEST, lambda: issuer.answer(early))
            for change in ({"stream": "ab" * 32}, {"lock": "ab" * 8}):
                other = ask(code, **change)
                refused(ActivationReason.OTHER_TRIAL, functools.partial(issuer.answer, other))
            wrong = code[:-1] + ("0" if code[-1] != "0" else "4")
            for text in ("", "what?", wrong, code[:-2], code + "0"):
                refused(ActivationReason.UNKNOWN_ORDER, functools.partial(issuer.answer, ask(text)))
            lost = ask(renews=License.load(samples_license()))
            refused(ActivationReason.UNKNOWN_ORDER, lambda: issuer.answer(lost))
            assert issuer.ledger.entries() == []

    def test_a_pasted_key_gets_a_license_and_keeps_it(self, url: str) -> None:
        ada = nnguard.Identity.generate()
        with shop(url) as issuer:
            order = issuer.order("small", seats=2, lasts=30 * DAY)
            at = now()
            first = issuer.grant(order, ada.recipient, name="gpu-1", at=at)
            assert issuer.grant(order.id, ada.recipient, name="gpu-1", at=at + DAY) == first
            later = issuer.grant(order, ada.recipient, name="gpu-1", at=at + 20 * DAY)
            assert later != first
            issuer.grant(order, ada.recipient, name="gpu-2", at=at)
            names = [seat.name for seat in issuer.ledger.seats(order.id)]
            assert names == ["gpu-1", "gpu-2"]

    def test_a_reference_stands_for_one_order(self, url: str) -> None:
        with shop(url) as issuer, ThreadPoolExecutor(8) as pool:
            orders = pool.map(lambda _: issuer.order("small", seats=2, reference="A-1"), range(16))
            (order,) = set(orders)
            with pytest.raises(LedgerError, match="another order") as caught:
                issuer.order("small", seats=3, reference="A-1")
            assert caught.value.reason == LedgerReason.CONFLICT
            cancelled = issuer.cancel(order.id)
            assert issuer.order("small", seats=2, reference="A-1") == cancelled
            assert issuer.order("small") != issuer.order("small")

    def test_an_order_that_ends_so_long_after_it_was_made_is_the_same_again(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with shop(url) as issuer:
            order = issuer.order("small", reference="A-1", expires_at=730 * DAY)
            assert order.expires_at == order.created_at + 730 * DAY
            later = order.created_at + 3 * DAY
            monkeypatch.setattr("nnguard._selling.ordering.now", lambda: later)
            assert issuer.order("small", reference="A-1", expires_at=730 * DAY) == order
            assert issuer.order("small", reference="A-1", expires_at=order.expires_at) == order
            for other in (729 * DAY, later + 730 * DAY, None):
                with pytest.raises(LedgerError, match="another order"):
                    issuer.order("small", reference="A-1", expires_at=other)

    def test_another_identity_spoils_nothing(self, url: str) -> None:
        with shop(url) as issuer:
            order = issuer.order("small")
            code = issuer.code(order)
            locked = goods().locked
            other = Issuer(issuer.ledger, goods().key, nnguard.Identity.generate())
            uses: list[Callable[[], object]] = [
                lambda: other.code(order),
                lambda: other.order_of(code),
                lambda: other.answer(ask(code)),
                lambda: other.add_product(locked.trial, locked.content_key),
                lambda: other.issue(
                    locked.trial, locked.content_key, to=nnguard.Identity.generate().recipient
                ),
            ]
            for use in uses:
                with pytest.raises(WrongKeyError, match="with another identity"):
                    use()
            assert issuer.answer(ask(code)).terms.order == order.id

    def test_orders_are_found(self, url: str) -> None:
        with shop(url) as issuer:
            customers = ("Ada", "ADAM & Eve", "100%", "Müller")
            orders = [issuer.order("small", customer=each, reference=each) for each in customers]
            issuer.cancel(orders[1].id)
            ledger = issuer.ledger

            def found(**choice: Any) -> list[str]:
                return [order.customer for order in ledger.orders(**choice)]

            assert found() == [*reversed(customers)]
            assert found(search="ada") == ["ADAM & Eve", "Ada"]
            assert found(search="%") == ["100%"]
            assert found(search=orders[0].id[2:12]) == ["Ada"]
            assert found(search="'; DROP TABLE nnguard_orders; --") == []
            assert found(state="cancelled") == ["ADAM & Eve"]
            assert found(state="open") == ["Müller", "100%", "Ada"]
            assert found(product="small", limit=2) == ["Müller", "100%"]
            assert found(limit=2, after=orders[2].id) == ["ADAM & Eve", "Ada"]
            assert found(product="other") == []
            for missing in (ledger.order, ledger.seat, lambda text: ledger.orders(after=text)):
                with pytest.raises(LedgerError) as caught:
                    missing("0" * 16)
                assert caught.value.reason == LedgerReason.MISSING

    def test_licenses_are_found_by_order_seat_and_state(self, url: str) -> None:
        with shop(url) as issuer:
            order = issuer.order("small", seats=3, customer="Ada", lasts=DAY)
            at = now() - 3 * DAY
            answers = [
                issuer.answer(ask(issuer.code(order), at=when), at=when)
                for when in (at, at + 2.5 * DAY, at + 2.6 * DAY)
            ]
            ids = [license_.terms.id for license_ in answers]
            issuer.revoke([ids[2]])
            ledger = issuer.ledger
            ledger.add(entry_of(1))

            def found(**choice: Any) -> list[int]:
                entries = ledger.licenses(order=order.id, **choice)
                return [ids.index(entry.license_id) for entry in entries]

            assert found() == [2, 1, 0]
            assert [found(state=each) for each in ("revoked", "valid", "expired")] == [
                [2],
                [1],
                [0],
            ]
            assert (found(limit=1), found(limit=1, after=ids[2])) == ([2], [1])
            seat = ledger.seat_of(ids[0])
            assert seat is not None
            (entry,) = ledger.licenses(seat=seat.id)
            assert (entry.license_id, entry.order_id, entry.seat_id) == (ids[0], order.id, seat.id)
            assert len(ledger.licenses(search="ADA")) == 3
            assert ledger.count_revoked() == 1
            days = ledger.activations(at.date(), now().date())
            assert sum(days.values()) == 3
            assert ledger.activations(at.date(), at.date()) == {at.date(): 1}

    def test_products_are_added_once(self, url: str) -> None:
        with shop(url) as issuer:
            key, _, release, locked = goods()
            (product,) = issuer.ledger.products()
            assert issuer.add_product(locked.trial, locked.content_key) == product
            assert [tier.name for tier in product.tiers] == ["full"]
            with pytest.raises(LedgerError, match="as product small"):
                issuer.add_product(locked.trial, locked.content_key, name="large")
            other = nnguard.lock(release, signer=key, soft=nnguard.Soft(fraction=0.004))
            with pytest.raises(LedgerError, match="with another trial"):
                issuer.add_product(other.trial, other.content_key)
            issuer.add_product(other.trial, other.content_key, name="small 2")
            assert [each.name for each in issuer.ledger.products()] == ["small", "small 2"]

    def test_whatever_happens_no_seat_too_many_is_taken(self, url: str) -> None:
        with shop(url) as issuer:

            @settings(max_examples=20, suppress_health_check=list(HealthCheck))
            @given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=14))
            def check(actions: list[tuple[int, int]]) -> None:
                Market(issuer).play(actions)

            check()
            issuer.ledger.check_audit()

    def test_who_is_killed_answering_leaves_all_or_nothing(self, url: str, tmp_path: Path) -> None:
        with shop(url) as issuer:
            order = issuer.order("small")
            request = ask(issuer.code(order))
            folder = save_requests(tmp_path / "requests", request=request)
            for statement in (6, 10, 0):  # the last one is killed at the commit
                assert run("die", url, str(folder), str(statement), program=JOBS) == -signal.SIGKILL
                assert issuer.ledger.entries() == issuer.ledger.seats(order.id) == []
            license_ = issuer.answer(request)
            assert [entry.license_id for entry in issuer.ledger.entries()] == [license_.terms.id]
            issuer.ledger.check_audit()

    def test_any_change_of_the_audit_log_is_found(self, url: str) -> None:
        with shop(url) as issuer:
            for number in range(3):
                issuer.order("small", customer=str(number))
            ledger = issuer.acting_as("Ada's browser").ledger
            head = ledger.check_audit()
            assert head is not None
            assert head == ledger.audit_head() == ledger.audit(newest=True, limit=1)[0]
            entries = ledger.audit()
            assert [entry.number for entry in entries] == [*range(1, len(entries) + 1)]
            assert ledger.audit(after=2, limit=2) == entries[2:4]
            assert ledger.audit(subject=entries[-1].subject) == [entries[-1]]
            for entry in entries:
                assert ledger.check_audit(entry.hash) == head
            with pytest.raises(LedgerError, match="no entry with the hash"):
                ledger.check_audit("ab" * 32)
            self._tamper(url, ledger, entries)

    def _tamper(self, url: str, ledger: Ledger, entries: list[AuditEntry]) -> None:
        table, last = "nnguard_audit", entries[-1].number
        columns = {
            "at": "at + 1",
            "actor": "'somebody'",
            "action": "'nothing'",
            "subject": "'abcdef'",
            "details": "'{}'",
            "previous": f"'{'0' * 63}1'",
            "hash": f"'{'0' * 64}'",
        }
        changes = [
            f"UPDATE {table} SET {column} = {value} WHERE number = {number}"
            for column, value in columns.items()
            for number in (2, last)
        ]
        swap = [f"UPDATE {table} SET number = {a} WHERE number = {b}" for a, b in _SWAP]
        removed = [f"DELETE FROM {table} WHERE number = {number}" for number in (1, 3, last)]
        names = ", ".join(("number", *columns))
        before = f"INSERT INTO {table} ({names}) SELECT 0, {', '.join(columns)} FROM {table}"
        added = [f"{before} WHERE number = 1"]
        attacks = [[each] for each in changes + removed + added] + [swap]
        kept = saved(url, table)
        for attack in attacks:
            for statement in attack:
                execute(url, statement)
            with pytest.raises(LedgerError, match="tampered with"):
                ledger.check_audit()
            restore(url, table, kept)
            ledger.check_audit()
        # Who cuts off the end, and says so in the head, is found by who noted the end elsewhere.
        shorter = entries[-2]
        execute(url, f"DELETE FROM {table} WHERE number = {last}")
        execute(
            url,
            f"UPDATE nnguard_audit_head SET number = {shorter.number}, hash = '{shorter.hash}'",
        )
        assert ledger.check_audit() == shorter
        with pytest.raises(LedgerError, match="no entry with the hash"):
            ledger.check_audit(entries[-1].hash)

    def test_the_audit_log_is_checked_while_others_write(self, url: str) -> None:
        with shop(url) as issuer, ThreadPoolExecutor(4) as pool:
            written = [pool.submit(issuer.order, "small") for _ in range(40)]
            while not all(each.done() for each in written):
                issuer.ledger.check_audit()
            head = issuer.ledger.check_audit()
            assert head is not None
            assert head.number == 42

    def test_products_may_be_added_by_many_at_once(self, url: str) -> None:
        with shop(url) as issuer, ThreadPoolExecutor(4) as pool:
            key, _, release, _ = goods()
            other = nnguard.lock(release, signer=key, soft=nnguard.Soft(fraction=0.004))
            added = pool.map(
                lambda _: issuer.add_product(other.trial, other.content_key, name="2"), range(8)
            )
            assert len({*added}) == 1

    def test_what_was_done_stands_in_the_audit_log_with_who_did_it(self, url: str) -> None:
        with shop(url) as issuer:
            browser = issuer.acting_as("desk: Ada")
            order = browser.order("small", seats=2)
            license_ = issuer.answer(ask(issuer.code(order)))
            issuer.grant(order, nnguard.Identity.generate().recipient)
            issuer.take_back(issuer.ledger.seats(order.id)[0].id, reason="dead")
            browser.cancel(order.id)
            token, _ = issuer.ledger.new_token("shop", "web", actor="Eve")
            issuer.ledger.revoke_token(token.id)
            done = [(entry.actor, entry.action) for entry in issuer.ledger.audit(after=2)]
            revoked = [
                entry.subject for entry in issuer.ledger.audit() if "revoked" in entry.action
            ]
        assert done == [
            ("desk: Ada", "order.created"),
            ("shop", "license.issued"),
            ("shop", "license.issued"),
            ("shop", "license.revoked"),
            ("shop", "seat.taken-back"),
            ("desk: Ada", "license.revoked"),
            ("desk: Ada", "order.cancelled"),
            ("Eve", "token.made"),
            ("desk", "token.revoked"),
        ]
        assert revoked[0] == license_.terms.id

    def test_events_are_told_until_they_were_heard(self, url: str) -> None:
        with shop(url) as issuer:
            order = issuer.order("small", customer="Ada", reference="A-1")
            issuer.answer(ask(issuer.code(order)))
            issuer.cancel(order.id)
            ledger, at = issuer.ledger, now()
            first, *others = ledger.take_events(at=at)
            kinds = [event.kind for event in (first, *others)]
            assert kinds == [
                "order.created",
                "license.issued",
                "license.revoked",
                "order.cancelled",
            ]
            known = {"order": order.id, "product": "small", "customer": "Ada", "reference": "A-1"}
            assert first.data == known
            assert (ledger.take_events(at=at), ledger.backlog()) == ([], 4)
            ledger.event_delivered(first.id)
            ledger.event_failed(others[0].id, retry_at=at + HOUR, delivered_to=("a",))
            again = ledger.take_events(at=at + timedelta(minutes=1))
            assert [event.id for event in again] == [event.id for event in others[1:]]
            *_, failed = ledger.take_events(at=at + HOUR)  # by when they are due
            assert (failed.id, failed.attempts, failed.delivered_to) == (others[0].id, 2, ("a",))
            ledger.tidy(at=at + 29 * DAY)
            assert ledger.backlog() == 3
            ledger.tidy(at=at + 31 * DAY)
            assert ledger.backlog() == 0

    def test_an_event_is_taken_by_one_only(self, url: str) -> None:
        with shop(url) as issuer, ThreadPoolExecutor(8) as pool:
            for _ in range(10):
                issuer.order("small")
            at = now()
            taken = pool.map(lambda _: issuer.ledger.take_events(2, at=at), range(12))
            ids = [event.id for events in taken for event in events]
            ids += [event.id for event in issuer.ledger.take_events(at=at)]
            assert len(ids) == len(set(ids)) == 10

    def test_something_is_done_once_for_a_key(self, url: str) -> None:
        with shop(url) as issuer, ThreadPoolExecutor(8) as pool:
            ledger = issuer.ledger

            def make() -> str:
                return issuer.order("small").id

            ids = set(pool.map(lambda _: ledger.once("key", "ab", make), range(16)))
            assert len(ids) == len(ledger.orders()) == 1
            with pytest.raises(LedgerError, match="another request") as caught:
                ledger.once("key", "cd", make)
            assert caught.value.reason == LedgerReason.CONFLICT

            def fail() -> str:
                make()
                raise OSError("on the way")

            with pytest.raises(OSError, match="on the way"):
                ledger.once("other", "ab", fail)
            assert len(ledger.orders()) == 1
            ledger.once("other", "ab", make)
            ledger.tidy(at=now() + 2 * DAY)
            ledger.once("key", "cd", make)
            assert len(ledger.orders()) == 3
            ledger.check_audit()

    def test_tokens_hold_until_they_are_revoked(self, url: str) -> None:
        with Ledger(url) as ledger:
            assert ledger.check_token("nng_0123456789abcdef_" + "a" * 43) is None
            token, text = ledger.new_token("support", "Ada")
            assert ledger.check_token(text) == token == ledger.token(token.id)
            swapped = text[:-1] + ("a" if text[-1] != "a" else "b")
            for wrong in ("", "nng", text[:-1], text + "a", swapped, text.upper(), f" {text}"):
                assert ledger.check_token(wrong) is None
            with pytest.raises(ValueError, match="no role"):
                ledger.new_token("root", "Ada")
            revoked = ledger.revoke_token(token.id)
            assert revoked.revoked_at is not None
            assert ledger.check_token(text) is None
            assert ledger.tokens() == [revoked] == [ledger.revoke_token(token.id)]

    def test_a_dump_holds_no_secret(self, url: str) -> None:
        _, identity, _, locked = goods()
        with shop(url) as issuer:
            order = issuer.order("small")
            code = issuer.code(order)
            issuer.answer(ask(code))
            _, token = issuer.ledger.new_token("shop", "web")
            issuer.revoke([issuer.ledger.entries()[0].license_id])
            issuer.ledger.once("key", "ab", lambda: order.id)
            dump = json.dumps(saved_all(url), default=repr)
        key = locked.content_key.secret
        labels = (b"nnguard order codes v1\0", b"nnguard sessions v1\0")
        secrets = [key, *map(identity.derive, labels)]
        plain = [token, token.split("_", 2)[2], code, code.replace("-", "")]
        plain += [code.replace("-", "")[13:]]  # what is not the order's id
        plain += [each.hex() for each in secrets] + [repr(each)[2:-1] for each in secrets]
        assert order.id in dump
        assert not [text for text in plain if text in dump]

    def test_shared_documents_are_kept_and_replaced(self, url: str) -> None:
        with Ledger(url) as ledger:
            assert ledger.document("revocations") is None
            at = now()
            ledger.keep_document("revocations", "one", at=at)
            ledger.keep_document("revocations", "two", at=at + HOUR)
            assert ledger.document("revocations") == ("two", at + HOUR)

    def test_a_ledger_of_version_1_is_upgraded_and_keeps_everything(self, url: str) -> None:
        make_version_1(url)
        with pytest.raises(LedgerError, match="version 1") as caught:
            Ledger(url)
        assert "ledger upgrade" in caught.value.hint
        assert Ledger.upgrade(url)
        assert not Ledger.upgrade(url)
        with Ledger(url) as ledger:
            entries = [entry_of(1), entry_of(2, revoked_at=entry_of(1).issued_at, reason="refund")]
            assert ledger.entries() == entries
            assert ledger.wrapped_content_key("c0ffee") == b"wrapped"
            ledger.add(entry_of(3))
            assert [entry.action for entry in ledger.audit()] == [
                "ledger.upgraded",
                "license.issued",
            ]
        with shop(url) as issuer:
            issuer.answer(ask(issuer.code(issuer.order("small"))))

    def test_an_upgrade_that_is_killed_changes_nothing(self, url: str) -> None:
        make_version_1(url)
        assert run("die_upgrading", url, program=JOBS) == -signal.SIGKILL
        with pytest.raises(LedgerError, match="version 1"):
            Ledger(url)
        assert Ledger.upgrade(url)

    def test_migrations_make_the_tables_that_the_code_knows(self, url: str) -> None:
        with Ledger(url) as ledger:
            ledger.add(entry_of(1))
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            options = {"version_table": VERSION_TABLE, "compare_type": True}
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, TABLES) == []
        engine.dispose()


_SWAP = ((-1, 2), (2, 3), (3, -1))


class Market:
    """Customers who do anything with an order, and how many seats may be in use then."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer, self._at = issuer, now()
        self._order = issuer.order("small", seats=2, cooling=DAY)
        self._customers = [nnguard.Identity.generate() for _ in range(6)]
        self._licenses: dict[int, License] = {}
        self._taken: dict[int, datetime | None] = {}  # by whom, and until when it cools down

    def play(self, actions: list[tuple[int, int]]) -> None:
        names = ("activate", "activate", "renew", "give_back", "take_back", "repeat", "wait")
        for action, who in actions:
            getattr(self, f"_{names[action]}")(who)
            held = in_use(self._issuer.ledger, self._order, self._at)
            assert len(held) == len(self._counted()) <= 2

    def _counted(self) -> set[int]:
        taken = self._taken.items()
        return {who for who, until in taken if until is None or until > self._at}

    def _activate(self, who: int) -> None:
        customer = self._customers[who]
        request = ask(self._issuer.code(self._order), who=customer, at=self._at)
        mine = who in self._taken and self._taken[who] is None
        if mine or (len(self._counted()) < 2 and who not in self._counted()):
            self._licenses[who] = self._issuer.answer(request, at=self._at)
            self._taken[who] = None
        else:
            refused(ActivationReason.NO_SEATS, lambda: self._issuer.answer(request, at=self._at))

    def _renew(self, who: int) -> None:
        if who in self._licenses:
            license_ = self._licenses[who]
            request = ask(who=self._customers[who], renews=license_, at=self._at)
            if who in self._taken and self._taken[who] is None:
                self._licenses[who] = self._issuer.answer(request, at=self._at)
            else:
                refused(
                    ActivationReason.RELEASED, lambda: self._issuer.answer(request, at=self._at)
                )

    def _give_back(self, who: int) -> None:
        if who in self._licenses:
            receipt = Receipt.make(self._customers[who], self._licenses[who].terms.id)
            self._issuer.give_back(receipt, at=self._at)
            self._taken.pop(who, None)

    def _take_back(self, who: int) -> None:
        if who in self._taken and self._taken[who] is None:
            seat = self._issuer.ledger.seat_of(self._licenses[who].terms.id)
            assert seat is not None
            self._issuer.take_back(seat.id, at=self._at)
            self._taken[who] = self._at + DAY

    def _repeat(self, who: int) -> None:
        request = ask(self._issuer.code(self._order), who=self._customers[who], at=self._at)
        outcomes = {outcome(self._issuer, request, at=self._at) for _ in range(2)}
        assert len(outcomes) == 1
        if outcomes == {"license"}:
            assert who not in self._counted() or self._taken[who] is None
            self._licenses[who] = self._issuer.answer(request, at=self._at)
            self._taken[who] = None

    def _wait(self, hours: int) -> None:
        self._at += hours * 6 * HOUR


def samples_license() -> Path:
    return Path(__file__).parent / "golden" / "0.1.0" / "ada.license"


def make_version_1(url: str) -> None:
    """Make a ledger as the first nnguard did, which had no Alembic."""
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        migrate(connection, 1)
        connection.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")
        tables = sqlalchemy.MetaData()
        tables.reflect(connection)
        licenses = tables.tables["nnguard_licenses"]
        for entry in (entry_of(1), entry_of(2)):
            seconds = int(entry.issued_at.timestamp())
            values = entry.to_json() | {"armored": entry.armored}
            values |= {"issued_at": seconds, "not_before": seconds, "revoked_at": None}
            values["expires_at"] = seconds + 86_400
            connection.execute(licenses.insert().values(values))
        second = licenses.c.license_id == entry_of(2).license_id
        revoked = licenses.update().where(second).values(revoked_at=seconds, reason="refund")
        connection.execute(revoked)
        keys = tables.tables["nnguard_content_keys"]
        kept = {"content_key_id": "c0ffee", "product": "resnet56", "wrapped": b"wrapped"}
        connection.execute(keys.insert().values(kept))
    engine.dispose()


def saved(url: str, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            found = connection.exec_driver_sql(f"SELECT * FROM {table}").mappings()
            return [dict(row) for row in found]
    finally:
        engine.dispose()


def saved_all(url: str) -> dict[str, list[dict[str, Any]]]:
    return {table: saved(url, table) for table in TABLES.tables}


def restore(url: str, name: str, rows: list[dict[str, Any]]) -> None:
    """Put rows back as they were."""
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        table = sqlalchemy.Table(name, sqlalchemy.MetaData(), autoload_with=connection)
        connection.execute(table.delete())
        connection.execute(table.insert(), rows)
    engine.dispose()


def save_requests(
    folder: Path, code: str = "", count: int = 0, *, request: Request | None = None
) -> Path:
    """Save what another process needs to answer requests."""
    folder.mkdir()
    key, identity, _, _ = goods()
    key.save(folder / "vendor.key")
    identity.save(folder / "ledger.key")
    for number, each in enumerate([request] if request else [ask(code) for _ in range(count)]):
        each.save(folder / f"{number}.request")
    return folder
