"""Limits of a cluster that pass: a matrix that is larger than they allow ends by itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from ddqjobs.spec.model import JobState, Status
from tests.slurm.test_members import FIRST, GroupProject, group
from tests.slurm.test_site import once_each
from tests.support.slurm import Lab, SlurmProject
from tests.support.trivial import task, until

__all__ = ["group"]

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

RUNS = 40
ENFORCED = {"ENFORCE": "associations,limits,qos"}
USER = ("modify", "user", "root", "set")
QOS = ("modify", "qos", "normal", "set")
# Name -> variables of the lab, and what sacctmgr sets; -1 forgets it.
LIMITS: dict[str, tuple[dict[str, str], tuple[tuple[str, ...], ...]]] = {
    "6 jobs of a user": (ENFORCED, ((*USER, "MaxSubmitJobs=6"),)),
    "10 jobs of a user": (ENFORCED, ((*USER, "MaxSubmitJobs=10"),)),
    "3 running jobs of a user": (ENFORCED, ((*USER, "MaxJobs=3"),)),
    "4 CPUs of a group": (ENFORCED, ((*USER, "GrpTRES=cpu=4"),)),
    "5 jobs of a QOS": (ENFORCED, ((*QOS, "MaxSubmitJobsPerUser=5"),)),
    "a QOS of 4 CPUs and 2 running jobs": (
        ENFORCED,
        ((*QOS, "MaxTRESPerUser=cpu=4"), (*QOS, "MaxJobsPerUser=2")),
    ),
    "limits of partitions: any": ({"PART_LIMITS": "ANY"}, ()),
    "limits of partitions: none": ({"PART_LIMITS": "NO"}, ()),
}


@pytest.fixture
def limited(request: pytest.FixtureRequest, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The cluster with one of the limits."""
    variables, settings = LIMITS[request.param]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    restart(lab)
    for arguments in settings:
        lab.ask("sacctmgr", "-i", *arguments)
    yield
    for arguments in settings:
        lab.ask("sacctmgr", "-i", *arguments[:-1], arguments[-1].rpartition("=")[0] + "=-1")
    for name in variables:
        monkeypatch.delenv(name)
    restart(lab)


def restart(lab: Lab) -> None:
    lab.kill("slurmctld", signal.SIGTERM)
    assert lab.up().code == 0


@pytest.mark.parametrize("limited", LIMITS, indirect=True)
@pytest.mark.usefixtures("limited")
def test_forty_runs_end_by_themselves(on_slurm: SlurmProject) -> None:
    on_slurm.tasks({"first": task(seeds=list(range(RUNS)))})
    done = on_slurm.cli("submit", "--wait")
    assert done.code == 0, done
    assert "refused" not in done.stderr
    assert "never" not in done.stderr
    once_each(on_slurm)


@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_a_reservation_and_an_administrator_s_hold_are_waited_for(
    lab: Lab, on_slurm: SlurmProject, how: str
) -> None:
    create = (
        "scontrol",
        "create",
        "reservation",
        "ReservationName=paper",
        "users=root",
        f"nodes={lab.node(1)}",
    )
    lab.ask(*create, "starttime=now+2hours", "duration=60")
    first = task(slurm={"reservation": "paper"}, resources={"time": "1m"})
    on_slurm.tasks({"first": first, "second": task(inputs={"b": "first.out"})})

    def reason(job: str) -> str:
        return lab.ask("squeue", "-h", "-j", job, "-o", "%r").strip()

    try:
        with on_slurm.started("submit", how) as command:
            until(lambda: on_slurm.run("first").status is Status.ACTIVE)
            run = on_slurm.run("first")
            job = run.job
            until(lambda: reason(job) == "Reservation")
            run = on_slurm.run("first")
            assert (run.state, run.reason) == (JobState.QUEUED, "queued: Reservation")
            lab.ask("scontrol", "hold", job)
            lab.ask("scontrol", "update", "ReservationName=paper", "starttime=now")
            until(lambda: reason(job) == "JobHeldAdmin")
            run = on_slurm.run("first")
            assert (run.state, "JobHeldAdmin" in run.reason) == (JobState.HELD, True)
            assert command.poll() is None
            lab.ask("scontrol", "release", job)
            assert command.wait(300) == 0
    finally:
        lab.ask("scancel", "--user=0")
        until(lambda: not lab.ask("squeue", "-h"))
        lab.ask("scontrol", "delete", "ReservationName=paper")
    once_each(on_slurm)


@pytest.mark.parametrize("limited", ["6 jobs of a user"], indirect=True)
@pytest.mark.usefixtures("limited")
def test_forty_runs_are_fed_on_by_follow(on_slurm: SlurmProject) -> None:
    on_slurm.tasks({"first": task(seeds=list(range(RUNS)))})
    with on_slurm.started("submit", "--follow") as command:
        assert command.wait(600) == 0
    once_each(on_slurm)


@pytest.fixture
def private(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The cluster where users see their own jobs only."""
    names = ("PRIVATE_QUEUE", "PRIVATE_ACCOUNTING")
    for name in names:
        monkeypatch.setenv(name, "yes")
    lab.kill("slurmdbd", signal.SIGTERM)
    restart(lab)
    yield
    for name in names:
        monkeypatch.delenv(name)
    lab.kill("slurmdbd", signal.SIGTERM)
    restart(lab)


@pytest.mark.usefixtures("private")
def test_forty_runs_of_a_user_who_sees_only_his_own_jobs(group: GroupProject) -> None:
    group.site()
    group.tasks({"first": task(seeds=list(range(RUNS)))})
    group.share()
    done = group.by(FIRST, "submit", "--wait")
    assert done.code == 0, done
    once_each(group)


@pytest.mark.parametrize("limited", ["limits of partitions: none"], indirect=True)
@pytest.mark.usefixtures("limited")
def test_a_time_above_the_partitions_is_said_though_slurm_takes_it(on_slurm: SlurmProject) -> None:
    on_slurm.site(slurm={"partition": "short"})
    on_slurm.tasks({"first": task(resources={"time": "20m"}), "second": task(resources={"time": "9m"})})
    done = on_slurm.cli("submit", "second")
    assert "warning" not in done.stdout
    done = on_slurm.cli("submit", "first")
    assert "its time is above the limit of partition short (10:00)" in done.stdout.splitlines()[0]
    assert on_slurm.cli("cancel", "first", "--yes").code == 0
    assert "above the limit of partition short" in on_slurm.cli("plan").stdout
