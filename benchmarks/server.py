"""What two instances of `nnguard serve` do on one PostgreSQL, beside the database's bare inserts.

    PYTHONPATH=tests python benchmarks/server.py [--requests N] [--connections N]

All on this machine: PostgreSQL with its own settings (every commit is on the disk), two instances,
and the clients. Prints Markdown, and ends with 1 if a count is wrong:

1. as many requests as `--requests`, each of another machine and order, over so many connections:
   requests per second, median and 99th percentile; then the same requests once more;
2. the same number of rows with the same licenses, by the same number of connections, each with an
   INSERT and a COMMIT of its own, through the same driver;
3. 1,000 requests at the same time, each sent to both instances: licenses are counted afterwards;
4. 200 machines race for an order of 10 seats, each to both instances: seats are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from instances import Answer, Connection, Instance, Vendor, ask, starting, vendor
from nnguard.licensing import Request
from postgresql import Server, running_server

SETTINGS = {"fsync": "on", "shared_buffers": "128MB"}
MACHINES, RACERS, SEATS = 1000, 200, 10
PATIENT = 100


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(settings=SETTINGS) as database,
        vendor(database.url(database.make_database()), Path(folder)) as seller,
        starting() as starter,
    ):
        instances = [starter.start(seller), starter.start(seller)]
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.0f} at the beginning\n")
        steady(seller, database, instances, options)
        wrong = burst(seller, instances) + race(seller, instances)
        head = seller.ledger.check_audit()
        print(f"The audit log's {head.number if head else 0:,} entries are whole.")
        print("wrong:", wrong)
        return bool(wrong)


def steady(
    seller: Vendor, database: Server, instances: list[Instance], options: argparse.Namespace
) -> None:
    """Measure answers, answers that are given again, and bare inserts."""
    requests = one_each(seller, options.requests)
    print(f"| {options.requests:,} at {options.connections} connections | per second | p50 | p99 |")
    print("|---|--:|--:|--:|")
    answers: list[Answer] = []
    for name, status in (("licenses", 201), ("the same again", 200)):
        begun = time.perf_counter()
        answers = asyncio.run(over(instances, requests, options.connections))
        row(name, [answer.seconds for answer in answers], time.perf_counter() - begun)
        assert {answer.status for answer in answers} == {status}
    begun = time.perf_counter()
    times = inserts(database, [answer.text for answer in answers], options.connections)
    row("bare inserts", times, time.perf_counter() - begun)
    print()


def one_each(seller: Vendor, count: int) -> list[Request]:
    """Sell to so many customers, one seat each; return their requests."""
    return [seller.requests(seller.issuer.order("small"), 1)[0] for _ in range(count)]


async def over(
    instances: list[Instance], requests: list[Request], connections: int
) -> list[Answer]:
    """Send requests over so many connections, one after the other over each."""
    left = iter(requests)
    answers: list[Answer] = []

    async def client(instance: Instance) -> None:
        connection = Connection(instance.url)
        for request in left:
            answers.append(await ask(connection, request))
        connection.close()

    clients = (client(instances[at % len(instances)]) for at in range(connections))
    await asyncio.gather(*clients)
    return answers


def inserts(database: Server, texts: Sequence[str], connections: int) -> list[float]:
    """Insert rows, each with a commit of its own; return how long each took."""
    name = database.make_database()
    database.execute("CREATE TABLE bare (number serial PRIMARY KEY, text text)", name)
    left, times = iter(texts), []
    taking = threading.Lock()

    def insert() -> None:
        with database.connect(name) as connection:
            while True:
                with taking:
                    text = next(left, None)
                if text is None:
                    return
                begun = time.perf_counter()
                connection.execute("INSERT INTO bare (text) VALUES (%s)", (text,))
                times.append(time.perf_counter() - begun)

    together([insert] * connections)
    return times


def together(works: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def row(name: str, times: list[float], seconds: float) -> None:
    """Print a row of the table."""
    times = sorted(times)
    middle, most = (1000 * times[int(part * (len(times) - 1))] for part in (0.5, 0.99))
    print(f"| {name} | {len(times) / seconds:.0f} | {middle:.1f} ms | {most:.1f} ms |")


def burst(seller: Vendor, instances: list[Instance]) -> int:
    """Send many requests at the same time, each to every instance; return what is wrong."""
    requests = one_each(seller, MACHINES)
    before = len(licenses(seller))
    begun = time.perf_counter()
    answers, busy = asyncio.run(at_once(instances, requests))
    seconds = time.perf_counter() - begun
    ids = [{answer.license_id for answer in each} for each in answers]
    wrong = sum(len(found) != 1 for found in ids)
    entries = licenses(seller)[before:]
    wrong += {found for each in ids for found in each} != {*entries}
    wrong += len(entries) != MACHINES
    statuses = Counter(answer.status for each in answers for answer in each)
    print(
        f"{len(requests) * len(instances):,} requests at once, of {MACHINES:,} machines: "
        f"{dict(statuses)} after {seconds:.1f} s ({busy} were busy and tried again); "
        f"{len(entries):,} licenses are in the ledger, {wrong} wrong.\n"
    )
    return wrong


def race(seller: Vendor, instances: list[Instance]) -> int:
    """Let machines race for seats; return what is wrong."""
    order = seller.issuer.order("small", seats=SEATS)
    answers, _ = asyncio.run(at_once(instances, seller.requests(order, RACERS)))
    got = [{answer.license_id for answer in each if answer.status < 300} for each in answers]
    seats = seller.ledger.seats(order.id)
    with_license = [found for found in got if found]
    wrong = (len(seats) != SEATS) + (len(with_license) != SEATS)
    wrong += sum(len(found) > 1 for found in got)
    wrong += len(seller.ledger.licenses(order=order.id)) != SEATS
    statuses = Counter(answer.status for each in answers for answer in each)
    print(
        f"{RACERS} machines for {SEATS} seats: {dict(statuses)}; {len(seats)} seats are taken, "
        f"by {len(with_license)} machines.\n"
    )
    return wrong


async def at_once(
    instances: list[Instance], requests: list[Request]
) -> tuple[list[list[Answer]], int]:
    """Send each request to every instance, all at the same time; who is busy is asked again."""
    busy = 0

    async def client(instance: Instance, request: Request) -> Answer:
        nonlocal busy
        connection = Connection(instance.url)
        for wait in range(PATIENT):
            try:
                answer = await ask(connection, request)
            except OSError:
                answer = None
            if answer is not None and answer.status != 503:
                connection.close()
                return answer
            busy += 1
            await asyncio.sleep(0.1 * (wait + 1))
        raise AssertionError("never answered")

    async def machine(request: Request) -> list[Answer]:
        return [*await asyncio.gather(*(client(each, request) for each in instances))]

    return [*await asyncio.gather(*map(machine, requests))], busy


def licenses(seller: Vendor) -> list[str]:
    """Return the ids of all licenses in the ledger, the oldest first."""
    return [entry.license_id for entry in seller.ledger.entries()]


if __name__ == "__main__":
    sys.exit(main())
