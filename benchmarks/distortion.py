"""What a record costs a network: accuracy, moved weights and file size.

Compares nnguard's form of H-QIM with the paper's (one peak over the whole network, shifted right)
on pretrained networks, all 10,000 test images of CIFAR-10. Every extraction is checked to give the
bits and the original stream, by hash.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np

import nnguard
from networks import NETWORKS, accuracy, add_data_argument, load_test_set, load_weights
from nnguard.hiding import embedding, hqim
from nnguard.stream import Stream
from nnguard.stream.coding import Indices, QuantisedTensor, decode, encode, find_settings
from nnguard.stream.headers import PayloadType, TensorHeader

RECORD_SIZE = 230
"""Bytes of the record: those of a signature with its claims."""

SEED = 15938
STREAMS = {"TCQ": "default", "URQ": "urq38"}

HEADER = (
    "| network | quantisation | form | bits | moved weights | file growth % | accuracy % "
    "| change in points |\n|---|---|---|--:|--:|--:|--:|--:|"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; None where the form does not exist for the quantisation.

    Attributes:
        network: Name of the network.
        quantisation: TCQ or URQ.
        form: How the bits are hidden.
        bits: Bits of the record, without what frames it.
        moved: Weights whose index changed.
        moved_percent: Their share of all quantised weights of the network.
        growth_percent: Growth of the file.
        accuracy_percent: Share of the test images that are classified correctly.
        change_points: Accuracy less that of the stream as is.
    """

    network: str
    quantisation: str
    form: str
    bits: int | None = None
    moved: int | None = None
    moved_percent: float | None = None
    growth_percent: float | None = None
    accuracy_percent: float | None = None
    change_points: float | None = None

    def __str__(self) -> str:
        cells = [self.network, self.quantisation, self.form]
        if self.bits is None:
            cells += ["not defined", *["-"] * 4]
        else:
            cells += [
                f"{self.bits:,}",
                f"{self.moved:,} ({self.moved_percent:.3f} %)",
                f"{self.growth_percent:+.3f}",
                f"{self.accuracy_percent:.2f}",
                f"{self.change_points:+.2f}",
            ]
        return f"| {' | '.join(cells)} |"


