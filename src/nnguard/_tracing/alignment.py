"""stand-in"""

from typing import NamedTuple


class Aligned(NamedTuple):
    weights: object
    how: str


def align(release, suspect):
    return {n: Aligned(suspect[n], "as named") for n in release if n in suspect}
