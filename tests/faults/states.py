"""Kill processes that share a state file, at any moment: what does it say then?

    python tests/faults/states.py 1000

Each process verifies one release after the other, numbered upward; in between releases with far
higher numbers that are refused in the end: changed, of another name, or a trial. It notes what it
begins and what was accepted. After each kill, the state file has to be whole, to be at least at the
highest number that was accepted, and at most at the highest that was begun.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import nnguard
import samples
from nnguard._base.times import now
from nnguard._policy.state import State

__all__ = ["Killing"]

_FAR = 1 << 40
"""Releases with so high a number are refused."""

_LONGEST = 0.06
"""Seconds that a process lives, at most, from when it begins with its work."""

_AHEAD = 40
"""Releases that are signed before they are needed."""


class Killing:
    """Processes that verify with one state file, and are killed.

    Args:
        folder: An empty folder.
        seed: Of the times of the kills.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.key = nnguard.SigningKey.generate()
        self.model = nnguard.Stream.from_bytes(samples.small_stream())
        self.key.public_key.save(folder / "vendor.pub")
        self.found: dict[str, int] = {"kills": 0, "accepted": 0, "left behind": 0}
        self.signed = 0
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["nnguard.torch", "nnguard._operations.verify"])
        self._sign(_FAR, "changed", name="net")
        data = bytearray((folder / "changed.nnc").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "changed.nnc").write_bytes(data)
        self._sign(_FAR + 1, "other", name="other")

    def _sign(self, number: int, file: str, *, name: str) -> None:
        release = nnguard.sign(self.model, self.key, issuer="acme.ai", name=name, release=number)
        release.save(self.folder / f"{file}.nnc", overwrite=True)

    def kill(self, times: int, *, bare: bool) -> None:
        """Start a process, kill it, and look at the state file, so many times.

        Args:
            times: How often.
            bare: The process does nothing but write the state file.
        """
        for _ in range(times):
            first = self.accepted() + 1
            while not bare and self.signed < first + _AHEAD:
                self.signed += 1
                self._sign(self.signed, str(self.signed), name="net")
            self._once(first, bare=bare)

    def _once(self, first: int, *, bare: bool) -> None:
        begun = self.context.Event()
        target = _write if bare else _verify
        process = self.context.Process(target=target, args=(self.folder, first, begun), daemon=True)
        process.start()
        begun.wait(60)
        time.sleep(self.random.uniform(0, _LONGEST))
        process.kill()
        process.join()
        if process.exitcode == 0:
            raise AssertionError("a process was done before it was killed")
        self.found["kills"] += 1
        self.check()

    def check(self) -> None:
        """Make sure that the state is one that may be."""
        temporary = [path for path in self.folder.iterdir() if path.name.startswith(".")]
        self.found["left behind"] += len(temporary)
        if len(temporary) > 1:
            raise AssertionError(f"left behind: {temporary}")
        accepted, begun = self.accepted(), self._noted("b")
        with State(self.folder / "state") as state:  # whole, and not locked any more
            numbers = [*state.memory.releases.values()] or [0]
        if not accepted <= max(numbers) <= begun or len(numbers) > 1:
            raise AssertionError(f"{numbers} is remembered, {accepted} accepted, {begun} begun")
        self.found["accepted"] = accepted

    def accepted(self) -> int:
        """Return the highest number that a process was told is accepted."""
        return self._noted("a")

    def _noted(self, kind: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            notes = (self.folder / "notes").read_text().splitlines()
            return max((int(note[1:]) for note in notes if note[0] == kind), default=0)
        return 0


def _note(folder: Path, kind: str, number: int) -> None:
    descriptor = os.open(folder / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{kind}{number}\n".encode())
    os.close(descriptor)


def _verify(folder: Path, first: int, begun: Any) -> None:
    trust = nnguard.PublicKey.load(folder / "vendor.pub")
    expect = nnguard.Expect(name="net")
    begun.set()
    for number in range(first, first + _AHEAD):
        for refused in ("changed", "other"):
            with contextlib.suppress(nnguard.NnguardError):
                nnguard.verify(
                    folder / f"{refused}.nnc", trust, state=folder / "state", expect=expect
                )
                _note(folder, "a", _FAR)  # which is far beyond what was begun
        _note(folder, "b", number)
        nnguard.verify(folder / f"{number}.nnc", trust, state=folder / "state", expect=expect)
        _note(folder, "a", number)
    time.sleep(60)


def _write(folder: Path, first: int, begun: Any) -> None:
    key_id = nnguard.PublicKey.load(folder / "vendor.pub").id.hex()
    begun.set()
    for number in range(first, first + 100_000):
        _note(folder, "b", number)
        with State(folder / "state") as state:
            assert state.against_release("acme.ai/net", key_id, number) is None
            state.commit(now())
        _note(folder, "a", number)


def main() -> None:
    """Kill so many processes as are asked for, half of them while they verify."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as folder:
        killing, start = Killing(Path(folder)), time.monotonic()
        killing.kill(kills // 2, bare=False)
        killing.kill(kills - kills // 2, bare=True)
        print(json.dumps(killing.found | {"seconds": round(time.monotonic() - start)}))


if __name__ == "__main__":
    main()
