"""Vectors that hold no signature, or are no streams."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

import second_coder
import stock
from nnguard._hiding import extract
from nnguard._hiding.frame import FrameHeader
from nnguard._stream import Stream
from nnguard._stream.quantized import encode
from one_tensor import embed_in, with_qp
from vectors.toolbox import (
    OTHER,
    Made,
    attach,
    carrier_of,
    edit,
    envelope,
    far_away,
    frame_of,
    header_of,
    hide,
    place,
    plan,
    position,
    several,
    sign,
    small,
    tensor_of,
    text_bits,
    ue,
    vector,
    weights,
    with_carriers,
    with_checksum,
    with_header,
    with_long_field,
    with_payload,
)


@vector("2.1", "FormatError: not a stream", message="no start unit")
def not_a_stream() -> Made:
    """A text file."""
    return Made(b"\0\x20 This is not a stream of units.\n")


@vector("2.1", "FormatError: empty", message="not an NNCodec stream")
def empty() -> Made:
    """No bytes at all."""
    return Made(b"")


@vector("2.1", "FormatError: unit runs past the end", message="are left")
def truncated() -> Made:
    """The last byte is missing."""
    return Made(bytes(sign(small()))[:-1])


@vector("2.1", "FormatError: bytes after the last unit", message="are left")
def trailing() -> Made:
    """Three bytes too many, which would be a unit of 21,569 bytes."""
    return Made(bytes(sign(small())) + b"TAG")


@vector("2.1", "FormatError: unit shorter than its header", message="unit of 2 bytes")
def unit_too_short() -> Made:
    """A unit of size 2."""
    return Made(bytes(sign(small())) + b"\0\2\0")


@vector("2.1", "FormatError: second start unit", message="second start unit")
def second_start() -> Made:
    """Two streams in a row."""
    return Made(2 * bytes(sign(small())))


@vector("2.1", "FormatError: start unit with a partial data counter", message="no start unit")
def partial_start() -> Made:
    """Its profile would be read at another place."""
    return Made(edit(sign(small()), 0, 2))


@vector("2.1", "FormatError: start unit with a long size field", message="no start unit")
def long_start() -> Made:
    """Four bytes where two would do."""
    units = [unit.read() for unit in sign(small())]
    units[0] = (6 | 1 << 31).to_bytes(4, "big") + units[0][2:]
    return Made(b"".join(units))


@vector("2.1", "FormatError: first unit is no start unit", message="no start unit")
def layer_set_first() -> Made:
    """A long size field, whose third byte looks like a start unit in a file of this size."""
    units = [unit.read() for unit in sign(small())]
    unknown = (0x8400 | 1 << 31).to_bytes(4, "big") + bytes([33 << 2]) + bytes(0x8400 - 5)
    first = (6 | 1 << 31).to_bytes(4, "big") + bytes([2 << 2, 1])
    return Made(b"".join([first, *units[1:], unknown]))


@vector("2.1", "FormatError: second model parameter set", message="second model parameter set")
def second_model() -> Made:
    """The parameter set twice."""
    units = [unit.read() for unit in sign(small())]
    return Made(b"".join([*units[:2], *units[1:]]))


@vector("2.1", "FormatError: data before the model parameter set", message="before the model")
def no_model() -> Made:
    """The parameter set is missing."""
    units = [unit.read() for unit in sign(small())]
    return Made(units[0] + b"".join(units[2:]))


@vector("2.3", "FormatError: alignment bits of a unit header", message="alignment")
def alignment() -> Made:
    """The last byte of a header is changed."""
    stream = sign(small())
    index = carrier_of(stream)
    tensor = stream[index].tensor
    assert tensor is not None
    return Made(edit(stream, index, tensor.payload_offset - 1))


@vector("2.3", "FormatError: name is not UTF-8", message="not UTF-8")
def bad_name() -> Made:
    """The first byte of a tensor's name is 0xff."""
    stream = sign(small())
    index = position(stream, "steps")
    return Made(edit(stream, index, 4, mask=0xFF ^ ord("s")))


