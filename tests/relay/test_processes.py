"""Relays and pods as processes that are killed, whose answers are lost and whose clocks jump.

What ran, and when, is written down by the commands of the pods; it is counted afterwards.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from leased import VENDOR, most_at_once, sale, write_license
from network import Lossy

HERE = Path(__file__).parent
NNGUARD = Path(sys.executable).with_name("nnguard")
SECONDS = 6
PATIENCE = 120
COMPILER = os.environ.get("CC", "cc")
LASTS = ("--minutes", str(SECONDS / 60))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of clocks that Linux has")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Cluster:
    """A folder with a license for two leases, and the processes that use it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        write_license(self.folder / "relay.license", 2)
        sale().customer.save(self.folder / "relay.key")
        VENDOR.public_key.save(self.folder / "vendor.pub")

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [NNGUARD, *words], cwd=self.folder, env={**os.environ, **self.environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def relay(self, port: int, *words: str) -> subprocess.Popen[str]:
        """Start a relay; return when it answers."""
        process = self.start(
            "relay", "relay.license", "--identity", "relay.key", "--trust", "vendor.pub",
            "--leases-file", "leases", "--port", str(port), *LASTS, *words,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return process
            time.sleep(0.02)
        raise AssertionError(process.communicate())

    def pod(
        self, port: int, name: str, *command: str, wait: int = PATIENCE
    ) -> subprocess.Popen[str]:
        return self.start(
            "lease", f"http://127.0.0.1:{port}", "-o", f"{name}.lease", "--force",
            "--identity", f"{name}.key", "--trust", "vendor.pub", "--wait", str(wait),
            "--", *command,
        )  # fmt: skip

    def spans(self) -> list[tuple[float, float]]:
        """When each command ran, as it has written down."""
        seen = defaultdict(list)
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / "log").read_text().splitlines():
                pid, _, at = line.partition(" ")
                seen[pid].append(float(at))
        return [(min(times), max(times)) for times in seen.values()]

    def worker(self, *words: str) -> tuple[str, ...]:
        return (sys.executable, "-I", "-S", str(HERE / "worker.py"), "log", *words)

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            process.communicate(timeout=PATIENCE)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.end()


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason="no compiler")
def test_never_more_than_there_are(cluster: Cluster) -> None:
    """Five pods want two leases; everything is killed again and again, and clocks jump by hours."""
    library = cluster.folder / "wall.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, HERE / "wall.c"], check=True)
    offset = cluster.folder / "offset"
    offset.write_text("0")
    cluster.environment = {"LD_PRELOAD": str(library), "NNGUARD_TEST_OFFSET": str(offset)}
    chance = random.Random(7)
    ports = [free_port(), free_port()]
    relays = [cluster.relay(ports[0], "--first-time"), cluster.relay(ports[1])]
    lines = [Lossy(port, 0.15, seed) for seed, port in enumerate(ports)]
    pods: list[subprocess.Popen[str]] = []
    names = iter(range(1000))
    began = time.monotonic()
    while len(cluster.spans()) < 12 or time.monotonic() - began < 3 * SECONDS:
        assert time.monotonic() - began < PATIENCE
        pods = [pod for pod in pods if pod.poll() is None]
        while len(pods) < 5:
            stubborn = chance.choice([(), ("stubborn",)])
            line = chance.choice(lines)
            pods.append(cluster.pod(line.port, f"pod-{next(names)}", *cluster.worker(*stubborn)))
        offset.write_text(str(chance.randint(-9, 9) * 3600))
        what = chance.random()
        if what < 0.08:
            which = chance.randrange(2)
            relays[which].kill()
            relays[which].wait()
            relays[which] = cluster.relay(ports[which])
        elif what < 0.2:
            chance.choice(pods).kill()
        elif what < 0.3:
            chance.choice(pods).send_signal(signal.SIGTERM)
        time.sleep(0.15)
    cluster.end()
    for line in lines:
        line.close()
    spans = cluster.spans()
    assert most_at_once(spans) == 2
    assert sum(line.dropped for line in lines) > 0
