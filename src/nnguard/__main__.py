"""`python -m nnguard`, and what the `nnguard` command runs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

__all__ = ["run"]


def run() -> None:
    """Run a command and leave with its exit code."""
    _open_what_is_closed()
    _keep_output_clean()
    for name in ("SIGTERM", "SIGHUP"):  # leave as by SIGINT, so that temporary files go
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
            signal.signal(number, _leave)
    sys.unraisablehook = _unraisable
    sys.exit(_main())


def _main() -> int:
    """Run the command, and make sure that all it says has been written."""
    try:
        from nnguard._cli import main  # here, as it takes a while

        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt as told:
        number = signal.Signals(told.args[0] if told.args else signal.SIGINT)
        with contextlib.suppress(OSError):  # the terminal may be what is gone
            sys.stderr.write(f"nnguard: interrupted by {number.name}\n")
        code = 128 + number
    except BrokenPipeError:  # whoever read the output has enough, as in `| head`
        _drop_output()
        code = 128 + getattr(signal, "SIGPIPE", 13)
    except OSError as error:
        from nnguard._cli.failures import describe, exit_code_of

        describe(error, as_json=False)
        _drop_output()
        code = exit_code_of(error)
    return code


def _drop_output() -> None:
    """Let go of what could not be printed: it is flushed once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(number: int, _: object) -> None:
    raise KeyboardInterrupt(number)


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Signal once more where a signal came while a finalizer ran, which drops exceptions."""
    told = lost.exc_value
    if not isinstance(told, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    number = told.args[0] if told.args else signal.SIGINT
    threading.Timer(0.01, os.kill, (os.getpid(), number)).start()


def _open_what_is_closed() -> None:
    """Open standard streams that were closed, or files that are opened would take their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _keep_output_clean() -> None:
    """Send what nncodec prints, around Python, to standard error."""
    try:
        if sys.stdout.fileno() != 1:
            return
    except (AttributeError, OSError):  # there is none, or it is not a file
        return
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    buffering = 1 if os.isatty(output) else -1
    sys.stdout = os.fdopen(output, "w", buffering, encoding, errors)


if __name__ == "__main__":
    run()
