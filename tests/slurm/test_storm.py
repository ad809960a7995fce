"""One training through all that a cluster does to it, beside one that is left alone: the same losses."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ddqjobs.detect.job import progress
from ddqjobs.detect.job.logs import read
from ddqjobs.planning.filters import Filters
from ddqjobs.project import Project, SubmitOptions, open_project
from ddqjobs.spec.model import Status
from tests.support.paths import ROOT
from tests.support.slurm import Lab
from tests.support.trivial import until

SAVE_EVERY = 5  # iterations, as the experiment says below
ITERATIONS = 640  # 32 images, 2 at a time, 40 epochs: enough to be under way until the last stroke
STORM = """
name: storm
base: nano
tasks:
  data:
    command: ["{python}", -m, ddqjobs.detect.prepare, dataset, --out, "{work_dir}/data", --images-train, "32",
              --images-val, "2", --size, 96x64, --classes, "3", --seed, "1"]
  calm: &training
    kind: train
    implementation: new
    command: ["{python}", -m, ddqjobs.detect.train, "{config}", --work-dir, "{work_dir}", "{options}"]
    inputs: {init: initial.init, data: data.data}
    options: {train_cfg.max_epochs: 40, train_cfg.val_interval: 20}
    variables: {DDQJOBS_SAVE_EVERY: "5"}
    resources: {time: 30m}
  storm:
    <<: *training
    resources: {time: 20m}
"""


class Training:
    """A training under way, seen from outside."""

    def __init__(self, lab: Lab, project: Project, run: str) -> None:
        self.lab, self.project, self.run = lab, project, run
        self.attempts = project.workspace("storm").store.run_dir(run) / "attempts"

    @property
    def attempt(self) -> int:
        """The newest attempt's number; 0 before the first."""
        return max((int(path.name) for path in self.attempts.glob("[0-9]*")), default=0)

    @property
    def job(self) -> str:
        """As Slurm calls it."""
        return self.project.workspace("storm").store.history().of(self.run).tickets[-1].job

    def stretch(self, attempt: int) -> progress.Stretch:
        """Iterations that were done before an attempt and at its end; none before it has begun."""
        return progress.read(self.attempts / str(attempt) / "work_dir") or progress.Stretch(0, 0)

    def done(self, attempt: int) -> int:
        """Iterations that an attempt has done itself."""
        stretch = self.stretch(attempt)
        return stretch.end - stretch.start

    def until_under_way(self, attempt: int) -> str:
        """Waits until that attempt has done three iterations; the node it runs on."""
        until(lambda: self.attempt == attempt and self.done(attempt) >= 3, limit_s=600)
        return str(self.started["host"]).partition(".")[0]

    @property
    def started(self) -> dict[str, object]:
        """Return the record of the newest attempt's start: its time and node."""
        record: dict[str, object] = json.loads(
            (self.attempts / str(self.attempt) / "started.json").read_text()
        )
        return record


def preempt(training: Training, node: str) -> None:
    """Somebody with more priority takes the whole node for a moment."""
    options = ["-p", "gpu", "-w", node, "--exclusive", "-t", "1", "-o", "/dev/null", "--wrap", "true"]
    training.lab.ask("sbatch", *options)


def crash(training: Training, node: str) -> None:
    """kill -9 of the node, which boots again: its daemon does not know the job any more, and Slurm requeues
    it. (That a node stays away Slurm notices by itself after half a minute: ``tests/slurm/test_site.py``.)"""
    training.lab.kill(node)
    assert training.lab.up().code == 0


def requeue(training: Training, node: str) -> None:
    """An operator requeues the job."""
    training.lab.ask("scontrol", "requeue", training.job)


def part(training: Training, node: str) -> None:
    """The node is cut off: it answers nobody, and its job runs on. Slurm takes it for dead, starts the job
    elsewhere, and only then the node comes back."""
    attempt = training.attempt
    with training.lab.cut_off(node):
        until(lambda: training.attempt == attempt + 1, limit_s=180)
        training.until_under_way(attempt + 1)


def run_into_the_limit(training: Training, node: str) -> None:
    """The time limit is moved to one to two minutes from now, closer than its warning: Slurm warns the script
    as soon as it looks, every half minute. The next attempt has all its time again."""
    attempt, job, since = training.attempt, training.job, float(str(training.started["at"]))
    training.lab.ask("scontrol", "update", f"JobId={job}", f"TimeLimit={int(time.time() - since) // 60 + 2}")
    until(lambda: (training.attempts / str(attempt) / "stop").exists())
    training.lab.ask("scontrol", "update", f"JobId={job}", "TimeLimit=20")


STROKES = (preempt, crash, part, preempt, requeue, preempt, run_into_the_limit)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_a_training_that_everything_happens_to_logs_the_losses_of_one_that_is_left_alone(
    lab: Lab, tmp_path: Path
) -> None:
    project = storm_project(tmp_path / "project")
    jobs = project.submit("storm", Filters(tasks=("calm", "storm")), SubmitOptions(upstream=True)).submitted
    assert {"calm.ddq-detr-r18", "storm.ddq-detr-r18"} <= set(jobs)
    training = Training(lab, project, "storm.ddq-detr-r18")
    for number, stroke in enumerate(STROKES, start=1):
        node = training.until_under_way(number)
        stroke(training, node)
        until(lambda after=number: training.attempt > after, limit_s=600)  # type: ignore[misc]

    plan = project.wait("storm", Filters(tasks=("calm", "storm")), SubmitOptions())
    assert {
        planned.run.name: planned.reason for planned in plan.runs if planned.status is not Status.DONE
    } == {}
    products = project.products("storm")
    calm, storm = (products[f"{name}.ddq-detr-r18"] for name in ("calm", "storm"))
    curves = [
        read(training.attempts.parent.parent / product.run / product.artifacts["log"])
        for product in (calm, storm)
    ]
    assert [len(curve.train) for curve in curves] == [ITERATIONS, ITERATIONS]
    same = [{(t.step, k): v for t in c.train for k, v in t.values.items() if "loss" in k} for c in curves]
    assert same[0] == same[1]
    assert calm.metrics == storm.metrics
    assert (calm.report["attempts"], calm.report["repeated_iterations"]) == (1, 0)
    attempts, repeated = storm.report["attempts"], storm.report["repeated_iterations"]
    assert isinstance(attempts, int)
    assert isinstance(repeated, int)
    assert attempts == len(STROKES) + 1
    seams = [(training.stretch(n).end, training.stretch(n + 1).start) for n in range(1, attempts)]
    announced = [seam for stroke, seam in zip(STROKES, seams, strict=True) if stroke not in (crash, part)]
    assert [start - end for end, start in announced] == [0] * 5
    # Only the crash and the cut-off were not announced: each costs one interval at most, and an iteration in
    # which the attempt that was given up finds out.
    assert repeated <= 2 * SAVE_EVERY + 1
    assert {name for _, name, _ in lab.accounted(project.root) if "storm" in name}


def storm_project(root: Path) -> Project:
    (root / "experiments").mkdir(parents=True)
    (root / "experiments" / "storm.yaml").write_text(STORM)
    site = {
        "base": "slurm",
        "slurm": {"partition": "spot", "exclusive": True},  # a node each, so that only one is struck
        "environments": str(ROOT / ".environments"),
        "grace": "2s",
        "warning": "120s",
    }
    (root / "templates" / "slurm").mkdir(parents=True)
    (root / "templates" / "slurm" / "site.yaml").write_text(json.dumps(site))
    return open_project(root)
