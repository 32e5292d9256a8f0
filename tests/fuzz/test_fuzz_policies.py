"""Whatever a trust policy holds, nnguard and the second reader come to the same end.

    NNGUARD_FUZZ_SECONDS=3600 NNGUARD_FUZZ_SEED=$RANDOM pytest tests/fuzz

A failure names its case.
"""

from __future__ import annotations

import copy
import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from conformance import sdk, second
from vectors.policies import POLICY, policy, signed
from vectors.selling import NOW
from vectors.toolbox import KEYS

SECONDS = float(os.environ.get("NNGUARD_FUZZ_SECONDS", "15")) / 4
SEED = os.environ.get("NNGUARD_FUZZ_SEED", "0")
NAMES = ("acme", "auditor", "root", "hybrid", "curve")
SIGNERS = ("vendor", "partner", "other")
HOLDERS = ("vendor", "partner", "other", "hybrid_65", "p256")
POOL: list[Any] = [
    *(None, True, False, 0, 1, 2, 7, 8, -1, 1 << 63, (1 << 63) - 1, 1.0, 1e400, "", "/", "*/*"),
    *("vendor.example/*", "vendor.example/small", "*small", "*.example/s*l*", "\ud800/*", "\x00/*"),
    *(
        "2026-11-01T12:00:00Z",
        "2026-11-01T13:00:00+01:00",
        "2026-11-01",
        "2026-13-01",
        "0000-01-01",
    ),
    *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-00:01", "2026-11-01T24:00:00Z"),
    *("strict", "permissive", "audit", "1", "1.2", "1.2.0", "1.10", "one", "7d", "07d", "99999w"),
    *([], {}, ["acme"], ["acme", "auditor"], ["root"], ["acme", "acme"], ["hybrid", "curve"]),
    *({"max_age": "7d"}, {"keys": ["root"], "threshold": 1}, {"keys": ["acme"], "threshold": 1}),
]


def test_both_readers_come_to_the_same_end(tmp_path: Path) -> None:
    end = time.monotonic() + SECONDS
    ends: Counter[str] = Counter()
    number = 0
    while time.monotonic() < end or number < 300:
        case = f"{SEED} {number}"
        request = made(random.Random(case), tmp_path)
        ours, other = sdk.answer(dict(request)), second.answer(dict(request))
        ours.pop("message", None)
        other.pop("message", None)
        assert ours == other, case
        ends[ours.get("reason", "ok")] += 1
        number += 1
    assert {"ok", "malformed", "no-scope", "other-key", "policy-version"} <= set(ends), ends


def made(rng: random.Random, folder: Path) -> dict[str, Any]:
    """A request to judge a release by a policy that is wrong somewhere, perhaps."""
    base = richer() if rng.random() < 0.5 else copy.deepcopy(POLICY)
    text = written(rng, base, folder)
    given = {"operation": "judge", "policy": str(folder / "policy")}
    (folder / "policy").write_bytes(text)
    if rng.random() < 0.2:
        pinned = signed(policy("version", rng.choice([1, 2, 3])), "other")
        (folder / "pinned").write_text(pinned)
        given["pinned"] = str(folder / "pinned")
    release = {"iss": "vendor.example", "sub": "small", "version": "1.2", "release": 7}
    for name in [*release]:
        if rng.random() < 0.1:
            del release[name]
    if rng.random() < 0.2:
        release["iss"] = rng.choice(["vendor.example/small", "", "*", "a.example"])
    kids = [KEYS[rng.choice(HOLDERS)].public_key.id.hex() for _ in range(rng.choice([1, 1, 2, 3]))]
    return {**given, "release": release, "kids": kids, "now": NOW + rng.choice([0, 0, 1, 10**8])}


def richer() -> dict[str, Any]:
    """A policy with all that there is."""
    found = copy.deepcopy(POLICY)
    found["keys"] |= {
        "hybrid": {"pem": KEYS["hybrid_65"].public_key.pem.decode()},
        "curve": {"pem": KEYS["p256"].public_key.pem.decode(), "not_after": "2026-12-01"},
    }
    found["rules"] = [
        {
            "scopes": ["vendor.example/sm*"],
            "keys": ["acme", "auditor", "hybrid", "curve"],
            "threshold": 2,
            "level": "permissive",
            "min_version": "1.2",
            "min_release": 7,
            "post_quantum": False,
        },
        {"scopes": ["*/*"], "keys": ["auditor", "hybrid"], "threshold": 1, "level": "audit"},
    ]
    return found


def written(rng: random.Random, found: dict[str, Any], folder: Path) -> bytes:
    """The text of a policy: plain, signed, or in several versions, changed here and there."""
    for _ in range(rng.choice([0, 1, 1, 2])):
        change(rng, found)
    if rng.random() < 0.5:
        text = json.dumps(found)
        return flipped(rng, text.encode()) if rng.random() < 0.2 else text.encode()
    versions = []
    for number in range(1, rng.choice([2, 2, 3])):
        version = found | {"version": rng.choice([number, number, number, 2])}
        signers = {"other", *(rng.choice(SIGNERS) for _ in range(rng.choice([0, 1])))}
        versions.append(signed(version, *sorted(signers - {rng.choice([*SIGNERS, "", ""])})))
    text = "".join(versions)
    return flipped(rng, text.encode()) if rng.random() < 0.2 else text.encode()


def change(rng: random.Random, found: Any) -> None:
    """Put something else, or nothing, or one more, somewhere into JSON values."""
    at, key = found, None
    while isinstance(at, (dict, list)) and at and (key is None or rng.random() < 0.7):
        holder = at
        key = rng.choice([*at]) if isinstance(at, dict) else rng.randrange(len(at))
        at = at[key]
    if rng.random() < 0.2:
        del holder[key]
    elif rng.random() < 0.2 and isinstance(holder, dict):
        names = ("expires", "not_after", "revoked", "min_version", "min_release", "latest", "x")
        holder[rng.choice(names)] = copy.deepcopy(rng.choice(POOL))
    else:
        holder[key] = copy.deepcopy(rng.choice(POOL))


def flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)
