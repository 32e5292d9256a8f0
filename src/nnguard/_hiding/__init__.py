"""Bytes into a stream and out again: H-QIM, the choice of carriers, the frame.

Knows nothing of keys, and not what a record means.
"""

from nnguard._hiding.carriers import candidates, carriers_cost, max_cost
from nnguard._hiding.embedding import Plan, embed, lies_as_planned, plan_record, room_of
from nnguard._hiding.extracting import Extraction, Found, extract, locate, peek
from nnguard._hiding.frame import FrameHeader

__all__ = [
    "Extraction",
    "Found",
    "FrameHeader",
    "Plan",
    "candidates",
    "carriers_cost",
    "embed",
    "extract",
    "lies_as_planned",
    "locate",
    "max_cost",
    "peek",
    "plan_record",
    "room_of",
]
