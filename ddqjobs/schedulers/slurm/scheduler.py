"""Offer Slurm to the rest of ddqjobs: build command lines, run them, report failures in the user's words."""

from __future__ import annotations

import datetime
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from ddqjobs.base import process, shell_variables
from ddqjobs.base.errors import SchedulerError
from ddqjobs.schedulers.base import (
    DependencyGoneError,
    QueueFullError,
    RefusedError,
    Submission,
    SubmitUnknownError,
    Unchained,
)
from ddqjobs.schedulers.pace import Pace
from ddqjobs.schedulers.slurm import answers, dependencies, holding, states
from ddqjobs.spec.model import JobState, Observation

# Of the user's shell, these would change what our options and the script's lines mean: SBATCH_PARTITION
# overrides the script, SQUEUE_STATES hides jobs, and SLURM_* are of a job that we may be part of.
_FOREIGN = ("SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SLURM_", "SRUN_", "SALLOC_", "DDQJOBS_")
_IN_FULL = {"SLURM_BITSTR_LEN": "0"}  # the waiting elements of an array, else cut at 64 characters
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
# The controller answered, or was not reached at all: either way there is no job.
_REFUSED = re.compile(
    r"fatal:|Batch job submission failed:|Unable to contact|[Ii]nvalid|[Uu]nable to open file"
)
# Slurm's commands are here, and know of no cluster.
_ELSEWHERE = re.compile(r"failed to fetch config|[Cc]ould not establish a configuration source")
# The request was sent, and the answer was lost.
_LOST = re.compile(
    r"timed out|Zero Bytes|Unexpected message|[Cc]onnection reset|Broken pipe|send/recv|[Cc]ommunication"
)
# What these options ask for will never be had; a submission that asks for something else may.
_NEVER = re.compile(
    r"Batch job submission failed: (?:Invalid|Requested|User's group not permitted|Job violates accounting)"
)
# Limits of how many jobs may be submitted, as acct_policy.c of slurmctld names them: they pass.
FULL = re.compile(r"\b((?:Assoc|QOS)\w*Submit\w*Limit)\b")
_NO_ACCOUNTING = re.compile(r"accounting storage is disabled", re.IGNORECASE)
# Jobs that have ended, and those of another user: of one who left, whose runs somebody took over.
_NOT_TO_END = re.compile(
    r"Invalid job id|already (complet|finished)|Job/step already|permission denied", re.IGNORECASE
)
_UNKNOWN_JOB = "neither squeue nor sacct knows it"
_FRESH_S = 20.0  # a controller remembers ended jobs for longer (MinJobAge: 300 s unless set)
_WORDS = 100_000  # bytes of job ids on one command line; a single argument may have 131,072
_CANCEL_AT_ONCE = 500


