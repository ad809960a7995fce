"""Ctrl-C before a command begins and after it has ended, and TERM while one runs that starts others. Imports
little: it is there before anything else."""

from __future__ import annotations

# What `signal` is made of. `signal` itself imports enum first: a third of the time before Ctrl-C is heard.
import _signal as signal  # type: ignore[import-not-found]
import os

INTERRUPTED = 130
TERMINATED = 143


def leave_at_once() -> None:
    """Make Ctrl-C end the process with 130 and no traceback, as long as no command has begun; one that
    `ddqjobs.sh` held back does so now."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background ignores it
        signal.signal(signal.SIGINT, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _leave(_number: int, _frame: object) -> None:
    os._exit(INTERRUPTED)


class Interruptible:
    """While a command runs, Ctrl-C raises KeyboardInterrupt again."""

    def __enter__(self) -> None:
        self._ours = signal.getsignal(signal.SIGINT) is _leave
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, _leave)


class Terminable:
    """While a command runs, SIGTERM raises :class:`Terminated`, so that what it started ends with it."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, _raise)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)


class Terminated(BaseException):
    """SIGTERM was received."""


def _raise(_number: int, _frame: object) -> None:
    raise Terminated
