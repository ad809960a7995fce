"""End a command: errors become one clear message and an exit code."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from ddqjobs.cli.interrupts import INTERRUPTED, TERMINATED, Interruptible, Terminable, Terminated
from ddqjobs.cli.output import OutputError, fail, silence

RUNS_GO_ON = "what was submitted so far is recorded, and runs go on: see `ddqjobs status`"
SAME_AGAIN = "finished parts are kept, and the same command goes on from there"


def reporting(
    function: Callable[..., None], *, interrupted: str = RUNS_GO_ON, terminable: bool = False
) -> Callable[..., None]:
    """Turns our errors into one clear message and their exit code; Ctrl-C into 130, saying what it means.

    With ``terminable`` SIGTERM becomes 143 in the same way, and the programs that the command started end."""

    @functools.wraps(function)
    def command(*args: Any, **arguments: Any) -> None:
        from ddqjobs.base.errors import DdqjobsError

        try:
            with Interruptible(), Terminable() if terminable else contextlib.nullcontext():
                function(*args, **arguments)
        except DdqjobsError as error:
            fail(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            fail(f"interrupted; {interrupted}")
            raise typer.Exit(INTERRUPTED) from None
        except Terminated:
            fail(f"terminated; {interrupted}")
            raise typer.Exit(TERMINATED) from None
        except typer.Abort:  # at a question
            fail("interrupted; nothing was done")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            silence()  # whoever read us has gone; there is nobody left to tell
            raise typer.Exit(141) from None
        except OSError as error:
            refused(error)
            raise typer.Exit(2) from None

    return command


def refused(error: OSError) -> None:
    """Says what the operating system refused where nothing closer to it did."""
    from ddqjobs.base.errors import refusal

    why = error.strerror or str(error)
    if isinstance(error, OutputError):
        fail(f"the output cannot be written: {why}")
        silence()
    elif error.filename:
        fail(f"{os.fsdecode(error.filename)}: {refusal(error)}")
    elif not _here():
        fail("the folder that this shell is in was removed: change to another, then run the command again")
    else:
        fail(why)


def _here() -> bool:
    """Return whether the working folder is still there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True
