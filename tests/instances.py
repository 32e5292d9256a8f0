"""Instances of `nnguard serve` in processes of their own, and clients in a hurry.

Processes are forked from one that has imported all of it, so that hundreds can be started and
killed. Run as a program, it is that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import nnguard
from nnguard.licensing import Device, Issuer, Ledger, License, Order, Request
from sales import sell

__all__ = ["Answer", "Connection", "Instance", "Starter", "Vendor", "ask", "starting", "vendor"]

PATIENCE = 60
PRODUCT = "small"
_NO_LIMITS = ("--rate", "1000000/second", "--guess-rate", "1000000/second")


@dataclass
class Vendor:
    """Whose licenses are sold: a ledger with a product, and keys in files.

    Attributes:
        folder: Of the keys.
        url: Of the ledger.
        issuer: Sells.
    """

    folder: Path
    url: str
    issuer: Issuer

    @property
    def ledger(self) -> Ledger:
        return self.issuer.ledger

    def requests(self, order: Order, count: int) -> list[Request]:
        """Return requests of so many machines, each with its own identity."""
        product, code = self.ledger.product(PRODUCT), self.issuer.code(order)
        return [
            Request.make(
                nnguard.Identity.generate(),
                stream=product.stream,
                lock=product.lock,
                order=code,
                device=Device.named(f"machine-{number}"),
            )
            for number in range(count)
        ]


@contextlib.contextmanager
def vendor(url: str, folder: Path) -> Iterator[Vendor]:
    """Let a vendor begin to sell."""
    key, identity = nnguard.SigningKey.generate(), nnguard.Identity.generate()
    key.save(folder / "vendor.key")
    identity.save(folder / "desk.key")
    sale = sell(key, sign_trial=True)
    with Ledger(url) as ledger:
        issuer = Issuer(ledger, key, identity)
        issuer.add_product(sale.locked.trial, sale.locked.content_key, name=PRODUCT)
        yield Vendor(folder, url, issuer)


@dataclass
class Instance:
    """A process that serves.

    Attributes:
        pid: Of the process.
        url: Where it listens.
        log: File with what it has logged.
    """

    pid: int
    url: str
    log: Path

    def kill(self) -> None:
        """End it, as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Let it end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)


@dataclass
class Starter:
    """Starts instances.

    Attributes:
        process: They are forked from it.
        started: All of them, in order.
    """

    process: subprocess.Popen[str]
    started: list[Instance] = field(default_factory=list)

    def start(self, seller: Vendor, *options: str) -> Instance:
        """Start an instance that serves a vendor's ledger, and wait until it listens."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        log = seller.folder / f"instance{len(self.started)}.log"
        keys = ["--key", seller.folder / "vendor.key", "--ledger-key", seller.folder / "desk.key"]
        words = ["serve", "--ledger", seller.url, *keys, "--port", "0", *_NO_LIMITS, *options]
        self.process.stdin.write(json.dumps([str(log), *map(str, words)]) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        instance = Instance(pid, _listening(log), log)
        self.started.append(instance)
        return instance


def _listening(log: Path) -> str:
    """Return the URL that an instance says that it listens at."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines() if log.exists() else ():
            if line.endswith("}") and json.loads(line)["event"] == "listening":
                return str(json.loads(line)["url"])
        time.sleep(0.005)
    raise AssertionError(f"it does not listen: {log.read_text() if log.exists() else ''}")


@contextlib.contextmanager
def starting() -> Iterator[Starter]:
    """Start and end the process that instances are forked from, and them with it."""
    command = [sys.executable, __file__]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        starter = Starter(process)
        try:
            yield starter
        finally:
            for each in starter.started:
                each.stop()


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: Of HTTP.
        text: Of the body.
        seconds: How long it took.
    """

    status: int
    text: str
    seconds: float

    @property
    def license_id(self) -> str:
        return License.from_text(self.text).terms.id


class Connection:
    """A connection that stays open: HTTP/1.1, and no more of it than this needs."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> Answer:
        """Send a body, and wait for the answer.

        Raises:
            OSError: There is none.
        """
        begun = time.perf_counter()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: text/plain\r\n"
        try:
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:] if line)
            answer = await reader.readexactly(int(headers["content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            raise ConnectionResetError("no answer") from None
        if headers.get("connection") == "close":
            self.close()
        status = int(lines[0].split(" ")[1])
        return Answer(status, answer.decode(), time.perf_counter() - begun)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def ask(connection: Connection, request: Request) -> Answer:
    """Ask for a license."""
    return await connection.post("/v1/licenses", str(request).encode())


def _main() -> None:
    """Fork instances as told by standard input, until that ends."""
    import nnguard.__main__
    import nnguard._cli.serving
    import nnguard._server.app
    import nnguard._server.listening

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        log, *words = json.loads(line)
        pid = os.fork()
        if pid:
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        sys.argv[1:] = words
        nnguard.__main__.run()


if __name__ == "__main__":
    _main()
