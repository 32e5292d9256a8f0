"""Hostile files through whole commands: what each costs, and what comes out.

    python tests/fuzz/hostile.py --files 10000          (make hostile FILES=10000)

Files of at most 1 MB are made by rule (`rules.py`) and by mutation (`mutations.py`), the same ones
for a seed. A worker process runs every command that takes such a file, and measures processor time
and how far resident memory grows. A call of more than 2 s or 300 MB is a failure, and so is what is
raised that is no `NnguardError` and no `OSError`. The worst files are run again as commands, in
processes of their own; they and a table stay in the output folder.
"""

from __future__ import annotations

import argparse
import base64
import gc
import itertools
import json
import multiprocessing
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "examples/digits")]

import nnguard
from fuzz.mutations import mutate, mutate_stream
from fuzz.rules import LARGEST, RULES, TRUSTED, VECTORS, File, Rule, armored, folder, vectors
from opening import open_locks
from vectors import selling

SECONDS = 2.0
BYTES = 300_000_000

MEASURES = Path("/proc/self/clear_refs").exists()
"""Whether this system tells how far memory grew."""

_MOST_PRINTED = 32 * LARGEST

_GIVE_UP = 120
"""Seconds after which a worker is ended."""

_ADDRESSES = 8 << 30
"""Of a worker, in bytes: what asks for more gets a MemoryError."""

CUSTOMER = selling.CUSTOMERS["ada"]
POLICY = nnguard.licensing.Policy(
    now=datetime.fromtimestamp(selling.NOW + 3 * selling.DAY, timezone.utc),
    device=nnguard.licensing.Device.of_values([("host", "a")]),
)
TRIAL, LICENSE = VECTORS / "license.nnc", VECTORS / "license.license"

Command = Callable[[Path], object]


def _with_list(path: Path) -> object:
    policy = nnguard.licensing.Policy(now=POLICY.now, device=POLICY.device, revocations=path)
    return nnguard.licensing.check(LICENSE, TRUSTED.public_key, license_policy=policy)


def _open(path: Path) -> object:
    stream = nnguard.Stream.open(path)
    return open_locks(stream, selling.FULL)


def _issue(path: Path, to: Any = None, device: Path | None = None) -> object:
    customer, terms = to or CUSTOMER.recipient, nnguard.licensing.Terms(device=device)
    return nnguard.licensing.issue(path, selling.FULL, to=customer, signer=TRUSTED, terms=terms)


def _device(path: Path) -> object:
    return _issue(TRIAL, device=path)


def _to_file(path: Path) -> None:
    output = path.with_suffix(".safetensors")
    nnguard.decompress_to_file(path, output, allow_trial=True, overwrite=True)


def _set_to_files(path: Path) -> None:
    nnguard.decompress_to_file(path, path.with_suffix(".out"), allow_trial=True, overwrite=True)


def _iterate(path: Path) -> None:
    for _ in nnguard.iter_tensors(path, allow_trial=True):
        pass


COMMANDS: dict[str, dict[str, Command]] = {
    "stream": {
        "verify": lambda path: nnguard.verify(path, TRUSTED.public_key),
        "strip": lambda path: nnguard.strip(path, TRUSTED.public_key),
        "inspect": nnguard.inspect,
        "capacity": nnguard.capacity,
        "detach": nnguard.detach,
        "decompress": lambda path: nnguard.decompress(path, allow_trial=True),
        "decompress_to_file": _to_file,
        "iter_tensors": _iterate,
        "unlock": lambda p: nnguard.unlock(
            p, LICENSE, CUSTOMER, TRUSTED.public_key, license_policy=POLICY
        ),
        "license issue": _issue,
        "open": _open,
    },
    "license": {
        "license check": lambda path: nnguard.licensing.check(
            path, TRUSTED.public_key, license_policy=POLICY
        ),
        "license show": lambda path: nnguard.licensing.License.load(path).terms.to_json(),
        "unlock": lambda path: nnguard.unlock(
            TRIAL, path, CUSTOMER, TRUSTED.public_key, license_policy=POLICY
        ),
    },
    "list": {"license check": _with_list},
    "key": {"verify --trust": lambda path: nnguard.verify(VECTORS / "urq.nnc", path)},
    "identity": {
        "license issue --to": lambda path: _issue(TRIAL, path),
        "unlock --identity": lambda path: nnguard.unlock(
            TRIAL, LICENSE, path, TRUSTED.public_key, license_policy=POLICY
        ),
    },
    "device": {"license issue --device": _device},
    "folder": {
        "verify (set)": lambda path: nnguard.verify(path, TRUSTED.public_key),
        "decompress (set)": _set_to_files,
        "unlock (set)": lambda path: nnguard.unlock(
            path, LICENSE, CUSTOMER, TRUSTED.public_key, license_policy=POLICY
        ),
        "license issue (set)": _issue,
    },
}


