"""Checks the configurations of runs in their environments before anything is submitted.

One process per environment, working folder and variables, one after the other: here on the local site,
else in one helper job. What passed is recorded beside the results, by the parts of the digest that decide
it, and not looked at again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec

from ddqjobs.base import files, process
from ddqjobs.base.errors import DdqjobsError, InputError, Problem, SchedulerError, StateError, mend
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.units import counted
from ddqjobs.environments.on_site import Environments
from ddqjobs.planning import digest as digests
from ddqjobs.schedulers.registry import capabilities
from ddqjobs.spec.model import Resources, Run
from ddqjobs.submission import absent, configurations
from ddqjobs.submission.checked import Checked, Finding, Resolved
from ddqjobs.submission.configurations import Configuration
from ddqjobs.submission.node_folder import Request
from ddqjobs.submission.node_job import NodeJobs
from ddqjobs.submission.rendering import Rendering, new_token, renderer_of
from ddqjobs.submission.script import CHECK
from ddqjobs.submission.snapshot import snapshot
from ddqjobs.submission.words import quote
from ddqjobs.submission.workspace import Workspace

Say = Callable[[str], None]
PATIENCE_S = 900.0
_JOB_S = 1800  # the helper job's own limit
_PARTS = ("config", "code", "environment")  # of a digest: what else decides what a check finds
_OF_SCRIPT = re.compile(r"^\S+/\d+\.sh: line \d+: (cd: )?")  # bash's own words, of a script that is gone
_DETECTOR = re.compile(r"^torch\b", re.MULTILINE)  # an environment without it loads no configurations
_NO_TORCH = "its requirements do not ask for torch, without which no configuration can be loaded"


class _Subject(Frozen, frozen=True, kw_only=True):
    """One configuration, and the runs that load it."""

    key: str
    configuration: Configuration
    runs: tuple[Run, ...]

    @property
    def environment(self) -> str:
        """Return the name of the environment that loads it."""
        return self.runs[0].environment


class Checking:
    """Checks runs of one workspace."""

    def __init__(self, workspace: Workspace, environments: Environments) -> None:
        self._workspace, self._environments = workspace, environments
        self._detectors: dict[str, bool | None] = {}
        self._unanswered: set[str] = set()  # keys of subjects that were asked about in vain

    def check(
        self, runs: Iterable[Run], say: Say, *, again: bool = False, patience_s: float = PATIENCE_S
    ) -> Checked:
        """Check what these runs load; with ``again`` also what passed before. What is not there is wrong,
        too. Raise SchedulerError, StateError, EnvironmentNotReadyError."""
        runs = list(runs)
        checked = self._check(self._subjects(runs), say, again=again, patience_s=patience_s)
        return absent.added(checked, absent.configurations(self._workspace, runs))

    def _check(
        self, subjects: Sequence[_Subject], say: Say, *, again: bool = False, patience_s: float = PATIENCE_S
    ) -> Checked:
        todo = [s for s in subjects if again or not self._record(s).exists()]
        unready = self._unready({s.environment for s in todo})
        groups = self._groups([s for s in todo if s.environment not in unready])
        runs, passed = sum(len(s.runs) for s in subjects), len(subjects) - len(todo)
        if not groups:
            return Checked(
                runs=runs, total=len(subjects), passed=passed, not_checked=len(todo), unchecked=unready
            )
        for name, count in self._sizes(groups).items():
            where = f"in environment {name}" if name else "without an environment"
            say(f"checking {counted(count, 'configuration')} {where}")
        self._unanswered |= {subject.key for group in groups for subject in group}
        try:
            with self._folder() as folder:
                checked = self._answers(groups, self._run(groups, folder, say, patience_s))
        except OSError as error:
            raise StateError(f"{self._workspace.results}: {error.strerror}: {mend(error)}") from error
        return msgspec.structs.replace(
            checked,
            runs=runs,
            total=len(subjects),
            passed=passed + checked.passed,
            not_checked=len(todo) - checked.configurations,
            unchecked={**unready, **checked.unchecked},
        )

    def before(self, runs: Collection[Run], say: Say, *, waive: bool, keep: bool) -> None:
        """Check what is about to be submitted, or record that it is not to be checked; ``keep`` leaves out
        what was waived before. Raise InputError, StateError."""
        subjects = self._of_detectors(runs)
        if waive:
            for subject in subjects:
                self._remember(self._waiver(subject))
            return
        self.require([s for s in subjects if not (keep and self._waiver(s).exists())], say)
        if not keep:
            for subject in subjects:
                self._waiver(subject).unlink(missing_ok=True)

    def require(self, subjects: Iterable[_Subject], say: Say) -> None:
        """Check what did not pass before; InputError for what is wrong. What could not be checked is only
        said, and once: a busy cluster is not waited for again, and jobs look again before they begin. Nor
        are environments looked at that are still to be built."""
        subjects = [s for s in subjects if s.key not in self._unanswered]
        unready = self._unready({s.environment for s in subjects})
        subjects = [s for s in subjects if s.environment not in unready]
        try:
            checked = self._check(subjects, say)
        except SchedulerError as error:  # the helper job's; the runs' own may fare better
            asked = (s.environment for s in subjects if s.key in self._unanswered)
            checked = Checked(unchecked=dict.fromkeys(asked, str(error)))
        for finding in checked.findings:
            if finding.level != "error":
                say(f"warning: {finding.problem()}")
        for reason in checked.reasons:
            say(f"warning: {reason}")
        if checked.errors:
            path = str(self._workspace.loaded.path)
            end = Problem(path, 0, "nothing was submitted; fix this, or submit with --no-check")
            raise InputError([*(finding.problem() for finding in checked.errors), end])

    def waived(self, runs: Iterable[Run]) -> frozenset[str]:
        """Return the names of those among these runs that are not to be checked."""
        subjects = (s for s in self._of_detectors(runs) if self._waiver(s).exists())
        return frozenset(run.name for subject in subjects for run in subject.runs)

    # -- what there is to check

    def _subjects(self, runs: Iterable[Run]) -> list[_Subject]:
        loaded, blocked = self._workspace.loaded, self._workspace.blocked()
        results, project = str(self._workspace.results), str(self._workspace.catalog.project)
        subjects: dict[str, _Subject] = {}
        for run in runs:
            if run.name in blocked:
                continue
            seedless = configurations.without_seed(run, loaded.experiment.codes[run.code].seed_option)
            one, shared = (configurations.of(r, loaded.experiment, results, project) for r in (run, seedless))
            if one is None or shared is None:
                continue
            key = _key(run, shared)
            before = subjects.get(key)
            before_runs = before.runs if before else ()
            kept = before.configuration if before else one
            subjects[key] = _Subject(key=key, configuration=kept, runs=(*before_runs, run))
        return list(subjects.values())

    def _of_detectors(self, runs: Iterable[Run]) -> list[_Subject]:
        """Return the subjects that are checked before they are submitted: as far as is known without asking,
        their environments load configurations. Of one that the site enters, and that declares no
        requirements, only a check can tell."""
        with_environment = (run for run in runs if run.environment)
        return [s for s in self._subjects(with_environment) if self._has_detector(s.environment) is not False]

    def _has_detector(self, name: str) -> bool | None:
        """Return whether an environment asks for torch; None if it declares no requirements."""
        if name not in self._detectors:
            try:
                text = self._environments.load(name).requirements.read_text(encoding="utf-8")
            except FileNotFoundError:
                self._detectors[name] = None
            except (DdqjobsError, OSError):
                self._detectors[name] = False
            else:
                self._detectors[name] = bool(_DETECTOR.search(text))
        return self._detectors[name]

    def _unready(self, names: Iterable[str]) -> dict[str, str]:
        """Return environment -> why no configuration can be loaded in it, of those of these that are not
        ready or ask for no torch."""
        ours = [name for name in sorted(names) if name and name not in self._workspace.site.activate]
        known = ((name, self._environments.problem(name).splitlines()) for name in ours)
        problems = {name: _plain(lines[0], name) for name, lines in known if lines}
        others = {name: _NO_TORCH for name in ours if self._has_detector(name) is False}
        return {**problems, **others}

    def _record(self, subject: _Subject) -> Path:
        return self._workspace.store.layout.checks / subject.key

    def _waiver(self, subject: _Subject) -> Path:
        return self._workspace.store.layout.checks / f"{subject.key}.waived"

    @staticmethod
    def _groups(subjects: Sequence[_Subject]) -> list[list[_Subject]]:
        """Return the subjects by what their processes have in common."""
        groups: dict[object, list[_Subject]] = {}
        for subject in subjects:
            run = subject.runs[0]
            groups.setdefault((run.environment, run.workdir, run.variables), []).append(subject)
        return list(groups.values())

    @staticmethod
    def _sizes(groups: Sequence[Sequence[_Subject]]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for group in groups:
            name = group[0].environment
            sizes[name] = sizes.get(name, 0) + len(group)
        return sizes

    # -- running it

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        folder = self._workspace.store.layout.node_jobs().checks / new_token()
        _remove_abandoned(folder.parent)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(
        self, groups: Sequence[Sequence[_Subject]], folder: Path, say: Say, patience_s: float
    ) -> list[_Answer]:
        """Run one process for each group, one after the other, and return what they left."""
        code = snapshot(
            self._workspace.store.layout.code, self._workspace.catalog.files, self._workspace.loaded.path
        )
        lines = ["#!/usr/bin/env bash\n"]
        for number, group in enumerate(groups):
            place = folder / str(number)
            requests = [msgspec.to_builtins(subject.configuration) for subject in group]
            files.replace(place.with_suffix(".requests"), json.dumps(requests).encode(), 0o600)
            typed = _program(place)
            script = self._rendering.shell(group[0].runs[0], typed, code)
            files.create(place.with_suffix(".sh"), script.encode(), 0o600)  # it may hold secret variables
            lines.append(f"bash {quote(place)}.sh > {quote(place)}.log 2>&1\n")
        script_path = folder / "all.sh"
        files.replace(script_path, "".join(lines).encode())
        why = self._execute(script_path, say, patience_s)
        return [_Answer(folder / str(number), why) for number in range(len(groups))]

    def _execute(self, script: Path, say: Say, patience_s: float) -> str:
        """Run a script where the site's jobs run; return why it did not run to its end, if it did not."""
        site = self._workspace.site
        if capabilities(site).here:
            done = process.run(["bash", str(script)], timeout=patience_s)
            return f"no answer within {patience_s:.0f} s" if done.timed_out else ""
        argv = ("bash", str(script))
        resources = Resources(cpus=1, time_s=_JOB_S)
        request = Request(name=CHECK, command=argv, resources=resources, site=site.name)
        jobs = NodeJobs(self._workspace.scheduler(site.name), site, self._workspace.results)
        context = self._rendering.context(new_token())
        renderer = renderer_of(self._workspace.catalog)
        with jobs.job(request, context.token, say) as job:
            job.submit(
                lambda c: renderer.node_command(site, c, resources, "check", argv, CHECK), context, say
            )
            ended = job.follow(lambda _: None, lambda _: None, patience_s)
        return "" if ended.code is not None else f"its job did not end within {patience_s:.0f} s"

    @cached_property
    def _rendering(self) -> Rendering:
        return Rendering(self._workspace, self._environments)

    # -- what came of it

    def _answers(self, groups: Sequence[Sequence[_Subject]], answers: Sequence[_Answer]) -> Checked:
        findings: list[Finding] = []
        resolved: list[Resolved] = []
        unchecked: dict[str, str] = {}
        passed = answered = 0
        for group, answer in zip(groups, answers, strict=True):
            if answer.problem:
                unchecked[group[0].environment] = answer.problem
                continue
            answered += len(group)
            for subject, reported, whole in zip(group, answer.findings, answer.resolved, strict=True):
                self._unanswered.discard(subject.key)
                if whole is not None:
                    names = tuple(run.name for run in subject.runs)
                    resolved.append(
                        Resolved(runs=names, environment=subject.environment, configuration=whole)
                    )
                flag = self._workspace.loaded.experiment.codes[subject.runs[0].code].option_flag
                reported = [*reported, *configurations.contradictions(subject.runs[0], flag)]
                findings += self._findings(subject, reported)
                if not any(one["level"] == "error" for one in reported):
                    passed += 1
                    self._remember(self._record(subject))
        notes = tuple(answer.note for answer in answers if answer.note)
        return Checked(
            configurations=answered,
            passed=passed,
            findings=tuple(findings),
            unchecked=unchecked,
            resolved=tuple(resolved),
            notes=notes,
        )

    def _findings(self, subject: _Subject, reported: Iterable[Mapping[str, str]]) -> Iterator[Finding]:
        loaded, run = self._workspace.loaded, subject.runs[0]
        for one in reported:
            places = configurations.places(run, loaded.experiment, one["key"])
            file, line = loaded.line_of(next(places, ("tasks", run.task)))
            names = tuple(r.name for r in subject.runs)
            yield Finding(file=file, line=line, runs=names, environment=subject.environment, **one)

    @staticmethod
    def _remember(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, b"")


