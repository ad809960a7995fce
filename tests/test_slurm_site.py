"""The Slurm site on a real cluster: everything that it does to jobs, and every run executed once."""

from __future__ import annotations

from collections import Counter

import pytest
from slurm_support import Lab, SlurmProject
from support import EXPERIMENT, task, until

from ddqjobs.ledger import Submitted
from ddqjobs.model import Status

pytestmark = pytest.mark.slurm

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
    assert Counter(state for _, _, state in lab.accounted(on_slurm.root)) == {"COMPLETED": 8}
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
    assert {job for job, name, _ in lab.accounted(on_slurm.root) if name.endswith("first")} == {job}


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
