"""Fuzzing units and headers by coverage, and whatever decodes and verifies them, with atheris.

python tests/fuzz/streams.py CORPUS -max_total_time=60    (make fuzz-streams SECONDS=60)

Law: only NnguardError comes out.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import atheris

import nnguard
import nnguard.compression.decompress  # names of nnguard load with their first use
import nnguard.inspection
import nnguard.signing
from nnguard.errors import NnguardError

KEY = nnguard.SigningKey.generate().public_key
LARGEST = 1 << 18


def one_input(data: bytes) -> None:
    """Read a stream in all ways that take no key of ours."""
    try:
        stream = nnguard.Stream.from_bytes(data)
    except NnguardError:
        return
    for use in (
        nnguard.inspect,
        nnguard.capacity,
        lambda stream: nnguard.verify(stream, trust=[KEY]),
        lambda stream: nnguard.decompress(stream, max_size=LARGEST, workers=1),
    ):
        with contextlib.suppress(NnguardError):
            use(stream)


def main() -> None:
    """Seed the corpus with the streams of the tests, and start."""
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for path in (Path(__file__).parents[1] / "vectors").glob("*.nnc"):
        (corpus / path.name).write_bytes(path.read_bytes())
    atheris.instrument_all()  # the loader of an editable install is not one that it can wrap
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
