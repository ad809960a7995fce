"""The Slurm site on a real cluster: everything that it does to jobs, and every run executed once."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.base import process
from ddqjobs.planning.filters import Filters
from ddqjobs.project import Project, SubmitOptions, open_project
from ddqjobs.schedulers.base import DependencyGoneError, Element, Submission
from ddqjobs.schedulers.slurm.scheduler import SlurmScheduler
from ddqjobs.spec.model import FailureClass, JobState, Resources, Status
from ddqjobs.store.claims import Claims
from ddqjobs.store.ledger import Finished, Intent, Ledger, Submitted
from ddqjobs.submission import round as submission_round
from ddqjobs.submission import submit as submission
from ddqjobs.submission.workspace import Workspace
from tests.local.test_exactly_once import die_after
from tests.support import nano
from tests.support.paths import ROOT
from tests.support.slurm import Lab, SlurmProject, unwrap, wrap_sbatch
from tests.support.trivial import EXPERIMENT, WORK, end_of, fork, task, until

# A line in the trace, then waits until the test lets it go; stops without a word when it is asked to.
WAIT = (
    'echo "$DDQJOBS_RUN" >> "$TRACE"; '
    'until [ -e "$TRACE.go" ] || [ -e "$DDQJOBS_STOP" ]; do sleep 0.1; done; '
    '[ -e "$TRACE.go" ] || exit 75; echo done > "$DDQJOBS_WORK_DIR/out.txt"'
)
# Two epochs. The first attempt saves one, and then waits to be asked to stop; the next one does the other.
STEPS = (
    'echo "$DDQJOBS_RUN" >> "$TRACE"; '
    'if [ "$DDQJOBS_ATTEMPT" = 1 ]; then echo x > "$DDQJOBS_WORK_DIR/epoch_1.pth"; '
    'until [ -e "$DDQJOBS_STOP" ]; do sleep 0.1; done; exit 75; fi; echo done > "$DDQJOBS_WORK_DIR/out.txt"'
)


def once_each(project: SlurmProject) -> None:
    """Assert the end state: all runs done, each executed once, the ledger readable."""
    plan = project.plan()
    assert {
        planned.run.name: (planned.status.value, planned.reason)
        for planned in plan.runs
        if planned.status is not Status.DONE
    } == {}
    assert project.executions() == Counter(planned.run.name for planned in plan.runs)
    assert project.records()


def test_a_matrix_runs_as_arrays_with_dependencies(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.pairs(4)
    outcome = on_slurm.open().submit(EXPERIMENT)
    assert len(outcome.submitted) == 8
    assert outcome.left == {}
    on_slurm.until_over()
    once_each(on_slurm)
    assert sum(isinstance(r, Submitted) for r in on_slurm.records()) == 2  # two arrays
    until(lambda: Counter(s for _, _, s in lab.accounted(on_slurm.root)) == {"COMPLETED": 8})  # it lags
    assert on_slurm.open().submit(EXPERIMENT).submitted == {}


def test_runs_that_wait_for_a_part_of_an_array_are_one_with_its_indices(
    lab: Lab, on_slurm: SlurmProject
) -> None:
    wait = '[ "$DDQJOBS_RUN" = first.s0 ] || until [ -e "$TRACE.go" ]; do sleep 0.1; done; '
    on_slurm.pairs(4, wait + WORK)
    on_slurm.open().submit(EXPERIMENT, "first.*")
    until(lambda: on_slurm.run("first.s0").status is Status.DONE)
    jobs = on_slurm.open().submit(EXPERIMENT).submitted
    assert {job.partition("_")[2] for run, job in jobs.items() if run != "second.s0"} == {"1", "2", "3"}
    assert len({job.partition("_")[0] for job in jobs.values()}) == 2
    Path(f"{on_slurm.trace}.go").touch()
    on_slurm.until_over()
    once_each(on_slurm)
    record = json.loads((on_slurm.results / "runs/second.s3/attempts/1/run.json").read_text())
    assert record["name"] == "second.s3"


def test_what_depends_on_a_failed_run_is_waiting_and_comes_back(lab: Lab, on_slurm: SlurmProject) -> None:
    work = (
        'echo "$DDQJOBS_RUN" >> "$TRACE"; [ "$DDQJOBS_RUN" != first.s1 ] || [ -e "$TRACE.go" ] || exit 1; '
        'echo done > "$DDQJOBS_WORK_DIR/out.txt"'
    )
    seeds = [0, 1, 2]
    tasks = {"first": task(seeds=seeds), "second": task(seeds=seeds, inputs={"b": "first.out"})}
    on_slurm.tasks(tasks, work=work)
    assert len(on_slurm.open().submit(EXPERIMENT).submitted) == 6
    plan = on_slurm.until_over()
    assert {name: planned.status.value for name, planned in plan.items()} == {
        "first.s0": "done", "first.s1": "failed", "first.s2": "done",
        "second.s0": "done", "second.s1": "waiting", "second.s2": "done",
    }  # fmt: skip
    assert plan["second.s1"].reason == "needs first.s1, which failed (code)"
    (on_slurm.root / "trace.go").touch()
    assert on_slurm.cli("retry").stdout == "eligible again: first.s1\n"
    assert set(on_slurm.open().submit(EXPERIMENT).submitted) == {"first.s1", "second.s1"}
    on_slurm.until_over()
    assert on_slurm.statuses() == {Status.DONE: 6}
    assert on_slurm.executions() == {**dict.fromkeys(plan, 1), "first.s1": 2}


def test_a_job_that_is_requeued_goes_on_in_a_second_attempt(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.tasks({"first": task(), "second": task(inputs={"before": "first.out"})}, work=WAIT)
    job = on_slurm.open().submit(EXPERIMENT).submitted["first"]
    until(lambda: on_slurm.executions()["first"] == 1)
    lab.ask("scontrol", "requeue", job)
    statuses = set()

    def started_again() -> bool:
        planned = on_slurm.run("first")
        statuses.add(planned.status)
        return on_slurm.executions()["first"] == 2

    until(started_again)
    assert statuses == {Status.ACTIVE}
    (on_slurm.root / "trace.go").touch()
    plan = on_slurm.until_over()
    assert {planned.status for planned in plan.values()} == {Status.DONE}
    assert plan["first"].attempts == 2
    assert on_slurm.executions() == {"first": 2, "second": 1}
    assert {job for job, name, _ in lab.accounted(on_slurm.root) if name == "trivial.first"} == {job}


def test_a_node_that_crashes_costs_an_attempt(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.tasks({"first": task()}, work=WAIT)
    job = on_slurm.open().submit(EXPERIMENT).submitted["first"]
    until(lambda: on_slurm.executions()["first"] == 1 and on_slurm.run("first").node)
    lab.kill(on_slurm.run("first").node)
    (on_slurm.root / "trace.go").touch()
    plan = on_slurm.until_over()
    assert plan["first"].status is Status.DONE
    assert plan["first"].attempts == 2
    assert on_slurm.executions() == {"first": 2}
    assert {job for job, _, _ in lab.accounted(on_slurm.root)} == {job}


# Each attempt says that it has begun, and ends when it is let go.
TWICE = (
    'echo "$DDQJOBS_RUN" >> "$TRACE"; until [ -e "$TRACE.go$DDQJOBS_ATTEMPT" ]; do sleep 0.1; done; '
    'echo "attempt $DDQJOBS_ATTEMPT" > "$DDQJOBS_WORK_DIR/out.txt"'
)


def test_of_a_job_that_runs_twice_because_its_node_was_cut_off_only_the_second_counts(
    lab: Lab, on_slurm: SlurmProject
) -> None:
    """Nobody tells Slurm: it finds that the node does not answer, and starts the job elsewhere while it still
    runs there. The first to end is the one that was given up."""
    on_slurm.tasks({"first": task()}, work=TWICE)
    job = on_slurm.open().submit(EXPERIMENT).submitted["first"]
    until(lambda: on_slurm.executions()["first"] == 1 and on_slurm.run("first").node)
    node = on_slurm.run("first").node
    run = on_slurm.results / "runs" / "first"

    def node_is(word: str) -> bool:
        return lab.ask("sinfo", "-h", "-N", "-p", "gpu", "-n", node, "-o", "%T") == f"{word}\n"

    with lab.cut_off(node):
        until(lambda: on_slurm.executions()["first"] == 2)
        assert on_slurm.run("first").node not in ("", node)
        assert node_is("down*")
        (on_slurm.root / "trace.go1").touch()
        until((run / "attempts" / "1" / "exit.json").exists)
    record = json.loads((run / "attempts" / "1" / "exit.json").read_text())
    assert (record["code"], record["note"].partition(":")[0]) == (77, "given up")
    assert not (run / "product.json").exists()
    until(lambda: node_is("idle"))
    assert on_slurm.run("first").state is JobState.RUNNING
    (on_slurm.root / "trace.go2").touch()
    plan = on_slurm.until_over()
    assert (plan["first"].status, plan["first"].attempts) == (Status.DONE, 2)
    assert (run / "artifacts" / "out").read_text() == "attempt 2\n"
    assert {job for job, _, _ in lab.accounted(on_slurm.root)} == {job}


def test_cancel_and_retry(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.tasks({"first": task(), "second": task(inputs={"before": "first.out"})}, work=WAIT)
    on_slurm.open().submit(EXPERIMENT)
    until(lambda: on_slurm.executions()["first"] == 1)
    result = on_slurm.cli("cancel", "--yes")
    assert (result.code, result.stdout) == (0, "cancelling 2 runs\n")
    plan = on_slurm.until_over()
    assert {name: planned.reason for name, planned in plan.items()} == {
        "first": "cancelled by the user",
        "second": "cancelled by the user before it started",
    }
    (on_slurm.root / "trace.go").touch()
    assert on_slurm.cli("retry").code == 0
    assert on_slurm.submit_all()["second"].status is Status.DONE
    assert on_slurm.executions() == {"first": 2, "second": 1}


def test_a_job_that_nears_its_time_limit_is_asked_to_stop_and_requeues_itself(
    lab: Lab, on_slurm: SlurmProject
) -> None:
    on_slurm.site(warning="55s")
    on_slurm.tasks({"first": task(resources={"time": "1m"})}, work=STEPS)
    job = on_slurm.open().submit(EXPERIMENT).submitted["first"]
    plan = on_slurm.until_over()
    assert plan["first"].status is Status.DONE, plan["first"].reason
    assert plan["first"].attempts == 2
    assert on_slurm.executions() == {"first": 2}
    assert {job for job, _, _ in lab.accounted(on_slurm.root)} == {job}


# -- lost answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('"$SBATCH" "$@" > /dev/null; sleep 1000', "gave no answer within 4 s"),
        ('"$SBATCH" "$@" > /dev/null; echo "Welcome!"', "said 'Welcome!' instead of a job id"),
        ('"$SBATCH" "$@" > /dev/null', "said '' instead of a job id"),
        (
            '"$SBATCH" "$@" > /dev/null; echo "sbatch: error: Batch job submission failed: '
            'Socket timed out on send/recv operation" >&2; exit 1',
            "ended with code 1: sbatch: error: Batch job submission failed: Socket timed out",
        ),
        ('"$SBATCH" "$@" > /dev/null; kill -9 $$', "ended with code -9"),
        ('"$SBATCH" "$@"; echo "sbatch: error: Invalid key" >&2; exit 1', "code 1: sbatch: error: Invalid"),
        ("sleep 1000", "gave no answer within 4 s"),
        ("echo", "said '' instead of a job id"),
    ],
    ids=["hangs", "garbage", "silent", "time-out", "killed", "fails after", "hangs before", "garbage before"],
)  # fmt: skip
def test_an_sbatch_whose_answer_is_lost(
    lab: Lab, on_slurm: SlurmProject, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    on_slurm.site(submit_timeout="4s")
    wrap_sbatch(on_slurm, monkeypatch, script)
    result = on_slurm.cli("submit")
    assert result.code == 3
    assert [message in line for line in result.stderr.splitlines()] == [True]
    unwrap(on_slurm)
    on_slurm.submit_all()
    once_each(on_slurm)
    until(lambda: len(lab.accounted(on_slurm.root)) == 2)


def test_an_sbatch_that_arrives_after_its_ticket_was_voided_starts_nothing(
    lab: Lab, on_slurm: SlurmProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is killed, its sbatch lives on and comes through minutes later."""
    late = 'touch "$ROOT/sent"; until [ -e "$ROOT/go" ]; do sleep 0.1; done; "$SBATCH" "$@"'
    wrap_sbatch(on_slurm, monkeypatch, late)
    with on_slurm.started("submit") as command:
        until((on_slurm.root / "sent").exists)
        command.kill()
    unwrap(on_slurm)
    assert len(on_slurm.open().submit(EXPERIMENT).submitted) == 2
    (on_slurm.root / "go").touch()
    until(lambda: len(lab.accounted(on_slurm.root)) == 3)
    on_slurm.until_over()
    until(lambda: Counter(s for _, _, s in lab.accounted(on_slurm.root)) == {"COMPLETED": 2, "FAILED": 1})
    once_each(on_slurm)


