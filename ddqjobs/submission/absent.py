"""Find configurations that an experiment names and that are nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ddqjobs.base.errors import nearest_word
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.paths import expanded
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Run
from ddqjobs.submission import configurations as of_runs
from ddqjobs.submission.checked import Checked, Finding
from ddqjobs.submission.workspace import Workspace


class Absent(Frozen, frozen=True, kw_only=True):
    """A configuration that is not there, and the runs that would load it."""

    config: str
    runs: tuple[Run, ...]
    why: str
    file: str  # where the experiment names it
    line: int
    nearest: str  # one that is there; empty if none is like it


def configurations(workspace: Workspace, runs: Iterable[Run]) -> list[Absent]:
    """Return what is not there of the configurations of these runs, in their order."""
    blocked, loaded = workspace.blocked(), workspace.loaded
    groups: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        if run.name in blocked:
            file, line = loaded.line_of(_place(run, loaded.experiment))
            groups.setdefault((blocked[run.name], file, line), []).append(run)
    return [
        Absent(
            config=runs_of[0].config,
            runs=tuple(runs_of),
            why=why,
            file=file,
            line=line,
            nearest=nearest_word(runs_of[0].config, _there(workspace, runs_of[0])),
        )
        for (why, file, line), runs_of in groups.items()
    ]


def added(checked: Checked, lost: Sequence[Absent]) -> Checked:
    """Return the outcome of a check with what is not there: errors, too."""
    findings = [
        Finding(
            file=one.file,
            line=one.line,
            runs=tuple(run.name for run in one.runs),
            environment=one.runs[0].environment,
            level="error",
            kind="load",
            key="",
            text=one.why,
            nearest=one.nearest,
        )
        for one in lost
    ]
    return msgspec.structs.replace(
        checked,
        runs=checked.runs + sum(len(one.runs) for one in lost),
        total=checked.total + len(lost),
        findings=(*checked.findings, *findings),
    )


def _place(run: Run, experiment: Experiment) -> tuple[str, ...]:
    """Return where the experiment names a run's configuration."""
    task = experiment.tasks.get(run.task)
    if task is not None and task.config == run.config:
        return ("tasks", run.task, "config")
    return ("models", run.model, "implementations", run.implementation, "config")


def _there(workspace: Workspace, run: Run) -> Iterator[str]:
    """Yield the configurations that the run could load: those of its code's tree beside the one that it
    names, those below experiments/, or both."""
    source = of_runs.source(run)
    if source.tree:
        tree = expanded(workspace.catalog.project, run.workdir)
        beside = sorted((tree / run.config).parent.glob("*.py"))
        yield from (path.relative_to(tree).as_posix() for path in beside if path.is_relative_to(tree))
    if source.project:
        for path, _ in workspace.catalog.files.tree("experiments/configs"):
            yield f"configs/{path}"
