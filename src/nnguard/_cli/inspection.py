"""`inspect`, `capacity`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import click

import nnguard
from nnguard._cli.commands import Options, command
from nnguard._cli.inputs import STDIN, open_model
from nnguard._cli.options import FORCE, argument, option
from nnguard._cli.output import Outcome, brief, progress_bar, table

__all__ = ["run_capacity", "run_inspect"]

_LISTED = 6
"""Carriers of a record that are named; JSON has all."""


@command(
    argument("FILE", "NNCodec stream, or a folder of shards; - is standard input."),
    option("--tensors", "List all tensors."),
    option(
        "--plot OUTPUT",
        "Draw the histogram of the tensor that carries the record, before and after; of a stream "
        "without records, that of the tensor that would.",
    ),
    FORCE,
    examples="""
  nnguard inspect release.nnc
  nnguard inspect release.nnc --tensors
  nnguard inspect release.nnc --plot carrier.png
""",
)
def run_inspect(options: Options) -> Outcome:
    """Show what a file is made of, without a key.

    Show what is in a stream, or in those of a folder, and the records hidden in them. Nothing is
    verified: a record says of itself what it wants.
    """
    streams = _streams(options.file)
    if options.plot:
        if options.file not in streams:
            raise click.UsageError("--plot draws one stream: name a file of the folder")
        from nnguard import plotting

        plotting.plot_carrier(streams[options.file], options.plot, overwrite=options.force)
    found = {path: nnguard.inspect(stream) for path, stream in streams.items()}

    def lines() -> Iterator[str]:
        for path, each in found.items():
            yield from _summary(path, each)
            if options.tensors:
                yield from _tensors(each)
        if options.plot:
            yield f"Drew {options.plot}"

    return Outcome(_by_file(options.file, found), lines())


def _summary(path: str, found: nnguard.Inspection) -> Iterator[str]:
    name = "standard input" if path == STDIN else path
    yield f"{name}: an NNCodec stream of {found.size:,} bytes, not verified"
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
            if value:
                yield f"    {key:<9} {value}"
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
    examples="""
  nnguard capacity model.nnc
""",
)
def run_capacity(options: Options) -> Outcome:
    """Show how many bits a model can hold.

    Count the bits that each tensor can hold at the most. The last of them cost accuracy; a
    signature takes some 2,000 bits.
    """
    streams = _streams(options.file)
    tensors = (unit.tensor for stream in streams.values() for unit in stream)
    weights = sum(tensor.size for tensor in tensors if tensor is not None)
    with progress_bar(weights, "Counting", unit=" weights") as progress:
        rooms = {path: nnguard.capacity(each, progress=progress) for path, each in streams.items()}

    def lines() -> Iterator[str]:
        rows = [
            (brief(tensor.name), f"{tensor.places:,}", f"{tensor.places / tensor.weights:.1%}")
            for room in rooms.values()
            for tensor in room.tensors
        ]
        headings = ("tensor", "weights that can hold bits", "share")
        yield from table(headings, rows, right="|".join(headings[1:]))
        places = sum(room.places for room in rooms.values())
        bits = sum(room.bits for room in rooms.values())
        yield f"{places:,} weights can hold bits: {places:,} at one in each, {bits:,} at the most"

    return Outcome(_by_file(options.file, rooms), lines())


def _streams(path: str) -> Mapping[str, nnguard.Stream]:
    """Open a stream, or those of a folder; by path."""
    model = open_model(path)
    if isinstance(model, nnguard.Stream):
        return {path: model}
    return {str(Path(path, name)): stream for name, stream in model.streams.items()}


def _by_file(path: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was found as JSON values: that of a stream, or by name those of a folder."""
    if [*found] == [path]:
        return asdict(found[path])
    return {"shards": {Path(name).name: asdict(each) for name, each in found.items()}}
