"""Whatever a license, a list, a device or a lock's content holds, only an `NnguardError` comes out.

    NNGUARD_FUZZ_SECONDS=3600 NNGUARD_FUZZ_SEED=$RANDOM pytest tests/fuzz

`NNGUARD_FUZZ_SECONDS` is shared among the tests here. A failure names its case.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

import nnguard
import samples
from fuzz.mutations import edit, mutate
from nnguard._crypto.armor import read_armor, write_armor
from nnguard._crypto.cbor import encode_cbor, parse_cbor
from nnguard._crypto.cose import parse_encrypt0, sign
from nnguard._hiding import extract
from nnguard._licensing.device import DeviceBinding
from nnguard._licensing.license import License
from nnguard._licensing.revocation import RevocationList
from nnguard._records.lock import LockContent, LockRecord
from opening import lock_of

SECONDS = float(os.environ.get("NNGUARD_FUZZ_SECONDS", "15")) / 8
SEED = os.environ.get("NNGUARD_FUZZ_SEED", "0")
START = datetime(2026, 3, 1, tzinfo=timezone.utc)

Case = Callable[[random.Random], object]


def run(case: Case, *allowed: type[Exception]) -> None:
    """Run cases until the time is over; each may raise what is allowed."""
    end, number = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        try:
            case(random.Random(f"{SEED}/{number}"))
        except allowed:
            pass
        except Exception as error:
            raise AssertionError(f"case {SEED}/{number}") from error
        number += 1
    assert number > 20 * SECONDS


@pytest.fixture(scope="module")
def customer() -> nnguard.Identity:
    return nnguard.Identity.generate()


@pytest.fixture(scope="module")
def locked(key: nnguard.SigningKey) -> nnguard.Locked:
    release = nnguard.sign(nnguard.Stream.from_bytes(samples.small_stream()), key)
    return nnguard.lock(release, soft=nnguard.Soft(fraction=0.005))


@pytest.fixture(scope="module")
def license_(
    locked: nnguard.Locked, customer: nnguard.Identity, key: nnguard.SigningKey
) -> License:
    return nnguard.licensing.issue(
        locked.trial,
        locked.content_key,
        to=customer.recipient,
        signer=key,
        terms=nnguard.licensing.Terms(
            customer="Ada",
            issued_at=START,
            expires_at=START + timedelta(days=9),
            grace=timedelta(days=1),
            features=["a", "b"],
            metadata={"c": "d"},
            device=nnguard.licensing.Device.of_values([("a", "b"), ("c", "d")]),
        ),
    )


def test_bytes_of_licenses(
    license_: License,
    locked: nnguard.Locked,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
) -> None:
    def case(rng: random.Random) -> None:
        data = mutate(rng, license_.encoded)
        if data == license_.encoded:
            return
        read = License.parse(data)
        with pytest.raises(nnguard.NnguardError):
            nnguard.unlock(locked.trial, read, customer, [key.public_key])

    run(case, nnguard.errors.LicenseError)


def test_text_of_licenses(license_: License) -> None:
    def case(rng: random.Random) -> None:
        text = mutate(rng, str(license_).encode()).decode("utf-8", "replace")
        License.from_text(text)

    run(case, nnguard.errors.LicenseError)


def test_claims_of_a_hostile_vendor(
    license_: License,
    locked: nnguard.Locked,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
) -> None:
    """The signature is right, the claims are anything; what parses gives the same bytes again."""
    claims = parse_cbor(license_._envelope.payload)
    original = encode_cbor(claims)

    def case(rng: random.Random) -> None:
        payload = encode_cbor(edit(rng, claims))
        if rng.random() < 0.3:
            payload = mutate(rng, original)
        signed = sign(key, {}, payload, b"nnguard license v1\0")
        read = License.parse(signed)
        again = {**read.terms.to_cwt(), "key": read._wrapped}
        assert encode_cbor(again) == payload
        policy = nnguard.licensing.Policy(
            now=START, device=nnguard.licensing.Device.of_values([("a", "b")])
        )
        nnguard.unlock(locked.trial, read, customer, [key.public_key], license_policy=policy)

    run(case, nnguard.NnguardError)


def test_revocation_lists(key: nnguard.SigningKey) -> None:
    revoked = RevocationList.make(["00" * 16, "11" * 16], key, issuer="acme", issued_at=START)
    claims = parse_cbor(revoked._envelope.payload)

    def case(rng: random.Random) -> None:
        if rng.random() < 0.5:
            data = mutate(rng, revoked.encoded)
            if data != revoked.encoded:
                read = RevocationList.parse(data)
                with pytest.raises(nnguard.NnguardError):
                    read.authenticate([key.public_key])
            return
        payload = encode_cbor(edit(rng, claims))
        read = RevocationList.parse(sign(key, {}, payload, b""))
        assert parse_cbor(payload)["revoked"] == b"".join(sorted(read.hashes))

    run(case, nnguard.errors.LicenseError)


def test_armor() -> None:
    text = write_armor("X", bytes(range(200)))

    def case(rng: random.Random) -> None:
        read_armor("X", mutate(rng, text.encode()).decode("utf-8", "replace"))

    run(case, ValueError)


def test_devices() -> None:
    text = nnguard.licensing.Device.of_values([("host", "a"), ("network", "b")]).to_json()

    def case(rng: random.Random) -> None:
        device = nnguard.licensing.Device.from_json(
            mutate(rng, text.encode()).decode("utf-8", "replace")
        )
        assert nnguard.licensing.Device.from_json(device.to_json()) == device
        binding = DeviceBinding.make(device, len(device.fingerprint))
        assert binding.matches(device) == len({digest for _, digest in device.fingerprint})

    run(case, nnguard.errors.ArgumentError)


def test_device_bindings() -> None:
    good = [2, bytes(16), b"".join(bytes([n] * 16) for n in range(3))]

    def case(rng: random.Random) -> None:
        value = edit(rng, good)
        binding = DeviceBinding.from_cbor(value)
        assert encode_cbor(binding.to_cbor()) == encode_cbor(value)
        assert binding.matches(nnguard.licensing.Device.this()) == 0

    run(case, ValueError)


def test_contents_of_locks(locked: nnguard.Locked) -> None:
    outer = extract(locked.trial)
    record = lock_of(outer)
    content = record.open(locked.content_key, bytes(outer.header))
    encoded = bytes(content)
    value = parse_cbor(encoded)

    def case(rng: random.Random) -> None:
        match rng.randrange(4):
            case 0:
                parse_encrypt0(mutate(rng, outer.record))
            case 1:
                changed = mutate(rng, outer.record)
                if changed != outer.record:
                    read = LockRecord.parse(changed)
                    with pytest.raises(nnguard.NnguardError):
                        read.open(locked.content_key, bytes(outer.header))
            case _:
                data = mutate(rng, encoded) if rng.random() < 0.5 else encode_cbor(edit(rng, value))
                for part in LockContent.parse(data).replaced:
                    assert part.positions.size == part.values.size > 0
                    assert part.positions[0] >= 0
                    assert np.all(np.diff(part.positions) > 0)

    run(case, nnguard.NnguardError)
