"""Never more leases at once than the license says, in whatever order things go wrong."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from leased import most_at_once
from world import LASTS, World

SCHEDULES = int(os.environ.get("NNGUARD_SCHEDULES", "30"))
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None


def play(seed: int) -> World:
    with TemporaryDirectory(dir=FAST) as folder:
        world = World(seed, Path(folder))
        world.run(8 * LASTS)
        return world


def test_never_more_than_there_are() -> None:
    held = full = 0
    for seed in range(SCHEDULES):
        world = play(seed)
        spans = world.spans()
        most = most_at_once(spans)
        assert most <= world.most, f"schedule {seed}: {most} of {world.most} at once"
        held += len(spans)
        full += most == world.most
    assert held > 3 * SCHEDULES
    assert full > SCHEDULES / 2
