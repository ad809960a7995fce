"""A run on several nodes: replicas that meet (new generation), one start that calls the others (old)."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from ddqjobs.spec.model import Status
from tests.support.donau import LAB, DonauProject
from tests.support.trivial import EXPERIMENT, task, until

HOSTS = ["n10", "n1", "n2", "n100"]
# Each replica says who it is; the first leaves the product.
SAY = (
    'echo "$DDQJOBS_NODE_RANK $HOSTNAME $DDQJOBS_MASTER $DDQJOBS_PORT" >> "$TRACE"; '
    'if [ "$DDQJOBS_NODE_RANK" = 0 ]; then until [ "$(wc -l < "$TRACE")" -ge 4 ]; do sleep 0.05; done; '
    'echo done > "$DDQJOBS_WORK_DIR/out.txt"; fi'
)


@pytest.fixture
def replicas(on_donau: DonauProject) -> DonauProject:
    """One run of four nodes."""
    launch: dict[str, object] = {"meet": "20s"}
    if on_donau.lab.generation == "old":
        launch["agent"] = str(LAB / "agent")
    on_donau.site({"launch": launch})
    on_donau.lab.set(hosts=HOSTS)
    on_donau.tasks({"first": task(resources={"nodes": 4})}, work=SAY)
    return on_donau


def test_each_replica_knows_its_rank_and_the_first_one(replicas: DonauProject) -> None:
    replicas.open().submit(EXPERIMENT)
    plan = replicas.until_over()
    assert plan["first"].status is Status.DONE, plan["first"].reason
    rows = [line.split() for line in replicas.trace.read_text().splitlines()]
    by_rank = {row[0]: row[1] for row in rows}
    assert sorted(by_rank) == ["0", "1", "2", "3"]
    assert {row[2] for row in rows} == {by_rank["0"]}
    assert len({row[3] for row in rows}) == 1
    assert sorted(by_rank.values()) == sorted(HOSTS)
    if replicas.lab.generation == "old":  # as the allocation says
        assert [by_rank[str(n)] for n in range(4)] == HOSTS
    assert plan["first"].attempts == 1
    logs = sorted(path.name for path in (replicas.results / "runs/first/attempts/1").glob("stdout*"))
    assert logs == ["stdout.log", "stdout.rank1.log", "stdout.rank2.log", "stdout.rank3.log"]
    replicas.lab.until_over()
    assert [job["exit"] for job in replicas.lab.jobs().values()] == [0]


def test_a_replica_that_never_comes_is_a_clear_error(replicas: DonauProject) -> None:
    launch: dict[str, object] = {"meet": "1s"}
    if replicas.lab.generation == "old":
        launch["agent"] = "/bin/false"  # on the other nodes nothing starts
    else:
        replicas.lab.set(missing=1)
    replicas.site({"launch": launch})
    replicas.open().submit(EXPERIMENT)
    replicas.lab.until_over()
    planned = replicas.run("first")
    assert planned.status in (Status.FAILED, Status.ELIGIBLE)
    count = 1 if replicas.lab.generation == "old" else 3
    assert f"{count} of 4 replicas came within 1 s" in planned.reason
    assert not replicas.trace.exists()


# Two epochs. The first attempt saves one and waits until it is asked to stop; the second does the other, once
# all of its replicas are there.
AGAIN = (
    'echo "$DDQJOBS_ATTEMPT $DDQJOBS_NODE_RANK" >> "$TRACE"; '
    'if [ "$DDQJOBS_ATTEMPT" = 1 ]; then '
    '[ "$DDQJOBS_NODE_RANK" != 0 ] || echo x > "$DDQJOBS_WORK_DIR/epoch_1.pth"; '
    'until [ -e "$DDQJOBS_STOP" ]; do sleep 0.05; done; exit 75; fi; '
    'if [ "$DDQJOBS_NODE_RANK" = 0 ]; then until [ "$(grep -c "^2" "$TRACE")" = 4 ]; do sleep 0.05; done; '
    'echo done > "$DDQJOBS_WORK_DIR/out.txt"; fi'
)


def test_replicas_that_start_again_meet_afresh(replicas: DonauProject) -> None:
    """In the new generation it is the same job (``-jr``), in the old one another."""
    replicas.tasks({"first": task(resources={"nodes": 4})}, work=AGAIN)
    replicas.open().submit(EXPERIMENT)
    until(lambda: replicas.trace.exists() and len(replicas.trace.read_text().splitlines()) == 4)
    attempt = replicas.results / "runs" / "first" / "attempts" / "1"
    os.kill(json.loads((attempt / "started.json").read_text())["pid"], signal.SIGUSR1)
    plan = replicas.submit_all()
    assert (plan["first"].status, plan["first"].attempts) == (Status.DONE, 2), plan["first"].reason
    lines = sorted(replicas.trace.read_text().splitlines())
    assert lines == [f"{number} {rank}" for number in (1, 2) for rank in range(4)]
    starts = [job["starts"] for job in replicas.lab.jobs().values()]
    assert starts == {"old": [1, 1], "new": [2]}[replicas.lab.generation]
    assert len(list((replicas.results / "submissions").glob("*/meet/*"))) == 2


@pytest.mark.parametrize("donau", ["old"], indirect=True)
def test_the_allocation_s_older_name_is_read_too(replicas: DonauProject) -> None:
    replicas.lab.set(allocation="CCSCHEDULER_ALLOC_FILE")
    replicas.open().submit(EXPERIMENT)
    assert replicas.until_over()["first"].status is Status.DONE
    rows = sorted(line.split()[:2] for line in replicas.trace.read_text().splitlines())
    assert rows == [[str(rank), host] for rank, host in enumerate(HOSTS)]


@pytest.mark.parametrize("donau", ["old"], indirect=True)
def test_a_list_of_nodes_that_is_another_job_s_is_a_clear_error(replicas: DonauProject) -> None:
    """It has n10 and n100, but not n1, where the script starts."""
    stale = ["n10", "n11", "n100", "n12"]
    replicas.lab.set(stale=stale, hosts=["n1", "n2", "n3", "n4"])
    replicas.open().submit(EXPERIMENT)
    replicas.lab.until_over()
    planned = replicas.run("first")
    assert planned.status in (Status.FAILED, Status.ELIGIBLE)
    assert f"this host, n1, is not in the list of nodes: {' '.join(stale)}" in planned.reason
    assert not replicas.trace.exists()


def test_a_replica_that_dies_ends_the_run_with_an_error(replicas: DonauProject) -> None:
    crash = 'echo $$ > "$TRACE.$DDQJOBS_NODE_RANK"; until [ -e "$TRACE.go" ]; do sleep 0.05; done; exit 4'
    replicas.tasks({"first": task(resources={"nodes": 4})}, work=crash)
    replicas.open().submit(EXPERIMENT)
    pids = [replicas.trace.with_name(f"trace.{rank}") for rank in range(4)]
    until(lambda: all(path.exists() and path.read_text().strip() for path in pids))
    os.kill(int(pids[2].read_text()), signal.SIGKILL)
    Path(f"{replicas.trace}.go").touch()
    replicas.lab.until_over()
    assert replicas.run("first").reason.startswith("code: exit 4")
    (meeting,) = (replicas.results / "submissions").glob("*/meet/*")
    assert (meeting / "ended").exists()
    assert len(list(meeting.glob("rank_*/exit"))) == 3  # all have ended before the job did
