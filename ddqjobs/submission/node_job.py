"""Runs a command of ours as a job of a site, and hands back what it prints and its exit code.

The one way to do so: for ``doctor``'s look around on a node and for ``env build --on-node``.

No job is lost, and none runs twice. A submission that was not answered is looked for by its token, for as
long as the site's ``submit_timeout``; if the scheduler does not show it, the claim decides. Whoever loses
the claim stops: a job that starts after it was given up ends at once, as does one whose folder is gone. A
command line that dies leaves its job as it is: the same command follows it later, any other leaves it
alone, and what is over is removed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ddqjobs.base import files
from ddqjobs.base.errors import SchedulerError
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.units import seconds
from ddqjobs.schedulers.base import Element, Scheduler, Submission, SubmitUnknownError
from ddqjobs.schedulers.registry import capabilities
from ddqjobs.spec.model import FailureClass, JobState, Observation
from ddqjobs.spec.site import Site
from ddqjobs.store.layout import Layout
from ddqjobs.submission import node_folder
from ddqjobs.submission.node_folder import NodeFolder, Request
from ddqjobs.submission.script import Context, on_site

LOOK_S = 0.2  # between two looks at a job's folder
_ASK_EVERY_S = 5.0  # the scheduler
_CALLS_PER_QUESTION = 2  # squeue and sacct; djob twice
_GRACE_S = 30.0  # for file systems that show what a node wrote only after a while
_LEAVE_S = 20.0  # how long a cancelled job may take to end before its folder is left to the next command
Say = Callable[[str], None]
Script = Callable[[Context], str]


class Ended(Frozen, frozen=True, kw_only=True):
    """The end of a job. ``code`` is None if it did not say, or has not ended within the patience."""

    code: int | None
    output: str
    seen: Observation  # what the scheduler said last


class NodeJobs:
    """The jobs of one site below one folder, which the site's nodes share."""

    def __init__(self, scheduler: Scheduler, site: Site, base: Path) -> None:
        self._scheduler, self.site = scheduler, site
        self._base = Layout(base).node_jobs()

    @contextlib.contextmanager
    def job(self, request: Request, token: str, say: Say) -> Iterator[NodeJob]:
        """Give a job with its folder: a new one, or an earlier one that goes on. Afterwards nothing of it
        runs and its folder is gone, unless :meth:`NodeJob.leave` was called.

        Raises SchedulerError, StateError, OSError.
        """
        job = self._earlier(request, say) or self._of(node_folder.create(self._base, token, request))
        try:
            yield job
        finally:
            if not job.left:
                job.give_up(say)

    def run(self, request: Request, script: Script, context: Context, say: Say) -> int:
        """Run a command as a job and hand on what it prints; return its exit code.

        Raises SchedulerError if the job was not taken, or ended without saying how.
        """
        with self.job(request, context.token, say) as job:
            job.submit(script, context, say)
            say(f"job {job.id} of site {self.site.name}; its output: {job.folder.out}")
            ended = job.follow(say, say)
            if ended.code is not None:
                return ended.code
            job.leave()
            how, see = ended.seen.detail, f"see {job.folder.out}"
            if ended.seen.failure is FailureClass.TIMEOUT:
                raise SchedulerError(f"job {job.id} reached its time limit ({how}); increase --time; {see}")
            raise SchedulerError(f"job {job.id} ended without an exit code ({how}); {see}")

    def _of(self, folder: NodeFolder) -> NodeJob:
        return NodeJob(self._scheduler, self.site, folder)

    def _earlier(self, request: Request, say: Say) -> NodeJob | None:
        """Return an earlier job that goes on, or will, and does what is asked for."""
        job = self._left_behind(request)
        if job is None:
            return None
        say("looking for an earlier job of the same command")
        if job.is_settled():
            return job
        job.folder.remove()
        return None

    def _left_behind(self, request: Request) -> NodeJob | None:
        """Remove what is over of jobs whose command line is gone; return one that does what is asked for."""
        job: NodeJob | None = None
        for folder in node_folder.existing(self._base):
            number = folder.abandoned()
            if number is None:
                continue
            if folder.is_over():
                folder.remove()
            elif not folder.request.follows:
                self._of(folder).give_up(lambda _: None)
            elif job is None and folder.request == request and folder.take_over(number):
                job = self._of(folder)
        return job


