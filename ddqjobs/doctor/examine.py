"""`ddqjobs doctor`: what would keep runs from starting or ending well on a site, before one submits them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ddqjobs.base import process
from ddqjobs.base.errors import DdqjobsError, mend, nearest
from ddqjobs.base.findings import Level, Line, error, ok, warning
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.paths import expanded
from ddqjobs.base.units import counted, size
from ddqjobs.data import links, weights
from ddqjobs.doctor.judgements import quotas, space
from ddqjobs.doctor.node import Probe, look
from ddqjobs.environments.environment import declared
from ddqjobs.environments.on_site import Stacks
from ddqjobs.schedulers.backend import Surroundings
from ddqjobs.schedulers.registry import backend
from ddqjobs.spec.model import PlannedRun, Resources, Run, Status, TaskKind
from ddqjobs.store import retention
from ddqjobs.submission.node_job import NodeJobs
from ddqjobs.submission.rendering import Rendering, new_token, user
from ddqjobs.submission.script import on_site
from ddqjobs.submission.workspace import Workspace

_KEPT = (
    4  # checkpoints that a training has on disk at a time: the detector's last ones and those to go on from
)
_STATES = 3  # a checkpoint to go on from has the weights and two moments of the optimizer
_KINDS_OF_JOBS = 8  # at most so many are asked about
Say = Callable[[Line], None]


class Options(Frozen, frozen=True, kw_only=True):
    """How far to go: ``job`` submits the probe, with ``gpus``, and waits ``patience_s`` for it."""

    job: bool = True
    gpus: int = 0
    patience_s: float = 120.0


def examine(
    workspace: Workspace, stacks: Stacks, runs: Sequence[PlannedRun], options: Options, say: Say
) -> list[Line]:
    """Looks at everything, and says each line as soon as it is known. Only runs that are not done count."""
    doctor = Doctor(workspace, stacks, [p.run for p in runs if p.status is not Status.DONE])
    found: list[Line] = []

    def tell(what: str, part: Callable[[], Iterator[Line]]) -> None:
        for line in _safely(what, part):
            found.append(line)
            say(line)

    tell("scheduler", doctor.scheduler)
    reachable = not any(line.level is Level.ERROR and line.what == "scheduler" for line in found)
    if reachable:
        tell("jobs", doctor.jobs)
    tell("environments", doctor.environments)
    tell("inputs and code", doctor.files)
    tell("disk space", doctor.disk)
    if options.job and reachable and backend(workspace.site).capabilities(workspace.site).probes:
        tell("compute node", lambda: doctor.probe(options))
    return found


def _safely(what: str, part: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """The lines of a part; what keeps it from going on is a line too."""
    try:
        yield from part()
    except DdqjobsError as problem:
        yield error(what, " ".join(str(problem).split()), "mend that first, then look again")
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        yield error(what, f"{where}{problem.strerror}", mend(problem))


def _dangling(tree: Path) -> Iterator[Path]:
    """Links at the top of a code tree, and in its data folder, that lead nowhere."""
    for folder in (tree, tree / "data"):
        if folder.is_dir():
            yield from (path for path in sorted(folder.iterdir()) if path.is_symlink() and not path.exists())


class Doctor:
    """Looks at one site for one experiment's runs to come."""

    def __init__(self, workspace: Workspace, stacks: Stacks, runs: Sequence[Run]) -> None:
        self._workspace, self._stacks, self._runs = workspace, stacks, runs
        self._site, self._backend = workspace.site, backend(workspace.site)

    def scheduler(self) -> Iterator[Line]:
        """Whether it answers, and its limits."""
        catalog, site = self._workspace.catalog, self._site
        surroundings = Surroundings(
            runs=self._runs,
            sites=catalog.readable_sites,
            jobs=self._jobs,
            user=user(),
            facts=catalog.project / "site-facts" / site.name,
        )
        return self._backend.examine(site, surroundings)

    def _jobs(self) -> dict[str, str]:
        tickets = self._workspace.store.history().tickets.values()
        return {
            ticket.job: ticket.token for ticket in tickets if ticket.job and ticket.site == self._site.name
        }

    def jobs(self) -> Iterator[Line]:
        """Whether the scheduler would take jobs with the resources of the runs to come."""
        if not self._backend.capabilities(self._site).tests:
            return
        kinds: dict[Resources, list[Run]] = {}
        for run in self._runs:
            kinds.setdefault(on_site(run.resources, self._site), []).append(run)
        rendering = Rendering(self._workspace, self._stacks)
        for resources, runs in list(kinds.items())[:_KINDS_OF_JOBS]:
            what = f"{runs[0].task}: {resources.nodes} x {resources.gpus} GPUs, {resources.cpus} CPUs"
            why = self._backend.refusal(rendering.directives(resources, "doctor"))
            if why:
                remedy = (
                    f"mend `{self._backend.name}:` of the site or the experiment, the site's limits, or the "
                    "resources"
                )
                yield error("jobs", f"{what}: {why}", remedy)
            else:
                yield ok("jobs", f"{what}: would be taken")

    def environments(self) -> Iterator[Line]:
        """Whether they are ready, as far as can be seen from here."""
        yield from self._misspelt()
        for name in dict.fromkeys(r.environment for r in self._runs if r.environment):
            if name in self._site.activate:
                continue  # only a node can tell
            why = self._stacks.problem(name)
            if why:
                found, _, command = " ".join(why.split()).partition("; run: ")
                found = found.removeprefix(f"environment {name} ")
                yield error(f"environment {name}", found, command or f"ddqjobs env build {name}")
            else:
                yield ok(f"environment {name}", "is ready here")

    def _misspelt(self) -> Iterator[Line]:
        """Environments that the site file names nearly as one is called. Others may be of other projects."""
        known = declared(self._workspace.catalog.files)
        for key in ("activate", "environment_modules"):
            for name in getattr(self._site, key):
                meant = "" if name in known else nearest(name, known)
                if meant:
                    words = f"{key} names environment '{name}', which there is not{meant}"
                    yield warning("site file", words, "mend the name; until then the entry has no effect")

    def files(self) -> Iterator[Line]:
        """Inputs, code trees and the data linked into them, configurations."""
        blocked = {name: why for name, why in self._workspace.blocked().items() if name in self._names()}
        if blocked:
            name, why = next(iter(blocked.items()))
            yield error(
                "configurations",
                f"waiting for ever: {counted(len(blocked), 'run')}: {name}: {why}",
                "write the file",
            )
        missing = [text for text, path in self._paths() if not path.exists()]
        if missing:
            words = f"missing: {', '.join(missing[:3])}" + (
                f" and {len(missing) - 3} more" if missing[3:] else ""
            )
            yield error("inputs and code", words, "download or link them; paths stand in the experiment file")
        elif self._paths():
            yield ok(
                "inputs and code", f"all {len(self._paths())} inputs and code trees named by path are there"
            )
        told = set()
        for line, link in self._links():
            told.add(link)
            yield line
        for tree in dict.fromkeys(path for text, path in self._paths() if path.is_dir()):
            for dangling in _dangling(tree):
                if str(dangling) not in told:
                    yield error("data", f"{dangling} leads nowhere", "link the data set again")
        yield from self._weights()

    def _links(self) -> Iterator[tuple[Line, str]]:
        """The links that the experiment declares, as `ddqjobs data link` sees them."""
        experiment, project = self._workspace.loaded.experiment, self._workspace.catalog.project
        wanted = links.look(experiment, project, {r.code for r in self._runs})
        wanted = [link for link in wanted if link.there is not links.There.NO_TREE]  # told above
        for link in wanted:
            if link.there is not links.There.RIGHT:
                why = link.problem or f"{link.path} is not there"
                yield error("data", why, f"ddqjobs data link {experiment.name}"), link.path
        if wanted and all(link.there is links.There.RIGHT for link in wanted):
            yield ok("data", f"linked in {len(wanted)} code trees"), ""

    def _weights(self) -> Iterator[Line]:
        """What trainings would download at their start."""
        experiment, project = self._workspace.loaded.experiment, self._workspace.catalog.project
        wanted = weights.wanted(experiment, project, self._site, self._runs)
        cached = [w for w in wanted if not w.weight.path]
        missing = weights.absent(wanted)
        if missing:
            words = f"{', '.join(w.file for w in missing)}: not here, so a run downloads them at its start"
            remedy = f"ddqjobs data weights {experiment.name}, unless nodes have a network"
            yield warning("weights", words, remedy)
        elif cached:
            yield ok("weights", f"all {len(cached)} that runs would download are here")

    def _names(self) -> set[str]:
        return {r.name for r in self._runs}

    def _paths(self) -> list[tuple[str, Path]]:
        """(as written, path here) of inputs and code trees that the runs name."""
        project = self._workspace.catalog.project
        texts = [i.path for r in self._runs for _, i in r.inputs if i.path] + [r.workdir for r in self._runs]
        named = dict.fromkeys(text for text in texts if text)
        return [(t, expanded(project, t)) for t in named]

    def disk(self) -> Iterator[Line]:
        """Free space against checkpoints to come, inodes, quotas where the system tells."""
        folder = self._workspace.results
        while not folder.exists():
            folder = folder.parent
        status = os.statvfs(folder)
        trainings = sum(r.kind is TaskKind.TRAIN and not r.optional for r in self._runs)
        yield space(status.f_bavail * status.f_frsize, self._checkpoint_size(), trainings, _KEPT)
        if status.f_files and status.f_favail < 100_000:
            yield warning("inodes", f"{status.f_favail} left for files", "remove what is not needed")
        elif status.f_files:
            yield ok("inodes", f"{status.f_favail} left for files")
        yield from self._quota(folder)

    def _checkpoint_size(self) -> int:
        """Bytes of the largest checkpoint so far; else what the released ones let expect; else 0."""
        found = (p for p in self._workspace.results.glob("runs/*/attempts/*/work_dir/*.pth"))
        sizes = [p.stat().st_size for p in found if retention.place(p.name) and p.is_file()]
        if sizes:
            return max(sizes)
        released = (p.stat().st_size for t, p in self._paths() if t.endswith(".pth") and p.is_file())
        return _STATES * max(released, default=0)

    def _quota(self, folder: Path) -> Iterator[Line]:
        commands = [["lfs", "quota", "-q", "-u", str(os.getuid()), str(folder)], ["quota", "-w"]]
        told = False
        for argv in commands:
            done = process.run(argv, timeout=30) if shutil.which(argv[0]) else None
            for what, used, limit in quotas(done.stdout) if done is not None else ():
                told = True
                shown = (used, limit) if what == "inodes" else (size(used * 1024), size(limit * 1024))
                words = f"{shown[0]} of {shown[1]} used" + (" inodes" if what == "inodes" else "")
                if used >= limit:
                    yield error("quota", words, "make room: `ddqjobs clean --dry-run` shows what may go")
                elif used > 0.9 * limit:
                    yield warning("quota", words, "make room: `ddqjobs clean --dry-run` shows what may go")
                else:
                    yield ok("quota", words)
        if not told:
            yield ok("quota", "this system tells of none")

    def probe(self, options: Options) -> Iterator[Line]:
        """Return what a node says."""
        workspace, probe = self._workspace, Probe(gpus=options.gpus, patience_s=options.patience_s)
        rendering = Rendering(workspace, self._stacks)
        names = dict.fromkeys(r.environment for r in self._runs if r.environment)
        known = declared(workspace.catalog.files)
        environments = [name for name in names if name in known]
        paths = [text for text, _ in self._paths()]
        jobs = NodeJobs(workspace.scheduler(self._site.name), self._site, workspace.results)
        yield from look(
            jobs,
            probe,
            lambda context: rendering.doctor(context, probe.resources, environments, paths),
            rendering.context(new_token()),
            workspace.results,
        )
