"""Do what the README says, in its order, with nothing but a wheel; say what each step took.

    python tests/first_hour.py WHEEL [PAGE]

`python` is that of an empty environment. Where the page installs nnguard, the wheel is installed;
the model is a network that was trained on digits. Only the standard library is needed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"
BIN = Path(sys.executable).parent

_INSTALL = re.compile(r"""pip install (["']?)nnguard(\[[\w,]+\])?\1$""")
_LARGE = re.compile(r"torch|nncodec|dask")
"""Extras that take gigabytes: what the page says of them is left to `make test`."""


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Go through the examples of a page: language, text."""
    yield from re.findall(r"^```(console|python)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def commands(block: str) -> list[str]:
    """Return the commands that a block of the console shows, without what they print."""
    lines = re.sub(r"\\\n *", "", block).splitlines()
    return [line[2:] for line in lines if line.startswith("$ ")]


def run(command: str | list[str], folder: Path, *, shown: str = "") -> None:
    """Run a command as in a terminal, with what the environment has; stop where it fails."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    started = time.monotonic()
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(f"{time.monotonic() - started:7.2f} s  {shown or command}", flush=True)
    if done.returncode:
        sys.exit(f"{done.stdout}exit code {done.returncode}")


def prepare(folder: Path) -> None:
    """Put what a page takes as given into a folder: a model, and a weaker one."""
    folder.mkdir()
    shutil.copy(DIGITS / "weaker.nnc", folder)
    model = ["nnguard", "decompress", str(DIGITS / "digits.nnc"), "-o", "model.safetensors"]
    run(model, folder, shown=f"nnguard decompress digits.nnc ({folder.name})")


def main(wheel: Path, page: Path) -> None:
    """Install, then run the console's examples, then those in Python."""
    started = time.monotonic()
    text = page.read_text(encoding="utf-8")
    shown = [line for kind, block in blocks(text) if kind == "console" for line in commands(block)]
    scripts = [block for kind, block in blocks(text) if kind == "python"]
    if not _INSTALL.fullmatch(shown[0]):
        sys.exit(f"{page.name} does not begin with an installation, but with: {shown[0]}")
    with tempfile.TemporaryDirectory() as name:
        console, python = Path(name, "console"), Path(name, "python")
        for command in shown:
            install = _INSTALL.fullmatch(command)
            if install is None:
                run(command, console)
            elif _LARGE.search(install[2] or ""):
                print(f"   left out  {command}")
            else:
                target = f"{wheel.resolve()}{install[2] or ''}"
                run(["pip", "install", "--quiet", target], Path(name), shown=command)
            if not console.exists():
                prepare(console)
        prepare(python)
        run([sys.executable, "-c", "\n".join(scripts)], python, shown="python: all examples")
    print(f"{time.monotonic() - started:7.2f} s  in all")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "README.md")