@vector("2.3", "FormatError: tensor of 33 dimensions", message="33 dimensions")
def many_dimensions() -> Made:
    """One more than there may be."""
    bits = "00001001" + text_bits("w") + "0" + "00" + "100000" + ue(33, 1) + 33 * ue(1, 7)
    bits += ue(0, 1) + "0000" + "1"
    bits += "0" * (-len(bits) % 8)
    body = bytes([5 << 2]) + int(bits, 2).to_bytes(len(bits) // 8, "big")
    unit = (len(body) + 2).to_bytes(2, "big") + body
    return Made(b"".join(unit.read() for unit in small().units[:2]) + unit)


@vector("5.1", "FormatError: the tensor that would hold a record is damaged", message="is damaged")
def damaged_carrier() -> Made:
    """One bit of the carrier's payload is flipped, so that nothing can be read there."""
    stream = sign(small())
    index = carrier_of(stream)
    tensor = stream[index].tensor
    assert tensor is not None
    return Made(edit(stream, index, tensor.payload_offset + 40))


def damaged(change: Callable[[bytes], bytes], **options: bool) -> Made:
    """A release whose carrier has another payload."""
    stream = sign(small(**options))
    return with_payload(stream, carrier_of(stream), change)


@vector("2.4.1", "FormatError: payload ends too early", message="ends too early")
def payload_cut() -> Made:
    """Its last byte is missing."""
    return damaged(lambda payload: payload[:-1])


@vector("2.4.1", "FormatError: byte after the end of a payload", message="behind the end")
def payload_goes_on() -> Made:
    """A zero byte."""
    return damaged(lambda payload: payload + b"\0")


@vector("2.4.1", "FormatError: no payload", message="ends too early")
def payload_empty() -> Made:
    """The unit ends with its header."""
    return damaged(lambda _: b"")


@vector("2.4.1", "FormatError: stop bit of a payload is 0", message="wrong stop bits")
def payload_stop_bit() -> Made:
    """The last bit that is 1 is cleared; the terminating bin is the same."""

    def cleared(payload: bytes) -> bytes:
        return payload[:-1] + bytes([payload[-1] & payload[-1] - 1])

    return damaged(cleared)


@vector("2.4.1", "FormatError: bit after the stop bit of a payload", message="wrong stop bits")
def payload_bit_behind() -> Made:
    """The last bit of the last byte is 1, behind the stop bit."""

    def set_last(payload: bytes) -> bytes:
        assert not payload[-1] & 1
        return payload[:-1] + bytes([payload[-1] | 1])

    return damaged(set_last, dependent=True)


@vector("2.4.1", "FormatError: payload begins with 510", message="first bits that")
def payload_begins_510() -> Made:
    """Its first nine bits are a number that no encoder writes."""
    return damaged(lambda payload: b"\xff" + bytes([payload[1] & 0x7F]) + payload[2:])


@vector("2.4.5", "FormatError: prefix of an index has 31 ones", message="beyond 32 bits")
def payload_prefix() -> Made:
    """It would be an index beyond 2^31; the first one of the tensor."""
    stream = sign(small())
    tensor = tensor_of(stream, carrier_of(stream))
    plan = second_coder.Plan(rows=36, width=162, dependent=False, unary_length=11)
    writer = second_coder.Writer(plan)
    writer.bypass(8, tensor.qp)
    writer.bypass(1, 0)
    for _ in range(plan.total):
        writer.bin(plan.total + 1, False)
    with contextlib.suppress(second_coder.Damaged):
        second_coder.code_integer(writer, plan, 0, 0, 11 + (1 << 31))
    writer.end()
    assert tensor.header.unary_length == plan.unary_length
    return damaged(lambda _: writer.payload + bytes(99))


@vector("5.1", "FormatError: size field of the carrier is longer", message="unusual size field")
def carrier_long_field() -> Made:
    """Four bytes where two would do: nothing is read there, and no other tensor has a header."""
    stream = sign(small())
    return with_long_field(stream, carrier_of(stream))


@vector("7", "FormatError: the second carrier is damaged", message="is damaged")
def second_carrier_damaged() -> Made:
    """The last byte of its payload is missing."""
    stream = sign(several(2, (30, 50), dependent=False), carriers=2)
    return with_payload(stream, extract(stream).header.carriers[1], lambda payload: payload[:-1])


@vector(
    "2.4.10",
    "FormatError: size field of the second carrier is longer",
    message="unusual size field",
)
def second_carrier_long_field() -> Made:
    """Four bytes where two would do."""
    stream = sign(several(2, (30, 50), dependent=False), carriers=2)
    return with_long_field(stream, extract(stream).header.carriers[1])


@vector("5.1", "NoRecordError: the second in order is damaged", message="holds no record")
def second_damaged() -> Made:
    """The first in order is whole, and has no header; no other has one."""
    stream = several(2, (50, 60))
    return with_payload(stream, carrier_of(stream) + 1, lambda payload: payload[:-1])


@vector("7", "NoRecordError: not signed", message="holds no record")
def unsigned() -> Made:
    """As it comes from the encoder."""
    return Made(bytes(small()))


@vector("3", "NoRecordError: no tensor can carry", message="holds no record")
def nothing_eligible() -> Made:
    """All tensors have fewer than 256 weights."""
    return Made(stock.encode({"w": weights((15, 17), 3)}, qp=-24))


@vector("3", "NoRecordError: the header lies in the ninth tensor", message="holds no record")
def ninth_tensor() -> Made:
    """Eight tensors are nearer to 2,048 weights; no more are looked at."""
    nearer = np.zeros((80, 80), np.float32)
    nearer[0, 0] = 1
    arrays = {"w": weights((100, 100), 6), **{f"nearer{n}": nearer for n in range(8)}}
    stream = Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=False))
    return with_header(stream, FrameHeader(1, 1, 0, (position(stream, "w"),)))


