"""Builds what is committed twice, as different as can be, and compares every byte.

Folder, time, umask, time zone, locale and hash seed differ; one wheel is built from the source
archive, the other one from the tree. The compiler and the packages that build are the same. Only
auditwheel, which gives folders the modes of the umask, runs with one, as in `make wheel`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packages import ROOT

# For how the second build differs from the first.
SURROUNDINGS = (
    {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
    {"TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"},
)


def main() -> int:
    with TemporaryDirectory() as folder:
        once = build(Path(folder, "once"), ["--sdist"], ["--wheel"], umask=0o022, second=False)
        again = build(Path(folder, "in", "a", "longer", "path"), [], umask=0o077, second=True)
    for name in sorted(once | again):
        same = once.get(name) == again.get(name)
        print(f"{name}: {'the same' if same else 'DIFFERENT'}, {once.get(name)}, {again.get(name)}")
    return 0 if once == again else 1


def build(folder: Path, *steps: list[str], umask: int, second: bool) -> dict[str, str]:
    """Hashes of what `python -m build` makes, by file name."""
    source, output = folder / "source", folder / "output"
    source.mkdir(parents=True)
    time = run(["git", "log", "-1", "--format=%ct"], ROOT).decode().strip()
    environment = {**os.environ, **SURROUNDINGS[second], "SOURCE_DATE_EPOCH": time}
    archive = run(["git", "archive", "HEAD"], ROOT)
    tar = ["tar", "-x", "--no-same-permissions"]
    subprocess.run(tar, cwd=source, input=archive, check=True, umask=umask)
    for step in steps:
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), *step]
        run(command, source, env=environment, umask=umask)
    for wheel in output.glob("*-linux_*.whl"):
        repair = [
            sys.executable,
            "-m",
            "auditwheel",
            "repair",
            "--wheel-dir",
            str(output),
            str(wheel),
        ]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        run(repair, source, env={**environment, "PATH": path}, umask=0o022)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in output.iterdir()}


def run(command: list[str], folder: Path, **options: Any) -> bytes:
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode(errors='replace')}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