# (the step after which it dies, how often that was done before)
STEPS_OF_SUBMIT: list[tuple[str, Any, str, int]] = [
    ("planned", Workspace, "plan", 1),
    ("snapshot", submission, "snapshot", 1),
    ("reserved", Claims, "reserve", 1),
    ("folder", submission_round, "write_scripts", 1),
    ("intent", Ledger, "append", 1),
    ("accepted", process, "run", 1),
    ("submitted", SlurmScheduler, "submit", 1),
    ("recorded", Ledger, "append", 2),
    ("second reserved", Claims, "reserve", 3),
    ("second intent", Ledger, "append", 3),
    ("second accepted", process, "run", 2),
    ("second submitted", SlurmScheduler, "submit", 2),
    ("second recorded", Ledger, "append", 4),
]


def test_the_next_command_goes_on_wherever_a_submission_was_killed(lab: Lab, tmp_path: Path) -> None:
    projects = {}
    for step, owner, name, times in STEPS_OF_SUBMIT:
        project = projects[step] = SlurmProject(tmp_path / step.replace(" ", "-"))
        project.pairs(2)

        def submit(project: Any = project, owner: Any = owner, name: str = name, times: int = times) -> None:
            die_after(owner, name, times)
            project.open().submit(EXPERIMENT)

        assert end_of(fork(submit)) == -signal.SIGKILL, step
        project.open().submit(EXPERIMENT)
    for project in projects.values():
        project.submit_all()
        once_each(project)
        until(lambda project=project: len(lab.accounted(project.root)) == 4)  # type: ignore[misc]


