"""The boundary to a scheduler: submit, find, query, hold, release, cancel; and what it may be capable of.

A scheduler knows nothing of experiments. It gets a rendered script with a number of elements (array
indices), hands back one job id per element, and later says of each job id what it sees. What it sees is
an :class:`~ddqjobs.spec.model.Observation`; whether a run is done is decided by evidence, never here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from ddqjobs.base.errors import SchedulerError
from ddqjobs.base.frozen import Frozen
from ddqjobs.spec.model import Observation, Resources
from ddqjobs.store.layout import SubmissionFolder


class SubmitUnknownError(SchedulerError):
    """The submission was sent, but its answer did not come or could not be read: it may have been taken.

    Whoever catches it asks :meth:`Scheduler.find` for the token, and submits nothing until that is known.
    """


class RefusedError(SchedulerError):
    """The scheduler answered, and will never take this submission as it is: other submissions may go on."""


class QueueFullError(SchedulerError):
    """Nothing was submitted: the scheduler's own limit of jobs is reached. It takes more when some have
    ended."""

    WORDS = "takes no more jobs for now"  # in every message: ledgers keep it


class DependencyGoneError(SchedulerError):
    """Nothing was submitted: jobs to wait for are no longer known, so that waiting for them would mean
    nothing. Whether they ended well is for their evidence to say."""

    def __init__(self, message: str, jobs: tuple[str, ...]) -> None:
        self.jobs = jobs
        super().__init__(message)


class Capabilities(Frozen, frozen=True, kw_only=True):
    """Features that a scheduler can express."""

    arrays: bool = False  # several elements in one submission
    dependencies: bool = False  # `after` is honoured
    own_dependencies: bool = False  # by each element for itself, whatever the others of its array wait for
    avoids: bool = False  # can be told of nodes to keep away from
    restarts: bool = True  # may start a job again that its script did not ask for (requeue)
    marks: bool = False  # shows of each job a word that holds its submission's token
    numbers: bool = False  # names a job as the job names itself, in its claim
    tests: bool = False  # says whether it would take a job, without taking it
    here: bool = False  # its jobs run on this machine, so that it can be looked at without one
    probes: bool = True  # `doctor` may submit a small job that looks around on a node


class Element(Frozen, frozen=True, kw_only=True):
    """One run of a submission."""

    index: int  # array index, from 0
    run: str  # name of the run, for display
    after: tuple[str, ...] = ()  # job ids that must end well first


class Submission(Frozen, frozen=True, kw_only=True):
    """A script to be started once per element, all with the same resources."""

    token: str  # unique; finds the submission again after a crash
    name: str  # for display, and the job's name with the token behind; allow-listed characters only
    folder: str  # existing absolute folder: job.sh lies here, the scheduler's own output goes to out/
    resources: Resources
    elements: tuple[Element, ...]
    avoid: tuple[str, ...] = ()  # nodes that it shall not start on, where `avoids` is true

    @property
    def script(self) -> Path:
        """The script to start: ``bash job.sh`` with DDQJOBS_INDEX set to the element's index."""
        return SubmissionFolder(Path(self.folder)).script

    @property
    def out(self) -> Path:
        """The folder for what the scheduler itself prints."""
        return SubmissionFolder(Path(self.folder)).out


class Scheduler(Protocol):
    """The questions and orders that ``project`` has for a scheduler. All calls raise :class:`SchedulerError`
    when the scheduler cannot be asked; no call ever guesses."""

    def submit(self, submission: Submission) -> Mapping[int, str]:
        """Hands a submission over; returns index -> job id. The same token twice is one submission.

        Raises SubmitUnknownError when it may have been taken, SchedulerError when it certainly was not; among
        these RefusedError, QueueFullError and DependencyGoneError.
        """

    def find(self, token: str) -> Mapping[int, str] | None:
        """index -> job id of the submission with that token, or None if the scheduler has not got it now."""

    def in_queue(self) -> int:
        """Return how many jobs of this user are queued or running now, whoever submitted them."""

    def query(self, jobs: Sequence[str]) -> Mapping[str, Observation]:
        """An observation for every job id asked for, in one query; UNKNOWN, and ``forgotten``, for those that
        it says it does not know. Also for others of this user's jobs in the queue, where the same answer
        shows them."""

    def hold(self, jobs: Sequence[str]) -> None:
        """Keeps queued jobs from starting until they are released. Running, ended and unknown ones are no
        error and stay as they are; one that starts meanwhile runs on."""

    def release(self, jobs: Sequence[str]) -> None:
        """Lets held jobs start again. Any others are no error and stay as they are."""

    def cancel(self, jobs: Sequence[str]) -> None:
        """Asks for the end of jobs. Unknown and ended ones are no error. Returns before they have ended."""


class Unchained(NamedTuple):
    """The jobs that wait for others no more, and those that a scheduler goes on to let wait, with the
    reasons."""

    freed: Collection[str]
    refused: Mapping[str, str]


@runtime_checkable
class Unchains(Protocol):
    """A scheduler that can take off what its jobs wait for."""

    def unchain(self, jobs: Mapping[str, str], ours: Collection[str]) -> Unchained:
        """Let queued jobs (job -> token) go on without what they wait for. A job that carries another token,
        or waits for anything but the ends of ``ours`` (numbers of jobs and arrays), stays as it is, as one
        that waits no more does."""
