"""Lines, tables and JSON on stdout, messages on stderr: nothing else prints."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

JSON_VERSION = 1
COLOURS = {
    "done": "green",
    "active": "cyan",
    "eligible": "yellow",
    "waiting": None,
    "failed": "red",
    "cancelled": "magenta",
    "ok": "green",
    "warning": "yellow",
    "error": "red",
}


class OutputError(OSError):
    """Standard output took no more."""


def silence() -> None:
    """Throws away what is left to print: a stream that refused it would complain once more at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str) -> None:
    """An error message on stderr, each line with what it is."""
    for line in message.splitlines():
        _tell(f"error: {line}", fg="red")


def warn(message: str) -> None:
    """A warning on stderr."""
    _tell(f"warning: {message}", fg="yellow")


def inform(message: str) -> None:
    """A line on stderr about something that was done."""
    _tell(message)


def note(text: str) -> None:
    """A line on stderr for who waits at a terminal: what takes long just now."""
    if sys.stderr.isatty():
        _tell(text, dim=True)


def _tell(text: str, **look: Any) -> None:
    """A line on stderr. Where that is closed or full there is nobody to tell, and the exit code still says
    what it says."""
    from ddqjobs.base.secrets import masked
    from ddqjobs.base.text import clean

    text = masked(text)
    with contextlib.suppress(OSError):
        typer.echo(style(clean(text), **look) if sys.stderr.isatty() else clean(text), err=True)


def style(text: str, *, fg: str | None = None, **look: Any) -> str:
    """Text with a colour or another look, as far as the terminal's user wants it (https://no-color.org)."""
    if os.environ.get("TERM") == "dumb":
        return text
    colour = None if os.environ.get("NO_COLOR") else fg
    return typer.style(text, fg=colour, **look) if colour or look else text


def ensure_streams() -> None:
    """Gives a process that was started with closed streams (`>&-`) others that lead nowhere: the next file
    that is opened would get their number, and whatever a child prints."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # numbers 0, 1, 2: lowest first
        if getattr(sys, name) is None:
            stream = os.fdopen(os.open(os.devnull, os.O_RDWR), mode)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def say(text: str) -> None:
    """A line on stdout, with everything that a terminal might act upon spelled out."""
    from ddqjobs.base.secrets import masked
    from ddqjobs.base.text import clean

    put(clean(masked(text)))


def put(text: str) -> None:
    """Text on stdout as it is: what was made harmless already, or must reach a file unchanged."""
    # Some locales cannot say everything that a name may hold; a path's undecodable bytes no locale can.
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error


def put_utf8(text: str) -> None:
    """Text on stdout as UTF-8, whatever the locale: a document that says itself that it is."""
    sys.stdout.flush()
    try:
        sys.stdout.buffer.write(text.encode() + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error


def say_json(kind: str, **content: object) -> None:
    """One versioned JSON document on stdout."""
    import msgspec

    from ddqjobs.base.secrets import masked

    document = {"version": JSON_VERSION, "kind": kind, **content}
    put(masked(msgspec.json.format(msgspec.json.encode(document), indent=1).decode()))


def settle(warnings: Sequence[str]) -> None:
    """The last thing that a command does: says on stderr what could not be asked, and then exits with 3."""
    for warning in dict.fromkeys(warnings):
        warn(warning)
    if warnings:
        raise typer.Exit(3)


def terminal_width() -> int | None:
    """Return the columns of the terminal, 80 where it does not know (Python 3.10 then says 0); None where
    stdout is none."""
    import shutil

    return (shutil.get_terminal_size().columns or 80) if sys.stdout.isatty() else None


def run_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, leave_out: Sequence[str] = (), state: str
) -> str:
    """A list of runs, whose names a terminal never cuts; piped it has all columns, as wide as they are.
    ``state`` is the column that gets colours."""
    from ddqjobs.base.narrow import listed
    from ddqjobs.base.secrets import masked
    from ddqjobs.base.text import format_table

    width = terminal_width()
    if width is None:
        return masked(format_table(header, rows))

    def paint(row: int, title: str, text: str) -> str:
        if row < 0:
            return style(text, bold=True)
        return style(text, fg=COLOURS.get(text.strip())) if title == state else text

    lines = listed(header, rows, width=width, leave_out=leave_out, paint=paint)
    return masked("\n".join(line for several in lines for line in several))


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, align: str = "", status: int | None = None
) -> str:
    """A table as wide as the terminal (unlimited when piped); ``status`` is the column that gets colours."""
    from ddqjobs.base.secrets import masked
    from ddqjobs.base.text import format_table

    width = terminal_width()

    def paint(row: int, column: int, text: str) -> str:
        if row < 0:
            return style(text, bold=True)
        return style(text, fg=COLOURS.get(text.strip()) if column == status else None)

    return masked(
        format_table(header, rows, align=align, width=width, paint=None if width is None else paint)
    )
