"""`ddqjobs doctor`: what would keep runs from starting or ending well on a site, before one submits them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
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
from ddqjobs.spec.model import PlannedRun, Resources, Run, Status, TaskKind
from ddqjobs.store import retention
from ddqjobs.submission.node_job import NodeJobs
from ddqjobs.submission.script import on_site
from ddqjobs.submission.submit import Submitter, new_token, user
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
    if options.job and reachable and workspace.site.scheduler != "donau":
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
        self._site = workspace.site

    def scheduler(self) -> Iterator[Line]:
        """Whether it answers, and its limits."""
        kind = self._site.scheduler
        if kind == "donau":
            yield from self._donau()
        elif kind == "local":
            yield from self._machine()
        else:
            yield from self._slurm()

    def _machine(self) -> Iterator[Line]:
        from ddqjobs.schedulers.local import options, slots

        local = options.of(self._site)
        cpus, gpus = slots.cpus(local.cpus), len(slots.gpus(local.gpus))
        wanted = max((r.resources.gpus for r in self._runs), default=0)
        if wanted > gpus:
            names = [r.name for r in self._runs if r.resources.gpus > gpus]
            yield error(
                "slots",
                f"{counted(len(names), 'run')} with more GPUs than the {gpus} here, first {names[0]}",
                "choose another --site, or leave these runs out",
            )
        else:
            yield ok("scheduler", f"this machine has {cpus} CPUs and {gpus} GPUs for jobs")

    def _donau(self) -> Iterator[Line]:
        from ddqjobs.schedulers.donau import examination as donau
        from ddqjobs.schedulers.donau import options

        catalog, site = self._workspace.catalog, self._site
        dialects = {site.name: options.of(site).dialect}
        for name in catalog.sites():
            with contextlib.suppress(DdqjobsError):  # a broken file of another site is for others to mend
                dialects.setdefault(name, options.of(catalog.site(name)).dialect)
        me, host = user(), socket.gethostname()
        names = (me, host, host.partition(".")[0], options.of(site).account.replace("{user}", me))
        tickets = self._workspace.store.history().tickets.values()
        context = donau.Context(
            site, {name: made for name, made in dialects.items() if made is not None}, names,
            {ticket.job: ticket.token for ticket in tickets if ticket.job and ticket.site == site.name},
        )  # fmt: skip
        yield from donau.examine(context, catalog.project / "site-facts" / site.name)

    def _slurm(self) -> Iterator[Line]:
        from ddqjobs.schedulers.slurm import examination as slurm

        began = time.monotonic()
        settings, why = slurm.configuration()
        if why:
            remedy = (
                "load Slurm's commands, or choose another --site; a controller that is down needs its admin"
            )
            yield error("scheduler", f"Slurm cannot be asked: {why}", remedy)
            return
        took = time.monotonic() - began
        yield ok("scheduler", f"Slurm {settings.get('SLURM_VERSION', '?')} answers in {took:.2f} s")
        yield from self._limits(settings)
        if "none" in settings.get("AccountingStorageType", "none"):
            yield ok("accounting", "none here: what leaves the queue is judged by its evidence")
        elif why := slurm.accounting():
            remedy = "states of ended jobs stay unknown until sacct answers; tell its admin"
            yield warning("accounting", f"sacct does not answer: {why}", remedy)
        else:
            yield ok("accounting", "sacct answers")

    def _limits(self, settings: dict[str, str]) -> Iterator[Line]:
        limits = self._site.limits
        largest = int(settings.get("MaxArraySize") or 1001) - 1
        jobs = int(settings.get("MaxJobCount") or 10_000)
        if (limits.array_size or 1000) > largest:
            yield error("limits", f"arrays of {limits.array_size or 1000}, Slurm takes {largest}",
                        f"limits: {{array_size: {largest}}} in the site file")  # fmt: skip
        elif limits.jobs_in_queue > jobs:
            yield warning("limits", f"{limits.jobs_in_queue} jobs in the queue, Slurm takes {jobs} of all",
                          "lower limits.jobs_in_queue in the site file")  # fmt: skip
        else:
            yield ok("limits", f"arrays up to {largest}, {jobs} jobs of all users")

    def jobs(self) -> Iterator[Line]:
        """Whether the scheduler would take jobs with the resources of the runs to come."""
        if self._site.scheduler != "slurm":
            return
        from ddqjobs.schedulers.slurm import examination as slurm

        kinds: dict[Resources, list[Run]] = {}
        for run in self._runs:
            kinds.setdefault(on_site(run.resources, self._site), []).append(run)
        submitter = Submitter(self._workspace, self._stacks)
        for resources, runs in list(kinds.items())[:_KINDS_OF_JOBS]:
            what = f"{runs[0].task}: {resources.nodes} x {resources.gpus} GPUs, {resources.cpus} CPUs"
            why = slurm.refusal(submitter.directives(resources, "doctor"))
            if why:
                remedy = "mend `slurm:` of the site or the experiment, the site's limits, or the resources"
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
        submitter = Submitter(workspace, self._stacks)
        names = dict.fromkeys(r.environment for r in self._runs if r.environment)
        known = declared(workspace.catalog.files)
        environments = [name for name in names if name in known]
        paths = [text for text, _ in self._paths()]
        jobs = NodeJobs(workspace.scheduler(self._site.name), self._site, workspace.results)
        yield from look(
            jobs,
            probe,
            lambda context: submitter.doctor_script(context, probe.resources, environments, paths),
            submitter.node_context(new_token()),
            workspace.results,
        )
