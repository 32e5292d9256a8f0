"""What is left when a license server, or its database, ends in the middle of issuing licenses.

    python tests/faults/server.py [--kills N] [--crashes N]

Two instances of `nnguard serve` share a PostgreSQL. Machines ask for licenses without a pause, each
at one instance, and at the other where no answer comes. Meanwhile one instance after the other is
killed at a moment chosen by chance, and replaced; then PostgreSQL itself ends, in immediate mode,
and starts again. Afterwards is counted:

- every machine has one license, the same in each answer that it got, and it is in the ledger;
- the ledger has no other, and no order more seats than were bought;
- the audit log is whole, and has each license once;
- somebody who is told by webhook has heard of each license, whoever was killed while telling.

Prints a table, and ends with 1 if anything of this is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from instances import Answer, Connection, Instance, Starter, Vendor, ask, starting, vendor
from nnguard._server.metrics import Metrics
from nnguard._server.settings import ServerSettings
from nnguard._server.telling import Teller
from nnguard.errors import LedgerError
from nnguard.licensing import Request
from postgresql import Server, running_server

SEED = 18
AT_ONCE = 6
LONGEST = 0.25
"""Seconds until a kill, from the next answer."""

LATER = 3600.0


@dataclass
class Counts:
    """What happened.

    Attributes:
        events: Kills, and whatever else is counted by name.
        answers: Licenses that each request got, by request.
    """

    events: Counter[str] = field(default_factory=Counter)
    answers: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class World:
    """A vendor with two instances, and machines that ask.

    Attributes:
        seller: Has the ledger.
        starter: Starts instances.
        hook: URL that is told of licenses.
        instances: Those that run.
        counts: What happened.
        going: Machines ask for more while it is set.
        ended: They ask for no more.
    """

    seller: Vendor
    starter: Starter
    hook: str
    instances: list[Instance] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    going: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    def start(self) -> Instance:
        return self.starter.start(self.seller, "--webhook", self.hook)

    async def machines(self) -> None:
        """Ask for licenses over some connections, until it is over."""
        await asyncio.gather(*(self._machine(number) for number in range(AT_ONCE)))

    async def _machine(self, number: int) -> None:
        requests: list[Request] = []
        while not self.ended:
            if not requests:
                requests = await asyncio.to_thread(self._sell)
            await self.going.wait()
            await self._ask(requests.pop(), number)

    def _sell(self) -> list[Request]:
        """Sell two seats; return the requests for them."""
        while True:
            try:
                return self.seller.requests(self.seller.issuer.order("small", seats=2), 2)
            except LedgerError:  # the database is away
                time.sleep(0.05)

    async def _ask(self, request: Request, number: int) -> None:
        """Ask until there is a license; sometimes once more, though there is one."""
        got = self.counts.answers.setdefault(request.nonce, [])
        again = 1 + (number == 0)
        was_cut = False
        while len(got) < again:
            connection = Connection(self.instances[number % len(self.instances)].url)
            number += 1
            try:
                answer = await ask(connection, request)
            except ConnectionResetError:  # the request was sent
                was_cut = True
                continue
            except OSError:
                await asyncio.sleep(0.01)
                continue
            finally:
                connection.close()
            self._note(answer, got, was_cut=was_cut)
            if answer.status >= 300:
                await asyncio.sleep(0.05)

    def _note(self, answer: Answer, got: list[str], *, was_cut: bool) -> None:
        if answer.status in (200, 201):
            if was_cut and not got:
                name = "was issued before" if answer.status == 200 else "was not issued yet"
                self.counts.events["cut off: " + name] += 1
            got.append(answer.license_id)
        else:
            self.counts.events[f"status {answer.status}"] += 1


async def kill(world: World, kills: int) -> None:
    """Kill an instance at any moment, and let another one take its place; again and again."""
    chance = random.Random(SEED)
    for number in range(kills):
        world.going.set()
        await some_answer(world)
        await asyncio.sleep(chance.uniform(0, LONGEST))
        world.instances[number % 2].kill()
        world.counts.events["kills"] += 1
        world.going.clear()  # a start takes time, which more licenses would only make longer
        world.instances[number % 2] = await asyncio.to_thread(world.start)
    world.going.set()


async def crash(world: World, database: Server, crashes: int) -> None:
    """Let PostgreSQL end without a checkpoint, and start again; again and again."""
    chance = random.Random(SEED)
    for _ in range(crashes):
        await some_answer(world)
        await asyncio.sleep(chance.uniform(0, LONGEST))
        await asyncio.to_thread(database.crash)
        world.counts.events["crashes"] += 1
    await some_answer(world)


async def some_answer(world: World) -> None:
    """Wait until some machine has got another license."""
    before = sum(map(len, world.counts.answers.values()))
    while sum(map(len, world.counts.answers.values())) == before:
        await asyncio.sleep(0.002)


async def meanwhile(world: World, trouble: Callable[[], Awaitable[None]]) -> None:
    """Make trouble while machines ask; wait until each of them has its license."""
    asking = asyncio.create_task(world.machines())
    try:
        await trouble()
    finally:
        world.ended = True
        await asking
        world.ended = False


@contextlib.contextmanager
def receiver() -> Iterator[tuple[str, Counter[str]]]:
    """Run somebody who is told of licenses; give the URL, and how often each was told of."""
    heard: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not body:  # who sends it was killed
                return
            message = json.loads(body)
            if message["type"] == "license.issued":
                heard[message["data"]["license"]] += 1
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", heard
        server.shutdown()


def faults_of(world: World, heard: Counter[str]) -> list[str]:
    """Return what is wrong afterwards."""
    seller = world.seller
    wrong = [f"{nonce}: {ids}" for nonce, ids in world.counts.answers.items() if len({*ids}) != 1]
    answered = Counter(ids[0] for ids in world.counts.answers.values() if ids)
    wrong += [f"two machines have {found}" for found, count in answered.items() if count > 1]
    entries = {entry.license_id: entry for entry in seller.ledger.entries()}
    if answered.keys() != entries.keys():
        wrong.append(f"{len(answered)} licenses were sent, {len(entries)} are in the ledger")
    for order_id, count in Counter(entry.order_id for entry in entries.values()).items():
        if count > 2 or len(seller.ledger.seats(order_id)) != count:
            wrong.append(f"order {order_id} has {count} licenses")
    head = seller.ledger.check_audit()
    log = seller.ledger.audit(limit=head.number if head else 1)
    noted = Counter(entry.subject for entry in log if entry.action == "license.issued")
    if noted != Counter(entries.keys()):
        wrong.append(f"{len(noted)} licenses are in the audit log, {len(entries)} in the ledger")
    tell_the_rest(world)
    if heard.keys() != entries.keys():
        wrong.append(f"{len(heard)} licenses were told of, {len(entries)} are in the ledger")
    counts = world.counts.events
    counts["licenses"], counts["audit entries"] = len(entries), head.number if head else 0
    counts["told twice"] = sum(count - 1 for count in heard.values())
    return wrong


def tell_the_rest(world: World) -> None:
    """Tell what killed instances had taken, an hour later."""
    settings = ServerSettings(webhook_urls=(world.hook,), clock=lambda: time.time() + LATER)
    ledger = world.seller.ledger
    teller = Teller(world.seller.issuer, settings, Metrics(ledger.backlog))
    while teller.tell_due():
        pass
    teller.stop()
    assert not ledger.backlog()


def run(kills: int, crashes: int) -> int:
    """Make all the trouble, print what came of it, and return how much is wrong."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(settings={"fsync": "on"}) as database,
        vendor(database.url(database.make_database()), Path(folder)) as seller,
        receiver() as (hook, heard),
        starting() as starter,
    ):
        world = World(seller, starter, hook)
        world.instances += [world.start(), world.start()]
        asyncio.run(meanwhile(world, lambda: kill(world, kills)))
        asyncio.run(meanwhile(world, lambda: crash(world, database, crashes)))
        for each in world.instances:
            each.stop()
        wrong = faults_of(world, heard)
        bugs = [line for log in Path(folder).glob("*.log") for line in bugs_in(log)]
    print("| what | how often |\n|---|--:|")
    for name, count in world.counts.events.items():
        print(f"| {name} | {count:,} |")
    print(f"| wrong | {len(wrong) + len(bugs):,} |")
    for each in (wrong + bugs)[:20]:
        print(each, file=sys.stderr)
    return len(wrong) + len(bugs)


def bugs_in(log: Path) -> list[str]:
    """Return lines that tell of a bug."""
    return [line for line in log.read_text().splitlines() if '"error": "' in line]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--crashes", type=int, default=20)
    options = parser.parse_args()
    return bool(run(options.kills, options.crashes))


if __name__ == "__main__":
    sys.exit(main())
