"""Payload, size and score of networks with bits in them: the paper's form of H-QIM and ours.

    python benchmarks/paper/measure.py payload   how many bits there is room for (section IV-A)
    python benchmarks/paper/measure.py paper     Tables I and II, in the paper's form
    python benchmarks/paper/measure.py ours      the same payloads and more, in ours
    python benchmarks/paper/measure.py capacity  1 to 16 bits in each weight, and the time to decode

with --data DIR (test sets and models), --networks DIR (what train.py made), --output FILE. Results
are added to FILE, as JSON, when they come, and not measured again in a second run. `page.py` makes
the page and its plots. Every record is taken out again and compared, and so is the stream under it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nnguard
from nnguard._hiding import FrameHeader, Plan, candidates, embed, extract, room_of
from nnguard._stream import Unit
from nnguard._stream.quantized import pieces_of
from paper.paper_form import PaperForm
from paper.subjects import NAMES, Subject, load_subject
from results import SEED, Results

SHARES = (0.1, 0.5, 1.0)
"""Of the paper's payload."""

MESSAGES = 5
"""Of each size."""

SIGNATURE = 1500
"""Bits of a signature, as the paper counts."""

RATES = (0.05, 0.1, 0.25, 0.5)
"""Bits for each weight of the network."""

LAYERS = (1, 2, 3)
"""Records on top of each other, each as large as fits."""

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)
"""Bits in each weight that is not zero."""

Job = tuple[str, Callable[[], Any]]
KINDS = {"URQ": False, "TCQ": True}


