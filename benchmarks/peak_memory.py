"""Peak memory of a command and all its child processes.

    python benchmarks/peak_memory.py COMMAND ...

Samples `/proc` and prints JSON, in bytes. Linux only. No single figure is right: a page that two
processes map counts twice in the sum of resident memory; an output file that is written through
its pages counts, though the system may drop them; and memory without a file (`memfd`, a kind of
shared memory) is not anonymous. So there are three.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

INTERVAL = 0.05
_SUMS = re.compile(r"^(Rss|Pss|Anonymous): +(\d+) kB$", re.MULTILINE)
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass
class Peak:
    """What a command took.

    Attributes:
        seconds: Wall clock.
        resident: Bytes of all pages that are mapped, summed over processes, at the most.
        proportional: The same; a page that n processes map counts as an n-th in each.
        anonymous: Bytes of pages that belong to no file, summed over processes, at the most.
        processes: Resident bytes of each process at its own most, as the kernel noted them.
    """

    seconds: float = 0
    resident: int = 0
    proportional: int = 0
    anonymous: int = 0
    processes: list[int] = field(default_factory=list)


def measure(command: Sequence[object], environment: dict[str, str] | None = None) -> Peak:
    """Run a command and watch it.

    Raises:
        RuntimeError: It failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.DEVNULL, env=environment
    )
    peak = Peak()
    own: dict[int, int] = {}
    while process.poll() is None:
        sums = {"Rss": 0, "Pss": 0, "Anonymous": 0}
        for pid in tree(process.pid):
            for name, kilobytes in _SUMS.findall(read(pid, "smaps_rollup")):
                sums[name] += 1024 * int(kilobytes)
            if found := _PEAK.search(read(pid, "status")):
                own[pid] = 1024 * int(found[1])
        peak.resident = max(peak.resident, sums["Rss"])
        peak.proportional = max(peak.proportional, sums["Pss"])
        peak.anonymous = max(peak.anonymous, sums["Anonymous"])
        time.sleep(INTERVAL)
    if process.returncode:
        raise RuntimeError(f"{command[:3]} ended with exit status {process.returncode}")
    peak.seconds, peak.processes = time.perf_counter() - start, list(own.values())
    return peak


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


def read(pid: int, name: str) -> str:
    """Return what the kernel says of a process; nothing once it is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1:]))))
