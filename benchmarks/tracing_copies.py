"""Copies of many licenses of a real network: each exactly the one that its license names.

    PYTHONPATH=tests:benchmarks python benchmarks/tracing_copies.py RELEASE [--licenses 1000]

Each license is issued, and unlocks the trial, a random network. The copy has to have the digest
that the license names, to verify under the vendor's key, and to decode to the same weights here and
in the stock decoder; no two may be equal.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

import numpy as np

import nnguard
import random_networks
import stock
from nnguard._locking.choice import count_weights
from nnguard._records.digest import model_digest


def main() -> None:
    """Check from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("release", type=Path, help="a stream")
    parser.add_argument("--licenses", type=int, default=1000, help="(%(default)s)")
    options = parser.parse_args()
    vendor, customer = nnguard.SigningKey.generate(), nnguard.Identity.generate()
    release = nnguard.Stream.open(options.release)
    weaker = nnguard.compress(random_networks.of_size(count_weights(release)))
    signed = nnguard.sign(release, vendor, name=options.release.stem)
    locked = nnguard.lock(signed, trial=weaker, signer=vendor, traceable=True)
    seen: set[bytes] = set()
    start = time.monotonic()
    for number in range(1, options.licenses + 1):
        license_ = nnguard.licensing.issue(
            locked.trial, locked.content_key, to=customer.recipient, signer=vendor
        )
        copy = nnguard.unlock(locked.trial, license_, customer, vendor.public_key)
        nnguard.verify(copy, vendor.public_key)
        if model_digest(copy.sha256_of_units()).hex() != license_.terms.opens:
            sys.exit(f"license {number}: the copy is not the one that it names")
        ours, theirs = nnguard.decompress(copy), stock.decode(bytes(copy))
        if [*ours] != [*theirs]:
            sys.exit(f"license {number}: the stock decoder reads other tensors")
        whole = hashlib.sha256()
        for name, array in theirs.items():
            own = np.ascontiguousarray(ours[name])
            if own.tobytes() != np.ascontiguousarray(array).tobytes():
                sys.exit(f"license {number}: the stock decoder reads {name} otherwise")
            whole.update(own)
        if whole.digest() in seen:
            sys.exit(f"license {number}: another license has the same copy")
        seen.add(whole.digest())
        if number % 50 == 0:
            seconds = time.monotonic() - start
            print(f"{number} of {options.licenses}, {seconds:.0f} s", file=sys.stderr, flush=True)
    print(f"{len(seen):,} copies, each as its license names it; no two have the same weights.")
    print(f"A license has {len(str(license_)):,} bytes.")


if __name__ == "__main__":
    main()
