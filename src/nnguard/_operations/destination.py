"""The folder that a gate fills: made beside it, or in it, and put there at the end.

`nnguard-gate.json` in it lists what is there, and so tells a later run what it may take away.

Law: what is not listed is never touched; and until the last step, nothing of the new is there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnguard._base.atomic import check_exchange, exchange, sync_folder
from nnguard._base.files import read_file, write_bytes
from nnguard._base.locks import locked_folder
from nnguard._models.index import SAFETENSORS_INDEX
from nnguard._models.side_files import list_files
from nnguard.errors import NnguardError

__all__ = ["MANIFEST", "Destination", "write_list"]

MANIFEST = "nnguard-gate.json"

_MAX_MANIFEST = 1 << 26


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a model goes that has passed.

    Attributes:
        path: The folder.
        in_place: The folder is there and stays, as the mount point of a volume does: files are put
            into it one by one, instead of a folder that gets its name in one step.
    """

    path: Path
    in_place: bool = False

    def check(self, *, overwrite: bool) -> None:
        """Make sure that a model may be put there, before any work is done for it.

        Args:
            overwrite: What a gate has put there may be replaced.

        Raises:
            FileExistsError: There is something that may not be replaced.
            NotADirectoryError: It is to be filled in place, and is not a folder.
            FileNotFoundError: There is no folder for it.
        """
        if self.in_place and not self.path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "no folder to put files into", str(self.path))
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{self.path}: there is no folder {self.path.parent}")
        if not os.path.lexists(self.path):
            return
        if not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file, where the gate makes a folder")
        if not self._is_ours(self.path):
            raise FileExistsError(f"{self.path} holds something that no gate has put there")
        if not overwrite and (present := self._present(self.path)):
            whole = present == _listed(self.path)
            if whole or not self.in_place:  # in place, a gate was killed before it was done
                raise FileExistsError(f"{self.path} exists already; overwrite=True replaces it")

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a folder on the same file system, for the owner's eyes only; it is gone afterwards.

        What killed processes have left of theirs goes, too. Such a folder is in use while it is
        locked; whoever makes one locks it before there is anything in it.

        Raises:
            OSError: It cannot be made.
        """
        place = self.path if self.in_place else self.path.parent
        ours = re.compile(rf"{re.escape(self._hidden)}[0-9a-f]{{16}}")
        for left in place.iterdir():
            if ours.fullmatch(left.name):
                _sweep(left)
        folder = place / f"{self._hidden}{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        try:
            with locked_folder(folder):
                yield folder
                shutil.rmtree(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def check_exchange(self, folder: Path) -> None:
        """Make sure that what is there can be replaced in one step.

        Args:
            folder: An empty one, to try it in; see `staging`.

        Raises:
            OSError: The file system cannot; in place, files could be put there one by one.
        """
        if not self.in_place and os.path.lexists(self.path):
            check_exchange(self.path, folder)

    def put(self, made: Path, *, overwrite: bool) -> None:
        """Put a folder there that was made while staging.

        Args:
            made: The folder; all that it holds is on the disk and in its list, see `write_list`.
            overwrite: See `check`.

        Raises:
            OSError: See `check`.
        """
        self.check(overwrite=overwrite)  # again: it may be there since
        if self.in_place:
            self._empty()
            for name in _in_order(path.name for path in made.iterdir()):
                (made / name).replace(self.path / name)
            sync_folder(self.path)
            return
        if os.path.lexists(self.path):
            exchange(made, self.path)
            if not self._is_ours(made):  # and again: nobody puts anything into it now
                exchange(made, self.path)
                raise FileExistsError(f"{self.path} holds something that no gate has put there")
        else:
            made.rename(self.path)
        sync_folder(self.path.parent)

    def take_away(self) -> bool:
        """Take away what a gate has put there, if anything; tell whether there was."""
        if not self._is_ours(self.path) or not self._present(self.path):
            return False
        with self.staging() as folder:
            if self.in_place:
                self._empty()
                sync_folder(self.path)
            else:
                self.path.rename(folder / "old")
                sync_folder(self.path.parent)
        return True

    def _empty(self) -> None:
        """Take away what is listed: the index first, and the list last."""
        names = {name.partition("/")[0] for name in self._present(self.path)}
        for name in reversed(_in_order(names)):
            path = self.path / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _is_ours(self, folder: Path) -> bool:
        """Tell whether gates have put there all that is in a folder."""
        if folder.is_symlink() or not folder.is_dir():
            return False
        return self._present(folder) <= _listed(folder)

    def _present(self, folder: Path) -> set[str]:
        """Return the names of the files in a folder, but for those of gates that are at work."""
        names = list_files(folder)
        return {name for name in names if not (self.in_place and name.startswith(self._hidden))}

    @property
    def _hidden(self) -> str:
        """What the names of folders begin with that are made while staging."""
        return f".{self.path.name}.gate-"


def write_list(made: Path, about: Mapping[str, Any], *more: str) -> None:
    """List what a folder holds.

    Args:
        made: The folder.
        about: What else the list says.
        more: Names of files that it is still to get.
    """
    listed = json.dumps({**about, "files": sorted([*list_files(made), *more])}, indent=2)
    write_bytes(made / MANIFEST, listed.encode() + b"\n", overwrite=False)


def _listed(folder: Path) -> set[str]:
    """Return the names of the files that the list in a folder names, if there is one."""
    try:
        files = json.loads(read_file(folder / MANIFEST, _MAX_MANIFEST))["files"]
        return {MANIFEST, *files}
    except (OSError, NnguardError, ValueError, TypeError, KeyError, RecursionError):
        return set()


def _in_order(names: Iterable[str]) -> list[str]:
    """Sort the names of files: the list first, and last the index, which readers look for.

    A gate that is killed between two of them leaves nothing that is not listed.
    """
    places = {MANIFEST: 0, SAFETENSORS_INDEX: 2}
    return sorted(names, key=lambda name: (places.get(name, 1), name))


def _sweep(folder: Path) -> None:
    """Take away what a killed process has left, unless it is in use or there is nothing in it."""
    with contextlib.suppress(OSError), locked_folder(folder) as is_free:
        if is_free and any(folder.iterdir()):
            shutil.rmtree(folder)
