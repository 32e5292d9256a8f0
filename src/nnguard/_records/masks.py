"""Which weights of a release are masked: each license takes the masks off to a copy of its own.

Part of a lock's content (`docs/SPEC.md`, section 6.7): whoever has the content key may know it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nnguard._records.claims import Claims

__all__ = ["ENTRY_KEY_SIZE", "MAX_ENTRIES", "MAX_WIDTH", "MaskedTensor", "Masks"]

MAX_WIDTH = 16
"""Bits of a mask, at most."""

MAX_ENTRIES = 1 << 16
"""Entries, at most."""

ENTRY_KEY_SIZE = 8
"""Bytes of a key that takes the masks off one variant of one entry."""

_MAX_SPARSITY = 7
_NONCE_SIZE = 12

Variant = bytes | memoryview


@dataclass(frozen=True, slots=True, eq=False)
class MaskedTensor:
    """A tensor of which some weights are masked.

    Attributes:
        unit: Position of its unit.
        width: Bits of a masked weight.
        sparsity: One of `2**sparsity` weights is masked; all, if it is 0.
        variants: Masked weights, `width` bits each, row by row, padded to whole bytes; twice, and a
            license takes the mask off one of the two.
    """

    unit: int
    width: int
    sparsity: int
    variants: tuple[Variant, Variant] = field(repr=False)

    def to_cbor(self) -> list[Any]:
        """Encode the tensor."""
        return [self.unit, self.width, self.sparsity, *self.variants]

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
                int() as sparsity,
                (bytes() | memoryview()) as first,
                (bytes() | memoryview()) as second,
            ] if (
                bool not in map(type, encoded)
                and unit >= 0
                and 2 <= width <= MAX_WIDTH
                and 0 <= sparsity <= _MAX_SPARSITY
                and len(first) == len(second)
            ):
                return cls(unit, width, sparsity, (first, second))
        raise ValueError("masked tensor")


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """All masked tensors of a release.

    Attributes:
        nonce: 12 bytes that no other release of the same key has.
        entries: Masked weights take so many entries in turn; a license has a key for each.
        tensors: Ascending by unit; one at least.
        claims: What the signature of a copy says; None where copies are not signed.
    """

    nonce: bytes
    entries: int
    tensors: tuple[MaskedTensor, ...]
    claims: Claims | None

    @property
    def key_size(self) -> int:
        """Bytes that a license has for all entries: which variant, a bit each, and keys."""
        return (self.entries + 7) // 8 + ENTRY_KEY_SIZE * self.entries

    @property
    def size(self) -> int:
        """Bytes of masked weights, in both variants."""
        return sum(len(variant) for tensor in self.tensors for variant in tensor.variants)

    def to_cbor(self) -> list[Any]:
        """Encode the masks."""
        tensors = [tensor.to_cbor() for tensor in self.tensors]
        claims = [] if self.claims is None else [self.claims.to_cwt()]
        return [self.nonce, self.entries, tensors, *claims]

    @classmethod
    def from_cbor(cls, encoded: Any) -> Masks:
        """Decode the masks.

        Raises:
            ValueError: They are malformed.
            VerificationError: The claims are.
        """
        match encoded:
            case [bytes() as nonce, int() as entries, [_, *_] as tensors, *claims] if (
                len(nonce) == _NONCE_SIZE
                and type(entries) is int
                and 0 < entries <= MAX_ENTRIES
                and len(claims) <= 1
            ):
                found = tuple(map(MaskedTensor.from_cbor, tensors))
                units = [tensor.unit for tensor in found]
                if units == sorted(set(units)):
                    said = Claims.from_cwt(claims[0]) if claims else None
                    return cls(nonce, entries, found, said)
        raise ValueError("masks")
