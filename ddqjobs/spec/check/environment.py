"""Find what an environment file says that cannot be true. Types and keys were checked before. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import PurePosixPath

from ddqjobs.base.errors import Problem, nearest
from ddqjobs.base.shell_variables import refused
from ddqjobs.spec.check.commands import refusal
from ddqjobs.spec.environment import PLACEHOLDERS, Declaration, Step, placeholders
from ddqjobs.spec.table import Place, durations

Path = tuple[str | int, ...]
Found = Iterator[tuple[Path, str]]
_OF_STEPS = {*PLACEHOLDERS} - {"env.NAME"}
_AT_RUN_TIME = _OF_STEPS - {"cpus"}
_OLDEST_MINOR = 8  # of Python 3, that ddqjobs/detect is written for


def check(
    declaration: Declaration, line_of: Callable[[Path], tuple[str, int]], locked: Collection[str]
) -> list[Problem]:
    """All problems, by file and line. ``locked``: the packages of the lock, none if there is no lock yet."""
    problems = [*_durations(declaration), *_interpreter(declaration), *_trees(declaration)]
    for name, step in declaration.steps.items():
        problems += [(("steps", name, *path), message) for path, message in _step(step, declaration)]
    problems += _packages(declaration, locked)
    for name, value in declaration.variables.items():
        problems += [(("variables", name), message) for message in _unknown(value, _AT_RUN_TIME)]
        problems += [(("variables", name), message) for message in _steering(name, value)]
    return sorted({Problem(*line_of(path), message) for path, message in problems})


def _steering(name: str, value: str) -> Iterator[str]:
    if name != "PYTHONPATH":
        yield from [refusal(name)] if refused(name) else []
    elif not all(entry.startswith(("{trees}", "{environment}")) for entry in value.split(":")):
        yield "PYTHONPATH may only name folders of the environment: {trees}/... or {environment}/..."


def _durations(declaration: Declaration) -> Found:
    values: dict[Place, str] = {
        ("checks", name, "timeout"): check.timeout for name, check in declaration.checks.items()
    }
    values |= {("steps", name, "timeout"): step.timeout for name, step in declaration.steps.items()}
    return durations(values)


def _interpreter(declaration: Declaration) -> Found:
    version = declaration.python
    if int(version.split(".")[1]) < _OLDEST_MINOR:
        why = f"ddqjobs' programs in jobs need 3.{_OLDEST_MINOR} or later"
        yield ("python",), f"Python {version} is too old; {why}"
    if declaration.interpreter.managed and declaration.interpreter.path:
        yield ("interpreter", "path"), "either a path, or managed: true for one that uv brings"
    for number, module in enumerate(declaration.modules):
        if not module or module.startswith("-") or any(c.isspace() for c in module):
            yield ("modules", number), f"'{module}' is not a valid name of a module"


def _trees(declaration: Declaration) -> Found:
    for name, tree in declaration.trees.items():
        if tree.url.startswith("-") or not tree.url:
            yield ("trees", name, "url"), f"'{tree.url}' is no address of a git repository"
        if tree.branch.startswith("-"):
            yield ("trees", name, "branch"), f"'{tree.branch}' is not a valid name of a branch"
        if tree.link and not tree.link.startswith(("/", "~/")):
            yield ("trees", name, "link"), "must be a whole path: /... or ~/..."


def _step(step: Step, declaration: Declaration) -> Found:
    if bool(step.command) == bool(step.packages):
        yield (), "a step has either a command or packages"
    elif step.packages and (step.tree or step.folder):
        yield (), "packages are installed into the environment: no tree, no folder"
    if step.tree and step.tree not in declaration.trees:
        there = ", ".join(declaration.trees) or "none"
        yield (
            ("tree",),
            f"unknown tree '{step.tree}'{nearest(step.tree, declaration.trees)}; there are: {there}",
        )
    for path, place in (
        (("folder",), step.folder),
        *((("produces", n), pattern) for n, pattern in enumerate(step.produces)),
    ):
        if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
            yield path, f"'{place}' leads out of where the step runs"
    for number, word in enumerate(step.command):
        yield from ((("command", number), message) for message in _unknown(word, _OF_STEPS))
    for name, value in step.variables.items():
        yield from ((("variables", name), message) for message in _unknown(value, _OF_STEPS))


def _packages(declaration: Declaration, locked: Collection[str]) -> Found:
    """Packages built from source must be in the lock, and each is built in one place."""
    named: dict[str, str] = {}
    places = [(("from_source", n), package) for n, package in enumerate(declaration.from_source)]
    for step_name, step in declaration.steps.items():
        if step.command:
            continue
        places += [(("steps", step_name, "packages", n), package) for n, package in enumerate(step.packages)]  # type: ignore[misc]
    for path, package in places:
        if package in named:
            yield path, f"'{package}' is built already by {named[package]}"
        elif locked and package not in locked:
            yield path, f"'{package}' is not in the lock{nearest(package, locked)}"
        named[package] = ".".join(map(str, path[:2])) if path[0] == "steps" else "from_source"


def _unknown(text: str, known: Collection[str]) -> Iterator[str]:
    for name in placeholders(text):
        of_environment = name.startswith("env.") and len(name) > len("env.") and "cpus" in known
        if name not in known and not of_environment:
            valid = ", ".join(
                f"{{{n}}}" for n in (*sorted(known), *(("env.NAME",) if "cpus" in known else ()))
            )
            yield f"unknown placeholder {{{name}}}{nearest(name, known)}; valid: {valid}"
