"""Make `kubernetes.json` of the schemas in the package `kubernetes-validate`: those that are used.

    python tests/deploy/schemas/make.py path/to/v1.37.0-local-strict

What describes, and says nothing of what is valid, is left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CORE = "io.k8s.api.core.v1"
WANTED = {
    "ConfigMap": f"{CORE}.ConfigMap",
    "Container": f"{CORE}.Container",
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "PersistentVolumeClaim": f"{CORE}.PersistentVolumeClaim",
    "Pod": f"{CORE}.Pod",
}
TARGET = Path(__file__).with_name("kubernetes.json")


def slim(value: Any, seen: list[str]) -> Any:
    """Return a schema without descriptions, its references noted and local."""
    if isinstance(value, list):
        return [slim(each, seen) for each in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, each in value.items():
        if name == "$ref":
            seen.append(each.rpartition("/")[2])
            found[name] = f"#/$defs/{seen[-1]}"
        elif name == "properties":
            found[name] = {key: slim(schema, seen) for key, schema in each.items()}
        elif name not in ("description", "$schema") and not name.startswith("x-"):
            found[name] = slim(each, seen)
    return found


def main(folder: Path) -> None:
    given = json.loads((folder / "_definitions.json").read_text())["$defs"]
    left = [*WANTED.values()]
    defs: dict[str, Any] = {}
    while left:
        name = left.pop()
        if name not in defs:
            defs[name] = slim(given[name], left)
    kinds = {kind: {"$ref": f"#/$defs/{name}"} for kind, name in WANTED.items()}
    text = json.dumps({"kinds": kinds, "$defs": dict(sorted(defs.items()))}, separators=(",", ":"))
    TARGET.write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
