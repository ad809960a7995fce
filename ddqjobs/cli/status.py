"""``ddqjobs status``."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.cli.describe import changed_failures, facts, progress_text, summary
from ddqjobs.cli.output import note, put, run_table, say, say_json, settle, terminal_width
from ddqjobs.cli.overview import HOW_TO_LIST, RUNS, lists_runs, overview
from ddqjobs.cli.overview import state as state_of
from ddqjobs.cli.selection import JSON, Selection, a_number, filtered

if TYPE_CHECKING:
    from ddqjobs.detect.job.training_progress import Progress
    from ddqjobs.spec.model import Plan
    from ddqjobs.submission.workspace import RunState


@filtered
def status(
    selection: Selection,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            help="Refresh until all runs have ended; q leaves, Enter shows a log, / searches.",
        ),
    ] = False,
    interval: Annotated[
        float, typer.Option(help="Seconds between refreshes.", min=0.2, max=86400, callback=a_number)
    ] = 2.0,
    runs: RUNS = False,
    as_json: JSON = False,
) -> None:
    """Show tasks by state, and the selected runs with progress, job, node, attempt and reason.

    Keys of --watch: q or Ctrl-C leave; arrows, PgUp, PgDn, Home, End scroll (also j, k, space, b, g, G);
    f shows all, not done, active, failed; / searches; r refreshes. Enter shows the end of a run's log; R
    retries a run and C cancels it, after a question.
    Examples: ddqjobs status; ddqjobs status mini --runs; ddqjobs status mini --watch;
    ddqjobs status ddq --state active --json
    """
    from ddqjobs.base.errors import InputError

    if watch and as_json:
        raise InputError(
            "--watch and --json exclude each other; call `ddqjobs status --json` as often as you need"
        )
    if watch and sys.stdout.isatty():
        _watch(selection, interval)
        return
    plan, states = states_of(selection)
    workspace = selection.project.workspace(selection.experiment, selection.site)
    if as_json:
        rows = _rows(selection, states)
        say_json("status", experiment=plan.experiment, site=plan.site, runs=rows, warnings=workspace.warnings)
        settle(workspace.warnings)
        return
    if states:
        put(_overview(selection, plan, states))
        if lists_runs(selection, runs):
            put("\n" + _list(states))
        else:
            note(HOW_TO_LIST)
    say(summary(plan, [s.planned for s in states]))
    for line in (*_missing(plan, states), *changed_failures(plan, [s.planned for s in states])):
        say(line)
    settle(workspace.warnings)


def states_of(selection: Selection) -> tuple[Plan, list[RunState]]:
    """Return the plan, and the state of each run that the filters leave."""
    from ddqjobs.planning.filters import select

    plan = selection.project.plan(selection.experiment, site=selection.site)
    runs = select(plan, selection.filters)
    return plan, selection.project.status(plan, runs, site=selection.site)


def _rows(selection: Selection, states: Sequence[RunState]) -> list[dict[str, object]]:
    """Return each run for scripts."""
    products = selection.project.products(selection.experiment)
    ran = {name: product.ran for name, product in products.items()}
    return [
        {**facts(s.planned), "progress": _figures(s.progress), "ran": ran.get(s.planned.run.name)}
        for s in states
    ]


def _figures(progress: Progress | None) -> dict[str, float] | None:
    """Return what is known of a training's progress."""
    if progress is None:
        return None
    return {name: value for name, value in progress._asdict().items() if value is not None}


def _overview(selection: Selection, plan: Plan, states: Sequence[RunState]) -> str:
    from ddqjobs.planning.estimate import estimates

    history = selection.project.workspace(selection.experiment, selection.site).store.history()
    costs = estimates((planned.run for planned in plan.runs), history)
    going = {
        s.planned.run.name: hours
        for s in states
        if s.progress and (hours := s.progress.gpu_hours_to_come) is not None
    }
    return overview([s.planned for s in states], costs, state_of, going, width=terminal_width())


def _list(states: Sequence[RunState]) -> str:
    from ddqjobs.spec.grid import shown

    keys = tuple(dict.fromkeys(key for s in states for key, _ in s.planned.run.grid))
    rows = []
    for s in states:
        planned = s.planned
        grid = dict(planned.run.grid)
        parameters = [shown(grid[key]) if key in grid else "" for key in keys]
        notes = "; ".join(filter(None, [planned.stale or planned.reason, *planned.notes]))
        attempts = str(planned.attempts or "")
        rest = (state_of(planned), progress_text(s.progress), planned.job, planned.node, attempts, notes)
        rows.append((planned.run.name, *parameters, *rest))
    names = tuple(key.upper() for key in keys)
    header = ("RUN", *names, "STATE", "PROGRESS", "JOB", "NODE", "ATTEMPT", "REASON")
    return run_table(header, rows, leave_out=("ATTEMPT", "NODE", "JOB", "PROGRESS", *names), state="STATE")


def _missing(plan: Plan, states: Sequence[RunState]) -> list[str]:
    """Return what is missing, and the command that brings it; what merely goes on, and stale runs, which the
    summary counts, are not worth a line here."""
    from ddqjobs.report.missing import CANCELLED, STALE, UNDER_WAY, missing

    runs = [s.planned for s in states]
    states_of = {planned.run.name: "product missing" if planned.gone else planned.word for planned in runs}
    there = missing(plan.experiment, runs, states_of, plan)
    silent = (CANCELLED, STALE, UNDER_WAY)
    return [f"{len(m.runs)} {m.what}: {m.command}" for m in there if m.what not in silent]


def _watch(selection: Selection, interval: float) -> None:
    """Until nothing is active or the user leaves: the runs that were shown stay on the screen."""
    from ddqjobs.cli.watch.watcher import Desk, Seen, watch

    project = selection.project
    project.tell = project.inform = lambda _: None  # the screen is the board's

    def ask() -> Seen:
        plan, states = states_of(selection)
        warnings = project.workspace(selection.experiment, selection.site).warnings
        return Seen(plan, states, "; ".join(warnings), time.time())

    def log(plan: Plan, run: str) -> Path:
        return project.log(plan, run, site=selection.site)

    def act(what: str, run: str) -> str:
        from ddqjobs.planning.filters import one_run
        from ddqjobs.report.missing import command

        plan = project.plan(selection.experiment, site=selection.site)
        if what == "retry":
            names = project.retry(plan, [one_run(plan, run)], site=selection.site)
            again = command(("submit",), plan.experiment, [run], plan.site)
            done = f"is eligible again: `{again}` submits it"
        else:
            names = project.cancel(plan, [one_run(plan, run)], site=selection.site)
            done = "is being cancelled"
        return f"{run} {done}" if names else f"{run}: nothing to {what}"

    with contextlib.suppress(KeyboardInterrupt):  # before anything was shown
        seen = watch(Desk(ask, log, act), interval)
        if seen.states:
            put(_list(seen.states))
        say(summary(seen.made, [s.planned for s in seen.states]))
        for line in seen.said:
            say(line)