class SlurmScheduler:
    """The scheduler of a Slurm site.

    ``submit_s`` is how long ``sbatch`` may take before its answer counts as lost; ``ask_s`` the same for
    questions, which clients of a controller that is down answer after about nine seconds by themselves.
    What exceeds ``calls_per_minute`` waits for its turn; 0 is no limit.
    """

    def __init__(
        self, name: str = "slurm", *, submit_s: float = 120.0, ask_s: float = 60.0, calls_per_minute: int = 0
    ) -> None:
        self._name = name
        self._calls = Pace(calls_per_minute)
        self._submit_s, self._ask_s = submit_s, ask_s
        # job -> when the controller knew it, and the words that showed whose it is
        self._seen: dict[str, tuple[float, tuple[str, str]]] = {}

    def submit(self, submission: Submission) -> Mapping[int, str]:
        """One ``sbatch``; see :class:`~ddqjobs.schedulers.base.Scheduler`.

        Raises DependencyGoneError when a job to wait for has left the controller's memory: Slurm would take
        such a dependency for fulfilled, however the job ended.
        """
        self._require_known(dependencies.jobs_before(submission.elements))
        argv = dependencies.sbatch(submission)
        self._calls.wait()
        done = process.run(argv, timeout=self._submit_s, env=environment(), cwd=submission.folder)
        job = answers.accepted(done.stdout) if done.code == 0 else None
        if job is None:
            raise self._submit_error(submission, done)
        jobs = _elements(submission, job)
        self._seen.update(dict.fromkeys(jobs.values(), (time.monotonic(), _marks(submission))))
        return jobs

    def find(self, token: str) -> Mapping[int, str] | None:
        """index -> job id of the elements that squeue or sacct show with this token, by comment or by name.

        None is not proof: a job may be forgotten, or still be on its way. Whoever gets it races with the job
        for the claims, and so finds out for certain.
        """
        jobs = answers.with_token(self._queue(), token)
        jobs += self._find_ended(token, queued=bool(jobs))
        by_index: dict[int, str] = {}
        for job in jobs:
            _, _, index = job.partition("_")
            by_index[int(index or 0)] = job
        return dict(sorted(by_index.items())) or None

    def in_queue(self) -> int:
        """Return how many jobs of this user squeue shows that are not over; an array's elements one by
        one."""
        return sum(states.in_queue(row).state in states.ALIVE for row in self._queue().values())

    def query(self, jobs: Sequence[str]) -> Mapping[str, Observation]:
        """One ``squeue`` for all jobs, and one ``sacct`` for those that it does not show."""
        if not jobs:
            return {}
        queue = self._queue()
        rows = {job: row for job in jobs if (row := answers.row_of(queue, job)) is not None}
        seen = {job: states.in_queue(row) for job, row in rows.items()}
        shown = {job: states.in_queue(row) for job, row in queue.items()}
        alive = {job: other for job, other in shown.items() if other.state in states.ALIVE}
        for job, twins in answers.twins({**rows, **{job: queue[job] for job in alive}}, rows).items():
            seen[job] = msgspec.structs.replace(seen[job], twins=tuple(t for t in twins if t in alive))
        for job, told in self._accounting([j for j, row in rows.items() if not states.launched(row)]).items():
            seen[job] = states.explained(seen[job], told)
        left = [job for job in jobs if job not in rows]
        if left:
            seen.update(self._accounting(left))
        return {**alive, **seen}

    def hold(self, jobs: Sequence[str]) -> None:
        """``scontrol uhold``: what root holds with plain ``hold`` only an administrator can release."""
        self._set_hold("uhold", jobs, JobState.QUEUED)

    def release(self, jobs: Sequence[str]) -> None:
        """``scontrol release``."""
        self._set_hold("release", jobs, JobState.HELD)

    def unchain(self, jobs: Mapping[str, str], ours: Collection[str]) -> Unchained:
        """``scontrol update dependency=``; what Slurm shows afterwards decides."""
        before = self._waiting()
        chosen = dependencies.freeable(before, jobs, ours)
        why = ""
        for page in holding.pages(chosen, before):
            done = self._run(["scontrol", "update", f"jobid={page}", "dependency="])
            why = _first_line(done) if done.code else why
        after = self._waiting() if chosen else {}
        refused = {job: why or f"it still waits for {after[job].reason}" for job in chosen if job in after}
        return Unchained([job for job in chosen if job not in refused], refused)

    def _waiting(self) -> dict[str, answers.Row]:
        """Return the jobs of this user that wait for others."""
        argv = ["squeue", f"--user={os.getuid()}", "--array", "--states=PENDING"]
        rows = answers.waiting(self._ask([*argv, f"--format={answers.WAITING_FORMAT}"]))
        return {job: row for job, row in rows.items() if row.reason}

    def _set_hold(self, word: str, jobs: Sequence[str], now: JobState) -> None:
        alike = {job for job, row in self._queue().items() if states.in_queue(row).state is now}
        for page in holding.pages([job for job in jobs if job in alike], alike):
            done = self._run(["scontrol", word, page])
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            if done.code and not (lines and all(_NOT_TO_END.search(line) for line in lines)):
                raise self._cannot(f"{word.removeprefix('u')} jobs", done)

    def cancel(self, jobs: Sequence[str]) -> None:
        """``scancel``, some hundred at a time."""
        known = [job for job in jobs if answers.JOB.fullmatch(job)]
        for chunk in _chunks(known, _CANCEL_AT_ONCE):
            done = self._run(["scancel", *chunk])
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            if done.code and not (lines and all(_NOT_TO_END.search(line) for line in lines)):
                raise self._cannot("cancel jobs", done)

    # --- below

    def _require_known(self, jobs: Sequence[str]) -> None:
        now, before = time.monotonic(), {job: self._seen[job] for job in jobs if job in self._seen}
        if all(job in before and now - before[job][0] < _FRESH_S for job in jobs):
            return
        queue = self._queue()
        # A controller that has lost its state gives numbers a second time.
        given_again = {job for job in before if job in queue and not _same(before[job][1], queue[job].marks)}
        gone = [job for job in jobs if job not in queue or job in given_again]
        if gone:
            raise DependencyGoneError(
                f"site {self._name}: job {gone[0]}, which it depends on, has left the queue", tuple(gone)
            )

    def _queue(self) -> dict[str, answers.Row]:
        rows = answers.queue(self._ask(["squeue", *_ALL_JOBS, f"--format={answers.QUEUE_FORMAT}"]))
        now = time.monotonic()
        self._seen.update({job: (now, row.marks) for job, row in rows.items()})
        return rows

    def _submit_error(self, submission: Submission, done: process.Completed) -> SchedulerError:
        what = f"site {self._name}: sbatch for {submission.name}"
        if done.timed_out:
            return SubmitUnknownError(f"{what} gave no answer within {self._submit_s:g} s")
        line = _first_line(done)
        if done.code == process.NOT_STARTED and "cannot start" in done.stderr:
            return SchedulerError(f"{what}: {line}; load Slurm's commands, or choose another --site")
        if _ELSEWHERE.search(done.stderr):
            return self._elsewhere(done)
        taken = answers.accepted(done.stdout) is not None  # whatever else it says, it has named a job
        if done.code > 0 and not taken and _REFUSED.search(done.stderr) and not _LOST.search(done.stderr):
            if limit := FULL.search(done.stderr):
                return QueueFullError(f"site {self._name}: it {QueueFullError.WORDS} ({limit[1]})")
            refusal = RefusedError if _NEVER.search(done.stderr) else SchedulerError
            return refusal(f"{what} was refused: {line}")
        if done.code:
            return SubmitUnknownError(f"{what} ended with code {done.code}: {line}")
        return SubmitUnknownError(f"{what} said {done.stdout.strip()[:80]!r} instead of a job id")

    def _find_ended(self, token: str, *, queued: bool) -> list[str]:
        argv = ["sacct", *_ACCOUNTING, f"--user={os.getuid()}", f"--starttime={_day_before(token)}"]
        done = self._run([*argv, _ACCOUNTING_FORMAT])
        if done.code:
            # Those in the queue are known, and for the others the claims decide; but without accounting
            # where there should be some, we can wait until it answers.
            if queued or _NO_ACCOUNTING.search(done.stderr):
                return []
            raise self._cannot("find a submission", done)
        return answers.with_token(answers.accounting(done.stdout), token)

    def _accounting(self, jobs: Sequence[str]) -> dict[str, Observation]:
        """Return what has become of jobs that squeue does not show. Never raise: the others' answer
        stands."""
        known = dict.fromkeys(job.partition("_")[0] for job in jobs if answers.JOB.fullmatch(job))
        rows: dict[str, answers.Row] = {}
        missing = Observation(state=JobState.UNKNOWN, detail=_UNKNOWN_JOB, forgotten=True)
        for ids in _by_length(list(known), _WORDS):
            done = self._run(["sacct", *_ACCOUNTING, _ACCOUNTING_FORMAT, f"--jobs={','.join(ids)}"])
            try:
                if done.code:
                    raise self._cannot("ask accounting", done)
                rows.update(answers.accounting(done.stdout))
            except SchedulerError as error:
                missing = _without_accounting(done, str(error))
                break
        entries = {job: answers.row_of(rows, job) for job in jobs}
        return {job: missing if row is None else states.left_queue(row) for job, row in entries.items()}

    def _ask(self, argv: Sequence[str]) -> str:
        done = self._run(argv)
        if done.code or done.timed_out:
            raise self._cannot("be asked", done)
        return done.stdout

    def _run(self, argv: Sequence[str]) -> process.Completed:
        self._calls.wait()
        return process.run(argv, timeout=self._ask_s, env={**environment(), **_IN_FULL})

    def _elsewhere(self, done: process.Completed) -> SchedulerError:
        return SchedulerError(
            f"site {self._name}: no Slurm cluster can be reached from this machine ({_first_line(done)}); "
            "run this on a login node of the cluster, or choose another --site (local is this machine)"
        )

    def _cannot(self, what: str, done: process.Completed) -> SchedulerError:
        if _ELSEWHERE.search(done.stderr):
            return self._elsewhere(done)
        why = f"no answer within {self._ask_s:g} s" if done.timed_out else _first_line(done)
        command = str(done.argv[0])
        why = why.removeprefix(f"{command}: error: ")
        return SchedulerError(f"site {self._name}: cannot {what}: {command}: {why}")