@dataclass
class Call:
    """One command on one file."""

    command: str
    seconds: float
    bytes: int
    outcome: str


@dataclass
class Case:
    """A hostile file, and what made it."""

    name: str
    file: File


# Files


def cases(files: int, seed: str) -> Iterator[Case]:
    """Files by rule, the first of each in short runs, and mutations of them and of the vectors."""
    share = None if files > 1000 else 1
    made = [case for make in RULES for case in _by_rule(make, share)]
    random.Random(seed).shuffle(made)
    chosen = made[: files // 2]
    yield from chosen
    small = [case for case in made if len(case.file.data) < 30_000 and case.file.kind != "folder"]
    known = [*_by_rule(vectors, None), *small]
    streams = [case for case in known if case.file.kind == "stream"]
    corpus = [case.file.data for case in streams]
    others = [case for case in known if case.file.kind != "stream"]
    for number in range(files - len(chosen)):
        rng = random.Random(f"{seed}/{number}")
        case = rng.choice(streams if rng.random() < 0.8 else others)
        if rng.random() < 0.03:
            case = rng.choice(made)
        if case.file.kind == "stream":
            file = File("stream", mutate_stream(rng, case.file.data, corpus)[:LARGEST])
        else:
            file = _mutated(rng, case.file)
        yield Case(f"mutated {case.name} ({number})", file)


def _by_rule(make: Rule, share: int | None) -> Iterator[Case]:
    for number, file in enumerate(itertools.islice(make(), share)):
        if len(file.data) <= LARGEST:
            yield Case(f"{make.__name__}/{number}", file)


def _mutated(rng: random.Random, file: File) -> File:
    """A text that was changed, or whose content was, under the right armor."""
    data = file.data
    lines = data.splitlines()
    if file.kind in ("license", "list") and len(lines) > 2 and rng.random() < 0.7:
        try:
            body = base64.b64decode(b"".join(lines[1:-1]))
        except ValueError:
            body = b""
        if body:
            label = "LICENSE" if file.kind == "license" else "REVOCATION LIST"
            return File(file.kind, armored(label, mutate(rng, body))[:LARGEST])
    if file.kind == "folder":
        members = {name: base64.b64decode(text) for name, text in json.loads(data).items()}
        name = rng.choice(list(members))
        return folder(**{**members, name: mutate(rng, members[name] or b"x")})
    return File(file.kind, mutate(rng, data)[:LARGEST] if data else b"x")


# The worker


def work(pipe: Connection) -> None:
    """Take kinds and paths, run all commands that take such files, and send what each cost."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    _warm_up()
    while True:
        kind, path = pipe.recv()
        gc.collect()
        for name, command in COMMANDS[kind].items():
            pipe.send(_measured(name, command, path))


def _warm_up() -> None:
    """Load whatever loads late."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "release.nnc"
        path.write_bytes((VECTORS / "urq.nnc").read_bytes())
        for commands in COMMANDS.values():
            for command in commands.values():
                _outcome(command, path)


def _measured(name: str, command: Command, path: Path) -> Call:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    before, start = _memory("VmRSS"), time.process_time()
    outcome = _outcome(command, path)
    return Call(name, time.process_time() - start, _memory("VmHWM") - before, outcome)


def _outcome(command: Command, path: Path) -> str:
    try:
        command(path)
    except (nnguard.NnguardError, OSError) as error:
        return type(error).__name__
    except Exception as error:
        return f"!{type(error).__name__}"
    return "done"


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


class Worker:
    """The process that commands run in; there is a new one when it died or took too long."""

    def __init__(self) -> None:
        self._process: SpawnProcess | None = None

    def run(self, case: Case, folder: Path) -> list[Call]:
        """Return what each command cost, until one ends the worker."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, other = context.Pipe()
            self._process = context.Process(target=work, args=(other,), daemon=True)
            self._process.start()
            other.close()
        path = write_file(case.file, folder)
        self._pipe.send((case.file.kind, path))
        calls: list[Call] = []
        for name in COMMANDS[case.file.kind]:
            try:
                if not self._pipe.poll(_GIVE_UP):
                    raise EOFError
                calls.append(self._pipe.recv())
            except EOFError:
                self.end()
                return [*calls, Call(name, _GIVE_UP, 0, "!ended")]
        return calls

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def write_file(file: File, folder: Path) -> Path:
    """Write a hostile file or folder, without what commands made of the last one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "hostile"
    if file.kind != "folder":
        path.write_bytes(file.data)
        return path
    path.mkdir()
    for name, encoded in json.loads(file.data).items():
        (path / name).write_bytes(base64.b64decode(encoded))
    return path


# The worst, as commands

LINES = {
    "verify": "verify {file} --trust {vendor}",
    "strip": "strip {file} --trust {vendor} -o {output}",
    "inspect": "inspect {file}",
    "capacity": "capacity {file}",
    "detach": "detach {file} -o {output} --payload {payload}",
    "decompress": "decompress {file} -o {output}",
    "decompress_to_file": "decompress {file} -o {output}",
    "unlock": "unlock {trial} --license {license} --identity {ada} --trust {vendor} -o {output}",
    "license check": "license check {license} --trust {vendor}",
    "license show": "license show {license}",
    "license issue": "license issue {trial} --to {customer} --content-key {content} --key {key} "
    "--ledger {ledger} -o {output}",
    "verify --trust": "verify {release} --trust {file}",
    "license issue --to": "license issue {trial} --to {file} --content-key {content} --key {key} "
    "--ledger {ledger} -o {output}",
    "verify (set)": "verify {file} --trust {vendor}",
    "decompress (set)": "decompress {file} -o {output}",
}
"""What the calls are as commands; some have none."""


@dataclass
class Process:
    """A command in a process of its own; memory is that of the whole process."""

    line: str
    seconds: float
    bytes: int
    printed: int
    code: int


def keys_in(folder: Path) -> dict[str, Path]:
    """Write the keys that commands take."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    keys = {
        name: folder / name
        for name in ("vendor", "key", "content", "ada", "customer", "output", "payload", "ledger")
    }
    TRUSTED.public_key.save(keys["vendor"])
    TRUSTED.save(keys["key"])
    selling.FULL.save(keys["content"])
    CUSTOMER.save(keys["ada"])
    CUSTOMER.recipient.save(keys["customer"])
    return {**keys, "trial": TRIAL, "license": LICENSE, "release": VECTORS / "urq.nnc"}


def as_command(case: Case, call: Call, folder: Path) -> Process | None:
    """Run a call again as a command; None where there is no such command."""
    if call.command not in LINES:
        return None
    path = write_file(case.file, folder / "file")
    places = keys_in(folder / "keys")
    if call.command in ("unlock", "license issue") or call.command.startswith("license"):
        places |= {"license": path} if case.file.kind == "license" else {"trial": path}
    if call.command == "license issue --to":
        places["trial"] = TRIAL
    line = LINES[call.command].format(**places, file=path)
    if call.command in ("unlock", "license check"):
        line += f" --now {POLICY.now.isoformat()}"
    printed = folder / "printed"
    with printed.open("wb") as file:
        wrapped = [
            sys.executable,
            "-c",
            _MEASURE,
            *[sys.executable, "-m", "nnguard"],
            *line.split(),
        ]
        ended = subprocess.run(wrapped, stdout=file, stderr=subprocess.PIPE, check=True)
    seconds, size, code = json.loads(ended.stderr)
    return Process(line, seconds, size, printed.stat().st_size, code)


_MEASURE = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stderr=sys.stdout).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss, code]), file=sys.stderr)
"""
"""Runs a command as the only child of a small process, whose memory counts for the child's, too."""


# The report


def run(files: int, seed: str, output: Path, worst: int = 20) -> list[str]:
    """Run everything, write tables and the worst files, and return what failed."""
    costs: list[tuple[Case, Call]] = []
    worker = Worker()
    with tempfile.TemporaryDirectory() as folder:
        for count, case in enumerate(cases(files, seed), 1):
            calls = worker.run(case, Path(folder) / "case")
            costs += [(case, call) for call in calls]
            if count % 500 == 0:
                print(f"{count} files", file=sys.stderr, flush=True)
            for call in filter(_fails, calls):
                print(f"{count}: {case.name}: {_said(call)}", flush=True)
        worker.end()
        costs.sort(key=_badness, reverse=True)
        failures = [f"{case.name}: {_said(call)}" for case, call in costs if _fails(call)]
        output.mkdir(parents=True, exist_ok=True)
        lines = [_table(costs, files, seed), ""]
        for rank, (case, call) in enumerate(costs[:worst]):
            (output / f"{rank}.{case.file.kind}").write_bytes(case.file.data)
            process = as_command(case, call, Path(folder))
            lines.append(f"{rank}  {case.name}: {_said(call)}")
            if process is not None:
                lines.append(f"    {_said_of(process)}")
                if process.printed > _MOST_PRINTED or process.code == 1:
                    failures.append(f"{case.name}: {_said_of(process)}")
    lines += ["", f"{len(failures)} failures", *failures]
    (output / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return failures


def _badness(cost: tuple[Case, Call]) -> float:
    call = cost[1]
    return max(call.seconds / SECONDS, call.bytes / BYTES) + 1000 * call.outcome.startswith("!")


def _fails(call: Call) -> bool:
    return call.seconds > SECONDS or call.bytes > BYTES or call.outcome.startswith("!")


def _said(call: Call) -> str:
    return f"{call.command} {call.seconds:.2f} s, {call.bytes / 1e6:.0f} MB, {call.outcome}"


def _said_of(process: Process) -> str:
    name = process.line.split(" /")[0]
    return (
        f"nnguard {name}: {process.seconds:.2f} s, {process.bytes / 1e6:.0f} MB in all, "
        f"{process.printed:,} bytes printed, exit code {process.code}"
    )


def _table(costs: list[tuple[Case, Call]], files: int, seed: str) -> str:
    rows = [
        f"{files} files, seed {seed}, {len(costs)} calls",
        "",
        "| command | calls | slowest, s | rule | largest, MB | rule | outcomes |",
        "|---|--:|--:|---|--:|---|---|",
    ]
    for name in dict.fromkeys(name for commands in COMMANDS.values() for name in commands):
        own = [cost for cost in costs if cost[1].command == name]
        if not own:
            continue
        slowest = max(own, key=lambda cost: cost[1].seconds)
        largest = max(own, key=lambda cost: cost[1].bytes)
        outcomes = Counter(call.outcome for _, call in own).most_common()
        rows.append(
            f"| {name} | {len(own)} | {slowest[1].seconds:.2f} | {slowest[0].name} "
            f"| {largest[1].bytes / 1e6:.0f} | {largest[0].name} "
            f"| {', '.join(f'{what} {count}' for what, count in outcomes)} |"
        )
    return "\n".join(rows)


def main() -> int:
    """Run as many files as asked for; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--output", type=Path, default=Path("out/hostile"))
    options = parser.parse_args()
    return bool(run(options.files, options.seed, options.output))


if __name__ == "__main__":
    sys.exit(main())
