"""What a ledger does in every database: tests to inherit, and processes that they start."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnguard._selling.entry import LedgerEntry
from nnguard._selling.ledger import Ledger
from nnguard.errors import LedgerError

NOW = datetime(2026, 11, 5, 12, 30, 59, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)

NAMES = (
    "Müller & Söhne",
    "株式会社 🦊",
    "Robert'); DROP TABLE nnguard_licenses; --",
    '"quoted" \\ `back`',
    "100%_",
    "%",
    " two\nlines\t",
    ":colon :names %(like)s ? {this}",
)

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
TIMES = st.datetimes(
    datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones(), allow_imaginary=False
)
HEX = st.binary(min_size=1, max_size=64).map(bytes.hex)


def entry_of(number: int, **changes: Any) -> LedgerEntry:
    """Return an entry whose id ends in the number."""
    values: dict[str, Any] = {
        "license_id": f"{number:032x}",
        "product": "resnet56",
        "customer": "Example Inc.",
        "recipient": "0123456789abcdef",
        "tier": "professional",
        "stream": "5e" * 32,
        "content_key_id": "c0ffee00",
        "issued_at": NOW,
        "not_before": NOW,
        "expires_at": NOW + 24 * HOUR,
        "armored": "-----BEGIN NNGUARD LICENSE-----\nabc=\n-----END NNGUARD LICENSE-----\n",
    }
    return LedgerEntry(**values | changes)


class LedgerBehavior:
    """Tests that need a fixture `url`: a database of which nobody has made a ledger yet."""

    def test_an_entry_comes_back_after_the_ledger_was_closed(self, url: str) -> None:
        entry = entry_of(1)
        with Ledger(url) as ledger:
            ledger.add(entry)
        with Ledger(url) as ledger:
            assert ledger.get(entry.license_id) == entry
            assert ledger.entries() == [entry]

    def test_whatever_is_added_comes_back(self, url: str) -> None:
        numbers = itertools.count(1)
        parts = dict.fromkeys(("product", "customer", "tier", "armored", "reason"), TEXTS)
        parts |= dict.fromkeys(("recipient", "stream", "content_key_id"), HEX)
        parts |= dict.fromkeys(("issued_at", "not_before"), TIMES)
        parts |= dict.fromkeys(("expires_at", "revoked_at"), st.none() | TIMES)

        @settings(max_examples=50, suppress_health_check=list(HealthCheck))
        @given(st.fixed_dictionaries(parts))
        def check(changes: dict[str, Any]) -> None:
            entry = entry_of(next(numbers), **changes)
            ledger.add(entry)
            read = ledger.get(entry.license_id)
            assert read == entry
            assert abs(read.issued_at - changes["issued_at"]) < timedelta(seconds=1)
            assert read.issued_at.tzinfo is timezone.utc

        with Ledger(url) as ledger:
            check()

    def test_a_large_license_comes_back(self, url: str) -> None:
        entry = entry_of(1, armored="0123456789abcde\n" * 300_000)
        with Ledger(url) as ledger:
            ledger.add(entry)
            assert ledger.get(entry.license_id) == entry

    def test_an_id_is_added_once(self, url: str) -> None:
        with Ledger(url) as ledger:
            ledger.add(entry_of(1))
            with pytest.raises(LedgerError, match="already"):
                ledger.add(entry_of(1, customer="somebody else"))
            assert ledger.entries() == [entry_of(1)]

    def test_the_first_digits_find_a_license(self, url: str) -> None:
        ids = ("aaaabbbb0", "aaaacccc1", "aaaacccc12", "aaaacccc2")
        with Ledger(url) as ledger:
            for license_id in ids:
                ledger.add(entry_of(0, license_id=license_id))
            assert ledger.get("aaaabbbb").license_id == "aaaabbbb0"
            assert ledger.get("AAAABBBB0").license_id == "aaaabbbb0"
            assert ledger.get("aaaacccc1").license_id == "aaaacccc1"  # a whole id comes first
            with pytest.raises(LedgerError, match="more than one") as caught:
                ledger.get("aaaacccc")
            assert caught.value.hint
            with pytest.raises(LedgerError, match="no license aaaabbbb1"):
                ledger.get("aaaabbbb1")

    @pytest.mark.parametrize("text", ["", "aaaabbb", "%" * 8, "aaaa____", "' OR 1=1 --", "a" * 129])
    def test_what_is_no_id_finds_nothing(self, url: str, text: str) -> None:
        with Ledger(url) as ledger:
            ledger.add(entry_of(0, license_id="aaaabbbb0"))
            for look_up in (ledger.get, lambda text: ledger.revoke(text, at=NOW)):
                with pytest.raises(LedgerError, match="not a license id") as caught:
                    look_up(text)
                assert caught.value.hint
            assert ledger.revoked_ids() == []

    def test_entries_are_in_the_order_of_issue(self, url: str) -> None:
        entries = [entry_of(9), entry_of(5, issued_at=NOW - HOUR), entry_of(7), entry_of(8)]
        with Ledger(url) as ledger:
            for entry in entries:
                ledger.add(entry)
            numbers = [int(entry.license_id, 16) for entry in ledger.entries()]
        assert numbers == [5, 9, 7, 8]

    def test_entries_are_chosen_by_customer_product_and_state(self, url: str) -> None:
        with Ledger(url) as ledger:
            ledger.add(entry_of(1, customer="a", product="x"))
            ledger.add(entry_of(2, customer="a", product="y"))
            ledger.add(entry_of(3, customer="b", product="x"))
            ledger.revoke(entry_of(2).license_id, at=NOW)

            def chosen(**choice: Any) -> list[int]:
                return [int(entry.license_id, 16) for entry in ledger.entries(**choice)]

            assert chosen() == [1, 2, 3]
            assert chosen(customer="a") == [1, 2]
            assert chosen(product="x") == [1, 3]
            assert chosen(customer="a", product="y") == [2]
            assert chosen(customer="A") == []
            assert chosen(revoked=True) == [2]
            assert chosen(revoked=False) == [1, 3]
            assert chosen(customer="a", revoked=False) == [1]

    def test_names_are_taken_literally(self, url: str) -> None:
        with Ledger(url) as ledger:
            for number, name in enumerate(NAMES):
                ledger.add(entry_of(number, customer=name, product=name[::-1]))
            for number, name in enumerate(NAMES):
                expected = [entry_of(number, customer=name, product=name[::-1])]
                assert ledger.entries(customer=name) == expected
                assert ledger.entries(product=name[::-1]) == expected
            assert len(ledger.entries()) == len(NAMES)

    def test_a_license_is_revoked(self, url: str) -> None:
        with Ledger(url) as ledger:
            for number in (1, 2, 3):
                ledger.add(entry_of(number))
            revoked = ledger.revoke(entry_of(3).license_id, at=NOW, reason="refunded")
            assert revoked == entry_of(3, revoked_at=NOW, reason="refunded")
            ledger.revoke(entry_of(1).license_id, at=NOW + HOUR)
        with Ledger(url) as ledger:
            assert ledger.get(revoked.license_id) == revoked
            assert ledger.get(entry_of(2).license_id) == entry_of(2)
            assert ledger.revoked_ids() == [revoked.license_id, entry_of(1).license_id]

    def test_the_first_revocation_counts(self, url: str) -> None:
        with Ledger(url) as ledger:
            ledger.add(entry_of(1))
            first = ledger.revoke(entry_of(1).license_id, at=NOW, reason="refunded")
            second = ledger.revoke(entry_of(1).license_id, at=NOW + HOUR, reason="stolen")
            assert second == first == ledger.get(first.license_id)
            assert (first.revoked_at, first.reason) == (NOW, "refunded")

    def test_an_unknown_license_cannot_be_revoked(self, url: str) -> None:
        with Ledger(url) as ledger, pytest.raises(LedgerError, match="no license"):
            ledger.revoke("deadbeef", at=NOW)

    def test_wrapped_content_keys_are_kept_and_replaced(self, url: str) -> None:
        with Ledger(url) as ledger:
            assert ledger.wrapped_content_key("c0ffee") is None
            ledger.keep_content_key("c0ffee", "resnet56", bytes(range(256)))
            ledger.keep_content_key("c0ffee00", "resnet56", b"another")
        with Ledger(url) as ledger:
            assert ledger.wrapped_content_key("c0ffee") == bytes(range(256))
            ledger.keep_content_key("c0ffee", "resnet56", b"\0replaced")
            assert ledger.wrapped_content_key("c0ffee") == b"\0replaced"
            assert ledger.wrapped_content_key("c0ffee00") == b"another"

    def test_one_ledger_serves_many_threads(self, url: str) -> None:
        with Ledger(url) as ledger, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: ledger.add(entry_of(number)), range(40)))
            assert len(ledger.entries()) == 40

    def test_a_ledger_may_be_opened_for_the_first_time_by_many_at_once(self, url: str) -> None:
        together = threading.Barrier(8)

        def open_and_add(number: int) -> None:
            together.wait(60)
            with Ledger(url) as ledger:
                ledger.add(entry_of(number))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(open_and_add, range(8)))
        with Ledger(url) as ledger:
            assert len(ledger.entries()) == 8

    def test_two_processes_add_at_once(self, url: str) -> None:
        assert run_together(("add", url, "0"), ("add", url, "50")) == ["50", "50"]
        with Ledger(url) as ledger:
            entries = ledger.entries()
        assert sorted(entries, key=lambda entry: entry.license_id) == [
            entry_of(number) for number in range(100)
        ]

    def test_two_processes_that_add_the_same_entries_share_them(self, url: str) -> None:
        added = run_together(("add", url, "0"), ("add", url, "0"))
        assert sum(map(int, added)) == 50
        with Ledger(url) as ledger:
            assert len(ledger.entries()) == 50

    def test_two_processes_keep_the_same_content_keys_at_once(self, url: str) -> None:
        assert run_together(("keep", url, "a"), ("keep", url, "b")) == ["50", "50"]
        with Ledger(url) as ledger:
            kept = {ledger.wrapped_content_key(f"{number:04x}") for number in range(50)}
        assert kept <= {b"a" * 100, b"b" * 100}

    def test_two_processes_that_revoke_at_once_agree_on_who_was_first(self, url: str) -> None:
        with Ledger(url) as ledger:
            for number in range(50):
                ledger.add(entry_of(number))
        revoked = run_together(("revoke", url, "refunded"), ("revoke", url, "stolen"))
        assert sum(map(int, revoked)) == 50
        with Ledger(url) as ledger:
            reasons = [entry.reason for entry in ledger.entries(revoked=True)]
        assert [str(reasons.count("refunded")), str(reasons.count("stolen"))] == revoked

    def test_a_process_that_dies_leaves_no_half_of_an_entry(self, url: str) -> None:
        with Ledger(url) as ledger:
            ledger.add(entry_of(1))
        assert run("die_adding", url) == -signal.SIGKILL
        with Ledger(url) as ledger:
            assert ledger.entries() == [entry_of(1)]
            ledger.add(entry_of(2))
            assert ledger.entries() == [entry_of(1), entry_of(2)]

    def test_a_process_that_dies_making_the_tables_leaves_none(self, url: str) -> None:
        assert run("die_making_tables", url) == -signal.SIGKILL
        with Ledger(url) as ledger:
            ledger.add(entry_of(1))
            assert ledger.entries() == [entry_of(1)]

    def test_a_ledger_that_is_only_read_makes_no_tables(self, url: str) -> None:
        with Ledger(url) as ledger:
            assert ledger.entries() == []
            assert ledger.revoked_ids() == []
            assert ledger.wrapped_content_key("c0ffee") is None
            for look_up in (ledger.get, lambda digits: ledger.revoke(digits, at=NOW)):
                with pytest.raises(LedgerError, match="is in the ledger"):
                    look_up("5f0c2a91")
        with pytest.raises(sqlalchemy.exc.DBAPIError):
            execute(url, "SELECT * FROM nnguard_ledger")

    def test_a_ledger_sees_what_another_made_meanwhile(self, url: str) -> None:
        with Ledger(url) as early, Ledger(url) as late:
            assert early.entries() == []
            late.add(entry_of(1))
            assert early.entries() == [entry_of(1)]
            early.add(entry_of(2))
            assert late.entries() == [entry_of(1), entry_of(2)]

    def test_a_ledger_of_a_newer_version_is_refused(self, url: str) -> None:
        with Ledger(url) as ledger:
            ledger.add(entry_of(1))
        set_version(url, 3)
        with pytest.raises(LedgerError, match="version 3") as caught:
            Ledger(url)
        assert "newer" in caught.value.hint
        set_version(url, 2)
        with Ledger(url) as ledger:
            assert ledger.entries() == [entry_of(1)]

    def test_a_malformed_row_is_told_by_its_number(self, url: str) -> None:
        with Ledger(url) as ledger:
            ledger.add(entry_of(1))
            execute(url, "UPDATE nnguard_licenses SET stream = 'what?'")
            with pytest.raises(LedgerError, match="row 1"):
                ledger.get(entry_of(1).license_id)
            execute(url, f"UPDATE nnguard_licenses SET stream = '5e', issued_at = {1 << 60}")
            with pytest.raises(LedgerError, match="row 1"):
                ledger.entries()

    def test_missing_tables_are_an_error_without_the_values(self, url: str) -> None:
        with Ledger(url) as ledger:
            ledger.add(entry_of(1))
            execute(url, "DROP TABLE nnguard_licenses")
            with pytest.raises(LedgerError, match="nnguard_licenses") as caught:
                ledger.add(entry_of(2))
        assert "Example Inc." not in f"{caught.value}{caught.value.hint}"


def execute(url: str, statement: str) -> None:
    """Do something to the database that a ledger does not do."""
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)
    finally:
        engine.dispose()


def set_version(url: str, version: int) -> None:
    execute(url, f"UPDATE nnguard_ledger SET version = {version}")


def run(*job: str, program: str = __file__) -> int:
    """Do a job in a process of its own; return how it ended."""
    return subprocess.run([sys.executable, program, *job], timeout=60, check=False).returncode


def run_together(*jobs: tuple[str, ...], program: str = __file__) -> list[str]:
    """Do jobs in processes that start at the same moment; return what they say."""
    processes = [
        subprocess.Popen(
            [sys.executable, program, *job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for job in jobs
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = []
    for process in processes:
        answer, complaints = process.communicate(timeout=60)
        assert complaints == ""
        said.append(answer.strip())
    return said


def together(job: Callable[[str, str], int]) -> Callable[[str, str], None]:
    def wait_and_do(url: str, argument: str) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        sys.stdout.write(f"{job(url, argument)}\n")

    return wait_and_do


@together
def add(url: str, first: str) -> int:
    """Open the ledger and add 50 entries; return how many were new."""
    added = 0
    with Ledger(url) as ledger:
        for number in range(int(first), int(first) + 50):
            try:
                ledger.add(entry_of(number))
            except LedgerError as error:
                assert "already" in str(error), error  # noqa: PT017
            else:
                added += 1
    return added


@together
def revoke(url: str, reason: str) -> int:
    """Revoke 50 entries; return how many bear this reason."""
    with Ledger(url) as ledger:
        revoked = [
            ledger.revoke(entry_of(number).license_id, at=NOW, reason=reason)
            for number in range(50)
        ]
    return sum(entry.reason == reason for entry in revoked)


@together
def keep(url: str, letter: str) -> int:
    with Ledger(url) as ledger:
        for number in range(50):
            ledger.keep_content_key(f"{number:04x}", "resnet56", letter.encode() * 100)
    return 50


def die_adding(url: str) -> None:
    """Be killed with a license of 5 MB on its way to the disk, a moment before it is committed."""
    with Ledger(url) as ledger:
        die_at_next_commit()
        ledger.add(entry_of(9, armored="0123456789abcde\n" * 300_000))


def die_making_tables(url: str) -> None:
    """Be killed when all tables are made and not yet committed."""

    def die_when_there_are_tables(connection: sqlalchemy.Connection) -> None:
        if sqlalchemy.inspect(connection).has_table("nnguard_licenses"):
            os.kill(os.getpid(), signal.SIGKILL)

    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", die_when_there_are_tables)
    with Ledger(url) as ledger:
        ledger.add(entry_of(9))


def die_at_next_commit() -> None:
    def die(connection: sqlalchemy.Connection) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", die)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
