"""What the vendor alone can do: put masks on, take them off, and make a licensee's copy.

All comes from the vendor's content key, of which licensees get the one below it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnguard._crypto.content_key import ContentKey
from nnguard._records.masks import Masks
from nnguard._stream import Stream
from nnguard._tracing import code
from nnguard._tracing.masking import Numbers, add, pack, place, unpack

__all__ = ["Caster", "take_off"]

Fingerprint = npt.NDArray[np.int8]


class Caster:
    """Makes copies of a release, each with another fingerprint.

    Args:
        key: The vendor's content key. The lock has the one below it.
        masks: What is masked.
    """

    def __init__(self, key: ContentKey, masks: Masks) -> None:
        self._key, self._masks = key, masks
        self.biases = code.biases(key.keystream("biases", masks.nonce), masks.entries)

    def mask(self, release: Stream) -> Stream:
        """Put the masks on a release."""
        return self._add(release, self._table())

    def unmask(self, masked: Stream) -> Stream:
        """Take the masks off, and leave nothing: the release, as nobody else ever has it."""
        return self._add(masked, [-numbers for numbers in self._table()])

    def key_for(self, license_id: str) -> bytes:
        """Return what takes the masks off for one license, and leaves its fingerprint."""
        left = self._by_tensor(self.fingerprint(license_id).astype(np.int64))
        ends = [1 << part.width for part in self._masks.tensors]
        pairs = zip(self._table(), left, ends, strict=True)
        return pack(self._masks, [(own - left) % end for own, left, end in pairs])

    def fingerprint(self, license_id: str) -> Fingerprint:
        """Return the fingerprint of a license, -1 or 1 for each entry of all tables.

        Args:
            license_id: In hexadecimal.
        """
        use = f"fingerprint {license_id}"
        return code.fingerprint(self._key.keystream(use, self._masks.nonce), self.biases)

    def _table(self) -> list[Numbers]:
        keystream = self._key.keystream("masks", self._masks.nonce)
        return [
            np.frombuffer(keystream.read(part.unit, 4 * part.entries), "<u4").astype(np.int64)
            % (1 << part.width)
            for part in self._masks.tensors
        ]

    def _by_tensor(self, numbers: Numbers) -> list[Numbers]:
        ends = np.cumsum([part.entries for part in self._masks.tensors])
        return np.split(numbers, ends[:-1])

    def _add(self, stream: Stream, numbers: list[Numbers]) -> Stream:
        return add(stream, self._masks, place(self._key.below(), self._masks), numbers)


def take_off(masked: Stream, masks: Masks, key: ContentKey, license_key: bytes) -> Stream:
    """Take the masks off with what one license has for that.

    Args:
        masked: What the lock opens.
        masks: What the lock says of it.
        key: The content key of the lock.
        license_key: See `Caster.key_for`.

    Raises:
        UnlockError: It is of another lock.
    """
    numbers = [-each for each in unpack(masks, license_key)]
    return add(masked, masks, place(key, masks), numbers)
