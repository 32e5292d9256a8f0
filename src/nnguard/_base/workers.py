"""Work on several tensors side by side, by threads or an executor of the caller's.

The coder works without the interpreter's lock, so threads run side by side. Where they are asked
between pieces of a tensor whether to go on, they stop soon after whoever waits for them does.
"""

from __future__ import annotations

import collections
import itertools
import os
import queue
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
)
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from nnguard._base.arguments import wrong_type
from nnguard.errors import ArgumentError, WorkerError

__all__ = ["HERE", "Call", "Pool", "Workers", "in_order"]

_Result = TypeVar("_Result")

Call = tuple[Callable[..., _Result], tuple[Any, ...]]
"""A function and its arguments."""


class _StoppedError(Exception):
    """The work is no longer wanted."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers for as long as there is work; made by `Workers.pool`.

    Attributes:
        remote: They may be on another machine: what they are sent, and return, goes by value.
    """

    remote: bool
    _executor: Executor | None
    _in_hand: int
    _stopped: threading.Event

    def check(self) -> None:
        """Raise where the work is no longer wanted; for work in threads to call now and then."""
        if self._stopped.is_set():
            raise _StoppedError

    def run(
        self, calls: Iterable[Call[_Result]], *, in_order: bool = False
    ) -> Iterator[tuple[int, _Result]]:
        """Make calls; yield the number of each, from 0 on, and its result.

        Where there is no executor, the caller's thread makes them. What a call raises is raised.

        Args:
            calls: Each is taken just before it is handed out.
            in_order: Yield results in the order of the calls, not as they come.

        Raises:
            WorkerError: A worker died.
        """
        numbered = enumerate(calls)
        if self._executor is None:
            yield from ((number, call(*arguments)) for number, (call, arguments) in numbered)
            return
        running: dict[Future[_Result], int] = {}
        done: queue.SimpleQueue[Future[_Result]] = queue.SimpleQueue()
        try:
            while True:
                for number, call in itertools.islice(numbered, self._in_hand - len(running)):
                    future = _submit(self._executor, *call)
                    running[future] = number
                    if not in_order:
                        future.add_done_callback(done.put)
                if not running:
                    return
                # Not `concurrent.futures.wait`, which never tells of what a shutdown has canceled.
                future = next(iter(running)) if in_order else done.get()
                result = _result_of(future)
                yield running.pop(future), result
        finally:
            for future in running:
                future.cancel()


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
        rest: Iterator[tuple[Any, ...]] = zip(items, *more)  # noqa: B905 - more may be longer
        first = collections.deque(itertools.islice(rest, self._most))
        with self.pool(len(first)) as pool:
            every = itertools.chain(_taken(first), rest)
            arguments = map(_by_value, every) if pool.remote else every
            for _, result in pool.run(zip(itertools.repeat(call), arguments), in_order=True):
                yield result

    @contextmanager
    def pool(self, calls: int) -> Iterator[Pool]:
        """Give workers for so many calls, and see to it that no thread is left behind."""
        stopped = threading.Event()
        if self.executor is not None:
            yield Pool(True, self.executor, self._most, stopped)
            return
        wanted = min(self._most, calls)
        if wanted <= 1:
            yield Pool(False, None, wanted, stopped)
            return
        threads = ThreadPoolExecutor(wanted, thread_name_prefix="nnguard")
        try:
            yield Pool(False, threads, wanted + 1, stopped)
        except BaseException:
            stopped.set()
            raise
        finally:
            threads.shutdown(cancel_futures=True)

    @property
    def _most(self) -> int:
        """How many threads there are at most, or how many calls an executor has in hand."""
        return self.count or _processors() * (1 if self.executor is None else 2)


HERE = Workers()
"""Threads of this process, as many as there are processors."""


def in_order(
    call: Callable[..., _Result], items: Iterable[Any], *more: Iterable[Any]
) -> Iterator[_Result]:
    """Call a function with each item, in threads of this process; see `Workers.in_order`."""
    return HERE.in_order(call, items, *more)


@runtime_checkable
class _ByValue(Protocol):
    """What says where its bytes lie."""

    def by_value(self) -> Any:
        """Return the same with its bytes in memory, for another process."""


def _taken(items: collections.deque[_Result]) -> Iterator[_Result]:
    """Yield items, and let go of each."""
    while items:
        yield items.popleft()


def _by_value(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments that hold their bytes."""
    return tuple(each.by_value() if isinstance(each, _ByValue) else each for each in arguments)


def _submit(
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


def _result_of(future: Future[_Result]) -> _Result:
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


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
