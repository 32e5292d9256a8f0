"""`inspect`, `capacity`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nnguard
from nnguard._cli.output import add_json, brief, print_json, progress_bar, say

__all__ = ["add_commands"]

_LISTED = 6
"""Carriers of a record that are named; JSON has all."""


def add_commands(commands: Any) -> None:
    """Add `inspect` and `capacity`."""
    parser = commands.add_parser(
        "inspect",
        help="show what a file is made of, without a key",
        description="Show the tensors of a stream, or of those in a folder, and the records hidden "
        "in them. Nothing is verified: a record says of itself what it wants.",
        epilog="examples:\n  nnguard inspect release.nnc\n"
        "  nnguard inspect release.nnc --plot carrier.png",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="NNCodec stream, or a folder of shards")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the carrier's histogram before and after"
    )
    parser.add_argument("-f", "--force", action="store_true", help="overwrite the plot")
    add_json(parser)
    parser.set_defaults(run=_inspect)

    parser = commands.add_parser(
        "capacity",
        help="show how many bits a model can hold",
        description="Count the bits that each tensor can hold at the most. The last of them cost "
        "accuracy; a signature takes some 2,000 bits.",
        epilog="example:\n  nnguard capacity model.nnc",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="NNCodec stream, or a folder of shards")
    add_json(parser)
    parser.set_defaults(run=_capacity)


def _inspect(options: argparse.Namespace) -> None:
    streams = _streams(options.file)
    if options.plot:
        if options.file not in streams:
            raise ValueError("--plot draws one stream: name a file of the folder")
        from nnguard.plotting import plot_carrier

        plot_carrier(streams[options.file], options.plot, overwrite=options.force)
    found = {path: nnguard.inspect(stream) for path, stream in streams.items()}
    if options.json:
        print_json({"ok": True, **_by_file(options.file, found)})
        return
    for path, each in found.items():
        _show(path, each)
    if options.plot:
        say(f"Drew {options.plot}")


def _show(path: str, found: nnguard.Inspection) -> None:
    say(f"{path}: {len(found.units)} units, {found.size:,} bytes")
    width = max(len(brief(unit.name)) for unit in found.units)
    for unit in found.units:
        shape = "" if unit.shape is None else "x".join(map(str, unit.shape))
        say(f"  {brief(unit.name):<{width}}  {unit.quantization:<9} {shape:<16} {unit.size:>12,}")
    for record in found.records:
        say(f"Record {record.layer}: {record.kind} of {record.size:,} bytes, not verified")
        more = len(record.carriers) - _LISTED
        names = ", ".join(map(brief, record.carriers[:_LISTED]))
        say(f"  in {names}{f' and {more:,} more' if more > 0 else ''}")
        for key, value in record.unverified.items():
            if value:
                say(f"  {key}: {value}")
    if not found.records:
        say(found.note or "No record.")
    elif found.note:
        say(found.note)


def _capacity(options: argparse.Namespace) -> None:
    streams = _streams(options.file)
    tensors = (unit.tensor for stream in streams.values() for unit in stream)
    weights = sum(tensor.size for tensor in tensors if tensor is not None)
    with progress_bar(weights, "Counting", unit=" weights") as progress:
        rooms = {path: nnguard.capacity(each, progress=progress) for path, each in streams.items()}
    if options.json:
        print_json({"ok": True, **_by_file(options.file, rooms)})
        return
    counted = [tensor for room in rooms.values() for tensor in room.tensors]
    width = max((len(brief(tensor.name)) for tensor in counted), default=0)
    for tensor in counted:
        share = tensor.places / tensor.weights
        say(f"  {brief(tensor.name):<{width}}  {tensor.places:>12,} of its weights  {share:6.1%}")
    places = sum(room.places for room in rooms.values())
    bits = sum(room.bits for room in rooms.values())
    say(f"{places:,} weights can hold bits: {places:,} at one in each, {bits:,} at the most")


def _streams(path: str) -> dict[str, nnguard.Stream]:
    """Open a stream, or those of a folder; by path."""
    if not Path(path).is_dir():
        return {path: nnguard.Stream.open(path)}
    streams = nnguard.StreamSet.open(path).streams
    return {str(Path(path, name)): stream for name, stream in streams.items()}


def _by_file(path: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was found as JSON values: that of a stream, or by name those of a folder."""
    if [*found] == [path]:
        return asdict(found[path])
    return {"shards": {Path(name).name: asdict(each) for name, each in found.items()}}
