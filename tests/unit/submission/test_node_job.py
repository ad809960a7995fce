"""Commands as jobs of a site: the scripts for each scheduler, and on the local site whatever may go wrong
between a command line and its job."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.base.errors import SchedulerError
from ddqjobs.planning.catalog import Catalog
from ddqjobs.schedulers.base import Scheduler, SubmitUnknownError
from ddqjobs.schedulers.local.scheduler import LocalScheduler
from ddqjobs.spec.model import Resources
from ddqjobs.spec.shipped import shipped_root
from ddqjobs.store.layout import Layout
from ddqjobs.submission import node_folder, node_job
from ddqjobs.submission.script import Context, Renderer
from tests.support import shellcheck
from tests.support.node_jobs import NodeProject
from tests.support.trivial import end_of, fork, until


@pytest.mark.parametrize(
    ("site", "lines"),
    [
        ("local", []),
        ("slurm", ["#SBATCH --gres=gpu:1", "#SBATCH --comment=t1", "#SBATCH --time=0-04:00:00"]),
        ("bscc", ["#DSUB -n ddqjobs.env.t1"]),
    ],
)
def test_scripts(site: str, lines: list[str], tmp_path: Path) -> None:
    declared = Catalog(tmp_path).site(site)
    renderer = Renderer([shipped_root() / "templates"])
    context = Context(results="/base/.jobs", project="/it's/a project", code="", token="t1", user="me")
    argv = ["python", "-m", "ddqjobs", "env", "build", "$(touch no)"]
    text = renderer.node_command(declared, context, Resources(gpus=1, cpus=8, time_s=14400), "env", argv)
    head = text.splitlines()
    assert head[0] == "#!/usr/bin/env bash"
    for line in lines:
        assert line in head, text
    assert "python -m ddqjobs env build '$(touch no)'" in head
    path = tmp_path / "job.sh"
    path.write_text(text)
    assert shellcheck.problems(path) == ""


@pytest.mark.parametrize(
    ("claim", "exit_file", "code", "printed"),
    [
        ("", "", 0, "work\n"),
        ("void\n", "", 77, ""),
        ("run\nanother\n", "", 77, ""),
        ("run\nj.0\n", "", 0, "work\n"),  # requeued while it ran
        ("run\nj.0\n", "0\n", 0, ""),  # and after its work was done
    ],
)
def test_a_script_works_only_where_it_has_the_claim(
    tmp_path: Path, claim: str, exit_file: str, code: int, printed: str
) -> None:
    folder = tmp_path / "submissions" / "t1"
    for name in ("claims", "out"):
        (folder / name).mkdir(parents=True)
    context = Context(results=str(tmp_path), project=str(tmp_path), code="", token="t1")
    renderer, site = Renderer([shipped_root() / "templates"]), Catalog(tmp_path).site("local")
    text = renderer.node_command(site, context, Resources(), "a test", ["echo", "work"])
    (folder / "job.sh").write_text(text)
    if claim:
        (folder / "claims" / "t1.0").write_text(claim)
    if exit_file:
        (folder / "exit").write_text(exit_file)
    ran = process.run(["bash", folder / "job.sh"], timeout=60, env={**os.environ, "DDQJOBS_JOB_ID": "j.0"})
    log = folder / "out" / "command.log"
    assert (ran.code, log.read_text() if log.exists() else "") == (code, printed)
    assert [path.name for path in (folder / "claims").iterdir()] == ["t1.0"]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[NodeProject]:
    node_project = NodeProject(tmp_path / "project")
    node_project.local_site(submit_timeout="2s")
    yield node_project
    node_project.close()


def submits(
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[Callable[[], Mapping[int, str]]], Mapping[int, str]],
) -> None:
    """Makes the local site's ``submit`` go as ``how`` says, which gets the real one."""
    real = LocalScheduler.submit
    monkeypatch.setattr(
        LocalScheduler, "submit", lambda self, submission: how(lambda: real(self, submission))
    )


def unanswered(submit: Callable[[], Mapping[int, str]]) -> Mapping[int, str]:
    """Taken, and not answered."""
    submit()
    raise SubmitUnknownError("the answer was lost")