@vector("3", "NoRecordError: the header lies beyond 2^18 weights", message="holds no record")
def beyond_sum_of_weights() -> Made:
    """The tensors up to the one with the header have 256 weights too many; the first is whole."""
    stream = far_away(whole=True)
    return with_header(stream, FrameHeader(1, 1, 0, (position(stream, "far"),)))


@vector("5.1", "NoRecordError: a unit was put in before the carrier", message="holds no record")
def shifted() -> Made:
    """The header names a position where another unit is now."""
    units = [unit.read() for unit in sign(small())]
    return Made(b"".join([*units[:2], units[-1], *units[2:]]))


@vector("7", "NoRecordError: the outermost record is an attachment", message="attachment")
def attachment_outermost() -> Made:
    """An attachment on top of a signature."""
    return Made(bytes(attach(sign(small()), b"anything")))


@vector("7", "NoRecordError: the outermost record is of an unknown kind", message="kind 200")
def unknown_kind() -> Made:
    """A record of kind 200."""
    return Made(bytes(hide(small(), lambda _: b"anything", kind=200)))


@vector("5", "NoRecordError: another version of the frame", message="holds no record")
def frame_version() -> Made:
    """The last byte of the magic is 3."""
    stream = small()
    header = header_of(stream)
    fields = bytes(header)[:3] + b"\3" + bytes(header)[4:-4]
    data = with_checksum(fields) + with_checksum(envelope(stream, b""))
    return Made(bytes(place(stream, header.carriers, data)))


@vector("5", "NoRecordError: layer 0", message="holds no record")
def layer_zero() -> Made:
    """Layers count from 1."""
    stream = small()
    return with_header(stream, replace(header_of(stream), layer=0))


@vector("5", "NoRecordError: no carriers", message="holds no record")
def no_carriers() -> Made:
    """The list of the header is empty; the checksum is right."""
    stream = small()
    header = header_of(stream)
    data = frame_of(stream, with_carriers(header))
    return Made(bytes(place(stream, header.carriers, data)))


@vector("5.1", "NoRecordError: two bits in a weight", message="holds no record")
def other_bits_per_weight() -> Made:
    """The header states 2 bits in a weight of the primary carrier, where they hold 1."""
    stream = small()
    header = header_of(stream)
    data = frame_of(stream, with_carriers(header, *header.carriers, bits=2))
    return Made(bytes(place(stream, header.carriers, data)))


