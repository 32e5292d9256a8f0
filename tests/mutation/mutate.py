"""Mutation testing of what verifies and unlocks: does a test notice when a check is gone?

    python tests/mutation/mutate.py [FILE...] [--again]

Each mutant is one small change of a source file: an operator, a number, a text, a condition turned
round, a statement left out. Texts of errors, annotations, decorators and docstrings stay. For each,
a forked process runs those tests that come past the changed lines, until one fails. Results are
kept in `out/mutation.json`; `--again` runs only those that survived.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.machinery
import importlib.util
import json
import os
import pickle
import resource
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import cbor2  # noqa: F401  (what is imported here, mutants need not import again)
import cryptography.hazmat.primitives.hpke  # noqa: F401
import hypothesis.strategies  # noqa: F401
import ml_dtypes  # noqa: F401
import numpy as np  # noqa: F401
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
RESULTS = ROOT / "out" / "mutation.json"
SCOPE = {
    "_operations/sign": "operations/sign records/records",
    "_operations/verify": "operations/sign records/records operations/shards",
    "_operations/expect": "operations/expect",
    "_operations/unlock": "operations/unlock operations/unlock_refusals operations/locked_sets",
    "_records/layers": "operations/sign operations/unlock",
    "_records/signature": "records/records operations/sign",
    "_licensing/policy": "licensing/policy",
    "_licensing/license": "licensing/license operations/unlock_refusals",
    "_licensing/revocation": "licensing/revocation licensing/policy",
    "_crypto/cose": "crypto/cose records/records",
    "_crypto/content_key": "crypto/content_key records/lock_record",
    "_crypto/signed_file": "crypto/signed_file licensing/license",
    "_crypto/trust": "crypto/trust operations/sign",
    "_hiding/frame": "hiding/frame hiding/embedding",
    "_locking/opening": "records/lock_record operations/lock",
}
"""Files, without `src/nnguard` and ending, and the tests that are run first."""


def path_of(test: str) -> str:
    """Return the file of unit tests with this name, such as `licensing/policy`."""
    folder, _, name = test.partition("/")
    return f"tests/unit/{folder}/test_{name}.py"


TESTS = [
    "tests/test_vectors.py",
    *sorted({path_of(name) for names in SCOPE.values() for name in names.split()}),
]
SWAPS: dict[type, type] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitXor: ast.BitOr,
    ast.Continue: ast.Break,
    ast.Break: ast.Continue,
}
NAMES = {"all": "any", "any": "all", "min": "max", "max": "min"}

Change = tuple[str, range, Callable[[], object]]
"""What a mutant does, the lines of the statement, and the function that does it."""


# What is changed


def changes(tree: ast.AST) -> list[Change]:
    """List the mutants of a module, in an order that is always the same."""
    found: list[Change] = []

    def visit(node: ast.AST, lines: range, *, texts: bool) -> None:
        if isinstance(node, ast.stmt | ast.match_case | ast.ExceptHandler):
            lines = lines_of(node)
        found.extend((what, lines, do) for what, do in changes_at(node, texts=texts))
        texts = texts and not isinstance(node, ast.Raise | ast.JoinedStr)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "ops", "op", "ctx"):
                continue
            if is_list_of_names(node):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, lines, texts=texts and not is_docstring(node, child))
            if isinstance(value, list) and name in ("body", "orelse", "finalbody"):
                found.extend(removals(value))

    visit(tree, range(0), texts=True)
    return found


def lines_of(node: Any) -> range:
    """The lines of a statement, without those of the statements in it."""
    start = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
    inside = getattr(node, "body", None) or getattr(node, "cases", None)
    if not isinstance(inside, list):
        return range(start, node.end_lineno + 1)
    first = inside[0]
    end = first.pattern.lineno if isinstance(first, ast.match_case) else first.lineno
    return range(start, max(end, start + 1))


def is_docstring(parent: ast.AST, node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_list_of_names(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def removals(body: list[ast.stmt]) -> Iterator[Change]:
    """Leave out calls and errors."""
    for place, statement in enumerate(body):
        call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
        if call or isinstance(statement, ast.Raise | ast.AugAssign):
            what = f"without {ast.unparse(statement)[:60]}"
            yield what, lines_of(statement), lambda p=place: body.__setitem__(p, ast.Pass())


def changes_at(node: Any, *, texts: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    """What can be changed in one node."""
    before = ast.unparse(node)[:60] if isinstance(node, ast.expr) else type(node).__name__

    def put(name: str, value: Any) -> Callable[[], object]:
        return lambda: setattr(node, name, value)

    match node:
        case ast.Compare():
            for place, op in enumerate(node.ops):
                swap = SWAPS[type(op)]
                yield (
                    f"{swap.__name__} {place} in {before}",
                    lambda p=place, s=swap: node.ops.__setitem__(p, s()),
                )
        case ast.BoolOp() | ast.BinOp() | ast.AugAssign() if type(node.op) in SWAPS:
            swap = SWAPS[type(node.op)]
            yield f"{swap.__name__} in {before}", put("op", swap())
        case ast.UnaryOp(op=ast.Not()):
            yield f"no not: {before}", put("operand", ast.UnaryOp(ast.Not(), node.operand))
        case ast.Constant(value=bool()):
            yield f"{not node.value}", put("value", not node.value)
        case ast.Constant(value=int()):
            yield f"{node.value + 1} for {before}", put("value", node.value + 1)
        case ast.Constant(value=str()) if texts:
            yield f"other text for {before}", put("value", "XX" + node.value)
        case ast.Constant(value=bytes()):
            yield f"other bytes for {before}", put("value", b"XX" + node.value)
        case ast.If() | ast.While() | ast.IfExp():
            what = ast.unparse(node.test)[:60]
            yield f"unless {what}", put("test", ast.UnaryOp(ast.Not(), node.test))
        case ast.comprehension():
            for place, condition in enumerate(node.ifs):
                yield (
                    f"always, not only if {ast.unparse(condition)[:60]}",
                    lambda p=place: node.ifs.__setitem__(p, ast.Constant(True)),
                )
        case ast.match_case() if node.guard is not None:
            yield f"no guard {ast.unparse(node.guard)[:60]}", put("guard", None)
        case ast.Name() if node.id in NAMES:
            yield f"{NAMES[node.id]} for {node.id}", put("id", NAMES[node.id])


def mutate(path: Path, number: int) -> ast.AST:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    changes(tree)[number][2]()
    return ast.fix_missing_locations(tree)


# Processes of their own, which have not imported nnguard yet


class Mutant(importlib.machinery.SourceFileLoader):
    """Imports a mutant in place of a module."""

    def __init__(self, path: Path, number: int) -> None:
        self.module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        self.number = number
        super().__init__(self.module, str(path))

    def get_code(self, fullname: str) -> Any:
        return compile(mutate(Path(self.path), self.number), self.path, "exec")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name == self.module:
            return importlib.util.spec_from_file_location(name, self.path, loader=self)
        return None


class Chosen:
    """Runs some tests, in an order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.order = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order),
            key=lambda item: self.order[item.nodeid],
        )