class PaperForm:
    """The paper's form of H-QIM on a URQ stream (paper, section III).

    The peak is the most frequent index of all tensors of two dimensions or more; all that lies to
    its right moves. Unlike nnguard's form, extraction has to be told the peak, and how each tensor
    was encoded: this object remembers both.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._tensors: dict[int, QuantisedTensor] = {}
        for index, unit in _quantised(stream):
            if len(unit.shape) > 1:
                tensor = find_settings(stream[index])
                if tensor is None:
                    raise ValueError(f"tensor {unit.name} cannot be encoded to the same bytes")
                self._tensors[index] = tensor
        self._values = _join(self._tensors)
        self._peaks = [hqim.most_frequent(self._values)]
        self.capacity = hqim.capacity(self._values, self._peaks)

    def embed(self, bits: hqim.Bits) -> Stream:
        """Return the stream with the bits in it."""
        marked = hqim.embed(self._values, self._peaks, bits, stride=1)
        return _replace(self._stream, self._tensors, marked)

    def extract(self, marked: Stream) -> tuple[hqim.Bits, Stream]:
        """Return the bits of a marked stream, zeros up to the capacity, and the original."""
        tensors = {
            index: decode(marked[index], parameter_optimisation=tensor.parameter_optimisation)
            for index, tensor in self._tensors.items()
        }
        bits, restored = hqim.extract(_join(tensors), self._peaks, stride=1)
        return bits, _replace(marked, tensors, restored)


def _quantised(stream: Stream) -> Iterator[tuple[int, TensorHeader]]:
    for index, unit in enumerate(stream):
        if unit.tensor is not None and unit.tensor.payload_type == PayloadType.FLOAT:
            yield index, unit.tensor


def _join(tensors: Mapping[int, QuantisedTensor]) -> Indices:
    return np.concatenate([tensor.indices.reshape(-1) for tensor in tensors.values()])


def _replace(stream: Stream, tensors: Mapping[int, QuantisedTensor], values: Indices) -> Stream:
    ends = np.cumsum([tensor.indices.size for tensor in tensors.values()])
    parts = np.split(values, ends[:-1])
    return stream.replace(
        {
            index: encode(tensor.with_indices(part))
            for (index, tensor), part in zip(tensors.items(), parts, strict=True)
        }
    )


def mark(stream: Stream, quantisation: str) -> Iterator[tuple[str, int, Stream | None]]:
    """Mark a stream in every form: the form's name, its bits, and the marked stream.

    Raises:
        ValueError: Extraction does not give the bits and the stream.
    """
    yield "as is", 0, stream
    rng = np.random.default_rng(SEED)
    record = rng.bytes(RECORD_SIZE)
    marked = embedding.embed(stream, record, kind=1)
    taken = embedding.extract(marked)
    _check(stream, taken.original, same_bits=taken.record == record)
    yield "nnguard", 8 * RECORD_SIZE, marked
    if quantisation != "URQ":
        yield "paper (URQ only)", 0, None
        return
    paper = PaperForm(stream)
    for form, bits in (
        ("paper", np.unpackbits(np.frombuffer(record, np.uint8))),
        ("paper, full", rng.integers(2, size=paper.capacity, dtype=np.uint8)),
    ):
        marked = paper.embed(bits)
        found, original = paper.extract(marked)
        _check(stream, original, same_bits=np.array_equal(found[: bits.size], bits))
        yield form, bits.size, marked


def _check(stream: Stream, restored: Stream, *, same_bits: bool) -> None:
    digests = {hashlib.sha256(bytes(each)).digest() for each in (stream, restored)}
    if not same_bits or len(digests) != 1:
        raise ValueError("extraction does not give the bits and the original stream")


def measure(network: str, data: Path) -> Iterator[Row]:
    """Measure all rows of a network."""
    images, labels = load_test_set(data)
    module = NETWORKS[network]()
    for quantisation, file in STREAMS.items():
        stream = Stream.open(data / "streams" / f"{network}.{file}.nnc")
        weights = sum(header.size for _, header in _quantised(stream))
        before: float | None = None
        for form, bits, marked in mark(stream, quantisation):
            if marked is None:
                yield Row(network, quantisation, form)
                continue
            load_weights(module, marked)
            after = accuracy(module, images, labels)
            before = after if before is None else before
            moved = count_moved(stream, marked)
            yield Row(
                network,
                quantisation,
                form,
                bits=bits,
                moved=moved,
                moved_percent=100 * moved / weights,
                growth_percent=100 * (marked.size / stream.size - 1),
                accuracy_percent=after,
                change_points=round(after - before, 2),
            )


def count_moved(stream: Stream, marked: Stream) -> int:
    """Return how many weights of a marked stream have another index."""
    return sum(
        int(np.count_nonzero(decode(stream[index]).indices != decode(marked[index]).indices))
        for index, _ in _quantised(stream)
        if stream[index].read() != marked[index].read()
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description="What a record costs a network.")
    add_data_argument(parser)
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=["resnet20", "resnet56"], metavar="NAME"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args()
    start = time.monotonic()
    rows: list[Row] = []
    for network in args.networks:
        for row in measure(network, args.data):
            rows.append(row)
            elapsed = time.monotonic() - start
            print(f"{elapsed:6.1f} s  {network}, {row.quantisation}: {row.form}", file=sys.stderr)
    print(HEADER, *rows, sep="\n")
    print(
        "\nThe paper's form covers URQ only: a shift by one would change the states of the trellis,"
        " and with them all later weights.\nnnguard's form hides its header and a checksum besides"
        " the bits listed; the paper's leaves the peak to be passed by hand."
    )
    if args.json:
        report = {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "platform": platform.platform(),
            "versions": {"python": platform.python_version(), **_versions()},
            "seconds": round(time.monotonic() - start, 1),
            "seed": SEED,
            "rows": [asdict(row) for row in rows],
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")


def _versions() -> dict[str, str]:
    packages = ("nncodec", "numpy", "torch")
    return {"nnguard": nnguard.__version__, **{name: version(name) for name in packages}}


if __name__ == "__main__":
    main()
