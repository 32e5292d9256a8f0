"""`inspect`, `capacity`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import click

import nnguard
from nnguard._cli.commands import Options, command
from nnguard._cli.inputs import name_of, open_model
from nnguard._cli.options import FORCE, argument, option
from nnguard._cli.output import Outcome, brief, progress_bar, table

__all__ = ["run_capacity", "run_inspect"]

_LISTED = 6
"""Carriers of a record that are named; JSON has all."""

_Found = TypeVar("_Found", "nnguard.Inspection", "nnguard.Capacity")


@command(
    argument("FILE", "NNCodec stream, or a folder of shards; - is standard input."),
    option("--tensors", "List all tensors."),
    option(
        "--plot OUTPUT",
        "Draw the histogram of the tensor that carries the record, before and after; of a stream "
        "without records, that of the tensor that would.",
    ),
    FORCE,
)
def run_inspect(options: Options) -> Outcome:
    """Show what a file is made of, without a key.

    Show what is in a stream, or in those of a folder, and the records hidden in them. Nothing is
    verified: a record says of itself what it wants.

    Examples:
      nnguard inspect release.nnc
      nnguard inspect release.nnc --tensors
      nnguard inspect release.nnc --plot carrier.png
    """
    model = open_model(options.file)
    if options.plot:
        if isinstance(model, nnguard.StreamSet):
            raise click.UsageError("--plot draws one stream: name a file of the folder")
        nnguard.plotting.plot_carrier(model, options.plot, overwrite=options.force)
    found = nnguard.inspect(model)

    def lines() -> Iterator[str]:
        for path, part in _parts(options.file, found):
            yield from _summary(path, part)
            if options.tensors:
                yield from _tensors(part)
        if options.plot:
            yield f"Drew {options.plot}"

    return Outcome(_values(found), lines())


def _summary(path: str, found: nnguard.Inspection) -> Iterator[str]:
    yield f"{name_of(path)}: an NNCodec stream of {found.size:,} bytes, not verified"
    tensors = [unit for unit in found.units if unit.shape is not None]
    weights = sum(prod(unit.shape or ()) for unit in tensors)
    yield f"  tensors     {len(tensors):,} with {weights:,} weights, in {len(found.units):,} units"
    kinds = Counter(unit.quantization for unit in tensors)
    yield f"  coded as    {', '.join(f'{kind} {count:,}' for kind, count in kinds.items())}"
    for record in found.records:
        more = len(record.carriers) - _LISTED
        names = ", ".join(map(brief, record.carriers[:_LISTED]))
        yield f"  record {record.layer}    {record.kind} of {record.size:,} bytes"
        yield f"    in        {names}{f' and {more:,} more' if more > 0 else ''}"
        for key, value in record.unverified.items():
            if isinstance(value, Mapping):
                value = ", ".join(f"{name}={text}" for name, text in value.items())
            if value:
                yield f"    {key.replace('_', ' '):<9} {value}"
    if not found.records:
        yield "  records     none: it is not signed, not locked, and nothing is attached"
    if found.note:
        yield f"  note        {found.note}"


def _tensors(found: nnguard.Inspection) -> Iterator[str]:
    rows = [
        (
            brief(unit.name),
            unit.quantization or "-",
            "-" if unit.shape is None else "x".join(map(str, unit.shape)),
            f"{unit.size:,}",
        )
        for unit in found.units
    ]
    headings = ("tensor or unit", "coded as", "shape", "size (bytes)")
    yield from table(headings, rows, right="size (bytes)")


@command(
    argument("FILE", "NNCodec stream, or a folder of shards."),
)
def run_capacity(options: Options) -> Outcome:
    """Show how much a model can hold.

    Count the weights of each tensor that can hold bits, 1 to 16 in each. More bits in a weight cost
    accuracy; a signature takes some 2,000 bits.

    Examples:
      nnguard capacity model.nnc
    """
    model = open_model(options.file)
    streams = [model] if isinstance(model, nnguard.Stream) else model.streams.values()
    tensors = (unit.tensor for stream in streams for unit in stream)
    weights = sum(tensor.size for tensor in tensors if tensor is not None)
    with progress_bar(weights, "Counting", unit=" weights") as progress:
        room = nnguard.capacity(model, progress=progress)

    def lines() -> Iterator[str]:
        rows = [
            (brief(tensor.name), f"{tensor.places:,}", f"{tensor.places / tensor.weights:.1%}")
            for _, part in _parts(options.file, room)
            for tensor in part.tensors
        ]
        headings = ("tensor", "weights that can hold bits", "share")
        yield from table(headings, rows, right="|".join(headings[1:]))
        yield (
            f"{room.places:,} weights can hold bits: {room.places // 8:,} bytes at one bit in "
            f"each, {room.bits // 8:,} bytes at most"
        )

    return Outcome(_values(room), lines())


def _parts(path: str, found: _Found) -> Iterable[tuple[str, _Found]]:
    """Return what was found, or, of a folder, the parts of it, by path."""
    if not found.shards:
        return [(path, found)]
    return [(str(Path(path, name)), shard) for name, shard in found.shards.items()]


def _values(found: nnguard.Inspection | nnguard.Capacity) -> dict[str, Any]:
    """Return what was found as JSON values: that of a stream, or by name those of a folder."""
    if found.shards:
        return {"shards": {name: _values(shard) for name, shard in found.shards.items()}}
    return {name: value for name, value in asdict(found).items() if name != "shards"}