# Ended ones too, as long as the controller remembers them; an array's elements one by one.
_ALL_JOBS = (f"--user={os.getuid()}", "--array", "--states=all")
_ACCOUNTING = ("--allocations", "--parsable2", f"--delimiter={answers.SEPARATOR}")
_ACCOUNTING_FORMAT = f"--format={','.join(answers.ACCOUNTING_FIELDS)}"


def _marks(submission: Submission) -> tuple[str, str]:
    return submission.token, submission.token


def _same(before: tuple[str, str], now: tuple[str, str]) -> bool:
    """Return whether two answers are of one job. What a site writes may be in the comment, or in the name."""
    return any(old == new for old, new in zip(before, now, strict=True))


def _elements(submission: Submission, job: str) -> dict[int, str]:
    """index -> job id; an only element of index 0 is no array (templates/slurm.sh.j2)."""
    if [element.index for element in submission.elements] == [0]:
        return {0: job}
    return {element.index: f"{job}_{element.index}" for element in submission.elements}


def _without_accounting(done: process.Completed, reason: str) -> Observation:
    """A controller that answers has all jobs that may still run. So one that it does not show is over; where
    accounting only failed to answer, it will tell more later."""
    if _NO_ACCOUNTING.search(done.stderr):
        return Observation(
            state=JobState.ENDED, detail="it has left the queue (this site keeps no accounting)"
        )
    return Observation(state=JobState.UNKNOWN, detail=f"it has left the queue; {reason}")


