"""Work on several tensors side by side, by threads or an executor of the caller's.

The coder works without the interpreter's lock, so threads run side by side.
"""

from __future__ import annotations

import collections
import itertools
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
)
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from nnguard._base.arguments import wrong_type
from nnguard.errors import ArgumentError, WorkerError

__all__ = ["HERE", "Workers", "in_order", "processors", "result_of", "submit"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Workers:
    """Who works on tensors.

    Attributes:
        count: Threads, at most; as many as this machine has processors, if None. Of an executor,
            how many tasks it has in hand at a time: twice as many, if None.
        executor: Does the work instead of threads, here or on other machines.

    Raises:
        ArgumentError: `count` is less than 1.
        TypeError: It is not a whole number, or the executor is none.
    """

    count: int | None = None
    executor: Executor | None = None

    def __post_init__(self) -> None:
        if self.count is not None and type(self.count) is not int:
            raise wrong_type("workers", "a whole number", self.count)
        if self.executor is not None and not callable(getattr(self.executor, "submit", None)):
            raise wrong_type("executor", "an executor, as of concurrent.futures", self.executor)
        if self.count is not None and self.count < 1:
            raise ArgumentError(f"workers is {self.count}; there has to be one at least")

    @property
    def in_hand(self) -> int:
        """How many items an executor has in hand at a time."""
        return self.count or 2 * processors()

    @property
    def threads(self) -> Workers:
        """Threads of this process, for what no executor may be sent."""
        return self if self.executor is None else HERE

    def in_order(
        self, call: Callable[..., _Result], items: Iterable[Any], *more: Iterable[Any]
    ) -> Iterator[_Result]:
        """Call a function with each item; yield results in the order of the items.

        Memory is bounded: there is one item in hand more than there are threads. An executor is
        sent the function and its arguments by value.

        Args:
            call: What to do.
            items: Its first arguments.
            *more: Further arguments, one of each for every item.

        Raises:
            WorkerError: A worker died.
        """
        calls: Iterator[tuple[Any, ...]] = zip(items, *more)  # noqa: B905 - more may be longer
        if self.executor is not None:
            yield from _in_order(self.executor, call, map(_by_value, calls), self.in_hand)
            return
        wanted = self.count or processors()
        first = [*itertools.islice(calls, wanted)]
        wanted = min(wanted, len(first))
        calls = itertools.chain(first, calls)
        if wanted <= 1:
            yield from itertools.starmap(call, calls)
            return
        with ThreadPoolExecutor(wanted, thread_name_prefix="nnguard") as pool:
            yield from _in_order(pool, call, calls, wanted + 1)


HERE = Workers()
"""Threads of this process, as many as there are processors."""


def in_order(
    call: Callable[..., _Result], items: Iterable[Any], *more: Iterable[Any]
) -> Iterator[_Result]:
    """Call a function with each item, in threads of this process; see `Workers.in_order`."""
    return HERE.in_order(call, items, *more)


def _in_order(
    executor: Executor,
    call: Callable[..., _Result],
    calls: Iterable[tuple[Any, ...]],
    in_hand: int,
) -> Iterator[_Result]:
    running: collections.deque[Future[_Result]] = collections.deque()
    try:
        for arguments in calls:
            if len(running) == in_hand:
                yield result_of(running[0])
                running.popleft()
            running.append(submit(executor, call, arguments))
        while running:
            yield result_of(running[0])
            running.popleft()
    finally:
        for future in running:
            future.cancel()


@runtime_checkable
class _ByValue(Protocol):
    """What says where its bytes lie."""

    def by_value(self) -> Any:
        """Return the same with its bytes in memory, for another process."""


def _by_value(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments that hold their bytes."""
    return tuple(each.by_value() if isinstance(each, _ByValue) else each for each in arguments)


def submit(
    executor: Executor, work: Callable[..., _Result], arguments: tuple[Any, ...]
) -> Future[_Result]:
    """Hand work out.

    Raises:
        WorkerError: No worker is left.
    """
    try:
        return executor.submit(_do, work, arguments, uuid.uuid4().hex)
    except BrokenExecutor as error:
        raise _death() from error
    except RuntimeError as error:  # it was shut down
        raise WorkerError(f"the executor takes no work: {error}") from error


def _do(work: Callable[..., _Result], arguments: tuple[Any, ...], _name: str) -> _Result:
    """Do the work; with a name of its own, Dask does not take it for work that was canceled."""
    return work(*arguments)


def result_of(future: Future[_Result]) -> _Result:
    """Wait for work that was handed out.

    Raises:
        WorkerError: The worker died.
    """
    try:
        return future.result()
    except (BrokenExecutor, CancelledError) as error:
        raise _death() from error


def _death() -> WorkerError:
    return WorkerError(
        "a worker died while it coded a tensor",
        hint="out of memory, perhaps: try fewer workers",
    )


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
