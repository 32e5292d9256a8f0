"""What the lock pins, and what installed packages say about themselves."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import nanobind
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "lock.txt"

# Of the header that nanobind brings along. Both are linked into the extension.
ROBIN_MAP = "robin-map"
LINKED = {"nanobind": "BSD-3-Clause", ROBIN_MAP: "MIT"}


def locked() -> Iterator[Requirement]:
    """Every package of the lock, at each of its versions."""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "# ":
            yield Requirement(line.rstrip(" \\"))


def applicable(requirements: Iterable[str], extra: str = "") -> Iterator[Requirement]:
    """Those of some requirements that hold for this system, Python and extra."""
    for requirement in map(Requirement, requirements):
        if not requirement.marker or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of the packages that these requirements install, and in turn what those require."""
    names: set[str] = set()
    left = list(applicable(requirements))
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if name not in names:
            names.add(name)
            further = importlib.metadata.requires(name) or []
            left += [r for extra in {"", *requirement.extras} for r in applicable(further, extra)]
    return names


def version_of(name: str) -> str:
    if name != ROBIN_MAP:
        return importlib.metadata.version(name)
    header = Path(nanobind.include_dir(), "../ext/robin_map/include/tsl/robin_growth_policy.h")
    define = r"#define TSL_RH_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)"
    return ".".join(re.findall(define, header.read_text(encoding="utf-8")))


SILENT = {"atheris": "Apache-2.0", "axe-playwright-python": "MIT, and MPL-2.0 (axe-core)"}
"""Packages whose metadata does not say; what they hold does."""


def license_of(package: importlib.metadata.Distribution) -> str:
    """An SPDX expression where the package has one, else its own words."""
    metadata = package.metadata
    if (name := canonicalize_name(package.name)) in SILENT:
        return SILENT[name]
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    words = metadata.get("License", "")
    if re.fullmatch(r"\w[^\n]{1,40}", words) and not re.search("Copyright|UNKNOWN", words):
        return words
    classes = [each for each in metadata.get_all("Classifier") or [] if each[:9] == "License :"]
    return ", ".join(each.rpartition(" :: ")[2] for each in classes) or "not stated"
