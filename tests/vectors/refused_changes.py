"""Vectors that were signed, and changed afterward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nnguard._hiding import extract
from nnguard._hiding.frame import FrameHeader, frame_record
from nnguard._stream import Stream
from nnguard._stream.quantized import QuantizedTensor, encode
from one_tensor import capacity, embed_in, with_qp
from vectors.toolbox import (
    DOMAIN,
    Made,
    carrier_of,
    edit,
    envelope,
    float_unit,
    frame_of,
    header_of,
    place,
    position,
    several,
    sign,
    sixteen_bits,
    small,
    tensor_of,
    vector,
    with_carriers,
    with_checksum,
    with_header,
    with_parameters,
)


@vector("7", "VerificationError: non-carrier tensor changed", message="changed after it was signed")
def other_tensor_changed() -> Made:
    """One bit of a tensor that carries nothing."""
    stream = sign(small())
    return Made(edit(stream, position(stream, "fc.weight"), -5))


@vector("7", "VerificationError: non-carrier tensor changed, and named", message="fc.weight")
def localized_change() -> Made:
    """The same under a record that localizes changes."""
    stream = sign(small(), localize=True)
    index = position(stream, "fc.weight")
    return Made(edit(stream, index, -5), details=(("changed_units", [index]),))


@vector("7", "VerificationError: parameter set changed", message="changed after it was signed")
def model_changed() -> Made:
    """Quantization parameter of the whole network: all weights are scaled."""
    return Made(edit(sign(small()), 1, -3, mask=0x04))


@vector(
    "7", "VerificationError: header of the carrier changed", message="changed after it was signed"
)
def carrier_header_changed() -> Made:
    """The carrier's name; its payload is as it was."""
    stream = sign(small())
    return Made(edit(stream, carrier_of(stream), 4))


@vector("7", "VerificationError: unit added", message="changed after it was signed")
def unit_added() -> Made:
    """The last unit twice."""
    units = [unit.read() for unit in sign(small())]
    return Made(b"".join([*units, units[-1]]))


@vector("7", "VerificationError: unit added", message="units were added or taken away")
def localized_unit_added() -> Made:
    """The same under a record that localizes changes: no unit can be named."""
    units = [unit.read() for unit in sign(small(), localize=True)]
    return Made(b"".join([*units, units[-1]]))


@vector("7", "VerificationError: unit taken away", message="changed after it was signed")
def unit_removed() -> Made:
    """The last unit is missing."""
    return Made(b"".join(unit.read() for unit in sign(small()).units[:-1]))


@vector("7", "VerificationError: units swapped", message="changed after it was signed")
def units_swapped() -> Made:
    """Two units behind the carrier change places."""
    units = [unit.read() for unit in sign(small())]
    return Made(b"".join([*units[:-2], units[-1], units[-2]]))


@vector("7", "VerificationError: size field of a non-carrier is longer", message="changed after")
def long_field() -> Made:
    """Four bytes where two would do: another file for the same weights."""
    units = [unit.read() for unit in sign(small())]
    units[-1] = ((len(units[-1]) + 2) | 1 << 31).to_bytes(4, "big") + units[-1][2:]
    return Made(b"".join(units))


@vector("4", "VerificationError: carrier changed", message="changed after it was signed")
def carrier_changed() -> Made:
    """One weight of the original, under the same record."""
    stream = small()
    header = header_of(stream)
    data = frame_of(stream, header)
    (carrier,) = header.carriers
    tensor = tensor_of(stream, carrier)
    indices = tensor.indices.copy()
    indices.reshape(-1)[np.flatnonzero(indices == 5)[0]] = 6
    changed = stream.replace({carrier: encode(tensor.with_indices(indices))})
    return Made(bytes(place(changed, header.carriers, data)))


@vector("4", "VerificationError: other start states in the carrier", message="changed after it was")
def start_states_changed() -> Made:
    """The same weights, coded otherwise: the record comes out, and the original is another."""
    stream = sign(small())
    index = carrier_of(stream)
    contexts = len(tensor_of(stream, index).parameters.start_states)
    return Made(bytes(with_parameters(stream, index, start_states=bytes(contexts))))


