"""Pages of the documentation as tests see them: blocks of code, and commands that really run.

In a page, a block of `console` has commands after `$ ` and, below a command, what it prints; `...`
stands for anything, and what differs from run to run (identifiers, times, amounts) is not compared.
A command may fail only where `$ echo $?` follows. What goes on in the background has its number in
a file `*.pid`, and ends with the page. Blocks of `python` share their names; one with a title is a
file of that name. Blocks of any other language are not run.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks_of", "python_of", "run_page"]

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^ *```$",
    flags=re.DOTALL | re.MULTILINE,
)
_VARYING = re.compile(
    r"\b[0-9a-f]{16,}\b|\d{4}-\d\d-\d\d(?:T[\d:+]+)?|[+-]?[\d,.]+(?= (?:(?:bytes|s|[kM]B)\b|%))"
)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: What stands behind the fence.
        title: Name of the file that it is, or empty.
        code: What is in it.
    """

    language: str
    title: str
    code: str


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of code in a page, in order."""
    found = []
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        found.append(Block(match["language"], match["title"] or "", code))
    return found


def python_of(page: Path) -> dict[str, str]:
    """Return a page's Python: the example that its blocks make together, and its files, by name."""
    sources: dict[str, str] = {}
    for block in blocks_of(page):
        if block.language == "python":
            name = block.title or f"{page.stem.lower().replace('-', '_')}_example.py"
            sources[name] = sources.get(name, "") + block.code
    return sources


def run_page(page: Path, folder: Path) -> None:
    """Run the blocks of a page in order, in a folder, and compare what commands print."""
    names: dict[str, object] = {"__name__": page.stem}
    try:
        for block in blocks_of(page):
            if block.title:
                (folder / block.title).write_text(block.code, encoding="utf-8")
            elif block.language == "python":
                exec(compile(block.code, str(page), "exec"), names)
            elif block.language == "console":
                _run_console(block.code, folder)
    finally:
        for path in folder.glob("*.pid"):  # what a page left running
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGTERM)
            path.unlink()


def _run_console(code: str, folder: Path) -> None:
    steps = re.split(r"^\$ ", code, flags=re.MULTILINE)
    assert not steps[0].strip(), "a block of commands begins with one"
    failed = ""
    last = 0
    for step in steps[1:]:
        command, expected = _split(step)
        if command.startswith("pip install"):
            continue
        if command == "echo $?":
            printed, failed = f"{last}\n", ""
        else:
            assert not failed, failed
            last, printed = _run(command, folder)
            failed = f"exit code {last}: {command}\n{printed}" if last else ""
        if expected:
            assert _matches(expected, printed), (
                f"{command}\nexpected:\n{expected}\nprinted:\n{printed}"
            )
    assert not failed, failed


def _split(step: str) -> tuple[str, str]:
    """Separate a command, which may go on after a backslash, from what it prints."""
    lines = step.splitlines()
    end = next(at for at, line in enumerate(lines) if not line.endswith("\\")) + 1
    return "\n".join(lines[:end]), "\n".join(lines[end:]).strip()


def _run(command: str, folder: Path) -> tuple[int, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def _matches(expected: str, printed: str) -> bool:
    pattern = re.escape(_VARYING.sub("_", expected)).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, _VARYING.sub("_", printed.strip()), flags=re.DOTALL) is not None
