"""Commands as jobs of the lab's Donau, in both generations, with a ``dsub`` that does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.base.errors import SchedulerError
from tests.support.donau import DonauProject, Lab
from tests.support.node_jobs import NodeProject


class Nodes(NodeProject, DonauProject):
    """Commands on the lab's nodes."""

    def __init__(self, root: Path, lab: Lab) -> None:
        DonauProject.__init__(self, root, lab)
        self.forget()

    def work(self) -> tuple[str, ...]:
        """A line in the trace, and an exit code."""
        return ("bash", "-c", f"echo x >> {self.trace}; echo said; exit 5")


@pytest.fixture
def nodes(donau: Lab, tmp_path: Path) -> Iterator[Nodes]:
    project = Nodes(tmp_path / "project", donau)
    yield project
    project.close()


@pytest.mark.parametrize("fault", ["", "accept-hang", "accept-silent", "accept-truncated"])
def test_a_job_is_followed_to_its_end_whether_or_not_dsub_answered(nodes: Nodes, fault: str) -> None:
    if fault:
        nodes.lab.fault("dsub", fault)
    assert nodes.node(*nodes.work()) == 5
    assert "said" in nodes.said
    assert nodes.trace.read_text() == "x\n"
    assert (len(nodes.lab.jobs()), nodes.folders()) == (1, [])


def test_a_dsub_that_neither_submits_nor_answers_is_given_up(nodes: Nodes) -> None:
    nodes.lab.fault("dsub", "hang")
    with pytest.raises(SchedulerError, match="the job was not found within 3 s and was given up"):
        nodes.node(*nodes.work())
    assert (nodes.lab.jobs(), nodes.folders(), nodes.trace.exists()) == ({}, [], False)


def test_a_dsub_that_refuses_is_an_error_at_once_and_leaves_nothing(nodes: Nodes) -> None:
    nodes.lab.fault("dsub", "refuse")
    with pytest.raises(SchedulerError, match="was refused"):
        nodes.node(*nodes.work())
    assert (nodes.lab.jobs(), nodes.folders()) == ({}, [])