class NodeJob:
    """One job: submits it, follows it, gives it up."""

    def __init__(self, scheduler: Scheduler, site: Site, folder: NodeFolder) -> None:
        self.folder = folder
        self.id = ""  # the scheduler's; empty until it is known
        self.left = False
        self._scheduler, self._site = scheduler, site
        self._patience_s = seconds(site.submit_timeout)
        self._ended = False  # nothing of it runs or will run

    def submit(self, script: Script, context: Context, say: Say) -> None:
        """Submit the job, unless it is an earlier one that the scheduler has. ``script`` renders for a
        context with the job's own folder and token.

        Raises SchedulerError if it was not taken, or is given up because nobody knows.
        """
        if self.id:
            return
        folder, name = self.folder, self.folder.request.name
        own = {"results": str(folder.path.parent.parent), "token": folder.token}
        text = script(msgspec.structs.replace(context, **own))
        files.replace(folder.script, text.encode(), 0o700)  # the site's setup lines may show a secret
        submission = Submission(
            token=folder.token,
            name=name,
            folder=str(folder.path),
            resources=on_site(folder.request.resources, self._site),
            elements=(Element(index=0, run=name),),
        )
        try:
            self.id = self._scheduler.submit(submission)[0]
        except SubmitUnknownError as error:
            say(f"{error}; looking for the job")
            if not self.is_settled():
                raise SchedulerError(
                    f"{error}; the job was not found within {self._patience_s:g} s and was given up, so it "
                    "does nothing if it starts later. Run the same command again"
                ) from error
        except SchedulerError:
            self._ended = True  # certainly not taken
            raise

    def is_settled(self) -> bool:
        """Find out whether the scheduler has the job, and its id; False once it is certain that it never
        runs. Raises StateError."""
        end = time.monotonic() + self._patience_s
        while not self._found():
            if time.monotonic() > end:
                self._ended = self.folder.void()
                self.id = self.folder.claimed_by() or ""
                return not self._ended
            time.sleep(min(_ASK_EVERY_S, max(LOOK_S, self._patience_s / 10)))
        return True

    def follow(self, hear: Say, say: Say, patience_s: float | None = None) -> Ended:
        """Wait for the job's end, for at most ``patience_s`` seconds; ``hear`` gets each line that it prints,
        ``say`` what becomes of the job.

        Raises SchedulerError when the scheduler was silent for the site's ``submit_timeout`` and so was the
        job; then it is left as it is, or given up if it has not started.
        """
        calls = self._site.limits.calls_per_minute
        every_s = max(_ASK_EVERY_S, 60 * _CALLS_PER_QUESTION / calls) if calls else _ASK_EVERY_S
        following = _Following(self, hear, say, every_s)
        until = float("inf") if patience_s is None else time.monotonic() + patience_s
        while True:
            code = self.folder.code()  # before the output, which is whole by then
            following.listen(last=code is not None)
            over = code is not None or following.has_ended()
            if over or time.monotonic() > until:
                self._ended = over
                return Ended(code=code, output="\n".join(following.output), seen=following.seen)
            following.ask()
            if following.silent_s() > self._patience_s:
                raise self._unheard(following.silence)
            time.sleep(LOOK_S)

    def observe(self) -> Observation:
        """Ask the scheduler. Raises SchedulerError."""
        return self._scheduler.query([self.id])[self.id]

    def give_up(self, say: Say) -> None:
        """See to it that nothing of the job runs any more, and remove its folder. What could not be cancelled
        is said; its folder is left to the next command. Raises StateError."""
        if not self._ended and self.folder.script.exists():
            never = self.folder.void()
            problem = self._cancel()
            if problem and never:
                say(f"{problem}; job {self.id} does nothing if it starts")
            elif problem or not (never or self._ends()):
                why = problem or f"job {self.id} has not ended yet"
                say(f"{why}; its script and output: {self.folder.path}")
                return
        self.folder.remove()

    def leave(self) -> None:
        """Let the job and its folder be as they are."""
        self.left = True

    def _found(self) -> bool:
        jobs = None
        with contextlib.suppress(SchedulerError):  # it may answer the next time
            jobs = self._scheduler.find(self.folder.token)
        started = self.folder.claimed_by()
        self.id = next(iter(jobs.values())) if jobs else started or ""
        return bool(self.id)

    def _cancel(self) -> str:
        """Ask for the job's end; return what kept us from it."""
        try:
            if (self.id or self._found()) and self._is_ours():
                self._scheduler.cancel([self.id])
        except SchedulerError as error:
            return str(error)
        return ""

    def _is_ours(self) -> bool:
        """Return whether the number is of our job now, where the scheduler shows that."""
        return not capabilities(self._site).marks or self.observe().may_be_of(self.folder.token)

    def _ends(self) -> bool:
        """Wait a moment for the end of a job that was cancelled."""
        end = time.monotonic() + _LEAVE_S
        while self.folder.code() is None:
            with contextlib.suppress(SchedulerError):
                if self.observe().state is JobState.ENDED:
                    return True
            if time.monotonic() > end:
                return False
            time.sleep(LOOK_S)
        return True

    def _unheard(self, why: str) -> SchedulerError:
        """Stop waiting for a scheduler that is silent; a job that has not started never does."""
        waited = f"{why}; waited {self._patience_s:.0f} s for it"
        self._ended = self.folder.void()
        if self._ended:
            return SchedulerError(f"{waited}, then gave job {self.id} up: it does nothing if it starts later")
        self.leave()
        return SchedulerError(
            f"{waited}, job {self.id} goes on without; its script and output: {self.folder.path}"
        )


