"""A real Slurm cluster for tests (tests/labs/slurm), and a project of trivial runs on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.schedulers.slurm import answers
from tests.support.paths import LABS
from tests.support.trivial import TrivialProject, until

SCRIPTS = LABS / "slurm"


class Lab:
    """One cluster: its folder, its daemons by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def up(self) -> process.Completed:
        """Starts what does not run."""
        return process.run([SCRIPTS / "up.sh"], timeout=300, env=self._environment())

    def down(self) -> None:
        """Stops everything and forgets it."""
        process.run([SCRIPTS / "down.sh", "--wipe"], timeout=120, env=self._environment())

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "SLURMLAB_DIR": str(self.folder)}

    @property
    def configuration(self) -> Path:
        """SLURM_CONF."""
        return self.folder / "etc" / "slurm.conf"

    def node(self, number: int) -> str:
        """Name of a node, from 1."""
        return f"lab{(self.folder / 'slot').read_text().strip()}n{number}"

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """kill -9 (or another signal) of a daemon or of a whole node; it is gone afterwards."""
        pid = int((self.folder / "pid" / name).read_text())
        os.kill(pid, number)
        until(lambda: not (Path("/proc") / str(pid)).exists() or _zombie(pid))

    @contextlib.contextmanager
    def cut_off(self, node: str) -> Iterator[None]:
        """A node that answers nobody for a while; its jobs run on."""
        daemon = _slurmd(node)
        os.kill(daemon, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(daemon, signal.SIGCONT)

    def ask(self, *command: str) -> str:
        """Return the output of a command of Slurm; it must succeed."""
        done = process.run(command, timeout=60)
        assert done.code == 0, done
        return done.stdout

    def accounted(self, root: Path) -> list[tuple[str, str, str]]:
        """(job, name without its token, state) of all jobs that a project ever submitted."""
        argv = ["sacct", "-X", "-P", "-n", "--starttime=now-1day", "--format=JobID,JobName,State,WorkDir"]
        rows = [line.split("|") for line in self.ask(*argv).splitlines()]
        rows = [row for row in rows if Path(row[3]).is_relative_to(root)]
        return [(job, row[1].rpartition(".")[0], row[2]) for row in rows for job in answers.expand(row[0])]


def _slurmd(node: str) -> int:
    """pid of a node's daemon."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if arguments[0].endswith(b"slurmd") and node.encode() in arguments:
                return int(entry.name)
    raise AssertionError(f"no slurmd of {node}")


def _zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return ") Z " in (Path("/proc") / str(pid) / "stat").read_text()
    return True


@pytest.fixture(scope="session")
def cluster() -> Iterator[Lab]:
    """A cluster for the session; skips, loudly, where none can be had."""
    if os.geteuid() != 0:
        pytest.skip("SLURM IS NOT TESTED: the virtual cluster of tests/labs/slurm needs root")
    lab = Lab(Path(tempfile.mkdtemp(prefix="slurmlab-")))
    try:
        done = lab.up()
        if done.code:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"SLURM IS NOT TESTED: no virtual cluster here: {last}")
        yield lab
    finally:
        lab.down()
        shutil.rmtree(lab.folder, ignore_errors=True)


@pytest.fixture
def lab(cluster: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The cluster, empty and with everything running, as the environment's one."""
    monkeypatch.setenv("SLURM_CONF", str(cluster.configuration))
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
    monkeypatch.setenv("DDQJOBS_SITE", "slurm")
    yield cluster
    done = cluster.up()
    assert done.code == 0, done
    cluster.ask("scancel", "--user=0")
    until(lambda: not cluster.ask("squeue", "-h"))


class SlurmProject(TrivialProject):
    """Trivial runs on the virtual cluster."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.site()

    def site(self, slurm: dict[str, object] | None = None, **keys: object) -> None:
        """Writes the site file."""
        self.write(
            "templates/slurm/site.yaml",
            {
                "name": "slurm",
                "scheduler": "slurm",
                "slurm": {"partition": "gpu", **(slurm or {})},
                "grace": "0s",
                "warning": "10s",
                "python": sys.executable,
                **keys,
            },
        )


@pytest.fixture
def on_slurm(lab: Lab, tmp_path: Path) -> Iterator[SlurmProject]:
    """A project with two runs, ``first`` and ``second``, the second after the first."""
    project = SlurmProject(tmp_path / "project")
    yield project
    lab.ask("scancel", "--user=0")
    project.close()


def wrap_sbatch(project: TrivialProject, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts an ``sbatch`` before the real one, which is ``$SBATCH``. Questions go to the real one."""
    real = shutil.which("sbatch")
    assert real
    folder = project.root / "bin"
    folder.mkdir()
    wrapper = folder / "sbatch"
    questions = 'case " $* " in *" --test-only "*) exec "$SBATCH" "$@" ;; esac'
    wrapper.write_text(f"#!/bin/bash\nSBATCH={real} ROOT={project.root}\n{questions}\n{script}\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def unwrap(project: TrivialProject) -> None:
    """Removes the ``sbatch`` before the real one."""
    (project.root / "bin" / "sbatch").unlink()
