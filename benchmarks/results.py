"""Results by name, in a file that grows with each, and what is to be said of a run."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["SEED", "Results", "describe"]

SEED = 15938


def describe() -> dict[str, Any]:
    """Return when and on what a run was made."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("nncodec", "numpy", "torch")},
        "seed": SEED,
    }


class Results:
    """Results by name; one that is there already is not measured again.

    Args:
        path: The file, JSON. Its entry `made` describes the last run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: dict[str, Any] = {}
        if path.exists():
            self.values = json.loads(path.read_text(encoding="utf-8"))

    def add(self, name: str, measure: Callable[[], Any]) -> float | None:
        """Measure what was not measured before; return the seconds that it took."""
        if name in self.values:
            return None
        started = time.monotonic()
        self.values |= {name: measure(), "made": describe()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.values, indent=1) + "\n", encoding="utf-8")
        return time.monotonic() - started
