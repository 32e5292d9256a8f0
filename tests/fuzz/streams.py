"""Fuzzing units and headers by coverage, and whatever decodes and verifies them, with atheris.

python tests/fuzz/streams.py CORPUS -max_total_time=60    (make fuzz-streams SECONDS=60)

Half of the mutations are libFuzzer's, half those of `mutations.py`, which put sizes, checksums and
signatures right again. Law: only NnguardError comes out.
"""

from __future__ import annotations

import contextlib
import gc
import random
import sys
from pathlib import Path
from types import FunctionType

import atheris

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "examples/digits")]

import nnguard
import nnguard.compression.decompress  # names of nnguard load with their first use
import nnguard.inspection
import nnguard.signing
from fuzz.mutations import mutate_stream
from nnguard.errors import NnguardError
from vectors.toolbox import VENDOR

KEY = VENDOR.public_key
VECTORS = [path.read_bytes() for path in (Path(__file__).parents[1] / "vectors").glob("*.nnc")]
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


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Change a stream in one of the two ways."""
    rng = random.Random(seed)
    if not data or rng.random() < 0.5:
        changed: bytes = atheris.Mutate(data, max_size)
        return changed
    return mutate_stream(rng, data, VECTORS)[:max_size]


def main() -> None:
    """Seed the corpus with the streams of the tests, and start."""
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(VECTORS):
        (corpus / f"vector{number}").write_bytes(data)
    for function in gc.get_objects():  # the loader of an editable install cannot be wrapped
        if isinstance(function, FunctionType) and "src/nnguard" in function.__code__.co_filename:
            atheris.instrument_func(function)
    atheris.Setup(sys.argv, one_input, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
