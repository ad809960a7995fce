"""Two members of a group on one project, as two users of a real cluster, whatever it shows of the others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.base import process
from ddqjobs.store.ledger import Cancelled, Finished, Intent, TakenOver
from tests.slurm.test_site import WAIT
from tests.support.slurm import Lab, SlurmProject
from tests.support.trivial import EXPERIMENT, task, until
from tests.unit.submission.test_renaming import named

# Accounts that every Debian has, as members of one group.
FIRST, SECOND, GROUP = "daemon", "games", "users"


def as_member(member: str, *arguments: str, cwd: Path) -> process.Completed:
    """A command as that user."""
    argv = ["setpriv", f"--reuid={member}", f"--regid={GROUP}", "--clear-groups", "--", *arguments]
    return process.run(argv, timeout=120, cwd=cwd, env={**os.environ, "HOME": str(cwd)})


class GroupProject(SlurmProject):
    """A project that both members may write."""

    def site(self, slurm: dict[str, object] | None = None, **keys: object) -> None:
        """Writes the site file, with a Python that everybody may start."""
        keys = {"submit_timeout": "1s", **keys}
        super().site(slurm, umask="0007", python="/usr/bin/python3", **keys)

    def by(self, member: str, *arguments: str) -> process.Completed:
        """A command line of a member."""
        return as_member(member, sys.executable, "-m", "ddqjobs", *arguments, cwd=self.root)

    def seen_by(self, member: str) -> dict[str, dict[str, Any]]:
        """The runs by name, as a member's status shows them."""
        result = self.by(member, "status", "--json")
        return {run["run"]: run for run in json.loads(result.stdout)["runs"]}

    def share(self) -> None:
        """Gives what is there to the group, with its future files."""
        self.results.parent.mkdir(exist_ok=True)
        for path in (self.root, *self.root.rglob("*")):
            shutil.chown(path, FIRST, GROUP)
            path.chmod(0o2770 if path.is_dir() else 0o660)


@pytest.fixture
def group(lab: Lab) -> Iterator[GroupProject]:
    """A project of two runs of which one waits for the other's node."""
    folder = Path(tempfile.mkdtemp(prefix="ddqjobs-group-"))
    folder.chmod(0o755)
    if as_member(SECOND, sys.executable, "-c", "import ddqjobs.project", cwd=folder).code:
        folder.rmdir()
        pytest.skip("TWO MEMBERS ARE NOT TESTED: other users cannot read this checkout")
    project = GroupProject(folder / "project")
    project.site({"nodelist": lab.node(1), "exclusive": True})
    project.tasks({"first": task(seeds=[1, 2])}, work=WAIT)
    project.share()
    yield project
    for member in (FIRST, SECOND):
        lab.ask("scancel", f"--user={member}")
    until(lambda: not lab.ask("squeue", "--noheader"))
    project.close()
    shutil.rmtree(folder)


PRIVACY: dict[str, dict[str, str]] = {
    "open": {},
    "queue": {"PRIVATE_QUEUE": "yes"},
    "both": {"PRIVATE_QUEUE": "yes", "PRIVATE_ACCOUNTING": "yes"},
    "no accounting": {"ACCOUNTING": "none"},
}


