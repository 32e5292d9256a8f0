"""Renewing the relay's own license, behind everything else that it does.

The seller's server may be away for as long as the license holds: nobody waits for it.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path

from nnguard._licensing.license import License
from nnguard._server.logs import tell
from nnguard.errors import NnguardError

__all__ = ["Refresher"]

_PAUSE = 300.0
"""Seconds between two looks at the license, on average."""


class Refresher:
    """Looks after a license file.

    Args:
        path: The file; a new license replaces it, whole.
        refresh: Returns the license that follows, or the same where it is too early.
    """

    def __init__(self, path: Path, refresh: Callable[[License], License]) -> None:
        self._path, self._refresh = path, refresh
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin, with a look right now."""
        self._thread.start()

    def stop(self) -> None:
        """End; an exchange that is under way is left alone."""
        self._ended.set()

    def look(self) -> bool:
        """Renew the license, if it is time to; tell whether it was."""
        try:
            old = License.load(self._path)
            new = self._refresh(old)
            if new == old:
                return False
            new.save(self._path, overwrite=True)
        except (NnguardError, OSError) as error:
            tell("not refreshed", level=logging.WARNING, why=str(error))
            return False
        tell("refreshed", license=new.terms.id)
        return True

    def _run(self) -> None:
        while True:
            self.look()
            if self._ended.wait(_PAUSE * random.uniform(0.8, 1.2)):  # noqa: S311 - no secret
                return
