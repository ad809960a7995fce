"""Offer Donau to the rest of ddqjobs: build command lines, run them, report failures in the user's words."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from ddqjobs.base import process, shell_variables
from ddqjobs.base.errors import SchedulerError
from ddqjobs.schedulers.base import RefusedError, Submission, SubmitUnknownError
from ddqjobs.schedulers.donau import answers, states
from ddqjobs.schedulers.donau.answers import Kind
from ddqjobs.schedulers.donau.options import Donau, DonauDialect, DonauQuestion
from ddqjobs.schedulers.donau.tables import Cells
from ddqjobs.schedulers.pace import Pace
from ddqjobs.spec.model import JobState, Observation

_FOREIGN = ("DDQJOBS_",)  # of a job that we may be part of
_MOST_DETAILS = 5  # jobs that are asked for one by one in one look
_LOOKS = 3  # at jobs that djob does not show, before a cancellation counts as done
_MOST_UNREAD = 3  # answers of dsub in a row that could not be read: then somebody has to look at them
# Never `forgotten`: that djob does not show a job says nothing (docs/reference/donau.md), so only its user
# gives it up.
_NOT_SHOWN = Observation(
    state=JobState.UNKNOWN,
    detail="djob does not show it; if that lasts, `ddqjobs cancel` gives it up and `retry` brings it back",
)
_OVER = (JobState.ENDED,)


class LoginError(SchedulerError):
    """The access token is missing, expired or not accepted: nothing is known, and nothing was done."""


class DonauScheduler:
    """The scheduler of a Donau site.

    ``submit_s`` is how long ``dsub`` may take before its answer counts as lost, ``ask_s`` the same for
    questions. After a cancellation djob is asked until it shows the end, for ``confirm_s`` at most.
    """

    def __init__(
        self,
        name: str,
        site: Donau,
        *,
        submit_s: float = 120.0,
        ask_s: float = 60.0,
        confirm_s: float = 30.0,
        calls_per_minute: int = 0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        assert site.dialect is not None, "checked when the site file was read"
        self._name, self._site = name, site
        self._dialect: DonauDialect = site.dialect
        self._submit_s, self._ask_s, self._confirm_s = submit_s, ask_s, confirm_s
        self._calls, self._sleep = Pace(calls_per_minute), sleep
        self._unread = 0
        self._whole = 0  # characters of a name that djob shows for certain

    def submit(self, submission: Submission) -> Mapping[int, str]:
        """One ``dsub``; see :class:`~ddqjobs.schedulers.base.Scheduler`. What it answered is kept beside the
        script (``out/dsub.txt``)."""
        self._require_donau()
        if self._unread >= _MOST_UNREAD:
            raise SchedulerError(
                f"site {self._name}: {self._unread} answers of {self._dialect.submit[0]} in a row could not "
                "be read, so nothing more is submitted; see out/dsub.txt of the submissions and the site's "
                "donau.dialect.patterns"
            )
        element = submission.elements[0]
        argv = submit_words(self._dialect, str(submission.script), element.after, submission.avoid)
        self._calls.wait()
        done = process.run(argv, timeout=self._submit_s, env=environment(), cwd=submission.folder)
        _keep(submission.out / "dsub.txt", done)
        kind, answer = answers.submitted(done, self._dialect)
        self._unread = self._unread + 1 if kind is Kind.UNKNOWN else 0
        if kind is Kind.TAKEN:
            return {element.index: answer}
        raise self._submit_error(submission, done, kind, answer)

    def find(self, token: str) -> Mapping[int, str] | None:
        """The job whose name ends with the token, among those that run and those that have ended.

        None is not proof: the list may lag. Whoever gets it races with the job for the claim.
        """
        jobs: dict[str, None] = {}
        for question in self._dialect.find:
            done = self._ask([_filled(word, token=token) for word in question.argv])
            rows = answers.rows(done, self._dialect, self._dialect.columns.name)
            if rows is None:
                raise self._unreadable("find a submission", done)
            jobs.update(dict.fromkeys(answers.named(rows, token, self._dialect)))
        if len(jobs) > 1:
            raise SchedulerError(
                f"site {self._name}: jobs {', '.join(jobs)} have the same name, which ends with {token}; "
                "cancel all of them but one"
            )
        return {0: next(iter(jobs))} if jobs else None

    def in_queue(self) -> int:
        """Return how many jobs of this user djob shows that are not over, or of which it cannot be told."""
        done = self._ask(self._dialect.all.argv)
        rows = answers.rows(done, self._dialect, self._dialect.columns.state)
        if rows is None:
            raise self._unreadable("count jobs", done)
        return sum(states.observe(row, self._dialect).state not in _OVER for row in rows)

    def query(self, jobs: Sequence[str]) -> Mapping[str, Observation]:
        """The site's questions in their order, each about what is not known by then."""
        known = [job for job in jobs if answers.JOB.fullmatch(job)]
        seen: dict[str, Observation] = dict.fromkeys(jobs, _NOT_SHOWN)
        failed: set[str] = set()
        for number, question in enumerate(self._dialect.ask):
            about = _about(question, known, seen, failed)
            if not about:
                continue
            try:
                rows = self._rows(question, about)
            except LoginError:
                raise
            except SchedulerError as error:
                if number == 0:
                    raise
                unknown = Observation(state=JobState.UNKNOWN, detail=str(error))
                seen.update((job, unknown) for job in about if seen[job] is _NOT_SHOWN)
                continue
            for job, cells in rows.items():
                self._take(job, cells, seen, failed, question)
        return seen

    def hold(self, jobs: Sequence[str]) -> None:
        """Suspends queued jobs, where the command line can. Raises SchedulerError where it cannot."""
        self._for_those(jobs, JobState.QUEUED, self._dialect.hold, "hold")

    def release(self, jobs: Sequence[str]) -> None:
        """Lets suspended jobs go on."""
        self._for_those(jobs, JobState.HELD, self._dialect.release, "release")

    def cancel(self, jobs: Sequence[str]) -> None:
        """A call for each job, stdin closed (it may ask back); then djob is asked until none is left that it
        shows as not ended. Raises SchedulerError when one stays.
        """
        left = [job for job in jobs if answers.JOB.fullmatch(job)]
        for job in left:
            self._ask([_filled(word, job=job) for word in self._dialect.cancel])
        waited, pause, looks = 0.0, 0.5, 0
        while left:
            seen = self.query(left)
            left = [job for job in left if seen[job].state is not JobState.ENDED]
            looks += 1
            if looks >= _LOOKS:  # a list may be late; a job that it goes on not to show cannot be waited for
                left = [job for job in left if seen[job] is not _NOT_SHOWN]
            if left and waited >= self._confirm_s:
                raise SchedulerError(
                    f"site {self._name}: cancelling job {', '.join(left)}, but djob does not show its end "
                    f"yet ({seen[left[0]].detail or seen[left[0]].state.value}); look again with "
                    "`ddqjobs status`"
                )
            if left:
                self._sleep(pause)
                waited, pause = waited + pause, min(2 * pause, 5.0)

    # --- below

    def _for_those(self, jobs: Sequence[str], state: JobState, argv: Sequence[str], what: str) -> None:
        if not argv:
            raise SchedulerError(
                f"site {self._name}: nothing is known that can {what} jobs in Donau's "
                f"{self._dialect.generation} command line; see donau.dialect.{what} of the site file"
            )
        seen = self.query(jobs)
        for job in (job for job in jobs if seen[job].state is state):
            self._ask([_filled(word, job=job) for word in argv])

    def _take(
        self,
        job: str,
        cells: Cells,
        seen: dict[str, Observation],
        failed: set[str],
        question: DonauQuestion,
    ) -> None:
        """Add a row to what is known: a state where there was none, a reason where there was an end."""
        if question.about == "failed":
            seen[job] = states.explained(seen[job], cells, self._site)
            return
        fresh = states.explained(states.observe(cells, self._dialect), cells, self._site)
        fresh = msgspec.structs.replace(fresh, marks=answers.marks(cells, self._whole, self._dialect))
        if fresh.state is not JobState.UNKNOWN or seen[job] is _NOT_SHOWN:
            seen[job] = fresh
        if states.failed(cells, self._dialect) and fresh.exit_code is None:
            failed.add(job)

    def _rows(self, question: DonauQuestion, jobs: Sequence[str]) -> dict[str, Cells]:
        """Job -> what the answer to one question says of it. Raises SchedulerError if it cannot be read."""
        rows: dict[str, Cells] = {}
        if "{job}" in " ".join(question.argv):
            for job in jobs[:_MOST_DETAILS]:
                done = self._ask([_filled(word, job=job) for word in question.argv])
                rows.update(self._read(question, done, [job]))
            return rows
        for start in range(0, len(jobs), self._dialect.page):
            page = jobs[start : start + self._dialect.page]
            done = self._ask([w for word in question.argv for w in (page if word == "{jobs}" else [word])])
            rows.update(self._read(question, done, page))
        return rows

    def _read(
        self, question: DonauQuestion, done: process.Completed, jobs: Sequence[str]
    ) -> dict[str, Cells]:
        columns = self._dialect.columns
        if question.form == "details":
            cells = answers.details_of(done, jobs[0], self._dialect)
            return {jobs[0]: cells} if cells else {}
        needed = columns.exit_code if question.about == "failed" else columns.state
        rows = answers.rows(done, self._dialect, needed)
        if rows is None:
            raise self._unreadable("ask for jobs", done)
        self._whole = max(self._whole, answers.whole_name(rows, self._dialect))
        return answers.by_job(rows, jobs, self._dialect)

    def _require_donau(self) -> None:
        if not commands_are_here():
            raise SchedulerError(
                f"site {self._name}: there is no djob here, so this is no login node of a Donau cluster; "
                "load Donau's commands, or choose another --site"
            )

    def _submit_error(
        self, submission: Submission, done: process.Completed, kind: Kind, answer: str
    ) -> SchedulerError:
        what = f"site {self._name}: {done.argv[0]} for {submission.name}"
        if done.code == process.NOT_STARTED and answer.startswith("cannot start"):
            return SchedulerError(f"{what}: {answer}; load Donau's commands, or choose another --site")
        if kind is Kind.LOGIN:
            return self._login(answer)
        if kind is Kind.REFUSED:
            return RefusedError(f"{what} was refused: {answer}")
        if done.timed_out:
            return SubmitUnknownError(f"{what} gave no answer within {self._submit_s:g} s")
        return SubmitUnknownError(f"{what} said {answer!r} instead of a job id")

    def _ask(self, argv: Sequence[str]) -> process.Completed:
        """Runs a command. Raises LoginError, and SchedulerError when it did not start or end."""
        self._calls.wait()
        done = process.run(argv, timeout=self._ask_s, env=environment())
        line = answers.login(done, self._dialect)
        if line:
            raise self._login(line)
        if done.timed_out:
            raise SchedulerError(f"site {self._name}: {argv[0]}: no answer within {self._ask_s:g} s")
        if done.code == process.NOT_STARTED and done.stderr.startswith("cannot start"):
            raise SchedulerError(f"site {self._name}: {done.stderr}; load Donau's commands")
        return done

    def _login(self, line: str) -> LoginError:
        how = f" with `{self._dialect.login}`" if self._dialect.login else ""
        return LoginError(
            f"site {self._name}: Donau's access token is not accepted ({line}); log in again{how}, then run "
            "the same command again; no job's state has changed"
        )

    def _unreadable(self, what: str, done: process.Completed) -> SchedulerError:
        argv, answer = " ".join(done.argv)[:80], answers.first_line(done)
        return SchedulerError(
            f"site {self._name}: cannot {what}: {argv} answered {answer!r}, which cannot be read"
        )