# -- daemons that are down -------------------------------------------------------------------------------


STRIKES_BEFORE_THE_SECOND = """
mkdir "$ROOT/first" 2> /dev/null && exec "$SBATCH" "$@"
until [ "$(sort -u "$ROOT/trace" | wc -l)" = 2 ]; do sleep 0.1; done
scancel "$("$SBATCH" --parsable --hold -D / -o /dev/null --wrap true)"  # so that there is something to write
until [ "$STATE" -nt "$ROOT/trace" ]; do sleep 0.1; done
kill -"$SIGNAL" "$PID"
until grep -q "State:.Z" "/proc/$PID/status" || ! kill -0 "$PID"; do sleep 0.1; done 2> /dev/null
exec "$SBATCH" "$@"
"""


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGTERM, id="stopped", marks=pytest.mark.long),
        pytest.param(signal.SIGKILL, id="crashed"),
    ],
)
def test_a_controller_that_goes_down_in_the_middle_of_a_submission(
    lab: Lab, on_slurm: SlurmProject, monkeypatch: pytest.MonkeyPatch, how: int
) -> None:
    """Between the first and the second of four `sbatch`. Two runs are under way then, and the controller has
    written that down (what it has not, a crash takes away: docs/reference/slurm.md); one ends meanwhile.

    ``DDQJOBS_DOWN_S=60 pytest -s tests/slurm/test_site.py -k middle`` keeps it down for a minute.
    """
    on_slurm.site(limits={"array_size": 2})
    on_slurm.pairs(4, WAIT.replace("[ -e", '[ -e "$TRACE.$DDQJOBS_RUN" ] || [ -e'))
    pid = (lab.folder / "pid" / "slurmctld").read_text().strip()
    values = f"PID={pid} SIGNAL={int(how)} STATE={lab.folder}/state/job_state\n"
    wrap_sbatch(on_slurm, monkeypatch, values + STRIKES_BEFORE_THE_SECOND)
    results = [on_slurm.cli("submit")]
    unwrap(on_slurm)
    down_since = time.monotonic()
    (on_slurm.root / "trace.first.s0").touch()
    until((on_slurm.results / "runs" / "first.s0" / "product.json").exists)
    results += [
        on_slurm.cli(*arguments) for arguments in (["cancel", "first.s1", "--yes"], ["submit"], ["status"])
    ]
    while time.monotonic() - down_since < float(os.environ.get("DDQJOBS_DOWN_S", "0")):
        results.append(on_slurm.cli("status"))
    assert lab.up().code == 0
    print(f"down for {time.monotonic() - down_since:.0f} s")
    for done in results:
        print(" ".join(done.argv[3:]), done.code, done.stdout, done.stderr, sep="\n")
        assert done.code == 3, done
        assert len(done.stderr.splitlines()) == 1, done
        assert "Unable to contact slurm controller" in done.stderr
    (on_slurm.root / "trace.go").touch()
    assert on_slurm.cli("submit", "--wait").code == 0
    once_each(on_slurm)
    until(lambda: Counter(row[1:] for row in lab.accounted(on_slurm.root)) == {
        ("trivial.first", "COMPLETED"): 4, ("trivial.second", "COMPLETED"): 4
    })  # fmt: skip


