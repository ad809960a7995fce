"""The Donau site on the lab's Donau, in both generations: every run once, whatever the commands say."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from typing import Any

import pytest

from ddqjobs.planning.filters import Filters
from ddqjobs.schedulers.donau import answers
from ddqjobs.schedulers.donau.scheduler import DonauScheduler
from ddqjobs.spec.model import JobState, Status
from ddqjobs.store.claims import Claims
from ddqjobs.store.ledger import Ledger, Submitted, Voided
from ddqjobs.submission import round as submission_round
from tests.labs.donau import state as lab_state
from tests.local.test_exactly_once import die_after
from tests.support.donau import DonauProject, Lab, section
from tests.support.trivial import EXPERIMENT, WORK, end_of, fork, task, until

# A line in the trace, then waits until the test lets it go; stops without a word when it is asked to.
WAIT = (
    'echo "$DDQJOBS_RUN" >> "$TRACE"; '
    'until [ -e "$TRACE.go" ] || [ -e "$DDQJOBS_STOP" ]; do sleep 0.05; done; '
    '[ -e "$TRACE.go" ] || exit 75; echo done > "$DDQJOBS_WORK_DIR/out.txt"'
)
# Two epochs. The first attempt saves one, and then waits to be asked to stop; the next one does the other.
STEPS = (
    'echo "$DDQJOBS_RUN" >> "$TRACE"; '
    'if [ "$DDQJOBS_ATTEMPT" = 1 ]; then sleep 0.05; echo x > "$DDQJOBS_WORK_DIR/epoch_1.pth"; '
    'until [ -e "$DDQJOBS_STOP" ]; do sleep 0.05; done; exit 75; fi; echo done > "$DDQJOBS_WORK_DIR/out.txt"'
)


def once_each(project: DonauProject) -> None:
    """Assert the end state: all runs done, each executed once, the ledger readable."""
    plan = project.plan()
    assert {
        planned.run.name: (planned.status.value, planned.reason)
        for planned in plan.runs
        if planned.status is not Status.DONE
    } == {}
    assert project.executions() == Counter(planned.run.name for planned in plan.runs)
    assert project.records()


def test_a_matrix_is_done_once(on_donau: DonauProject) -> None:
    on_donau.pairs(2)
    assert len(on_donau.open().submit(EXPERIMENT).submitted) == 2
    on_donau.submit_all()
    once_each(on_donau)
    assert {str(job["after"]) for job in on_donau.lab.jobs().values()} == {"[]"}  # unless the site says so
    assert {job["state"] for job in on_donau.lab.jobs().values()} == {"SUCCEEDED"}
    assert on_donau.open().submit(EXPERIMENT).submitted == {}


def test_with_dependencies_the_whole_graph_is_submitted_at_once(on_donau: DonauProject) -> None:
    on_donau.site({"dependencies": True})
    on_donau.pairs(2)
    jobs = on_donau.open().submit(EXPERIMENT).submitted
    assert len(jobs) == 4
    after = {job["id"]: job["after"] for job in on_donau.lab.jobs().values()}
    assert after[jobs["second.s0"]] == [[jobs["first.s0"], "ENDED"]]
    on_donau.until_over()
    once_each(on_donau)


def test_a_run_that_needs_another_command_s_run_is_waited_for(on_donau: DonauProject) -> None:
    """Donau is not told of dependencies here: the run is submitted when the other one is done."""
    on_donau.tasks({"first": task(), "second": task(inputs={"before": "first.out"})}, work=WAIT)
    on_donau.open().submit(EXPERIMENT, Filters(runs=("first",)))
    with on_donau.started("submit", EXPERIMENT, "second", "--wait") as command:
        until(lambda: "second: waiting for first (running), submitted by another command" in on_donau.output)
        on_donau.trace.with_name("trace.go").touch()
        assert command.wait(60) == 0, on_donau.output
    once_each(on_donau)


def test_a_stale_run_and_what_needs_it_run_again_one_after_the_other(on_donau: DonauProject) -> None:
    for executions, work in enumerate((WORK, f"{WORK}; true"), 1):
        on_donau.tasks({"first": task(), "second": task(inputs={"before": "first.out"})}, work=work)
        done = on_donau.cli("submit", "--stale", "--wait")
        assert done.code == 0, done
        assert on_donau.executions() == {"first": executions, "second": executions}
    assert {planned.stale for planned in on_donau.plan().runs} == {""}


def test_what_depends_on_a_failed_run_waits_and_comes_back(on_donau: DonauProject) -> None:
    on_donau.site({"dependencies": True})
    on_donau.tasks(
        {"first": task(), "second": task(inputs={"before": "first.out"})},
        work='echo "$DDQJOBS_RUN" >> "$TRACE"; [ -e "$TRACE.go" ] || exit 3; echo 1 > out.txt; '
        'cp out.txt "$DDQJOBS_WORK_DIR"',
    )
    assert len(on_donau.open().submit(EXPERIMENT).submitted) == 2
    plan = on_donau.until_over()
    assert plan["first"].status is Status.FAILED
    assert plan["second"].reason == "needs first, which failed (code)"
    on_donau.trace.with_name("trace.go").touch()
    on_donau.cli("retry", EXPERIMENT, "first")
    on_donau.submit_all()
    assert on_donau.executions() == {"first": 2, "second": 1}


# -- answers that go wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["accept-hang", "accept-silent", "hang", "truncated", "two"])
def test_a_lost_answer_is_made_good_by_the_next_command(on_donau: DonauProject, fault: str) -> None:
    on_donau.tasks({"first": task(), "second": task(inputs={"before": "first.out"})})
    on_donau.lab.fault("dsub", fault)
    outcome = on_donau.open().submit(EXPERIMENT)
    assert (outcome.submitted, list(outcome.unconfirmed)) == ({}, ["first"])
    on_donau.submit_all()
    once_each(on_donau)


def test_an_expired_token_is_exit_code_3_and_changes_nothing(on_donau: DonauProject) -> None:
    on_donau.tasks({"first": task(), "second": task()}, work=WAIT)
    assert on_donau.cli("submit", EXPERIMENT, "first").code == 0
    until(lambda: on_donau.run("first").state is JobState.RUNNING)
    for command in ("dsub", "djob", "cancel"):
        on_donau.lab.fault(command, "token", times=99)
    for arguments in (("submit", EXPERIMENT), ("status", EXPERIMENT), ("cancel", EXPERIMENT, "--yes")):
        result = on_donau.cli(*arguments)
        assert result.code == 3, result
        assert "log in again with `d" in result.stderr
    on_donau.lab.mended()
    assert on_donau.run("first").state is JobState.RUNNING
    on_donau.trace.with_name("trace.go").touch()
    on_donau.submit_all()
    once_each(on_donau)


@pytest.mark.parametrize("fault", ["lag", "unknown", "lose", "renamed"])
def test_the_script_s_last_word_outranks_djob(on_donau: DonauProject, fault: str) -> None:
    on_donau.tasks({"good": task(), "bad": task(command=["sh", "-c", 'echo bad >> "$TRACE"; exit 3'])})
    on_donau.open().submit(EXPERIMENT)
    on_donau.lab.until_over()
    on_donau.lab.fault("djob", fault, times=999)
    plan = {planned.run.name: planned for planned in on_donau.plan().runs}
    assert plan["good"].status is Status.DONE
    assert plan["bad"].status is Status.FAILED
    assert plan["bad"].reason.startswith("code: exit 3")
    assert on_donau.executions() == {"good": 1, "bad": 1}


@pytest.mark.parametrize("fault", ["unknown", "lose", "renamed", "hang", "chinese", "partial"])
def test_no_answer_ends_a_running_job(on_donau: DonauProject, fault: str) -> None:
    on_donau.tasks({"first": task()}, work=WAIT)
    on_donau.open().submit(EXPERIMENT)
    until(lambda: on_donau.run("first").state is JobState.RUNNING)
    on_donau.lab.fault("djob", fault, times=999)
    workspace = on_donau.open().workspace(EXPERIMENT)
    workspace._schedulers[workspace.site.name] = on_donau.lab.scheduler(ask_s=0.4)
    planned = workspace.plan().runs[0]
    assert planned.status is Status.ACTIVE
    assert planned.state in (JobState.UNKNOWN, JobState.RUNNING)
    on_donau.lab.mended()
    assert on_donau.open().submit(EXPERIMENT).submitted == {}
    on_donau.trace.with_name("trace.go").touch()
    on_donau.submit_all()
    once_each(on_donau)


def test_a_refused_run_is_named_and_the_others_go_on(on_donau: DonauProject) -> None:
    on_donau.tasks({"first": task(), "second": task()})
    on_donau.lab.fault("dsub", "refuse")
    result = on_donau.cli("submit", EXPERIMENT)
    assert result.code == 1, result
    assert "The queue is closed" in result.stdout + result.stderr
    on_donau.submit_all()
    once_each(on_donau)


# -- time limits, cancellation, suspension ---------------------------------------------------------------


def test_a_run_is_asked_to_stop_before_its_limit_and_goes_on(on_donau: DonauProject) -> None:
    on_donau.site(warning="6s")
    limit = {"time": "12s"}  # asked to stop in the middle of it
    on_donau.tasks({"first": task(resources=limit)}, work=STEPS)
    on_donau.submit_all()
    assert on_donau.run("first").status is Status.DONE
    assert on_donau.run("first").attempts == 2
    starts = [job["starts"] for job in on_donau.lab.jobs().values()]
    # The new generation starts the same job once more, as its script asks for; for the old one it is another.
    assert starts == {"old": [1, 1], "new": [2]}[on_donau.lab.generation]


def test_a_run_that_is_killed_at_its_limit_timed_out(on_donau: DonauProject) -> None:
    on_donau.tasks({"first": task(resources={"time": "2s"}, command=["sleep", "60"])})
    on_donau.open().submit(EXPERIMENT)
    on_donau.lab.until_over()
    planned = on_donau.run("first")
    assert planned.status in (Status.ELIGIBLE, Status.FAILED)
    assert planned.failure is not None
    assert on_donau.executions() == {}


@pytest.mark.parametrize("queued", [True, False])
def test_cancelled_runs_end_and_come_back(on_donau: DonauProject, queued: bool) -> None:
    on_donau.lab.set(closed=queued)
    on_donau.tasks({"first": task()}, work=WAIT)
    on_donau.open().submit(EXPERIMENT)
    if not queued:
        until(on_donau.trace.exists)
    result = on_donau.cli("cancel", EXPERIMENT, "--yes")
    assert result.code == 0, result
    planned = on_donau.run("first")
    assert (planned.status, planned.failure and planned.failure.value) == (Status.FAILED, "cancelled")
    on_donau.lab.set(closed=False)
    on_donau.trace.unlink(missing_ok=True)
    on_donau.trace.with_name("trace.go").touch()
    assert on_donau.cli("retry", EXPERIMENT).code == 0
    on_donau.submit_all()
    once_each(on_donau)


def test_a_suspended_run_is_not_over(on_donau: DonauProject) -> None:
    on_donau.tasks({"first": task()}, work=WAIT)
    job = on_donau.open().submit(EXPERIMENT).submitted["first"]
    until(on_donau.trace.exists)
    on_donau.lab.suspend(job)
    assert on_donau.run("first").state is JobState.STOPPED
    on_donau.trace.with_name("trace.go").touch()
    on_donau.lab.resume(job)
    on_donau.until_over()
    once_each(on_donau)


def test_a_job_that_djob_loses_for_ever_waits_for_its_user(on_donau: DonauProject) -> None:
    """That djob does not know a job says nothing: it is not given up by itself, however long that lasts."""
    on_donau.tasks({"first": task()})
    on_donau.lab.set(closed=True)
    lost = on_donau.open().submit(EXPERIMENT).submitted["first"]
    on_donau.site(submit_timeout="0s")  # any patience is over at once
    on_donau.lab.fault("djob", "lose", times=999)
    for _ in range(3):
        planned = on_donau.run("first")
        assert (planned.status, planned.state) == (Status.ACTIVE, JobState.UNKNOWN)
        assert "djob does not show it; if that lasts, `ddqjobs cancel` gives it up" in planned.reason
    assert not any(isinstance(r, Voided) for r in on_donau.records())
    on_donau.site()
    assert on_donau.open().submit(EXPERIMENT).submitted == {}
    on_donau.lab.fault("cancel", "ignore")
    assert on_donau.cli("cancel", EXPERIMENT, "--yes").code == 0
    on_donau.lab.mended()
    assert on_donau.cli("retry", EXPERIMENT).code == 0
    second = on_donau.open().submit(EXPERIMENT).submitted["first"]
    on_donau.lab.set(closed=False)  # and now both of them start
    on_donau.lab.until_over()
    on_donau.until_over()
    once_each(on_donau)
    assert {job: on_donau.lab.jobs()[job]["exit"] for job in (lost, second)} == {lost: 77, second: 0}


def give_again(lab: Lab, job: str, name: str) -> None:
    """Donau lost its state: the number of a job is that of another one, which runs."""
    with lab_state.locked(lab.folder) as state:
        state.jobs[job].update(name=name, state="RUNNING", runner=0)


def test_a_number_that_is_another_s_job_by_now_is_left_alone(on_donau: DonauProject) -> None:
    """Neither believed nor cancelled; ours runs once, under another number."""
    on_donau.lab.set(closed=True)  # nothing starts
    on_donau.site(submit_timeout="1s")
    on_donau.tasks({"first": task(), "second": task()})
    jobs = on_donau.open().submit(EXPERIMENT).submitted
    give_again(on_donau.lab, jobs["first"], "precious")
    first = on_donau.run("first")
    assert (first.status, first.state) == (Status.ACTIVE, JobState.UNKNOWN)
    assert f"number {jobs['first']} is now of another job" in first.reason
    assert on_donau.cli("cancel", EXPERIMENT, "first", "--yes").code == 0
    assert on_donau.lab.jobs()[jobs["first"]]["state"] == "RUNNING"
    assert on_donau.run("second").state is JobState.QUEUED
    assert on_donau.cli("retry", EXPERIMENT).code == 0
    on_donau.lab.set(closed=False)
    on_donau.submit_all()
    once_each(on_donau)
    assert on_donau.lab.jobs()[jobs["first"]]["state"] == "RUNNING"
    on_donau.lab.set(jobs={k: v for k, v in on_donau.lab.jobs().items() if k != jobs["first"]})


def test_a_name_that_may_have_been_cut_tells_nothing(donau: Lab) -> None:
    """The number counts alone if djob shows no more of a name than of any with its token."""
    token, dialect = "20260101-000000-0badcafe", section(donau.generation).dialect
    assert dialect is not None
    names = {"ours": f"e.r.{token}", "foreign": "precious", "cut": f"e.long-name-of-a-run.{token}"[:28]}
    column = dialect.columns.name[0]
    whole = answers.whole_name([{column: name} for name in names.values()], dialect)
    assert {what: answers.marks({column: name}, whole, dialect) for what, name in names.items()} == {
        "ours": (token,), "foreign": ("precious",), "cut": (),
    }  # fmt: skip


def lose_two_runs_on_a_node(project: DonauProject) -> None:
    """``first`` and ``second`` are seen on n1 and fail there as on a broken node; ``third`` comes later."""
    broken = (
        'echo "$DDQJOBS_RUN" >> "$TRACE"; until [ -e "$TRACE.go" ]; do sleep 0.05; done; '
        'echo "CUDA error: uncorrectable ECC error encountered"; exit 1'
    )
    lost = task(command=["sh", "-c", broken])
    project.lab.set(hosts=["n1", "n10"])
    project.tasks(
        {"first": lost, "second": lost, "third": task()}, work='echo "$HOSTNAME" > "$TRACE.third"; ' + WORK
    )
    project.open().submit(EXPERIMENT, Filters(runs=("first", "second")))
    until(lambda: {project.run(name).node for name in ("first", "second")} == {"n1"})
    project.trace.with_name("trace.go").touch()
    project.until_over()
    assert "node: exit 1, CUDA error: uncorrectable ECC" in project.run("first").reason


def test_a_bad_node_is_avoided_only_where_the_site_says_how(on_donau: DonauProject) -> None:
    lose_two_runs_on_a_node(on_donau)
    old = on_donau.lab.generation == "old"
    on_donau.site({"avoid": old})  # of the new one nobody knows how to say it
    messages: list[str] = []
    on_donau.open().submit(EXPERIMENT, Filters(runs=("third",)), say=messages.append)
    what = "is avoided" if old else "is not avoided, for site donau is not told to"
    assert messages[0] == f"warning: node n1 {what}: first, second failed there"
    assert on_donau.until_over()["third"].status is Status.DONE
    assert on_donau.trace.with_name("trace.third").read_text() == ("n10\n" if old else "n1\n")


def test_a_bad_node_is_not_said_to_be_avoided_unless_it_is(on_donau: DonauProject) -> None:
    lose_two_runs_on_a_node(on_donau)
    result = on_donau.cli("submit", EXPERIMENT, "third")
    assert result.code == 0, result
    assert f"node n1 is not avoided, for site {on_donau.name} is not told to" in result.stdout + result.stderr
    assert {job["on"] for job in on_donau.lab.jobs().values()} == {""}


@pytest.mark.parametrize("switch", ["avoid", "dependencies"])
def test_a_switch_without_words_for_it_is_bad_input(on_donau: DonauProject, switch: str) -> None:
    key = {"avoid": "avoid", "dependencies": "dependency"}[switch]
    on_donau.site({switch: True, "dialect": {key: [], "submit": ["dsub", "-s", "{script}"]}})
    result = on_donau.cli("plan", EXPERIMENT, "--site", on_donau.name)
    assert result.code == 2, result
    assert f"where donau.{switch} is on" in result.stderr
    assert f"needs the word {{{key}}}" in result.stderr


def test_what_a_script_said_that_never_began_is_shown(on_donau: DonauProject) -> None:
    on_donau.site(setup=["echo no licence for this; exit 4"])
    on_donau.open().submit(EXPERIMENT)
    on_donau.lab.until_over()
    assert "no licence for this" in on_donau.run("first").reason


# -- kills -----------------------------------------------------------------------------------------------

# (the step after which it dies, how often that was done before, how many tickets the next command voids)
STEPS_OF_SUBMISSION = [
    ("reserved", Claims, "reserve", 1, 0),
    ("folder", submission_round, "write_scripts", 1, 0),
    ("wanted", Ledger, "append", 1, 0),
    ("intent", Ledger, "append", 2, 1),
    ("submitted", DonauScheduler, "submit", 1, 0),
    ("recorded", Ledger, "append", 3, 0),
]


@pytest.mark.parametrize(
    ("owner", "name", "times", "voided"), [s[1:] for s in STEPS_OF_SUBMISSION],
    ids=[s[0] for s in STEPS_OF_SUBMISSION],
)  # fmt: skip
def test_the_next_command_goes_on_wherever_a_submission_died(
    on_donau: DonauProject, owner: Any, name: str, times: int, voided: int
) -> None:
    on_donau.tasks({"first": task()})

    def submit() -> None:
        die_after(owner, name, times)
        on_donau.open().submit(EXPERIMENT)

    assert end_of(fork(submit)) == -signal.SIGKILL
    on_donau.submit_all()
    once_each(on_donau)
    assert sum(len(r.tickets) for r in on_donau.records() if isinstance(r, Voided)) == voided
    assert len(on_donau.lab.jobs()) == 1


def test_two_terminals_submit_each_run_once(on_donau: DonauProject) -> None:
    on_donau.pairs(3)
    pids = [fork(lambda: on_donau.open().submit(EXPERIMENT)) for _ in range(3)]
    assert [end_of(pid) for pid in pids] == [0] * 3
    on_donau.submit_all()
    once_each(on_donau)


def test_killed_at_random_moments_while_answers_go_wrong(on_donau: DonauProject) -> None:
    seed = int(os.environ.get("DDQJOBS_CHAOS_SEED") or random.SystemRandom().randrange(10**9))
    print(f"DDQJOBS_CHAOS_SEED={seed}")
    chance = random.Random(seed)
    on_donau.pairs(3)
    kinds = ["accept-silent", "truncated", "token", "chinese", "late", "refuse", "two"]
    for _ in range(8):
        on_donau.lab.fault("dsub", chance.choice(kinds))
        on_donau.lab.fault("djob", chance.choice(["lag", "lose", "unknown", "partial", "truncated", "token"]))

        def submit() -> None:
            on_donau.open().submit(EXPERIMENT)

        pid = fork(submit)
        time.sleep(chance.uniform(0.0, 0.5))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    on_donau.lab.mended()
    on_donau.submit_all()
    once_each(on_donau)


def test_a_job_that_comes_after_it_was_given_up_does_nothing(donau: Lab, on_donau: DonauProject) -> None:
    """Accepted, never answered, not shown by any list: voided and submitted again; then it starts."""
    on_donau.tasks({"first": task()})
    donau.set(closed=True)
    donau.fault("dsub", "accept-silent")
    donau.fault("djob", "lose", times=2)  # both questions of `find`
    assert list(on_donau.open().submit(EXPERIMENT).unconfirmed) == ["first"]
    assert len(on_donau.open().submit(EXPERIMENT).submitted) == 1, on_donau.records()
    donau.set(closed=False)
    on_donau.until_over()
    donau.until_over()
    assert len(donau.jobs()) == 2
    assert sorted(job["exit"] for job in donau.jobs().values()) == [0, 77]
    once_each(on_donau)
    records = on_donau.records()
    assert sum(isinstance(r, Submitted) for r in records) == 1
