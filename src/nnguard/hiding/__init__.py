"""Bytes into a stream and out again: H-QIM, the choice of carriers, the frame.

Knows nothing of keys, and not what a record means.
"""

from nnguard.hiding.carriers import candidates
from nnguard.hiding.embedding import (
    Extraction,
    Plan,
    capacity_of,
    embed,
    extract,
    lies_as_planned,
    max_cost,
    peek,
    plan_record,
)
from nnguard.hiding.frame import FrameHeader, RecordKind, kind_name

__all__ = [
    "Extraction",
    "FrameHeader",
    "Plan",
    "RecordKind",
    "candidates",
    "capacity_of",
    "embed",
    "extract",
    "kind_name",
    "lies_as_planned",
    "max_cost",
    "peek",
    "plan_record",
]
