"""`inspect`, `capacity`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import nnguard
from nnguard.cli.output import add_json, brief, print_json, progress_bar, say

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add `inspect` and `capacity`."""
    parser = commands.add_parser(
        "inspect",
        help="show what a file is made of, without a key",
        description="Show the tensors of a stream and the records hidden in it. Nothing is "
        "verified: a record says of itself what it wants.",
        epilog="examples:\n  nnguard inspect release.nnc\n"
        "  nnguard inspect release.nnc --plot carrier.png",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="NNCodec stream")
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
    parser.add_argument("file", metavar="FILE", help="NNCodec stream")
    add_json(parser)
    parser.set_defaults(run=_capacity)


def _inspect(options: argparse.Namespace) -> None:
    stream = nnguard.Stream.open(options.file)
    found = nnguard.inspect(stream)
    if options.plot:
        nnguard.plot_carrier(stream, options.plot, overwrite=options.force)
    if options.json:
        print_json({"ok": True, **asdict(found)})
        return
    say(f"{options.file}: {len(found.units)} units, {found.size:,} bytes")
    width = max(len(brief(unit.name)) for unit in found.units)
    for unit in found.units:
        shape = "" if unit.shape is None else "x".join(map(str, unit.shape))
        say(f"  {brief(unit.name):<{width}}  {unit.quantization:<9} {shape:<16} {unit.size:>12,}")
    for record in found.records:
        say(f"Record {record.layer}: {record.kind} of {record.size:,} bytes, not verified")
        say(f"  in {', '.join(map(brief, record.carriers))}")
        for key, value in record.unverified.items():
            if value:
                say(f"  {key}: {value}")
    if not found.records:
        say(found.note or "No record.")
    elif found.note:
        say(found.note)
    if options.plot:
        say(f"Drew {options.plot}")


def _capacity(options: argparse.Namespace) -> None:
    stream = nnguard.Stream.open(options.file)
    weights = sum(unit.tensor.size for unit in stream if unit.tensor is not None)
    with progress_bar(weights, "Counting", unit=" weights") as progress:
        room = nnguard.capacity(stream, progress=progress)
    if options.json:
        print_json({"ok": True, **asdict(room)})
        return
    width = max((len(brief(tensor.name)) for tensor in room.tensors), default=0)
    for tensor in room.tensors:
        share = tensor.places / tensor.weights
        say(f"  {brief(tensor.name):<{width}}  {tensor.places:>12,} of its weights  {share:6.1%}")
    say(
        f"{room.places:,} weights can hold bits: {room.places:,} at one in each, "
        f"{room.bits:,} at the most"
    )
