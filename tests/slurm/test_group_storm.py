"""Two members, two projects, 500 runs, and a cluster that falls apart: every run once to its product."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.store.evidence import product
from ddqjobs.store.ledger import Finished, Intent, Ledger, Submitted
from tests.slurm.test_members import FIRST, GROUP, SECOND, GroupProject, as_member
from tests.support.slurm import Lab
from tests.support.trivial import task, until

PAIRS = int(os.environ.get("STORM_PAIRS", "125"))  # of runs, of each of two projects
ROUNDS, LOSS = 5, 2  # rounds of strokes; the one in which the controller loses its state, from 0
SEED = int(os.environ.get("STORM_SEED", "1"))
PATIENCE_S = 20.0  # of a member, with a run of which nothing is known
LIMIT_S = 2400.0  # until all is done after the storm
# A run holds a lock while it works, so that two at once are seen, and looks whether its product is there.
WORK = """
exec 9>> "$TRACE.lock.$DDQJOBS_RUN"; flock -n 9 || echo "$DDQJOBS_RUN" >> "$TRACE.twice"
[ ! -e "$DDQJOBS_RUN_DIR/product.json" ] || echo "$DDQJOBS_RUN" >> "$TRACE.again"
echo "$DDQJOBS_RUN" >> "$TRACE"; sleep 2; echo done > "$DDQJOBS_WORK_DIR/out.txt"
"""
PRECIOUS = ("--parsable", "--job-name=precious", "--output=/dev/null", "--mem=10", "--time=300")
COMMANDS = (("submit",), ("submit",), ("advance",), ("status",))


class Storm:
    """The cluster, the projects, and those who work on them."""

    def __init__(self, lab: Lab, projects: list[GroupProject], folder: Path) -> None:
        self.lab, self.projects, self.folder = lab, projects, folder
        self.chance = random.Random(SEED)
        self.precious: set[str] = set()
        self.commands: list[subprocess.Popen[bytes]] = []
        self.killed = 0

    def keep(self, count: int, *options: str) -> None:
        """Submit jobs of both members that are none of ours."""
        for number in range(count):
            member = (FIRST, SECOND)[number % 2]
            result = as_member(member, "sbatch", *PRECIOUS, *options, "--wrap=sleep 18000", cwd=self.folder)
            assert result.code == 0, result
            self.precious.add(result.stdout.strip())

    def kept(self) -> set[str]:
        """Return the jobs that are none of ours and still there."""
        queue = self.lab.ask("squeue", "--noheader", "--name=precious", "--format=%i")
        return set(queue.split())

    def start(self) -> None:
        """Start a command of a member, in a project."""
        arguments = self.chance.choice(COMMANDS)
        argv = ["setpriv", f"--reuid={self.chance.choice((FIRST, SECOND))}", f"--regid={GROUP}"]
        argv += ["--clear-groups", "--", sys.executable, "-m", "ddqjobs", *arguments]
        root, null = self.chance.choice(self.projects).root, subprocess.DEVNULL
        env = {**os.environ, "HOME": str(root)}
        self.commands.append(subprocess.Popen(argv, cwd=root, env=env, stdin=null, stdout=null, stderr=null))

    def gust(self, seconds: float) -> None:
        """Let commands begin, end and be killed for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.commands = [command for command in self.commands if command.poll() is None]
            if len(self.commands) >= 3:
                victim = self.chance.choice(self.commands)
                victim.kill()
                victim.wait()
                self.killed += 1
            self.start()
            time.sleep(self.chance.uniform(0.1, 2.5))

    def settle(self) -> None:
        """Let what was started come to its end."""
        for command in self.commands:
            command.wait(300)
        self.commands = []

    def strike(self, number: int) -> None:
        """Kill daemons and nodes, go on for a while without them, and bring them back."""
        nodes = [f"node{n}" for n in range(1, 5)]
        for name in self.chance.sample([*nodes, "slurmctld", "slurmctld", "slurmdbd"], 3):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                self.lab.kill(name)
            self.gust(self.chance.uniform(0, 4))
        if number == LOSS:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                self.lab.kill("slurmctld")
            shutil.rmtree(self.lab.folder / "state")
            self.precious.clear()
        assert self.lab.up().code == 0
        if number == LOSS:
            self.keep(60, "--hold")  # they get numbers that were ours

    def resume(self) -> None:
        """Bring back nodes as an administrator does: where a controller that lost its state gives a number
        that still runs, Slurm drains the node."""
        for line in self.lab.ask("sinfo", "--noheader", "--list-reasons", "--format=%N|%E").splitlines():
            nodes, reason = line.strip().split("|")
            if reason == "Duplicate jobid":
                self.lab.ask("scontrol", "update", f"nodename={nodes}", "state=resume")

    def mend(self, project: GroupProject, member: str, since: dict[str, float]) -> bool:
        """Do what a member would; return whether all is done."""
        project.by(member, "advance")
        runs = project.seen_by(member)
        mine = {name: run for name, run in runs.items() if not run["owner"]}
        for name, run in mine.items():
            lost = run["status"] == "active" and run["state"] == "unknown"
            since[name] = since.get(name, time.monotonic()) if lost else time.monotonic()
        given_up = [name for name in mine if time.monotonic() - since[name] > PATIENCE_S]
        if given_up:
            project.by(member, "cancel", *given_up, "--yes")
        if any(run["state"] == "held" for run in mine.values()):
            project.by(member, "release", "--state", "held")
        if any(run["status"] == "failed" for run in mine.values()):
            project.by(member, "retry")
        return {run["status"] for run in runs.values()} == {"done"}


