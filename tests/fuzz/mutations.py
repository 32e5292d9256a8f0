"""Changes of files for fuzzing: of bytes, of units, of CBOR, and of what lies deep in a stream.

Deep changes put right again what stands around them (sizes, checksums, signatures of test keys), so
that what reads a file gets as far as to what was changed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import numpy as np

import nnguard
import samples
from nnguard._hiding import Extraction, embed, extract
from nnguard._hiding.frame import frame_record
from nnguard._stream import coding, quantized
from nnguard._stream.headers import EntryPoint, PayloadType, write_tensor_header
from nnguard._stream.units import frame_unit
from one_tensor import with_qp
from vectors import selling, toolbox

Mutation = Callable[[random.Random, bytes, list[bytes]], bytes]


def flip_bits(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def splice(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    other = rng.choice([*corpus, rng.randbytes(40), bytes(40), b"\xff" * 40])
    start = rng.randrange(len(other))
    piece = other[start : start + rng.choice([1, 4, 16, 200])]
    at = rng.randrange(len(data))
    return data[:at] + piece + data[at + rng.choice([0, len(piece), rng.randrange(64)]) :]


def truncate(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    return data[: rng.randrange(len(data))]


def rearrange_units(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    units = samples.split(data)
    for _ in range(rng.choice([1, 1, 3])):
        at, to = rng.randrange(len(units)), rng.randrange(len(units))
        match rng.randrange(5):
            case 0:
                units.insert(to, units[at])
            case 1:
                if len(units) > 1:
                    del units[at]
            case 2:
                units[at], units[to] = units[to], units[at]
            case 3:
                units.insert(to, rng.choice(samples.split(rng.choice(corpus))))
            case 4:
                body = rng.randbytes(rng.choice([0, 1, 30]))
                partial, long = rng.random() < 0.3, rng.random() < 0.3
                units.insert(to, samples.unit(rng.randrange(64), body, partial=partial, long=long))
    return b"".join(units)


def edit_header(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    units = samples.split(data)
    at = rng.randrange(len(units))
    changed = bytearray(units[at])
    for _ in range(rng.choice([1, 2])):
        changed[rng.randrange(min(40, len(changed)))] = rng.choice(
            [0, 1, 0x80, 0xFF, rng.randrange(256)]
        )
    if rng.random() < 0.7:  # the size as before, so that the header is looked at
        changed[:2] = units[at][:2]
    return b"".join([*units[:at], bytes(changed), *units[at + 1 :]])


def damage_payload(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    units = samples.split(data)
    at = max(range(len(units)), key=lambda index: len(units[index]))
    changed = bytearray(units[at])
    start = rng.randrange(30, len(changed))
    length = rng.choice([1, 8, len(changed) - start])
    filler = rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length)])
    changed[start : start + length] = filler[: len(changed) - start]
    return b"".join([*units[:at], bytes(changed), *units[at + 1 :]])


def damage_start(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Change what a payload states before its weights: step, start states, skipped rows."""
    units = list(nnguard.Stream.from_bytes(data))
    unit = rng.choice([unit for unit in units if unit.tensor is not None])
    changed, at = bytearray(data), unit.offset + unit.tensor.payload_offset
    for _ in range(rng.choice([1, 1, 3])):
        changed[at + rng.randrange(min(40, unit.size - unit.tensor.payload_offset))] ^= rng.choice(
            [1 << rng.randrange(8), rng.randrange(1, 256)]
        )
    return bytes(changed)


