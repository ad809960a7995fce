"""A shell in a run's environment, inside a real allocation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Place, Terminal, opened
from tests.support.shell import RUN, TREE


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "a project", TREE) as project:
        yield project


@pytest.mark.usefixtures("lab")
def test_it_is_inside_an_allocation_on_slurm(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    site = {"name": "slurm", "scheduler": "slurm", "slurm": {"partition": "gpu"}, "grace": "0s"}
    place.write("templates/slurm/site.yaml", site)
    monkeypatch.setenv("SLURM_JOB_ID", "1")  # we may be in a job: the shell is none of its steps
    typed = 'echo "$SLURM_JOB_ID $CUDA_VISIBLE_DEVICES $MINE"; hostname'
    ran = place.call("shell", RUN, "--site", "slurm", "--gpus", "2", "-c", typed)
    assert ran.code == 0, ran
    first, node = ran.out.splitlines()
    assert re.fullmatch(rf"\d+ 0,1 a b'{RUN}", first)
    assert node.startswith("lab")
    terminal = Terminal(place, "shell", RUN, "--site", "slurm", columns=400)
    output = terminal.read_until(f"({RUN})")
    assert "in an allocation of its own: srun --nodes=1" in output
    terminal.type("hostname; tty; exit 4\r")
    assert terminal.read_until("/dev/pts/")
    assert terminal.close()[0] == 4
