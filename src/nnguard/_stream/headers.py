"""What the headers of units say: model parameter set and compressed data units.

Follows the syntax of ISO/IEC 15938-17 as the stock coder writes and reads it. Reads headers only,
never a tensor. A header that uses a tool that nnguard does not handle (blocks, codebooks, parents,
decomposition) makes the unit opaque: it is carried as bytes. Law: `write_tensor_header` gives the
bytes that `parse_tensor_header` reads.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nnguard._stream.bits import BitReader, BitWriter
from nnguard.errors import FormatError

__all__ = [
    "LEAST_COST",
    "DataFormat",
    "EntryPoint",
    "ModelParameters",
    "PayloadType",
    "TensorHeader",
    "UnitKind",
    "parse_model_parameters",
    "parse_tensor_header",
    "write_model_parameters",
    "write_tensor_header",
]

_POSITION_BITS = 34
"""Units have at most 2^31 bytes."""

MAX_DIMENSIONS = 32
"""NumPy 1 handles this many; no network has more."""

LEAST_COST = 1 << 11
"""Of decoding a tensor, in weights, however few it has; for sums over many."""

_USUAL_UNARY_LENGTH = 11
"""What the stock encoder writes."""

MAX_SCAN_ORDER = 4
"""Blocks of 64 rows and columns are the largest that the standard has."""


class UnitKind(enum.IntEnum):
    """`nnr_unit_type` of the standard."""

    STR = 0
    MPS = 1
    LPS = 2
    TPL = 3
    QNT = 4
    NDU = 5
    AGG = 6


class PayloadType(enum.IntEnum):
    """`nnr_compressed_data_unit_payload_type` of the standard."""

    INT = 0
    FLOAT = 1
    RAW_FLOAT = 2
    BLOCK = 3


class DataFormat(enum.IntEnum):
    """`nnr_decompressed_data_format` of the standard: what a tensor was before it was coded."""

    INT32 = 0
    FLOAT32 = 1
    INT8 = 5
    INT16 = 6
    INT64 = 7
    FLOAT16 = 8
    FLOAT64 = 9


@dataclass(frozen=True, slots=True)
class ModelParameters:
    """What the start unit and the model parameter set fix for all tensors.

    Attributes:
        profile: `general_profile_idc`, 0 or 1.
        qp_density: Steps an octave are `2**qp_density`; None where the set has no quantization.
        base_qp: Added to each tensor's own quantization parameter.
        indexed_names: Tensors are named by index into the topology unit.
        parent_signalling: Tensors may refer to those of a parent model.
    """

    profile: int
    qp_density: int | None
    base_qp: int
    indexed_names: bool
    parent_signalling: bool


class EntryPoint(NamedTuple):
    """Where a row of blocks begins, so that decoders can work in parallel.

    Attributes:
        offset: Bits from where the first integer begins.
        value: The arithmetic decoder's window there, less the low end of the interval.
        state: Of the trellis.
    """

    offset: int
    value: int
    state: int


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Header of a data unit that nnguard understands.

    Attributes:
        name: The tensor's name.
        payload_type: FLOAT (quantized), INT or RAW_FLOAT.
        shape: Dimensions; scalars are stored with shape `(1,)`.
        dependent: Trellis-coded quantization (`dq_flag`), otherwise uniform (URQ).
        unary_length: Greater-than flags of the binarization (`cabac_unary_length_minus1 + 1`).
        profile: `general_profile_idc`.
        qp_density: See `ModelParameters`.
        base_qp: See `ModelParameters`.
        scan_order: 0 for row by row; above, in blocks of `4 << scan_order` rows and columns.
        data_format: `nnr_decompressed_data_format`; None where the header does not tell.
        payload_offset: Bytes from the unit's start to its entropy-coded payload.
        entry_points: Of all rows of blocks but the first.
    """

    name: str
    payload_type: PayloadType
    shape: tuple[int, ...]
    dependent: bool
    unary_length: int
    profile: int
    qp_density: int
    base_qp: int
    scan_order: int
    data_format: int | None
    payload_offset: int
    entry_points: tuple[EntryPoint, ...] = ()

    @property
    def width(self) -> int:
        """Weights of a row: of all dimensions but the first."""
        return math.prod(self.shape[1:])

    @property
    def qp_bits(self) -> int:
        """Bits of the quantization parameter in the payload; integers have none."""
        return 6 + self.qp_density if self.payload_type == PayloadType.FLOAT else 0

    @property
    def in_blocks(self) -> bool:
        """Whether the tensor is coded in blocks; a single row or column has none."""
        return self.scan_order > 0 and self.shape[0] > 1 and self.width > 1

    @property
    def block_height(self) -> int:
        """Rows of a block."""
        return 4 << self.scan_order

    @property
    def block_rows(self) -> int:
        """Rows of blocks; one where the tensor is not coded in blocks."""
        return -(-self.shape[0] // self.block_height) if self.in_blocks else 1

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def cost(self) -> int:
        """What decoding takes, in weights: those of a longer binarization count for more."""
        return self.size * max(self.unary_length, _USUAL_UNARY_LENGTH) // _USUAL_UNARY_LENGTH


def parse_model_parameters(data: bytes, profile: int, offset: int) -> ModelParameters:
    """Parse the payload of a model parameter set.

    Args:
        data: Bytes after the unit's header.
        profile: `general_profile_idc` of the start unit.
        offset: Where `data` lies in the stream.

    Raises:
        FormatError: The payload ends too early.
    """
    bits = BitReader(data, offset)
    bits.u(5)  # topology carriage, sparsification, pruning, unification, decomposition
    quantization = bits.u(3)
    indexed_names = bits.flag()
    parent_signalling = False
    if profile == 1:
        base_model = bits.flag()
        validation, metric = bits.flag(), bits.flag()
        parent_signalling = bits.flag()
        bits.u(3)
        if base_model:
            bits.text()
        if validation or metric:
            bits.text()
    else:
        bits.u(7)
    qp_density, base_qp = (bits.u(3), bits.i(13)) if quantization & 3 else (None, 0)
    return ModelParameters(profile, qp_density, base_qp, indexed_names, parent_signalling)


def parse_tensor_header(
    data: bytes,
    fields_at: int,
    model: ModelParameters,
    offset: int,
    *,
    carriers_only: bool = True,
    with_entry_points: bool = True,
) -> tuple[str, TensorHeader | None]:
    """Parse the header of a data unit.

    Args:
        data: The unit's first bytes, at least as many as its header has.
        fields_at: Where the fields of the data unit begin in `data`.
        model: What the stream said before.
        offset: Where `data` lies in the stream.
        carriers_only: Stop at headers that no carrier has, of scan orders above 0 (with thousands
            of entry points) and of empty tensors.
        with_entry_points: Read those, too, and so where the payload begins.

    Returns:
        The tensor's name (empty where it is not spelled out) and its header, or None for the header
        where it uses something that nnguard carries as opaque bytes.

    Raises:
        FormatError: The header is damaged.
    """
    bits = BitReader(data[fields_at:], offset + fields_at)
    fields = bits.u(8)
    payload_type, several_names = fields >> 3, fields & 4
    has_format, has_parameters = fields & 2, fields & 1
    if several_names or model.indexed_names:
        return "", None
    name = bits.text()
    if (
        payload_type not in (PayloadType.INT, PayloadType.FLOAT, PayloadType.RAW_FLOAT)
        or not has_parameters
        or model.profile not in (0, 1)
    ):
        return name, None
    if model.profile == 1:
        if bits.flag():  # node identifiers
            bits.ue(1)
            bits.ue(5)
            bits.ue(4)
        if model.parent_signalling and bits.flag():
            return name, None
    if payload_type == PayloadType.FLOAT and bits.flag():  # codebook
        return name, None
    has_states = payload_type != PayloadType.RAW_FLOAT and bits.flag()
    data_format = bits.u(7) if has_format else None
    fields = bits.u(6)
    has_shape, has_unary_length, block_types = fields & 32, fields & 16, fields & 15
    if not has_shape or block_types:
        return name, None
    shape = _parse_shape(bits)
    unary_length = bits.u(8) + 1 if has_unary_length else 10
    scan_order = 0
    entry_points: tuple[EntryPoint, ...] = ()
    if len(shape) > 1:
        if model.profile == 1:
            bits.ue(1)  # first_tensor_dimension_shift
        scan_order = bits.u(4)
    if scan_order:
        if carriers_only:
            return name, None
        if scan_order > MAX_SCAN_ORDER:
            raise FormatError(f"scan order {scan_order}", offset=bits.offset)
        further = shape[0] - 1 >> 2 + scan_order
        if 0 in shape or (further and math.prod(shape[1:]) == 1):
            raise FormatError("blocks in a tensor that has none", offset=bits.offset)
        if with_entry_points:
            entry_points = _parse_entry_points(bits, further, has_states=has_states)
    if with_entry_points:
        bits.align()
    if 0 in shape and (carriers_only or payload_type != PayloadType.RAW_FLOAT):
        return name, None
    if payload_type == PayloadType.FLOAT and model.qp_density is None:
        return name, None
    header = TensorHeader(
        name=name,
        payload_type=PayloadType(payload_type),
        shape=shape,
        # As in the stock decoder, integers have no trellis, whatever the flag says.
        dependent=has_states and payload_type == PayloadType.FLOAT,
        unary_length=unary_length,
        profile=model.profile,
        qp_density=model.qp_density or 0,
        base_qp=model.base_qp,
        scan_order=scan_order,
        data_format=data_format,
        payload_offset=fields_at + bits.byte_position,
        entry_points=entry_points,
    )
    return name, header


def write_model_parameters(qp_density: int) -> bytes:
    """Return the payload of the stock coder's model parameter set; `base_qp` is 0."""
    bits = BitWriter()
    bits.u(1, 1)  # a topology unit follows
    bits.u(4, 0)  # no sparsification, pruning, unification, decomposition
    bits.u(3, 1)  # uniform quantization
    bits.u(8, 0)  # no indexed names, base model, performance, parents
    bits.u(3, qp_density)
    bits.i(13, 0)
    bits.align()
    return bits.to_bytes()


def write_tensor_header(header: TensorHeader, parameter_id: int) -> bytes:
    """Return the fields of a data unit of profile 1, as the stock coder writes them.

    Args:
        header: The tensor's; `payload_offset` and what the model parameter set says do not count.
        parameter_id: Position of the tensor in the model.
    """
    bits = BitWriter()
    bits.u(5, header.payload_type)
    bits.u(1, 0)
    bits.u(1, int(header.data_format is not None))
    bits.u(1, 1)  # parameters follow
    bits.text(header.name)
    bits.u(1, 1)  # node identifiers follow: device, parameter, depth
    bits.ue(1, 0)
    bits.ue(5, parameter_id)
    bits.ue(4, 0)
    if header.payload_type == PayloadType.FLOAT:
        bits.u(1, 0)  # no codebook
    if header.payload_type != PayloadType.RAW_FLOAT:
        bits.u(1, int(header.dependent))
    if header.data_format is not None:
        bits.u(7, header.data_format)
    bits.u(6, 0b110000)  # shape and unary length follow; no block
    bits.ue(1, len(header.shape))
    for dimension in header.shape:
        bits.ue(7, dimension)
    bits.u(8, header.unary_length - 1)
    if len(header.shape) > 1:
        bits.ue(1, 0)  # first_tensor_dimension_shift
        bits.u(4, header.scan_order)
        _write_entry_points(bits, header.entry_points, has_states=header.dependent)
    bits.align()
    return bits.to_bytes()


def _write_entry_points(
    bits: BitWriter, entry_points: Sequence[EntryPoint], *, has_states: bool
) -> None:
    previous = length = 0
    for index, point in enumerate(entry_points):
        bits.u(8, point.value)
        if has_states:
            bits.u(3, point.state)
        if index:
            bits.ie(7, point.offset - previous - length)
        else:
            bits.ue(11, point.offset)
        previous, length = point.offset, point.offset - previous


def _parse_entry_points(bits: BitReader, count: int, *, has_states: bool) -> tuple[EntryPoint, ...]:
    points: list[EntryPoint] = []
    previous = length = 0
    for index in range(count):
        value = bits.u(8)
        state = bits.u(3) if has_states else 0
        length = length + bits.ie(7) if index else bits.ue(11)
        if length < 0:
            raise FormatError("entry points go backward", offset=bits.offset)
        previous += length
        if previous >> _POSITION_BITS:
            raise FormatError("an entry point beyond any payload", offset=bits.offset)
        points.append(EntryPoint(previous, value, state))
    return tuple(points)


def _parse_shape(bits: BitReader) -> tuple[int, ...]:
    count = bits.ue(1)
    if not 1 <= count <= MAX_DIMENSIONS:
        raise FormatError(f"tensor of {count} dimensions", offset=bits.offset)
    return tuple(bits.ue(7) for _ in range(count))