def write_header(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    shape = [
        rng.choice([0, 1, 7, 256, 5000, 1 << 20, (1 << 32) - 1]) for _ in range(rng.randrange(1, 6))
    ]
    new = samples.data_unit(
        rng.choice(["", "a", "x" * 300, "\u202e\n"]),
        rng.choice([shape, (16, 32), (3, 1000)]),
        rng.choice([b"", rng.randbytes(200), bytes(200)]),
        payload_type=rng.randrange(5),
        scan_order=rng.choice([0, 0, 0, 1, 4, 5, 15]),
        codebook=rng.random() < 0.1,
    )
    units = samples.split(data)
    units.insert(rng.randrange(2, len(units) + 1), new)
    return b"".join(units)


MUTATIONS: list[Mutation] = [
    flip_bits,
    splice,
    truncate,
    rearrange_units,
    edit_header,
    damage_payload,
    damage_start,
    write_header,
]


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Flip bits, cut, repeat, insert, put lengths and types of CBOR anywhere."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(6):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at : at + rng.choice([1, 4, 40])]
            case 2:
                changed[at:at] = rng.randbytes(rng.choice([1, 4, 40]))
            case 3:
                changed[at:at] = changed[at : at + rng.choice([1, 8, 100])]
            case 4:
                changed[at : at + 1] = bytes([rng.choice(range(0, 256, 8)) | rng.randrange(24, 28)])
            case 5:
                changed[at:at] = rng.choice([b"\x9f", b"\xff", b"\xf6", b"\xfb", b"\x81" * 2000])
    return bytes(changed)


VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1 << 31,
    1 << 63,
    -(1 << 63),
    "",
    "x" * 300,
    b"",
    bytes(8),
    bytes(16),
    bytes(32),
    [],
    [0],
    [1, bytes(16), bytes(16)],
    {},
    {"a": 1},
    {1: "a"},
    1.5,
    [[[[]]]],
]


def edit(rng: random.Random, value: Any) -> Any:
    """Change a value of CBOR somewhere inside."""
    if rng.random() < 0.2 or not isinstance(value, (dict, list)):
        return rng.choice(VALUES)
    if isinstance(value, dict):
        label = rng.choice([*value, rng.choice([0, 9, "more", b"x"])])
        edited = {**value, label: edit(rng, value.get(label))}
        if rng.random() < 0.3:
            del edited[label]
        return edited
    at = rng.randrange(len(value) + 1)
    return [*value[:at], edit(rng, value[at] if at < len(value) else 0), *value[at + 1 :]]


