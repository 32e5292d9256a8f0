"""How the fuzzers that mutate in two ways are started: half libFuzzer's, half our own."""

from __future__ import annotations

import contextlib
import gc
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType

import atheris

from nnguard.errors import NnguardError

Change = Callable[[random.Random, bytes], bytes]


def fuzz(use: Callable[[bytes], object], change: Change, seeds: Iterable[bytes]) -> None:
    """Fuzz as the command line says, the corpus first; only NnguardError may come out.

    What is to be covered must have been imported.
    """
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed{number}").write_bytes(seed)

    def one_input(data: bytes) -> None:
        with contextlib.suppress(NnguardError):
            use(data)

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if not data or rng.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return change(rng, data)[:most]

    for function in gc.get_objects():  # the loader of an editable install cannot be wrapped
        if isinstance(function, FunctionType) and "src/nnguard" in function.__code__.co_filename:
            atheris.instrument_func(function)
    atheris.Setup(sys.argv, one_input, custom_mutator=mutated)
    atheris.Fuzz()