def submit_words(
    dialect: DonauDialect, script: str, after: Sequence[str] = (), avoid: Sequence[str] = ()
) -> list[str]:
    """The command line that submits a script, which is to wait for some jobs and avoid some nodes."""
    several = {
        "{dependency}": _joined(dialect.dependency, ";", [{"job": job} for job in after]),
        "{avoid}": _joined(dialect.avoid, " ", [{"node": node} for node in avoid]),
    }
    parts = (several.get(word, [_filled(word, script=script)]) for word in dialect.submit)
    return [word for part in parts for word in part]


def _joined(option: Sequence[str], between: str, values: Sequence[Mapping[str, str]]) -> list[str]:
    """An option and its value, which names each of some things; nothing if there are none."""
    return [option[0], between.join(_filled(option[1], **each) for each in values)] if values else []


def _filled(word: str, **values: str) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _about(
    question: DonauQuestion, jobs: Sequence[str], seen: Mapping[str, Observation], failed: set[str]
) -> list[str]:
    """The jobs that a question is asked about."""
    if question.about == "failed":
        return [job for job in jobs if job in failed]
    if question.about == "missing":
        return [job for job in jobs if seen[job].state is JobState.UNKNOWN]
    return list(jobs)


def commands_are_here() -> bool:
    """Return whether this is Donau: there is another program of the name dsub (Google's batch tools), which
    has neither of these."""
    return bool(shutil.which("djob") or os.environ.get("CCS_CLI_HOME"))


def environment() -> dict[str, str]:
    """Variables for Donau's commands."""
    passed = shell_variables.of_client(os.environ)
    return {k: v for k, v in passed.items() if not k.startswith(_FOREIGN)}


def _keep(path: Path, done: process.Completed) -> None:
    """Keeps an answer for somebody to look at. A full disk must not lose what it says."""
    ended = "no end within its time" if done.timed_out else f"exit code {done.code}"
    text = f"{' '.join(done.argv)}\n{ended}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}\n"
    try:
        path.write_text(text)
    except OSError:
        pass
