"""Work on several tensors side by side. The coder works without the interpreter's lock."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["Progress", "in_order", "processors"]

Progress = Callable[[int], object]
"""Called with the number of bytes done since the last call."""

_Result = TypeVar("_Result")


def in_order(
    call: Callable[..., _Result], items: Sequence[Any], *more: Iterable[Any]
) -> Iterator[_Result]:
    """Call a function with each item, in threads; yield results in the order of the items.

    One thread more than there are processors has something in hand, so that memory stays bounded.

    Args:
        call: What to do.
        items: Its first arguments.
        *more: Further arguments, one of each for every item.
    """
    calls = zip(items, *more)  # noqa: B905 - more may be longer
    wanted = min(processors(), len(items))
    if wanted <= 1:
        yield from itertools.starmap(call, calls)
        return
    with ThreadPoolExecutor(wanted, thread_name_prefix="nnguard") as pool:
        running: collections.deque[Future[_Result]] = collections.deque()
        try:
            for arguments in calls:
                running.append(pool.submit(call, *arguments))
                if len(running) > wanted:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