class Recorder:
    """Notes how long each test takes, and which lines of the files it comes past."""

    def __init__(self, files: Sequence[str]) -> None:
        self.files, self.now = {*files}, set[tuple[str, int]]()
        self.lines: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self.seconds: dict[str, float] = {}

    def trace(self, frame: FrameType, event: str, arg: object) -> Any:
        return self.line if frame.f_code.co_filename in self.files else None

    def line(self, frame: FrameType, event: str, arg: object) -> Any:
        self.now.add((frame.f_code.co_filename, frame.f_lineno))
        return self.line

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """What fixtures do counts for all tests of the module."""
        with self.during(str(item.path)):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        start = time.monotonic()
        with self.during(item.nodeid):
            yield
        self.seconds[item.nodeid] = time.monotonic() - start

    @contextlib.contextmanager
    def during(self, name: str) -> Iterator[None]:
        self.now = self.lines[name]
        sys.settrace(self.trace)
        threading.settrace(self.trace)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]


def run_tests(tests: Sequence[str], plugin: object) -> int:
    """Run one file after the other, until a test fails."""
    options = ["-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    for file in dict.fromkeys(test.split("::")[0] for test in tests):
        if code := pytest.main([*options, file], plugins=[plugin]):
            return int(code)
    return 0


def fork(do: Callable[[], int], seconds: float) -> int:
    """Run a function in a process of its own; how it ended, or 124 where it took too long."""
    child = os.fork()
    if not child:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        code = 125
        try:
            code = do()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 124


def record(files: Sequence[Path]) -> Recorder:
    """Run all tests once."""
    recorder = Recorder([str(path) for path in files])
    kept = ROOT / "out" / "mutation.lines"

    def do() -> int:
        code = run_tests(TESTS, recorder)
        kept.write_bytes(pickle.dumps((dict(recorder.lines), recorder.seconds)))
        return code

    if fork(do, 600):
        sys.exit("the tests fail as they are")
    lines, recorder.seconds = pickle.loads(kept.read_bytes())
    recorder.lines.update(lines)
    return recorder


def tests_for(path: Path, lines: range, recorder: Recorder, first: Sequence[str]) -> list[str]:
    """List the tests that come past some lines, module by module; all for what an import does."""
    wanted = {(str(path), line) for line in lines}
    past = {name for name, seen in recorder.lines.items() if seen & wanted}
    inside = any(
        isinstance(node, ast.FunctionDef) and node.body[0].lineno <= lines.start <= node.end_lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )
    chosen = [
        test
        for test in recorder.seconds
        if not inside or test in past or str(ROOT / test.split("::")[0]) in past
    ]
    seconds: dict[str, float] = defaultdict(float)
    for test in chosen:
        seconds[test.split("::")[0]] += recorder.seconds[test]

    def rank(test: str) -> tuple[int, float, str, float]:
        file = test.split("::")[0]
        home = first.index(file) if file in first else len(first)
        return home, seconds[file], file, recorder.seconds[test]

    return sorted(chosen, key=rank)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=[*SCOPE], metavar="FILE")
    parser.add_argument("--again", action="store_true", help="only those that survived")
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / "tests"))
    RESULTS.parent.mkdir(exist_ok=True)
    results: dict[str, dict[str, str]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    paths = {name: SOURCE / "nnguard" / f"{name}.py" for name in SCOPE}
    recorder = record([*paths.values()])
    for name in options.files:
        path, before = paths[name], results.get(name, {})
        first = [path_of(test) for test in SCOPE[name].split()]
        found: dict[str, str] = {}
        for number, (what, lines, _) in enumerate(changes(ast.parse(path.read_text()))):
            mutant = f"{number}, line {lines.start}: {what}"
            if options.again and before.get(mutant) == "killed":
                found[mutant] = "killed"
                continue
            tests = tests_for(path, lines, recorder, first)
            limit = 20 + 4 * sum(recorder.seconds[test] for test in tests)
            code = fork(lambda p=path, n=number, t=tests: try_mutant(p, n, t), limit)
            found[mutant] = "killed" if code else "survived"
            if not code:
                print(f"{name}: {mutant}", flush=True)
            results[name] = found
            RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        say(name, found)
    say("all", {f"{n} {m}": r for n, found in results.items() for m, r in found.items()})


def try_mutant(path: Path, number: int, tests: Sequence[str]) -> int:
    sys.meta_path.insert(0, Mutant(path, number))
    return run_tests(tests, Chosen(tests))


def say(name: str, found: dict[str, str]) -> None:
    killed = sum(result == "killed" for result in found.values())
    print(f"{name}: {killed} of {len(found)} killed, {killed / len(found):.1%}", flush=True)


if __name__ == "__main__":
    main()