@pytest.fixture(params=PRIVACY)
def privacy(request: pytest.FixtureRequest, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster that shows so much of others' jobs."""

    def restart() -> None:
        for daemon in ("slurmctld", "slurmdbd"):
            lab.kill(daemon, signal.SIGTERM)
        assert lab.up().code == 0

    settings = PRIVACY[request.param]
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    if settings:
        restart()
    yield request.param
    for name in settings:
        monkeypatch.delenv(name)
    if settings:
        restart()


def test_another_member_sees_proves_and_repeats_nothing(privacy: str, group: GroupProject) -> None:
    assert group.by(FIRST, "submit").code == 0
    until(lambda: sum(group.executions().values()) == 1)
    group.by(FIRST, "status")
    for _ in range(2):
        runs = group.seen_by(SECOND)
        assert {run["status"] for run in runs.values()} == {"active"}
        assert {run["owner"].partition(" ")[0] for run in runs.values()} == {FIRST}
        time.sleep(1.2)  # longer than the site's patience
    running = next(iter(group.executions()))
    assert f"another member's ({FIRST} on " in runs[running]["reason"]
    assert "running since " in runs[running]["reason"]
    assert group.by(SECOND, "submit").stdout.startswith("nothing to submit")
    refused = group.by(SECOND, "cancel", "--yes")
    assert refused.code == 2
    assert "only the owner may cancel it" in refused.stderr
    records = group.records()
    assert not [r for r in records if isinstance(r, Cancelled | Finished)]
    (intent,) = (r for r in records if isinstance(r, Intent))
    assert intent.member is not None
    assert (intent.member.name, intent.member.cluster) == (FIRST, "ddqlab")
    group.trace.with_suffix(".go").touch()
    until(lambda: {run["status"] for run in group.seen_by(SECOND).values()} == {"done"})
    assert {run["status"] for run in group.seen_by(FIRST).values()} == {"done"}
    assert group.executions() == {"first.s1": 1, "first.s2": 1}


def test_who_takes_over_gives_up_and_runs_again(lab: Lab, group: GroupProject) -> None:
    """The owner has left, and his job cannot be ended by anybody else."""
    group.tasks({"first": task()}, work=WAIT)
    group.share()
    assert group.by(FIRST, "submit").code == 0
    until(lambda: group.executions() == {"first": 1})
    result = group.by(SECOND, "submit", "--take-over", "left in May")
    assert f"took over first from {FIRST} on " in result.stdout
    assert [r.reason for r in group.records() if isinstance(r, TakenOver)] == ["left in May"]
    assert group.seen_by(SECOND)["first"]["owner"] is None
    assert group.seen_by(FIRST)["first"]["owner"].startswith(f"{SECOND} on ")
    assert group.by(SECOND, "cancel", "--yes").code == 0
    assert group.seen_by(SECOND)["first"]["failure"] == "cancelled"
    assert lab.ask("squeue", "--noheader", "--states=running", "--format=%u").split() == [FIRST]
    group.site()  # on any node
    group.share()
    assert group.by(SECOND, "retry").code == 0
    assert group.by(SECOND, "submit").code == 0
    group.trace.with_suffix(".go").touch()
    until(lambda: group.seen_by(SECOND)["first"]["status"] == "done")
    until(lambda: not lab.ask("squeue", "--noheader"))
    assert group.executions() == {"first": 2}
    product = json.loads((group.results / "runs" / "first" / "product.json").read_text())
    tokens = [r.token for r in group.records() if isinstance(r, Intent)]
    assert product["ticket"] == f"{tokens[1]}.0"


@pytest.mark.long
def test_members_remove_and_rename_and_lose_nothing_of_a_running_job(lab: Lab, group: GroupProject) -> None:
    named(group)
    group.share()
    assert group.by(FIRST, "submit").code == 0
    until(lambda: sum(group.executions().values()) == 1)
    running = next(iter(group.executions()))
    for member in (FIRST, SECOND):
        for arguments in (("remove", EXPERIMENT, running, "--yes"), ("rename", EXPERIMENT, "new")):
            refused = group.by(member, *arguments)
            assert (refused.code, refused.stdout) == (2, "")
            assert "is active" in refused.stderr
    assert group.seen_by(SECOND)[running]["status"] == "active"
    group.trace.with_suffix(".go").touch()
    until(lambda: {run["status"] for run in group.seen_by(FIRST).values()} == {"done"})
    assert group.executions() == {"first.s1": 1, "first.s2": 1}
    assert group.by(SECOND, "remove", EXPERIMENT, "first.s1", "--yes").code == 0
    assert len(list((group.results / "removed").glob("first.s1*"))) == 1
    assert group.by(SECOND, "rename", EXPERIMENT, "new").code == 0
    assert {name: run["status"] for name, run in group.seen_by(FIRST).items()} == {
        "first.s1": "eligible",
        "first.s2": "done",
    }
    assert group.by(FIRST, "submit", "new").code == 0
    until(lambda: {run["status"] for run in group.seen_by(SECOND).values()} == {"done"})
    assert group.executions() == {"first.s1": 2, "first.s2": 1}
