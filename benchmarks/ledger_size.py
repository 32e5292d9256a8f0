"""What a page and an issue take in a ledger with a million orders.

    PYTHONPATH=tests python benchmarks/ledger_size.py [--orders N] [--sqlite]

Orders, seats, licenses and events are copied from one that was really issued, inside the database,
with other ids, over three years; a tenth is revoked. (Their audit log is not: it is one entry.)
Then each question of the server and of its pages is asked, `--times` times. Prints Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from sqlalchemy import create_engine, text

from instances import Vendor, vendor
from nnguard._base.times import now
from nnguard._server.published import revocations
from nnguard.licensing import Ledger
from postgresql import running_server

SETTINGS = {"fsync": "on", "shared_buffers": "512MB", "max_wal_size": "4GB"}
YEARS = 3
DAY = 86400

SERIES = {
    "postgresql": "generate_series(1, :count) AS s(n)",
    "sqlite": "(WITH RECURSIVE s(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM s LIMIT :count) "
    "SELECT n FROM s) AS s",
}
IDS = {  # 16 and 32 hexadecimal digits that look as if by chance
    "postgresql": ("substr(md5(n || '{0}'), 1, 16)", "md5(n || '{0}')"),
    "sqlite": (
        "printf('%016x', (n * 2654435761 + {1}) & 9223372036854775807)",
        "printf('%016x%016x', (n * 2654435761 + {1}) & 9223372036854775807, n)",
    ),
}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--sqlite", action="store_true", help="an SQLite file, not PostgreSQL")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.sqlite:
            url = f"sqlite:///{folder}/licenses.db"
            with vendor(url, Path(folder)) as seller:
                measure(seller, options)
            return
        with running_server(settings=SETTINGS) as database:
            url = database.url(database.make_database())
            with vendor(url, Path(folder)) as seller:
                measure(seller, options)


def measure(seller: Vendor, options: argparse.Namespace) -> None:
    """Fill the ledger, and ask."""
    order = seller.issuer.order("small", customer="Ada", reference="first")
    seller.issuer.answer(seller.requests(order, 1)[0])
    begun = time.perf_counter()
    fill(seller.url, options.orders)
    print(f"{options.orders:,} orders, in {time.perf_counter() - begun:.0f} s\n")
    print("| what | median | longest |\n|---|--:|--:|")
    for name, ask in questions(seller).items():
        times = []
        for _ in range(options.times):
            begun = time.perf_counter()
            ask()
            times.append(1000 * (time.perf_counter() - begun))
        print(f"| {name} | {statistics.median(times):.1f} ms | {max(times):.1f} ms |", flush=True)


def fill(url: str, count: int) -> None:
    """Copy what there is of one order, so many times."""
    engine = create_engine(url)
    kind = engine.url.get_backend_name()
    short, long = IDS[kind]
    texts = {"order": short.format("o", 1), "seat": short.format("s", 2)}
    texts |= {"license": long.format("l", 3), "nonce": long.format("n", 4)}
    texts |= {"event": long.format("e", 5), "past": f"(n % {YEARS * 365} * {DAY})"}
    changes = {
        "orders": {
            "id": "{order}",
            "reference": "'shop-' || n",
            "customer": "'Customer ' || n",
            "created_at": "created_at - {past}",
        },
        "licenses": {
            "license_id": "{license}",
            "customer": "'Customer ' || n",
            "issued_at": "issued_at - {past}",
            "revoked_at": "CASE WHEN n % 10 = 0 THEN issued_at END",
        },
        "seats": {
            "id": "{seat}",
            "order_id": "{order}",
            "license_id": "{license}",
            "taken_at": "taken_at - {past}",
        },
        "activations": {
            "license_id": "{license}",
            "seat_id": "{seat}",
            "order_id": "{order}",
            "nonce": "{nonce}",
        },
        "outbox": {"id": "{event}", "due_at": "NULL", "delivered_at": "at"},
    }
    with engine.begin() as connection:
        for table, changed in changes.items():
            name = f"nnguard_{table}"
            found = connection.execute(text(f"SELECT * FROM {name} LIMIT 1")).mappings().one()
            columns = [column for column in found if column != "number"]
            names = ", ".join(f'"{column}"' for column in columns)
            values = [changed.get(column, f't."{column}"').format(**texts) for column in columns]
            connection.execute(
                text(
                    f"INSERT INTO {name} ({names}) "
                    f"SELECT {', '.join(values)} FROM {SERIES[kind]}, "
                    f"(SELECT * FROM {name} LIMIT 1) AS t"
                ),
                {"count": count},
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
        if kind == "postgresql":
            connection.execute(text("VACUUM"))
    engine.dispose()


def questions(seller: Vendor) -> dict[str, Callable[[], object]]:
    """Return what is asked of a ledger, by name."""
    ledger, issuer = seller.ledger, seller.issuer
    newest = ledger.orders(limit=2)
    license_id = ledger.licenses(limit=2)[1].license_id
    request = seller.requests(issuer.order("small"), 1)[0]
    issuer.answer(request)
    today: date = now().date()

    def issue() -> None:
        order = issuer.order("small", reference=str(time.time()))
        issuer.answer(seller.requests(order, 1)[0])

    return {
        "an order, and a license of it": issue,
        "the same license again": lambda: issuer.answer(request),
        "orders, first page": lambda: ledger.orders(limit=50),
        "orders, next page": lambda: ledger.orders(limit=50, after=newest[1].id),
        "orders that are cancelled": lambda: ledger.orders(limit=50, state="cancelled"),
        "orders of one product": lambda: ledger.orders(limit=50, product="small"),
        "search for a customer's order": lambda: ledger.orders(search="Customer 4711", limit=50),
        "search for what is not there": lambda: ledger.orders(search="Nobody", limit=50),
        "one order, its seats": lambda: ledger.seats(newest[1].id),
        "one order, its licenses": lambda: ledger.licenses(order=newest[1].id, limit=50),
        "licenses, first page": lambda: ledger.licenses(limit=50),
        "licenses, next page": lambda: ledger.licenses(limit=50, after=license_id),
        "licenses that are revoked": lambda: ledger.licenses(limit=50, state="revoked"),
        "licenses that are expired": lambda: ledger.licenses(limit=50, state="expired"),
        "search for a customer's license": lambda: ledger.licenses(
            search="Customer 4711", limit=50
        ),
        "a license by its first digits": lambda: ledger.get(license_id[:12]),
        "how many are revoked": ledger.count_revoked,
        "revocation list, signed anew": issuer.revocation_list,
        "revocation list, as it is kept": lambda: revocations(issuer, time.time()),
        "events that wait": ledger.backlog,
        "events that are due": lambda: ledger.take_events(20, at=now() - timedelta(days=9)),
        "activations of a month": lambda: ledger.activations(today - timedelta(days=30), today),
        "open the ledger": lambda: Ledger(seller.url).close(),
    }


if __name__ == "__main__":
    main()
