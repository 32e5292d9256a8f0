"""The implementation that was written from the specification alone; `conformance` runs it."""

from __future__ import annotations

import ast
import contextlib
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import nnguard
import second_activation
import second_coder
import second_hpke
import second_licensing
import second_masks
import second_policies
import second_reader
import second_sets
import second_signatures
import second_state
import second_unlocker
import stock
from conformance import second
from nnguard._hiding import extract, plan_record
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._locking.opening import open_files
from nnguard._operations.copies import take_copy
from nnguard._records.hashed import hash_files
from nnguard._stream.quantized import decode, encode
from one_tensor import with_qp
from vectors import masked

ALLOWED = {"cbor2", "cryptography", "numpy"}

MODULES = [
    *(second, second_activation, second_coder, second_hpke, second_licensing),
    *(second_policies, second_reader, second_sets, second_signatures, second_state),
    *(second_unlocker, second_masks),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_uses_nothing_of_nnguard_or_nncodec(module: ModuleType) -> None:
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    ours = {each.__name__ for each in MODULES}
    assert imported <= ALLOWED | ours | sys.stdlib_module_names


def test_plans_the_same_carriers() -> None:
    """5.2, for streams of tensors that are small, hold few bits a weight, or a record already."""
    random = np.random.default_rng(0)
    found: Counter[int] = Counter()
    mixed = 0
    for round_ in range(90):
        shapes = [(int(rows), 16) for rows in random.integers(4, 120, random.integers(1, 12))]
        arrays = {f"{n}": random.laplace(0, 0.05, shape) for n, shape in enumerate(shapes)}
        sparse = {n: np.where(random.random(a.shape) < 0.5, a, 0) for n, a in arrays.items()}
        chosen = arrays if round_ % 2 else sparse
        data = stock.encode({n: a.astype(np.float32) for n, a in chosen.items()}, qp=-24)
        stream = nnguard.Stream.from_bytes(data)
        if round_ % 5 < 3:
            stream = with_small_steps(stream, random)
        if round_ % 3 == 0:
            with contextlib.suppress(nnguard.errors.CapacityError):
                stream = nnguard.attach(stream, bytes(20))
        for size in random.integers(1, 1500, 4).tolist():
            try:
                header = plan_record(stream, 4, size).header
                expected = bytes(header)
                mixed += len({*header.widths}) > 1
            except nnguard.errors.CapacityError:
                expected = None
            units = second_reader.split(bytes(stream))
            assert second_reader.plan(units, 4, size) == expected
            found[0 if expected is None else len(header.carriers)] += 1
    assert len(found) > 8, found
    assert mixed > 20, mixed


def test_plans_the_signature_of_a_copy() -> None:
    """6.7: as cheap as there is, for few weights and many."""
    random = np.random.default_rng(1)
    widths: Counter[int] = Counter()
    for round_ in range(12):
        shapes = [(int(rows), 16) for rows in random.integers(16, 200, random.integers(1, 6))]
        arrays = {f"{n}": random.laplace(0, 0.05, shape) for n, shape in enumerate(shapes)}
        data = stock.encode({n: a.astype(np.float32) for n, a in arrays.items()}, qp=-24)
        stream = nnguard.Stream.from_bytes(data)
        if round_ % 3 == 0:
            stream = with_small_steps(stream, random)
        for size in random.integers(100, 4000, 3).tolist():
            try:
                header = plan_record(stream, 1, size, cheap=True).header
                expected = bytes(header)
                widths[max(header.widths)] += 1
            except nnguard.errors.CapacityError:
                expected = None
            units = second_reader.split(bytes(stream))
            assert second_reader.plan(units, 1, size, of_copy=True) == expected
    assert len(widths) > 3, widths


@pytest.mark.parametrize("dependent", [False, True], ids=["urq", "tcq"])
def test_makes_the_same_of_any_license_key(*, dependent: bool) -> None:
    """6.7, with records of any size in place of the signature."""
    random = np.random.default_rng(2)
    made = masked.sale(dependent=dependent)
    opened = open_files(hash_files(masked.trial_of(dependent=dependent)), masked.LOWER)
    units = [unit.read() for unit in opened.files[""].stream]
    tensors = [
        second_unlocker.Masked(part.unit, part.width, part.sparsity, part.variants)
        for part in made.masks.tensors
    ]
    masks = second_unlocker.Masks(made.masks.nonce, made.masks.entries, tensors)
    widths: set[int] = set()
    for size in (0, 40, 170, 700, 2500):
        license_key, record = (random.bytes(count) for count in (made.masks.key_size, size))
        copy = take_copy(opened, Unwrapped(masked.LOWER, license_key), record).stream
        same = second_unlocker.Opened({"": units}, [], 0, masks, masked.LOWER.secret)
        assert b"".join(second_masks.copy_of(same, license_key, record)) == bytes(copy)
        if record:
            widths |= {*extract(copy).header.widths}
    assert len(widths) > 2, widths


def with_small_steps(stream: nnguard.Stream, random: np.random.Generator) -> nnguard.Stream:
    """The stream with steps of tensors that can be divided 2^0 to 2^5 times at most."""
    steps = {}
    for at, unit in enumerate(stream):
        if unit.tensor and random.random() < 0.5:
            tensor = decode(unit)
            steps[at] = encode(with_qp(tensor, -128 + int(random.integers(0, 24))))
    return stream.replace(steps)
