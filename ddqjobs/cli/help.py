"""Help in panels, as wide as the terminal. rich, which Typer uses for it, takes longer to import than all of
ours, and breaks words where a column is narrow."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from ddqjobs.cli.output import style

NARROWEST, WIDEST = 40, 100
SHORT = 60  # cells of a help beside a word that completes another
TERM = 26  # cells: what is longer stands on a line of its own
_ROUND, _PLAIN = "╭─╮│╰╯", "+-+|++"  # where the terminal's encoding has no lines
Row = tuple[str, str]  # term, text
Function = TypeVar("Function", bound=Callable[..., Any])
# Typer's names of types in a user's words.
_WORDS = (
    (r"\\\[", "["),  # older versions escape rich's markup, and have words in capitals
    (r"<(?:int|float)(?: range)?>|\b(?:INTEGER|FLOAT)(?: RANGE)?\b", "N"),
    (r"<str>", "TEXT"),
    (r"<path>", "PATH"),
    (r"<(\w[^ >]*)>", r"\1"),
    (r"\b([\d.]+)<=x<=([\d.]+)", r"\1 to \2"),
    (r"\bx>=([\d.]+)", r"at least \1"),
)


class App(typer.Typer):
    """A Typer application whose help is ours."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("cls", Group)
        super().__init__(rich_markup_mode=None, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """Return a decorator that makes a function a command."""
        return super().command(name, cls=Command, **settings)


def _short(items: list[Any]) -> list[Any]:
    """Return words for the shell's completion with a help of one line: zsh and fish take lines for words."""
    for item in items:
        item.help = textwrap.shorten(item.help, SHORT, placeholder="...") if item.help else item.help
    return items


class Command(TyperCommand):
    """A command with panels for arguments, options and filters."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return what completes the word."""
        return _short(super().shell_complete(ctx, incomplete))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(page(self, ctx, _parameters(self, ctx)))


class Group(TyperGroup):
    """Commands in their panels, then options."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return what completes the word."""
        return _short(super().shell_complete(ctx, incomplete))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        panels: dict[str, list[Row]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            panels.setdefault(command.rich_help_panel or "Commands", []).append((name, _summary(command)))
        formatter.write(page(self, ctx, panels | _parameters(self, ctx)))


def page(command: Any, ctx: Any, panels: dict[str, list[Row]]) -> str:
    """Return usage, text, panels and epilogue."""
    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns or 80))  # 3.10 may say 0
    text, examples = _examples(command.help or "")
    parts = [_wrapped(command.get_usage(ctx), width, "      ")]
    parts += [_wrapped(" ".join(paragraph.split()), width) for paragraph in text.split("\n\n")]
    if examples:
        parts.append("\n".join(["Examples:", *(_wrapped(f"  {e}", width, "    ") for e in examples)]))
    parts.append("\n".join(_panel(title, rows, width) for title, rows in panels.items() if rows))
    if command.epilog:
        parts.append(_wrapped(command.epilog, width))
    return "\n" + "\n\n".join(filter(None, parts)) + "\n"


def _parameters(command: Any, ctx: Any) -> dict[str, list[Row]]:
    panels: dict[str, list[Row]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
            panel = getattr(parameter, "rich_help_panel", None) or kind
            panels.setdefault(panel, []).append((_worded(record[0]), _worded(" ".join(record[1].split()))))
    return panels


def _worded(text: str) -> str:
    for pattern, replacement in _WORDS:
        text = re.sub(pattern, replacement, text)
    return text


def _summary(command: Any) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


def _examples(text: str) -> tuple[str, list[str]]:
    """Split what follows `Examples:` off, an example each."""
    before, _, after = re.sub(r"Examples?: ", "\0", text).partition("\0")
    return before.rstrip(), [" ".join(e.split()) for e in re.split(r";\s", after) if e.strip()]


def _panel(title: str, rows: Sequence[Row], width: int) -> str:
    encoding = sys.stdout.encoding or "ascii"
    corner, line, right, side, low, end = tuple(
        _ROUND if _ROUND.encode(encoding, "ignore").strip() else _PLAIN
    )
    room = width - 4
    lines = [f"{corner}{line} {title} {line * (width - 5 - len(title))}{right}"]
    lines += [f"{side} {text}{' ' * (room - size)} {side}" for text, size in _rows(rows, room)]
    return "\n".join([*lines, f"{low}{line * (width - 2)}{end}"])


def _rows(rows: Sequence[Row], room: int) -> Iterable[tuple[str, int]]:
    """Yield lines, painted, with the number of cells that they take."""
    term = max([len(name) for name, _ in rows if len(name) <= TERM], default=0)
    for name, text in rows:
        alone = len(name) > term
        if alone:
            yield style(name, bold=True), len(name)
        for number, line in enumerate(_lines(text, room - term - 2) or [""]):
            first = "" if alone or number else name
            blank = " " * (term + 2 - len(first))
            yield (style(first, bold=True) if first else "") + blank + line, term + 2 + len(line)


def _lines(text: str, width: int, hang: str = "") -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False)


def _wrapped(text: str, width: int, hang: str = "") -> str:
    return "\n".join(_lines(text, width, hang))
