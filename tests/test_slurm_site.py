"""The Slurm site on a real cluster: everything that it does to jobs, and every run executed once."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from slurm_support import Lab, SlurmProject
from support import EXPERIMENT, WORK, end_of, fork, task, until
from test_exactly_once import die_after

from ddqjobs import process, submission
from ddqjobs.claims import Claims
from ddqjobs.filters import Filters
from ddqjobs.ledger import Finished, Intent, Ledger, Submitted
from ddqjobs.model import FailureClass, JobState, Resources, Status
from ddqjobs.project import Project, SubmitOptions, open_project
from ddqjobs.schedulers.base import DependencyGoneError, Element, Submission
from ddqjobs.schedulers.slurm import SlurmScheduler
from ddqjobs.workspace import Workspace

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parent.parent

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
    """What must hold in the end: all done, each executed once, the ledger readable."""
    plan = project.plan()
    assert {p.run.name: (p.status.value, p.reason) for p in plan.runs if p.status is not Status.DONE} == {}
    assert project.executions() == Counter(p.run.name for p in plan.runs)
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
    assert {name: p.status.value for name, p in plan.items()} == {
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
    seen = set()

    def started_again() -> bool:
        planned = on_slurm.run("first")
        seen.add(planned.status)
        return on_slurm.executions()["first"] == 2

    until(started_again)
    assert seen == {Status.ACTIVE}
    (on_slurm.root / "trace.go").touch()
    plan = on_slurm.until_over()
    assert {p.status for p in plan.values()} == {Status.DONE}
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


def test_cancel_and_retry(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.tasks({"first": task(), "second": task(inputs={"before": "first.out"})}, work=WAIT)
    on_slurm.open().submit(EXPERIMENT)
    until(lambda: on_slurm.executions()["first"] == 1)
    said = on_slurm.cli("cancel", "--yes")
    assert (said.code, said.stdout) == (0, "asked for the end of 2 runs\n")
    plan = on_slurm.until_over()
    assert {name: p.reason for name, p in plan.items()} == {
        "first": "cancelled: cancelled by the user",
        "second": "cancelled: cancelled by the user before it started",
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


def wrap_sbatch(project: SlurmProject, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts an ``sbatch`` before the real one, which is ``$SBATCH``."""
    real = shutil.which("sbatch")
    assert real
    folder = project.root / "bin"
    folder.mkdir()
    wrapper = folder / "sbatch"
    wrapper.write_text(f"#!/bin/bash\nSBATCH={real} ROOT={project.root}\n{script}\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def unwrap(project: SlurmProject) -> None:
    (project.root / "bin" / "sbatch").unlink()


@pytest.mark.parametrize(
    ("script", "words"),
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
        ("sleep 1000", "gave no answer within 4 s"),
        ("echo", "said '' instead of a job id"),
    ],
    ids=["hangs", "garbage", "silent", "time-out", "killed", "hangs before", "garbage before"],
)  # fmt: skip
def test_an_sbatch_whose_answer_is_lost(
    lab: Lab, on_slurm: SlurmProject, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    on_slurm.site(submit_timeout="4s")
    wrap_sbatch(on_slurm, monkeypatch, script)
    said = on_slurm.cli("submit")
    assert said.code == 3
    assert [words in line for line in said.stderr.splitlines()] == [True]
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
    ("folder", submission, "write_scripts", 1),
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


def test_without_a_controller_every_command_says_so_and_nothing_is_lost(
    lab: Lab, on_slurm: SlurmProject
) -> None:
    on_slurm.tasks({"first": task(), "second": task(inputs={"b": "first.out"}), "third": task()}, work=WAIT)
    assert set(on_slurm.open().submit(EXPERIMENT, Filters(runs=("first", "second"))).submitted) == {
        "first",
        "second",
    }
    until(lambda: on_slurm.run("first").state is JobState.RUNNING)
    lab.kill("slurmctld", signal.SIGTERM)
    for words in (["status"], ["submit"], ["cancel", "first", "--yes"]):
        said = on_slurm.cli(*words)
        assert said.code == 3, (words, said)
        assert len(said.stderr.splitlines()) == 1, (words, said)
        assert "Unable to contact slurm controller" in said.stderr
    assert lab.up().code == 0
    until(lambda: on_slurm.run("first").state is JobState.RUNNING)
    (on_slurm.root / "trace.go").touch()
    on_slurm.submit_all()
    once_each(on_slurm)


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


def test_a_preempted_job_starts_again_by_itself(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.site({"partition": "spot"})
    on_slurm.tasks({"first": task()}, work=WAIT)
    job = on_slurm.open().submit(EXPERIMENT).submitted["first"]
    until(lambda: on_slurm.executions()["first"] == 1)
    words = ["--parsable", "-p", "gpu", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 60"]
    other = lab.ask("sbatch", *words)
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
            words = ["--parsable", "-p", "gpu", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 60"]
            other = lab.ask("sbatch", *words).strip()
            until(lambda: sum(isinstance(r, Submitted) for r in on_slurm.records()) == 4)
            lab.ask("scancel", other)
            assert command.wait(60) == 0
    finally:
        lab.ask("scontrol", "update", "PartitionName=spot", "PreemptMode=REQUEUE")
    assert on_slurm.executions() == {"first": 2, "second": 1}
    said = json.loads((on_slurm.results / "runs" / "first" / "attempts" / "1" / "exit.json").read_text())
    assert (said["failure"], said["note"], said["again"]) == ("preempted", "stopped by TERM", True)
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
    said = on_slurm.cli("hold", "run", "wait.s1", "wait.s2", "--json")
    assert said.code == 0, said
    answer = json.loads(said.stdout)
    assert answer["held"] == ["wait.s1", "wait.s2"]
    assert list(answer["left"]) == ["run"]
    (on_slurm.root / "trace.go").touch()
    until(lambda: on_slurm.run("wait.s3").status is Status.DONE)
    plan = {p.run.name: p for p in on_slurm.plan().runs}
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


# -- real trainings --------------------------------------------------------------------------------------


def losses(project: Project, run: str, experiment: str = "nano") -> list[tuple[int, int, float]]:
    """(epoch, iteration, loss) of a training's whole curve, as its last attempt tells it."""
    folder = project.workspace(experiment).run_dir(run) / "attempts"
    last = max(folder.iterdir(), key=lambda path: int(path.name))
    curve: dict[tuple[int, int], float] = {}
    for log in sorted(last.glob("work_dir/*/vis_data/scalars.json")):
        for row in map(json.loads, log.read_text().splitlines()):
            if "loss" in row:
                curve[row["epoch"], row["iter"]] = row["loss"]
    return [(*key, loss) for key, loss in sorted(curve.items())]


@pytest.mark.training
def test_real_trainings_on_slurm_equal_those_on_the_local_site(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of nano, with a training that is requeued in its second epoch: the same AP and the same losses."""
    made = {}
    for site in ("slurm", "local"):
        root = tmp_path / site
        (root / "experiments").mkdir(parents=True)
        folder = root / "templates" / site
        folder.mkdir(parents=True)
        declared = {
            "name": site,
            "scheduler": site,
            "environments": str(ROOT / ".environments"),
            "grace": "2s",
        }
        (folder / "site.yaml").write_text(json.dumps(declared))
        monkeypatch.setenv("DDQJOBS_SITE", site)
        project = made[site] = open_project(root)
        jobs = project.submit("nano").submitted
        assert len(jobs) == 15
        if site == "slurm":
            run_dir = project.workspace("nano").run_dir("p4-train.ddq-detr-r18")
            until((run_dir / "attempts" / "1" / "work_dir" / "epoch_1.pth").exists)
            lab.ask("scontrol", "requeue", jobs["p4-train.ddq-detr-r18"])
        plan = project.wait("nano", Filters(), SubmitOptions())
        assert {p.run.name: p.reason for p in plan.runs if p.status is not Status.DONE} == {}
        if site == "slurm":
            assert [p.attempts for p in plan.runs if p.run.name == "p4-train.ddq-detr-r18"] == [2]
    on_slurm, local = (made[site].products("nano") for site in ("slurm", "local"))
    assert {name: p.metrics for name, p in on_slurm.items()} == {name: p.metrics for name, p in local.items()}
    for run in ("release.s2023", "p3-train.ddq-detr-r18", "p4-train.ddq-detr-r18"):
        curve = losses(made["slurm"], run)
        assert len(curve) == 8
        assert curve == losses(made["local"], run)


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
    seen = scheduler.query([*jobs.values(), "99999", "nonsense"])
    assert [seen[job].detail for job in jobs.values()] == [
        "Slurm says COMPLETED",
        "Slurm says FAILED, exit 1:0",
        "Slurm says COMPLETED",
    ]
    assert seen["99999"].state is seen["nonsense"].state is JobState.UNKNOWN
    token = next(r.token for r in on_slurm.records() if isinstance(r, Submitted))
    until(lambda: scheduler.find(token) == dict(enumerate(jobs.values())))
    assert scheduler.find(token[:-1]) is None
    waits = Element(index=0, run="r", after=(jobs["first.s1"],))
    made = Submission(
        token="t", name="n", folder=str(on_slurm.root), resources=Resources(), elements=(waits,)
    )
    with pytest.raises(DependencyGoneError, match="has left the queue"):
        scheduler.submit(made)
    assert {name: p.status.value for name, p in on_slurm.until_over().items()} == {
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
    asked = ["sacct", "-X", "-P", "-n", f"--jobs={','.join(jobs)}", "--format=Comment,JobName"]
    token = next(r.token for r in on_slurm.records() if isinstance(r, Intent))
    assert lab.ask(*asked).splitlines() == [f"|trivial.first.{token}"] * 2
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
    assert "node: exit 1: CUDA error: uncorrectable ECC" in on_slurm.run("first").reason
    on_slurm.site()
    said: list[str] = []
    on_slurm.open().submit(EXPERIMENT, Filters(runs=("third",)), say=said.append)
    assert said[0] == f"warning: node {bad} is avoided: first, second failed there"
    assert on_slurm.until_over()["third"].status is Status.DONE
    assert on_slurm.run("third").node not in ("", bad)


PROCESSES = """
name: processes
base: nano
codes:
  mmdet-3.3: {launcher: torchrun}
tasks:
  data:
    command: ["{python}", -m, ddqjobs.detect.prepare, dataset, --out, "{work_dir}/data", --images-train, "32",
              --images-val, "4", --size, 96x64, --classes, "3", --seed, "1"]
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


@pytest.mark.training
def test_two_nodes_with_two_processes_train_as_one_node_with_four(lab: Lab, tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "experiments").mkdir(parents=True)
    (root / "experiments" / "processes.yaml").write_text(PROCESSES)
    site = {"base": "slurm", "environments": str(ROOT / ".environments"), "grace": "2s"}
    (root / "templates" / "slurm").mkdir(parents=True)
    (root / "templates" / "slurm" / "site.yaml").write_text(json.dumps(site))
    project = open_project(root)
    named = Filters(tasks=("together", "apart"))
    plan = project.wait("processes", named, SubmitOptions(upstream=True))
    assert {p.run.name: p.reason for p in plan.runs if p.status is not Status.DONE} == {}
    nodes = {p.run.task: p.node for p in plan.runs}
    assert len(lab.ask("scontrol", "show", "hostnames", nodes["apart"]).split()) == 2
    assert len(lab.ask("scontrol", "show", "hostnames", nodes["together"]).split()) == 1
    run = "apart.ddq-detr-r18"
    curve = losses(project, run, "processes")
    assert len(curve) == 8  # 32 images, 4 processes with 2 images each, 2 epochs
    assert curve == losses(project, "together.ddq-detr-r18", "processes")
    log = project.log(project.plan("processes"), run).read_text()
    assert "GPU number: 4" in log  # mmengine's word for processes
