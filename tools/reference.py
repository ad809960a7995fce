#!/usr/bin/env python3
"""Write the reference pages of the keys of files, from the types that declare them, and of the commands.

    .venv/bin/python tools/reference.py

docs/reference/KIND.md, report-keys.md and commands.md; tests compare them with the types and the help.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import typer

from ddqjobs.cli.commands import COMMANDS, load
from ddqjobs.cli.schema import document
from ddqjobs.spec import keys
from ddqjobs.spec.code import PLACEHOLDERS
from ddqjobs.spec.experiment import ARTIFACTS

FOLDER = Path(__file__).resolve().parents[1] / "docs/reference"
KINDS = {
    "experiment": "`experiments/NAME.yaml`: models, codes and tasks, from which the runs follow.",
    "site": "`templates/NAME/site.yaml`: where jobs run, and what that place allows.",
    "user": "`~/.config/ddqjobs/config.yaml` (or below `$XDG_CONFIG_HOME`): what holds for you everywhere.",
    "environment": "`envs/NAME/env.yaml`: what an environment is made of, and the proof that it works.",
    "report": "The output of `ddqjobs report NAME --format json`. Infinite and undefined numbers are null.",
}
TITLES = {"report": "Keys of a report as JSON"}
PAGES = {"report": "report-keys"}  # of what nobody writes; report.md says what a report shows

SHOWN = (
    "`ddqjobs site show SITE` prints a whole site: each value with the file and line that set it, inherited "
    "ones and defaults too. `ddqjobs site show slurm` prints what `base: slurm` brings."
)
SETUP = """
## The order in a job and in a build

Each job, each helper job of `doctor`, and each `env build --on-node` begin with this, in this order:

1. What the submitting shell must not pass is unset (`PYTHONPATH`, `CONDA_PREFIX`, ... of [its list](job-contract.md)).
2. The site's `setup` lines, as they stand.
3. The site's `modules`, in their order, as `module load NAME`.
4. The site's `umask`.
5. With `enter: modules`, the environment's modules (`environment_modules` of the site, else those that the environment declares), in their order.
6. The variables that the lines and modules set for Python paths, virtual environments and conda (`PYTHONPATH`, `VIRTUAL_ENV`, `CONDA_PREFIX`, ...) are unset. `PATH` stays.
7. A job: the variables of the site, of the environment and of the run, in that order; the last one counts. A build: those of its steps.
8. A job: the environment, by its interpreter first on PATH. Of one that the site names under `activate` that is the `python` beside the script, which is then sourced. A build makes its own.

So `module` must be there after step 2, and conda or mamba is entered last, with everything else loaded.

Which Python a job runs:

