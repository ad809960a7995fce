"""The owner of a job number: foreign jobs, cancelled arrays, numbers that are given a second time."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from ddqjobs.schedulers.slurm.scheduler import SlurmScheduler
from ddqjobs.spec.model import FailureClass, JobState, Status
from tests.slurm.test_site import WAIT
from tests.support.slurm import Lab, SlurmProject, wrap_sbatch
from tests.support.trivial import EXPERIMENT, task, until

TOKEN = "20260101-000000-0badcafe"


@pytest.fixture
def closed(lab: Lab) -> Iterator[Lab]:
    """A cluster whose partition starts nothing for now."""
    lab.ask("scontrol", "update", "partitionname=gpu", "state=down")
    yield lab
    lab.ask("scontrol", "update", "partitionname=gpu", "state=up")


def test_a_heterogeneous_job_and_a_sparse_array_hide_no_run(closed: Lab, on_slurm: SlurmProject) -> None:
    """Both are the user's own, and none of ours."""
    closed.ask("sbatch", "--hold", "--output=/dev/null", "--ntasks=1", ":", "--ntasks=1", "--wrap=true")
    assert "+0" in closed.ask("squeue", "--noheader", "--format=%i")
    squares = [index * index for index in range(40)]
    sparse = closed.ask(
        "sbatch", "--parsable", f"--array={','.join(map(str, squares))}", f"--comment={TOKEN}",
        "--output=/dev/null", "--wrap=true",
    ).strip()  # fmt: skip
    until(lambda: "..." in closed.ask("sacct", "-nXP", f"--jobs={sparse}", "--format=JobID"))
    elements = {index: f"{sparse}_{index}" for index in squares}
    assert SlurmScheduler("lab").find(TOKEN) == elements
    on_slurm.tasks({"first": task(seeds=[0, 1])})
    on_slurm.open().submit(EXPERIMENT)
    workspace = on_slurm.open().workspace(EXPERIMENT)
    assert {planned.state for planned in workspace.plan().runs} == {JobState.QUEUED}
    assert workspace.warnings == []
    closed.ask("scontrol", "update", "partitionname=gpu", "state=up")
    assert {planned.status for planned in on_slurm.until_over().values()} == {Status.DONE}


