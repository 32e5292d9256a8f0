"""Files that a customer signs: the key that signed them is in them.

Such a signature tells nobody who wrote the file, only that whoever did had the key, and has it
again when the next file of that key comes.
"""

from __future__ import annotations

from dataclasses import dataclass

from nnguard._crypto.keys import PublicKey
from nnguard._crypto.signed_file import SignedFile

__all__ = ["SelfSigned"]


@dataclass(frozen=True, slots=True, eq=False)
class SelfSigned(SignedFile):
    """A file that is signed by the key in it. Nothing in it is to be believed before that.

    Attributes:
        encoded: Its bytes.
        key: The customer's request key (`Identity.request_signer`).
    """

    key: PublicKey

    def authenticate_self(self) -> None:
        """Make sure that the key in the file signed it.

        Raises:
            LicenseError: It did not, or the file was changed.
        """
        if self.key_id != self.key.id.hex():
            raise self._malformed(f"the {self._WHAT} is not signed by the key in it")
        self.authenticate([self.key])
