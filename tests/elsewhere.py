"""An executor that does work as another machine would."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

__all__ = ["Elsewhere"]


class Elsewhere(Executor):
    """Does work from what was sent, and nothing else.

    Attributes:
        sent: What was, pickled.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        sent = pickle.dumps((work, args, options))
        self.sent.append(sent)
        work, args, options = pickle.loads(sent)
        future: Future[Any] = Future()
        try:
            future.set_result(pickle.loads(pickle.dumps(work(*args, **options))))
        except Exception as error:
            future.set_exception(error)
        return future
