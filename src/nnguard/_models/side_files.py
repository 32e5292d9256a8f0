"""Files beside the streams of a set: configuration, tokenizer, a model card.

The index of a set lists them with their SHA-256, and the set digest covers that list. Files in
folders below the set's are named with slashes. Names that begin with a dot are never part of a set.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nnguard._base.files import write_atomically
from nnguard._base.texts import shown
from nnguard._stream.source import FileSource, Source
from nnguard.errors import FormatError, LimitError, VerificationError

__all__ = ["SideFile", "find_files", "is_side_name", "is_visible", "list_files"]

_CHUNK = 1 << 20
_MOST = 10_000
"""Files of a folder, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class SideFile:
    """A file beside the streams of a set.

    Attributes:
        path: Where it lies. It is opened when it is read, since there may be more than a process
            may have open.
        digest: SHA-256 of its bytes, as listed; they may have changed since.
    """

    path: Path
    digest: bytes

    @classmethod
    def open(cls, path: Path) -> SideFile:
        """Open a file, and hash it."""
        return cls(path, _sha256(FileSource(path)))

    def check(self, name: str) -> None:
        """Compare the file with what is listed.

        Raises:
            VerificationError: It was changed.
        """
        if not hmac.compare_digest(_sha256(FileSource(self.path)), self.digest):
            raise _changed(name)

    def save(self, path: Path) -> None:
        """Write the file, and make sure that this is what is listed.

        Raises:
            VerificationError: The file was changed.
        """
        source = FileSource(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_atomically(path, lambda file: source.copy(0, source.size, file), overwrite=False)
        except FormatError:  # it became shorter
            raise _changed(path.name) from None
        SideFile(path, self.digest).check(path.name)


def _changed(name: str) -> VerificationError:
    return VerificationError(f"changed after signing: {shown(name)}")


def is_visible(folder: str) -> bool:
    """Tell whether the last part of a folder's name begins with no dot."""
    return not folder.rpartition("/")[2].startswith(".")


def list_files(folder: Path, *, enter: Callable[[str], bool] = is_visible) -> list[str]:
    """Return the names of all files in a folder and below it.

    Args:
        folder: The folder.
        enter: Tells by its name whether to look into a folder below. Others are in the list
            themselves, with a slash behind the name.

    Raises:
        LimitError: They are too many.
        OSError: The folder cannot be read.
    """
    found: list[str] = []
    for count, name in enumerate(_walk(folder, enter)):
        if count == _MOST:
            raise LimitError(f"{folder} has more than {_MOST} files and folders")
        if not name.endswith("/") or not enter(name[:-1]):
            found.append(name)
    return sorted(found)


def _walk(folder: Path, enter: Callable[[str], bool]) -> Iterator[str]:
    """Yield the names of all files, and of all folders with a slash."""
    folders = [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if not entry.is_dir(follow_symlinks=False):
                    yield name
                    continue
                yield f"{name}/"
                if enter(name):
                    folders.append(f"{name}/")


def find_files(folder: Path, names: Iterable[str]) -> dict[str, SideFile]:
    """Open and hash those of some files that may be part of a set; others are left out."""
    return {name: SideFile.open(folder / name) for name in names if is_side_name(name)}


def is_side_name(name: object) -> bool:
    """Tell whether a file of this name may be part of a set, beside its streams."""
    return (
        isinstance(name, str)
        and not set(name) & set("\\\0")
        and not name.lower().endswith((".nnc", ".nnc.index.json"))
        and all(part and not part.startswith(".") for part in name.split("/"))
    )


def _sha256(source: Source) -> bytes:
    digest = hashlib.sha256()
    for at in range(0, source.size, _CHUNK):
        digest.update(source.read(at, min(_CHUNK, source.size - at)))
    return digest.digest()
