"""Offer the local queue to the rest of ddqjobs. Answer from disk; wake the supervisor when there is work."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ddqjobs.base import process
from ddqjobs.base.errors import SchedulerError
from ddqjobs.base.frozen import Owner
from ddqjobs.detect.files import Unsettled
from ddqjobs.schedulers.base import RefusedError, Submission, SubmitUnknownError
from ddqjobs.schedulers.local import slots
from ddqjobs.schedulers.local.disk import acquire
from ddqjobs.schedulers.local.queue import History, Queue, TornError
from ddqjobs.schedulers.local.records import TOKEN, Filed, Reason, Settings, job_id, split_job, start_id
from ddqjobs.spec.model import WAITS, FailureClass, JobState, Observation

# Where the queue is sure why a job ended; otherwise its evidence says.
_FAILURES = {
    Reason.LIMIT: FailureClass.TIMEOUT,
    Reason.CANCELLED: FailureClass.CANCELLED,
    Reason.DEPENDENCY: FailureClass.DEPENDENCY,
    Reason.DIED: FailureClass.NODE,
    Reason.NOT_STARTED: FailureClass.NODE,
}
_OPEN = (JobState.QUEUED, JobState.HELD, JobState.RUNNING)
_UNKNOWN = Observation(state=JobState.UNKNOWN, detail="the local site has no such job", forgotten=True)


class LocalScheduler:
    """The scheduler of the local site. 0 slots of a kind: as many as the machine has.

    ``complaints`` holds what was found broken on disk and left out of the last query's answer.
    """

    def __init__(
        self,
        state_dir: Path,
        gpus: int = 0,
        cpus: int = 0,
        warning_s: float = 120.0,
        *,
        grace_s: float = 10.0,
        linger_s: float = 3.0,
        patience_s: float = 600.0,
    ) -> None:
        self._queue = Queue(state_dir.absolute())
        self._gpus, self._cpus = gpus, cpus
        self._warning_s, self._grace_s = warning_s, grace_s
        self._linger_s, self._patience_s = linger_s, patience_s
        self.complaints: list[str] = []

    def submit(self, submission: Submission) -> Mapping[int, str]:
        """Files a submission and wakes the supervisor; see :class:`~ddqjobs.schedulers.base.Scheduler`."""
        with self._asked("submit"):
            if re.search("%[jtAa]", str(self._queue.root)):
                raise SchedulerError(
                    f"{self._queue.root}: submitit takes %j, %t, %A and %a in a path for its own; "
                    "choose another folder for results"
                )
            self._queue.create()
            self._is_here()
            taken = self._queue.load(submission.token) if TOKEN.fullmatch(submission.token) else None
            if taken is None:
                taken = self._file(submission)
        try:
            self._ensure_supervisor()
        except (OSError, SchedulerError) as error:
            raise SubmitUnknownError(
                f"{submission.name}: is in the queue, but its supervisor did not start: {error}"
            ) from error
        return taken.jobs()

    def find(self, token: str) -> Mapping[int, str] | None:
        """index -> job id, or None if the token was never submitted here."""
        if not TOKEN.fullmatch(token) or not self._queue.exists:
            return None
        with self._asked("find a submission"):
            filed = self._queue.load(token)
            if filed is None:
                return None
            jobs = filed.jobs()
            history = self._history()
            if any(job not in history.ends for job in jobs.values()):
                self._is_here()
                self._ensure_supervisor()
            return jobs

    def in_queue(self) -> int:
        """Return how many jobs of this site have not ended."""
        if not self._queue.exists:
            return 0
        with self._asked("count jobs"):
            ended = self._history().ends
            filed = (self._queue.load(token) for token in self._queue.tokens())
            return sum(job not in ended for one in filed if one for job in one.jobs().values())

    def query(self, jobs: Sequence[str]) -> Mapping[str, Observation]:
        """Return what is known of each job; read a log and a few folders, however many jobs there are."""
        self.complaints = []
        if not jobs or not self._queue.exists:
            return dict.fromkeys(jobs, _UNKNOWN)
        with self._asked("query jobs"):
            view = View(self._queue, self._history(), self.complaints)
            answer = {job: view.observe(job) for job in jobs}
            if any(seen.state in _OPEN for seen in answer.values()):
                self._is_here()
                self._ensure_supervisor()
            return answer

    def hold(self, jobs: Sequence[str]) -> None:
        """Keeps queued jobs from being given slots; it outlasts whoever supervises."""
        seen = self.query(jobs)
        queued = [job for job in jobs if seen[job].state is JobState.QUEUED]
        if queued:
            with self._asked("hold jobs"):
                self._queue.create()
                self._queue.ask_hold(queued)

    def release(self, jobs: Sequence[str]) -> None:
        """Lets held jobs have slots again."""
        seen = self.query(jobs)
        held = [job for job in jobs if seen[job].state is JobState.HELD]
        if held:
            with self._asked("release jobs"):
                self._queue.ask_release(held)
                self._ensure_supervisor()

    def cancel(self, jobs: Sequence[str]) -> None:
        """Asks for the end of jobs: a queued one is not started, a running one gets TERM, then KILL."""
        alive = self._not_ended(jobs)
        if alive:
            with self._asked("cancel jobs"):
                self._queue.ask_cancel(alive)
                self._ensure_supervisor()

    def requeue(self, job: str) -> None:
        """Ends the present start of a running job (TERM, then KILL) and puts it back into the queue, at its
        old place, with ``DDQJOBS_RESTART`` one higher. No effect on jobs that are not running."""
        if self._not_ended([job]):
            with self._asked("requeue a job"):
                start = start_id(job, self._history().restart(job))
                if start in self._queue.starts():
                    self._queue.ask_requeue(start)
                self._ensure_supervisor()

    def supervisor(self) -> Owner | None:
        """The supervisor, if it runs."""
        with self._asked("find the supervisor"):
            owner = self._queue.supervisor() if self._queue.exists else None
            return owner if owner is not None and process.alive(owner) else None

    # --- below

    @contextlib.contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Says in the user's words what the disk refused."""
        try:
            yield
        except Unsettled as error:
            raise SubmitUnknownError(
                f"local site: {what}: written, but may be lost in a power failure: {error}"
            ) from error
        except (OSError, TornError, UnicodeError) as error:
            raise SchedulerError(f"local site: cannot {what}: {error} (queue: {self._queue.root})") from error

    def _history(self) -> History:
        history = History(self._queue, self.complaints.append)
        history.refresh()
        return history

    def _not_ended(self, jobs: Sequence[str]) -> list[str]:
        seen = self.query(jobs)
        return [job for job in jobs if seen[job].state in _OPEN]

    def _is_here(self) -> None:
        """Raises SchedulerError on another machine, and in a copy of a project whose jobs are the other's."""
        settings, here = self._queue.settings(), socket.gethostname()
        if settings is None:
            return
        if settings.host != here:
            raise SchedulerError(
                f"local site: these jobs run on host {settings.host}, but this is {here}; run the command on "
                f"{settings.host}. If {settings.host} is gone for good, remove {self._queue.settings_path}"
            )
        if settings.root and _another(Path(settings.root), self._queue.root):
            raise SchedulerError(
                f"local site: this project is a copy, and the jobs belong to {settings.root}; run the "
                f"command there. To start fresh here, remove {self._queue.root}, then run `ddqjobs cancel "
                "EXPERIMENT` and `ddqjobs retry EXPERIMENT`"
            )

    def _file(self, submission: Submission) -> Filed:
        settings = self._found(submission)
        self._check(submission, settings)
        filed = Filed(
            submission=submission,
            at=time.time_ns(),
            environment=self._queue.keep_environment(submission.token),
            warning_s=self._warning_s,
            grace_s=self._grace_s,
        )
        if settings != self._queue.settings():
            self._queue.put_settings(settings)
        if self._queue.file(filed):
            return filed
        return self._queue.load(submission.token) or filed  # somebody was faster with the same token

    def _found(self, submission: Submission) -> Settings:
        """Return what the machine has. GPUs are counted only for who asks for some: nvidia-smi takes a
        while."""
        before = self._queue.settings()
        gpus = before.gpus if before else ()
        return Settings(
            host=socket.gethostname(),
            root=str(self._queue.root),
            cpus=slots.cpus(self._cpus),
            gpus=slots.gpus(self._gpus) if submission.resources.gpus else gpus,
            linger_s=self._linger_s,
            patience_s=self._patience_s,
        )

    def _check(self, submission: Submission, settings: Settings) -> None:
        resources = submission.resources
        if not TOKEN.fullmatch(submission.token):
            raise RefusedError(f"local site: {submission.token!r} cannot be a submission's token")
        if resources.nodes > 1:
            raise RefusedError(f"local site: {submission.name} wants {resources.nodes} nodes, there is 1")
        if resources.gpus > len(settings.gpus):
            raise RefusedError(
                f"local site: {submission.name} asks for {resources.gpus} GPUs, "
                f"{settings.host} has {len(settings.gpus)} for jobs"
            )
        if not submission.script.is_file():
            raise RefusedError(f"local site: {submission.script} is not there")
        self._check_dependencies(submission)

    def _check_dependencies(self, submission: Submission) -> None:
        """Only jobs that are known, or come earlier in the submission: nothing can wait in a circle."""
        if not any(element.after for element in submission.elements):
            return
        view = View(self._queue, self._history(), self.complaints)
        own: set[str] = set()
        for element in submission.elements:
            for before in element.after:
                if before not in own and view.observe(before).state is JobState.UNKNOWN:
                    raise RefusedError(f"local site: {submission.name} waits for unknown job {before!r}")
            own.add(job_id(submission.token, element.index))

    def _ensure_supervisor(self) -> None:
        """Starts a supervisor unless one holds the lock. It is handed the lock already held: there is no
        moment in which somebody else could start a second one."""
        lock = os.open(self._queue.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if acquire(lock):
                private = ("SUBMITIT_", "DDQJOBS_")  # of the job that we may be part of
                module = "ddqjobs.schedulers.local.supervisor"
                process.spawn_detached(
                    [sys.executable, "-m", module, str(self._queue.root), str(lock)],
                    log=self._queue.log,
                    env={name: value for name, value in os.environ.items() if not name.startswith(private)},
                    keep=(lock,),
                )
        finally:
            os.close(lock)


def _another(place: Path, here: Path) -> bool:
    """Return whether something else lies at ``place`` than what is here; not if it was moved away."""
    try:
        return not place.samefile(here)
    except OSError:
        return False


class View:
    """The queue at one moment, for questions."""

    def __init__(self, queue: Queue, history: History, complaints: list[str]) -> None:
        self._queue, self._history, self._complaints = queue, history, complaints
        # Starts before ends would be wrong the other way round: a start seen that ends meanwhile is over.
        self._starts = queue.starts()
        history.refresh()
        self._tokens = queue.tokens()
        self._held = queue.holds()
        self._orders: dict[str, dict[int, tuple[str, ...]] | str] = {}
        self._host = socket.gethostname()

    def observe(self, job: str) -> Observation:
        """Return what is known of a job."""
        end = self._history.ends.get(job)
        if end is not None:
            failure = _FAILURES.get(end.reason)
            return Observation(state=JobState.ENDED, detail=end.detail, failure=failure, exit_code=end.code)
        restart = self._history.restart(job)
        if start_id(job, restart) in self._starts:
            return Observation(state=JobState.RUNNING, node=self._host)
        parts = split_job(job)
        if parts is None or parts[0] not in self._tokens:
            return _UNKNOWN
        return self._queued(parts[0], parts[1], restart)

    def _queued(self, token: str, index: int, restart: int) -> Observation:
        after = self._after(token)
        if isinstance(after, str):
            return Observation(state=JobState.UNKNOWN, detail=after)
        if index not in after:
            return _UNKNOWN
        if job_id(token, index) in self._held:
            return Observation(state=JobState.HELD, detail=f"restart {restart}" if restart else "")
        waits = any(job not in self._history.ends for job in after[index])
        detail = WAITS if waits else "waits for slots"
        again = f"; restart {restart}" if restart else ""
        return Observation(state=JobState.QUEUED, detail=detail + again)

    def _after(self, token: str) -> dict[int, tuple[str, ...]] | str:
        """index -> jobs to wait for, or what is wrong with the file."""
        known = self._orders.get(token)
        if known is None:
            try:
                filed = self._queue.load(token)
                known = {e.index: e.after for e in filed.submission.elements} if filed else {}
            except TornError as error:
                known = str(error)
                self._complaints.append(known)
            self._orders[token] = known
        return known