def test_without_accounting_the_queue_and_the_evidence_suffice(lab: Lab, on_slurm: SlurmProject) -> None:
    lab.kill("slurmdbd")
    on_slurm.pairs(2)
    assert len(on_slurm.open().submit(EXPERIMENT).submitted) == 4
    on_slurm.until_over()
    once_each(on_slurm)
    assert lab.up().code == 0
    until(lambda: Counter(s for _, _, s in lab.accounted(on_slurm.root)) == {"COMPLETED": 4})


# -- limits ----------------------------------------------------------------------------------------------


def test_no_more_jobs_than_the_site_allows_are_in_its_queue(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.site(limits={"jobs_in_queue": 4, "array_size": 3})
    on_slurm.tasks({"first": task(seeds=list(range(6)))}, work=WAIT)
    outcome = on_slurm.open().submit(EXPERIMENT)
    assert set(outcome.submitted) == {f"first.s{n}" for n in range(4)}
    assert outcome.left == dict.fromkeys(("first.s4", "first.s5"), "eligible: site limit 4 jobs in queue")
    assert on_slurm.run("first.s5").status is Status.ELIGIBLE
    assert on_slurm.run("first.s5").reason == "site limit 4 jobs in queue"
    assert on_slurm.open().submit(EXPERIMENT).submitted == {}
    (on_slurm.root / "trace.go").touch()
    assert on_slurm.cli("submit", "--wait").code == 0
    once_each(on_slurm)


@pytest.fixture
def limited(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Accounting lets each user have four jobs, queued or running."""

    def restart() -> None:
        lab.kill("slurmctld", signal.SIGTERM)
        assert lab.up().code == 0

    monkeypatch.setenv("ENFORCE", "associations,limits")
    restart()
    lab.ask("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=4")
    yield
    lab.ask("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=-1")
    monkeypatch.delenv("ENFORCE")
    restart()


@pytest.mark.usefixtures("limited")
def test_a_limit_of_the_accounting_is_a_full_queue_that_is_fed_on(on_slurm: SlurmProject) -> None:
    on_slurm.tasks({"first": task(seeds=list(range(10)))}, work=WAIT)
    outcome = on_slurm.open().submit(EXPERIMENT)
    assert len(outcome.submitted) == 4
    assert {why for run, why in outcome.left.items()} == {
        "site slurm: it takes no more jobs for now (AssocMaxSubmitJobLimit)"
    }
    (on_slurm.root / "trace.go").touch()
    done = on_slurm.cli("submit", "--wait")
    assert done.code == 0, done
    assert "refused" not in done.stderr
    once_each(on_slurm)


def test_what_slurm_refuses_for_good_is_submitted_once(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.tasks({"good": task(), "bad": task(resources={"memory": "900TB"})})
    done = on_slurm.cli("submit", "--wait")
    assert done.code == 1, done
    assert on_slurm.run("good").status is Status.DONE
    assert re.match(
        r"warning: bad: .* 900 TB, .* \(bad\): it would never be taken: .*configuration is not ", done.stdout
    )
    first, last = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert re.search("error: bad: .* was refused: .*configuration is not available", first)
    assert last == "error: not done: 1 of 2 runs"
    assert len([*(on_slurm.results / "submissions").iterdir()]) == 2
    planned = on_slurm.cli("plan")  # asks nobody
    assert re.search(r"jobs that can be taken: 1 of 1: bad\n +-> .*configuration is not .*", planned.stdout)
    on_slurm.tasks({"good": task(), "bad": task()})
    assert "can be taken" not in on_slurm.cli("plan").stdout


def test_other_jobs_fill_the_queue_and_are_waited_for(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.site(limits={"jobs_in_queue": 1})
    on_slurm.tasks({"first": task()})
    other = lab.ask("sbatch", "--parsable", "--hold", "-o", "/dev/null", "--wrap", "true").strip()
    with on_slurm.started("submit", "--wait") as command:
        until(lambda: "first: waiting for other jobs of yours to end: site limit 1 jobs" in on_slurm.output)
        lab.ask("scancel", other)
        assert command.wait(60) == 0, on_slurm.output
    once_each(on_slurm)


def test_what_feeds_a_full_queue_may_be_killed_and_started_twice(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.site(limits={"jobs_in_queue": 3})
    on_slurm.tasks({"first": task(seeds=list(range(12)))}, work=WAIT)
    in_queue: list[int] = []

    def submitted() -> int:
        in_queue.append(len(lab.ask("squeue", "-h", "-r", "-t", "PD,R").split("\n")) - 1)
        return sum(len(r.jobs) for r in on_slurm.records() if isinstance(r, Submitted))

    with on_slurm.started("submit", "--follow") as command:
        until(lambda: on_slurm.executions().total() == 3)
        assert submitted() == 3
        (on_slurm.root / "trace.go").touch()
        until(lambda: submitted() > 5)
        assert max(in_queue) == 3
        command.kill()
    with on_slurm.started("submit", "--follow") as one, on_slurm.started("submit", "--follow") as other:
        until(lambda: submitted() == 12)
        assert (one.wait(120), other.wait(120)) == (0, 0), on_slurm.output
    once_each(on_slurm)
    jobs = [job for r in on_slurm.records() if isinstance(r, Submitted) for job in r.jobs.values()]
    assert len(set(jobs)) == 12
    # Names differ: of the run where it was submitted alone, else of the task; as places became free.
    until(
        lambda: (
            sorted((job, state) for job, _, state in lab.accounted(on_slurm.root))
            == sorted((job, "COMPLETED") for job in jobs)
        )
    )


def test_a_preempted_job_starts_again_by_itself(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.site({"partition": "spot"})
    on_slurm.tasks({"first": task()}, work=WAIT)
    job = on_slurm.open().submit(EXPERIMENT).submitted["first"]
    until(lambda: on_slurm.executions()["first"] == 1)
    options = ["--parsable", "-p", "gpu", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 60"]
    other = lab.ask("sbatch", *options)
    until(lambda: on_slurm.run("first").state is JobState.QUEUED)
    assert on_slurm.open().submit(EXPERIMENT).submitted == {}
    lab.ask("scancel", other.strip())
    until(lambda: on_slurm.executions()["first"] == 2)
    (on_slurm.root / "trace.go").touch()
    plan = on_slurm.until_over()
    assert (plan["first"].status, plan["first"].attempts) == (Status.DONE, 2)
    assert {job for job, _, _ in lab.accounted(on_slurm.root)} == {job}


# Of ``first`` alone, as STEPS: one epoch, then it waits to be asked to stop; the next attempt does the other.
INTERRUPTED = f'if [ "$DDQJOBS_RUN" = second ]; then {WORK}; else {STEPS}; fi'


def test_a_job_that_preemption_cancels_is_submitted_again(lab: Lab, on_slurm: SlurmProject) -> None:
    """PreemptMode=CANCEL: the job and what depends on it are gone, whatever `--requeue` says."""
    lab.ask("scontrol", "update", "PartitionName=spot", "PreemptMode=CANCEL")
    try:
        on_slurm.site({"partition": "spot"})
        tasks = {"first": task(), "second": task(inputs={"b": "first.out"})}
        on_slurm.tasks(tasks, work=INTERRUPTED)
        with on_slurm.started("submit", "--wait") as command:
            until(lambda: on_slurm.executions()["first"] == 1)
            flags = ["--parsable", "-p", "gpu", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 60"]
            other = lab.ask("sbatch", *flags).strip()
            until(lambda: sum(isinstance(r, Submitted) for r in on_slurm.records()) == 4)
            lab.ask("scancel", other)
            assert command.wait(60) == 0
    finally:
        lab.ask("scontrol", "update", "PartitionName=spot", "PreemptMode=REQUEUE")
    assert on_slurm.executions() == {"first": 2, "second": 1}
    record = json.loads((on_slurm.results / "runs" / "first" / "attempts" / "1" / "exit.json").read_text())
    assert (record["failure"], record["note"], record["again"]) == ("preempted", "stopped by TERM", True)
    failures = [(r.run, r.failure) for r in on_slurm.records() if isinstance(r, Finished) and r.failure]
    assert ("first", FailureClass.PREEMPTED) in failures
    until(lambda: ("trivial.first", "PREEMPTED") in [row[1:] for row in lab.accounted(on_slurm.root)])


def test_a_job_that_may_not_be_requeued_leaves_word_and_is_submitted_again(
    lab: Lab, on_slurm: SlurmProject
) -> None:
    on_slurm.site({"extra": ["--no-requeue"]}, warning="55s")
    on_slurm.tasks({"first": task(resources={"time": "1m"})}, work=STEPS)
    job = on_slurm.open().submit(EXPERIMENT).submitted["first"]
    first = on_slurm.until_over()["first"]
    assert (first.status, first.failure) == (Status.ELIGIBLE, FailureClass.TIMEOUT)
    assert first.reason == "retry 1 of 10 after timeout: stopped; could not be requeued"
    plan = on_slurm.submit_all()
    assert (plan["first"].status, plan["first"].attempts) == (Status.DONE, 2)
    assert on_slurm.executions() == {"first": 2}
    assert job in {j for j, _, _ in lab.accounted(on_slurm.root)}
    until(lambda: len(lab.accounted(on_slurm.root)) == 2)


def test_held_jobs_wait_until_they_are_released(lab: Lab, on_slurm: SlurmProject) -> None:
    """A part of an array is; what runs, runs on."""
    on_slurm.tasks({"run": task(), "wait": task(seeds=[1, 2, 3], inputs={"b": "run.out"})}, work=WAIT)
    jobs = on_slurm.open().submit(EXPERIMENT).submitted
    until(lambda: on_slurm.executions()["run"] == 1)
    result = on_slurm.cli("hold", "run", "wait.s1", "wait.s2", "--json")
    assert result.code == 0, result
    answer = json.loads(result.stdout)
    assert answer["held"] == ["wait.s1", "wait.s2"]
    assert list(answer["left"]) == ["run"]
    (on_slurm.root / "trace.go").touch()
    until(lambda: on_slurm.run("wait.s3").status is Status.DONE)
    plan = {planned.run.name: planned for planned in on_slurm.plan().runs}
    assert {n: plan[n].state for n in ("wait.s1", "wait.s2")} == dict.fromkeys(
        ("wait.s1", "wait.s2"), JobState.HELD
    )
    assert "`ddqjobs release` lets it start" in plan["wait.s1"].reason
    assert on_slurm.executions() == {"run": 1, "wait.s3": 1}
    reasons = lab.ask("squeue", "-h", "-r", "-t", "PD", "-o", "%i %r").splitlines()
    assert sorted(reasons) == sorted(f"{jobs[n]} JobHeldUser" for n in ("wait.s1", "wait.s2"))
    assert json.loads(on_slurm.cli("release", "wait.s2", "--json").stdout)["released"] == ["wait.s2"]
    until(lambda: on_slurm.run("wait.s2").status is Status.DONE)
    assert on_slurm.run("wait.s1").state is JobState.HELD
    assert on_slurm.cli("release").stdout == "released 1 run\n"
    on_slurm.until_over()
    once_each(on_slurm)


# What a task does to fail (after its line in the trace), its class, and what its reason says.
FAILS: dict[str, tuple[str, FailureClass, str]] = {
    "gpu-memory": (
        "echo 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.' >&2; exit 1",
        FailureClass.OUT_OF_MEMORY,
        "GPU memory (exit 1), torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.",
    ),
    "host-memory": (
        f"{sys.executable} -c 'print(len(b\"x\" * (1 << 30)))'",
        FailureClass.OUT_OF_MEMORY,
        "Slurm says OUT_OF_MEMORY, give its task more `memory` in `resources`",
    ),
    "module": (
        f"{sys.executable} -c 'import no_such_module'",
        FailureClass.ENVIRONMENT,
        "exit 1, ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "file": ("cat /no/such/file", FailureClass.DATA, "exit 1, cat: /no/such/file: No such file or directory"),
    "nan": (
        f"{sys.executable} -c 'raise FloatingPointError(\"loss is NaN\")'",
        FailureClass.DIVERGED,
        "exit 1, FloatingPointError: loss is NaN",
    ),
    "wrong": ("echo no idea; exit 3", FailureClass.CODE, "exit 3, no idea"),
    "nothing": (
        "exit 0",
        FailureClass.NO_PRODUCT,
        "it exited 0 without its product, nothing matches 'out.txt' of out",
    ),
    "stuck": (
        "exec sleep 600",
        FailureClass.HANG,
        "no new log line and no progress for 3 s; all 2 retries are used up",
    ),
    "stuck-once": (
        'if [ "$DDQJOBS_ATTEMPT" = 1 ]; then exec sleep 600; fi; echo done > "$DDQJOBS_WORK_DIR/out.txt"',
        FailureClass.HANG,
        "",
    ),
}


def test_every_failure_ends_in_its_class_and_is_retried_as_often_as_that_allows(
    lab: Lab, on_slurm: SlurmProject
) -> None:
    on_slurm.site(hang="3s")
    limited = "task/cgroup" in lab.configuration.read_text()  # else no node of the lab knows of memory
    fails = {name: what for name, what in FAILS.items() if limited or name != "host-memory"}
    tasks = {
        name: task(
            command=["sh", "-c", f'echo "$DDQJOBS_RUN" >> "$TRACE"; {work}'], resources={"memory": "300MB"}
        )
        for name, (work, _, _) in fails.items()
    }
    on_slurm.tasks(tasks)
    assert on_slurm.cli("submit", "--wait").code == 1
    plan = {planned.run.name: planned for planned in on_slurm.plan().runs}
    failed = {name: what for name, what in fails.items() if name != "stuck-once"}
    assert {name: planned.failure for name, planned in plan.items()} == {
        **{name: failure for name, (_, failure, _) in failed.items()},
        "stuck-once": None,
    }
    assert {name: plan[name].reason for name in failed} == {
        name: f"{failure.value}: {reason}" for name, (_, failure, reason) in failed.items()
    }
    assert plan["stuck-once"].status is Status.DONE
    assert on_slurm.executions() == {**dict.fromkeys(fails, 1), "stuck": 3, "stuck-once": 2}
    hung = [r.run for r in on_slurm.records() if isinstance(r, Finished) and r.failure is FailureClass.HANG]
    assert Counter(hung) == {"stuck": 3, "stuck-once": 1}


# What a site brings along and how it fails: the reason that is told.
SET_UPS: dict[str, tuple[dict[str, object], str]] = {
    "line": (
        {"setup": ["true", "source /nowhere/x.sh"]},
        "setup line 2 of this site ended with code 1, source /nowhere/x.sh",
    ),
    "exit": (
        {"setup": ["echo no licence; exit 4"]},
        "a setup line of the site ended the job, and it said last no licence",
    ),
    "module": (
        {"setup": ["module() { return 1; }"], "modules": ["cuda/99"]},
        "module load cuda/99 failed",
    ),
}


def test_what_a_site_brings_along_and_fails_is_the_environment_and_not_tried_again(
    lab: Lab, tmp_path: Path
) -> None:
    projects = {name: SlurmProject(tmp_path / name) for name in SET_UPS}
    for name, project in projects.items():
        project.site(None, **SET_UPS[name][0])
        project.tasks({"run": task()})
        assert project.cli("submit").code == 0
    for project in projects.values():
        project.until_over()
    ended = {name: project.run("run") for name, project in projects.items()}
    assert {name: (run.failure, run.reason) for name, run in ended.items()} == {
        name: (FailureClass.ENVIRONMENT, f"environment: {reason}") for name, (_, reason) in SET_UPS.items()
    }
    for project in projects.values():
        assert len([*(project.results / "submissions").iterdir()]) == 1
        assert not project.executions()
        project.close()


# -- real trainings --------------------------------------------------------------------------------------


def a_project(root: Path, name: str, experiment: str) -> Project:
    """A project with one experiment, for real trainings on the cluster."""
    (root / "experiments").mkdir(parents=True)
    (root / "experiments" / f"{name}.yaml").write_text(experiment)
    site = {"base": "slurm", "environments": str(ROOT / ".environments"), "grace": "2s"}
    (root / "templates" / "slurm").mkdir(parents=True)
    (root / "templates" / "slurm" / "site.yaml").write_text(json.dumps(site))
    return open_project(root)


def test_real_trainings_on_slurm_equal_those_on_the_local_site(
    lab: Lab, undisturbed: Project, tmp_path: Path
) -> None:
    """All of nano, with a training that is requeued in its second epoch: the same AP and the same losses."""
    project = a_project(
        tmp_path / "project", nano.EXPERIMENT, f"base: {nano.BASE}\nname: {nano.EXPERIMENT}\n"
    )
    jobs = project.submit(nano.EXPERIMENT).submitted
    assert len(jobs) == 15
    run_dir = project.workspace(nano.EXPERIMENT).store.run_dir("p4-train.ddq-detr-r18")
    until((run_dir / "attempts" / "1" / "work_dir" / "epoch_1.pth").exists)
    lab.ask("scontrol", "requeue", jobs["p4-train.ddq-detr-r18"])
    plan = project.wait(nano.EXPERIMENT, Filters(), SubmitOptions())
    assert {
        planned.run.name: planned.reason for planned in plan.runs if planned.status is not Status.DONE
    } == {}
    assert [planned.attempts for planned in plan.runs if planned.run.name == "p4-train.ddq-detr-r18"] == [2]
    on_slurm, local = (
        training_project.products(nano.EXPERIMENT) for training_project in (project, undisturbed)
    )
    assert {name: product.metrics for name, product in on_slurm.items()} == {
        name: product.metrics for name, product in local.items()
    }
    for run in ("release.s2023", "p3-train.ddq-detr-r18", "p4-train.ddq-detr-r18"):
        curve = nano.losses(project, run)
        assert curve
        assert curve == nano.losses(undisturbed, run)


def test_jobs_that_the_controller_has_forgotten_are_found_in_accounting(
    lab: Lab, on_slurm: SlurmProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing may depend on them: Slurm would take them for jobs that ended well (trap 1)."""
    monkeypatch.setenv("MIN_JOB_AGE", "2")
    lab.kill("slurmctld", signal.SIGTERM)
    assert lab.up().code == 0
    work = '[ "$DDQJOBS_RUN" != first.s1 ] || exit 1; ' + WORK
    on_slurm.tasks({"first": task(seeds=[0, 1, 2])}, work=work)
    jobs = on_slurm.open().submit(EXPERIMENT).submitted
    until(lambda: not lab.ask("squeue", "--noheader", "--states=all"))
    scheduler = SlurmScheduler("lab")
    observations = scheduler.query([*jobs.values(), "99999", "nonsense"])
    assert [observations[job].detail for job in jobs.values()] == [
        "Slurm says COMPLETED",
        "Slurm says FAILED, exit 1",
        "Slurm says COMPLETED",
    ]
    assert observations["99999"].state is observations["nonsense"].state is JobState.UNKNOWN
    token = next(r.token for r in on_slurm.records() if isinstance(r, Submitted))
    until(lambda: scheduler.find(token) == dict(enumerate(jobs.values())))
    assert scheduler.find(token[:-1]) is None
    waits = Element(index=0, run="r", after=(jobs["first.s1"],))
    waiting_submission = Submission(
        token="t", name="n", folder=str(on_slurm.root), resources=Resources(), elements=(waits,)
    )
    with pytest.raises(DependencyGoneError, match="has left the queue"):
        scheduler.submit(waiting_submission)
    assert {name: planned.status.value for name, planned in on_slurm.until_over().items()} == {
        "first.s0": "done",
        "first.s1": "failed",
        "first.s2": "done",
    }
    monkeypatch.delenv("MIN_JOB_AGE")
    lab.kill("slurmctld", signal.SIGTERM)
    assert lab.up().code == 0  # with the usual configuration


def test_a_submission_is_found_by_its_name_where_accounting_keeps_no_comments(
    lab: Lab, on_slurm: SlurmProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command dies before it hears of its jobs, and they leave the queue before anybody asks."""
    monkeypatch.setenv("MIN_JOB_AGE", "2")
    monkeypatch.setenv("STORE_FLAGS", "job_script")
    lab.kill("slurmctld", signal.SIGTERM)
    assert lab.up().code == 0
    on_slurm.tasks({"first": task(seeds=[0, 1])})

    def submit() -> None:
        die_after(SlurmScheduler, "submit", 1)
        on_slurm.open().submit(EXPERIMENT)

    assert end_of(fork(submit)) == -signal.SIGKILL
    until(lambda: lab.accounted(on_slurm.root) and not lab.ask("squeue", "--noheader", "--states=all"))
    jobs = [job for job, name, _ in lab.accounted(on_slurm.root) if name == "trivial.first"]
    command = ["sacct", "-X", "-P", "-n", f"--jobs={','.join(jobs)}", "--format=Comment,JobName"]
    token = next(r.token for r in on_slurm.records() if isinstance(r, Intent))
    assert lab.ask(*command).splitlines() == [f"|trivial.first.{token}"] * 2
    assert SlurmScheduler("lab").find(token) == dict(enumerate(jobs))
    assert on_slurm.open().submit(EXPERIMENT).submitted == {}
    once_each(on_slurm)
    assert [r.jobs for r in on_slurm.records() if isinstance(r, Submitted)] == [
        {str(i): job for i, job in enumerate(jobs)}
    ]
    monkeypatch.delenv("MIN_JOB_AGE")
    monkeypatch.delenv("STORE_FLAGS")
    lab.kill("slurmctld", signal.SIGTERM)
    assert lab.up().code == 0  # with the usual configuration


def test_a_node_where_two_runs_were_lost_is_avoided(lab: Lab, on_slurm: SlurmProject) -> None:
    bad = lab.node(1)
    broken = 'echo "CUDA error: uncorrectable ECC error encountered"; exit 1'
    lost = task(command=["bash", "-c", broken])
    on_slurm.tasks({"first": lost, "second": lost, "third": task()})
    on_slurm.site({"nodelist": bad})
    on_slurm.open().submit(EXPERIMENT, Filters(runs=("first", "second")))
    until(lambda: on_slurm.statuses()[Status.ACTIVE] == 0)
    assert "node: exit 1, CUDA error: uncorrectable ECC" in on_slurm.run("first").reason
    on_slurm.site()
    messages: list[str] = []
    on_slurm.open().submit(EXPERIMENT, Filters(runs=("third",)), say=messages.append)
    assert messages[0] == f"warning: node {bad} is avoided: first, second failed there"
    assert on_slurm.until_over()["third"].status is Status.DONE
    assert on_slurm.run("third").node not in ("", bad)


NANO_DATA = """  data:
    command: ["{python}", -m, ddqjobs.detect.prepare, dataset, --out, "{work_dir}/data", --images-train, "32",
              --images-val, "4", --size, 96x64, --classes, "3", --seed, "1"]
"""
PROCESSES = (
    f"""
name: processes
base: {nano.BASE}
codes:
  mmdet-3.3: {{launcher: torchrun}}
tasks:
{NANO_DATA if nano.BASE == "nano" else ""}"""
    + """
  together:
    kind: train
    implementation: new
    command: ["{python}", -m, ddqjobs.detect.train, "{config}", --work-dir, "{work_dir}", "{options}"]
    inputs: {init: initial.init, data: data.data}
    resources: {nodes: 1, gpus: 4}
  apart:
    kind: train
    implementation: new
    command: ["{python}", -m, ddqjobs.detect.train, "{config}", --work-dir, "{work_dir}", "{options}"]
    inputs: {init: initial.init, data: data.data}
    resources: {nodes: 2, gpus: 2}
"""
)


DIVERGES = """
name: diverges
base: nano
tasks:
  p4-train: {options: {optim_wrapper.optimizer.lr: 1.0e+30, optim_wrapper.clip_grad: null}}
"""


def test_a_training_whose_loss_is_no_number_ends_as_diverged_and_is_not_retried(
    lab: Lab, tmp_path: Path
) -> None:
    project = a_project(tmp_path / "project", "diverges", DIVERGES)
    plan = project.wait("diverges", Filters(tasks=("p4-train",)), SubmitOptions(upstream=True))
    (run,) = (planned for planned in plan.runs if planned.run.task == "p4-train")
    assert (run.status, run.failure, run.submissions) == (Status.FAILED, FailureClass.DIVERGED, 1), run.reason
    # The matching of queries and objects is the first to notice, before there is a loss.
    assert run.reason == "diverged: exit 1, ValueError: matrix contains invalid numeric entries"


def test_two_nodes_with_two_processes_train_as_one_node_with_four(lab: Lab, tmp_path: Path) -> None:
    project = a_project(tmp_path / "project", "processes", PROCESSES)
    named = Filters(tasks=("together", "apart"))
    plan = project.wait("processes", named, SubmitOptions(upstream=True))
    assert {
        planned.run.name: planned.reason for planned in plan.runs if planned.status is not Status.DONE
    } == {}
    nodes = {planned.run.task: planned.node for planned in plan.runs}
    assert len(lab.ask("scontrol", "show", "hostnames", nodes["apart"]).split()) == 2
    assert len(lab.ask("scontrol", "show", "hostnames", nodes["together"]).split()) == 1
    run = "apart.ddq-detr-r18"
    curve = nano.losses(project, run, "processes")
    # 32 images, 4 processes with 2 images each, 2 epochs; or 64, 4 with 4 each, 14 epochs.
    assert len(curve) == (8 if nano.BASE == "nano" else 56)
    assert curve == nano.losses(project, "together.ddq-detr-r18", "processes")
    apart, together = (
        project.products("processes")[f"{name}.ddq-detr-r18"] for name in ("apart", "together")
    )
    assert apart.metrics == together.metrics
    print(curve[0], curve[-1], apart.metrics, *(product.report for product in (apart, together)))
    log = project.log(project.plan("processes"), run).read_text()
    assert "GPU number: 4" in log  # mmengine's word for processes


def test_a_job_whose_output_slurm_cannot_open_is_no_fault_of_the_node(
    lab: Lab, on_slurm: SlurmProject
) -> None:
    """slurmstepd opens it before the script begins, which then says nothing."""
    on_slurm.tasks({"first": task()})
    lab.ask("scontrol", "update", "partitionname=gpu", "state=down")
    on_slurm.open().submit(EXPERIMENT)
    (out,) = (on_slurm.results / "submissions").glob("*/out")
    out.rmdir()
    out.symlink_to("/proc/self/nothing")  # where nobody can make a file
    lab.ask("scontrol", "update", "partitionname=gpu", "state=up")
    first = on_slurm.until_over()["first"]
    assert first.failure is FailureClass.STORAGE, first.reason
    assert "its output folder was not there on the node, or could not be written" in first.reason
    assert on_slurm.submit_all()["first"].status is Status.DONE
