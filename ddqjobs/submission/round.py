"""One round of submissions: batch by batch, each reserved, written, intended, handed over, recorded.

After each of these steps the process may die. What the next command then finds decides what happens:

=====================  ========================================================================
died after             the next command
=====================  ========================================================================
reserving              voids the tickets whose process is dead, takes the next slot
writing the folder     the same; it removes the folder
the intent             asks the scheduler for the token: found -> recorded; not found -> voided
the scheduler took it  the same: found
recording              nothing to do
=====================  ========================================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import field

from ddqjobs.base.errors import DdqjobsError, SchedulerError, StateError, mend
from ddqjobs.base.files import replace
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.process import myself
from ddqjobs.base.units import seconds
from ddqjobs.base.version import VERSION
from ddqjobs.schedulers.base import (
    DependencyGoneError,
    Element,
    QueueFullError,
    RefusedError,
    Submission,
    SubmitUnknownError,
)
from ddqjobs.spec.model import PlannedRun, Resources, Run, Status
from ddqjobs.store.claims import SUBMITTED_MEANWHILE
from ddqjobs.store.history import History, RunHistory
from ddqjobs.store.layout import SubmissionFolder
from ddqjobs.store.ledger import Intent, Submitted, Voided, ticket_of
from ddqjobs.submission.arrays import first_index
from ddqjobs.submission.job_names import job_name
from ddqjobs.submission.rendering import Rendering, new_token
from ddqjobs.submission.script import Scripts
from ddqjobs.submission.workspace import Workspace

Say = Callable[[str], None]


class Outcome(Frozen, frozen=True, kw_only=True):
    """The runs that were submitted, and those that were left out, with the reasons."""

    submitted: dict[str, str] = field(default_factory=dict)  # run -> job
    left: dict[str, str] = field(default_factory=dict)  # run -> reason
    refused: dict[str, str] = field(default_factory=dict)  # of those left out: ready, and yet not submitted
    never: dict[str, str] = field(default_factory=dict)  # of those refused: by the scheduler, as they are
    blocked: bool = False  # nothing was submitted, and nothing that was asked for goes on by itself
    full: bool = False  # the scheduler took no more for now
    no_room: frozenset[str] = frozenset()  # of those left out: because the queue is full
    queue_limit: int | None = None  # how many jobs it took, where it was full
    unconfirmed: dict[str, str] = field(default_factory=dict)  # run -> what came instead of an answer
    gpu_hours: float = 0.0  # estimated, of what was submitted


def elements_of(runs: Sequence[Run], jobs: Mapping[str, str], first: int = 0) -> tuple[Element, ...]:
    """Return the elements of a submission, from index ``first`` on; each waits for the jobs of what its run
    needs."""
    return tuple(
        Element(index=i, run=r.name, after=tuple(jobs[up] for up in r.upstream if up in jobs))
        for i, r in enumerate(runs, first)
    )


@dataclass
class Round:
    """One call of ``submit``: what it decided on, and what has come of it so far."""

    workspace: Workspace
    rendering: Rendering
    code: str  # name of the snapshot
    unchecked: frozenset[str]  # runs whose jobs are not to check their configuration
    avoid: tuple[str, ...]  # nodes
    hours: Mapping[str, float | None]  # run -> estimated GPU hours
    planned: Mapping[str, PlannedRun]  # of the plan that is carried out
    jobs: dict[str, str]  # run -> job in the queue, seen by the plan or submitted since
    outcome: Outcome
    say: Say
    cautious: bool = False  # the scheduler has a limit of its own
    full: str = ""  # why it takes no more for now

    def submit(self, resources: Resources, runs: Sequence[Run]) -> None:
        """Submit one batch. Where the scheduler has a limit of its own, which nobody knows, begin with one
        run and double: what is refused is recorded too, and may be asked for again for days."""
        if self.cautious and len(runs) > 1:
            first, size = 0, 1
            while first < len(runs):
                self._submit(resources, runs[first : first + size])
                never = self.outcome.never.get(runs[first].name)
                first, size = first + size, 2 * size
                if never:  # what one of them asks for all ask for
                    self._never(dict.fromkeys((run.name for run in runs[first:]), never))
                    break
        else:
            self._submit(resources, runs)

    def _submit(self, resources: Resources, runs: Sequence[Run]) -> None:
        """Submit one array or job: reserve, write, intend, hand over, record."""
        if self.full:
            self._wait_for_room(runs)
            return
        token, history = new_token(), self.workspace.store.history()
        runs = self._free(runs, history)
        first = first_index(runs, self.jobs)
        with self._freed_if_it_fails(token, range(first, first + len(runs))):
            reserved = self._reserve(token, runs, history, first)
            if not reserved:
                return
            folder = self._write(token, reserved, first)
            self._intend(token, reserved, first)
        submission = Submission(
            token=token,
            name=job_name(reserved),
            folder=str(folder),
            resources=resources,
            avoid=self.avoid,
            elements=elements_of(reserved, self.jobs, first),
        )
        taken = self._hand_over(submission)
        if taken:
            self._record(submission, taken)
        elif self.full and len(reserved) > 1:
            self.full, self.cautious = "", True
            self.planned = {**self.planned, **self._once_more(reserved)}
            self.submit(resources, reserved)
        elif self.full:
            self._wait_for_room(reserved)

    def _once_more(self, runs: Sequence[Run]) -> dict[str, PlannedRun]:
        """Return what is planned of runs whose submission was refused: one ticket more has ended."""
        refused = (self.planned[run.name] for run in runs)
        return {
            planned.run.name: msgspec.structs.replace(planned, submissions=planned.submissions + 1)
            for planned in refused
        }

    def _wait_for_room(self, runs: Sequence[Run]) -> None:
        left = {**self.outcome.left, **{run.name: self.full for run in runs}}
        no_room = self.outcome.no_room.union(run.name for run in runs)
        self.outcome = msgspec.structs.replace(self.outcome, left=left, full=True, no_room=no_room)

    def _free(self, runs: Sequence[Run], history: History) -> list[Run]:
        """Return the runs that may be submitted now; the outcome says why the others may not."""
        refused = {run.name: why for run in runs if (why := self._why_not(run, history))}
        self._leave_out(refused)
        return [run for run in runs if run.name not in refused]

    def _reserve(self, token: str, free: Sequence[Run], history: History, first: int) -> list[Run]:
        """Return the runs whose reservation is ours; the outcome says who has the others."""
        store, patience_s = self.workspace.store, seconds(self.workspace.site.submit_timeout)
        refused: dict[str, str] = {}
        try:
            with store.claims.sheet(token, [run.name for run in free], first) as sheet:
                for run in free:
                    past = frozenset(t.name for t in history.of(run.name).tickets if t.ended)
                    why = store.claims.reserve(run.name, sheet, past, store.tickets_of, patience_s)
                    if why:
                        refused[run.name] = why
        except OSError as error:
            raise disk_error(self.workspace.results, error) from error
        self._leave_out(refused)
        return [run for run in free if run.name not in refused]

    def _why_not(self, run: Run, history: History) -> str:
        """Return why a run of the plan must not be submitted now; empty if nothing speaks against it."""
        why = lacks(run, self.planned, self.jobs, {**self.outcome.left, **self.outcome.unconfirmed})
        if not why and moved_on(self.planned[run.name], history.of(run.name)):
            return SUBMITTED_MEANWHILE
        return why

    def _write(self, token: str, runs: Sequence[Run], first: int) -> Path:
        folder = self.workspace.store.layout.submission(token)
        scripts = self.rendering.scripts(runs, token, self.code, self.unchecked, first)
        try:
            folder.out.mkdir(parents=True)
            write_scripts(folder.path, scripts)
        except OSError as error:
            raise disk_error(folder.path, error) from error
        return folder.path

    def _intend(self, token: str, runs: Sequence[Run], first: int) -> None:
        me = myself()
        self.workspace.store.ledger.append(
            Intent(
                token=token,
                site=self.workspace.site.name,
                scheduler=self.workspace.site.scheduler,
                runs=[r.name for r in runs],
                digests=[r.digest for r in runs],
                first=first,
                code=self.code,
                version=VERSION,
                host=me.host,
                pid=me.pid,
                start=me.start,
                boot=me.boot,
                member=self.workspace.members.me(self.workspace.site.name),
            )
        )

    def _hand_over(self, submission: Submission) -> Mapping[int, str]:
        """Return index -> job; empty if it was not taken, or nobody knows: then the outcome says which."""
        runs = [element.run for element in submission.elements]
        try:
            return self.workspace.scheduler(self.workspace.site.name).submit(submission)
        except SubmitUnknownError as error:
            unknown = {**self.outcome.unconfirmed, **dict.fromkeys(runs, str(error))}
            self.outcome = msgspec.structs.replace(self.outcome, unconfirmed=unknown)
        except DependencyGoneError as error:
            self._refused(submission, error)
            gone = next((run for run, job in self.jobs.items() if job in error.jobs), "a run")
            reason = f"{gone}, which it needs, has left the queue; its evidence decides"
            self._leave_out(dict.fromkeys(runs, reason))
        except QueueFullError as error:
            self._refused(submission, error)
            self.full = str(error)
        except RefusedError as error:
            self._refused(submission, error)
            self._never(dict.fromkeys(runs, str(error)))
        except SchedulerError as error:
            self._refused(submission, error)
            raise
        return {}

    def _record(self, submission: Submission, taken: Mapping[int, str]) -> None:
        self.workspace.store.ledger.append(
            Submitted(token=submission.token, jobs={str(i): job for i, job in taken.items()})
        )
        done = {element.run: taken[element.index] for element in submission.elements}
        self.jobs.update(done)
        self.outcome = msgspec.structs.replace(
            self.outcome,
            submitted={**self.outcome.submitted, **done},
            gpu_hours=self.outcome.gpu_hours + sum(self.hours.get(name) or 0.0 for name in done),
        )
        for planned in (self.planned[name] for name in done):
            if planned.again:  # else nobody who waits reads that it failed, and of what
                self.say(f"{planned.run.name}: {planned.reason}")
        self.say(f"submitted {len(done)} {'run' if len(done) == 1 else 'runs'} as {submission.name}")

    def _refused(self, submission: Submission, error: SchedulerError) -> None:
        """The scheduler certainly did not take it: its tickets are void, so that the runs are free again.
        On a full disk this is left to the next command, which does not find the token and voids them."""
        tickets = [ticket_of(submission.token, element.index) for element in submission.elements]
        with contextlib.suppress(OSError, StateError):
            voided = [t for t in tickets if self.workspace.store.claims.void(t)]
            self.workspace.store.ledger.append(Voided(tickets=voided, why=str(error)[:500]))
            self.workspace.store.forget_secrets([submission.token])

    @contextlib.contextmanager
    def _freed_if_it_fails(self, token: str, indices: Sequence[int]) -> Iterator[None]:
        """Give back what was reserved if nothing was handed over: nobody has to wait for our end to take
        these runs; on a full disk they do."""
        try:
            yield
        except DdqjobsError:
            with contextlib.suppress(OSError):
                for index in indices:
                    self.workspace.store.claims.void(ticket_of(token, index))
            with contextlib.suppress(StateError):
                self.workspace.store.forget_secrets([token])
            raise

    def _never(self, why: Mapping[str, str]) -> None:
        self._leave_out(why)
        self.outcome = msgspec.structs.replace(self.outcome, never={**self.outcome.never, **why})

    def _leave_out(self, refused: Mapping[str, str]) -> None:
        self.outcome = msgspec.structs.replace(
            self.outcome,
            left={**self.outcome.left, **refused},
            refused={**self.outcome.refused, **refused},
        )


def lacks(run: Run, planned: Mapping[str, PlannedRun], jobs: Mapping[str, str], left: Collection[str]) -> str:
    """Return what would make the run start without its input; empty if nothing does."""
    for up in run.upstream:
        if up in left:
            return f"needs {up}, which was not submitted"
        if planned[up].owner:
            return f"needs {up}, which is another member's ({planned[up].owner})"
        if up not in jobs and planned[up].status is not Status.DONE:
            return f"needs {up}, whose job the scheduler does not show yet"
    return ""


def moved_on(planned: PlannedRun, story: RunHistory) -> bool:
    """Return whether a run was submitted or adopted since it was planned: that plan is out of date."""
    ticket = story.done.ticket if story.done is not None else ""
    return len(story.tickets) != planned.submissions or (
        ticket != (planned.ticket if planned.status is Status.DONE else "")
    )


def write_scripts(folder: Path, scripts: Scripts) -> None:
    """Writes a submission's files below an existing folder."""
    files = SubmissionFolder(folder)
    files.manifest.write_text(scripts.manifest)
    for path, text in ((files.secret_setup, scripts.setup), (files.secrets, scripts.secrets)):
        if text:
            replace(path, text.encode(), 0o600)
    if scripts.locks:
        files.locks.write_text(scripts.locks)
    if scripts.elements:
        files.elements.write_text(scripts.elements)
    files.script.write_text(scripts.job)
    mode = files.script.stat().st_mode
    files.script.chmod(mode | (mode & 0o444) >> 2)  # whoever may read it may start it


def disk_error(path: Path, error: OSError) -> DdqjobsError:
    return StateError(
        f"{path}: {error.strerror or error}; what was submitted before is recorded, nothing else was: "
        f"{mend(error, path)}, then run the same command again"
    )
