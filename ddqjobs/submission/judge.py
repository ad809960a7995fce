"""Judge whether a ticket has failed, and why, by ordered rules over what script and scheduler say. Pure.

The script's last word counts as soon as the scheduler does not mean to start the job once more. The
scheduler's word that a job has ended counts only after the site's grace time, since file systems show files
of other nodes late, except where no attempt ever started.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ddqjobs.detect.job import exit_codes
from ddqjobs.planning import failures
from ddqjobs.spec.model import Attempt, FailureClass, JobState, Observation
from ddqjobs.store.history import Ticket

Failure = tuple[FailureClass, str]

# Ends that the scheduler itself brought about: what the script says of them is only their echo.
_SURE = (FailureClass.TIMEOUT, FailureClass.PREEMPTED, FailureClass.OUT_OF_MEMORY, FailureClass.CANCELLED)
_EXIT = re.compile(r"ddqjobs: exit (\d+)")  # the last line of a script that failed before its attempt


@dataclass(frozen=True)
class Parting:
    """The end of what a script printed that made no attempt."""

    words: str = ""  # the last line of its own
    exit_code: int | None = None


def parting(output: str) -> Parting:
    """Return the end of a script's output.

    >>> parting("no such module\\nddqjobs: exit 69\\n")
    Parting(words='no such module', exit_code=69)
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    code = None
    while lines and (match := _EXIT.fullmatch(lines[-1])):  # several replicas may have one output
        code = int(match[1])
        del lines[-1]
    return Parting(lines[-1][:200] if lines else "", code)


@dataclass(frozen=True)
class Case:
    """The facts about a ticket that has left no product."""

    ticket: Ticket
    seen: Observation | None  # None: its scheduler need not be, or was not, asked
    last: Attempt | None  # None: no attempt of it has started
    grace_over: bool  # its scheduler said long enough ago that it ended
    log_tail: str = ""  # the end of the last attempt's log
    parting: Parting = Parting()  # of a script that made no attempt
    disk: str = ""  # why the results cannot be written now, and the remedy; empty if they can

    @property
    def ended(self) -> bool:
        """Return whether the scheduler says that the job is over."""
        return self.seen is not None and self.seen.state is JobState.ENDED

    @property
    def never_started(self) -> bool:
        """Return whether no attempt of it is to be seen."""
        return self.last is None

    @property
    def by_scheduler(self) -> FailureClass | None:
        """The class of failure that the scheduler names."""
        return self.seen.failure if self.seen is not None else None

    @property
    def detail(self) -> str:
        """The scheduler's words."""
        return self.seen.detail if self.seen is not None else ""

    @property
    def code(self) -> int:
        """The exit code of a script that has said that it failed; 0 for any other."""
        return (self.last.exit_code or 0) if self.last is not None else 0

    @property
    def left_with(self) -> int | None:
        """The exit code of a job whose script says nothing in an attempt's folder: the scheduler's word, else
        what the script printed; None where neither says it."""
        told = self.seen.exit_code if self.seen is not None else None
        # What an earlier start printed explains no end that the scheduler explains.
        return self.parting.exit_code if told is None and self.by_scheduler is None else told

    @property
    def by_signal(self) -> bool:
        """Return whether that exit code means a signal."""
        return failures.by_signal(self.code)

    @property
    def stopped(self) -> bool:
        """Return whether the attempt was asked to stop."""
        return self.last is not None and self.last.stopped

    @property
    def final(self) -> bool:
        """Return whether what the script said on leaving is the end of its job. While the scheduler has the
        job queued or running it may start it once more (a requeue ends the script by a signal, or after a
        stop)."""
        if self.seen is None or self.ended:
            return True
        return self.seen.state is JobState.UNKNOWN and not self.stopped and self.code < 128


@dataclass(frozen=True)
class Rule:
    """``outcome`` holds where ``applies`` does; None says that the end is not certain yet."""

    reason: str
    applies: Callable[[Case], bool]
    outcome: Callable[[Case], Failure | None]


def _undecided(_: Case) -> None:
    return None


def _as(failure: FailureClass, reason: str) -> Callable[[Case], Failure]:
    return lambda _: (failure, reason)


def _as_the_scheduler_says(case: Case) -> Failure:
    return case.by_scheduler or FailureClass.UNKNOWN, case.detail


def _as_the_script_says(case: Case) -> Failure:
    """Return the script's own class, and what its last word means."""
    assert case.last is not None
    failure = case.last.failure or FailureClass.UNKNOWN
    if case.code in failures.EXIT_CODES:
        meaning = failures.EXIT_CODES[case.code][1]
    elif failure is FailureClass.TIMEOUT:
        meaning = failures.NOT_SAVED
    else:
        _, meaning = failures.classify(case.code, case.log_tail)
    return failure, meaning if case.code == exit_codes.STOPPED else case.last.note or meaning


def _as_its_exit_code_says(case: Case) -> Failure:
    code, line = case.left_with, case.parting.words
    assert code is not None
    if code == exit_codes.NO_ROOM:
        return FailureClass.STORAGE, failures.no_room(line or case.log_tail, case.disk)
    if code == exit_codes.NO_ENVIRONMENT and line:
        ours = line.startswith("ddqjobs: ")
        origin = "" if ours else "a setup line of the site ended the job, and it said last "
        return FailureClass.ENVIRONMENT, origin + line.removeprefix("ddqjobs: ")
    return failures.EXIT_CODES[code]


