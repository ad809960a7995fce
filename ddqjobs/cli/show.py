"""``ddqjobs show``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli import completion, describe
from ddqjobs.cli.exits import reporting
from ddqjobs.cli.output import say, say_json
from ddqjobs.cli.selection import FOLDER, JSON, Selection

if TYPE_CHECKING:
    from ddqjobs.planning.catalog import Loaded
    from ddqjobs.spec.model import Input, Run

_NAMED = 3  # runs of a task that its line names


@reporting
def show(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[EXPERIMENT] [RUN]",
            help="An experiment (default: the only one of the project), and one of its runs.",
            autocompletion=completion.words,
            show_default=False,
        ),
    ] = None,
    folder: FOLDER = None,
    as_json: JSON = False,
) -> None:
    """Show an experiment as ddqjobs understands it: with everything that it inherits and all defaults.

    Each value has the file and line that set it as a comment. The output is a valid experiment file without
    `base`. With a run: its command, environment, inputs, resources, hours and digest.
    Examples: ddqjobs show dino-mini; ddqjobs show dino-mini p3-train.dino-r18; ddqjobs show dino-mini --json
    """
    selection = Selection(names=names, folder=folder, site=None)
    if selection.runs:
        _run(selection, as_json)
    else:
        _experiment(selection, as_json)


def _experiment(selection: Selection, as_json: bool) -> None:
    from ddqjobs.spec import flat, reader

    document, runs = selection.project.catalog.expand(selection.experiment)
    entries = [entry for entry in flat.entries(document.root, document.value) if entry.key != "base"]
    by_task = {task: [run.name for run in runs if run.task == task] for task in document.value.tasks}
    if as_json:
        say_json(
            "show",
            experiment=document.value.name,
            files=list(map(str, document.files)),
            content={entry.key: entry.plain for entry in entries},
            origins={key: {"file": file, "line": line} for key, file, line in flat.origins(tuple(entries))},
            runs=by_task,
        )
        return
    names = describe.short_names(document.files)
    say(f"# {document.value.name}, with bases and defaults; a key that is not shown is empty")
    for path in document.files:
        say(f"# {names[reader.display(path)]}: {path}")
    notes = {f"tasks.{task}": _counted(of_task) for task, of_task in by_task.items()}
    for line in flat.lines(tuple(entries), names, notes):
        say(line)


def _counted(runs: Sequence[str]) -> str:
    more = len(runs) - _NAMED
    return f"{counted(len(runs), 'run')}: {', '.join(runs[:_NAMED])}" + (f", {more} more" if more > 0 else "")


def _run(selection: Selection, as_json: bool) -> None:
    from ddqjobs.base.errors import InputError
    from ddqjobs.planning.filters import Filters, select
    from ddqjobs.spec import flat
    from ddqjobs.spec.model import Plan, PlannedRun, Status

    loaded = selection.project.load(selection.experiment)
    runs = (*loaded.runs, *loaded.canaries)
    every = tuple(PlannedRun(run=run, status=Status.WAITING, reason="") for run in runs)
    plan = Plan(experiment=loaded.experiment.name, site="", runs=every)
    chosen = select(plan, Filters(runs=selection.runs))
    if len(chosen) != 1:
        names = ", ".join(planned.run.name for planned in chosen[:6]) + (", ..." if len(chosen) > 6 else "")
        raise InputError(f"show shows one run at a time; name one of {names}")
    content = resolved(chosen[0].run, loaded)
    if as_json:
        say_json("show", experiment=loaded.experiment.name, run=content)
        return
    for line in flat.lines(flat.plain_entries(content), {}):
        say(line)


def resolved(run: Run, loaded: Loaded) -> dict[str, object]:
    """Return all that decides a run, as plain data. Variables of the command are set by the job."""
    from ddqjobs.submission import words
    from ddqjobs.submission.script import option_flags

    flag = option_flags(loaded.experiment.codes).get(run.code, "")
    resources = run.resources
    return {
        "name": run.name,
        "task": run.task,
        "kind": run.kind.value,
        "phase": run.phase,
        **describe.place_in_matrix(run),
        "code": run.code,
        "environment": run.environment,
        "directory": run.workdir or "snapshot of the task code",
        "config": run.config,
        "command": words.command(run, flag),
        "variables": dict(run.variables),
        "options": list(run.options),
        "inputs": {role: _source(source) for role, source in run.inputs},
        "products": dict(run.products),
        "resources": {
            "nodes": resources.nodes,
            "gpus": resources.gpus,
            "cpus": resources.cpus or None,
            "memory_mb": resources.memory_mb or None,
            "time_s": resources.time_s,
            **resources.sections,
        },
        "tolerance": dict(run.tolerances),
        "hours": run.hours,
        "gpu_hours": run.gpu_hours,
        "digest": run.digest,
    }


def _source(source: Input) -> dict[str, object]:
    """Return where an input comes from."""
    origin = {"run": source.run, "artifact": source.artifact} if source.run else {"path": source.path}
    return {**origin, "stage": True} if source.stage else dict(origin)
