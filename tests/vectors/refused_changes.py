"""Vectors that were signed, and changed afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import stock
from nnguard.hiding import extract, hqim
from nnguard.hiding.frame import Carrier, FrameHeader, frame_record
from nnguard.hiding.hqim import Peak
from nnguard.stream import Stream
from nnguard.stream.coding import encode
from vectors.toolbox import (
    DOMAIN,
    Made,
    carrier_of,
    carrier_of_any,
    edit,
    encode_marked,
    envelope,
    header_of,
    place,
    position,
    several,
    sign,
    small,
    tensor_of,
    vector,
    with_checksum,
    with_header,
)


@vector("VerificationError: non-carrier tensor changed", message="changed after it was signed")
def other_tensor_changed() -> Made:
    """One bit of a tensor that carries nothing."""
    stream = sign(small())
    return Made(edit(stream, position(stream, "fc.weight"), -5))


@vector("VerificationError: non-carrier tensor changed, and named", message="fc.weight")
def localized_change() -> Made:
    """The same under a record that localises changes."""
    stream = sign(small(), localize=True)
    index = position(stream, "fc.weight")
    return Made(edit(stream, index, -5), details=(("tensors", [index]),))


@vector("VerificationError: parameter set changed", message="changed after it was signed")
def model_changed() -> Made:
    """Quantisation parameter of the whole network: all weights are scaled."""
    return Made(edit(sign(small()), 1, -3, mask=0x04))


@vector("VerificationError: header of the carrier changed", message="changed after it was signed")
def carrier_header_changed() -> Made:
    """The carrier's name; its payload is as it was."""
    stream = sign(small())
    return Made(edit(stream, carrier_of(stream), 4))


@vector("VerificationError: unit added", message="changed after it was signed")
def unit_added() -> Made:
    """The last unit twice."""
    units = [unit.read() for unit in sign(small())]
    return Made(b"".join([*units, units[-1]]))


@vector("VerificationError: unit added", message="units were added or taken away")
def localized_unit_added() -> Made:
    """The same under a record that localises changes: no unit can be named."""
    units = [unit.read() for unit in sign(small(), localize=True)]
    return Made(b"".join([*units, units[-1]]))


@vector("VerificationError: unit taken away", message="changed after it was signed")
def unit_removed() -> Made:
    """The last unit is missing."""
    return Made(b"".join(unit.read() for unit in sign(small()).units[:-1]))


@vector("VerificationError: units swapped", message="changed after it was signed")
def units_swapped() -> Made:
    """Two units behind the carrier change places."""
    units = [unit.read() for unit in sign(small())]
    return Made(b"".join([*units[:-2], units[-1], units[-2]]))


@vector("VerificationError: size field of a non-carrier is longer", message="changed after")
def long_field() -> Made:
    """Four bytes where two would do: another file for the same weights."""
    units = [unit.read() for unit in sign(small())]
    units[-1] = ((len(units[-1]) + 2) | 1 << 31).to_bytes(4, "big") + units[-1][2:]
    return Made(b"".join(units))


@vector("VerificationError: size field of a carrier is longer", message="conv.weight was changed")
def carrier_long_field() -> Made:
    """Four bytes where two would do."""
    stream = sign(small())
    units = [unit.read() for unit in stream]
    index = carrier_of(stream)
    units[index] = ((len(units[index]) + 2) | 1 << 31).to_bytes(4, "big") + units[index][2:]
    return Made(b"".join(units), details=(("tensors", [index]),))


@vector("VerificationError: carrier changed", message="changed after it was signed")
def carrier_changed() -> Made:
    """One weight of the original, not at a peak, under the same record."""
    stream = small()
    header = header_of(stream)
    data = frame_record(header, envelope(stream, DOMAIN + bytes(header)))
    (carrier,) = header.carriers
    taken = {peak.value for peak in carrier.peaks}
    tensor = tensor_of(stream, carrier.unit)
    far = max(abs(value) for value in taken) + 1
    old, new = far + 1, far
    indices = tensor.indices.copy()
    indices.reshape(-1)[np.flatnonzero(indices == old)[0]] = new
    changed = stream.replace({carrier.unit: encode(tensor.with_indices(indices))})
    return Made(bytes(place(changed, header.carriers, data)))


@vector(
    "VerificationError: setting of the original is wrong", message="changed after it was signed"
)
def wrong_setting() -> Made:
    """The entry says: no parameter optimisation; header and signature agree with it."""
    stream = small()
    header = header_of(stream)
    (carrier,) = header.carriers
    carrier = replace(carrier, parameter_optimisation=False)
    return with_header(stream, replace(header, carriers=(carrier,)))


@vector("VerificationError: carrier encoded with another setting", message="was changed")
def carrier_encoded_otherwise() -> Made:
    """The same weights, with parameter optimisation: another file that decodes alike."""
    stream = sign(small())
    index = carrier_of(stream)
    tensor = replace(tensor_of(stream, index), parameter_optimisation=True)
    marked = stream.replace({index: encode(tensor)})
    return Made(bytes(marked), details=(("tensors", [index]),))


