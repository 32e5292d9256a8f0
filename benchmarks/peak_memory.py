"""Peak memory of a command and all its child processes.

    python benchmarks/peak_memory.py COMMAND ...

Samples `/proc` and prints JSON: the peaks of the sums over the process tree, in bytes. `resident`
counts every page that is mapped, those of files included; `anonymous` only what no file is behind,
which is what a machine runs out of. Linux only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

INTERVAL = 0.05
_FIELD = re.compile(r"^(Rss|Anonymous): +(\d+) kB$", re.MULTILINE)


@dataclass
class Peak:
    """What a command took.

    Attributes:
        seconds: Wall clock.
        resident: Bytes of all mapped pages, summed over processes, at the most.
        anonymous: Bytes of pages without a file, summed over processes, at the most.
    """

    seconds: float
    resident: int
    anonymous: int


def measure(command: Sequence[object], environment: dict[str, str] | None = None) -> Peak:
    """Run a command and watch it.

    Raises:
        RuntimeError: It failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.DEVNULL, env=environment
    )
    resident = anonymous = 0
    while process.poll() is None:
        sums = {"Rss": 0, "Anonymous": 0}
        for pid in tree(process.pid):
            for field, kilobytes in _FIELD.findall(rollup(pid)):
                sums[field] += 1024 * int(kilobytes)
        resident, anonymous = max(resident, sums["Rss"]), max(anonymous, sums["Anonymous"])
        time.sleep(INTERVAL)
    if process.returncode:
        raise RuntimeError(f"{command[:3]} ended with exit status {process.returncode}")
    return Peak(time.perf_counter() - start, resident, anonymous)


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:  # gone meanwhile
                continue
    return found


def rollup(pid: int) -> str:
    """Return the sums over a process's mappings; nothing once it is gone."""
    try:
        return Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1:]))))
