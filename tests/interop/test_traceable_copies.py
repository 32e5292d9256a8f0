"""Copies of many licenses, each exactly the one that its license names; read by other decoders.

NNGUARD_LICENSES=1000 pytest tests/interop/test_traceable_copies.py
"""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, timezone

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import nnguard
import second_hpke
import second_licensing
import second_reader
import stock
import traceable
from nnguard._records.digest import model_digest
from nnguard._tracing import choosing
from nnguard.licensing import License, Terms, issue
from second_signatures import VendorKey
from second_unlocker import ALONE

LICENSES = int(os.environ.get("NNGUARD_LICENSES", "20"))
VENDOR = nnguard.SigningKey.generate()
ADA = X25519PrivateKey.from_private_bytes(bytes(range(32)))
CUSTOMERS = (
    nnguard.Identity(ADA, None),
    nnguard.Identity.generate(post_quantum=True),
)
KINDS = [(dependent, signed) for dependent in (False, True) for signed in (False, True)]


@pytest.fixture(autouse=True)
def _small_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small releases have fingerprints, too short to be found, and quick to make."""
    monkeypatch.setattr(choosing, "_FEWEST_MARKS", 3000)
    monkeypatch.setattr(choosing, "_MOST_ENTRIES", 300)


def lock(*, dependent: bool, signed: bool) -> tuple[nnguard.Stream, nnguard.Locked]:
    """Return a release as a copy is, but for fingerprint and signature, and its trial."""
    model = traceable.release_of(dependent=dependent, rows=60)
    release = nnguard.sign(model, VENDOR, name="net", version="2") if signed else model
    trial = traceable.trial_of(dependent=not dependent, rows=250)
    return model, nnguard.lock(release, trial=trial, traceable=True, signer=VENDOR)


def test_every_copy_is_the_one_that_its_license_names() -> None:
    sales = [lock(dependent=dependent, signed=signed) for dependent, signed in KINDS]
    plain = [stock.decode(bytes(model)) for model, _ in sales]
    digests: set[bytes] = set()
    weights: set[bytes] = set()
    changed = 0
    for number in range(LICENSES):
        kind = number % len(KINDS)
        model, locked = sales[kind]
        customer = CUSTOMERS[number // len(KINDS) % len(CUSTOMERS)]
        made = issue(
            locked.trial,
            locked.content_key,
            to=customer.recipient,
            signer=VENDOR,
            terms=Terms(customer=str(number)),
        )
        license_ = License.from_text(str(made))
        copy = nnguard.unlock(locked.trial, license_, customer, VENDOR.public_key)
        digest = model_digest(copy.sha256_of_units())
        assert digest.hex() == license_.terms.opens
        if KINDS[kind][1]:
            assert nnguard.verify(copy, VENDOR.public_key).claims.version == "2"
            bare = nnguard.strip(copy, VENDOR.public_key)
        else:
            bare = copy
        ours, theirs = nnguard.decompress(copy), stock.decode(bytes(copy))
        assert [*ours] == [*theirs]
        for name, array in theirs.items():
            own = np.asarray(ours[name])
            assert own.tobytes() == np.ascontiguousarray(array).tobytes(), name
        digests.add(digest)
        weights.add(hashlib.sha256(b"".join(map(np.ndarray.tobytes, theirs.values()))).digest())
        changed += sum(old.read() != new.read() for old, new in zip(model, bare, strict=True))
        moved = stock.decode(bytes(bare))["first.weight"] - plain[kind]["first.weight"]
        assert 0.4 < np.mean(moved != 0) < 0.6
    assert len(digests) == len(weights) == LICENSES
    assert changed == 3 * LICENSES  # tensors with masks


def test_second_implementation_gives_the_same_copy() -> None:
    _, locked = lock(dependent=True, signed=True)
    customer = CUSTOMERS[0]
    license_ = issue(locked.trial, locked.content_key, to=customer.recipient, signer=VENDOR)
    copy = nnguard.unlock(locked.trial, license_, customer, VENDOR.public_key)
    trust = [VendorKey(VENDOR.public_key.pem.decode())]
    here = second_licensing.Deployment(int(datetime.now(timezone.utc).timestamp()))
    opened, _ = second_licensing.unlock(
        {ALONE: bytes(locked.trial)}, str(license_), second_hpke.Customer(ADA), trust, here
    )
    assert b"".join(opened.files[ALONE]) == bytes(copy)
    header, taken = second_reader.verify(bytes(copy), trust)
    assert header[15][2] == "net"
    assert len(taken) == 1
