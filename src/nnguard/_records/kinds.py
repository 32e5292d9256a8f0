"""Kinds of records."""

from __future__ import annotations

import enum

__all__ = ["RecordKind", "kind_name"]


class RecordKind(enum.IntEnum):
    """What a record is."""

    SIGNATURE = 1
    ATTACHMENT = 2
    LOCK = 3
    LICENSE = 4


def kind_name(kind: int) -> str:
    """Return what a kind of record is called."""
    names = {known.value: known.name.lower() for known in RecordKind}
    return names.get(kind, f"record of kind {kind}")