def run(results: Results, jobs: list[Job]) -> None:
    """Measure what was not measured before."""
    for done, (name, measure) in enumerate(jobs):
        if name in results.values:
            continue
        bar = "#" * (24 * done // len(jobs))
        print(f"[{bar:<24}] {done + 1}/{len(jobs)} {name}", file=sys.stderr, flush=True)
        results.add(name, partial(timed, measure))


def timed(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Measure, and note the time, or that there is no room."""
    started = time.monotonic()
    try:
        found = measure()
    except nnguard.errors.CapacityError as error:
        found = {"failure": str(error)}
    return {**found, "seconds": round(time.monotonic() - started, 1)}


def payload_jobs(subject: Subject) -> Iterator[Job]:
    """Yield what is to be known of a network without bits."""
    name = subject.name

    def raw() -> dict[str, Any]:
        score = subject.raw_score()
        facts = {"unit": subject.unit, "items": subject.items}
        return {"bytes": subject.raw_bytes, "score": score, **facts}

    def compressed(dependent: bool) -> dict[str, Any]:
        stream = subject.stream(dependent=dependent)
        room = bits_in(stream, 1)
        return {"bytes": stream.size, "score": subject.score_of(stream), "room": room}

    def peak() -> dict[str, Any]:
        form = PaperForm(subject.stream(dependent=False))
        near = {v: form.histogram.get(v, 0) for v in range(form.peak - 40, form.peak + 41)}
        return {
            "weights": form.weights,
            "peak": form.peak,
            "count": form.capacity,
            "histogram": near,
        }

    yield f"{name}: raw", raw
    for kind, dependent in KINDS.items():
        yield f"{name}: {kind}", lambda d=dependent: compressed(d)
    yield f"{name}: peak", peak


def paper_jobs(subject: Subject, results: Results, messages: int) -> Iterator[Job]:
    """Yield Tables I and II in the paper's form; `payload_jobs` have been done."""
    stream = subject.stream(dependent=False)
    form = cache(partial(PaperForm, stream))  # made once, and only if something is to be measured

    def embed_and_score(bits: int, seed: int) -> dict[str, Any]:
        message = np.random.default_rng(seed).integers(2, size=bits, dtype=np.uint8)
        embedded = form().embed(message)
        found, original = form().extract(embedded)
        exact = bytes(original) == bytes(stream) and np.array_equal(found[:bits], message)
        score = subject.score_of(embedded)
        return {"bits": bits, "bytes": embedded.size, "score": score, "exact": exact}

    room = results.values[f"{subject.name}: peak"]["count"]
    yield f"{subject.name}: paper, bins shifted", lambda: embed_and_score(0, SEED)
    for seed in range(messages):
        for share in SHARES:
            name = f"{subject.name}: paper, {share:.0%}, message {seed}"
            yield (
                name,
                lambda share=share, seed=seed: embed_and_score(round(share * room), SEED + seed),
            )


def ours_jobs(subject: Subject, results: Results, messages: int) -> Iterator[Job]:
    """Yield the same payloads in our form, and the curve up to the capacity."""
    weights = results.values[f"{subject.name}: peak"]["weights"]
    payload = results.values[f"{subject.name}: peak"]["count"]
    for kind, dependent in KINDS.items():
        stream = subject.stream(dependent=dependent)
        room = results.values[f"{subject.name}: {kind}"]["room"]
        sizes = {f"{share:.0%} of the paper's payload": round(share * payload) for share in SHARES}
        sizes |= {"signature": SIGNATURE}
        for label, bits in sizes.items():
            for seed in range(messages):
                name = f"{subject.name}: ours, {kind}, {label}, message {seed}"
                yield name, lambda s=stream, b=bits, n=seed: embed_and_score(subject, s, [b], n)
        for rate in RATES:
            name = f"{subject.name}: ours, {kind}, {rate:g} bits a weight"
            bits = _share_out(round(rate * weights), room)
            yield name, lambda s=stream, b=bits: embed_and_score(subject, s, b, 0)
        for layers in LAYERS:
            name = f"{subject.name}: ours, {kind}, all room, {layers} records"
            bits = [room - _frame_bits(stream)] * layers
            yield name, lambda s=stream, b=bits: embed_and_score(subject, s, b, 0)


def capacity_jobs(subject: Subject, widths: Sequence[int]) -> Iterator[Job]:
    """Yield records that fill every weight with 1 to 16 bits; `payload_jobs` have been done."""
    for kind, dependent in KINDS.items():
        stream = subject.stream(dependent=dependent)
        yield f"{subject.name}: {kind}, decoding", lambda s=stream: time_decoding(s)
        for width in widths:
            name = f"{subject.name}: ours, {kind}, all room, {width} bits in each"
            yield name, lambda s=stream, w=width: fill(subject, s, w)
            name = f"{subject.name}: ours, {kind}, in a lock, {width} bits in each"
            yield name, lambda s=stream, w=width: fill_suited(s, w)


def fill(subject: Subject, stream: nnguard.Stream, width: int) -> dict[str, Any]:
    """Hide one record that takes `width` bits of every weight there is, and score the network."""
    plan, record = plan_full(stream, width)
    found = score_with(subject, stream, plan.embed(record), [record])
    del found["width"]
    return found


def fill_suited(stream: nnguard.Stream, width: int) -> dict[str, Any]:
    """Hide the same as a lock does, which may choose start states: weights count there, not bytes.

    The score is the same.
    """
    plan, record = plan_full(stream, width)
    suited = plan.suited()
    embedded = suited.embed(record)
    taken = extract(embedded, vouched=True)
    exact = taken.record == record and bytes(taken.original) == bytes(suited.stream)
    exact = exact and all(map(same_weights, stream, suited.stream))
    sizes = {"base": stream.size, "bytes": embedded.size}
    return {"bits": 8 * len(record), **sizes, "exact": exact}


def same_weights(one: Unit, other: Unit) -> bool:
    """Tell whether two units code the same."""
    if not one.quantized:
        return one.read() == other.read()
    pairs = zip(pieces_of(one), pieces_of(other), strict=True)
    return all(np.array_equal(a, b) and x.qp == y.qp for (a, x), (b, y) in pairs)


def plan_full(stream: nnguard.Stream, width: int) -> tuple[Plan, bytes]:
    """Plan one record that takes `width` bits of every weight there is.

    All tensors carry, even where that is more than `plan_record` lets a record cost that anybody
    may read.
    """
    rooms = {at: room for at in candidates(stream) if (room := room_of(stream, at)).places}
    widths = {at: room.width(width) for at, room in rooms.items()}
    if max(widths.values()) != width:
        raise ValueError(f"no weight holds {width} bits")
    bits = sum(room.bits(width) for room in rooms.values()) - _frame_bits(stream)
    header = FrameHeader(2, 1, bits // 8, tuple(rooms), tuple(widths.values()))
    needed, available = 8 * len(bytes(header)), next(iter(rooms.values())).bits(width)
    if needed > available:
        raise nnguard.errors.CapacityError(
            "the first carrier has no room for the header", needed=needed, available=available
        )
    plan = Plan(stream, header, tuple(room.places for room in rooms.values()))
    return plan, np.random.default_rng(SEED).bytes(header.record_size)


def bits_in(stream: nnguard.Stream, width: int) -> int:
    """Return the bits that all tensors hold, with so many in each weight."""
    return sum(room_of(stream, index).bits(width) for index in candidates(stream))


def time_decoding(stream: nnguard.Stream) -> dict[str, Any]:
    """Return the weights of all tensors that can carry, and the seconds to decode them."""
    started = time.thread_time()
    pieces = (pieces_of(stream[index]) for index in candidates(stream))
    weights = sum(indices.size for indices, _ in chain.from_iterable(pieces))
    return {"carrying": weights, "decoding": time.thread_time() - started}


def _frame_bits(stream: nnguard.Stream) -> int:
    """Return the bits that header and checksum take, at most, where all tensors carry."""
    return 8 * (12 + 4 + 4 + 3 * len(candidates(stream)) + 1)


def _share_out(bits: int, room: int) -> list[int]:
    """Return the bits of each of as many records as it takes."""
    records = -(-bits // max(room - 8 * 4096, room // 2))
    return [bits // records] * records


def embed_and_score(
    subject: Subject, stream: nnguard.Stream, sizes: list[int], seed: int
) -> dict[str, Any]:
    """Hide records of so many bits on top of each other; measure and take them out again."""
    rng = np.random.default_rng(SEED + seed)
    records = [rng.bytes(-(-bits // 8)) for bits in sizes]
    embedded = stream
    for record in records:
        embedded = embed(embedded, record, kind=2)
    return score_with(subject, stream, embedded, records)


def score_with(
    subject: Subject, stream: nnguard.Stream, embedded: nnguard.Stream, records: list[bytes]
) -> dict[str, Any]:
    """Measure a stream with records in it, and take them out again, down to what it was made of."""
    score, original, exact = subject.score_of(embedded), embedded, True
    for record in reversed(records):
        taken = extract(original, vouched=True)
        original, exact = taken.original, exact and taken.record == record
    exact = exact and bytes(original) == bytes(stream)
    bits = 8 * sum(map(len, records))
    found = {"bits": bits, "bytes": embedded.size, "score": score, "exact": exact}
    return {**found, "width": max(taken.header.widths), **time_decoding(embedded)}


def main() -> int:
    """Measure a table from the command line; tell whether everything came out as it went in."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=("payload", "paper", "ours", "capacity"))
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--networks", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="default: a temporary folder")
    parser.add_argument("--network", action="append", choices=NAMES, help="default: all")
    parser.add_argument("--items", type=int, default=10_000, help="of test data (%(default)s)")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="of a size (%(default)s)")
    parser.add_argument("--bits", type=int, nargs="+", default=WIDTHS, choices=WIDTHS,
                        help="in each weight, for capacity (default: all)")  # fmt: skip
    parser.add_argument("--threads", type=int, help="of PyTorch")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    results = Results(options.output)
    with tempfile.TemporaryDirectory() as folder:
        wheels = options.wheels or Path(folder)
        for name in options.network or NAMES:
            items = results.values.get(f"{name}: raw", {}).get("items", options.items)
            if items != options.items:
                print(f"{name}: on {items} items of test data, as before", file=sys.stderr)
            try:
                subject = load_subject(name, options.data, options.networks, wheels, items)
            except FileNotFoundError as error:
                print(error, file=sys.stderr)
                continue
            run(results, list(payload_jobs(subject)))
            if options.table == "paper":
                run(results, list(paper_jobs(subject, results, options.messages)))
            elif options.table == "ours":
                run(results, list(ours_jobs(subject, results, options.messages)))
            elif options.table == "capacity":
                run(results, list(capacity_jobs(subject, options.bits)))
    embedded = [value for value in results.values.values() if "exact" in value]
    return 0 if all(value["exact"] for value in embedded) else 1


if __name__ == "__main__":
    sys.exit(main())
