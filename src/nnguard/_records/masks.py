"""Which weights of a release are masked, so that each license takes the mask off to another copy.

Part of a lock's content (`docs/SPEC.md`, section 6.7): whoever has the content key may know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nnguard._records.claims import Claims
from nnguard._records.replaced import Replaced

__all__ = ["MAX_ENTRIES", "MAX_WIDTH", "MaskedTensor", "Masks"]

MAX_WIDTH = 24
"""Bits of a mask, at most."""

MAX_ENTRIES = 1 << 20
"""Masks of a tensor, at most."""

_MAX_SPARSITY = 7
_NONCE_SIZE = 12


@dataclass(frozen=True, slots=True, eq=False)
class MaskedTensor:
    """A tensor of which some weights are masked.

    Attributes:
        unit: Position of its unit.
        width: Bits of a mask.
        entries: How many masks there are for it.
        sparsity: One of `2**sparsity` weights is masked.
        rows: A bit for each row, most significant first: 1 where weights of it may be masked.
        columns: The same for each place in a row.
        outliers: Weights that are too large for a mask, and are put right afterwards.
    """

    unit: int
    width: int
    entries: int
    sparsity: int
    rows: bytes
    columns: bytes
    outliers: Replaced | None

    @property
    def key_size(self) -> int:
        """Bytes that a license has for it."""
        return (self.entries * self.width + 7) // 8

    def to_cbor(self) -> list[Any]:
        """Encode the tensor."""
        outliers = [] if self.outliers is None else [self.outliers.to_cbor()]
        numbers = [self.unit, self.width, self.entries, self.sparsity]
        return [*numbers, self.rows, self.columns, *outliers]

    @classmethod
    def from_cbor(cls, encoded: Any) -> MaskedTensor:
        """Decode a tensor.

        Raises:
            ValueError: It is malformed.
        """
        match encoded:
            case [
                int() as unit,
                int() as width,
                int() as entries,
                int() as sparsity,
                (bytes() | memoryview()) as rows,
                (bytes() | memoryview()) as columns,
                *outliers,
            ] if (
                unit >= 0
                and 2 <= width <= MAX_WIDTH
                and 0 < entries <= MAX_ENTRIES
                and 0 <= sparsity <= _MAX_SPARSITY
                and len(outliers) <= 1
            ):
                put_right = Replaced.from_cbor(outliers[0]) if outliers else None
                if put_right is not None and put_right.unit != unit:
                    raise ValueError("outliers of another tensor")
                return cls(unit, width, entries, sparsity, bytes(rows), bytes(columns), put_right)
        raise ValueError("masked tensor")


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """All masked tensors of a release.

    Attributes:
        nonce: 12 bytes that no other release of the same key has.
        tensors: Ascending by unit; one at least.
        claims: What the signature of a copy says; None where copies are not signed.
    """

    nonce: bytes
    tensors: tuple[MaskedTensor, ...]
    claims: Claims | None

    @property
    def entries(self) -> int:
        """How many masks there are."""
        return sum(tensor.entries for tensor in self.tensors)

    @property
    def key_size(self) -> int:
        """Bytes that take all masks off."""
        return sum(tensor.key_size for tensor in self.tensors)

    def to_cbor(self) -> list[Any]:
        """Encode the masks."""
        tensors = [tensor.to_cbor() for tensor in self.tensors]
        return [self.nonce, tensors, *([] if self.claims is None else [self.claims.to_cwt()])]

    @classmethod
    def from_cbor(cls, encoded: Any) -> Masks:
        """Decode the masks.

        Raises:
            ValueError: They are malformed.
            VerificationError: The claims are.
        """
        match encoded:
            case [bytes() as nonce, [_, *_] as tensors, *claims] if (
                len(nonce) == _NONCE_SIZE and len(claims) <= 1
            ):
                found = tuple(map(MaskedTensor.from_cbor, tensors))
                units = [tensor.unit for tensor in found]
                if units == sorted(set(units)):
                    return cls(nonce, found, Claims.from_cwt(claims[0]) if claims else None)
        raise ValueError("masks")