@vector("5", "VerificationError: another number of bits in a second carrier", message="checksum")
def other_bits_in_second() -> Made:
    """The header states 2 bits in a weight of the second carrier, where they hold 3."""
    stream = several(2, (30, 50), dependent=False)
    header = plan(stream, 1, len(envelope(stream, b"")), 2)
    stated = replace(header, widths=(1, 2))
    data = frame_of(stream, stated)
    return Made(bytes(place(stream, header.carriers, data, bits=(1, 3))))


@vector("5", "NoRecordError: checksum of the header", message="holds no record")
def header_checksum() -> Made:
    """One bit of the header's checksum is wrong."""
    stream = small()
    header = header_of(stream)
    data = bytearray(frame_of(stream, header))
    data[len(bytes(header)) - 1] ^= 1
    return Made(bytes(place(stream, header.carriers, bytes(data))))


@vector(
    "5", "NoRecordError: number in the header takes more bytes than it needs", message="no record"
)
def long_number() -> Made:
    """The carrier is written as two bytes; the checksum is right."""
    stream = small()
    header = header_of(stream)
    fields = bytearray(bytes(header)[:-4])
    fields[12:13] = bytes([fields[12] | 0x80, 0])
    fields[6:8] = (len(fields) + 4).to_bytes(2, "big")
    data = with_checksum(bytes(fields)) + with_checksum(envelope(stream, b""))
    return Made(bytes(place(stream, header.carriers, data)))


@vector("5.1", "NoRecordError: header names another tensor first", message="holds no record")
def other_primary() -> Made:
    """The header lies in a tensor that it does not list first."""
    stream = several(2, (50, 60), dependent=False)
    first, second = plan(stream, 1, 400, 2).carriers
    header = FrameHeader(1, 1, len(envelope(stream, b"")), (second, first))
    data = frame_of(stream, header)
    return Made(bytes(place(stream, (first, second), data)))


@vector("5", "NoRecordError: position listed twice", message="holds no record")
def carrier_twice() -> Made:
    """The header names the primary carrier twice."""
    stream = small()
    header = header_of(stream)
    listed = with_carriers(header, *2 * header.carriers)
    data = frame_of(stream, listed)
    return Made(bytes(place(stream, header.carriers, data)))


@vector("5", "NoRecordError: position listed twice, with other bits", message="holds no record")
def carrier_twice_otherwise() -> Made:
    """The numbers differ: weights of the primary carrier hold one bit, and two as well."""
    stream = small()
    header = header_of(stream)
    listed = replace(with_carriers(header, *2 * header.carriers), widths=(1, 2))
    return Made(bytes(place(stream, header.carriers, frame_of(stream, listed))))


@vector("5", "NoRecordError: record beyond the limit", message="holds no record")
def record_beyond_limit() -> Made:
    """The header tells of a record of 2^31 - 65,535 bytes; its checksum is right."""
    stream = small()
    header = header_of(stream)
    fields = bytearray(bytes(header)[:-4])
    fields[8:12] = ((1 << 31) - 65_535).to_bytes(4, "big")
    data = with_checksum(bytes(fields)) + with_checksum(envelope(stream, b""))
    return Made(bytes(place(stream, header.carriers, data)))


@vector("4", "NoRecordError: no step is twice that of the tensor", message="holds no record")
def largest_step() -> Made:
    """The tensor's quantization parameter is the largest but three; all else is right."""
    stream = small()
    header = header_of(stream)
    data = frame_of(stream, header)
    (carrier,) = header.carriers
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    changed = with_qp(embed_in(tensor_of(stream, carrier), bits), 124)
    return Made(bytes(stream.replace({carrier: encode(changed)})))


@vector("7", "WrongKeyError: signed by a key that is not trusted", message="not among")
def wrong_key() -> Made:
    """Signed by the other test key; only the vendor's is trusted."""
    return Made(bytes(sign(small(), OTHER)))
