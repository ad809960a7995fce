"""Jobs that a site's scheduler would never take: it says so itself, without taking them.

What was asked is recorded, an entry for each kind of job, so that `plan` knows it without asking anybody and
no command asks twice about what would be taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddqjobs.base.errors import SchedulerError
from ddqjobs.base.files import replace
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.units import clock, counted, seconds, size
from ddqjobs.schedulers.registry import backend
from ddqjobs.spec.model import Resources, Run
from ddqjobs.spec.site import Site
from ddqjobs.submission.rendering import Rendering
from ddqjobs.submission.script import on_site
from ddqjobs.submission.workspace import Workspace

_MOST_KINDS = 8  # so many are asked about at once


class Kind(Frozen, frozen=True, kw_only=True):
    """Runs that ask for the same, and why the scheduler would refuse them; empty if it would not."""

    resources: Resources
    runs: tuple[Run, ...]
    why: str = ""

    @property
    def asks(self) -> str:
        """Return what a job of this kind asks for."""
        r = self.resources
        memory = f", {size(r.memory_mb * 1e6)}" if r.memory_mb else ""
        return f"{self.runs[0].task}: {r.nodes} x {r.gpus} GPUs, {r.cpus} CPUs{memory}, {clock(r.time_s)}"

    @property
    def named(self) -> str:
        """Return what a job of this kind asks for, and of which runs it is."""
        count = len(self.runs)
        return f"{self.asks} ({self.runs[0].name if count == 1 else counted(count, 'run')})"


class Kinds:
    """The kinds of jobs of some runs on a workspace's site."""

    def __init__(self, workspace: Workspace, rendering: Rendering) -> None:
        self._workspace, self._rendering = workspace, rendering
        self._backend = backend(workspace.site)

    def ask(self, runs: Sequence[Run], *, again: bool = False) -> Iterator[Kind]:
        """Yield each kind with the scheduler's answer, which is recorded. Those that it is known to take are
        left out, unless ``again``. Raise SchedulerError if it cannot be asked."""
        kinds = [(kind, directives, self._record(directives)) for kind, directives in self._kinds(runs)]
        wanted = [known for known in kinds if again or _recorded(known[-1]) != ""]
        for kind, directives, record in wanted[:_MOST_KINDS]:
            why = self._backend.refusal(directives)
            with contextlib.suppress(OSError):  # a full disk keeps nobody from submitting here
                record.parent.mkdir(parents=True, exist_ok=True)
                replace(record, json.dumps({"why": why}).encode())
            yield Kind(resources=kind.resources, runs=kind.runs, why=why)

    def recorded(self, runs: Sequence[Run]) -> list[Kind]:
        """Return the kinds that the scheduler would refuse, by what it said when it was asked."""
        known = ((kind, _recorded(self._record(directives))) for kind, directives in self._kinds(runs))
        return [Kind(resources=kind.resources, runs=kind.runs, why=why) for kind, why in known if why]

    def _kinds(self, runs: Sequence[Run]) -> list[tuple[Kind, list[str]]]:
        if not self._backend.capabilities(self._workspace.site).tests:
            return []
        kinds = _kinds(runs, self._workspace.site)
        return [(kind, self._rendering.directives(kind.resources, "doctor")) for kind in kinds]

    def _record(self, directives: Sequence[str]) -> Path:
        text = json.dumps([self._workspace.site.name, *directives])
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._workspace.store.layout.checks / f"{key}.job"


def hurried(runs: Sequence[Run], site: Site) -> list[Kind]:
    """Return the kinds whose whole time limit is shorter than the site's warning, and what becomes of them.
    Nobody is asked."""
    warning_s = seconds(site.warning)
    short = [kind for kind in _kinds(runs, site) if kind.resources.time_s < warning_s]
    why = (
        f"the site's warning of {clock(warning_s)} is longer than that, and is cut; "
        "give it more time, or the site a shorter `warning:`"
    )
    return [Kind(resources=kind.resources, runs=kind.runs, why=why) for kind in short]


def said(runs: Sequence[Run], kinds: Kinds, site: Site) -> Iterator[str]:
    """Yield a warning for each kind that is asked to stop too early or that would be refused; of these none
    where the scheduler cannot be asked: the submission says that."""
    for kind in hurried(runs, site):
        yield f"warning: {kind.named}: {kind.why}"
    with contextlib.suppress(SchedulerError):
        for kind in kinds.ask(runs):
            if kind.why:
                yield f"warning: {kind.named}: it would never be taken: {kind.why}"


def _kinds(runs: Sequence[Run], site: Site) -> list[Kind]:
    groups: dict[Resources, list[Run]] = {}
    for run in runs:
        groups.setdefault(on_site(run.resources, site), []).append(run)
    return [Kind(resources=resources, runs=tuple(group)) for resources, group in groups.items()]


def _recorded(path: Path) -> str | None:
    """Return why a kind would be refused, empty if it would not; None if nobody asked."""
    try:
        why = json.loads(path.read_bytes())["why"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return why if isinstance(why, str) else None
