"""``ddqjobs plan``, ``status`` and ``logs``: nothing here changes anything but the ledger's observations."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli.common import (
    JSON,
    Selection,
    a_number,
    filtered,
    one_selected,
    put,
    say,
    say_json,
    settle,
    table,
)

if TYPE_CHECKING:
    from ddqjobs.project import RunState
    from ddqjobs.spec.model import Plan, PlannedRun, Progress

_LINES_AT_ONCE = 10_000
_LONGEST = 1 << 20  # bytes; a longer line is shown in pieces of a line each


@filtered
def plan(selection: Selection, as_json: JSON = False) -> None:
    """Every run with its status and the reason, and what the rest will cost.

    Examples: ddqjobs plan mini; ddqjobs plan ddq --phase 3; ddqjobs plan ddq --state failed --json
    """
    from ddqjobs.planning.estimate import estimates
    from ddqjobs.planning.filters import select

    project = selection.project
    made = project.plan(selection.experiment, site=selection.site)
    runs = select(made, selection.filters)
    workspace = project.workspace(selection.experiment, selection.site)
    costs = estimates((p.run for p in made.runs), workspace.history())
    if as_json:
        say_json(
            "plan",
            experiment=made.experiment,
            site=made.site,
            runs=[{**_facts(p), "gpu_hours": costs[p.run.name].gpu_hours} for p in runs],
            warnings=workspace.warnings,
        )
        settle(workspace.warnings)
        return
    rows = [(p.run.name, p.run.phase, p.status.value, p.stale or p.reason) for p in runs]
    put(table(("RUN", "PHASE", "STATUS", "REASON"), rows, status=2))
    say(summary(made, runs))
    todo = [
        costs[p.run.name] for p in runs if p.status.value not in ("done", "active") and not p.run.optional
    ]
    known = [e.gpu_hours for e in todo if e.gpu_hours is not None]
    unknown = len(todo) - len(known)
    if any(p.run.resources.gpus for p in runs):
        words = f", and {counted(unknown, 'run')} of unknown duration" if unknown else ""
        say(f"still to do: {sum(known):.4g} GPU hours{words}")
    settle(workspace.warnings)


def _facts(p: PlannedRun) -> dict[str, object]:
    run = p.run
    return {
        "run": run.name,
        "phase": run.phase,
        "task": run.task,
        "kind": run.kind.value,
        "model": run.model,
        "implementation": run.implementation,
        "variant": run.variant,
        "seed": run.seed,
        "deterministic": run.deterministic,
        "optional": run.optional,
        "status": p.status.value,
        "reason": p.reason,
        "failure": p.failure.value if p.failure else None,
        "stale": p.stale or None,
        "job": p.job or None,
        "state": p.state.value if p.state else None,
        "node": p.node or None,
        "attempts": p.attempts,
        "notes": list(p.notes),
        "needs": list(run.upstream),
        "digest": run.digest,
    }


def summary(made: Plan, runs: Sequence[PlannedRun]) -> str:
    """``mini on local: 14 runs: 12 done, 2 active``."""
    counts: dict[str, int] = {}
    for p in runs:
        counts[p.status.value] = counts.get(p.status.value, 0) + 1
    stale = sum(bool(p.stale) for p in runs)
    parts = [
        f"{n} {word}"
        for word in ("done", "active", "eligible", "waiting", "failed")
        if (n := counts.get(word))
    ]
    if stale:
        parts.append(f"{stale} stale (`ddqjobs submit --stale` runs them again)")
    return f"{made.experiment} on {made.site}: {counted(len(runs), 'run')}: {', '.join(parts)}"


@filtered
def status(
    selection: Selection,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="Refresh until all is over; q leaves, arrows scroll, f filters."),
    ] = False,
    interval: Annotated[
        float, typer.Option(help="Seconds between refreshes.", min=0.2, max=86400, callback=a_number)
    ] = 2.0,
    as_json: JSON = False,
) -> None:
    """State of each run: progress, job, node, attempt, reason.

    Keys of --watch: q or Ctrl-C leave; arrows, PgUp, PgDn, Home, End scroll (also j, k, space, b, g, G);
    f shows all, not done, active, failed; r asks now.
    Examples: ddqjobs status; ddqjobs status mini --watch; ddqjobs status ddq --state active --json
    """
    from ddqjobs.base.errors import InputError

    if watch and as_json:
        raise InputError(
            "--watch and --json exclude each other; call `ddqjobs status --json` as often as you need"
        )
    project = selection.project
    if watch and sys.stdout.isatty():
        _watch(selection, interval)
        return
    made, states = _states(selection)
    workspace = project.workspace(selection.experiment, selection.site)
    if as_json:
        runs = [{**_facts(s.planned), "progress": s.progress} for s in states]
        say_json("status", experiment=made.experiment, site=made.site, runs=runs, warnings=workspace.warnings)
        settle(workspace.warnings)
        return
    put(_status_text(made, states))
    for line in _missing(made, states):
        say(line)
    settle(workspace.warnings)


def _states(selection: Selection) -> tuple[Plan, list[RunState]]:
    from ddqjobs.planning.filters import select

    made = selection.project.plan(selection.experiment, site=selection.site)
    runs = select(made, selection.filters)
    return made, selection.project.status(made, runs, site=selection.site)


def _status_text(made: Plan, states: Sequence[RunState]) -> str:
    rows = []
    for s in states:
        p = s.planned
        notes = "; ".join(filter(None, [p.stale or p.reason, *p.notes]))
        state = p.state.value if p.state is not None and p.status.value == "active" else p.status.value
        rows.append(
            (p.run.name, state, progress_text(s.progress), p.job, p.node, str(p.attempts or ""), notes)
        )
    header = ("RUN", "STATE", "PROGRESS", "JOB", "NODE", "TRY", "REASON")
    return table(header, rows, status=1) + "\n" + summary(made, [s.planned for s in states])


def _missing(made: Plan, states: Sequence[RunState]) -> list[str]:
    """What is missing, and the command that brings it; what merely goes on, and stale runs, which
    the summary counts, are not worth a line here."""
    from ddqjobs.report.checks import missing

    runs = [s.planned for s in states if s.planned.status.value != "active"]
    runs = [p for p in runs if p.gone or not p.stale]
    says = {p.run.name: "product missing" if p.gone else p.status.value for p in runs}
    return [f"{len(m.runs)} {m.what}: {m.command}" for m in missing(made.experiment, runs, says)]


def progress_text(p: Progress | None) -> str:
    """``epoch 3/12, 40/100, eta 1h02m, loss 12.3, AP 31.4``, as far as the log tells; of a training by
    iterations ``iteration 40/90000, ...``."""
    if p is None:
        return ""
    from ddqjobs.base.units import clock

    parts = []
    if p.epoch is not None:
        parts.append(f"epoch {p.epoch}" + (f"/{p.epochs}" if p.epochs else ""))
    if p.iteration is not None:
        within = f"{p.iteration}" + (f"/{p.iterations}" if p.iterations else "")
        parts.append(within if p.epoch is not None else f"iteration {within}")
    if p.eta_s is not None:
        parts.append(f"eta {clock(p.eta_s)}")
    if p.loss is not None:
        parts.append(f"loss {p.loss:.4g}")
    if p.ap is not None:
        parts.append(f"AP {p.ap:.1f}")
    if p.gpu_busy is not None:
        parts.append(f"GPU {p.gpu_busy:.0%} busy")
    if p.gpu_hours is not None and p.gpu_hours_to_come is not None:
        parts.append(f"{p.gpu_hours:.3g} GPU h, {p.gpu_hours_to_come:.3g} to come")
    return ", ".join(parts)


def _watch(selection: Selection, interval: float) -> None:
    """Until nothing is active or the user leaves: the last table stays on the screen."""
    from ddqjobs.cli.watching import Seen, watch

    last: list[Seen] = []

    def ask() -> Seen:
        made, states = _states(selection)
        warnings = selection.project.workspace(selection.experiment, selection.site).warnings
        last[:] = [Seen(made, states, "; ".join(warnings), time.time())]
        return last[0]

    with contextlib.suppress(KeyboardInterrupt):  # as good a way to leave as any
        watch(ask, interval)
    for seen in last:
        put(_status_text(seen.made, seen.states))


@filtered
def logs(
    selection: Selection,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is over.")] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Which attempt; the newest if left out.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Only the last N lines; 0: all.")] = 0,
) -> None:
    """The log of one run.

    Examples: ddqjobs logs mini p3-train.ddq-detr-r18; ddqjobs logs mini p3-train.ddq-detr-r18 -f -n 20
    """
    from ddqjobs.base.errors import MissingError

    project = selection.project
    made, planned = one_selected(selection, "logs shows")
    run = planned.run.name
    path = project.log(made, run, attempt, site=selection.site)
    if not follow and not path.exists():
        raise MissingError(f"attempt {path.parent.name} of {run} has left no log")
    log = _Log(path, lines)
    log.show()
    while follow and _active(selection, run):
        time.sleep(0.5)
        log.show()
        newest = project.log(made, run, attempt, site=selection.site)
        if newest != log.path:
            log.show(to_the_end=True)
            say(f"--- attempt {newest.parent.name} ---")
            log = _Log(newest)
    log.show(to_the_end=True)


def _active(selection: Selection, run: str) -> bool:
    from ddqjobs.project import one_run

    made = selection.project.plan(selection.experiment, site=selection.site)
    return one_run(made, run).status.value == "active"


class _Log:
    """Prints a log line by line as it grows, control characters made harmless. ``last``: at first only so
    many lines; 0: all."""

    def __init__(self, path: Path, last: int = 0) -> None:
        self.path = path
        self._last = last
        self._position = 0

    def show(self, *, to_the_end: bool = False) -> None:
        """Prints what is new; a line that is still being written only ``to_the_end``."""
        from ddqjobs.base.text import clean

        lines: deque[bytes] = deque(maxlen=self._last or None)
        held = 0
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._position)
            while line := file.readline(_LONGEST):
                if not line.endswith(b"\n") and len(line) < _LONGEST and not to_the_end:
                    break
                self._position += len(line)
                lines.append(line)
                held += len(line)
                if not self._last and (len(lines) >= _LINES_AT_ONCE or held >= _LONGEST):
                    self._print(lines, clean)
                    held = 0
        self._print(lines, clean)
        self._last = 0

    @staticmethod
    def _print(lines: deque[bytes], clean: Callable[[str], str]) -> None:
        # A progress bar draws over itself with carriage returns: here each of its states is a line.
        texts = (line.decode(errors="replace").rstrip("\r\n").replace("\r", "\n") for line in lines)
        shown = [clean(part) for text in texts for part in text.split("\n")]
        lines.clear()
        if shown:
            put("\n".join(shown))
