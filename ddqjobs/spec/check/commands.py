"""Commands, variables and products: which placeholders and paths can stand in them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from ddqjobs.base.errors import nearest
from ddqjobs.base.shell_variables import refused
from ddqjobs.spec.check.reference import Found, Path
from ddqjobs.spec.code import PLACEHOLDERS, placeholders
from ddqjobs.spec.experiment import Task

_VALID = ", ".join(PLACEHOLDERS)


def command(at: Path, arguments: list[str], task: Task | None) -> Found:
    """Yield the problems of a command; ``task`` None: a code's, whose tasks may have any inputs."""
    if not arguments:
        yield at, "a command needs at least one word"
    for name in placeholders(arguments):
        kind, _, rest = name.partition(".")
        if kind == "input" and rest:
            if task is not None and rest not in task.inputs:
                listed = ", ".join(task.inputs) or "none"
                yield at, f"unknown input '{rest}' in {{{name}}}; this task's inputs: {listed}"
        elif kind == "env" and rest:
            if not rest.isidentifier() or not rest.isascii():
                yield at, f"'{rest}' in {{{name}}} is not a valid name of an environment variable"
        elif name not in PLACEHOLDERS or "." in name:
            yield (
                at,
                f"unknown placeholder {{{name}}}{nearest(name, PLACEHOLDERS)}; valid: {_VALID}",
            )
    for word in arguments:
        if "{options}" in word and word != "{options}":
            yield at, "{options} stands for any number of words and must be a word of its own"


def value_of_variable(at: Path, value: str, task: Task | None, tree: str | None = None) -> Found:
    """Yield the problems of a variable that a task, or a code with its ``tree``, declares."""
    if at[-1] == "PYTHONPATH" and tree is not None:
        yield from _python_path(at, value, tree)
    elif refused(str(at[-1])):
        yield at, refusal(str(at[-1]))
    if "{options}" in value:
        yield at, "{options} stands for any number of words; a variable has one"
    else:
        yield from command(at, [value], task)


def refusal(name: str) -> str:
    """Return why no file may declare a variable of this name."""
    if name == "PYTHONPATH":
        return "PYTHONPATH is declared by a code or an environment and nowhere else"
    return f"{name} cannot be declared: it would change the interpreter, what it loads, or the ranks"


def _python_path(at: Path, value: str, tree: str) -> Found:
    """Yield the folders outside of the code's tree: what lies there is in no digest."""
    home = ("{env.HOME}", "$HOME", "${HOME}")
    for entry in value.split(":"):
        if entry.startswith("~"):
            yield at, f"no shell expands '{entry}' in a variable; write {{env.HOME}}{entry[1:]}"
            continue
        place = next((f"~{entry[len(word) :]}" for word in home if entry.startswith(word)), entry)
        own = entry in ("", "{env.PYTHONPATH}") or entry.startswith("{code}")
        relative = not entry.startswith(("/", "~", "{", "$")) and ".." not in PurePosixPath(entry).parts
        inside = bool(tree) and PurePosixPath(place).is_relative_to(tree) and ".." not in place
        if not (own or relative or inside):
            below = f"the code's path, {tree}" if tree else "the task code (this code has no `path:`)"
            remedy = f"; set PYTHONPATH in `{'.'.join(map(str, at[:-1]))}`" if tree else ""
            yield at, f"PYTHONPATH may only name folders of {below}: '{entry}' is in no digest{remedy}"


def products(at: Path, products: Mapping[str, str]) -> Found:
    """Yield the globs that lead out of the work_dir: the job would refuse them too
    (ddqjobs.detect.product), after all its work."""
    for name, pattern in products.items():
        if not pattern.strip():
            yield (*at, name), f"'{pattern}' names no file; a product is a glob below the work_dir"
        elif pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
            yield (
                (*at, name),
                f"'{pattern}' leads out of the work_dir; a product is a glob below it, without ..",
            )
