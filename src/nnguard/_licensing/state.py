"""What a customer's machine remembers of licenses: the newest time, and which were given back.

    with LicenseState(path) as state:
        state.remember(now())

A file, rewritten as a whole under a lock that lies beside it (SPEC 14.4). Nothing in it is ever
lowered or forgotten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from nnguard._base.files import read_file, write_bytes
from nnguard._base.locks import locked
from nnguard._base.times import seconds_of, time_of
from nnguard.errors import LicenseError, Refusal

__all__ = ["LicenseState"]

_MARK = b"nnguard released license v1\0"
_LARGEST = 1 << 20
_PATIENCE = 30.0
_HEXADECIMAL = re.compile("[0-9a-f]{64}")


@dataclass
class LicenseState:
    """A license state file, locked by this process from `with` on.

    Args:
        path: The file; made by the first `remember` or `bury`.

    Attributes:
        newest: The newest time that was ever seen; None in a new state.
        released: SHA-256 of the identifiers of licenses that were given back, in hexadecimal.

    Raises:
        LicenseError: It is another kind of file, or damaged.
        OSError: It cannot be read, or its lock cannot be made.
    """

    path: str | os.PathLike[str]
    newest: datetime | None = field(default=None, init=False)
    released: frozenset[str] = field(default=frozenset(), init=False)

    def __enter__(self) -> LicenseState:
        self._file = Path(self.path)
        self._read()  # before there is a lock beside what may be another kind of file
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(self._file.with_name(f"{self._file.name}.lock"), _PATIENCE))
            self._read()
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def has_released(self, license_id: str) -> bool:
        """Tell whether a license was given back."""
        return _mark(license_id) in self.released

    def remember(self, time: datetime) -> None:
        """Remember a time, if none newer was seen."""
        if self.newest is None or time > self.newest:
            self.newest = time
            self._write()

    def bury(self, license_id: str) -> None:
        """Remember that a license was given back: it is refused from now on."""
        if not self.has_released(license_id):
            self.released |= {_mark(license_id)}
            self._write()

    def _read(self) -> None:
        try:
            members = json.loads(read_file(self._file, _LARGEST))
            released = members.pop("released", [])
            newest = members.pop("newest")
            if members or not all(map(_HEXADECIMAL.fullmatch, released)):
                raise ValueError("members")
            self.newest = None if newest is None else time_of(newest)
            self.released = frozenset(released)
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise LicenseError(
                f"{self._file} is not a license state file, or it was damaged",
                reason=Refusal.CLOCK_SET_BACK,
                hint="put a copy back; without one, move it away: a new one knows nothing",
            ) from None

    def _write(self) -> None:
        newest = None if self.newest is None else seconds_of(self.newest)
        text = json.dumps({"newest": newest, "released": sorted(self.released)})
        write_bytes(self._file, text.encode(), overwrite=True, mode=0o600)


def _mark(license_id: str) -> str:
    return hashlib.sha256(_MARK + bytes.fromhex(license_id)).hexdigest()
