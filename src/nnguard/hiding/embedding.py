"""Records into streams and out again.

Law: `extract(embed(stream, record))` returns the record and a stream of the same bytes. A record is
embedded in a stream and yields a stream, so records nest; the last one in is the first one out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnguard.errors import (
    CapacityError,
    FormatError,
    LimitError,
    NoRecordError,
    VerificationError,
)
from nnguard.hiding import hqim
from nnguard.hiding.carriers import (
    MAX_PEAK,
    can_carry,
    candidates,
    channels,
    check_work,
    find_header,
    outermost_layer,
    primary_candidates,
    stride_of,
)
from nnguard.hiding.frame import Carrier, FrameHeader, frame_record, unframe_record
from nnguard.hiding.plan import choose_peaks, total_capacity
from nnguard.stream import Stream
from nnguard.stream.coding import QuantisedTensor, decode, encode, find_settings

__all__ = ["Extraction", "Plan", "capacity_of", "embed", "extract", "plan_record"]

MAX_WEIGHTS_IN_ALL = 1 << 26
"""Weights of all carriers of a record, at most; they are decoded and encoded twice."""

_DENSITY = 1 / 16
"""Bits for each weight; more carriers are taken until there are no more than this."""

_CHECKSUM_BITS = 32
_SHORTEST_HEAD = 8 * 21
"""Bits of a head that lists one peak."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Where a record of a given size goes; made by `plan_record`.

    Attributes:
        stream: The stream that the record goes into.
        header: The frame's header. Records authenticate its bytes.
        distortion: Expected sum of squared changes of the weights.
    """

    stream: Stream
    header: FrameHeader
    distortion: float
    _tensors: tuple[QuantisedTensor, ...]

    def onto(self, stream: Stream) -> Plan:
        """Return the plan for a stream that differs only in units that carry nothing of it."""
        return replace(self, stream=stream)

    def embed(self, record: bytes) -> Stream:
        """Return the stream with the record in it.

        Args:
            record: `header.record_size` bytes.
        """
        bits = _to_bits(frame_record(self.header, record))
        units: dict[int, bytes] = {}
        for carrier, tensor in zip(self.header.carriers, self._tensors, strict=True):
            stride = stride_of(tensor.header)
            places = hqim.capacity(tensor.indices, carrier.peaks, stride=stride)
            marked = hqim.embed(tensor.indices, carrier.peaks, bits[:places], stride=stride)
            units[carrier.unit] = _encode_marked(tensor.with_indices(marked))
            bits = bits[places:]
        marked_stream = self.stream.replace(units)
        taken = extract(marked_stream)
        before = {index: self.stream[index].read() for index in units}
        if taken.header != self.header or taken.record != record or taken.restored != before:
            raise FormatError("this stream misleads the search for a record; it cannot carry one")
        return marked_stream


@dataclass(frozen=True, slots=True, eq=False)
class Extraction:
    """A record taken out of a stream.

    Attributes:
        header: The frame's header.
        record: The record's bytes.
        original: The stream as it was before the record went in.
        restored: Position and original bytes of each carrier.
    """

    header: FrameHeader
    record: bytes
    original: Stream
    restored: dict[int, bytes]

    def digests_of_original(self, digests: Sequence[bytes]) -> list[bytes]:
        """Return the SHA-256 of every unit of the original.

        Args:
            digests: Those of the stream with the record in it.
        """
        result = list(digests)
        for index, unit in self.restored.items():
            result[index] = hashlib.sha256(unit).digest()
        return result


def plan_record(stream: Stream, kind: int, size: int, *, density: float = _DENSITY) -> Plan:
    """Choose where a record goes, decoding only the tensors that it goes into.

    Args:
        stream: The stream.
        kind: A `RecordKind`.
        size: Bytes of the record.
        density: Bits for each weight of the carriers, at most, as long as there are more carriers.

    Raises:
        CapacityError: The stream has not enough room.
        LimitError: The stream holds too many records, or the record is too large.
    """
    needed = _SHORTEST_HEAD + 8 * size + _CHECKSUM_BITS
    weights = 0
    positions: list[int] = []
    tensors: list[QuantisedTensor] = []
    primaries = set(primary_candidates(stream))
    for index in candidates(stream):
        if not tensors and index not in primaries:
            continue
        tensor = _read_carrier(stream, index, as_primary=not tensors)
        if tensor is None:
            continue
        weights += tensor.indices.size
        if weights > MAX_WEIGHTS_IN_ALL:
            break
        positions.append(index)
        tensors.append(tensor)
        if needed <= weights * density:
            plan = _plan_for(stream, kind, size, positions, tensors)
            if plan is not None:
                return plan
            density /= 2
    plan = _plan_for(stream, kind, size, positions, tensors) if tensors else None
    if plan is None:
        room = sum(map(total_capacity, tensors))
        raise CapacityError(
            "the record does not fit into the stream",
            needed=needed,
            available=room,
            hint="a larger network, or one compressed at a finer step, has more room",
        )
    return plan


def embed(stream: Stream, record: bytes, *, kind: int) -> Stream:
    """Hide a record in a stream; see `plan_record` for errors."""
    return plan_record(stream, kind, len(record)).embed(record)


def extract(stream: Stream) -> Extraction:
    """Take the outermost record out of a stream and restore the stream that it went into.

    The stream is what `Plan.embed` makes of the result, byte for byte in every carrier; a stream
    for which that is not so is refused.

    Raises:
        NoRecordError: There is no record.
        FormatError: There is none, and where one would be, the tensor is damaged or foreign.
        VerificationError: The record was changed.
    """
    header, primary = _locate(stream)
    _check_carriers(stream, header)
    bits: list[hqim.Bits] = []
    restored: dict[int, bytes] = {}
    for carrier in header.carriers:
        tensor = primary if carrier is header.carriers[0] else decode(stream[carrier.unit])
        tensor = replace(tensor, parameter_optimisation=carrier.parameter_optimisation)
        found, restored[carrier.unit] = _take_out(stream, carrier, tensor)
        bits.append(found)
    hidden = np.concatenate(bits)
    record = unframe_record(header, hqim.whole_bytes(hidden))
    if record is None or hidden[_to_bits(frame_record(header, record)).size :].any():
        raise VerificationError("the hidden record was changed: its checksum does not fit")
    return Extraction(header, record, stream.replace(restored), restored)


def capacity_of(stream: Stream, index: int) -> int:
    """Return the bits that the unit at a position can hold, all peaks used; 0 for no carrier."""
    tensor = find_settings(stream[index])
    return 0 if tensor is None else total_capacity(tensor)


def _read_carrier(stream: Stream, index: int, *, as_primary: bool) -> QuantisedTensor | None:
    """Decode a carrier; None for a tensor that cannot be one, or not the primary one."""
    tensor = find_settings(stream[index])
    if tensor is None or not as_primary:
        return tensor
    stride = stride_of(tensor.header)
    largest = max(int(channel.counts[:-1].max()) for channel in channels(tensor.indices, stride))
    if largest >= _SHORTEST_HEAD:
        return tensor
    if find_header(tensor.indices, stride) is not None:
        # A reader stops at this tensor, so no other can be the primary carrier.
        raise CapacityError(
            f"tensor {tensor.header.name} has no room for another record",
            needed=_SHORTEST_HEAD,
            available=largest,
        )
    return None


def _plan_for(
    stream: Stream,
    kind: int,
    size: int,
    positions: Sequence[int],
    tensors: Sequence[QuantisedTensor],
) -> Plan | None:
    layer = 1 + outermost_layer(tensors[0].indices, stride_of(tensors[0].header))
    head, directory = _SHORTEST_HEAD, 0
    while True:  # until the header fits that lists the peaks that were chosen for its size
        header_bits = head + directory
        choice = choose_peaks(
            tensors,
            header_bits + 8 * size + _CHECKSUM_BITS,
            head=head,
            header=header_bits,
        )
        if choice is None:
            return None
        carriers = tuple(
            Carrier(index, tensor.parameter_optimisation, peaks)
            for index, tensor, peaks in zip(positions, tensors, choice.peaks, strict=True)
            if peaks
        )
        header = FrameHeader(kind, layer, size, carriers)
        actual = 8 * len(bytes(header))
        if (
            8 * len(header.head) <= choice.first_bits
            and actual <= choice.primary_bits
            and actual + 8 * size + _CHECKSUM_BITS <= choice.bits
        ):
            used = {carrier.unit for carrier in carriers}
            kept = [t for i, t in zip(positions, tensors, strict=True) if i in used]
            return Plan(stream, header, choice.distortion, tuple(kept))
        head = max(8 * len(header.head), head + 8)
        directory = max(8 * len(header.directory), directory)


def _locate(stream: Stream) -> tuple[FrameHeader, QuantisedTensor]:
    """Find the primary carrier and the header of the outermost record in it."""
    order = primary_candidates(stream)
    for index in order:
        try:
            tensor = decode(stream[index])
        except FormatError:
            continue
        header = find_header(tensor.indices, stride_of(tensor.header))
        if header is not None and header.carriers[0].unit == index:
            return header, tensor
    if order and find_settings(stream[order[0]]) is None:
        raise FormatError(
            f"no record, and tensor {stream[order[0]].name}, which would hold one, is damaged "
            "or was written by an encoder that nnguard does not know",
            offset=sum(unit.size for unit in stream.units[: order[0]]),
        )
    raise NoRecordError("the stream holds no record")


def _check_carriers(stream: Stream, header: FrameHeader) -> None:
    """Refuse a header that lists what cannot be, before anything is done about it."""
    work = weights = 0
    for carrier in header.carriers:
        known = carrier.unit < len(stream) and can_carry(stream[carrier.unit])
        if not known or any(abs(peak.value) > MAX_PEAK for peak in carrier.peaks):
            raise VerificationError("the header of the hidden record does not fit the stream")
        tensor = stream[carrier.unit].tensor
        assert tensor is not None
        weights += tensor.size
        work += tensor.size * len(carrier.peaks)
    if weights > MAX_WEIGHTS_IN_ALL:
        raise LimitError(f"the record lies in {weights} weights; limit {MAX_WEIGHTS_IN_ALL}")
    check_work(work)


def _take_out(stream: Stream, carrier: Carrier, tensor: QuantisedTensor) -> tuple[hqim.Bits, bytes]:
    """Take the bits out of one carrier: all its places, and its unit's original bytes."""
    unit, stride = stream[carrier.unit], stride_of(tensor.header)
    bits, indices = hqim.extract(tensor.indices, carrier.peaks, stride=stride)
    try:
        again = hqim.embed(indices, carrier.peaks, bits, stride=stride)
        unchanged = np.array_equal(again, tensor.indices) and _encode_marked(tensor) == unit.read()
        original = encode(tensor.with_indices(indices))
    except ValueError:
        unchanged, original = False, b""
    if not unchanged:
        raise VerificationError(f"tensor {unit.name} was changed", tensors=[unit.name])
    return bits, original


def _encode_marked(tensor: QuantisedTensor) -> bytes:
    """Encode a tensor that holds bits: without parameter optimisation, which is three times faster.

    Every reader does this to make sure that the unit has the one form that is valid.
    """
    return encode(replace(tensor, parameter_optimisation=False))


def _to_bits(data: bytes) -> hqim.Bits:
    return np.unpackbits(np.frombuffer(data, np.uint8))
