"""Makes the test vectors: streams, and what a reader MUST say of each.

    python -m vectors.make              here, and the worked examples in docs/SPEC.md
    python -m vectors.make FOLDER       there, and nothing else

Every vector has a function of its own and one outcome. All keys, nonces, times and weights are
fixed, so running it again changes nothing. The private keys are published: they are for tests,
never to be trusted.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from vectors import (
    accepted,
    activation,
    algorithms,
    carried,
    countersigned,
    differences,
    leases,
    licenses,
    locked_sets,
    locks,
    masked,
    policies,
    refused_changes,
    refused_contents,
    refused_licenses,
    refused_locked_sets,
    refused_locks,
    refused_masks,
    refused_policies,
    refused_records,
    refused_sales,
    refused_streams,
    sets,
    states,
)
from vectors.example import example, with_example
from vectors.selling import CONTENT_KEYS, CUSTOMER_SEEDS, CUSTOMERS
from vectors.toolbox import KEYS, TRUSTED, VECTORS, Made, Vector

FOLDER = Path(__file__).parent
SPEC = FOLDER.parents[1] / "docs" / "SPEC.md"
SPEC_VERSION = "5.0"
MODULES = (
    *(accepted, algorithms, refused_streams, refused_changes, refused_records),
    *(locks, carried, differences, refused_locks, refused_contents),
    *(licenses, refused_licenses, refused_sales, leases),
    *(masked, refused_masks),
    *(sets, locked_sets, refused_locked_sets),
    *(policies, refused_policies),
    countersigned,
    states,
    activation,
)
"""They register their vectors when they are imported."""
GIVEN = (
    *("trust", "content_key", "customer", "now", "max_age", "traits", "tier", "seen"),
    *("release", "kids", "digests"),
)
"""Details that an operation is given; it answers with all others."""


_WITHOUT_STREAM = ("judge", "remember", "request", "receipt")


def entry(item: Vector, made: Made) -> dict[str, Any]:
    """What `vectors.json` says of a vector; see `docs/conformance.md`."""
    outcome, _, fault = item.expect.partition(": ")
    details = dict(made.details)
    name, verb = made.file or item.name, item.operation.removesuffix("-set")
    given: dict[str, Any] = {"file": f"{name}.nnc"} if verb == item.operation else {"folder": name}
    if verb in _WITHOUT_STREAM:
        given = {}
    if verb in ("verify", "unlock"):
        given["trust"] = [*TRUSTED]
    given |= {suffix: f"{item.name}.{suffix}" for suffix, _ in made.texts}
    given |= {name: details.pop(name) for name in GIVEN if name in details}
    answer = {"reason": fault} if outcome in ("LicenseError", "PolicyError") else {}
    if made.original is not None:
        answer["original_sha256"] = hashlib.sha256(made.original).hexdigest()
    return {
        "name": item.name,
        "section": item.section,
        "about": item.about,
        **({"fault": fault} if fault else {}),
        "operation": item.operation,
        "input": given,
        "expect": outcome,
        "output": answer | details,
    }


def write(folder: Path, item: Vector, made: Made) -> None:
    """Write the files of a vector."""
    for name, data in made.files:
        path = folder / item.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if item.operation not in _WITHOUT_STREAM and not made.file and not made.files:
        (folder / f"{item.name}.nnc").write_bytes(made.data)
    for suffix, text in made.texts:
        (folder / f"{item.name}.{suffix}").write_bytes(text.encode())


def customers() -> dict[str, Any]:
    """What there is to know of the customers: raw private keys, and the identifiers."""
    return {
        name: {
            "x25519_private": x25519.hex(),
            **({} if mlkem is None else {"mlkem768_seed": mlkem.hex()}),
            "kid": CUSTOMERS[name].recipient.id.hex(),
        }
        for name, (x25519, mlkem) in CUSTOMER_SEEDS.items()
    }


def main(folder: Path) -> None:
    """Write all vectors into a folder."""
    entries = []
    for item in sorted(VECTORS, key=lambda item: item.make.__module__):  # whoever came first
        made = item.make()
        write(folder, item, made)
        entries.append(entry(item, made))
    keys = {
        name: {
            "algorithm": key.public_key.algorithm,
            "private": key.pem().decode(),
            "public": key.public_key.pem.decode(),
            "kid": key.public_key.id.hex(),
        }
        for name, key in KEYS.items()
    }
    listing = {
        "spec": SPEC_VERSION,
        "warning": "The private keys are published: they are TEST KEYS, never trust them.",
        "keys": keys,
        "content_keys": {name: key.secret.hex() for name, key in CONTENT_KEYS.items()},
        "customers": customers(),
        "vectors": entries,
    }
    text = json.dumps(listing, indent=1, ensure_ascii=False) + "\n"
    (folder / "vectors.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        main(FOLDER)
        specification = SPEC.read_text(encoding="utf-8")
        SPEC.write_text(with_example(specification, example(FOLDER)), encoding="utf-8")
