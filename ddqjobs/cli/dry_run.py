"""``ddqjobs submit --dry-run``: the scripts, shown or written; and what it says as ``submit`` does."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli.describe import own_templates
from ddqjobs.cli.output import fail, put, say, say_json, table, warn
from ddqjobs.cli.selection import Selection

if TYPE_CHECKING:
    from ddqjobs.project import SubmitOptions
    from ddqjobs.submission.submit import Rendered


def show_scripts(
    selection: Selection, options: SubmitOptions, out: Path | None, *, canary: bool, as_json: bool
) -> None:
    """Show the scripts that would be submitted, or write them below ``out``. Exit with 2 where `submit`
    would."""
    from ddqjobs.spec.experiment import CANARY

    rendered, left = selection.project.dry_run(
        selection.experiment, selection.filters, options, site=selection.site, canaries=canary
    )
    shown = (*(name for r in rendered for name in r.runs), *left)
    trying = canary and any(name.startswith(f"{CANARY}.") for name in shown)
    commands = [r.command for r in rendered]
    _name_unready(selection, rendered)
    if out is not None:
        written = [str(path) for path in _write(rendered, out)]
        commands = [_of(r, path) for r, path in zip(rendered, written, strict=True)]
    if as_json:
        content = [
            {
                "name": r.name,
                "runs": r.runs,
                "script": r.scripts.job,
                "elements": r.scripts.elements,
                "command": command,
            }
            for r, command in zip(rendered, commands, strict=True)
        ]
        say_json("dry-run", submissions=content, left=left)
        _refuse_blocked(selection, options, rendered, trying=trying)
        return
    for number, (r, command) in enumerate(zip(rendered, commands, strict=True), 1):
        if out is None:
            say(f"# ===== {r.name}: {counted(len(r.runs), 'run')}: {', '.join(r.runs)}")
            _show(r.scripts.job + r.scripts.elements)
        if command:
            when = (
                f" when {', '.join(r.after)} {'is' if len(r.after) == 1 else 'are'} done" if r.after else ""
            )
            say(f"# JOB{number}{when}: {shlex.join(command)}")
    before = "# " if out is None else ""
    name_templates(selection, before)
    say(f"{before}{counted(len(rendered), 'script')} for "
        f"{counted(sum(len(r.runs) for r in rendered), 'run')}"
        + (f" written below {out}" if out else "") + "; nothing was submitted")  # fmt: skip
    if trying:
        say(f"{before}the other runs follow once the canaries are done; without --canary this shows them")
    say_left(left, before)
    _refuse_blocked(selection, options, rendered, trying=trying)


def name_templates(selection: Selection, before: str) -> None:
    """Name the project's own templates, which write its scripts."""
    for line in own_templates(selection.project.catalog.files.own_templates()):
        say(before + line)


def say_left(left: dict[str, str], before: str = "") -> None:
    """Say which runs were not submitted, and why."""
    if left:
        say(f"{before}not submitted ({len(left)}):")
        put(table((), [(f"{before}  {run}", why) for run, why in list(left.items())[:20]]))
        if len(left) > 20:
            say(f"{before}  and {len(left) - 20} more: `ddqjobs plan` lists them")


def fail_blocked() -> None:
    """Exit with 2: nothing that was asked for can go on."""
    fail("all selected runs failed, were cancelled, or wait for something that no active run will produce")
    raise typer.Exit(2)


def _name_unready(selection: Selection, rendered: Sequence[Rendered]) -> None:
    """Warn of environments for which `submit` would refuse these scripts, or warn."""
    from ddqjobs.base.errors import EnvironmentNotReadyError
    from ddqjobs.submission.rendering import Rendering

    workspace = selection.project.workspace(selection.experiment, selection.site)
    names = {name for r in rendered for name in r.runs}
    runs = [run for run in (*workspace.loaded.runs, *workspace.loaded.canaries) if run.name in names]
    rendering = Rendering(workspace, selection.project.environments(workspace.site))
    for problem in rendering.absent_entrances(runs):
        warn(problem)
    try:
        rendering.require_environments(runs)
    except EnvironmentNotReadyError as error:
        for problem in str(error).splitlines():
            warn(f"`submit` would refuse: {problem}")


def _refuse_blocked(
    selection: Selection, options: SubmitOptions, rendered: Sequence[Rendered], *, trying: bool
) -> None:
    """Exit with 2 where `submit` would: there is nothing to show, for all that was asked for is blocked.
    ``trying``: canaries were asked for, and one is not done."""
    from ddqjobs.submission.select import blocked, submitting

    if rendered:
        return
    plan = selection.project.plan(selection.experiment, site=selection.site, refresh=False)
    wanted = submitting(plan, selection.filters, options)
    workspace = selection.project.workspace(selection.experiment, selection.site)
    asked = workspace.store.history().wanted | wanted.chosen
    if trying or blocked(plan, wanted, asked):
        fail_blocked()


def _show(script: str) -> None:
    """A script, exact where it goes to a file, harmless on a terminal."""
    if sys.stdout.isatty():
        for line in script.splitlines():
            say(line)
    else:
        put(script)


def _of(rendered: Rendered, script: str) -> tuple[str, ...]:
    """Return the command that submits a script that was written."""
    return tuple(word.replace(rendered.script, script) for word in rendered.command)


def _write(rendered: Sequence[Rendered], out: Path) -> list[Path]:
    """Write each submission into a folder of its own; return the scripts' paths. Raise StateError."""
    from ddqjobs.base.errors import StateError, refusal
    from ddqjobs.store.layout import SubmissionFolder
    from ddqjobs.submission.round import write_scripts

    scripts: list[Path] = []
    try:
        for r in rendered:
            folder = out / (r.name if len(r.runs) == 1 else f"{r.name}-{len(r.runs)}-runs")
            number = 2
            while (
                folder.exists() and folder.name in {path.name for path in out.iterdir()} and number < 10_000
            ):
                folder = out / f"{r.name}~{number}"
                number += 1
            folder.mkdir(parents=True)
            write_scripts(folder, r.scripts)
            scripts.append(SubmissionFolder(folder).script)
    except OSError as error:
        raise StateError(f"{error.filename or out}: {refusal(error, out)}") from error
    return scripts
