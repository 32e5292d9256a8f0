"""Where tensors are coded: by threads of this process, or in an executor of the caller's.

The coder works without the interpreter's lock, so threads run side by side. They are asked between
pieces of a tensor whether to go on, and so stop soon after whoever waits for them does.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from nnguard._base.progress import Progress
from nnguard._base.threads import Workers, processors, result_of, submit

__all__ = ["Batch", "Execution", "WorkerPool", "largest_first", "make_batches", "run"]

_Result = TypeVar("_Result")

_BATCH = 1 << 18
"""Weights of a batch: small tensors are coded together."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors that are coded in one go.

    Attributes:
        positions: Of the tensors, ascending.
        size: Their weights.
    """

    positions: tuple[int, ...]
    size: int


def make_batches(sizes: Sequence[int]) -> list[Batch]:
    """Put tensors together in order: small ones that follow each other, large ones alone.

    Args:
        sizes: Weights of all tensors.
    """
    batches: list[Batch] = []
    positions: list[int] = []
    weights = 0
    for position, size in enumerate(sizes):
        if positions and weights + size > _BATCH:
            batches.append(Batch(tuple(positions), weights))
            positions, weights = [], 0
        positions.append(position)
        weights += size
    if positions:
        batches.append(Batch(tuple(positions), weights))
    return batches


def largest_first(batches: Sequence[Batch]) -> list[Batch]:
    """Sort batches so that no worker begins a large one when the others are done."""
    return sorted(batches, key=lambda batch: -batch.size)


class _StoppedError(Exception):
    """The work is no longer wanted."""


@dataclass(frozen=True, slots=True)
class WorkerPool:
    """Who codes.

    Attributes:
        executor: Runs the work; None for the calling thread.
        in_flight: Batches that are handed out at a time.
        remote: The executor may be on another machine; work and results are sent by value.
        check: Raises where the work is no longer wanted; for threads.
    """

    executor: Executor | None
    in_flight: int
    remote: bool
    check: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Execution(Workers):
    """How the caller wants the work done, in batches.

    Attributes:
        progress: Is told of it.
    """

    progress: Progress | None = None

    def report(self, size: int) -> None:
        """Report bytes that were done since the last call."""
        if self.progress is not None:
            self.progress(size)

    @contextmanager
    def pool(self, batches: Sequence[Batch]) -> Iterator[WorkerPool]:
        """Give the workers for some batches, and see to it that none is left behind."""
        stop = threading.Event()

        def check() -> None:
            if stop.is_set():
                raise _StoppedError

        if self.executor is not None:
            yield WorkerPool(self.executor, self.in_hand, remote=True, check=check)
            return
        wanted = min(self.count or processors(), len(batches))
        if wanted <= 1:
            yield WorkerPool(None, 1, remote=False, check=check)
            return
        pool = ThreadPoolExecutor(wanted, thread_name_prefix="nnguard")
        try:
            yield WorkerPool(pool, wanted + 1, remote=False, check=check)
        except BaseException:
            stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def run(
    team: WorkerPool,
    batches: Sequence[Batch],
    call: Callable[[Batch], tuple[Callable[..., _Result], tuple[Any, ...]]],
    *,
    in_order: bool = False,
) -> Iterator[tuple[Batch, _Result]]:
    """Do the work on all batches; yield results as they come.

    Args:
        team: Who does it.
        batches: In the order in which they are begun.
        call: Makes the function and the arguments for a batch, just before it is handed out.
        in_order: Yield results in the order of the batches.

    Raises:
        WorkerError: A worker died.
    """
    if team.executor is None:
        for batch in batches:
            work, arguments = call(batch)
            yield batch, work(*arguments)
        return
    waiting = iter(batches)
    running: dict[Future[_Result], Batch] = {}
    try:
        while True:
            for batch in itertools.islice(waiting, team.in_flight - len(running)):
                running[submit(team.executor, *call(batch))] = batch
            if not running:
                return
            if in_order:
                future = next(iter(running))
            else:
                future = next(iter(wait(running, return_when=FIRST_COMPLETED).done))
            result = result_of(future)
            yield running.pop(future), result
    finally:
        for future in running:
            future.cancel()