@pytest.fixture
def hasty(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A controller that forgets what has ended after two seconds."""
    monkeypatch.setenv("MIN_JOB_AGE", "2")
    lab.kill("slurmctld", signal.SIGTERM)
    assert lab.up().code == 0
    yield lab
    monkeypatch.delenv("MIN_JOB_AGE")
    lab.kill("slurmctld", signal.SIGTERM)
    assert lab.up().code == 0


def test_an_array_cancelled_before_it_started_stays_cancelled(
    hasty: Lab, closed: Lab, on_slurm: SlurmProject
) -> None:
    """It stays so if Slurm shows it by its bare number, and if it no longer shows it."""
    on_slurm.site(submit_timeout="2s")
    on_slurm.tasks({"first": task(seeds=[0, 1, 2])})
    on_slurm.open().submit(EXPERIMENT)
    assert on_slurm.cli("cancel", "--yes").code == 0
    until(lambda: not closed.ask("squeue", "--noheader", "--states=all"))
    plan = on_slurm.until_over()
    assert {planned.failure for planned in plan.values()} == {FailureClass.CANCELLED}
    result = on_slurm.cli("advance")
    assert (result.code, result.stdout) == (0, "nothing to submit\n")
    closed.ask("scontrol", "update", "partitionname=gpu", "state=up")
    assert on_slurm.cli("retry").code == 0
    assert {planned.status for planned in on_slurm.submit_all().values()} == {Status.DONE}
    assert on_slurm.executions() == {"first.s0": 1, "first.s1": 1, "first.s2": 1}


def test_a_controller_that_lost_its_state_gives_our_numbers_to_others(
    closed: Lab, on_slurm: SlurmProject
) -> None:
    """Another's job is never cancelled and nothing depends on it; ours is forgotten, and runs once."""
    on_slurm.site(submit_timeout="1h")
    on_slurm.tasks({"first": task(), "second": task(), "third": task(inputs={"before": "first.out"})})
    jobs = on_slurm.open().submit(EXPERIMENT).submitted
    array = jobs["first"].partition("_")[0]
    assert on_slurm.cli("cancel", "third", "--yes").code == 0
    closed.kill("slurmctld")
    shutil.rmtree(closed.folder / "state")
    assert closed.up().code == 0
    closed.ask("scontrol", "update", "partitionname=gpu", "state=up")
    precious = ("sbatch", "--parsable", "--job-name=precious", "--output=/dev/null", "--wrap=sleep 600")
    while (number := closed.ask(*precious).strip()) != array:
        assert int(number) < int(array)
        closed.ask("scancel", number)
    first = on_slurm.run("first")
    assert (first.status, first.state) == (Status.ACTIVE, JobState.UNKNOWN)
    assert f"number {jobs['first']} is now of another job" in first.reason
    assert on_slurm.cli("retry", "third").code == 0
    outcome = on_slurm.open().submit(EXPERIMENT)
    assert outcome.submitted == {}
    assert "first" in outcome.left["third"]
    assert on_slurm.cli("cancel", "second", "--yes").code == 0
    assert on_slurm.run("second").failure is FailureClass.CANCELLED
    on_slurm.site(submit_timeout="3s")
    until(lambda: on_slurm.run("first").status is Status.ELIGIBLE)
    plan = on_slurm.submit_all()
    assert {name: planned.status for name, planned in plan.items()} == {
        "first": Status.DONE, "second": Status.FAILED, "third": Status.DONE,
    }  # fmt: skip
    assert on_slurm.executions() == {"first": 1, "third": 1}
    running = ("squeue", "--noheader", "--states=running", "--format=%i %j")
    assert closed.ask(*running).split() == [array, "precious"]


@pytest.mark.parametrize(
    "first_answer", ["/dev/null", "/dev/stdout"], ids=["names one job", "names both jobs"]
)
def test_of_an_sbatch_that_submits_twice_the_claim_decides(
    lab: Lab, on_slurm: SlurmProject, monkeypatch: pytest.MonkeyPatch, first_answer: str
) -> None:
    """Two jobs, one token: one of them runs, the ledger learns which, the other ends without harm."""
    wrap_sbatch(on_slurm, monkeypatch, f'"$SBATCH" "$@" > {first_answer}; exec "$SBATCH" "$@"')
    on_slurm.tasks({"first": task(seeds=[0, 1])}, work=WAIT)
    on_slurm.open().submit(EXPERIMENT)
    until(lambda: on_slurm.executions() == {"first.s0": 1, "first.s1": 1})

    def running() -> set[str]:
        return {planned.job for planned in on_slurm.plan().runs if planned.state is JobState.RUNNING}

    ask = ("squeue", "--noheader", "--array", "--states=running", "--format=%i")
    until(lambda: len(lab.ask(*ask).split()) == 2)
    until(lambda: running() == set(lab.ask(*ask).split()))
    on_slurm.trace.with_suffix(".go").touch()
    assert {planned.status for planned in on_slurm.until_over().values()} == {Status.DONE}
    assert on_slurm.executions() == {"first.s0": 1, "first.s1": 1}
    until(lambda: Counter(s for _, _, s in lab.accounted(on_slurm.root)) == {"COMPLETED": 2, "FAILED": 2})


def test_of_an_sbatch_that_submits_twice_the_job_that_waits_is_ended(
    lab: Lab, on_slurm: SlurmProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for a place, and then start nothing."""
    wrap_sbatch(on_slurm, monkeypatch, '"$SBATCH" "$@" || exit; exec "$SBATCH" --hold "$@" > /dev/null')
    on_slurm.tasks({"first": task(seeds=[0, 1])}, work=WAIT)
    on_slurm.open().submit(EXPERIMENT)
    until(lambda: on_slurm.executions() == {"first.s0": 1, "first.s1": 1})
    ask = ("squeue", "--noheader", "--array", "--format=%T")
    assert Counter(lab.ask(*ask).split()) == {"RUNNING": 2, "PENDING": 2}
    assert on_slurm.cli("status").code == 0
    until(lambda: lab.ask(*ask).split() == ["RUNNING", "RUNNING"])
    on_slurm.trace.with_suffix(".go").touch()
    assert {planned.status for planned in on_slurm.until_over().values()} == {Status.DONE}
    assert on_slurm.executions() == {"first.s0": 1, "first.s1": 1}