def test_output_and_exit_code_are_handed_on_and_nothing_is_left(project: NodeProject) -> None:
    assert project.node("bash", "-c", "pwd; echo second >&2; printf 'no end'; exit 7") == 7
    assert project.said[0].startswith("job ")
    lines = [line for line in project.said[1:] if not line.startswith("job ")]
    assert lines == [str(project.root), "second", "no end"]
    assert project.folders() == []


def test_a_job_that_somebody_else_cancels_is_an_error_that_names_its_output(
    project: NodeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_job, "_GRACE_S", 0.2)
    monkeypatch.setattr(node_job, "_ASK_EVERY_S", 0.1)
    project.hear = lambda line: (
        project.scheduler().cancel([line.split()[1]]) if line.endswith("/out") else None
    )
    with pytest.raises(SchedulerError, match=r"job \S+ ended without an exit code \(.+\); see .*/out$"):
        project.node("sleep", "600")


def test_a_job_beyond_its_time_limit_is_an_error_that_says_how_to_give_it_more(
    project: NodeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_job, "_GRACE_S", 0.2)
    monkeypatch.setattr(node_job, "_ASK_EVERY_S", 0.1)
    with pytest.raises(SchedulerError, match=r"reached its time limit \(.*1 s.*\); increase --time"):
        project.node("sleep", "600", time_s=1)


def test_what_the_site_brings_along_may_end_the_job(project: NodeProject) -> None:
    project.local_site(setup=["echo the setup is broken", "exit 3"])
    assert project.node("echo", "never") == 3
    assert "the setup is broken" in project.said
    assert "never" not in project.said


def test_ctrl_c_cancels_the_job_and_leaves_nothing(project: NodeProject) -> None:
    def press(line: str) -> None:
        if line == "started":
            raise KeyboardInterrupt

    project.hear = press
    with pytest.raises(KeyboardInterrupt):
        project.node("bash", "-c", "echo started; sleep 600")
    until(lambda: project.scheduler().in_queue() == 0)
    assert project.folders() == []


def test_ctrl_c_while_the_job_is_queued_keeps_it_from_starting(project: NodeProject) -> None:
    project.local_site(local={"cpus": 1})

    def press(line: str) -> None:
        if line.endswith("/out"):
            raise KeyboardInterrupt

    with project.occupied():
        project.hear = press
        with pytest.raises(KeyboardInterrupt):
            project.node("bash", "-c", f"echo x >> {project.trace}")
    until(lambda: project.scheduler().in_queue() == 0)
    assert (project.folders(), project.trace.exists()) == ([], False)


