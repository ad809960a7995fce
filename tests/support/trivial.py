"""Helpers of several tests: temporary projects whose runs are shell one-liners, without any environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ddqjobs.base import process
from ddqjobs.project import Project
from ddqjobs.spec.model import Input, Plan, PlannedRun, Product, Run, Status, TaskKind
from ddqjobs.store.ledger import AnyRecord, Finished, Intent, Ledger

EXPERIMENT = "trivial"
DIGEST = "-".join(["0" * 12] * 6)
# What a trivial run does: a line in the trace for each execution, then its product.
WORK = 'echo "$DDQJOBS_RUN" >> "$TRACE"; echo done > out.txt; cp out.txt "$DDQJOBS_WORK_DIR"'
_LIMIT_S = 120.0


def until(condition: Callable[[], object], limit_s: float = _LIMIT_S) -> None:
    """Looks again and again until the condition holds."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def a_run(name: str = "r", *upstream: str, digest: str = DIGEST, **keys: Any) -> Run:
    """A run that reads artifacts of others."""
    inputs = tuple((f"i{n}", Input(artifact="out", run=up)) for n, up in enumerate(upstream))
    base: dict[str, Any] = {"experiment": "e", "task": "t", "kind": TaskKind.SMOKE}
    return Run(**{**base, "name": name, "inputs": inputs, "digest": digest, **keys})


def an_intent(token: str, *runs: str, at: float, digest: str = DIGEST, host: str = "h") -> Intent:
    """A submission of runs."""
    return Intent(
        token=token, site="local", scheduler="local", runs=list(runs), digests=[digest] * len(runs),
        host=host, pid=1, start=1, at=at,
    )  # fmt: skip


def an_end(run: str, ticket: str, at: float, *, digest: str = DIGEST, **keys: Any) -> Finished:
    """A ticket's end: with a product, or as ``failure=`` says."""
    product = Product(run=run, digest=digest, kind=TaskKind.SMOKE, attempt=1, ticket=ticket)
    fields = {} if "failure" in keys else {"product": product}
    return Finished(**{"run": run, "ticket": ticket, "at": at, **fields, **keys})


def task(**keys: object) -> dict[str, object]:
    """A task of shell runs that leave ``out.txt``; ``keys`` are the experiment file's."""
    return {"kind": "smoke", "once": True, "code": "shell", "products": {"out": "out.txt"}, **keys}


class TrivialProject:
    """A project below a temporary folder, and what has become of its runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trace = root / "trace"
        root.mkdir()
        self.local_site()
        self.tasks({"first": task(), "second": task(inputs={"before": "first.out"})})

    def write(self, relative: str, content: object) -> None:
        """A file of the project; JSON is YAML too."""
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content)))

    def local_site(self, **keys: object) -> None:
        """Writes the local site's file."""
        site = {"name": "local", "scheduler": "local", "grace": "0s", "warning": "1s",
                "python": sys.executable, "local": {"cpus": 3}, **keys}  # fmt: skip
        self.write("templates/local/site.yaml", site)

    def tasks(self, tasks: Mapping[str, object], work: str = WORK, **keys: object) -> None:
        """Makes these the experiment's tasks, and ``work`` the command of those that name none."""
        shell = {
            "commands": {kind.value: ["sh", "-c", 'cd "$DDQJOBS_ATTEMPT_DIR"; ' + work] for kind in TaskKind},
            "variables": {"TRACE": str(self.trace)},
        }
        content = {"name": EXPERIMENT, "implementations": {}, "codes": {"shell": shell}, "models": {}}
        self.write(f"experiments/{EXPERIMENT}.yaml", {**content, "tasks": tasks, **keys})

    def pairs(self, count: int, work: str = WORK) -> None:
        """Makes the matrix ``first.s<n>`` and, after each of them, ``second.s<n>``."""
        seeds = list(range(count))
        tasks = {"first": task(seeds=seeds), "second": task(seeds=seeds, inputs={"b": "first.out"})}
        self.tasks(tasks, work)

    def open(self) -> Project:
        """The project as a command finds it."""
        return Project(self.root)

    def plan(self) -> Plan:
        """The plan, after a look at the scheduler."""
        return self.open().plan(EXPERIMENT)

    def run(self, name: str) -> PlannedRun:
        """A run in the plan."""
        return {planned.run.name: planned for planned in self.plan().runs}[name]

    def until_over(self) -> dict[str, PlannedRun]:
        """Waits until no run is active; the plan by name."""
        until(lambda: all(planned.status is not Status.ACTIVE for planned in self.plan().runs))
        return {planned.run.name: planned for planned in self.plan().runs}

    def submit_all(self) -> dict[str, PlannedRun]:
        """Submits and waits until nothing is left to do; the plan by name."""
        while self.open().submit(EXPERIMENT).submitted:
            self.until_over()
        return self.until_over()

    def statuses(self) -> Counter[Status]:
        """Count the runs of each status."""
        return Counter(planned.status for planned in self.plan().runs)

    def executions(self) -> Counter[str]:
        """Count the executions of each run."""
        return Counter(self.trace.read_text().split() if self.trace.exists() else ())

    def records(self) -> list[AnyRecord]:
        """The whole ledger; every line of it can be read."""
        ledger = Ledger(self.results / "ledger")
        records = ledger.read()
        assert ledger.unreadable == []
        return records

    @property
    def results(self) -> Path:
        """The experiment's results."""
        return self.root / "results" / EXPERIMENT

    def cli(self, *arguments: str, timeout: float = _LIMIT_S) -> process.Completed:
        """Runs a command line to its end."""
        return process.run(_argv(arguments), timeout=timeout, cwd=self.root)

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command line under way, which writes below the project to ``output``; killed at the end, if it
        still runs."""
        null = subprocess.DEVNULL
        with (
            (self.root / "output").open("ab") as said,
            subprocess.Popen(_argv(arguments), cwd=self.root, stdin=null, stdout=said, stderr=said) as child,
        ):
            try:
                yield child
            finally:
                child.kill()

    @property
    def output(self) -> str:
        """Return what the commands that were started have said."""
        return (self.root / "output").read_text()

    def processes(self) -> list[int]:
        """Whatever runs on behalf of this project."""
        pids = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_text(errors="replace")
                cwd = str((entry / "cwd").readlink())
                if command and int(entry.name) != os.getpid() and str(self.root) in f"{command}\0{cwd}/":
                    pids.append(int(entry.name))
        return pids

    def close(self) -> None:
        """Ends whatever still runs, by force."""

        def ended() -> bool:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.processes()

        until(ended)


@pytest.fixture
def trivial(tmp_path: Path) -> Iterator[TrivialProject]:
    """A project with two runs, ``first`` and ``second``, the second after the first."""
    project = TrivialProject(tmp_path / "project")
    yield project
    project.close()


def fork(action: Callable[[], object]) -> int:
    """Another process that does something: as a command would, but without an interpreter's start. Its pid;
    it must be waited for."""
    pid = os.fork()
    if pid:
        return pid
    try:
        action()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def end_of(pid: int) -> int:
    """Waits for the end of a forked process: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _argv(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-c", "from ddqjobs.cli.main import main; main()", *arguments]
