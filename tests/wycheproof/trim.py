"""Take what our tests use out of a checkout of C2SP/wycheproof, one vector on a line.

python tests/wycheproof/trim.py CHECKOUT
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

FIELDS = {
    "ed25519": ("key", "msg", "sig"),
    "aes_gcm": ("key", "iv", "aad", "msg", "ct", "tag"),
    "x25519": ("public", "private", "shared"),
    "mlkem_768": ("seed", "c", "K"),
    "mlkem_768_encaps": ("ek",),
}
MOST = {"x25519": 20, "mlkem_768": 2, "mlkem_768_encaps": 2}
"""Of each kind; all where nothing is said. Keys and ciphertexts of ML-KEM have a kilobyte."""


def fits(name: str, group: dict[str, Any], test: dict[str, Any]) -> bool:
    """Tell whether there is a function of ours that a vector can be given to."""
    if name == "aes_gcm":
        return bool(group["keySize"] == 256 and group["tagSize"] == 128)
    return name != "mlkem_768" or len(test["seed"]) == 128


def trim(name: str, source: dict[str, Any]) -> list[dict[str, Any]]:
    """Choose vectors, and of them what is used."""
    counts: Counter[Any] = Counter()
    chosen = []
    for group in source["testGroups"]:
        for test in group["tests"]:
            test["key"] = test.get("key") or group.get("publicKey", {}).get("pk")
            kind = test["result"], *test["flags"]
            if name != "x25519":
                kind = *kind, test.get("comment", "").rstrip("0123456789")
            counts[kind] += fits(name, group, test)
            if fits(name, group, test) and counts[kind] <= MOST.get(name, counts[kind]):
                kept = {field: test[field] for field in FIELDS[name]}
                about = {key: test[key] for key in ("tcId", "result", "flags")}
                chosen.append({**about, "comment": test.get("comment", ""), **kept})
    return chosen


def main(checkout: Path) -> None:
    """Write the files beside this one."""
    git = ["git", "-C", str(checkout)]
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    for name in FIELDS:
        path = f"testvectors_v1/{name}_test.json"
        source = json.loads(subprocess.check_output([*git, "show", f"HEAD:{path}"]))
        rows = ",\n".join(json.dumps(test) for test in trim(name, source))
        head = json.dumps({"source": f"C2SP/wycheproof {path}", "commit": commit})[:-1]
        text = f'{head}, "tests": [\n{rows}\n]}}\n'
        Path(__file__).with_name(f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
