"""Checks of ``donau:`` in a site file beyond types: above all for a dialect that cannot be spoken. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from ddqjobs.base.units import seconds
from ddqjobs.schedulers.backend import Found
from ddqjobs.schedulers.donau.options import NAME, Donau, DonauDialect, DonauQuestion, of
from ddqjobs.spec.site import Site

_DIALECT = (NAME, "dialect")
# What is to be written in the place of an option of the dialect; the others are ours.
_INSTEAD = {
    "account": "`account`",
    "queue": "`queue`",
    "label": "`label`",
    "job_type": "`job_type`",
    "resources": "`resources` in the task",
    "replicas": "`resources.nodes` in the task",
    "nodes": "`resources.nodes` in the task",
    "time": "`resources.time` in the task, or `limits.time`",
    "requeue": "`requeue`",
}


def problems(site: Site) -> Found:
    """Yield (place in the file, what is wrong). A dialect is needed only where Donau is the scheduler."""
    donau = of(site)
    try:
        seconds(donau.launch.meet)
    except ValueError as error:
        yield (NAME, "launch", "meet"), str(error)
    if site.scheduler == NAME:
        yield from _donau(donau)


def _donau(donau: Donau) -> Found:
    dialect = donau.dialect
    if dialect is None:
        yield ("donau",), "scheduler: donau needs donau.dialect; inherit one: `base: donau` or `base: bscc`"
        return
    if not donau.launch.job:
        yield ("donau", "launch"), "job: name the variables that hold a job's id"
    for switch, name, thing in (("dependencies", "dependency", "{job}"), ("avoid", "avoid", "{node}")):
        option = getattr(dialect, name)
        if getattr(donau, switch) and not (len(option) == 2 and thing in option[1]):
            yield (*_DIALECT, name), f"needs an option and its value with {thing}, where donau.{switch} is on"
        if getattr(donau, switch) and f"{{{name}}}" not in dialect.submit:
            yield (*_DIALECT, "submit"), f"needs the word {{{name}}}, where donau.{switch} is on"
    for name in ("name", "time"):
        if not getattr(dialect.options, name):
            yield (*_DIALECT, "options"), f"{name}: a job cannot be submitted without this option"
    yield from _further(donau, dialect)
    yield from _patterns(dialect)
    yield from _commands(dialect)


def _further(donau: Donau, dialect: DonauDialect) -> Found:
    """Yield options of ``extra`` that have a key, and those by which jobs are found and read."""
    options = msgspec.structs.asdict(dialect.options)
    keys = {option.partition(" ")[0]: key for key, option in options.items() if option}
    keys.update(dict.fromkeys(dialect.dependency[:1], ""))
    for number, text in enumerate(donau.extra):
        flags = (word.partition("=")[0] for word in text.split() if word.startswith("-"))
        for flag in (flag for flag in flags if flag in keys):
            key = _INSTEAD.get(keys[flag], "")
            why = (
                f"has a key of its own: write {key}"
                if key
                else "is ddqjobs' own: by it jobs are found and read"
            )
            yield (NAME, "extra", number), f"{flag} {why}"


def _patterns(dialect: DonauDialect) -> Found:
    patterns = dialect.patterns
    lists = {"refused": patterns.refused, "login": patterns.login, "nothing": patterns.nothing}
    all_of = [(("accepted",), patterns.accepted)]
    all_of += [((name, n), text) for name, texts in lists.items() for n, text in enumerate(texts)]  # type: ignore[misc]
    for path, text in all_of:
        try:
            groups = re.compile(text).groups
        except re.error as error:
            yield (*_DIALECT, "patterns", *path), f"{text!r} is no regular expression: {error}"
            continue
        if path == ("accepted",) and groups != 1:
            yield (*_DIALECT, "patterns", *path), f"{text!r} needs one group, the job's id, and has {groups}"


def _commands(dialect: DonauDialect) -> Found:
    yield from _needs(("submit",), dialect.submit, ("{script}",), ("{dependency}", "{avoid}"))
    for name in ("cancel", "hold", "release"):
        argv = getattr(dialect, name)
        if argv or name == "cancel":
            yield from _needs((name,), argv, ("{job}",))
    for number, argv in enumerate(dialect.help):
        yield from _needs(("help", number), argv, ())
    for number, question in enumerate(dialect.find):
        yield from _needs(("find", number), question.argv, ("{token}",))
    if not dialect.find or not dialect.ask or dialect.ask[0].about != "all":
        yield _DIALECT, "needs at least one question in `find`, and a first one in `ask` that is about all"
    for number, question in enumerate(dialect.ask):
        yield from _question(("ask", number), question)


def _question(path: tuple[str | int, ...], question: DonauQuestion) -> Found:
    one = question.form == "details"
    if one != any("{job}" in word for word in question.argv) or one == ("{jobs}" in question.argv):
        wanted = "{job}, and not {jobs}" if one else "the word {jobs}, and not {job}"
        yield (*_DIALECT, *path), f"a question of form {question.form} needs {wanted}"


def _needs(
    path: tuple[str | int, ...], argv: Iterable[str], needed: Iterable[str], allowed: Iterable[str] = ()
) -> Found:
    command = list(argv)
    if not command or command[0].startswith("{"):
        yield (*_DIALECT, *path), "needs a command"
    for placeholder in needed:
        if not any(placeholder in word for word in command):
            yield (*_DIALECT, *path), f"needs {placeholder}"
    known = {*needed, *allowed}
    for placeholder in (name for word in command for name in re.findall(r"\{\w*\}", word)):
        if placeholder not in known:
            yield (
                (*_DIALECT, *path),
                f"unknown placeholder {placeholder}; there are: {', '.join(sorted(known))}",
            )