def test_a_submission_that_was_taken_without_an_answer_is_found_and_followed(
    project: NodeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    submits(monkeypatch, unanswered)
    assert project.node("bash", "-c", f"echo x >> {project.trace}; exit 5") == 5
    assert project.said[0] == "the answer was lost; looking for the job"
    assert project.trace.read_text() == "x\n"
    assert project.folders() == []


def test_a_submission_that_is_not_found_is_given_up_and_does_nothing_when_it_comes_late(
    project: NodeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[Callable[[], Mapping[int, str]]] = []

    def lost(submit: Callable[[], Mapping[int, str]]) -> Mapping[int, str]:
        late.append(submit)
        raise SubmitUnknownError("the answer was lost")

    submits(monkeypatch, lost)
    work = ("bash", "-c", f"echo x >> {project.trace}")
    with pytest.raises(SchedulerError, match="the job was not found within 2 s and was given up"):
        project.node(*work)
    assert project.folders() == []
    with pytest.raises(SchedulerError):
        late[0]()  # its script is gone
    assert not project.trace.exists()


def test_a_job_that_starts_after_it_was_given_up_ends_at_once(
    project: NodeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler has the job, does not show it, and starts it later."""
    project.local_site(submit_timeout="1s", local={"cpus": 1})
    with project.occupied(), monkeypatch.context() as blind:
        submits(blind, unanswered)
        blind.setattr(LocalScheduler, "find", lambda self, token: None)
        with pytest.raises(SchedulerError, match="was given up"):
            project.node("bash", "-c", f"echo x >> {project.trace}")
    until(lambda: project.scheduler().in_queue() == 0)
    assert not project.trace.exists()


def test_a_job_that_has_started_is_known_by_its_claim_where_the_scheduler_does_not_show_it(
    project: NodeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    submits(monkeypatch, unanswered)

    def not_shown(self: Scheduler, token: str) -> None:
        until(project.trace.exists)

    monkeypatch.setattr(LocalScheduler, "find", not_shown)
    assert project.node("bash", "-c", f"echo x >> {project.trace}; exit 5") == 5
    assert project.trace.read_text() == "x\n"


def test_a_submission_that_is_refused_leaves_nothing(project: NodeProject) -> None:
    with pytest.raises(SchedulerError, match="asks for 9 GPUs"):
        project.node("true", gpus=9)
    assert project.folders() == []


def test_a_scheduler_that_falls_silent_is_waited_for_no_longer_than_its_submit_timeout(
    project: NodeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_job, "_ASK_EVERY_S", 0.1)
    go = project.root / "go"

    def silent(self: Scheduler, jobs: object) -> Mapping[str, object]:
        raise SchedulerError("it does not answer")

    with monkeypatch.context() as patch:
        project.hear = lambda line: (
            patch.setattr(LocalScheduler, "query", silent) if line == "started" else None
        )
        work = (
            "bash",
            "-c",
            f"echo started; until [ -e {go} ]; do sleep 0.1; done; echo x >> {project.trace}",
        )
        with pytest.raises(SchedulerError, match=r"it does not answer; waited 2 s for it, job \S+ goes on"):
            project.node(*work)
    [folder] = project.folders()
    assert "started\n" in (folder / "out" / "command.log").read_text()
    go.touch()
    until(project.trace.exists)


@pytest.mark.parametrize("moment", ["before it is handed over", "before the answer", "while it runs"])
def test_kill_9_of_the_command_line_loses_no_job_and_the_same_command_runs_it_once(
    project: NodeProject, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    go = project.root / "go"
    work = (
        "bash",
        "-c",
        f"echo started; until [ -e {go} ]; do sleep 0.1; done; echo x >> {project.trace}; exit 5",
    )

    def die(submit: Callable[[], Mapping[int, str]]) -> Mapping[int, str]:
        if moment != "before it is handed over":
            taken = submit()
            if moment == "while it runs":
                return taken
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def command() -> None:
        project.hear = lambda line: os.kill(os.getpid(), signal.SIGKILL) if line == "started" else None
        project.node(*work)

    with monkeypatch.context() as patch:
        submits(patch, die)
        assert end_of(fork(command)) == -signal.SIGKILL
    assert len(project.folders()) == 1
    project.hear = lambda line: go.touch() if line.endswith("/out") else None  # only now the job may end
    assert project.node(*work) == 5
    assert project.trace.read_text() == "x\n"
    assert project.folders() == []


def test_what_a_killed_command_line_left_is_removed_by_the_next_one_once_it_is_over(
    project: NodeProject,
) -> None:
    def command() -> None:
        project.hear = lambda line: os.kill(os.getpid(), signal.SIGKILL) if line.endswith("/out") else None
        project.node("bash", "-c", f"echo x >> {project.trace}")

    assert end_of(fork(command)) == -signal.SIGKILL
    [folder] = project.folders()
    until((folder / "exit").exists)
    assert project.node("true") == 0
    assert project.folders() == []


def test_another_command_leaves_a_killed_one_s_job_alone(project: NodeProject) -> None:
    go = project.root / "go"

    def command() -> None:
        project.hear = lambda line: os.kill(os.getpid(), signal.SIGKILL) if line == "started" else None
        wait = f"echo started; until [ -e {go} ]; do sleep 0.1; done; echo x >> {project.trace}"
        project.node("bash", "-c", wait)

    assert end_of(fork(command)) == -signal.SIGKILL
    assert project.node("true") == 0
    assert len(project.folders()) == 1
    go.touch()
    until(project.trace.exists)


def test_two_command_lines_that_find_the_same_abandoned_job_follow_it_only_once(project: NodeProject) -> None:
    def command() -> None:
        project.hear = lambda line: os.kill(os.getpid(), signal.SIGKILL) if line.endswith("/out") else None
        project.node("bash", "-c", "sleep 600")

    assert end_of(fork(command)) == -signal.SIGKILL
    [folder] = node_folder.existing(Layout(project.root).node_jobs())
    number = folder.abandoned()
    assert number is not None
    assert [folder.take_over(number) for _ in range(2)] == [True, False]
    assert folder.abandoned() is None