@pytest.fixture
def storm(lab: Lab) -> Iterator[Storm]:
    folder = Path(tempfile.mkdtemp(prefix="ddqjobs-storm-"))
    folder.chmod(0o755)
    if as_member(SECOND, sys.executable, "-c", "import ddqjobs.project", cwd=folder).code:
        folder.rmdir()
        pytest.skip("TWO MEMBERS ARE NOT TESTED: other users cannot read this checkout")
    projects = []
    for name in ("one", "two"):
        project = GroupProject(folder / name)
        project.site(submit_timeout="5s", grace="2s")
        seeds = list(range(PAIRS))
        tasks = {"first": task(seeds=seeds), "second": task(seeds=seeds, inputs={"b": "first.out"})}
        project.tasks(tasks, WORK, resources={"cpus": 8})
        project.share()
        projects.append(project)
    group_storm = Storm(lab, projects, folder)
    yield group_storm
    for command in group_storm.commands:
        command.kill()
        command.wait()
    assert lab.up().code == 0
    for member in (FIRST, SECOND):
        lab.ask("scancel", f"--user={member}")
    until(lambda: not lab.ask("squeue", "--noheader"))
    for project in projects:
        project.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
@pytest.mark.timeout(4200)
def test_two_members_bring_every_run_once_to_its_product(storm: Storm) -> None:
    storm.keep(4)
    for member, project in zip((FIRST, SECOND), storm.projects, strict=True):
        # Chance may leave all the others to one of them.
        assert project.by(member, "submit", "first.s0").code == 0
    for number in range(ROUNDS):
        storm.gust(storm.chance.uniform(8, 14))
        assert storm.kept() == storm.precious
        storm.strike(number)
    storm.settle()
    since: dict[tuple[str, str], dict[str, float]] = {}
    end = time.monotonic() + LIMIT_S
    views = [(project, member) for project in storm.projects for member in (FIRST, SECOND)]
    while {storm.mend(*view, since.setdefault((view[0].root.name, view[1]), {})) for view in views} != {True}:
        assert time.monotonic() < end, [project.statuses() for project in storm.projects]
        storm.resume()
        time.sleep(1)
    assert storm.killed > ROUNDS
    assert storm.kept() == storm.precious
    owners: set[str] = set()
    for project in storm.projects:
        records = Ledger(project.results / "ledger").read()
        owners |= {r.member.name for r in records if isinstance(r, Intent) and r.member is not None}
        jobs = {job for r in records if isinstance(r, Submitted) for job in r.jobs.values()}
        assert any("_" in job for job in jobs)  # arrays
        # Two command lines that look at once may both record one end.
        ends = {(r.run, r.ticket) for r in records if isinstance(r, Finished) and r.product is not None}
        assert Counter(run for run, _ in ends) == dict.fromkeys(project.executions(), 1)
        assert len(ends) == 2 * PAIRS
        for run, ticket in ends:
            record = product(project.results / "runs" / run)
            assert record is not None
            assert record.ticket == ticket
        assert not [path.read_text() for path in project.root.glob("trace.again")]
        assert not [path.read_text() for path in project.root.glob("trace.twice")]
    assert owners == {FIRST, SECOND}
