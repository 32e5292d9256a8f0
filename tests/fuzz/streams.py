"""Fuzzing units and headers by coverage, and whatever decodes and verifies them, with atheris.

python tests/fuzz/streams.py CORPUS -max_total_time=60    (make fuzz-streams SECONDS=60)

Half of the mutations are libFuzzer's, half those of `mutations.py`, which put sizes, checksums and
signatures right again. Law: only NnguardError comes out.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "examples/digits")]

import nnguard
import nnguard._compression.decompress
import nnguard._operations.attach  # names of nnguard load with their first use
import nnguard._operations.inspect
import nnguard._operations.sign
import nnguard._operations.unlock
from fuzz.mutations import mutate_stream
from fuzz.running import fuzz
from nnguard.errors import NnguardError
from vectors import selling
from vectors.toolbox import VENDOR

KEY = VENDOR.public_key
FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS = [path.read_bytes() for path in FOLDER.glob("*.nnc")]
LICENSE = nnguard.licensing.License.load(FOLDER / "license.license")
POLICY = nnguard.licensing.Policy(
    now=selling.ISSUED, device=nnguard.licensing.Device.of_values([("host", "a")])
)
LARGEST = 1 << 18


def use(data: bytes) -> None:
    """Read a stream in all ways."""
    stream = nnguard.Stream.from_bytes(data)
    for verb in (
        nnguard.inspect,
        nnguard.capacity,
        nnguard.detach,
        lambda stream: nnguard.verify(stream, trust=[KEY]),
        lambda stream: nnguard.unlock(
            stream, LICENSE, selling.CUSTOMERS["ada"], [KEY], license_policy=POLICY
        ),
        lambda stream: nnguard.decompress(stream, allow_trial=True, max_size=LARGEST, workers=1),
    ):
        with contextlib.suppress(NnguardError):
            verb(stream)


if __name__ == "__main__":
    fuzz(use, lambda rng, data: mutate_stream(rng, data, VECTORS), VECTORS)