* **A code with an `environment`:** that of the environment, which step 8 puts first on `PATH`. A `setup` line that activates conda or a virtual environment does not choose it, and has no effect on it. To use a conda or virtual environment of yours, name its script under [`activate:`](../how-to/conda-containers-offline.md#an-environment-that-exists). `plan` and `doctor` give a hint, with file and line, where a `setup` line activates one and a selected run has an environment.
* **A code without an `environment`:** the site's `python`. Its default, `python3`, is looked up on the `PATH` of step 6, so there a `setup` line or a module does decide. An absolute path decides by itself.

`env build` without `--on-node` runs in the shell that calls it; with `enter: modules` it loads the modules of steps 3 and 5 itself.

## When a setup line fails

A line of `setup` that ends with another status than 0 ends the job, before its attempt, as *environment*, with the line's number and text (only the number, where a line shows a secret). The lines are bash's own script, without `-u` and `pipefail`, so its own rules (those of `trap ... ERR`) say what fails:

| line | ends the job |
|---|---|
| `source /etc/profile.d/x.sh`, and there is no such file | yes |
| `module load x`, or another function that returns another status than 0 | yes |
| `exit 1`, and whatever else ends the script, a syntax error too | yes |
| `source x \\|\\| true` | no |
| `[ -f x ] && source x`, `if [ -f x ]; then source x; fi`, and there is no `x` | no |
| a function in which something fails and which ends with status 0 | no |
| a file that is sourced, whatever its last command returns, and `eval "$(pyenv init -)"`: others wrote them | no |
| `export X=$(false)`, `false \\| true` | no: their own status is 0 |

Put `|| true` behind a line that may fail. In a line of several commands, or in a loop, each of them counts, as with `set -e`. bash before 4.4 (CentOS 7) does not know which line failed: there only what ends the script ends the job. `doctor` tells of lines that fail on a node, and `env build --on-node` ends by them, too, with exit code 69.
"""  # noqa: E501


def page(kind: str) -> str:
    """Return the reference page of a kind of file."""
    every = keys.of(document(kind))
    lines = [f"# {TITLES.get(kind, f'Keys of {kind} files')}", "", KINDS[kind]]
    lines += [
        "",
        "NAME stands for names of your own. `ddqjobs schema "
        + kind
        + " KEY` says the same; KEY may leave NAME out.",
    ]
    if kind == "site":
        lines += ["", SHOWN]
    places: dict[str, list[str]] = {}
    for key in every:
        above = key.path.rpartition(".")[0]
        places.setdefault(key.section, [])
        if above not in places[key.section]:
            places[key.section].append(above)
    for section, (first, *others) in places.items():
        lines += ["", f"## {first or 'The file'}", ""]
        if others:
            lines += ["Also " + ", ".join(f"`{other}`" for other in others) + ".", ""]
        own = [key for key in every if key.section == section]
        lines += _table(kind, [key for key in own if key.path.rpartition(".")[0] == first])
    if kind == "experiment":
        lines += _conventions()
    if kind == "site":
        lines += SETUP.splitlines()
    return "\n".join(lines) + "\n"


def _conventions() -> list[str]:
    """Return the sections on placeholders and artifacts of experiment files."""
    lines = ["", "## Placeholders in commands", ""]
    lines += ["A word in braces is filled in when the script is written; write `{{` and `}}` for braces.", ""]
    lines += ["| placeholder | meaning |", "|---|---|"]
    lines += [f"| `{{{name}}}` | {text} |" for name, text in PLACEHOLDERS.items()]
    lines += ["", "## Artifacts of each kind of task", ""]
    lines += ["`inputs` name them as `TASK.ARTIFACT`. `products` adds further ones.", ""]
    lines += ["| kind | artifacts |", "|---|---|"]
    return lines + [
        f"| `{kind.value}` | {', '.join(f'`{name}`' for name in names)} |"
        for kind, names in ARTIFACTS.items()
    ]


def _table(kind: str, listed: list[keys.Key]) -> list[str]:
    """Return the table of some keys; what nobody writes has no default."""
    if kind in PAGES:
        rows = [
            (f"`{key.path.rpartition('.')[2]}`", key.form, key.text, _code(key.example)) for key in listed
        ]
        return ["| key | value | meaning | example |", "|---|---|---|---|", *map(_row, rows)]
    head = ["| key | value | default | meaning | example |", "|---|---|---|---|---|"]
    return head + [_row(_cells(key)) for key in listed]


def _cells(key: keys.Key) -> tuple[str, ...]:
    name = f"`{key.path.rpartition('.')[2]}`" + (" (required)" if key.required else "")
    return name, key.form, _code(key.default), key.text, _code(key.example)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def commands() -> str:
    """Return the reference page of the commands: the help of each, 80 columns wide."""
    lines = ["# Commands", "", "`ddqjobs COMMAND --help` says the same. Written by `tools/reference.py`."]
    for name in COMMANDS:
        for title, text in _helps(name, load(name), None):
            lines += ["", f"## {title}", "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


def _helps(title: str, command: Any, parent: Any) -> list[tuple[str, str]]:
    """Return the help of a command, and of those below it."""
    os.environ["COLUMNS"] = "80"
    name = title if parent else f"ddqjobs {title}"
    names = ["-h", "--help"]
    context = typer.Context(command, info_name=name, parent=parent, help_option_names=names)
    text = re.sub(r"\x1b\[[0-9;]*m| +$", "", command.get_help(context), flags=re.M).strip("\n")
    below = getattr(command, "commands", {})
    own = [help for name, sub in below.items() for help in _helps(name, sub, context)]
    return [(title, text)] + [(f"{title} {name}", text) for name, text in own]


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "commands.md").write_text(commands(), encoding="utf-8")
    for kind in KINDS:
        (FOLDER / f"{PAGES.get(kind, kind)}.md").write_text(page(kind), encoding="utf-8")


if __name__ == "__main__":
    main()