@vector("VerificationError: second carrier encoded with another setting", message="was changed")
def second_carrier_encoded_otherwise() -> Made:
    """The same in a carrier that the directory lists."""
    stream = sign(several(2, (50, 60), dependent=False), carriers=2)
    index = extract(stream).header.carriers[1].unit
    tensor = replace(tensor_of(stream, index), parameter_optimisation=True)
    marked = stream.replace({index: encode(tensor)})
    return Made(bytes(marked), details=(("tensors", [index]),))


@vector("VerificationError: checksum of the record", message="checksum")
def record_changed() -> Made:
    """The last bit of the signature is flipped, the checksum is as it was."""
    stream = small()
    header = header_of(stream)
    data = bytearray(frame_record(header, envelope(stream, DOMAIN + bytes(header))))
    data[-5] ^= 1
    return Made(bytes(place(stream, header.carriers, bytes(data))))


@vector("VerificationError: padding bit set after the record", message="checksum")
def padding() -> Made:
    """All places behind the record hold ones; everything else is right."""
    stream = small()
    header = header_of(stream)
    data = frame_record(header, envelope(stream, DOMAIN + bytes(header)))
    return Made(bytes(place(stream, header.carriers, data, padding=1)))


@vector("VerificationError: the last bit of the frame has no place", message="checksum")
def frame_cut_short() -> Made:
    """It is a zero, so that a reader that fills up the last byte would not notice."""
    stream = small()
    (carrier,) = header_of(stream).carriers
    tensor = tensor_of(stream, carrier.unit)
    room = hqim.capacity(tensor.indices, carrier.peaks)
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
    values = hqim.embed(tensor.indices, carrier.peaks, bits)
    return Made(bytes(stream.replace({carrier.unit: encode_marked(tensor, values)})))


@vector("VerificationError: record is longer than the places", message="checksum")
def record_too_long() -> Made:
    """The head tells of a record of 2^28 bytes."""
    stream = small()
    header = replace(header_of(stream), record_size=1 << 28)
    data = bytes(header) + with_checksum(envelope(stream, DOMAIN + bytes(header)))
    return Made(bytes(place(stream, header.carriers, data)))


@vector(
    "VerificationError: a peak takes places from one that is listed after it", message="changed"
)
def dependent_peaks() -> Made:
    """Peaks 0 up and 0 down: how many zeros the first finds depends on the bits of the second.
    All else is right: a record that is signed comes out."""
    stream = small()
    index = carrier_of(stream)
    first, second = Peak(0, 1), Peak(0, -1)
    rest = (Peak(1, 1), Peak(2, 1))
    header = header_of(stream)
    header = replace(header, carriers=(Carrier(index, True, (first, second, *rest)),))
    frame = frame_record(header, envelope(stream, DOMAIN + bytes(header)))
    bits = np.unpackbits(np.frombuffer(frame, np.uint8))
    tensor = tensor_of(stream, index)
    zeros = int(np.count_nonzero(tensor.indices == 0))
    # As many bits go into the first peak as the ones of the second leave zeros.
    split = next(n for n in range(zeros) if n + bits[n : n + zeros].sum() == zeros)
    values = hqim.embed(tensor.indices, rest, bits[split + zeros :])
    values = hqim.embed(values, (second,), bits[split : split + zeros])
    values = hqim.embed(values, (first,), bits[:split])
    marked = stream.replace({index: encode_marked(tensor, values)})
    return Made(bytes(marked), details=(("tensors", [index]),))


@vector("VerificationError: header names a unit that cannot carry", message="does not fit")
def foreign_carrier() -> Made:
    """The directory names a tensor of one dimension."""
    stream = small()
    header = header_of(stream)
    (carrier,) = header.carriers
    bias = Carrier(position(stream, "conv.bias"), True, (Peak(1, 1),))
    return with_header(stream, replace(header, carriers=(carrier, bias)))


@vector("VerificationError: peak beyond 4096", message="does not fit")
def far_peak() -> Made:
    """The head lists the peak 4097, where nothing is."""
    stream = small()
    header = header_of(stream)
    (carrier,) = header.carriers
    peaks = (*carrier.peaks, Peak(4097, 1))
    return with_header(stream, replace(header, carriers=(replace(carrier, peaks=peaks),)))


@vector("LimitError: weights times peaks", message="steps")
def too_much_work() -> Made:
    """4,097 peaks in a tensor of 2^20 weights, which is just above 2^32."""
    values = np.zeros((1024, 1024), np.float32)
    values[:48] = 1
    data = stock.encode({"w": values}, qp=0, dependent=False, parameter_optimisation=False)
    stream = Stream.from_bytes(data)
    index = carrier_of_any(stream)
    peaks = (Peak(1, 1),) * 4097
    header = FrameHeader(1, 1, 0, (Carrier(index, False, peaks),))
    room = Carrier(index, False, peaks[:1])
    return Made(bytes(place(stream, (room,), bytes(header))))
