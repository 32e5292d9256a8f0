"""Vectors of locks that carry tensors as differences to those of the trial."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import cbor2
import numpy as np

import stock
from nnguard._stream import Stream, Unit
from nnguard._stream.differences import subtract
from nnguard._stream.quantized import encode
from nnguard._stream.units import frame_unit
from vectors.selling import carry, degrade, hide_lock, opens, with_key
from vectors.toolbox import (
    Made,
    digest_of,
    position,
    tensor_of,
    vector,
    weights,
    with_parameters,
)

MATRICES = ("first", "last")


@functools.cache
def network(*, tuned: bool = False, dependent: bool = False, qp: int = -24) -> Stream:
    """A network with a row of zeros, or what training made of it: all but that row has moved."""
    first, last = weights((40, 50), 1), weights((48, 50), 2)
    first[7] = 0
    if tuned:
        first[:7] += weights((7, 50), 3, 0.01)
        first[8:] += weights((32, 50), 4, 0.01)
        last += weights((48, 50), 5, 0.01)
    arrays = {"first": first, "scale": weights((300,), 6), "last": last}
    data = stock.encode(arrays, qp=qp, nonweight_qp=-24, dependent=dependent)
    return Stream.from_bytes(data)


Units = list[Any]
"""What `files` say of units: a byte string, `[position, count]`, or `[position, difference]`."""


def units_of(release: Stream, base: Stream, *changed: bytes) -> Units:
    """Say that matrices are differences, and what else is not in the base is as it is.

    The first differences are changed.
    """
    pairs = enumerate(zip(map(Unit.read, release), map(Unit.read, base), strict=True))
    units: Units = [[at, 1] if own == other else own for at, (own, other) in pairs]
    for at in (position(base, name) for name in MATRICES):
        units[at] = [at, subtract(release[at], base[at])]
    for name, data in zip(MATRICES, changed, strict=False):
        units[position(base, name)][1] = data
    return units


def differs(release: Stream, base: Stream) -> Made:
    return opens(carry(release, base, units_of(release, base), bits=14), release, ["full"])


@vector("6.4", "ok", operation="open")
def difference_urq() -> Made:
    """Both matrices are differences; the base of one holds the record; a row is skipped."""
    return differs(network(tuned=True), network())


@vector("6.4", "ok", operation="open")
def difference_tcq() -> Made:
    """What is added are the integers that are coded, not indices."""
    return differs(network(tuned=True, dependent=True), network(dependent=True))


@vector("6.4", "ok", operation="open")
def difference_tcq_to_urq() -> Made:
    """The tensor is TCQ, and its base is not."""
    return differs(network(tuned=True, dependent=True, qp=-20), network())


@vector("6.4", "ok", operation="open")
def difference_urq_to_tcq() -> Made:
    """The tensor is URQ, its base is TCQ."""
    return differs(network(tuned=True), network(dependent=True))


@vector("6.4", "ok", operation="open")
def difference_of_other_steps() -> Made:
    """Integers are added, whatever they are multiplied by."""
    return differs(network(tuned=True, qp=-19), network())


@vector("6.4", "ok", operation="open")
def difference_of_row_flags() -> Made:
    """The row of zeros is not flagged, in a unit that was coded elsewhere."""
    release = network(tuned=True)
    at = position(release, "first")
    assert any(tensor_of(release, at).parameters.skipped_rows)
    return differs(with_parameters(release, at, skipped_rows=bytes(40)), network())


@vector("6.4", "ok", operation="open")
def difference_to_scrambled() -> Made:
    """The base is what the scrambled tensor was."""
    release, base = network(tuned=True), network()
    first = position(base, "first")
    content = [[first], [], [["", digest_of(release), units_of(release, base)]]]
    trial = hide_lock(degrade(base, {}, [first]), cbor2.dumps(content), bits=14)
    return opens(trial, release, ["full"])


@vector("6.4", "ok", operation="open")
def difference_of_a_vector() -> Made:
    """A tensor of one dimension is one, too."""
    release, base = network(tuned=True), network()
    at = position(base, "scale")
    moved = tensor_of(base, at)
    indices = moved.indices.copy()
    indices[::7] += 1
    release = release.replace({at: encode(moved.with_indices(indices))})
    units = units_of(release, base)
    units[at] = [at, subtract(release[at], base[at])]
    return opens(carry(release, base, units, bits=14), release, ["full"])


def refused(*changed: bytes, base: int | None = None, carried: int | None = None) -> Made:
    """A lock with other differences, or with another base for the first.

    A unit that would be named besides is carried.
    """
    release, trial = network(tuned=True), network()
    units = units_of(release, trial, *changed)
    if base is not None:
        units[position(trial, "first")][0] = base
    if carried is not None:
        units[carried] = release[carried].read()
    return with_key(carry(release, trial, units, bits=14))


def first_difference() -> bytes:
    release, base = network(tuned=True), network()
    at = position(base, "first")
    return subtract(release[at], base[at])


@vector("6.4", "UnlockError: empty difference", message="malformed", operation="open")
def difference_empty() -> Made:
    """A byte string that holds no unit."""
    return refused(b"")


@vector("6.4", "UnlockError: difference of two units", message="well-formed", operation="open")
def difference_of_two_units() -> Made:
    """The same one twice, joined."""
    return refused(2 * first_difference())


@vector("6.4", "UnlockError: base before the first unit", message="malformed", operation="open")
def difference_negative() -> Made:
    """Position -1."""
    return refused(base=-1)


@vector("6.4", "UnlockError: base behind the last unit", message="not there", operation="open")
def difference_behind() -> Made:
    """As many as there are units."""
    return refused(base=len(network()))


@vector("6.4", "UnlockError: base that is no tensor", message="does not fit", operation="open")
def difference_to_start() -> Made:
    """The start unit."""
    return refused(base=0, carried=0)


@vector("6.4", "UnlockError: base of two differences", message="malformed", operation="open")
def difference_of_one_base() -> Made:
    """Otherwise, few bytes could ask for any amount of work."""
    return refused(base=position(network(), "last"))


@vector("6.4", "UnlockError: base that is named as a unit", message="malformed", operation="open")
def difference_to_unit_of_release() -> Made:
    """A unit that both networks have."""
    return refused(base=1)


@vector("6.4", "UnlockError: base of another shape", message="does not fit", operation="open")
def difference_of_other_shape() -> Made:
    """A vector."""
    scale = position(network(), "scale")
    return refused(base=scale, carried=scale)


@vector("6.4", "UnlockError: difference that is no tensor", message="well-formed", operation="open")
def difference_of_start() -> Made:
    """The unit of the model."""
    return refused(network()[1].read())


def of_zeros(rows: int) -> tuple[Stream, Stream]:
    """A network with a matrix of zeros in a few bytes, locked with a difference to that."""
    arrays = {"first": weights((40, 50), 1), "zeros": np.zeros((rows, 256), np.float32)}
    base = Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=False))
    at = position(base, "zeros")
    units: Units = [[each, 1] for each in range(len(base))]
    units[at] = [at, subtract(base[at], base[at])]
    trial = carry(base, base, units, bits=8)
    assert 8 * trial.size < 1 << 18
    return trial, base


@vector("6.4", "ok", operation="open")
def difference_costs_as_much_as_allowed() -> Made:
    """A difference and its base of 2^17 weights each, in a small stream."""
    trial, release = of_zeros(512)
    return opens(trial, release, ["full"])


@vector("6.4", "UnlockError: differences that cost more", message="too long", operation="open")
def difference_costs_more() -> Made:
    """One row more."""
    return with_key(of_zeros(513)[0])


@vector("6.4", "UnlockError: long size field", message="does not fit", operation="open")
def difference_long_field() -> Made:
    """Four bytes, where two would do."""
    unit = first_difference()
    assert unit[0] < 0x80
    return refused(((len(unit) + 2) | 1 << 31).to_bytes(4, "big") + unit[2:])


@vector("6.4", "UnlockError: damaged difference", message="does not fit", operation="open")
def difference_damaged() -> Made:
    """A byte of the payload is gone."""
    return refused(frame_unit(first_difference()[2:-1]))


@vector("6.4", "UnlockError: skipped row that is not zero", message="not fit", operation="open")
def difference_skips_a_row() -> Made:
    """The difference skips a row, and the base has something in it."""
    tensor = tensor_of(network(tuned=True), position(network(), "first"))
    indices = tensor.indices.copy()
    indices[3] = 0
    flags = bytearray(tensor.parameters.skipped_rows)
    flags[3] = 1
    parameters = replace(tensor.parameters, skipped_rows=bytes(flags))
    return refused(encode(replace(tensor.with_indices(indices), parameters=parameters)))


@vector("6.4", "UnlockError: sum beyond 2^31", message="does not fit", operation="open")
def difference_sum_too_large() -> Made:
    """The largest index, and one more."""
    tensor = tensor_of(network(tuned=True), position(network(), "first"))
    base = tensor_of(network(), position(network(), "first"))
    indices = tensor.indices.copy()
    indices[tuple(np.argwhere(base.indices > 0)[0])] = (1 << 31) - 1
    return refused(encode(tensor.with_indices(indices)))
