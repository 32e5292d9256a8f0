"""The picture of the house in `docs/architecture.md` is true: imports follow its arrows."""

import ast
import itertools
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "nnguard"


def rooms_below() -> dict[str, set[str]]:
    """Return each room of the picture with all rooms that its arrows lead to."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return _follow(re.findall(r"```mermaid\n(.*?)```", page, flags=re.DOTALL)[0])


def _follow(picture: str) -> dict[str, set[str]]:
    arrows: dict[str, set[str]] = {}
    for line in picture.splitlines():
        chain = line.strip().split(" --> ")
        for above, below in itertools.pairwise(chain):
            arrows.setdefault(above, set()).add(below)
    found: dict[str, set[str]] = {}
    for start in arrows:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = arrows.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        found[start] = seen
    return found


def room_of(module: str) -> str:
    """Return the short name that the picture has for the room of a module."""
    first = ([*module.split("."), "", ""])[1]
    if first in ("__main__", "_cli"):
        return "CLI"
    if first in ("_base", "errors"):
        return "BASE"
    return ROOMS.get(first, "PUB")


ROOMS = {
    "_server": "SERVE",
    "_relay": "REL",
    "_selling": "SELL",
    "_operations": "OPS",
    "_locking": "LOCK",
    "_tracing": "TRACE",
    "_compression": "COMP",
    "_policy": "POL",
    "_licensing": "LIC",
    "_records": "REC",
    "_models": "MOD",
    "_oms": "OMS",
    "_hiding": "HID",
    "_crypto": "CRY",
    "_stream": "STR",
}


def imports_of(path: Path) -> list[str]:
    """Return the modules of nnguard that a module imports."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    named = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return [name for name in named if name.partition(".")[0] == "nnguard"]


def test_imports_follow_the_arrows() -> None:
    below = rooms_below()
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(["nnguard", *path.relative_to(PACKAGE).with_suffix("").parts])
        here = room_of(module.removesuffix(".__init__"))
        there = {room_of(name) for name in imports_of(path)} - {here}
        wrong += [f"{module} imports from {room}" for room in there - below.get(here, set())]
    assert wrong == []


def test_every_room_is_in_the_picture() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == {*ROOMS, "_cli", "_base"}
    assert {"CLI", "PUB", *ROOMS.values()} == set(rooms_below())
