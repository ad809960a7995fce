"""Tell which generation of Donau's command line answers, and whether it knows what a site file says. Pure.

What tells the generations apart is data: ``signs`` of each dialect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ddqjobs.base.process import Completed
from ddqjobs.schedulers.donau.options import DonauDialect

_NOT_THERE = 127  # what a shell says of a command that is not there
_OPTION = re.compile(r"--?[A-Za-z][\w-]*")
_FEWEST = 3  # an answer with fewer options is no help text


def signs(dialect: DonauDialect, said: Mapping[str, Completed]) -> dict[str, list[str]]:
    """Command line -> the dialect's signs in its answer (``said``); a command line without any is one itself,
    if the command is there."""
    by_line: dict[str, list[str]] = {}
    for line, of_line in dialect.signs.items():
        done = said.get(line)
        if done is None or done.timed_out or done.code == _NOT_THERE:
            continue
        seen = [word for word in of_line if has(done.stdout + "\n" + done.stderr, word)]
        if seen or not of_line:
            by_line[line] = seen
    return by_line


class Belief(NamedTuple):
    """The generation, with the reasons. None speaks for itself where ``generation`` is empty."""

    generation: str
    reasons: str  # what speaks for it
    against: str  # what speaks for another


def believed(dialects: Sequence[DonauDialect], said: Mapping[str, Completed]) -> Belief:
    """The generation with most signs; none where there are no signs, or as many of one as of another."""
    by_generation: dict[str, dict[str, list[str]]] = {}
    for dialect in dialects:
        seen = signs(dialect, said)
        if _weight(seen) >= _weight(by_generation.get(dialect.generation, {})):
            by_generation[dialect.generation] = seen
    weights = sorted((_weight(seen) for seen in by_generation.values()), reverse=True)
    clear = bool(weights) and weights[0] > (weights[1] if weights[1:] else 0)
    best = next((name for name, seen in by_generation.items() if clear and _weight(seen) == weights[0]), "")
    others = {name: _words(seen) for name, seen in by_generation.items() if name != best and seen}
    return Belief(
        best,
        _words(by_generation.get(best, {})),
        "; ".join(f"{reasons}, as the {name} one" for name, reasons in others.items()),
    )


def _weight(seen: Mapping[str, Sequence[str]]) -> int:
    return sum(max(1, len(of_line)) for of_line in seen.values())


def _words(seen: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"`{line}` " + (f"has {', '.join(w)}" if w else "answers") for line, w in seen.items())


def has(text: str, word: str) -> bool:
    """Return whether a word is in a text, whole: ``-l`` is not in ``--label`` and ``-ll``."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def options_of(dialect: DonauDialect) -> dict[str, list[str]]:
    """Command -> the options that the site file gives it."""
    used: dict[str, dict[str, None]] = {}
    named = (getattr(dialect.options, name) for name in dialect.options.__struct_fields__)
    for argv in _command_lines(dialect, [option for option in named if option]):
        used.setdefault(argv[0], {}).update(dict.fromkeys(w for w in argv[1:] if _OPTION.fullmatch(w)))
    return {command: list(options) for command, options in used.items()}


def missing_options(dialect: DonauDialect, said: Mapping[str, Completed]) -> dict[str, list[str]] | None:
    """Command -> options of the site file that its help does not name; None if no help can be read."""
    missing: dict[str, list[str]] | None = None
    for command, options in options_of(dialect).items():
        done = said.get(f"{command} --help") or said.get(f"{command} -h")
        text = "" if done is None else done.stdout + "\n" + done.stderr
        if len(set(_OPTION.findall(text))) < _FEWEST:
            continue
        missing = {} if missing is None else missing
        absent = [option for option in options if not has(text, option)]
        if absent:
            missing[command] = absent
    return missing


def _command_lines(dialect: DonauDialect, options: Sequence[str]) -> Iterator[list[str]]:
    yield [*dialect.submit, *options, *dialect.dependency[:1], *dialect.avoid[:1]]
    yield from (question.argv for question in (*dialect.find, *dialect.ask, dialect.all))
    yield from (argv for argv in (dialect.cancel, dialect.hold, dialect.release) if argv)