class _Answer:
    """The answer that one process left."""

    def __init__(self, place: Path, why: str) -> None:
        self.findings: list[list[dict[str, str]]] = []
        self.resolved: list[dict[str, object] | None] = []
        self.problem = self.note = ""
        lines = _lines(place.with_suffix(".log"))
        try:
            answers = json.loads(place.with_suffix(".answers").read_text(encoding="utf-8"))
            self.findings = [answer["findings"] for answer in answers]
            self.resolved = [answer["resolved"] for answer in answers]
        except (OSError, ValueError):
            self.problem = why or (_OF_SCRIPT.sub("", lines[-1])[:200] if lines else "it left no answer")
        else:
            self.note = next((line for line in reversed(lines) if line.startswith("check: ")), "")


def _remove_abandoned(checks: Path) -> None:
    """Remove the folders of our processes that were killed: they may hold secrets."""
    latest = time.time() - _JOB_S - PATIENCE_S
    for folder in checks.iterdir() if checks.is_dir() else ():
        with contextlib.suppress(OSError):  # another process removes it, too
            seen = folder.lstat()
            if seen.st_uid == os.getuid() and seen.st_mtime < latest:
                shutil.rmtree(folder)


def _plain(problem: str, environment: str) -> str:
    """Return why an environment cannot be used as the end of a sentence that names it.

    >>> _plain("environment e is not ready: it is not built; run: ddqjobs env build e", "e")
    'it is not built; run `ddqjobs env build e`'
    """
    why = problem.removeprefix(f"environment {environment} is not ready: ")
    return re.sub(r"; run: (.+)$", r"; run `\1`", why)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return []


def _program(place: Path) -> str:
    """Return the shell text that checks, on one core and without a GPU."""
    one = " ".join(f"{name}=1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"))
    argv = f"{quote(place)}.requests {quote(place)}.answers"
    return f'{one} CUDA_VISIBLE_DEVICES= exec "$DDQJOBS_PYTHON" -m ddqjobs.detect.check {argv}'


def _key(run: Run, configuration: Configuration) -> str:
    """Return the name of a passed check: of all that decides what it finds, but for the data."""
    parts = dict(digests.parts(run.digest))
    known = [
        *(parts.get(name, "") for name in _PARTS),
        run.workdir,
        *map("=".join, run.variables),
        *run.command,
    ]
    text = "\n".join([*known, msgspec.json.encode(configuration, order="sorted").decode()])
    return hashlib.sha256(text.encode()).hexdigest()[:24]
