"""``ddqjobs submit``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli.describe import changed_failures, progress_text, summary
from ddqjobs.cli.dry_run import fail_blocked, name_templates, say_left, show_scripts
from ddqjobs.cli.live_page import EVERY_S, LivePage
from ddqjobs.cli.output import fail, say, say_json, settle
from ddqjobs.cli.selection import JSON, Selection, a_number, filtered
from ddqjobs.cli.ticker import Ticker

if TYPE_CHECKING:
    from ddqjobs.project import SubmitOptions
    from ddqjobs.spec.model import Plan, PlannedRun

DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="Show the scripts; submit nothing.")]
OUT = Annotated[
    Path | None, typer.Option("--out", help="With --dry-run: write the scripts below this folder.")
]
WAIT = Annotated[
    bool,
    typer.Option(
        "--wait",
        "--follow",
        help="Stay until all runs have ended, and submit those that become eligible; exit 1 if a run "
        "failed. Safe to "
        "interrupt, rerun, or run in two terminals.",
    ),
]
OPTIONAL = Annotated[bool, typer.Option("--optional", help="Also optional runs.")]
UPSTREAM = Annotated[bool, typer.Option("--upstream", help="Also the runs that the selected ones need.")]
STALE = Annotated[
    bool,
    typer.Option("--stale", help="Also done runs that are stale: they would come out differently today."),
]
CANARY = Annotated[
    bool,
    typer.Option(
        "--canary",
        help="First try each training code for 20 iterations on at most one GPU; start nothing if that fails "
        "(exit 1).",
    ),
]
MAX_GPU_HOURS = Annotated[
    float | None,
    typer.Option(
        "--max-gpu-hours", min=0, callback=a_number, help="Submit only runs that fit into this estimate."
    ),
]

PAGE = Annotated[
    Path | None,
    typer.Option(
        "--page",
        metavar="FILE",
        help="With --wait: keep an HTML report up to date in FILE; it reloads itself.",
    ),
]

NO_CHECK = Annotated[
    bool,
    typer.Option("--no-check", help="Skip the checks of configurations, here and in the jobs (see `check`)."),
]

TAKE_OVER = Annotated[
    str | None,
    typer.Option(
        "--take-over",
        metavar="REASON",
        help="Take over other members' active runs, because their owner has left; the reason is recorded.",
    ),
]


@filtered
def submit(
    selection: Selection,
    dry_run: DRY_RUN = False,
    out: OUT = None,
    wait: WAIT = False,
    optional: OPTIONAL = False,
    upstream: UPSTREAM = False,
    stale: STALE = False,
    canary: CANARY = False,
    max_gpu_hours: MAX_GPU_HOURS = None,
    take_over: TAKE_OVER = None,
    no_check: NO_CHECK = False,
    page: PAGE = None,
    as_json: JSON = False,
) -> None:
    """Submit eligible runs, and on schedulers with dependencies also the runs waiting for them.

    The same command twice submits nothing twice. Exit 2 if all selected runs failed, were cancelled, or wait
    for something that no active run will produce.
    Examples: ddqjobs submit mini --wait; ddqjobs submit mini --canary;
    ddqjobs submit ddq --phase 1 --site bscc --dry-run --out scripts
    """
    from ddqjobs.base.errors import InputError
    from ddqjobs.project import SubmitOptions

    _refuse_idle(dry_run=dry_run, out=out, wait=wait, take_over=take_over)
    if page is not None and not wait:
        raise InputError("--page needs --wait, which keeps the page up to date")
    if not dry_run and not as_json:
        name_templates(selection, "")
    options = SubmitOptions(
        optional=optional,
        upstream=upstream,
        stale=stale,
        max_gpu_hours=max_gpu_hours,
        check=not no_check,
    )
    if take_over is not None:
        _take_over(selection, take_over, as_json)
    if canary and not dry_run:
        _try_canaries(selection, options, as_json)
    if dry_run:
        show_scripts(selection, options, out, canary=canary, as_json=as_json)
    elif wait:
        _wait(selection, options, LivePage(selection, page), as_json)
    else:
        _submit(selection, options, as_json)


def _refuse_idle(*, dry_run: bool, out: Path | None, wait: bool, take_over: str | None) -> None:
    """Raises InputError for what would have no effect."""
    from ddqjobs.base.errors import InputError

    if out is not None and not dry_run:
        raise InputError("--out goes with --dry-run: it says where the scripts are written")
    if dry_run and wait:
        raise InputError("--dry-run submits nothing, so there is nothing to --wait for")
    if dry_run and take_over is not None:
        raise InputError("--dry-run submits nothing, so it has no use for --take-over")


def _take_over(selection: Selection, reason: str, as_json: bool) -> None:
    from ddqjobs.planning.filters import select
    from ddqjobs.submission import actions

    workspace = selection.project.workspace(selection.experiment, selection.site)
    taken = actions.take_over(workspace, select(workspace.plan(), selection.filters), reason)
    for run, owner in () if as_json else taken.items():
        say(f"took over {run} from {owner}")


def _try_canaries(selection: Selection, options: SubmitOptions, as_json: bool) -> None:
    """Returns if all canaries of the trainings to come are done."""
    from ddqjobs.base.errors import RunsFailedError

    project = selection.project
    quiet = (lambda _: None) if as_json else say
    ticker = Ticker(lambda _plan, _p: "")
    canaries = project.try_canaries(
        selection.experiment,
        selection.filters,
        options,
        site=selection.site,
        say=quiet,
        show=(lambda _plan, _runs: None) if as_json else ticker.show,
    )
    failed = {
        planned.run.name: _reason(planned)
        for planned in canaries
        if planned.status.value != "done" or planned.stale
    }
    if not failed:
        quiet(f"canaries: {', '.join(planned.run.name for planned in canaries) or 'none needed'}: done")
        return
    if as_json:
        say_json(
            "canary",
            done=[planned.run.name for planned in canaries if planned.run.name not in failed],
            failed=failed,
        )
        raise typer.Exit(1)
    for run, why in failed.items():
        fail(f"{run}: {why}")
    from ddqjobs.report.missing import command

    plan = project.plan(selection.experiment, site=selection.site)
    logs, retry = (
        command((verb,), plan.experiment, [next(iter(failed))], plan.site) for verb in ("logs", "retry")
    )
    raise RunsFailedError(f"nothing else was started. `{logs}` shows why; fix it, then run `{retry}`")


def _submit(selection: Selection, options: SubmitOptions, as_json: bool) -> None:
    project = selection.project
    quiet = (lambda _: None) if as_json else say
    outcome = project.submit(selection.experiment, selection.filters, options, site=selection.site, say=quiet)
    if as_json:
        say_json("submit", submitted=outcome.submitted, left=outcome.left, unconfirmed=outcome.unconfirmed)
    else:
        if not outcome.submitted:
            say("nothing to submit")
        say_left(outcome.left)
        _say_changed(selection, outcome.left)
    settle(
        [*_warnings(selection), *(f"{run}: not confirmed: {why}" for run, why in outcome.unconfirmed.items())]
    )
    if outcome.refused:
        raise typer.Exit(1)
    if outcome.blocked:
        fail_blocked()


def _warnings(selection: Selection) -> list[str]:
    return selection.project.workspace(selection.experiment, selection.site).warnings


def _say_changed(selection: Selection, names: Collection[str]) -> None:
    """Say which of these runs failed and are others today, and what runs them again."""
    if not names:
        return
    plan = selection.project.plan(selection.experiment, site=selection.site, refresh=False)
    for line in changed_failures(plan, [planned for planned in plan.runs if planned.run.name in names]):
        say(line)


def _wait(selection: Selection, options: SubmitOptions, page: LivePage, as_json: bool) -> None:
    project = selection.project
    page.write(EVERY_S)  # a file that cannot be written is reported before anything is submitted
    ticker = Ticker(
        lambda plan, planned: progress_text(project.status(plan, [planned], site=selection.site)[0].progress)
    )
    quiet = (lambda _: None) if as_json else say

    def show(plan: Plan, runs: Sequence[PlannedRun]) -> None:
        if not as_json:
            ticker.show(plan, runs)
        page.look()

    try:
        plan = project.wait(
            selection.experiment,
            selection.filters,
            options,
            site=selection.site,
            say=quiet,
            show=show,
        )
        _end(selection, plan, options, as_json)
    finally:  # also after Ctrl-C: nobody writes the page any more, so it need not reload itself
        page.finish()


def _end(selection: Selection, plan: Plan, options: SubmitOptions, as_json: bool) -> None:
    """Says what became of the runs. Raises RunsFailedError."""
    from ddqjobs.base.errors import RunsFailedError
    from ddqjobs.submission.select import submitting

    chosen, wanted = plan.runs, submitting(plan, selection.filters, options)
    failed = [
        planned
        for planned in chosen
        if planned.status.value != "done" or (planned.stale and planned.run.name in wanted.stale)
    ]
    if as_json:
        say_json(
            "wait",
            done=[planned.run.name for planned in chosen if planned not in failed],
            failed={planned.run.name: _reason(planned) for planned in failed},
        )
        if failed:
            raise typer.Exit(1)
        return
    say(summary(plan, chosen))
    for planned in failed:
        fail(f"{planned.run.name}: {planned.status.value}: {_reason(planned)}")
    _say_changed(selection, {planned.run.name for planned in failed})
    if failed:
        raise RunsFailedError(
            f"not done: {len(failed)} of {counted(len(chosen), 'run')}"
            + (
                f"; `ddqjobs logs {plan.experiment} RUN` shows why"
                if any(planned.attempts for planned in failed)
                else ""
            )
        )


def _reason(planned: PlannedRun) -> str:
    """Return why a run does not count: one that was to run again may have its former product."""
    return "; ".join([planned.stale, *planned.notes]) if planned.stale else planned.reason
