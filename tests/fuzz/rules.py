"""Hostile files by rule: each asks for work, memory or patience out of proportion to its size.

A rule is a function that yields files of at most `LARGEST` bytes; its name is the rule's. Keys are
those of the test vectors, so that some files get as far as whoever has a key could take them.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cbor2
import numpy as np

import nnguard
import one_tensor
import samples
from nnguard._crypto.cose import sign
from nnguard._hiding.frame import FrameHeader, frame_record
from nnguard._hiding.tensor import Carrier
from nnguard._models.formats import FORMATS, TensorType, write_topology
from nnguard._stream import Stream, coding, quantized
from nnguard._stream.coding import Parameters
from nnguard._stream.headers import EntryPoint, PayloadType, TensorHeader, write_tensor_header
from nnguard._stream.units import frame_unit
from vectors import selling, toolbox

VECTORS = Path(__file__).parents[1] / "vectors"

LARGEST = 1_000_000
"""Bytes of a file, at most."""

TRUSTED = toolbox.VENDOR
LICENSE_LABEL = b"nnguard license v1\0"
LIST_LABEL = b"nnguard revocation list v1\0"


@dataclass(frozen=True)
class File:
    """A hostile file.

    Attributes:
        kind: What it poses as: stream, license, list, key, identity, device, folder.
        data: Its bytes; for a folder, a JSON object of names to base64 of their bytes.
    """

    kind: str
    data: bytes


Rule = Callable[[], Iterator[File]]
RULES: list[Rule] = []


def rule(make: Rule) -> Rule:
    RULES.append(make)
    return make


def stream(*units: bytes, profile: int = 1) -> File:
    return File("stream", samples.start_unit(profile) + samples.model_unit() + b"".join(units))


def filled(*units: bytes) -> File:
    """A stream of the same units again and again, up to the size."""
    room = LARGEST - len(stream().data)
    return stream(
        *itertools.islice(itertools.cycle(units), len(units) * (room // len(b"".join(units))))
    )


def header(
    shape: Sequence[int], name: str = "w", unary: int = 11, *, dependent: bool = False, **more: Any
) -> TensorHeader:
    fields = {"payload_type": PayloadType.FLOAT, "scan_order": 0, "data_format": None, **more}
    return TensorHeader(
        name=name, shape=tuple(shape), dependent=dependent, unary_length=unary, profile=1,
        qp_density=2, base_qp=0, payload_offset=0, **fields,
    )  # fmt: skip


def unit(of: TensorHeader, payload: bytes) -> bytes:
    return frame_unit(bytes([samples.NDU << 2]) + write_tensor_header(of, 0) + payload)


def contexts(of: TensorHeader) -> int:
    return (24 if of.dependent else 3) + 3 + 2 * of.unary_length + 31


@cache
def coded(
    weights: int,
    value: int = 0,
    unary: int = 11,
    name: str = "w",
    *,
    dependent: bool = False,
    shape: tuple[int, ...] | None = None,
    **more: Any,
) -> bytes:
    """The unit of a tensor of equal indices, whose contexts soon cost next to nothing."""
    of = header(shape or (weights, 1), name, unary, dependent=dependent, **more)
    indices = np.full(weights, value, np.int32)
    start = Parameters(-38, bytes(contexts(of)), b"")
    payload, points = coding.encode_payload(of, [indices], start)
    return unit(replace(of, entry_points=points), payload)


def numbered(units: Callable[[int], bytes]) -> File:
    """As many units as are allowed and there is room for; each is made for its number."""
    made, size = [], len(stream().data)
    for number in range(32_000):
        made.append(units(number))
        size += len(made[-1])
        if size > LARGEST:
            made.pop()
            break
    return stream(*made)


# Tensors that are large, in few bytes


@rule
def huge_shape() -> Iterator[File]:
    for shape in (
        (1 << 31, 1 << 29),
        (1 << 32,),
        (1 << 30, 3),
        (1 << 20, 1 << 10),
        (1 << 28,),
        [1 << 2] * 32,
    ):
        for payload in (b"", bytes(30), bytes(3000)):
            yield stream(unit(header(shape), payload))


@rule
def large_zeros() -> Iterator[File]:
    """One tensor of zeros, up to as many as the bits allow."""
    for power in (18, 20, 22, 24, 25, 26, 28, 29):
        yield stream(unit(header((1 << power,)), _zeros(power)))


@rule
def large_zeros_padded() -> Iterator[File]:
    """The same behind which there is much that has no weights."""
    padding = samples.unit(samples.TPL, bytes(900_000))
    for power in (20, 22, 23, 24, 25, 26):
        yield stream(unit(header((1 << power,)), _zeros(power)), padding)


def _zeros(power: int) -> bytes:
    of = header((1 << power,))
    pieces = itertools.repeat(np.zeros(1 << 18, np.int32), 1 << (power - 18))
    return coding.encode_payload(of, pieces, Parameters(-38, bytes(contexts(of)), b""))[0]


@rule
def skipped_rows() -> Iterator[File]:
    """Rows that are skipped cost a bin each, whatever their width."""
    for rows, width in (
        (1 << 10, 1 << 10),
        (1 << 10, 1 << 20),
        (1 << 18, 1 << 7),
        (1 << 20, 1 << 10),
        (1 << 24, 2),
    ):
        for dependent in (False, True):
            of = header((rows, width), dependent=dependent)
            start = Parameters(-38, bytes(contexts(of)), b"\1" * rows)
            first = coding.encode_payload(
                replace(of, shape=(rows, 2)), [np.zeros(2 * rows, np.int32)], start
            )[0]
            yield stream(unit(of, first))
            yield stream(*60 * [unit(of, first)][: 900_000 // max(len(first), 1)])


@rule
def many_large() -> Iterator[File]:
    """Tensors of zeros that are each small enough to be looked at."""
    for power in (8, 12, 16, 18, 20, 22):
        zeros = _zeros_small(power)
        yield numbered(
            lambda n, power=power, zeros=zeros: unit(header((1 << power,), f"w{n}"), zeros)
        )


def _zeros_small(power: int) -> bytes:
    of = header((1 << power,))
    zeros = np.zeros(1 << power, np.int32)
    return coding.encode_payload(of, [zeros], Parameters(-38, bytes(contexts(of)), b""))[0]


@rule
def wide_formats() -> Iterator[File]:
    """Formats of eight bytes, declared of zeros."""
    for code in (9, 7, 8):
        kind = PayloadType.INT if code == 7 else PayloadType.FLOAT
        for power in (22, 25, 26):
            yield stream(
                unit(header((1 << power,), data_format=code, payload_type=kind), _zeros(power)),
                samples.unit(samples.TPL, bytes(800_000)),
            )


@rule
def raw() -> Iterator[File]:
    for of in (
        header((240_000,), payload_type=PayloadType.RAW_FLOAT),
        header((0, 1 << 31), payload_type=PayloadType.RAW_FLOAT),
    ):
        yield stream(unit(of, bytes(4 * (of.size or 10))))


# Much work in few bits


@rule
def trained() -> Iterator[File]:
    """All contexts in their cheapest states: a hundred bins a bit."""
    for unary, value, weights in (
        (11, 12, 1 << 25), (11, 1, 1 << 27), (11, 13, 1 << 25), (256, 257, 1 << 21),
        (256, 256, 1 << 21), (64, 65, 1 << 23), (1, 2, 1 << 26), (16, 16, 1 << 24),
    ):  # fmt: skip
        for dependent in (False, True):
            for share in (1, 8, 64):
                yield _trained(unary, value, weights // share, 1, dependent=dependent)


@rule
def many_trained() -> Iterator[File]:
    """The same in tensors that a reader looks at for a header, or lists as carriers."""
    for unary, value in ((11, 12), (256, 257), (16, 17), (1, 1)):
        for weights in (256, 1 << 12, 1 << 15, 1 << 16, 1 << 17, 1 << 18):
            yield _trained(unary, value, weights, 1 << 20, dependent=False)


def _trained(unary: int, value: int, weights: int, count: int, *, dependent: bool) -> File:
    size = len(coded(min(weights, 1 << 20), value, unary, dependent=dependent))
    if size > LARGEST - 100:
        weights = int(min(weights, 1 << 20) * 0.95 * LARGEST / size)
    elif weights > 1 << 20:
        weights = min(weights, int((1 << 20) * 0.95 * LARGEST / size))
    if count == 1:
        return stream(coded(weights, value, unary, dependent=dependent))
    whole = coded(weights, value, unary)
    return (
        filled(whole)
        if weights >= 1 << 12
        else numbered(lambda n: unit(header((weights, 1), f"w{n}", unary), _payload(whole)))
    )


def _payload(whole: bytes) -> bytes:
    found = Stream.from_bytes(stream(whole).data)[2]
    assert found.tensor is not None
    return whole[found.tensor.payload_offset :]


@rule
def cut_short() -> Iterator[File]:
    """Trained contexts, and then no more: the end has to be found."""
    for unary, value, weights in ((256, 257, 1 << 20), (11, 12, 1 << 22), (11, 0, 1 << 20)):
        whole = coded(1 << 18, value, unary)
        payload = _payload(whole)
        for length in (40, 250, 4000, len(payload)):
            for tail in (b"", bytes(100_000), b"\xff" * 100_000):
                yield stream(unit(header((weights, 1), "w", unary), payload[:length] + tail))


@rule
def small_tensors() -> Iterator[File]:
    """As many tensors as there is room for."""
    for weights, unary in ((1, 11), (256, 11), (256, 1), (256, 256), (2048, 11)):
        payload = _payload(coded(weights, 0, unary, shape=(weights,)))
        yield numbered(lambda n, w=weights, u=unary, p=payload: unit(header((w,), f"{n:x}", u), p))
        yield numbered(lambda n, w=weights, u=unary, p=payload: unit(header((w,), "", u), p))
        yield numbered(lambda n, w=weights, u=unary: unit(header((w,), f"{n:x}", u), b"\x80"))


@rule
def blocks() -> Iterator[File]:
    """Rows of blocks, with entry points that are right, and that are not."""
    for order, shape in (
        (1, (1 << 12, 8)),
        (1, (1 << 15, 8)),
        (4, (1 << 12, 1 << 10)),
        (1, (1 << 16, 2)),
    ):
        size = shape[0] * shape[1]
        for value in (0, 1, 12):
            whole = coded(size, value, shape=shape, scan_order=order)
            if len(whole) < LARGEST - 1000:
                yield stream(whole)
                yield numbered(lambda n, w=whole: w)
        count = (shape[0] + (4 << order) - 1) // (4 << order) - 1
        for offset in (0, 1, 7, 40):
            points = tuple(EntryPoint(offset * n, 1, 0) for n in range(count))
            of = header(shape, scan_order=order, entry_points=points)
            yield stream(unit(of, bytes(100_000)))


@rule
def block_rows() -> Iterator[File]:
    """Millions of rows of blocks that are declared, and few entry points."""
    for rows in (1 << 20, 1 << 24, 1 << 31):
        for order in (1, 4):
            yield stream(
                unit(
                    header((rows, 4), scan_order=order, entry_points=(EntryPoint(0, 0, 0),) * 500),
                    bytes(2000),
                )
            )


# Units, headers, names


def repeated(unit: bytes) -> Iterator[File]:
    """Streams of one unit again and again: as often as is allowed, and as there is room for."""
    yield stream(*min(32_000, (LARGEST - 100) // len(unit)) * [unit])
    yield filled(unit)


@rule
def empty_units() -> Iterator[File]:
    for kind in (samples.AGG, samples.QNT, samples.TPL, samples.LPS, 63):
        yield from repeated(samples.unit(kind))
        yield from repeated(samples.unit(kind, b"\0" * 3))
    yield from repeated(samples.unit(samples.NDU, b"", partial=True))


@rule
def opaque_tensors() -> Iterator[File]:
    yield from repeated(samples.data_unit("w", (4, 4), b"", codebook=True))
    yield from repeated(samples.data_unit("", (16, 16), b"", payload_type=4))
    yield from repeated(samples.data_unit("w", [1] * 32, b"\0"))
    yield from repeated(samples.data_unit("", (0,), b""))
    yield from repeated(samples.data_unit("", (300,), b""))
    yield from repeated(samples.data_unit("", (1,), b"", payload_type=samples.INT))


@rule
def long_names() -> Iterator[File]:
    payload = _payload(coded(256, 0, shape=(256,)))
    for name in ("x" * 60_000, "\u202e" * 20_000, "\x1b[31m" * 12_000, "\n" * 65_000, "x" * 65_500):
        long, short = unit(header((256,), name), payload), unit(header((1,), "a"), payload)
        yield filled(long)
        yield stream(long, *15_000 * [short])
    yield stream(*4_000 * [unit(header((1,), "x" * 200), payload)])
    yield stream(samples.data_unit("x" * 900_000))


@rule
def topology() -> Iterator[File]:
    tensor = coded(256, 0, shape=(256,))
    for text in (
        '{"nnguard":' + "[" * 400_000,
        '{"nnguard":{"scalars":[[0,999999999]]}}',
        '{"nnguard":{"scalars":[' + "[0,0]," * 100_000 + "[0,0]]}}",
        '{"nnguard":{"formats":{"bool":[[0,' + "9" * 400_000 + "]]}}}",
        '{"nnguard":{"formats":{' + '"bool":[],' * 80_000 + '"bool":[]}}}',
        '{"nnguard":"' + "x" * 900_000,
        '{"nnguard":{"x":' + "1e400," * 10_000 + "}}",
    ):
        yield stream(samples.unit(samples.TPL, bytes(2) + text.encode()), tensor)
    names = [f"{n:x}" for n in range(16_000)]
    types = [TensorType(FORMATS["bfloat16" if n % 2 else "float32"]) for n in range(len(names))]
    text = samples.unit(samples.TPL, bytes(2) + write_topology(types).encode())
    yield stream(text, *(unit(header((1,), name), b"\x80" * 8) for name in names))


@rule
def model_set() -> Iterator[File]:
    bits = samples.BitWriter().u(0, 5).u(0, 3).u(0, 1).u(1, 1).u(0, 6)
    yield File(
        "stream", samples.start_unit() + samples.unit(samples.MPS, bytes(bits) + b"x" * 900_000)
    )


@rule
def not_streams() -> Iterator[File]:
    for data in (
        b"",
        b"\0",
        bytes(LARGEST),
        b"\xff" * LARGEST,
        b"\x00\x04\x00\x01" + b"\x80" * 900_000,
    ):
        yield File("stream", data)


# Records


@cache
def carrier(room: int) -> Stream:
    """A stream of one tensor in which so many bits fit, of two bits a weight."""
    indices = np.random.default_rng(0).choice(np.array([-2, -1, 1, 2], np.int32), max(room, 2048))
    of = header((indices.size, 1))
    start = Parameters(-38, bytes(contexts(of)), b"")
    return Stream.from_bytes(stream(unit(of, coding.encode_payload(of, [indices], start)[0])).data)


def hidden(record: bytes, kind: int) -> File:
    """A record in a stream that has room for it, signed by nobody."""
    model = carrier(8 * len(record) + 400)
    return File("stream", bytes(toolbox.hide(model, lambda _: record, kind=kind)))


def signed(**changes: Any) -> File:
    """A signature of the trusted key, whose record is odd."""
    size = len(toolbox.envelope(toolbox.small(), b"", **changes))
    model = carrier(8 * size + 400)
    return File(
        "stream", bytes(toolbox.hide(model, lambda aad: toolbox.envelope(model, aad, **changes)))
    )


@rule
def huge_claims() -> Iterator[File]:
    meta = {f"{n:05x}": "" for n in range(60_000)}
    for key in (TRUSTED, toolbox.OTHER):
        yield signed(key=key, header={15: {"meta": meta}})
        yield signed(key=key, header={15: {1: "x" * 450_000}})
        yield signed(key=key, header={15: {1: "\x1b" * 450_000, "version": "\n" * 400_000}})
        yield signed(key=key, header={"units": bytes(400_000)})


@rule
def cbor_bombs() -> Iterator[File]:
    for record in (
        b"\x81" * 400_000 + b"\0",
        b"\x9a\x00\xff\xff\xff" + bytes(400_000),
        b"\x9b" + b"\xff" * 8 + bytes(100),
        b"\x9a\x00\x06\x1a\x80" + bytes(400_000),
        b"\xba\x00\x03\x0d\x40" + b"".join(cbor2.dumps(n) + b"\0" for n in range(70_000)),
        b"\xd2" * 300_000,
        b"\xd2\x84\x5a\x00\x06\x00\x00" + b"\x81" * 400_000,
        b"\x83" + cbor2.dumps("x" * 100_000) + cbor2.dumps(bytes(32)) + cbor2.dumps(bytes(200_000)),
    ):
        for kind in (1, 2, 3, 4, 9):
            yield hidden(record, kind)


@rule
def attachments() -> Iterator[File]:
    model = carrier(8 * 260_000)
    yield File("stream", bytes(toolbox.attach(model, bytes(250_000))))
    yield File("stream", bytes(toolbox.attach(model, b"", "x" * 250_000)))
    small = carrier(3000)
    yield File("stream", bytes(toolbox.attach(small, b"card", "\x1b]0;x\x07")))


@rule
def layers() -> Iterator[File]:
    """Records in records, to the limit; alone, beside padding, behind tensors that cost much."""
    record = b"x" * 8
    payload = _payload(coded(256, 0, shape=(256,)))
    expensive = coded(1 << 15, 257, 256)
    for more in (
        [],
        [samples.unit(samples.TPL)] * 32_000,
        [unit(header((256,), "", 256), payload)] * 15_000,
        [expensive] * 8,
        [coded(2048, 257, 256)] * 7,
        [coded(2040, 0)] * 7,
        [coded(1 << 17, 257, 256)] * 8,
    ):
        for best in (2048, 8000):
            made = Stream.from_bytes(stream(coded(best, 3), *more).data)
            for _ in range(255):
                try:
                    made = _hide_in(made, 2, record)
                except (nnguard.NnguardError, ValueError, AssertionError):
                    break
            if made.size <= LARGEST:
                yield File("stream", bytes(made))


def _hide_in(model: Stream, at: int, record: bytes, kind: int = 9) -> Stream:
    """Put a record into one carrier, on top of what it holds."""
    below = Carrier(model[at], keep=True).find_header()
    top = FrameHeader(kind, 1 + below.layer if below else 1, len(record), (at,))
    return toolbox.place(model, [at], frame_record(top, record))


@rule
def listed_carriers() -> Iterator[File]:
    """Headers that list all there is: small and large tensors, zeros, long codes."""
    small = ((256, 0, 11), (256, 3, 11), (1 << 12, 257, 256), (1 << 15, 257, 256))
    large = ((18, 257, 256), (18, 12, 11), (18, 0, 11), (20, 0, 11), (20, 12, 11), (22, 1, 11))
    for weights, value, unary in (*small, *((1 << power, *rest) for power, *rest in large)):
        further = coded(weights, value, unary)
        room = (LARGEST - 60_000) // len(further)
        for count in {1, 3, 15, 60, 250, 1000, 5000}:
            if count <= room:
                yield _listing(further, count, b"x" * 100)
                places = count * weights if value else 0
                if 3 * places <= room * len(further):
                    yield _listing(further, count, b"x" * 100, bits=16)
                if 8000 < places <= 8 * 4_000_000:
                    yield _listing(further, count, bytes(places // 8))


def _listing(further: bytes, count: int, record: bytes, bits: int = 1) -> File:
    """A primary carrier of one bit a weight, and further ones of so many."""
    primary = coded(max(2048, 32 * count + 2048), 3)
    model = Stream.from_bytes(stream(primary, *count * [further]).data)
    top = FrameHeader(9, 1, len(record), tuple(range(2, 3 + count)), (1, *count * [bits]))
    frame = np.unpackbits(np.frombuffer(frame_record(top, record), np.uint8))
    units, cached = {}, {}
    for at, width in zip(top.carriers, top.widths, strict=True):
        tensor = quantized.decode(model[at], max_weights=1 << 28)
        room = one_tensor.capacity(tensor.indices, width)
        here, frame = frame[:room], frame[room:]
        key = (at == 2, here.tobytes())
        if key not in cached:
            cached[key] = quantized.encode(one_tensor.embed_in(tensor, here, width))
        units[at] = cached[key]
    return File("stream", bytes(model.replace(units)))


@rule
def wide_lists() -> Iterator[File]:
    """Thousands of small carriers, listed in few weights that hold 16 bits each."""
    of = header((1 << 14,))
    start = Parameters(0, bytes(contexts(of)), b"")
    primary = unit(of, coding.encode_payload(of, [np.ones(1 << 14, np.int32)], start)[0])
    further, opaque = coded(256, 1), samples.unit(9, bytes(100_000))
    for kind, count in itertools.product((1, 2, 3, 9), (1000, 6000, 10_000)):
        model = Stream.from_bytes(stream(primary, *count * [further], opaque).data)
        carriers = tuple(range(2, 3 + count))
        frame = frame_record(FrameHeader(kind, 2, 100, carriers, (16,) + count * (1,)), bytes(100))
        bits = np.unpackbits(np.frombuffer(frame, np.uint8))
        first = quantized.encode(one_tensor.embed_in(quantized.decode(model[2]), bits, 16))
        others = quantized.encode(one_tensor.embed_in(quantized.decode(model[3]), bits[:0]))
        units = {at: first if at == 2 else others for at in carriers}
        yield File("stream", bytes(model.replace(units)))


@rule
def header_lists() -> Iterator[File]:
    """Headers of the largest size: positions that are there, and that are not."""
    for first, count in ((2, 8000), (3000, 8000), (1 << 34, 10_000)):
        top = FrameHeader(1, 1, 100, (2, *range(first + 1, first + count)))
        model = Stream.from_bytes(
            stream(coded(600_000, 3), *9_000 * [samples.unit(samples.AGG)]).data
        )
        yield File("stream", bytes(toolbox.place(model, [2], bytes(top) + bytes(104))))


@rule
def other_layers() -> Iterator[File]:
    """A signature over large records, so that asking why takes all of them out."""
    for weights in (200_000, 1_000_000, 2_000_000):
        inner = carrier(weights)
        first = _hide_in(inner, 2, bytes(weights // 8 - 40), kind=3)
        yield File("stream", bytes(first))
        with_small = Stream.from_bytes(bytes(first) + coded(2048, 3))
        yield File("stream", bytes(toolbox.sign(with_small)))


# Locks: whoever has the content key made them


def _lock(content: bytes) -> File:
    model = carrier(8 * len(content) + 2000)
    made = toolbox.hide(
        model, lambda aad: selling.seal(content, aad), kind=3, domain=selling.LOCK_DOMAIN
    )
    return File("stream", bytes(made))


@rule
def locks() -> Iterator[File]:
    digest = bytes(32)
    whole = [["", digest, [[0, 6]]]]
    for scrambled, replaced, files in (
        (list(range(60_000)), [], whole),
        ([2] * 300_000, [], whole),
        ([], [[n, 1, 0, 0, b"\xc0"] for n in range(12_000)], whole),
        ([], [[2, 8 * 100_000, 0, 0, b"\xff" * 100_000]], whole),
        ([], [[2, 8 * 100_000, 0, 0, bytes(100_000)]], whole),
        ([], [[2, 300_000, 0, 0, b"\xff" * 75_000 + b"\x80"]], whole),
        ([], [[2, 1, 1 << 40, 0, b"\xff"]], whole),
        ([], [[2, 1, 10**18, 10**18, b"\xff"]], whole),
        ([], [[2, 4, 24, 24, bytes(60)]], whole),
        ([], [], [["", digest, [[0, 1 << 32]]]]),
        ([], [], [["", digest, [[0, (1 << 64) - 1]]]]),
        ([], [], [["", digest, [[0, 6]] * 60_000]]),
        ([], [], [["", digest, [[0, 3], *[[2, 1]] * 60_000]]]),
        ([], [], [["", digest, [[0, 2], b"\0\3\x1c" * 60_000]]]),
        ([], [], [["", digest, [[0, 2], *[b"\0\3\x1c"] * 50_000]]]),
        ([], [], [["", digest, [bytes(200_000)]]]),
        ([], [], [[f"{n:05}.nnc", digest, [[0, 6]]] for n in range(4_000)]),
    ):
        yield _lock(cbor2.dumps([scrambled, replaced, files]))
    yield _lock(b"\x81" * 60_000)


# Licenses, lists, keys, folders


def license_file(
    claims: dict[Any, Any], label: bytes = LICENSE_LABEL, key: nnguard.SigningKey = TRUSTED
) -> bytes:
    """Claims, signed by the trusted key."""
    return sign(key, {}, cbor2.dumps(claims, canonical=True), label)


def armored(kind: str, data: bytes) -> bytes:
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN NNGUARD {kind}-----\n{text}-----END NNGUARD {kind}-----\n".encode()


def license_claims() -> dict[Any, Any]:
    text = (VECTORS / "license.license").read_text()
    body = base64.b64decode("".join(text.splitlines()[1:-1]))
    claims: dict[Any, Any] = cbor2.loads(cbor2.loads(body).value[2])
    return claims


@rule
def licenses() -> Iterator[File]:
    usual = license_claims()
    for changes in (
        {"features": [f"{n:x}" for n in range(90_000)]},
        {"features": [""] * 500_000},
        {"meta": {f"{n:x}": "" for n in range(90_000)}},
        {"meta": {"a": "x" * 600_000}},
        {"tier": "\x1b[2J" * 100_000},
        {"device": [1, bytes(16), bytes(600_000)]},
        {"key": bytes(600_000)},
        {"grace": 1 << 63},
        {4: (1 << 63) - 1},
        {"x": "y" * 600_000},
    ):
        yield File("license", armored("LICENSE", license_file({**usual, **changes})))
        yield File(
            "license", armored("LICENSE", license_file({**usual, **changes}, key=toolbox.OTHER))
        )


@rule
def armor() -> Iterator[File]:
    begin, end = b"-----BEGIN NNGUARD LICENSE-----\n", b"-----END NNGUARD LICENSE-----\n"
    for text in (
        begin * 30_000,
        begin + b"\n" * 900_000 + end,
        begin + b"> | " * 200_000 + end,
        begin + b"A" * 900_000 + end,
        begin + b"=" * 900_000 + end,
        b"-----BEGIN NNGUARD " * 50_000,
        begin + end * 30_000,
        b"\xff" * 900_000,
        "\ufeff".encode() * 300_000,
        b"",
    ):
        yield File("license", text)
        yield File("list", text.replace(b"LICENSE", b"REVOCATION LIST"))
        yield File("key", text.replace(b"NNGUARD LICENSE", b"PUBLIC KEY"))
        yield File("identity", text.replace(b"NNGUARD LICENSE", b"PUBLIC KEY"))


@rule
def revocation_lists() -> Iterator[File]:
    hashes = b"".join(n.to_bytes(32, "big") for n in range(22_000))
    for revoked in (hashes, hashes[::-1], hashes[:-1], bytes(700_000)):
        claims = {1: "vendor.example", 6: selling.NOW, "revoked": revoked}
        yield File("list", armored("REVOCATION LIST", license_file(claims, LIST_LABEL)))


@rule
def key_files() -> Iterator[File]:
    pem = TRUSTED.public_key.pem
    customer = selling.CUSTOMERS["hybrid"].recipient.pem
    for data in (
        pem * (LARGEST // len(pem)),
        pem[:-3] * (LARGEST // len(pem)),
        b"x" * 900_000 + pem,
        (b" " * 1000 + b"\n") * 900,
        pem + b"\n" * 300_000,
        b"-----BEGIN PUBLIC KEY-----" + b"\n" * 300_000,
        b"-----BEGIN PUBLIC KEY-----\n" * 11_000,
        b"-----BEGIN PUBLIC KEY-----\n" + b"A" * 64 * 4000 + b"\n",
        customer * (LARGEST // len(customer)),
        customer[:-40] + b"\n" * 300_000,
        b"-" * 300_000,
    ):
        yield File("key", data)
        yield File("identity", data)


@rule
def devices() -> Iterator[File]:
    for text in (
        "[" * 500_000,
        json.dumps([{"kind": "", "sha256": "00" * 32}] * 9_000),
        json.dumps([{"kind": "x" * 400_000, "sha256": "00" * 32}]),
        '[{"kind": 1' + "0" * 500_000 + "}]",
        '"' + "x" * 900_000,
    ):
        yield File("device", text.encode())


def folder(**files: bytes) -> File:
    packed = {
        name.replace("__", "."): base64.b64encode(data).decode() for name, data in files.items()
    }
    return File("folder", json.dumps(packed).encode())


@rule
def folders() -> Iterator[File]:
    def index(weight_map: Any) -> bytes:
        return json.dumps({"weight_map": weight_map}).encode()

    small = (VECTORS / "shard.nnc").read_bytes()
    names = {f"{n:x}": "a.nnc" for n in range(50_000)}
    yield folder(**{"model.nnc.index.json": index(names), "a.nnc": small})
    yield folder(**{"model.nnc.index.json": index({f"w{n}": f"{n}.nnc" for n in range(30_000)})})
    yield folder(
        **{
            "model.nnc.index.json": index({f"w{n}": f"{n}.nnc" for n in range(300)}),
            **{f"{n}.nnc": small for n in range(300)},
        }
    )
    yield folder(**{"model.nnc.index.json": b"[" * 700_000})
    yield folder(**{"model.nnc.index.json": b'{"weight_map":' * 40_000})
    yield folder(**{"model.nnc.index.json": index({"x" * 700_000: "a.nnc"}), "a.nnc": small})
    yield folder(**{"model.nnc.index.json": index({"w": "x" * 700_000 + ".nnc"})})
    yield folder(**{"model.nnc.index.json": b'{"weight_map":{"w":1' + b"0" * 700_000 + b"}}"})
    zeros = stream(unit(header((1 << 22,)), _zeros(22))).data
    many = {f"{n}.nnc": zeros for n in range(100)}
    yield folder(
        **{"model.nnc.index.json": index({f"w{n}": name for n, name in enumerate(many)}), **many}
    )


@rule
def vectors() -> Iterator[File]:
    """Every vector as it is."""
    for path in sorted(VECTORS.iterdir()):
        kind = {".nnc": "stream", ".license": "license", ".revocations": "list"}.get(path.suffix)
        if kind is not None and path.stat().st_size <= LARGEST:
            yield File(kind, path.read_bytes())
