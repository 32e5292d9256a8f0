"""Writes docs/licenses.md: the licenses of everything that the lock pins, and of what it cannot.

What is not installed here, because it is for other systems, is installed into a folder to be read.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import tomllib
from packaging.utils import canonicalize_name

from packages import LINKED, ROOT, closure, license_of, locked

PAGE = ROOT / "docs" / "licenses.md"
# Installed, but not by the lock (see CONTRIBUTING.md).
UNLOCKED = {"atheris", "nncodec", "torch", "uv"}
HEAD = """# Licenses

Made by `make lock`, from what the packages say about themselves; versions are in
`requirements/lock.txt`. Nothing but what is linked in comes with nnguard; `NOTICE` has its terms.
"""


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {canonicalize_name(each.name): str(each.specifier) for each in locked()}
    wanted |= dict.fromkeys(UNLOCKED, "")
    licenses = read_licenses(wanted)
    run_time = closure(project["dependencies"])
    # nncodec's own requirements are not installed: it is a peer for tests, and an option.
    optional = closure(each for name in extras if name != "nncodec" for each in extras[name])
    optional = (optional | {"nncodec"}) - run_time
    groups = {
        "Linked into the extension": LINKED,
        "Needed to run": {name: licenses[name] for name in run_time},
        "Needed by extras": {name: licenses[name] for name in optional},
        "Needed to build, test and release": {
            name: licenses[name] for name in licenses.keys() - run_time - optional - LINKED.keys()
        },
    }
    text = HEAD
    for title, group in groups.items():
        text += f"\n## {title}\n\n| package | license |\n|---|---|\n"
        text += "".join(f"| {name} | {group[name]} |\n" for name in sorted(group))
    PAGE.write_text(text, encoding="utf-8")


def read_licenses(wanted: dict[str, str]) -> dict[str, str]:
    """Licenses by name; the values of `wanted` are versions for what has to be fetched."""
    found = {canonicalize_name(each.name): each for each in importlib.metadata.distributions()}
    with TemporaryDirectory() as folder:
        missing = [name + wanted[name] for name in wanted.keys() - found]
        if missing:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run([*pip, "--target", folder, *missing], check=True)
        for each in importlib.metadata.distributions(path=[str(Path(folder))]):
            found[canonicalize_name(each.name)] = each
        return {name: license_of(found[name]) for name in wanted}


if __name__ == "__main__":
    main()