def deep_record(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Another record, in a frame that is right."""
    taken = extract(nnguard.Stream.from_bytes(data))
    kind = rng.choice([taken.header.kind] * 3 + [1, 2, 3, 4, 200])
    return bytes(embed(taken.original, mutate(rng, taken.record), kind=kind))


def deep_frame(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Another header, with the right checksum."""
    taken = extract(nnguard.Stream.from_bytes(data))
    fields: dict[str, Any] = {
        "kind": rng.randrange(6),
        "layer": rng.choice([1, 2, 3, 254, 255]),
        "record_size": rng.choice([0, 1, len(taken.record) - 1, 1 << 20, 1 << 28]),
        "carriers": _carriers(rng, taken),
    }
    name = rng.choice(list(fields))
    header = replace(taken.header, **{name: fields[name]})
    record = taken.record[: header.record_size].ljust(min(header.record_size, 1 << 10), b"\0")
    framed = frame_record(replace(header, record_size=len(record)), record)
    hidden = bytes(header) + framed[len(bytes(header)) :]
    return bytes(toolbox.place(taken.original, header.carriers, hidden))


def _carriers(rng: random.Random, taken: Extraction) -> tuple[int, ...]:
    known, count = taken.header.carriers, len(taken.original)
    more = tuple(rng.randrange(count + 2) for _ in range(rng.choice([1, 1, 5])))
    return rng.choice([known + more, known[::-1], known * 2, (known[0], 1 << 40), more + known])


def deep_claims(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Another protected header, with the right signature."""
    taken = extract(nnguard.Stream.from_bytes(data))
    protected, _, payload, _ = cbor2.loads(taken.record).value
    header = edit(rng, cbor2.loads(protected))

    def record(aad: bytes) -> bytes:
        fields = {"protected": cbor2.dumps(header, canonical=True), "payload": payload}
        return toolbox.envelope(taken.original, aad, **fields)

    return bytes(toolbox.hide(taken.original, record))


def deep_lock(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """A lock of anything, made with the content key."""
    stream = nnguard.Stream.from_bytes(data)
    unit = rng.choice([at for at, unit in enumerate(stream) if unit.tensor is not None])
    content = selling.content_of(stream, {unit: selling.spread(stream, unit)}, [unit])
    sealed = cbor2.dumps(edit(rng, content), canonical=True)
    lock = toolbox.hide(stream, lambda aad: selling.seal(sealed, aad), 3, 1, selling.LOCK_DOMAIN)
    return bytes(lock)


def deep_tensor(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Other indices or parameters, well coded."""
    stream = nnguard.Stream.from_bytes(data)
    at = rng.choice([at for at, unit in enumerate(stream) if coded(unit)])
    tensor = quantized.decode(stream[at])
    indices = tensor.indices.copy()
    flat, states = indices.reshape(-1), bytearray(tensor.parameters.start_states)
    match rng.randrange(5):
        case 0:
            flat[rng.randrange(flat.size)] = rng.choice([0, 1, -1, 1 << 29, (1 << 31) - 1])
        case 1:
            flat[:] = rng.choice([0, 1, -1, 12, 1 << 29])
        case 2:
            states[rng.randrange(len(states))] = rng.randrange(9)
        case 3:
            tensor = with_qp(tensor, rng.randrange(*coding.qp_range(tensor.header.qp_density)))
        case 4 if tensor.parameters.skipped_rows:
            rows = indices.reshape(tensor.header.shape[0], -1)
            skipped = bytes(rng.randrange(2) for _ in rows)
            rows[np.frombuffer(skipped, bool)] = 0
            tensor = replace(tensor, parameters=replace(tensor.parameters, skipped_rows=skipped))
    parameters = replace(tensor.parameters, start_states=bytes(states))
    changed = replace(tensor.with_indices(indices), parameters=parameters)
    return bytes(stream.replace({at: quantized.encode(changed)}))


def deep_header(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Another header of a tensor, in a unit of the right size."""
    stream = nnguard.Stream.from_bytes(data)
    at = rng.choice([at for at, unit in enumerate(stream) if unit.tensor is not None])
    header, units = stream[at].tensor, [unit.read() for unit in stream]
    assert header is not None
    payload = units[at][header.payload_offset :]
    points = tuple(EntryPoint(40 * n, n % 256, 0) for n in range(rng.choice([0, 1, 3, 200])))
    fields: dict[str, Any] = {
        "name": rng.choice(["", "w", "x" * 3000, "\u202e\n"]),
        "payload_type": PayloadType(rng.randrange(3)),
        "shape": tuple(
            rng.choice([1, 2, 7, 256, 5000, 1 << 20, (1 << 32) - 1])
            for _ in range(rng.choice([1, 2, 2, 4, 32]))
        ),
        "dependent": not header.dependent,
        "unary_length": rng.choice([1, 2, 11, 16, 17, 64, 256]),
        "data_format": rng.choice([None, 0, 1, 5, 6, 7, 8, 9, 100]),
        "scan_order": rng.choice([0, 1, 4]),
        "entry_points": points,
    }
    for name in rng.sample(list(fields), rng.choice([1, 1, 2])):
        header = replace(header, **{name: fields[name]})
    if not header.scan_order:
        header = replace(header, entry_points=())
    kind = bytes([samples.NDU << 2])
    units[at] = frame_unit(kind + write_tensor_header(header, at) + payload)
    return b"".join(units)


def deep_payload(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Another payload, in a unit of the right size."""
    stream = nnguard.Stream.from_bytes(data)
    at = rng.choice([at for at, unit in enumerate(stream) if unit.tensor is not None])
    header, units = stream[at].tensor, [unit.read() for unit in stream]
    assert header is not None
    start, end = coding.size_field(units[at]), header.payload_offset
    units[at] = frame_unit(units[at][start:end] + mutate(rng, units[at][end:]))
    return b"".join(units)


def coded(unit: nnguard._stream.Unit) -> bool:
    return unit.tensor is not None and unit.tensor.payload_type == PayloadType.FLOAT


DEEP: list[Mutation] = [
    deep_record,
    deep_frame,
    deep_claims,
    deep_lock,
    deep_tensor,
    deep_header,
    deep_payload,
]


def mutate_stream(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Change a stream once or a few times, deep or not."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        mutation = rng.choice(MUTATIONS + 2 * DEEP)
        try:
            data = mutation(rng, data, corpus) or b"\0"
        except (
            *(ValueError, IndexError, TypeError, AttributeError, AssertionError, StopIteration),
            *(OverflowError, cbor2.CBORError, nnguard.NnguardError),
        ):
            continue  # nothing there to change so
    return data
