"""A world of relays and machines in one process: true time, and everything that can go wrong.

What holds a lease is logged in true time, which none of them knows, and counted afterwards.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from leased import NOW, POD, VENDOR, licensed, relay_of
from nnguard._crypto.identity import Recipient
from nnguard._relay.clock import Clock
from nnguard._relay.holder import Holder
from nnguard._relay.relay import Relay
from nnguard.errors import ActivationError, ActivationReason
from nnguard.licensing import Lease, License, Policy

__all__ = ["World"]

LASTS = 300.0
LICENSES: dict[int, License] = {}


@dataclass
class Machine:
    """What has a clock: it begins somewhere, and runs a little fast or slow."""

    world: World
    name: str
    rate: float
    began: float

    def seconds(self) -> float:
        return (self.world.time - self.began) * self.rate

    def true(self, seconds: float) -> float:
        return self.began + seconds / self.rate

    def clock(self) -> Clock:
        return Clock(self.name, self.seconds)


@dataclass
class Pod:
    """A machine that wants a lease; it uses what it has until the last moment."""

    world: World
    machine: Machine
    holder: Holder
    spans: list[list[float]] = field(default_factory=list)

    def ask(self) -> None:
        held = self.holder.left > 0
        try:
            self.holder.ask()
        except ActivationError:
            return
        until = self.machine.true(self.holder.end)
        if held and self.spans and self.spans[-1][1] >= self.world.time:
            self.spans[-1][1] = max(self.spans[-1][1], until)
        else:
            self.spans.append([self.world.time, until])

    def stop(self) -> None:
        if self.spans:
            self.spans[-1][1] = min(self.spans[-1][1], self.world.time)


class Line:
    """A network that loses, delays and repeats."""

    def __init__(self, world: World) -> None:
        self.world = world

    def take(self, lease_id: str, to: Recipient, nonce: str) -> Lease:
        return self._send(lambda relay: relay.take(lease_id, to, nonce))

    def renew(self, lease_id: str, to: Recipient, nonce: str) -> Lease:
        return self._send(lambda relay: relay.renew(lease_id, to, nonce))

    def give_back(self, lease_id: str) -> None:
        self._send(lambda relay: relay.leases.give_back(lease_id))

    def _send(self, ask: Callable[[Relay], Lease]) -> Lease:
        world = self.world
        if world.chance(0.15):
            world.later(world.draw(0.1, 2 * LASTS), lambda: self._again(ask))
        world.wait(world.delay())
        if world.chance(0.1):
            raise lost()
        try:
            answer = world.deliver(ask)
        finally:
            world.wait(world.delay())
        if answer is None or world.chance(0.1):
            raise lost()
        return answer

    def _again(self, ask: Callable[[Relay], Lease]) -> None:
        """A message comes a second time, or later than anybody waits for; nobody hears back."""
        with contextlib.suppress(ActivationError):
            self.world.deliver(ask)


def lost() -> ActivationError:
    return ActivationError("lost", reason=ActivationReason.UNREACHABLE)


class World:
    """A schedule of what goes wrong, drawn by a seed.

    Args:
        seed: Of the schedule.
        folder: Empty.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.draw, self.folder = self.random.uniform, folder
        self.time = 0.0
        self.most = self.random.randint(1, 3)
        self.jump = timedelta(0)
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self.machine = self.start_machine()
        self.relays: list[Relay] = []
        self.pods: list[Pod] = []
        self.gone: list[Pod] = []
        self.granted = 0
        license_ = LICENSES.setdefault(self.most, licensed(self.most))
        license_.save(folder / "relay.license")
        self.start_relays()
        for _ in range(self.most + self.random.randint(1, 3)):
            self.start_pod()

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def delay(self) -> float:
        return self.draw(0, 0.2) if self.chance(0.95) else self.draw(0, LASTS)

    # What happens

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self.time + seconds, next(self._numbers), call))

    def wait(self, seconds: float) -> None:
        """Let others go on in the meantime; it may take longer."""
        until = self.time + seconds
        while self._events and self._events[0][0] <= until:
            at, _, call = heapq.heappop(self._events)
            self.time = max(self.time, at)
            call()
        self.time = max(self.time, until)

    def run(self, seconds: float) -> None:
        for trouble in (self.restart_relay, self.reboot, self.turn_clock, self.lose_file):
            self.sometimes(trouble)
        self.wait(seconds)

    def sometimes(self, trouble: Callable[[], object]) -> None:
        def happen() -> None:
            trouble()
            self.sometimes(trouble)

        rarely = {self.lose_file: 6, self.reboot: 3}.get(trouble, 1)
        self.later(self.draw(0.1, 4 * LASTS * rarely), happen)

    def deliver(self, ask: Callable[[Relay], Lease]) -> Lease | None:
        if not self.relays:
            return None
        return ask(self.random.choice(self.relays))

    # Relays

    def start_machine(self) -> Machine:
        return Machine(self, self.random.randbytes(8).hex(), self.draw(0.9952, 1.0048), self.time)

    def start_relays(self) -> None:
        relays = []
        for _ in range(self.random.randint(1, 2)):
            relay = relay_of(self.folder, lasts=LASTS, clock=self.machine.clock())
            policy = lambda: Policy(now=NOW + self.jump)  # noqa: E731
            relays.append(replace(relay, license_policy=policy))
        relays[0].leases.open()
        self.relays = relays

    def restart_relay(self) -> None:
        """Kill -9, in the middle of whatever is under way."""
        self.relays = []
        self.later(self.draw(0, LASTS / 2), self.start_relays)

    def reboot(self) -> None:
        self.relays = []
        self.machine = self.start_machine()
        self.later(self.draw(0, LASTS), self.start_relays)

    def turn_clock(self) -> None:
        self.jump = timedelta(hours=self.draw(-9, 9))

    def lose_file(self) -> None:
        (self.folder / "leases").unlink(missing_ok=True)

    # Pods

    def start_pod(self) -> None:
        machine = Machine(
            self, "pod", self.draw(0.9952, 1.0048), self.time - self.draw(0, 1_000_000)
        )
        holder = Holder(Line(self), POD, [VENDOR.public_key], machine.clock())
        pod = Pod(self, machine, holder)
        self.pods.append(pod)
        self.later(self.draw(0, LASTS), lambda: self.step(pod))

    def step(self, pod: Pod) -> None:
        """Ask, and ask again; or crash, or leave."""
        what = self.random.random()
        if what < 0.85:
            pod.ask()
            lazy = pod.holder.left > 0
            self.later(self.draw(1, 1.2 * LASTS if lazy else 15), lambda: self.step(pod))
            return
        pod.stop()
        if what < 0.9 and pod.holder.lease is not None:  # leaves, and comes back
            with contextlib.suppress(ActivationError):
                pod.holder.give_back()
            self.later(self.draw(0, 20), lambda: self.step(pod))
            return
        self.gone.append(pod)
        self.pods.remove(pod)
        if what < 0.95 and pod.holder.lease is not None:
            with contextlib.suppress(ActivationError):
                pod.holder.give_back()
        self.later(self.draw(0, LASTS / 2), self.start_pod)

    def spans(self) -> list[tuple[float, float]]:
        """When each lease was held, in true time."""
        return [(start, end) for pod in self.pods + self.gone for start, end in pod.spans]
