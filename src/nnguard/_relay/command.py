"""A command that runs as long as there is a lease.

It gets SIGTERM when its lease was not renewed for most of its length, and SIGKILL before the end:
by then it has stopped, whatever `nnguard lease`, the relay and the network do.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nnguard._licensing.lease import Lease
from nnguard._relay import deadman
from nnguard._relay.holder import Holder
from nnguard.errors import ActivationError, ActivationReason, NnguardError

__all__ = ["acquire", "run_leased"]

_LOG = logging.getLogger("nnguard")

_RENEWED_AFTER = 1 / 3
_TERM_LEFT, _KILL_LEFT = 1 / 5, 1 / 20
"""Shares of a lease's length: when it is renewed, and with how much of it left the command ends."""

_TICK = 0.5
_AGAIN = 2.0
_PASSED_ON = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH")
_WAITED_FOR = (ActivationReason.NO_SEATS, ActivationReason.UNREACHABLE)


def acquire(holder: Holder, patience: float) -> Lease:
    """Take a lease; where none is free, or the relay is away, ask again for so many seconds.

    Raises:
        ActivationError: There was none in this time.
        NnguardError: The relay's answer is not right; see `Holder.ask`.
    """
    end = time.monotonic() + patience
    while True:
        try:
            return holder.ask()
        except ActivationError as error:
            if error.reason not in _WAITED_FOR or time.monotonic() >= end:
                raise
        time.sleep(_jittered(_AGAIN))


def run_leased(holder: Holder, save: Callable[[Lease], object], command: Sequence[str]) -> int:
    """Run a command as long as the lease can be renewed.

    What the command leaves behind in its group of processes is ended with it.

    Args:
        holder: Has a lease.
        save: Called with each new lease.
        command: The program, and its arguments.

    Returns:
        Its exit code; 128 and the number of the signal that ended it.

    Raises:
        ActivationError: The lease ended first, and the command was ended for that.
        OSError: There is no such program.
    """
    with _Command(command) as running:
        running.may_run_until(_kill_at(holder))
        over = threading.Event()
        args = (holder, save, running, over)
        threading.Thread(target=_keep, args=args, daemon=True).start()
        with _signals_passed_on(running):
            ended = _watch(holder, running, over)
    if ended:
        raise ActivationError(
            "the lease could not be renewed in time, and the command was ended",
            reason=ActivationReason.UNREACHABLE,
            hint="see whether the relay is up, and its log",
        )
    return running.exit_code


class _Command:
    """A command in a group of its own, and the switch beside it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._switch = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", Path(deadman.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        try:
            self._child = subprocess.Popen(command, preexec_fn=_lead_group)  # noqa: S603
        except BaseException:
            self._tell(b"done")
            raise

    def __enter__(self) -> _Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.send(signal.SIGKILL)  # whatever is left of the group
        self._child.wait()
        self._tell(b"done")
        self._switch.wait()

    def may_run_until(self, end: float) -> None:
        """Let the switch know."""
        self._tell(f"{self._child.pid} {end:.3f}".encode())

    def _tell(self, line: bytes) -> None:
        assert self._switch.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._switch.stdin.write(line + b"\n")

    def ends_within(self, seconds: float) -> bool:
        """Wait for the command; tell whether it has ended."""
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send(self, number: int) -> None:
        """Send a signal to all of its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)

    @property
    def exit_code(self) -> int:
        """As a shell has it."""
        code = self._child.returncode
        return 128 - code if code < 0 else code


def _lead_group() -> None:
    os.setpgid(0, 0)


def _keep(
    holder: Holder, save: Callable[[Lease], object], running: _Command, over: threading.Event
) -> None:
    """Renew the lease, again and again; the network may take its time, for nobody waits here."""
    pause = _length(holder) * _RENEWED_AFTER
    while not over.wait(_jittered(pause)):
        try:
            lease = holder.ask()
        except (NnguardError, OSError) as error:
            _LOG.warning("the lease is not renewed: %s", error)
            pause = min(_AGAIN, _length(holder) * _KILL_LEFT)
            continue
        if over.is_set():
            return
        running.may_run_until(_kill_at(holder))
        pause = _length(holder) * _RENEWED_AFTER
        try:
            save(lease)
        except OSError as error:
            _LOG.warning("the lease is not written: %s", error)


def _watch(holder: Holder, running: _Command, over: threading.Event) -> bool:
    """Wait for the command; end it in time where the lease ends. Tell whether that was so."""
    while not running.ends_within(_TICK):
        if _is_ending(holder, _TERM_LEFT) and not over.is_set():
            over.set()  # it is too late for a new one
            _LOG.warning("the lease ends in %.0f seconds: SIGTERM", holder.left)
            running.send(signal.SIGTERM)
        if _is_ending(holder, _KILL_LEFT):
            running.send(signal.SIGKILL)  # the switch does that, too
    ended = over.is_set() or _is_ending(holder, _KILL_LEFT)  # the switch may have been quicker
    over.set()
    return ended


@contextlib.contextmanager
def _signals_passed_on(running: _Command) -> Iterator[None]:
    numbers = [getattr(signal, name) for name in _PASSED_ON if hasattr(signal, name)]
    before = {each: signal.signal(each, lambda got, _: running.send(got)) for each in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _length(holder: Holder) -> float:
    assert holder.lease is not None
    return holder.lease.lasts.total_seconds()


def _is_ending(holder: Holder, share: float) -> bool:
    return holder.left <= _length(holder) * share


def _kill_at(holder: Holder) -> float:
    return holder.end - _length(holder) * _KILL_LEFT


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.7, 1.3)  # noqa: S311 - no secret
