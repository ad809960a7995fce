"""Commands as shell words: what the experiment says is quoted, what the job knows is a variable. Pure."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath

from ddqjobs.base.errors import InputError
from ddqjobs.spec.code import parts_of, variable
from ddqjobs.spec.model import Run

# Placeholders that only the job knows; always inside double quotes.
_RUNTIME = {
    "python": "$DDQJOBS_PYTHON",
    "checkpoint": "$DDQJOBS_INPUT_CHECKPOINT",
    "work_dir": "$DDQJOBS_WORK_DIR",
    "run_dir": "$DDQJOBS_RUN_DIR",
    "code": "$DDQJOBS_CODE",
    "port": "$DDQJOBS_PORT",
    "node_rank": "${DDQJOBS_NODE_RANK:-0}",
    "master": "${DDQJOBS_MASTER:-127.0.0.1}",
}


def quote(value: object) -> str:
    """A shell word that stands for exactly this text."""
    return shlex.quote(str(value))


def shell_path(path: str, project: str) -> str:
    """A path as a shell word: ``~`` and a leading ``$NAME`` are the job's, the rest is data."""
    if path == "~" or path.startswith("~/"):
        return '"$HOME"' + (quote(path[1:]) if path[1:] else "")
    variable = re.match(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", path)
    if variable:
        rest = path[variable.end() :]
        return f'"${{{variable[1] or variable[2]}:?}}"' + (quote(rest) if rest else "")
    return quote(path if PurePosixPath(path).is_absolute() else str(PurePosixPath(project) / path))


def entered_python(activate: str, project: str) -> str:
    """Return the interpreter of an environment that a site enters by a script, as a shell word: beside it."""
    return shell_path(str(PurePosixPath(activate).parent / "python"), project)


def node_path(path: str) -> str:
    """A folder of a node as a shell word: ``~`` and every ``$NAME`` are the job's, the rest is data."""
    home, rest = ('"$HOME"', path[1:]) if path == "~" or path.startswith("~/") else ("", path)
    texts = re.findall(
        r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})|((?:(?!\$\{?[A-Za-z_]).)+|.)", rest, re.DOTALL
    )
    return (
        home + "".join(quote(text) if text else f'"${{{one or other}:-}}"' for one, other, text in texts)
        or "''"
    )


def word(text: str, values: dict[str, str]) -> str:
    """One word of a command: literal parts quoted, placeholders filled or left to the job."""
    out = []
    for literal, name in parts_of(text):
        if literal:
            out.append(quote(literal))
        elif name in values:
            out.append(quote(values[name]))
        elif name in _RUNTIME:
            out.append(f'"{_RUNTIME[name]}"')
        elif name.startswith("input."):
            out.append(f'"$DDQJOBS_INPUT_{variable(name[6:])}"')
        elif name.startswith("env."):
            out.append(f'"${{{name[4:]}:-}}"')
        else:
            raise InputError(f"unknown placeholder {{{name}}} in command word '{text}'")
    return "".join(out) or "''"


def command(run: Run, option_flag: str) -> str:
    """The run's command as shell text."""
    values = known_values(run)
    arguments: list[str] = []
    if launched(run):
        arguments = [word(text, values) for text in ("{python}", "-m", "ddqjobs.detect.launch", run.launcher)]
    for text in run.command:
        if text == "{options}":
            arguments += [quote(w) for w in ([option_flag] if run.options and option_flag else [])]
            # A plus is for the check alone: the option may name what the configuration does not have.
            arguments += [quote(option.removeprefix("+")) for option in run.options]
        else:
            arguments.append(word(text, values))
    return " ".join(arguments)


def launched(run: Run) -> bool:
    """Return whether a launcher starts the run's processes: where its code names one, and there are
    several."""
    return run.launcher != "plain" and run.resources.nodes * max(1, run.resources.gpus) > 1


def known_values(run: Run) -> dict[str, str]:
    """Placeholders whose text is known before the job starts."""
    return {
        "config": run.config,
        "gpus": str(run.resources.gpus),
        "nodes": str(run.resources.nodes),
        "seed": str(run.seed or 0),
        "model": run.model,
        "run": run.name,
    }
