"""Worker processes that code tensors, started and stopped with the work.

Each is a fresh interpreter that answers calls over its standard input and output, one at a time, so
the caller's main module is not run again and a worker that dies is an end of file. It ends when its
input does, whatever becomes of the caller (`docs/adr/0007-workers.md`).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar, cast

__all__ = ["WorkerProcesses", "answer_calls"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_BOOTSTRAP = (
    "import sys; sys.path[:] = {path!r}; "
    "from nnguard.compression.processes import answer_calls; answer_calls()"
)

# Without threads for linear algebra: each worker would start as many as there are processors.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class WorkerProcesses(Executor):
    """An executor over worker processes; a thread waits for each of them.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._own = threading.local()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads = ThreadPoolExecutor(count)
        for _ in range(count):
            self._processes.append(_start())
        self._idle = list(self._processes)

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Call a function of a module in a worker.

        The future raises `BrokenExecutor` if the worker dies.
        """
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the workers: after the work that was submitted, or at once with `cancel_futures`."""
        if cancel_futures:
            for process in self._processes:
                process.kill()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        for process in self._processes:
            with contextlib.suppress(OSError):
                process.communicate()

    def _call(self, fn: Callable[..., _T], args: Any, kwargs: Any) -> _T:
        if not hasattr(self._own, "process"):
            self._own.process = self._idle.pop()
        process: subprocess.Popen[bytes] = self._own.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump((fn, args, kwargs), process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            value, error = pickle.load(process.stdout)  # noqa: S301 - from our own child
        except (EOFError, OSError, pickle.UnpicklingError):
            code = process.wait()
            raise BrokenExecutor(f"a worker ended with exit status {code}") from None
        if error is not None:
            raise error
        return cast(_T, value)


def answer_calls() -> None:
    """Answer calls until standard input ends; what runs in a worker process."""
    calls = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # the extension prints
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            fn, args, kwargs = pickle.load(calls)  # noqa: S301 - from our own parent
            answer: tuple[object, Exception | None]
            try:
                answer = fn(*args, **kwargs), None
            except Exception as error:
                answer = None, error
            del args, kwargs
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
            del answer
    os._exit(0)  # the caller waits, and there is nothing to tidy up


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this very interpreter
        [sys.executable, "-c", _BOOTSTRAP.format(path=sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | _ENVIRONMENT,
        start_new_session=True,  # Ctrl-C is for the caller, who stops the workers
    )