def environment() -> dict[str, str]:
    """Ours, without what would change what our options and the script's lines mean."""
    passed = shell_variables.of_client(os.environ)
    return {k: v for k, v in passed.items() if k in _KEPT or not k.startswith(_FOREIGN)}


def _first_line(done: process.Completed) -> str:
    """The most telling line of what a command said."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    failed = [line for line in lines if "failed" in line or "error" in line]
    return (failed or lines or ["it said nothing"])[-1][:200]


def _day_before(token: str) -> str:
    """Since when accounting is searched: sacct's default is today, and clocks differ."""
    try:
        submitted = datetime.datetime.strptime(token[:8], "%Y%m%d")
    except ValueError:
        return "1970-01-02"
    return (submitted - datetime.timedelta(days=1)).strftime("%Y-%m-%d")


def _chunks(jobs: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (jobs[start : start + size] for start in range(0, len(jobs), size))


def _by_length(jobs: Sequence[str], limit: int) -> Iterator[list[str]]:
    """Jobs in lists of at most so many characters, commas included."""
    chunk: list[str] = []
    length = 0
    for job in jobs:
        if chunk and length + len(job) + 1 > limit:
            yield chunk
            chunk, length = [], 0
        chunk.append(job)
        length += len(job) + 1
    if chunk:
        yield chunk