@vector("4", "VerificationError: other row flags in the carrier", message="changed after it was")
def row_flags_changed() -> Made:
    """Rows are no longer skipped; the weights are the same."""
    stream = sign(small())
    return Made(bytes(with_parameters(stream, carrier_of(stream), skipped_rows=b"")))


@vector("5", "VerificationError: checksum of the record", message="checksum")
def record_changed() -> Made:
    """The last bit of the signature is flipped, the checksum is as it was."""
    stream = small()
    header = header_of(stream)
    data = bytearray(frame_of(stream, header))
    data[-5] ^= 1
    return Made(bytes(place(stream, header.carriers, bytes(data))))


@vector("5", "VerificationError: padding bit set after the record", message="checksum")
def padding() -> Made:
    """All places behind the record hold ones; everything else is right."""
    stream = small()
    header = header_of(stream)
    data = frame_of(stream, header)
    return Made(bytes(place(stream, header.carriers, data, padding=1)))


@vector("5", "VerificationError: the last bit of the frame has no place", message="checksum")
def frame_cut_short() -> Made:
    """It is a zero, so that a reader that fills up the last byte would not notice."""
    stream = small()
    (carrier,) = header_of(stream).carriers
    tensor = tensor_of(stream, carrier)
    room = capacity(tensor.indices)
    missing = 8 - room % 8
    assert missing < 8
    header = FrameHeader(1, 1, 0, (carrier,))
    size = (room + 7) // 8 - len(bytes(header)) - 4
    header = replace(header, record_size=size)

    def record(text: str) -> bytes:
        return envelope(stream, DOMAIN + bytes(header), header={15: {"meta": {"n": text}}})

    width = next(n for n in range(size) if len(record("x" * n)) == size)
    texts = (f"{n:0{width}}" for n in range(1 << 12))
    frames = (frame_record(header, record(text)) for text in texts)
    frame = next(frame for frame in frames if not frame[-1] % (1 << missing))
    bits = np.unpackbits(np.frombuffer(frame, np.uint8))[:room]
    return Made(bytes(stream.replace({carrier: encode(embed_in(tensor, bits))})))


@vector("5", "VerificationError: record is longer than the places", message="checksum")
def record_too_long() -> Made:
    """The header tells of a record of 2^31 - 65,536 bytes, which is the limit."""
    stream = small()
    header = replace(header_of(stream), record_size=(1 << 31) - 65_536)
    data = bytes(header) + with_checksum(envelope(stream, DOMAIN + bytes(header)))
    return Made(bytes(place(stream, header.carriers, data)))


def with_last(value: int, *, was_zero: bool) -> Made:
    """A release with another value at an even position behind the record."""
    stream = sign(small())
    index = carrier_of(stream)
    tensor = tensor_of(stream, index)
    indices = tensor.indices.copy()
    usable = np.flatnonzero((indices.reshape(-1) == 0) == was_zero)
    indices.reshape(-1)[usable[usable % 2 == 0][-1]] = value
    changed = stream.replace({index: encode(tensor.with_indices(indices))})
    return Made(bytes(changed), details=(("changed_units", [index]),))


@vector("4", "VerificationError: the original of an index is 0", message="conv.weight was changed")
def index_of_zero() -> Made:
    """An index of 1 at an even position, which no embedding makes."""
    return with_last(1, was_zero=True)


@vector("4", "VerificationError: the original of an index is too large", message="conv.weight was")
def large_index() -> Made:
    """2^30, the original of which is 2^29."""
    return with_last(1 << 30, was_zero=False)


def with_second(change: Callable[[QuantizedTensor], QuantizedTensor], bits: int) -> Made:
    """A release whose second carrier is another tensor, all the rest being right."""
    stream = several(2, (30, 50), dependent=False)
    made = sign(stream, carriers=2, bits=(1, bits))
    second = extract(made).header.carriers[1]
    changed = made.replace({second: encode(change(tensor_of(made, second)))})
    return Made(bytes(changed), details=(("changed_units", [second]),))