def _not_started_again(case: Case) -> Failure:
    assert case.last is not None
    assert case.last.marker is not None
    return case.last.marker, f"{case.last.note.partition(';')[0]}, and its job was not started again"


def _ended(case: Case) -> str:
    return case.detail or "the scheduler says that it ended"


def _left_nothing(case: Case) -> str:
    reason = f"{_ended(case)}; its script left nothing"
    return f"{reason}, and said last {case.parting.words}" if case.parting.words else reason


# The first that applies decides.
RULES: tuple[Rule, ...] = (
    Rule(
        "its script has failed, and its scheduler may start it once more",
        lambda c: c.code != 0 and not c.final,
        _undecided,
    ),
    Rule(
        "its script has failed, as the user asked",
        lambda c: (
            c.code != 0
            and c.ticket.cancelled
            and (c.stopped or c.by_signal or c.by_scheduler is FailureClass.CANCELLED)
        ),
        _as(FailureClass.CANCELLED, "cancelled by the user"),
    ),
    Rule(
        "its script has failed, because its scheduler ended it",
        lambda c: c.code != 0 and c.by_scheduler in _SURE,
        _as_the_scheduler_says,
    ),
    Rule(
        "its script has failed, and names the class",
        lambda c: c.code != 0 and c.last is not None and c.last.failure is not None,
        _as_the_script_says,
    ),
    Rule(
        "it was asked to stop and did not in time",
        lambda c: c.stopped and c.by_signal,
        lambda c: (FailureClass.TIMEOUT, f"asked to stop, and {failures.signal_words(c.code)}"),
    ),
    Rule(
        "its script has failed: exit code and log say why",
        lambda c: c.code != 0,
        lambda c: failures.classify(c.code, c.log_tail),
    ),
    Rule("its scheduler does not say that it ended", lambda c: not c.ended, _undecided),
    Rule(
        "it was cancelled, and what never started can leave nothing",
        lambda c: c.never_started and (c.ticket.cancelled or c.by_scheduler is FailureClass.CANCELLED),
        _as(FailureClass.CANCELLED, "cancelled by the user before it started"),
    ),
    Rule(
        "what it waits for failed, and what never started can leave nothing",
        lambda c: c.never_started and c.by_scheduler is FailureClass.DEPENDENCY,
        _as_the_scheduler_says,
    ),
    Rule("files of other nodes may show late", lambda c: not c.grace_over, _undecided),
    Rule(
        "it ended as the user asked",
        lambda c: c.ticket.cancelled,
        _as(FailureClass.CANCELLED, "cancelled by the user"),
    ),
    Rule(
        "its script could not write its last word, and says so by its exit code",
        lambda c: c.left_with == exit_codes.NO_ROOM,
        _as_its_exit_code_says,
    ),
    Rule("its scheduler names the class", lambda c: c.by_scheduler is not None, _as_the_scheduler_says),
    Rule(
        "its script was stopped and expected another start, which did not come",
        lambda c: c.last is not None and c.last.marker is not None,
        _not_started_again,
    ),
    Rule(
        "its script ended well and left no product",
        lambda c: c.last is not None and c.last.exit_code == 0,
        _as(FailureClass.NO_PRODUCT, "it ended well, but its product is not there"),
    ),
    Rule(
        "it ended before its first attempt: its exit code says why",
        lambda c: c.never_started and c.left_with in failures.EXIT_CODES,
        _as_its_exit_code_says,
    ),
    Rule(
        "it ended before its first attempt: nothing says why",
        lambda c: c.never_started,
        lambda c: (FailureClass.UNKNOWN, _left_nothing(c)),
    ),
    Rule(
        "its script began and was ended without a last word",
        lambda _: True,
        lambda c: (FailureClass.NODE, f"{_ended(c)}; its script was ended before it could say why"),
    ),
)


def rule_for(case: Case) -> Rule:
    """Return the rule that decides a case."""
    return next(rule for rule in RULES if rule.applies(case))


def failure_of(case: Case) -> Failure | None:
    """Return (class, reason) if the ticket has certainly ended without a product; None while that is not
    certain."""
    return rule_for(case).outcome(case)


def said_all(last: Attempt | None, seen: Observation | None, grace_over: bool) -> bool:
    """Return whether nothing more is to be expected of an attempt that has left its product: its script puts
    the product in place first and says how it went right after that."""
    if last is None or last.exit_code is not None or seen is None or seen.state is JobState.UNKNOWN:
        return True
    return seen.state is JobState.ENDED and grace_over


def note_on_product(last: Attempt | None, seen: Observation | None) -> str:
    """Return what is to be said of a product that is whole: the script's note; that a process of the job ran
    out of memory, as the scheduler saw; that the script was ended before its last word."""
    notes = [last.note] if last is not None and last.note else []
    if seen is not None and seen.failure is FailureClass.OUT_OF_MEMORY:
        notes.append("the product is whole although a process of its job ran out of memory")
    if last is not None and last.exit_code is None and seen is not None and seen.state is JobState.ENDED:
        notes.append("the product is whole although its script was ended before its last word")
    return "; ".join(notes)
