"""Find what a site file says that cannot be true: invalid durations, folders that no node has.

Types and keys were checked before (:mod:`ddqjobs.spec.reader`), and each scheduler checks its own section
(:mod:`ddqjobs.planning.sections`). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ddqjobs.base.errors import Problem
from ddqjobs.base.shell_variables import refused
from ddqjobs.spec.check import notify
from ddqjobs.spec.check.commands import refusal
from ddqjobs.spec.reader import Document
from ddqjobs.spec.site import Site
from ddqjobs.spec.table import Place, durations

Found = Iterator[tuple[tuple[str | int, ...], str]]
_COMMAND = re.compile(r"(?:conda|mamba|micromamba|source|\.|module|eval)\s")
_PYTHON = re.compile(r".*/python[\d.]*")


def check(read: Document[Site]) -> list[Problem]:
    """All problems, by file and line."""
    site = read.value
    problems = [*_durations(site), *_folders(site), *_scripts(site), *_variables(site)]
    problems += notify.check(site.notify)
    return sorted({Problem(*read.line_of(path), message) for path, message in problems})


def _durations(site: Site) -> Found:
    keys = ("warning", "grace", "submit_timeout", "avoid_bad_nodes", "hang")
    values: dict[Place, str] = {(key,): getattr(site, key) for key in keys}
    values["limits", "time"] = site.limits.time or "0s"
    return durations(values)


def _variables(site: Site) -> Found:
    for name in filter(refused, site.variables):
        yield ("variables", name), refusal(name)


def _scripts(site: Site) -> Found:
    """Yield what surely is not the path of a script that enters an environment."""
    for name, text in site.activate.items():
        if _COMMAND.match(text) or not re.search(r"^\$|/", text):
            example = "~/miniconda3/envs/det/bin/activate"
            yield ("activate", name), f"{text!r} is not the path of a script; write for example {example}"
        elif _PYTHON.fullmatch(text):
            script = f"{text.rpartition('/')[0]}/activate"
            yield ("activate", name), f"{text} is a Python, not a script that a shell reads; name {script}"


def _folders(site: Site) -> Found:
    if not re.match(r"[/~$]|$", site.stage_to):
        yield ("stage_to",), f"{site.stage_to!r} is no folder of a node: begin with /, ~ or a $VARIABLE"
