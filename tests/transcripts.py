"""What a command printed, and how tests run one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Result", "Run"]


@dataclass
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]
