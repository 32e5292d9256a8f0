"""Bytes into a stream and out again: H-QIM, the choice of carriers, the frame.

Knows nothing of keys, and not what a record means.
"""

from nnguard.hiding.carriers import candidates
from nnguard.hiding.embedding import (
    Extraction,
    Plan,
    carriers_cost,
    embed,
    extract,
    lies_as_planned,
    max_cost,
    peek,
    plan_record,
    room_of,
)
from nnguard.hiding.frame import FrameHeader, RecordKind, kind_name

__all__ = [
    "Extraction",
    "FrameHeader",
    "Plan",
    "RecordKind",
    "candidates",
    "carriers_cost",
    "embed",
    "extract",
    "kind_name",
    "lies_as_planned",
    "max_cost",
    "peek",
    "plan_record",
    "room_of",
]
