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
CHAOS = float(os.environ.get("NNGUARD_CHAOS_SECONDS", "9"))
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
    """Four pods want two leases; everything is killed again and again, and clocks jump by hours."""
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
    while len(cluster.spans()) < 6 or time.monotonic() - began < CHAOS:
        assert time.monotonic() - began < CHAOS + PATIENCE
        ended = [pod for pod in pods if pod.poll() is not None]
        assert {pod.returncode for pod in ended} <= {0, -9, -15, 19, 128 + 15}, ended[
            0
        ].communicate()
        pods = [pod for pod in pods if pod.poll() is None]
        while len(pods) < 4:
            stubborn = chance.choice([(), ("stubborn",)])
            line = chance.choice(lines)
            pods.append(cluster.pod(line.port, f"pod-{next(names)}", *cluster.worker(*stubborn)))
        offset.write_text(str(chance.randint(-9, 9) * 3600))
        what = chance.random()
        if what < 0.06:
            which = chance.randrange(2)
            relays[which].kill()
            relays[which].wait()
            relays[which] = cluster.relay(ports[which])
        elif what < 0.14:
            chance.choice(pods).kill()
        elif what < 0.2:
            chance.choice(pods).send_signal(signal.SIGTERM)
        time.sleep(0.15)
    cluster.end()
    for line in lines:
        line.close()
    spans = cluster.spans()
    assert most_at_once(spans) == 2
    assert sum(line.dropped for line in lines) > 0


# One pod


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pids(cluster: Cluster) -> set[str]:
    with contextlib.suppress(FileNotFoundError):
        return {line.split()[0] for line in (cluster.folder / "log").read_text().splitlines()}
    return set()


def test_a_command_has_a_lease_and_gives_it_back(cluster: Cluster, tmp_path: Path) -> None:
    port = free_port()
    relay = cluster.relay(port, "--first-time")
    unlock = (
        "nnguard unlock trial.nnc -o full.nnc --license pod.lease --identity pod.key "
        "--trust vendor.pub --quiet && exit 7"
    )
    sale().locked.trial.save(tmp_path / "trial.nnc")
    pod = cluster.start(
        "lease", f"http://127.0.0.1:{port}", "-o", "pod.lease", "--identity", "pod.key",
        "--trust", "vendor.pub", "--", "sh", "-c", unlock.replace("nnguard", str(NNGUARD), 1),
    )  # fmt: skip
    assert finished(pod) == (7, "", "")
    assert (tmp_path / "full.nnc").read_bytes() == bytes(sale().release)
    assert (tmp_path / "pod.key").stat().st_mode & 0o777 == 0o600
    relay.terminate()
    code, _, log = finished(relay)
    assert code == 0
    assert [line for line in ("POST", "DELETE", "listening", "ended") if line not in log] == []
    lease = (tmp_path / "pod.lease").read_text()
    assert "LICENSE LEASE" in lease
    for secret in ("id", "nonce"):  # neither is in a log
        assert f'"{secret}"' not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_passed_on(cluster: Cluster, number: int) -> None:
    port = free_port()
    cluster.relay(port, "--first-time")
    waits = (
        "import signal, sys, time\n"
        "for each in (10, 15): signal.signal(each, lambda got, _: sys.exit(40 + got))\n"
        "open('up', 'w').close()\n"
        "time.sleep(1000)\n"
    )
    pod = cluster.pod(port, "pod", sys.executable, "-c", waits)
    wait_for((cluster.folder / "up").exists)
    pod.send_signal(number)
    assert finished(pod)[0] == 40 + number


def test_what_a_signal_ends_has_the_exit_code_of_a_shell(cluster: Cluster) -> None:
    port = free_port()
    cluster.relay(port, "--first-time")
    pod = cluster.pod(port, "pod", "sh", "-c", "kill -KILL $$")
    assert finished(pod)[0] == 128 + signal.SIGKILL
    missing = cluster.pod(port, "pod", "no-such-program")
    code, _, error = finished(missing)
    assert code == 1
    assert "no such file: no-such-program" in error


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_command_does_not_outlive_its_lease(cluster: Cluster, number: int) -> None:
    """Whoever holds the lease is killed, or stopped; the command is stubborn and has a child."""
    port = free_port()
    cluster.relay(port, "--first-time")
    shell = " ".join(cluster.worker("stubborn")) + " & " + " ".join(cluster.worker()) + "; :"
    pod = cluster.pod(port, "pod", "sh", "-c", shell)
    wait_for(lambda: len(pids(cluster)) == 2)
    pod.send_signal(number)
    wait_for(lambda: not any(map(is_running, pids(cluster))))
    if number == signal.SIGSTOP:
        pod.send_signal(signal.SIGCONT)
        assert finished(pod)[0] == 19


def test_a_command_ends_when_the_relay_is_gone(cluster: Cluster) -> None:
    port = free_port()
    relay = cluster.relay(port, "--first-time")
    pod = cluster.pod(port, "pod", *cluster.worker("stubborn"))
    wait_for(cluster.spans)
    relay.kill()
    killed = time.clock_gettime(time.CLOCK_BOOTTIME)
    code, _, error = finished(pod)
    assert code == 19
    assert "the lease could not be renewed in time, and the command was ended" in error
    assert "SIGTERM" in error
    ((_, end),) = cluster.spans()
    assert end < killed + SECONDS


def test_a_lost_file_hands_out_nothing_for_a_while(cluster: Cluster) -> None:
    port = free_port()
    relay = cluster.relay(port, "--first-time")
    pods = [cluster.pod(port, f"pod-{number}", *cluster.worker("stubborn")) for number in range(2)]
    wait_for(lambda: len(pids(cluster)) == 2)
    relay.kill()
    relay.wait()
    (cluster.folder / "leases").unlink()
    cluster.relay(port)
    another = cluster.pod(port, "pod-2", *cluster.worker(), wait=0)
    code, _, error = finished(another)
    assert code == 19
    assert "the leases file is new" in error
    assert {finished(pod)[0] for pod in pods} == {19}
    assert most_at_once(cluster.spans()) == 2
    cluster.pod(port, "pod-3", *cluster.worker())
    wait_for(lambda: len(pids(cluster)) == 3)
