"""The command line: `nnguard COMMAND ...`."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

# NumPy starts threads for linear algebra, of which there is none here; it takes 40 ms.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import click

from nnguard._cli.commands import NNGUARD
from nnguard._cli.failures import BUG, check_uninterrupted, describe, exit_code_of, is_expected

__all__ = ["main"]

_COMPLETE = "_NNGUARD_COMPLETE"
"""What a shell sets to ask for completions; see `nnguard completion`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    if _COMPLETE in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(NNGUARD, {}, "nnguard", _COMPLETE, os.environ[_COMPLETE])
    arguments = [*(sys.argv[1:] if arguments is None else arguments)]
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    try:
        with NNGUARD.make_context("nnguard", [*arguments]) as context:
            code: int = NNGUARD.invoke(context)
            return code
    except click.exceptions.Exit as done:
        return done.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:
        check_uninterrupted(error)
        verbose = {"-v", "--verbose"} & {*arguments} and not isinstance(error, click.UsageError)
        if verbose or not is_expected(error):
            traceback.print_exc()
        describe(error, as_json="--json" in arguments)
        return exit_code_of(error) if is_expected(error) else BUG
