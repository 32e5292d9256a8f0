r"""Make `kubernetes.json` of the schemas in the package `kubernetes-validate`: those that are used.

    python tests/deploy/schemas/make.py path/to/v1.37.0-local-strict path/to/kserve \
        path/to/compose-spec.json

And `kserve.json` of a custom resource definition in the repository of KServe, `compose.json` of the
Compose Specification. What describes, and says nothing of what is valid, is left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

CORE = "io.k8s.api.core.v1"
WANTED = {
    "ConfigMap": f"{CORE}.ConfigMap",
    "Container": f"{CORE}.Container",
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "PersistentVolumeClaim": f"{CORE}.PersistentVolumeClaim",
    "Pod": f"{CORE}.Pod",
    "Service": f"{CORE}.Service",
    "StatefulSet": "io.k8s.api.apps.v1.StatefulSet",
}
HERE = Path(__file__).parent
STORAGE = "config/crd/full/clusterstoragecontainer/serving.kserve.io_clusterstoragecontainers.yaml"


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


def of_kubernetes(folder: Path) -> dict[str, Any]:
    given = json.loads((folder / "_definitions.json").read_text())["$defs"]
    left = [*WANTED.values()]
    defs: dict[str, Any] = {}
    while left:
        name = left.pop()
        if name not in defs:
            defs[name] = slim(given[name], left)
    kinds = {kind: {"$ref": f"#/$defs/{name}"} for kind, name in WANTED.items()}
    return {"kinds": kinds, "$defs": dict(sorted(defs.items()))}


def of_kserve(folder: Path) -> dict[str, Any]:
    """Return the schema of a ClusterStorageContainer, which a server prunes: here, it is strict."""
    (version,) = yaml.safe_load((folder / STORAGE).read_text())["spec"]["versions"]
    schema: dict[str, Any] = slim(version["schema"]["openAPIV3Schema"], [])
    for part in (schema, schema["properties"]["spec"]):
        part["additionalProperties"] = False
    return schema


def of_compose(path: Path) -> dict[str, Any]:
    """Return the schema of a compose file."""
    given = json.loads(path.read_text())
    defs = {name: slim(schema, []) for name, schema in given.pop("definitions", {}).items()}
    defs |= {name: slim(schema, []) for name, schema in given.pop("$defs", {}).items()}
    made: dict[str, Any] = slim({**given, "$id": None}, [])
    made.pop("$id")
    return {**made, "$defs": defs}


def main(kubernetes: Path, kserve: Path, compose: Path) -> None:
    made = {"kubernetes": of_kubernetes(kubernetes), "kserve": of_kserve(kserve)}
    made["compose"] = of_compose(compose)
    for name, schema in made.items():
        text = json.dumps(schema, separators=(",", ":"))
        (HERE / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
