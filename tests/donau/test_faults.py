"""Random sequences of commands, answers that go wrong, jobs that start late, crash or come back, and command
lines that die between any two steps. Everything is real but Donau and the jobs, which are steps in here.

``DDQJOBS_EXAMPLES=1000 pytest tests/donau/test_faults.py`` runs more of them, ``DDQJOBS_STEPS=1000`` longer
ones (docs/reference/donau.md).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ddqjobs.base.errors import DdqjobsError
from ddqjobs.base.process import Completed
from ddqjobs.planning.filters import Filters
from ddqjobs.project import Project, SubmitOptions
from ddqjobs.schedulers.donau import options
from ddqjobs.schedulers.donau.scheduler import DonauScheduler
from ddqjobs.spec.model import Plan, Product, Run, Status, TaskKind
from ddqjobs.store.claims import Claims
from ddqjobs.store.ledger import Finished, Ledger, Retried
from ddqjobs.submission import round as submission_round
from ddqjobs.submission import submit as submission
from ddqjobs.submission.rendering import renderer_of
from ddqjobs.submission.submit import Submitter
from ddqjobs.submission.workspace import Workspace
from tests.labs.donau import commands
from tests.labs.donau.state import ENDED, State
from tests.support.donau import shipped
from tests.support.trivial import EXPERIMENT, TrivialProject, task

EXAMPLES = int(os.environ.get("DDQJOBS_EXAMPLES") or 15)
STEPS = int(os.environ.get("DDQJOBS_STEPS") or 50)
HOW = ["good", "good", "good", "silent", "crash", "killed"]  # how a job ends
TASKS: dict[str, object] = {
    "a": task(),
    "b": task(inputs={"x": "a.out"}),
    "c": task(inputs={"x": "a.out"}),
    "d": task(inputs={"x": "b.out", "y": "c.out"}),
}
DSUB = [
    "",
    "",
    "hang",
    "accept-hang",
    "silent",
    "accept-silent",
    "truncated",
    "token",
    "chinese",
    "refuse",
    "two",
]
DJOB = ["", "", "", "hang", "token", "chinese", "lag", "lose", "partial", "truncated", "unknown", "renamed",
        "columns", "unknown-chinese", "notice"]  # fmt: skip
# Where a command line may die: after the n-th return of one of these.
DEATHS: list[tuple[Any, str]] = [
    (Claims, "reserve"), (Claims, "void"), (Claims, "revoke"), (Ledger, "append"), (DonauScheduler, "submit"),
    (DonauScheduler, "find"), (DonauScheduler, "query"), (submission_round, "write_scripts"),
]  # fmt: skip


class DiedError(BaseException):
    """A command line was killed: nothing after this moment happens. No part of it catches this."""


class Donau(State):
    """The lab's Donau in this process. Jobs start when a step says so."""

    def __init__(self, generation: str) -> None:
        data = {"generation": generation, "next": 100, "jobs": {}, "faults": [], "calls": {}, "hosts": []}
        super().__init__(Path("/nonexistent"), data)
        self.dsub, self.djob = "", ""

    def start(self) -> None:
        """Nothing starts by itself."""

    def run(self, argv: Sequence[Any], *, timeout: float, **_: Any) -> Completed:
        """Stands for ``process.run``: a command with the fault that is due."""
        command = [str(word) for word in argv]
        fault = self.dsub if command[0] == "dsub" else self.djob
        if command[0] == "dkill" or "-T" in command:
            fault = "token" if fault == "token" else ""
        try:
            if fault in ("token", "chinese"):
                raise commands.Said(err=commands.TOKEN if fault == "token" else commands.CHINESE, code=1)
            reply = {"dsub": commands.dsub, "djob": commands.djob, "dkill": commands.dkill}[command[0]](
                self, command[1:], fault
            )
        except commands.Said as answer:
            reply = answer
        out, late = reply.out, fault in ("hang", "accept-hang")
        if late or fault in ("silent", "accept-silent"):
            out = ""
        if fault == "truncated":
            out = out[: len(out) * 2 // 3]
        return Completed(tuple(command), -9 if late else reply.code, out, reply.err, timed_out=late)


class Job:
    """The steps of a job's script, one at a time (templates/base.sh.j2)."""

    def __init__(self, results: Path, job: dict[str, Any]) -> None:
        self.results, self.job = results, job
        self.token = Path(job["script"]).parent.name
        self.ticket = f"{self.token}.0"
        manifest = Path(job["script"]).with_name("manifest.jsonl").read_bytes()
        self.run = msgspec.json.decode(manifest, type=Run)
        self.run_dir = results / "runs" / self.run.name
        self.attempt = 0

    @property
    def claim(self) -> list[str]:
        """The claim's lines."""
        return (self.results / "claims" / self.ticket).read_text().splitlines()

    @property
    def mine(self) -> bool:
        """Tell whether this job may run, and speaks for its run."""
        newest = max((int(path.name) for path in (self.run_dir / "attempts").iterdir()), default=0)
        return self.claim == ["run", self.job["id"]] and newest == self.attempt

    def start(self) -> bool:
        """Claims, and makes the attempt; False if there is nothing to do."""
        Claims(self.results).take(self.ticket, f"run\n{self.job['id']}\n")
        product = self.run_dir / "product.json"
        done = product.exists() and f'"{self.ticket}"' in product.read_text()
        if self.claim != ["run", self.job["id"]] or done:
            self.job.update(state="SUCCEEDED" if done else "FAILED", exit=0 if done else 77)
            return False
        for up in self.run.upstream:
            assert (self.results / "runs" / up / "product.json").exists(), f"{up} is not done"
        self.attempt = 1 + sum(1 for _ in (self.run_dir / "attempts").glob("*"))
        folder = self.run_dir / "attempts" / str(self.attempt)
        (folder / "work_dir").mkdir(parents=True)
        self._put(
            folder / "started.json", {"ticket": self.ticket, "job": self.job["id"], "host": "n1", "pid": 1}
        )
        self.job.update(state="RUNNING")
        return True

    def end(self, how: str) -> bool:
        """Ends as ``how`` says; True if it left its product."""
        folder = self.run_dir / "attempts" / str(self.attempt)
        has_product = how in ("good", "silent") and self.mine
        if has_product:
            (folder / "work_dir" / "out.txt").write_text("done\n")
            self._put(self.run_dir / "product.json", Product(
                run=self.run.name, digest=self.run.digest, kind=TaskKind.SMOKE, attempt=self.attempt,
                ticket=self.ticket, artifacts={"out": f"attempts/{self.attempt}/work_dir/out.txt"},
            ))  # fmt: skip
        code = {"crash": 3, "killed": 137}.get(how, 0 if has_product else 77)
        if how in ("good", "crash"):
            self._put(folder / "exit.json", {"code": code, "product": int(not has_product)})
        self.job.update(state="FAILED" if code else "SUCCEEDED", exit=code)
        return has_product

    @staticmethod
    def _put(path: Path, value: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_bytes(msgspec.json.encode(value))
        path.with_suffix(".new").replace(path)


class Faults(RuleBasedStateMachine):
    """Commands, Donau and jobs take turns in any order."""

    generation = "old"

    @initialize()
    def begin(self) -> None:
        self.folder = Path(
            tempfile.mkdtemp(prefix="faults-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        project = TrivialProject(self.folder / "project")
        project.tasks(TASKS)
        front = Project(project.root)
        site = shipped(self.generation)
        zero = msgspec.structs.replace(site.limits, jobs_in_queue=0, calls_per_minute=0)
        self.site = msgspec.structs.replace(
            site, name="lab", limits=zero, modules=[], activate={}, grace="0s", submit_timeout="0s"
        )
        self.front, self.loaded = front, front.load(EXPERIMENT)
        self.results = project.results
        self.donau = Donau(self.generation)
        self.renderer = renderer_of(front.catalog)
        self.jobs: dict[str, Job] = {}  # that have started
        self.old: list[tuple[Workspace, Plan]] = []  # plans that other terminals have made
        self.products: list[str] = []
        self.winners: dict[str, set[str]] = {}
        self.done: set[str] = set()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr("ddqjobs.schedulers.donau.scheduler.process.run", self.donau.run)
        self._patch.setattr("ddqjobs.schedulers.donau.scheduler.shutil.which", lambda _: "/bin/djob")
        self._patch.setattr(submission, "snapshot", lambda *_: "code")

    def _workspace(self) -> Workspace:
        """A command line's view: nothing is remembered from another."""
        workspace = Workspace(self.front.catalog, self.loaded, self.site, self.results)
        section = options.of(self.site)
        workspace._schedulers["lab"] = DonauScheduler("lab", section, confirm_s=1.0, sleep=lambda _: None)
        return workspace

    # -- commands

    @contextmanager
    def _command(self, dsub: str, djob: str, death: tuple[int, int] | None) -> Iterator[None]:
        """A command with the faults of its time, which may die after the n-th return of some function."""
        self.donau.dsub, self.donau.djob = dsub, djob
        with pytest.MonkeyPatch.context() as patch:
            if death is not None:
                owner, name = DEATHS[death[0]]
                patch.setattr(owner, name, _dying(getattr(owner, name), death[1]))
            try:
                yield
            except (DdqjobsError, DiedError):
                pass
            finally:
                self.donau.dsub = self.donau.djob = ""

    def _submit(self, workspace: Workspace, plan: Plan) -> None:
        submitter = Submitter(workspace, self.front.environments(workspace.site), self.renderer)
        submitter.submit(self.front.submitting(plan, Filters(), SubmitOptions()), plan)

    deaths = st.none() | st.tuples(st.integers(0, len(DEATHS) - 1), st.integers(1, 4))

    @rule(dsub=st.sampled_from(DSUB), djob=st.sampled_from(DJOB), death=deaths)
    def submit(self, dsub: str, djob: str, death: tuple[int, int] | None) -> None:
        with self._command(dsub, djob, death):
            workspace = self._workspace()
            self._submit(workspace, workspace.plan())

    @rule(djob=st.sampled_from(DJOB), death=deaths)
    def look(self, djob: str, death: tuple[int, int] | None) -> None:
        with self._command("", djob, death):
            self._workspace().plan()

    @rule(djob=st.sampled_from(DJOB))
    def another_terminal_plans(self, djob: str) -> None:
        with self._command("", djob, None):
            workspace = self._workspace()
            self.old.append((workspace, workspace.plan()))

    @precondition(lambda self: self.old)
    @rule(dsub=st.sampled_from(DSUB), death=deaths, which=st.integers(0, 99))
    def and_submits_later(self, dsub: str, death: tuple[int, int] | None, which: int) -> None:
        workspace, plan = self.old.pop(which % len(self.old))
        with self._command(dsub, "", death):
            self._submit(workspace, plan)

    @rule(name=st.sampled_from(sorted(TASKS)), djob=st.sampled_from(DJOB))
    def cancel(self, name: str, djob: str) -> None:
        with self._command("", djob, None):
            workspace = self._workspace()
            self.front._workspaces = {(EXPERIMENT, "lab"): workspace}
            plan = workspace.plan()
            self.front.cancel(
                plan, [planned for planned in plan.runs if planned.run.name == name], site="lab"
            )

    @rule(name=st.sampled_from(sorted(TASKS)))
    def retry(self, name: str) -> None:
        self._workspace().store.ledger.append(Retried(runs=[name]))

    # -- Donau and the jobs

    def _in_state(self, *states: str) -> list[dict[str, Any]]:
        return [job for job in self.donau.jobs.values() if job["state"] in states]

    @rule(which=st.integers(0, 99))
    def a_job_starts(self, which: int) -> None:
        queued = self._in_state("PENDING")
        if queued:
            self._start(queued[which % len(queued)])

    @rule(which=st.integers(0, 99), how=st.sampled_from(HOW))
    def a_job_ends(self, which: int, how: str) -> None:
        running = self._in_state("RUNNING")
        if running:
            self._end(running[which % len(running)], how)

    @rule(which=st.integers(0, 99))
    def an_operator_starts_a_job_again(self, which: int) -> None:
        ended = [job for job in self._in_state(*ENDED) if job["id"] in self.jobs]
        if ended:
            self._start(ended[which % len(ended)])

    def _start(self, job: dict[str, Any]) -> None:
        execution = self.jobs[job["id"]] = Job(self.results, job)
        if execution.start():
            self.winners.setdefault(execution.ticket, set()).add(job["id"])

    def _end(self, job: dict[str, Any], how: str) -> None:
        execution = self.jobs[job["id"]]
        if job["cancelled"]:
            job.update(state="FAILED", exit=10003)
        elif execution.end(how):
            self.products.append(execution.run.name)

    # -- what must hold

    @invariant()
    def at_most_one_start_has_a_claim(self) -> None:
        assert all(len(jobs) == 1 for jobs in self.winners.values())
        running = [self.jobs[job["id"]] for job in self._in_state("RUNNING")]
        names = [job.run.name for job in running if job.mine]
        assert len(names) == len(set(names)), names

    @invariant()
    def every_product_is_made_once(self) -> None:
        assert len(self.products) == len(set(self.products)), self.products

    @invariant()
    def none_is_done_without_its_product_and_none_is_lost(self) -> None:
        plan = self._workspace().plan(refresh=False)
        assert [planned.run.name for planned in plan.runs] == [run.name for run in self.loaded.runs]
        done = {planned.run.name for planned in plan.runs if planned.status is Status.DONE}
        assert done <= set(self.products)
        assert self.done <= done  # what is done stays done
        self.done = done
        assert all(planned.reason for planned in plan.runs)

    def teardown(self) -> None:
        """The faults end: so does the plan."""
        try:
            self._until_done()
        finally:
            self._patch.undo()
            shutil.rmtree(self.folder)

    def _until_done(self) -> None:
        for _ in range(40):
            for job in self._in_state("PENDING"):
                self._start(job)
            for job in self._in_state("RUNNING"):
                self._end(job, "good")
            workspace = self._workspace()
            plan = workspace.plan()
            if all(planned.status is Status.DONE for planned in plan.runs):
                break
            failed = [planned.run.name for planned in plan.runs if planned.status is Status.FAILED]
            if failed:
                workspace.store.ledger.append(Retried(runs=failed))
            self._submit(workspace, workspace.plan())
        reasons = {
            planned.run.name: planned.reason for planned in plan.runs if planned.status is not Status.DONE
        }
        assert reasons == {}
        assert sorted(self.products) == sorted(TASKS)
        ends = [r for r in Ledger(self.results / "ledger").read() if isinstance(r, Finished) and r.product]
        assert {end.run for end in ends} == set(TASKS)


def _dying(original: Callable[..., Any], times: int) -> Callable[..., Any]:
    countdown = [times]

    def wrapper(*args: Any, **keys: Any) -> Any:
        result = original(*args, **keys)
        countdown[0] -= 1
        if not countdown[0]:
            raise DiedError
        return result

    return wrapper


class NewGeneration(Faults):
    generation = "new"


LIMITS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestOldGeneration = Faults.TestCase
TestOldGeneration.settings = LIMITS
TestNewGeneration = NewGeneration.TestCase
TestNewGeneration.settings = LIMITS
