"""The colour of each verdict, in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ddqjobs.report.verdict import Outcome


class Tone(NamedTuple):
    """A colour's name in the page's style sheet, in the terminal, and (text, background) in both schemes."""

    name: str
    terminal: str
    light: tuple[str, str]
    dark: tuple[str, str]


GOOD = Tone("good", "green", ("#0b5a37", "#dff3e6"), ("#8fe3b4", "#103a26"))
BAD = Tone("bad", "red", ("#8c1a11", "#fde7e4"), ("#ffb3aa", "#4c1712"))
ABOVE = Tone("above", "magenta", ("#6b2180", "#f5e3fa"), ("#e3b3f2", "#42164f"))
OPEN = Tone("open", "yellow", ("#674600", "#fdf0cf"), ("#f5cf7a", "#413000"))

TONES = {
    Outcome.REPRODUCED: GOOD,
    Outcome.EQUAL: GOOD,
    Outcome.SHORT: BAD,
    Outcome.DIFFERS: BAD,
    Outcome.EXCEEDS: ABOVE,
    Outcome.UNKNOWN: OPEN,
}


def terminal(outcome: str) -> str | None:
    """Return the terminal's colour of an outcome; None for any other word."""
    return {known.value: tone.terminal for known, tone in TONES.items()}.get(outcome)


def css() -> str:
    """Return the rules of the page: each tone as a variable, and each outcome's class."""
    return "\n".join(_rules())


def _rules() -> Iterator[str]:
    tones = tuple(dict.fromkeys(TONES.values()))
    yield f":root {{ {' '.join(_variables(tone.name, tone.light) for tone in tones)} }}"
    dark = " ".join(_variables(tone.name, tone.dark) for tone in tones)
    yield f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    for outcome, tone in TONES.items():
        ink, back = f"var(--{tone.name})", f"var(--{tone.name}-back)"
        yield f".{outcome.value} {{ color: {ink}; background: {back}; }}"
        yield f".mark.{outcome.value} {{ --back: {back}; }}"


def _variables(name: str, colours: tuple[str, str]) -> str:
    ink, back = colours
    return f"--{name}: {ink}; --{name}-back: {back};"
