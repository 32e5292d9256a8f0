"""The seller's own function, which says how good a network is (`--evaluate`)."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["load_function"]


def load_function(text: str) -> Callable[[Any], float]:
    """Load the function that `--evaluate FILE.py:FUNCTION` names, which runs the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be run, or has no such function. Calling the function raises it, too,
            wherever the seller's code fails or gives no number.
    """
    path, colon, name = text.rpartition(":")
    if not colon:
        raise ValueError(f"--evaluate {text}: give a file and a function, FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--evaluate {text}: {path} is no Python file")
    if not Path(path).is_file():
        raise FileNotFoundError(f"--evaluate {text}: there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses, among others, look for it there
    sys.path.insert(0, str(Path(path).resolve().parent))
    with _their_code(text, spec.origin):
        spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"--evaluate {text}: {path} has no function {name}")

    def evaluate(weights: Any) -> float:
        with _their_code(text, spec.origin):
            return float(function(weights))

    return evaluate


@contextlib.contextmanager
def _their_code(text: str, path: str | None) -> Iterator[None]:
    """Run the seller's code: what it prints is no result, and where it fails is told."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        where = f"line {lines[-1]}: " if lines else ""
        message = f"--evaluate {text}: {where}{type(error).__name__}: {error}"
        raise ValueError(message) from error
