"""A dead man's switch: ends a group of processes when the last word about its lease has run out.

`nnguard lease` starts it beside its command, as a program that needs nothing but Python, and tells
it on standard input which group it is and until when it may run. If `nnguard lease` dies, stops or
hangs, the command does not outlive the lease.

Each line has the number of the group and the end, in seconds of the clock that `now` reads; `done`
is the last one, where the command has ended by itself.
"""

import contextlib
import math
import os
import select
import signal
import time

_TICK = 0.5


def now() -> float:
    """Return the time of a clock that nobody sets, and that goes on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def main() -> None:
    """Wait for the end, for no more lines, or for the last one."""
    group, end, rest = 0, math.inf, b""
    while now() < end:
        ready, _, _ = select.select([0], [], [], min(_TICK, max(0.0, end - now())))
        if not ready:
            continue
        data = os.read(0, 4096)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"done":
                return
            number, _, until = line.partition(b" ")
            group, end = int(number), float(until)
    if group > 1:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
