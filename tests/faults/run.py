"""What is left when the machine fails in the middle of a command: kills, full disks, failed calls.

    python tests/faults/run.py [--short] [--at-most N] [--moments N] [--case NAME]...

Each command runs in a forked process over a copy of the same folder. `inject.c`, loaded before the
system's library, counts the calls that concern this folder, SQLite's among them, and makes one go
wrong: kills the process before, in the middle of or after the call, lets it fail with an error, or
do less than it was asked for. Every call of every command has its turn. Then:

- inputs are as they were;
- outputs are not there, or whole; or what was there before is;
- after an error nothing else is left, and one line tells what went wrong;
- the ledger holds what it held, and every license that came out of it;
- the same command succeeds when it is run again, whatever the first one left.

Where names cannot be exchanged, a folder that is there is left alone, and the command says so.

The last column of the table counts outcomes that were not so.
"""

from __future__ import annotations

import argparse
import collections
import errno
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from commands import SEED, cases, make_template
from machine import CHANGES, LIBRARY, Action, Case, Fault, Group, Machine

ERRORS = {
    Group.READ: (errno.EIO, errno.EINTR),
    Group.WRITE: (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR),
    Group.OPEN: (errno.EIO, errno.EMFILE),
    Group.SYNC: (errno.EIO, errno.ENOSPC, errno.EINTR),
    Group.NAME: (errno.EIO, errno.ENOSPC, errno.EINTR),
    Group.REMOVE: (errno.EIO,),
    Group.MAKE: (errno.ENOSPC, errno.EIO),
    Group.SIZE: (errno.ENOSPC, errno.EIO),
    Group.MODE: (errno.EIO,),
}
ROOM = (0, 4096, 8192, 12288, 16384, 24576, 32768, 65536)
DISK = "2m"


def faults_of(calls: dict[Group, int], *, plain: bool) -> Iterator[Fault]:
    """Yield what can befall a command that makes so many calls."""
    for call in range(1, sum(calls[group] for group in CHANGES) + 1):
        yield Fault(Action.KILL_BEFORE, CHANGES, call, plain=plain)
        yield Fault(Action.KILL_AFTER, CHANGES, call, plain=plain)
    for call in range(1, calls[Group.WRITE] + 1):
        yield Fault(Action.KILL_HALFWAY, (Group.WRITE,), call, plain=plain)
    for group in (Group.OPEN, Group.NAME, Group.REMOVE) if plain else Group:
        for call in range(1, calls[group] + 1):
            for error in ERRORS[group]:
                yield Fault(Action.FAIL, (group,), call, error, plain)
            if group in (Group.READ, Group.WRITE):
                yield Fault(Action.SHORT, (group,), call, plain=plain)
            if group in (Group.WRITE, Group.SIZE):
                yield Fault(Action.FAIL_FROM_HERE, (group,), call, errno.ENOSPC, plain)


def telling_faults(calls: dict[Group, int]) -> list[Fault]:
    """Return what went wrong once: the last write fails; a kill before the last name is given."""
    return [
        Fault(Action.FAIL, (Group.WRITE,), calls[Group.WRITE], errno.ENOSPC),
        Fault(Action.KILL_AFTER, (Group.NAME,), max(calls[Group.NAME] - 1, 1)),
    ]


def choose(machine: Machine, case: Case, options: argparse.Namespace) -> list[Fault]:
    """Return the faults to try."""
    chance = random.Random(f"{SEED} {case.name}")
    calls = machine.count(case)
    faults = [*faults_of(calls, plain=False)]
    if case.replaces_folder:
        machine.refuse(case)
    if options.short:
        return telling_faults(calls) + chance.sample(faults, 1)
    if not case.replaces_folder:
        faults += faults_of(machine.count(case, plain=True), plain=True)
    if options.at_most is not None and len(faults) > options.at_most:
        faults = telling_faults(calls) + chance.sample(faults, options.at_most - 2)
    started = time.monotonic()
    machine.count(case)
    lasts = time.monotonic() - started
    moments = range(options.moments)
    faults += [Fault(delay=lasts * (moment + chance.random()) / len(moments)) for moment in moments]
    if os.path.ismount(machine.work):
        faults += [Fault(room=room) for room in ROOM]
    return faults


def try_all(machine: Machine, options: argparse.Namespace) -> int:
    """Try all faults on all commands, print a table, and return how many had a wrong outcome."""
    rows = []
    wrong = 0
    for case in cases(machine.template):
        if options.case and case.name not in options.case:
            continue
        outcomes: collections.Counter[str] = collections.Counter()
        for fault in choose(machine, case, options):
            try:
                outcomes[machine.try_fault(case, fault)] += 1
            except Exception as error:
                outcomes["wrong"] += 1
                text = f"{type(error).__name__}: {error}"
                print(f"WRONG {case.name}: {fault}: {text}", file=sys.stderr, flush=True)
        print(case.name, dict(outcomes), file=sys.stderr, flush=True)
        wrong += outcomes["wrong"]
        rows.append((case.name, outcomes))
    print_table(rows)
    return wrong


def print_table(rows: list[tuple[str, collections.Counter[str]]]) -> None:
    """Print outcomes as a table in Markdown."""
    ends = ("killed, as before", "killed, one of two", "killed, whole")
    ends += ("failed, as before", "failed, whole", "succeeded, whole")
    header = ["command", "faults", *ends, "ledger ahead", "temporary left", "wrong"]
    print("|", " | ".join(header), "|")
    print("|---" + "|--:" * (len(header) - 1) + "|")
    total: collections.Counter[str] = collections.Counter()
    for _, outcomes in rows:
        total += outcomes
    for name, outcomes in (*rows, ("all", total)):
        cells = [sum(outcomes.values())]
        cells += [sum(n for text, n in outcomes.items() if text.startswith(end)) for end in ends]
        for word in header[-3:]:
            cells.append(sum(n for text, n in outcomes.items() if word in text))
        print("|", name, "|", " | ".join(f"{cell:,}" for cell in cells), "|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--at-most", type=int, help="of faults for each command, by chance")
    parser.add_argument("--short", action="store_true", help="three faults for each command")
    parser.add_argument("--moments", type=int, default=20, help="kills at any moment, for each")
    parser.add_argument("--case", action="append", help="only this command; may be repeated")
    options = parser.parse_args()
    if LIBRARY not in os.environ:
        return start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work, template = folder / "work", folder / "template"
        work.mkdir()
        template.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "nnguard", str(work)]
        own_disk = os.environ.get("NNGUARD_OWN_DISK") and not subprocess.run(mount).returncode
        make_template(template)
        try:
            return bool(try_all(Machine(template, work), options))
        finally:
            os.chdir("/")
            if own_disk:
                subprocess.run(["umount", str(work)], check=True)


def start() -> int:
    """Build the library, and start again with it; with a small disk of our own, if we may."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    environment = dict(os.environ)
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
        environment["NNGUARD_OWN_DISK"] = "1"
    except (OSError, subprocess.CalledProcessError):
        print("no small disk here: none is really full", file=sys.stderr)
        unshare = []
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "inject.so"
        source = Path(__file__).with_name("inject.c")
        compiler = os.environ.get("CC", "cc")
        build = [compiler, "-O1", "-Wall", "-shared", "-fPIC", "-o", library, source, "-ldl"]
        subprocess.run(build, check=True)
        environment |= {"LD_PRELOAD": str(library), LIBRARY: str(library)}
        return subprocess.run([*unshare, sys.executable, *sys.argv], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