class _Following:
    """The news of a job while one waits for its end."""

    def __init__(self, job: NodeJob, hear: Say, say: Say, every_s: float) -> None:
        self.output: list[str] = []
        self.seen = Observation(state=JobState.QUEUED)
        self.silence = ""  # why the scheduler is not heard; empty if it is
        self._job, self._hear, self._say, self._every_s = job, hear, say, every_s
        self._at = 0  # bytes of the log that were handed on
        self._asked = self._heard = time.monotonic()
        self._asked -= every_s
        self._ended_since: float | None = None

    def listen(self, *, last: bool) -> None:
        """Hand on the whole lines that came; with ``last`` also one that has no end."""
        try:
            data = self._job.folder.log.read_bytes()[self._at :]
        except OSError:
            return
        whole = data if last else data[: data.rfind(b"\n") + 1]
        if whole:
            self._heard = time.monotonic()
        self._at += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            self.output.append(line)
            self._hear(line)

    def ask(self) -> None:
        """Ask the scheduler, if it was not asked a moment ago."""
        if time.monotonic() - self._asked < self._every_s:
            return
        before = self.seen.state
        try:
            self.seen = self._job.observe()
            unknown = self.seen.state is JobState.UNKNOWN
            self.silence = f"job {self._job.id}: {self.seen.detail}" if unknown else ""
        except SchedulerError as error:
            self.silence = str(error)
        self._asked = time.monotonic()
        if not self.silence:
            self._heard = self._asked
        if self.seen.state is not before:
            self._say(f"job {self._job.id} is {self.seen.state.value}")

    def silent_s(self) -> float:
        """Return for how long neither the scheduler nor the job was heard; 0 while the scheduler is."""
        return time.monotonic() - self._heard if self.silence else 0.0

    def has_ended(self) -> bool:
        """Tell whether the job has ended, by the scheduler's word: at once if it never started."""
        if self.seen.state is not JobState.ENDED:
            self._ended_since = None
            return False
        self._ended_since = self._ended_since or time.monotonic()
        return self._job.folder.void() or time.monotonic() - self._ended_since > _GRACE_S
