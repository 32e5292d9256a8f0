"""Whatever a file holds, only an `NnguardError` comes out, and nothing changed verifies.

    NNGUARD_FUZZ_SECONDS=3600 NNGUARD_FUZZ_SEED=$RANDOM pytest tests/fuzz

A failure names its case, such as `0/417`: the same seed gives the same cases.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import numpy as np
import pytest

import nnguard
import samples
import stock
from fuzz.mutations import MUTATIONS
from nnguard._crypto.cose import parse_signed
from nnguard._hiding import embed, extract
from nnguard._records.attachment import Attachment
from nnguard._records.signature import SignatureRecord

SECONDS = float(os.environ.get("NNGUARD_FUZZ_SECONDS", "15"))
SEED = os.environ.get("NNGUARD_FUZZ_SEED", "0")


def all_formats() -> dict[str, stock.Array]:
    """Return tensors for which the topology unit has to say what they were."""
    rng = np.random.default_rng(0)
    names = ("bool", "int8", "uint16", "int64", "uint64", "float16", "float64")
    arrays = {name: rng.integers(0, 2, (9, 7)).astype(name) for name in names}
    scalars = {f"{name}.scalar": np.ones((), name) for name in names}
    return {**arrays, **scalars, "large": np.array([[1 << 40]]), "empty": np.zeros((0, 4))}


@pytest.fixture(scope="module")
def corpus(key: nnguard.SigningKey, other_key: nnguard.SigningKey) -> list[bytes]:
    tcq = nnguard.Stream.from_bytes(samples.small_stream())
    urq = nnguard.Stream.from_bytes(samples.small_stream(dependent=False))
    deep = nnguard.Stream.from_bytes(samples.small_stream(weights=9000))
    for number in range(3):
        deep = nnguard.sign(nnguard.attach(deep, b"card %d" % number), other_key, localize=True)
    nested = nnguard.sign(deep, key)
    made = [tcq, urq, nnguard.sign(tcq, key), nnguard.sign(urq, key, localize=True), nested, deep]
    made += [
        nnguard.compress(all_formats(), nnguard.Settings(scan_order=order)) for order in (0, 1)
    ]
    matrix = samples.small_network(6000)
    made += [
        nnguard.compress(matrix, nnguard.Settings(qp=-20, scan_order=order, dependent=dependent))
        for order, dependent in ((1, True), (2, False))
    ]
    return [bytes(stream) for stream in made]


def test_hostile_streams(corpus: list[bytes], key: nnguard.SigningKey) -> None:
    trust = [key.public_key]
    operations: list[Callable[[nnguard.Stream], object]] = [
        lambda stream: nnguard.verify(stream, trust),
        lambda stream: nnguard.verify(stream, trust),
        nnguard.inspect,
        nnguard.detach,
        nnguard.capacity,
        lambda stream: nnguard.sign(stream, key),
        lambda stream: nnguard.attach(stream, b"card"),
        lambda stream: nnguard.decompress(stream, allow_trial=True, max_size=1 << 18),
        lambda stream: [*nnguard.iter_tensors(stream, allow_trial=True, max_size=1 << 18)],
    ]
    end, case = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        rng = random.Random(f"{SEED}/{case}")
        data = rng.choice(corpus)
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            try:
                data = rng.choice(MUTATIONS)(rng, data, corpus) or b"\0"
            except (IndexError, ValueError, nnguard.errors.FormatError):  # no units anymore
                break
        for number in {0, rng.randrange(len(operations))}:
            try:
                operations[number](nnguard.Stream.from_bytes(data))
            except nnguard.NnguardError:
                continue
            except Exception as error:
                raise AssertionError(f"case {SEED}/{case}: {data.hex()}") from error
            assert number > 1 or data in corpus, f"case {SEED}/{case} verified: {data.hex()}"
        case += 1
    assert case > SECONDS


def test_hostile_records(corpus: list[bytes], key: nnguard.SigningKey) -> None:
    model, release = (nnguard.Stream.from_bytes(data) for data in (corpus[0], corpus[2]))
    signature = extract(release).record
    attachment = extract(nnguard.attach(model, b"card")).record
    end, case = time.monotonic() + SECONDS / 5, 0
    while time.monotonic() < end:
        rng = random.Random(f"{SEED}/{case}")
        record = rng.choice(MUTATIONS[:3])(rng, rng.choice([signature, attachment]), [signature])
        try:
            for parse in (parse_signed, SignatureRecord.parse, Attachment.parse):
                try:
                    parse(record)
                except nnguard.errors.VerificationError:
                    continue
            if case % 50 == 0:
                for kind in (1, 2):
                    nnguard.inspect(embed(model, record, kind=kind))
                nnguard.verify(embed(model, record, kind=1), key.public_key)
        except nnguard.NnguardError:
            pass
        except Exception as error:
            raise AssertionError(f"case {SEED}/{case}: {record.hex()}") from error
        case += 1
    assert case > SECONDS


def test_hostile_key_files(key: nnguard.SigningKey) -> None:
    seeds = [key.pem(), key.pem(passphrase="p"), key.public_key.pem, key.public_key.pem * 3]
    for case in range(600):
        rng = random.Random(f"{SEED}/{case}")
        data = rng.choice(MUTATIONS[:3])(rng, rng.choice(seeds), seeds)
        for read in (
            nnguard.PublicKey.from_pem,
            nnguard.SigningKey.from_pem,
            lambda pem: nnguard.SigningKey.from_pem(pem, passphrase="p"),
        ):
            try:
                read(data)
            except nnguard.errors.KeyFormatError:
                continue
            except Exception as error:
                raise AssertionError(f"case {SEED}/{case}: {data!r}") from error


def test_random_bytes_are_no_stream() -> None:
    rng = np.random.default_rng(0)
    for length in range(300):
        for prefix in (b"", samples.start_unit(), samples.stream_of()):
            data = prefix + rng.bytes(length)
            try:
                stream = nnguard.Stream.from_bytes(data)
            except nnguard.errors.FormatError:
                continue
            assert bytes(stream) == data
