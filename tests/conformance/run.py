"""Hold an implementation of the specification against its test vectors.

    python tests/conformance/run.py --adapter "COMMAND"

`docs/conformance.md` says what the command has to do. This file takes the standard library only,
and nothing of nnguard.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import queue
import shlex
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
UNSUPPORTED = "unsupported"
OPTIONAL = {"changed_units", "layers", "nested", "signatures", "warned"}
"""What a reader SHOULD tell: compared where it does."""


def load(folder: Path = VECTORS) -> dict[str, Any]:
    """Read `vectors.json`."""
    listing: dict[str, Any] = json.loads((folder / "vectors.json").read_text(encoding="utf-8"))
    return listing


def request_of(vector: dict[str, Any], listing: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What an adapter is asked: the input of a vector, with paths and keys in place of names."""
    given = dict(vector["input"])
    for name in (
        "file",
        "folder",
        "license",
        "revocations",
        "policy",
        "pinned",
        "state",
        "statement",
        "license_state",
        "request",
        "receipt",
    ):
        if name in given:
            given[name] = str(folder / given[name])
    if "trust" in given:
        given["trust"] = [listing["keys"][name]["public"] for name in given["trust"]]
    if "content_key" in given:
        given["content_key"] = listing["content_keys"][given["content_key"]]
    if "customer" in given:
        keys = dict(listing["customers"][given["customer"]])
        del keys["kid"]  # follows from the keys
        given["customer"] = keys
    return {"operation": vector["operation"], **given}


def difference(vector: dict[str, Any], answer: Any) -> str:
    """Tell where an answer is not the one that a vector wants; an empty text where it is."""
    if not isinstance(answer, dict) or not isinstance(answer.get("outcome"), str):
        return "no outcome"
    if answer["outcome"] != vector["expect"]:
        return f"{answer['outcome']} {answer.get('message', '')}".rstrip()
    for name, value in vector["output"].items():
        if name not in answer:
            if name not in OPTIONAL:
                return f"no {name}"
        elif json.dumps(answer[name], sort_keys=True) != json.dumps(value, sort_keys=True):
            return f"{name}: {json.dumps(answer[name], ensure_ascii=False)}"
    return ""


class Adapter:
    """The command: a line of JSON in, a line of JSON out. After a failure it is started again."""

    def __init__(self, command: str, timeout: float) -> None:
        self._command, self._timeout = shlex.split(command), timeout
        self._process: Any = None
        self._lines: queue.Queue[str] = queue.Queue()

    def ask(self, request: dict[str, Any]) -> Any:
        """Return the answer; a text that says why there is none."""
        if self._process is None:
            self._start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=self._timeout)
            return json.loads(line)
        except queue.Empty:
            reason = f"no answer in {self._timeout:g} s"
        except (OSError, ValueError):
            reason = "the adapter died, or did not answer with JSON"
        self.close()
        return {"outcome": "-", "message": reason}

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):  # what it was asked and has not read
                process.stdin.close()

    def _start(self) -> None:
        self._lines = queue.Queue()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        reader = threading.Thread(target=_read, args=(self._process, self._lines), daemon=True)
        reader.start()


def _read(process: Any, lines: queue.Queue[str]) -> None:
    with process.stdout as answers:
        for line in answers:
            lines.put(line)
    lines.put("")  # no JSON: it has ended


def outcomes(adapter: Adapter, folder: Path, only: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Go through the vectors: each with where it differs, or `unsupported`."""
    listing = load(folder)
    for vector in listing["vectors"]:
        if fnmatch.fnmatchcase(vector["name"], only):
            answer = adapter.ask(request_of(vector, listing, folder))
            skipped = isinstance(answer, dict) and answer.get("outcome") == UNSUPPORTED
            yield vector, UNSUPPORTED if skipped else difference(vector, answer)


def main(arguments: list[str] | None = None) -> int:
    """Print a table; 0 where all vectors that the implementation supports come out right."""
    parser = argparse.ArgumentParser(description="Hold an implementation against the vectors.")
    parser.add_argument("--adapter", required=True, help="its command; see docs/conformance.md")
    parser.add_argument("--vectors", type=Path, default=VECTORS, help="their folder")
    parser.add_argument("--only", default="*", help="names, with * and ?")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for each, %(default)s")
    options = parser.parse_args(arguments)
    adapter = Adapter(options.adapter, options.timeout)
    counts: Counter[str] = Counter()
    try:
        for vector, found in outcomes(adapter, options.vectors.resolve(), options.only):
            word = found if found == UNSUPPORTED else "differs" if found else "agrees"
            counts[word] += 1
            row = f"{word:<12}{vector['section']:<8}{vector['name']:<34}{vector['expect']:<18}"
            print(f"{row} {found if word == 'differs' else ''}".rstrip())
    finally:
        adapter.close()
    print(", ".join(f"{counts[word]} {word}" for word in ("agrees", "differs", UNSUPPORTED)))
    return 0 if counts["agrees"] and not counts["differs"] else 1


if __name__ == "__main__":
    sys.exit(main())
