"""Where tensors are coded: in this process, in worker processes, or in an executor of the caller's.

The extension holds the interpreter's lock while it codes, so only processes run side by side.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from nnguard.compression.processes import WorkerProcesses
from nnguard.errors import WorkerError

__all__ = ["Batch", "Crew", "crew", "largest_first", "make_batches", "run"]

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

_BATCH = 1 << 18
"""Weights of a batch: small tensors go to a worker together."""

_WORTH_WORKERS = 1 << 21
"""Models of fewer weights are encoded sooner than workers start, twice as many are decoded so."""


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


@dataclass(frozen=True, slots=True)
class Crew:
    """Who codes.

    Attributes:
        executor: Runs the work; None for this process.
        in_flight: Batches that are handed out at a time.
        shares_files: Workers run on this machine and open its files.
    """

    executor: Executor | None
    in_flight: int
    shares_files: bool


@contextmanager
def crew(
    batches: Sequence[Batch],
    workers: int | None,
    executor: Executor | None,
    *,
    decoding: bool = False,
) -> Iterator[Crew]:
    """Give the workers that were asked for, and see to it that none is left behind.

    Args:
        batches: What there is to do.
        workers: Processes to start, at most; with an executor, batches to hand out at a time. As
            many as there are processors, if None.
        executor: Does the work instead of processes that are started here.
        decoding: It is to decode, which is quicker than to encode.

    Raises:
        ValueError: There are to be fewer than one worker.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; there has to be one at least")
    if executor is not None:
        yield Crew(executor, workers or 2 * _processors(), shares_files=False)
        return
    wanted = min(workers or _processors(), len(batches))
    if wanted <= 1 or sum(batch.size for batch in batches) < _WORTH_WORKERS << decoding:
        yield Crew(None, 1, shares_files=True)
        return
    pool = WorkerProcesses(wanted)
    finished = False
    try:
        yield Crew(pool, wanted + 1, shares_files=True)
        finished = True
    finally:
        pool.shutdown(cancel_futures=not finished)


def run(
    team: Crew,
    batches: Sequence[Batch],
    prepare: Callable[[Batch], tuple[list[_Job], object]],
    work: Callable[[list[_Job]], list[_Result]],
    *,
    in_order: bool = False,
) -> Iterator[tuple[Batch, list[_Result]]]:
    """Do the work on all batches; yield results as they come.

    Args:
        team: Who does it.
        batches: In the order in which they are begun.
        prepare: Makes a batch's jobs just before they are handed out, and whatever has to live
            until they are done.
        work: Does some jobs.
        in_order: Yield results in the order of the batches.

    Raises:
        WorkerError: A worker died.
    """
    if team.executor is None:
        for batch in batches:
            jobs, _kept = prepare(batch)
            yield batch, work(jobs)
        return
    waiting = iter(batches)
    running: dict[Future[list[_Result]], tuple[Batch, object]] = {}
    try:
        while True:
            for batch in itertools.islice(waiting, team.in_flight - len(running)):
                jobs, kept = prepare(batch)
                running[_submit(team.executor, work, jobs)] = batch, kept
            if not running:
                return
            if in_order:
                future = next(iter(running))
            else:
                future = next(iter(wait(running, return_when=FIRST_COMPLETED).done))
            result = _result(future)
            batch, _kept = running.pop(future)
            yield batch, result
    finally:
        for future in running:
            future.cancel()


def _submit(
    executor: Executor, work: Callable[[list[_Job]], list[_Result]], jobs: list[_Job]
) -> Future[list[_Result]]:
    try:
        return executor.submit(_do, work, jobs, uuid.uuid4().hex)
    except BrokenExecutor as error:
        raise _death() from error


def _do(work: Callable[[list[_Job]], list[_Result]], jobs: list[_Job], _name: str) -> list[_Result]:
    """Do the work; with a name of its own, Dask does not take it for work that was cancelled."""
    return work(jobs)


def _result(future: Future[list[_Result]]) -> list[_Result]:
    try:
        return future.result()
    except (BrokenExecutor, CancelledError) as error:
        raise _death() from error


def _death() -> WorkerError:
    return WorkerError(
        "a worker process died while it coded a tensor",
        hint="out of memory, perhaps: try fewer workers",
    )


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
