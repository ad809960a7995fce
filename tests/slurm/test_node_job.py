"""Commands as jobs of a real Slurm: with an ``sbatch`` that does not answer, answers late, or fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.base.errors import SchedulerError
from tests.support.node_jobs import NodeProject
from tests.support.slurm import Lab, SlurmProject, unwrap, wrap_sbatch
from tests.support.trivial import end_of, fork, until


class Nodes(NodeProject, SlurmProject):
    """Commands on the nodes of the virtual cluster."""

    def work(self, code: int = 5) -> tuple[str, ...]:
        """A line in the trace, and an exit code."""
        return ("bash", "-c", f"echo x >> {self.trace}; exit {code}")


@pytest.fixture
def nodes(lab: Lab, tmp_path: Path) -> Iterator[Nodes]:
    project = Nodes(tmp_path / "project")
    project.site(submit_timeout="4s")
    yield project
    lab.ask("scancel", "--user=0")
    project.close()


def states(lab: Lab, nodes: Nodes) -> list[str]:
    """Return the final states of the project's jobs, as accounting reports them."""
    return [state.split()[0] for _, _, state in lab.accounted(nodes.root)]


def test_output_and_exit_code_of_a_command_on_a_node_are_handed_on_and_nothing_is_left(
    lab: Lab, nodes: Nodes
) -> None:
    assert nodes.node("bash", "-c", "echo on $SLURMD_NODENAME; exit 7") == 7
    assert any(line.startswith("on lab") for line in nodes.said), nodes.said
    assert nodes.folders() == []


@pytest.mark.parametrize(
    "script",
    [
        '"$SBATCH" "$@" > /dev/null; sleep 1000',
        '"$SBATCH" "$@" > /dev/null; echo "Welcome!"',
        '"$SBATCH" "$@" > /dev/null; kill -9 $$',
    ],
    ids=["hangs", "says something else", "is killed"],
)
def test_a_job_whose_sbatch_did_not_answer_is_found_and_followed(
    lab: Lab, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    wrap_sbatch(nodes, monkeypatch, script)
    assert nodes.node(*nodes.work()) == 5
    assert nodes.said[0].endswith("; looking for the job")
    assert nodes.trace.read_text() == "x\n"
    assert nodes.folders() == []
    until(lambda: states(lab, nodes) == ["FAILED"])


def test_an_sbatch_that_neither_submits_nor_answers_is_given_up(
    lab: Lab, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap_sbatch(nodes, monkeypatch, "sleep 1000")
    with pytest.raises(SchedulerError, match=r"gave no answer within 4 s; the job was not found within 4 s"):
        nodes.node(*nodes.work())
    assert (nodes.folders(), lab.ask("squeue", "-h")) == ([], "")


def test_an_sbatch_that_fails_is_an_error_at_once_and_leaves_nothing(
    lab: Lab, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap_sbatch(
        nodes, monkeypatch, 'echo "sbatch: error: Batch job submission failed: Requested node" >&2; exit 1'
    )
    with pytest.raises(SchedulerError, match="was refused"):
        nodes.node(*nodes.work())
    assert (nodes.folders(), lab.ask("squeue", "-h")) == ([], "")


def test_an_sbatch_that_comes_through_after_its_job_was_given_up_starts_nothing(
    lab: Lab, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = 'cp "${@: -1}" "$ROOT/late.sh"; sleep 1000'
    wrap_sbatch(nodes, monkeypatch, late)
    with pytest.raises(SchedulerError, match="was given up"):
        nodes.node(*nodes.work())
    unwrap(nodes)
    lab.ask("sbatch", f"--chdir={nodes.root}", str(nodes.root / "late.sh"))
    until(lambda: states(lab, nodes) == ["FAILED"])
    assert not nodes.trace.exists()


def test_kill_9_between_sbatch_and_its_answer_loses_no_job_and_the_same_command_runs_it_once(
    lab: Lab, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = nodes.root / "go"
    work = ("bash", "-c", f"until [ -e {go} ]; do sleep 0.1; done; echo x >> {nodes.trace}; exit 5")
    wrap_sbatch(nodes, monkeypatch, '"$SBATCH" "$@" > /dev/null; kill -9 $PPID')
    assert end_of(fork(lambda: nodes.node(*work))) == -signal.SIGKILL
    unwrap(nodes)
    nodes.hear = lambda line: go.touch() if line.endswith("/out") else None  # only now the job may end
    assert nodes.node(*work) == 5
    assert nodes.said[0] == "looking for an earlier job of the same command"
    assert nodes.trace.read_text() == "x\n"
    until(lambda: states(lab, nodes) == ["FAILED"])


def test_ctrl_c_cancels_the_job(lab: Lab, nodes: Nodes) -> None:
    def press(line: str) -> None:
        if line == "started":
            os.kill(os.getpid(), signal.SIGINT)

    nodes.hear = press
    with pytest.raises(KeyboardInterrupt):
        nodes.node("bash", "-c", "echo started; sleep 600")
    until(lambda: states(lab, nodes) == ["CANCELLED"])
    assert nodes.folders() == []


def test_a_requeued_job_begins_its_work_again_and_is_followed_to_its_end(lab: Lab, nodes: Nodes) -> None:
    def requeue(line: str) -> None:
        if line == "started 0":
            [job] = {line.split()[1] for line in nodes.said if line.startswith("job ")}
            lab.ask("scontrol", "requeue", job)

    nodes.hear = requeue
    work = 'n=${SLURM_RESTART_COUNT:-0}; echo "started $n"; [ "$n" != 0 ] || sleep 600; exit 5'
    assert nodes.node("bash", "-c", work) == 5
    assert [line for line in nodes.said if line.startswith("started")] == ["started 0", "started 1"]
