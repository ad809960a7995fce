"""The scheduler on the lab's Donau, whose answers go wrong in every way: nothing is concluded from those."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ddqjobs.base.errors import SchedulerError
from ddqjobs.schedulers.base import Element, RefusedError, Submission, SubmitUnknownError
from ddqjobs.schedulers.donau.scheduler import LoginError
from ddqjobs.spec.model import FailureClass, JobState, Resources
from tests.support.donau import Lab, section
from tests.support.trivial import until

TOKEN = "20260101-000000-0badcafe"


def a_submission(
    folder: Path, work: str = "true", *lines: str, token: str = TOKEN, after: tuple[str, ...] = ()
) -> Submission:
    """A script as it is rendered, as far as Donau reads it."""
    place = folder / token
    (place / "out").mkdir(parents=True)
    script = place / "job.sh"
    directives = [f"-n e.r.{token}", f"-o {place}/out/%J.out", *lines]
    text = "".join(f"#DSUB {line}\n" for line in directives)
    script.write_text(f"#!/bin/sh\n{text}{work}\n")
    script.chmod(0o755)
    element = Element(index=0, run="r", after=after)
    return Submission(token=token, name="e.r", folder=str(place), resources=Resources(), elements=(element,))


WAITS = 'until [ -e "$0.go" ]; do sleep 0.02; done'


def let_go(submission: Submission) -> None:
    Path(f"{submission.script}.go").touch()


# -- submit and find -------------------------------------------------------------------------------------


def test_a_job_is_submitted_found_seen_and_over(donau: Lab, tmp_path: Path) -> None:
    scheduler = donau.scheduler()
    submission = a_submission(tmp_path, WAITS + "; echo $BATCH_JOB_ID")
    job = scheduler.submit(submission)[0]
    assert scheduler.find(TOKEN) == {0: job}
    assert scheduler.find(TOKEN[:-1]) is None
    assert scheduler.query([job])[job].state is JobState.RUNNING
    assert scheduler.in_queue() == 1
    let_go(submission)
    donau.until_over()
    ended = scheduler.query([job, "99"])
    assert (ended[job].state, ended[job].failure) == (JobState.ENDED, None)
    assert ended["99"].state is JobState.UNKNOWN
    assert scheduler.find(TOKEN) == {0: job}
    assert scheduler.in_queue() == 0
    assert (tmp_path / TOKEN / "out" / f"{job}.out").read_text() == f"{job}\n"
    assert "Submit job successfully" in (tmp_path / TOKEN / "out" / "dsub.txt").read_text()


@pytest.mark.parametrize(
    "fault", ["accept-hang", "accept-silent", "accept-truncated", "two", "hang", "silent", "chinese"]
)
def test_an_answer_that_is_lost_is_unknown_and_kept(donau: Lab, tmp_path: Path, fault: str) -> None:
    scheduler = donau.scheduler()
    donau.fault("dsub", fault)
    with pytest.raises(SubmitUnknownError):
        scheduler.submit(a_submission(tmp_path))
    taken = fault.startswith("accept") or fault == "two"
    assert len(donau.jobs()) == taken
    assert scheduler.find(TOKEN) == ({0: next(iter(donau.jobs()))} if taken else None)
    assert (tmp_path / TOKEN / "out" / "dsub.txt").is_file()


@pytest.mark.parametrize("fault", ["late", "accept-chinese"])
def test_an_answer_that_is_late_or_in_chinese_is_one(donau: Lab, tmp_path: Path, fault: str) -> None:
    donau.fault("dsub", fault)
    try:
        job = donau.scheduler().submit(a_submission(tmp_path))[0]
    except SubmitUnknownError:  # a Chinese header is no header
        assert fault == "accept-chinese"
        jobs = donau.scheduler().find(TOKEN)
        assert jobs is not None
        job = jobs[0]
    assert list(donau.jobs()) == [job]


def test_a_refusal_is_one(donau: Lab, tmp_path: Path) -> None:
    donau.fault("dsub", "refuse")
    with pytest.raises(RefusedError, match="queue is closed"):
        donau.scheduler().submit(a_submission(tmp_path))
    with pytest.raises(RefusedError, match="Unexpected argument"):
        donau.scheduler().submit(a_submission(tmp_path, "true", "--nonsense 1", token="other"))
    assert donau.jobs() == {}


def test_three_answers_that_cannot_be_read_are_enough(donau: Lab, tmp_path: Path) -> None:
    scheduler = donau.scheduler()
    donau.fault("dsub", "chinese", times=9)
    for number in range(3):
        with pytest.raises(SubmitUnknownError):
            scheduler.submit(a_submission(tmp_path, token=f"t{number}"))
    with pytest.raises(SchedulerError, match=r"3 answers of dsub in a row.*patterns"):
        scheduler.submit(a_submission(tmp_path, token="t3"))


def test_without_donau_s_commands_nothing_is_tried(
    donau: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SchedulerError, match="no login node of a Donau cluster"):
        donau.scheduler().submit(a_submission(tmp_path))
    monkeypatch.setenv("CCS_CLI_HOME", "/opt/donau")
    with pytest.raises(SchedulerError, match="cannot start dsub"):
        donau.scheduler().submit(a_submission(tmp_path, token="other"))


# -- an expired token ------------------------------------------------------------------------------------


def test_an_expired_token_asks_for_a_login_everywhere(donau: Lab, tmp_path: Path) -> None:
    scheduler = donau.scheduler()
    job = scheduler.submit(a_submission(tmp_path, WAITS))[0]
    for command in ("dsub", "djob", "cancel"):
        donau.fault(command, "token", times=99)
    login = section(donau.generation).dialect
    assert login is not None
    for ask in (
        lambda: scheduler.submit(a_submission(tmp_path, token="other")),
        lambda: scheduler.find(TOKEN),
        lambda: scheduler.query([job]),
        lambda: scheduler.cancel([job]),
        lambda: scheduler.in_queue(),
    ):
        with pytest.raises(LoginError, match=f"log in again with `{login.login}`"):
            ask()
    donau.mended()
    assert scheduler.query([job])[job].state is JobState.RUNNING
    assert len(donau.jobs()) == 1


# -- query -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["columns", "notice"])
def test_columns_are_found_wherever_they_are(donau: Lab, tmp_path: Path, fault: str) -> None:
    scheduler = donau.scheduler()
    job = scheduler.submit(a_submission(tmp_path, WAITS))[0]
    donau.fault("djob", fault)
    assert scheduler.query([job])[job].state is JobState.RUNNING


@pytest.mark.parametrize(
    "fault", ["lose", "partial", "unknown", "unknown-chinese", "truncated", "renamed", "chinese", "hang"]
)
@pytest.mark.parametrize("alive", [True, False])
def test_no_answer_ends_a_job(donau: Lab, tmp_path: Path, fault: str, alive: bool) -> None:
    scheduler = donau.scheduler(ask_s=0.5 if fault == "hang" else 30.0)
    submission = a_submission(tmp_path, WAITS)
    job = scheduler.submit(submission)[0]
    if not alive:
        let_go(submission)
        donau.until_over()
    truth = JobState.RUNNING if alive else JobState.ENDED
    donau.fault("djob", fault, times=99)
    try:
        observation = scheduler.query([job])[job]
    except SchedulerError:
        assert fault in ("renamed", "chinese", "hang", "truncated")
    else:
        # another question may have brought it out
        assert observation.state in (JobState.UNKNOWN, truth), observation
    donau.mended()
    assert scheduler.query([job])[job].state is truth


def test_a_lagging_list_is_believed_for_now(donau: Lab, tmp_path: Path) -> None:
    scheduler = donau.scheduler()
    job = scheduler.submit(a_submission(tmp_path))[0]
    donau.until_over()
    donau.fault("djob", "lag", times=9)
    assert scheduler.query([job])[job].state in (JobState.RUNNING, JobState.UNKNOWN)
    donau.mended()
    assert scheduler.query([job])[job].state is JobState.ENDED


def test_five_hundred_jobs_are_asked_for_in_three_calls(donau: Lab, tmp_path: Path) -> None:
    scheduler = donau.scheduler()
    job = scheduler.submit(a_submission(tmp_path, WAITS))[0]
    before = donau.calls("djob")
    observations = scheduler.query([job, *(str(n) for n in range(1, 500))])
    assert len(observations) == 500
    assert observations[job].state is JobState.RUNNING
    pages = {"old": 3, "new": 6}[donau.generation]  # the new one asks twice: for those that run, that ended
    assert donau.calls("djob") - before == pages + 5  # and five are asked for one by one


def test_a_time_limit_ends_a_job(donau: Lab, tmp_path: Path) -> None:
    scheduler = donau.scheduler()
    job = scheduler.submit(a_submission(tmp_path, "sleep 60", "-T 1"))[0]
    donau.until_over()
    observation = scheduler.query([job])[job]
    assert (observation.state, observation.exit_code) == (JobState.ENDED, 137)


def test_a_suspended_job_is_alive(donau: Lab, tmp_path: Path) -> None:
    scheduler = donau.scheduler()
    submission = a_submission(tmp_path, WAITS)
    job = scheduler.submit(submission)[0]
    donau.suspend(job)
    assert scheduler.query([job])[job].state is JobState.STOPPED
    let_go(submission)
    donau.resume(job)
    donau.until_over()
    assert scheduler.query([job])[job].state is JobState.ENDED


def test_what_can_be_held_is_held_and_released(donau: Lab, tmp_path: Path) -> None:
    donau.set(closed=True)
    scheduler = donau.scheduler()
    job = scheduler.submit(a_submission(tmp_path))[0]
    if donau.generation == "new":
        with pytest.raises(SchedulerError, match="nothing is known that can hold jobs"):
            scheduler.hold([job])
        return
    scheduler.hold([job])
    donau.set(closed=False)
    assert scheduler.query([job])[job].state is JobState.HELD
    scheduler.release([job])
    donau.until_over()
    assert donau.jobs()[job]["state"] == "SUCCEEDED"


def test_dependencies_start_a_job_after_others(donau: Lab, tmp_path: Path) -> None:
    site = msgspec.structs.replace(section(donau.generation), dependencies=True)
    scheduler = donau.scheduler(site)
    before = a_submission(tmp_path, WAITS + "; exit 3")
    first = scheduler.submit(before)[0]
    second = scheduler.submit(a_submission(tmp_path, token="later", after=(first,)))[0]
    assert scheduler.query([second])[second].state is JobState.QUEUED
    let_go(before)
    donau.until_over()
    assert {job: scheduler.query([job])[job].exit_code for job in (first, second)}[first] == 3
    assert donau.jobs()[second]["state"] == "SUCCEEDED"


# -- cancel ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queued", [True, False])
def test_a_cancelled_job_is_seen_to_end(donau: Lab, tmp_path: Path, queued: bool) -> None:
    donau.set(closed=queued)
    scheduler = donau.scheduler()
    job = scheduler.submit(a_submission(tmp_path, WAITS))[0]
    scheduler.cancel([job, "77"])
    observation = scheduler.query([job])[job]
    assert (observation.state, observation.failure) == (JobState.ENDED, FailureClass.CANCELLED)
    scheduler.cancel([job])


def test_a_cancellation_that_djob_does_not_show_is_said(donau: Lab, tmp_path: Path) -> None:
    scheduler = donau.scheduler(confirm_s=0.0)
    job = scheduler.submit(a_submission(tmp_path, WAITS))[0]
    donau.fault("cancel", "ignore")
    with pytest.raises(SchedulerError, match=f"cancelling job {job}, but djob does not show its end"):
        scheduler.cancel([job])
    donau.scheduler().cancel([job])
    until(lambda: donau.jobs()[job]["state"] == "FAILED")