@vector("4", "VerificationError: a second carrier's step is too large", message="layer1.weight was")
def second_step_too_large() -> Made:
    """No quantization parameter is larger by sixteen octaves than that of the second carrier."""
    return with_second(lambda tensor: with_qp(tensor, 127 - 4 * 16 + 1), 16)


@vector("4", "VerificationError: an index is too large for sixteen bits", message="layer1.weight")
def large_index_of_sixteen_bits() -> Made:
    """Its original is 2^14 - 3, in the second carrier; weights of few bits may be as large."""

    def change(tensor: QuantizedTensor) -> QuantizedTensor:
        indices = tensor.indices.copy()
        indices.reshape(-1)[np.flatnonzero(indices)[-1]] = ((1 << 14) - 3) << 16
        return tensor.with_indices(indices)

    return with_second(change, 16)


@vector("3", "VerificationError: header names a unit that cannot carry", message="does not fit")
def foreign_carrier() -> Made:
    """The header names a tensor of 36 weights."""
    stream = small()
    header = header_of(stream)
    (carrier,) = header.carriers
    bias = position(stream, "conv.bias")
    return with_header(stream, with_carriers(header, carrier, bias))


def with_large(*units: bytes, bits: int = 1) -> Made:
    """A release whose header names tensors that are put in behind all others, of so many bits."""
    stream = Stream.from_bytes(b"".join([bytes(small()), *units]))
    header = header_of(stream)
    large = tuple(range(len(stream) - len(units), len(stream)))
    widths = header.widths + (bits,) * len(large)
    data = bytes(replace(header, carriers=header.carriers + large, widths=widths))
    return Made(bytes(place(stream, header.carriers, data)))


def dense(weights_per_byte: int) -> bytes:
    """A unit of a little more than 2^18 weights, and of so many weights for each byte."""
    rows, columns = 520, 512
    rest = len(float_unit((rows, columns), bytes(1 << 15))) - (1 << 15)
    return float_unit((rows, columns), bytes(rows * columns // weights_per_byte - rest))


@vector("3", "VerificationError: header names a unit of 9 weights a byte", message="does not fit")
def too_dense() -> Made:
    """The header names a tensor that is too large for its unit to be eligible."""
    return with_large(dense(9))


@vector("8", "VerificationError: header names a unit of long codes", message="does not fit")
def too_costly() -> Made:
    """The header names a tensor of 2^17 + 1024 weights, each of up to 22 greater-than flags."""
    return with_large(float_unit((129, 1024), b"\x80", unary_length=22))


@vector("8", "LimitError: cost of the carriers", message="cost")
def too_many_weights() -> Made:
    """Two tensors of 2^17 weights besides its own: just above 2^18, and each is eligible."""
    return with_large(*2 * [float_unit((256, 512), b"\x80")])


@vector("8", "LimitError: cost of the carriers, with one of 8 weights a byte", message="cost")
def dense_enough() -> Made:
    """A tensor that is as large as its unit allows, and one of 2^18 weights in a few bytes."""
    unit = dense(8)
    assert 8 * len(unit) == 520 * 512
    return with_large(unit, float_unit((512, 512), b"\x80"))


@vector("8", "LimitError: cost of the carriers, of long codes", message="cost")
def too_many_flags() -> Made:
    """Two tensors of 2^16 weights, each of up to 22 greater-than flags."""
    return with_large(*2 * [float_unit((128, 512), b"\x80", unary_length=22)])


@vector("8", "LimitError: cost of a carrier of sixteen bits", message="cost")
def too_many_bits() -> Made:
    """A tensor of 2^16 + 256 weights, whose weights hold sixteen bits."""
    return Made(bytes(sign(sixteen_bits(257), bits=16)))


@vector("8", "LimitError: cost of carriers of five bits", message="cost")
def too_many_bits_in_all() -> Made:
    """With two tensors of five bits besides its own the cost is 2^18 and a half, not rounded."""
    rows = (102_641, 102_409)
    assert 5832 * 4 + 5 * sum(rows) == 4 * (1 << 18) + 2
    return with_large(*(float_unit((each, 1), b"\x80") for each in rows), bits=5)
