"""Zip archives whose members are stored, as PyTorch writes them: where each lies in the file.

Stricter than zip readers are: what two of them could read in two ways is refused. Nothing is
inflated, so no archive is larger inside than outside.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from nnguard._stream.source import FileSource
from nnguard.errors import LimitError, ModelError

__all__ = ["Member", "read_members"]

_MAX_DIRECTORY = 1 << 26
"""Bytes of a central directory, at most."""

_END = struct.Struct("<4sHHHHIIH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_EXTRA = struct.Struct("<HH")
_ENCRYPTED = 1
_FOLDER = 0x10
"""In the attributes of a member: PyTorch reads nothing of it, and gives what memory holds."""

_UNKNOWN = 0xFFFFFFFF
"""Stands for a number that is in the extra field of zip64 instead."""


@dataclass(frozen=True, slots=True)
class Member:
    """A stored member.

    Attributes:
        start: Where its header begins in the file.
        offset: Where its bytes begin.
        size: How many there are.
    """

    start: int
    offset: int
    size: int


def read_members(file: FileSource) -> dict[bytes, Member]:
    """Return the members of an archive by name, in the order of its directory.

    Names are in small letters: PyTorch looks them up without regard to case.

    Raises:
        ModelError: It is not an archive, is malformed, or a member is compressed or encrypted.
        LimitError: Its directory is too large.
    """
    count, start, size = _find_directory(file)
    if size > _MAX_DIRECTORY:
        raise LimitError(f"its directory has {size} bytes; limit {_MAX_DIRECTORY}")
    members: dict[bytes, Member] = {}
    directory = file.read(start, size)
    at = 0
    while at < size:
        name, member, at = _entry(file, directory, at)
        if name.lower() in members:
            raise ModelError("its archive names something twice")
        members[name.lower()] = member
    if len(members) != count:
        raise _malformed()
    end = 0
    for member in sorted(members.values(), key=lambda member: (member.start, member.size)):
        if member.start < end:
            raise ModelError("members of its archive overlap")
        if not end and member.start:  # a file of another kind could stand before the first
            raise _malformed()
        end = member.offset + member.size
    if end > start:
        raise _malformed()
    return members


def _malformed() -> ModelError:
    return ModelError("its archive is malformed")


def _find_directory(file: FileSource) -> tuple[int, int, int]:
    """Return how many members a directory lists, where it begins, and its size in bytes."""
    at = file.size - _END.size
    if at < 0:
        raise _malformed()
    magic, *disks, here, count, size, start, comment = _END.unpack(file.read(at, _END.size))
    if magic != b"PK\5\6" or comment:  # a comment could hold the end of another archive
        raise _malformed()
    locator = at - _END64_LOCATOR.size
    if locator >= _END64.size:
        magic, disk, end, _ = _END64_LOCATOR.unpack(file.read(locator, _END64_LOCATOR.size))
        if magic == b"PK\6\7":
            at = locator - _END64.size
            record = _END64.unpack(file.read(at, _END64.size))
            magic, length, _, _, *disks, here, count, size, start = record
            if magic != b"PK\6\6" or length != _END64.size - 12 or disk or end != at:
                raise _malformed()
    if any(disks) or here != count or start + size != at:
        raise _malformed()
    return count, start, size


def _entry(file: FileSource, directory: bytes, at: int) -> tuple[bytes, Member, int]:
    """Return an entry of the directory: name, member, and where the next entry begins."""
    rest = at + _ENTRY.size
    if rest > len(directory):
        raise _malformed()
    fields = _ENTRY.unpack_from(directory, at)
    magic, _, _, flags, method, _, _, _, packed, size, names, extras, comments = fields[:13]
    disk, attributes, offset = fields[13], fields[15], fields[16]
    end = rest + names + extras + comments
    if magic != b"PK\1\2" or end > len(directory) or disk:
        raise _malformed()
    name = directory[rest : rest + names]
    wide = [size, packed, offset]
    _widen(wide, directory[rest + names : rest + names + extras])
    size, packed, offset = wide
    if method or flags & _ENCRYPTED:
        raise ModelError(
            "its archive is compressed or encrypted",
            hint="load it with torch and save it again: torch.save stores, so that no zip archive "
            "is larger inside than outside",
        )
    if b"\0" in name:  # PyTorch's own names end there
        raise _malformed()
    if size and (attributes & _FOLDER or name.endswith(b"/")):
        raise _malformed()
    if size != packed or offset + _LOCAL.size + names > file.size:
        raise _malformed()
    head = file.read(offset, _LOCAL.size + names)
    magic, _, flags, method, *_, own_names, own_extras = _LOCAL.unpack_from(head)
    if (magic, method, head[_LOCAL.size :]) != (b"PK\3\4", 0, name) or flags & _ENCRYPTED:
        raise _malformed()
    if own_names != names:
        raise _malformed()
    return name, Member(offset, offset + _LOCAL.size + names + own_extras, size), end


def _widen(numbers: list[int], extra: bytes) -> None:
    """Put the numbers of zip64 in place of those that do not fit into 32 bits."""
    unknown = [index for index, number in enumerate(numbers) if number == _UNKNOWN]
    if not unknown:
        return
    at = 0
    while at + _EXTRA.size <= len(extra):
        kind, size = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if kind == 1 and size >= 8 * len(unknown) and at + size <= len(extra):
            found = struct.unpack_from(f"<{len(unknown)}Q", extra, at)
            for index, number in zip(unknown, found, strict=True):
                numbers[index] = number
            return
        at += size
    raise _malformed()
