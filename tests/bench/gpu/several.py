"""DDQ DETR, FCN and R-CNN on several GPUs of one machine, and on one, through ``ddqjobs submit``:

    python -m tests.bench.gpu.several OUT [SECONDS [GPUS]]

Trainings of two images of 1333x800 per GPU, ``speed=True``, deterministic, seed 7, by torchrun and NCCL on
the local site. (a) each family on all GPUS (two, if not said), one after the other; (b) FCN and R-CNN again
over as many iterations, and once more with SIGKILL for all of their processes in the middle, and an R-CNN of
which one process is killed: after how many seconds it is over, and goes on. All five run at the same time,
and are compared bit by bit with (a); (c) each family on one GPU, several at a time. One image in four has no
box, so in some iterations the batch of one process has none while others' have: counted from the order of
images.

Exit code 1, with a line on stderr for each, if a part failed, was left out, or is not bit-equal where it
should be. ``BENCH_TINY=1`` is the rehearsal on a machine without GPUs, through gloo.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ddqjobs.detect.job import progress
from tests.bench.gpu import data, families, session, verdict

ITERATIONS = {"detr": (60, 40), "fcn": (200, 60), "rcnn": (200, 60)}  # on all GPUs, on one
EVERY = 45  # iterations between two savings of what is killed
TINY = 6
SEED = 7
CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports={imports!r})
pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    {resize},
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale={size}, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
dataset = dict(type="CocoDataset", data_root={folder!r}, data_prefix=dict(img=""))
model = dict(backbone=dict(init_cfg=None))
train_dataloader = dict(
    batch_size=2,
    num_workers={workers},
    persistent_workers={workers} > 0,
    sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True),
    dataset=dict(_delete_=True, pipeline=pipeline, ann_file="train.json", **dataset),
)
val_dataloader = dict(
    _delete_=True,
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(pipeline=test_pipeline, ann_file="val.json", test_mode=True, **dataset),
)
train_cfg = dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=1, val_interval=1)
val_cfg = dict(_delete_=True, type="ValLoop")
val_evaluator = dict(_delete_=True, type="CocoMetric", ann_file={folder!r} + "val.json", metric="bbox")
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=1),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1),
)
log_processor = dict(type="LogProcessor", window_size=1, by_epoch=True)
"""
# What makes the models small in the rehearsal.
SMALL = {
    "detr": {"model.num_queries": "30", "model.encoder.num_layers": "1", "model.decoder.num_layers": "2"},
    "fcn": {},
    "rcnn": {},
}


class Several(session.Session):
    """A scratch project of its own, so that its jobs do not wait for another's GPUs."""

    resize = 'dict(type="Resize", scale={size}, keep_ratio=True)'  # in the training

    def __init__(self, out: Path, seconds: float, gpus: int, *runs: str) -> None:
        super().__init__(out, seconds, gpus)
        self.root, self.runs = self.root.parent / "several" / runs[0], runs

    def gpus_of(self, run: str) -> int:
        """On how many GPUs a run trains."""
        return 1 if run.split("-")[1] == "one" else self.gpus

    def expected(self, run: str) -> int:
        """Return the number of iterations of a run."""
        return TINY if session.tiny() else ITERATIONS[run.split("-")[0]][run.split("-")[1] == "one"]

    def prepare(self) -> None:
        """Data, configurations, experiment and site."""
        for run in self.runs:
            folder = self.root / f"data-{run}"
            data.write(folder, self.gpus_of(run) * session.BATCH * self.expected(run))
            whole = json.loads((folder / "train.json").read_text())
            whole["annotations"] = [a for a in whole["annotations"] if a["image_id"] % 4]
            (folder / "train.json").write_text(json.dumps(whole))
            whole["images"] = whole["images"][:4]
            whole["annotations"] = [a for a in whole["annotations"] if a["image_id"] <= 4]
            (folder / "val.json").write_text(json.dumps(whole))
            (self.root / f"{run}.py").write_text(self._config(run.split("-")[0], folder))
        site = {"name": "local", "scheduler": "local", "python": sys.executable}
        if session.tiny():
            self._pretended_gpus()
        for path, value in (
            ("templates/local/site.yaml", {**site, "warning": "5s", "grace": "1s"}),
            ("experiments/session.yaml", self._experiment()),
        ):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(json.dumps(value))

    def _config(self, family: str, folder: Path) -> str:
        known = {**families.FAMILIES, "detr": families.MMDET / "ddq-detr-4scale_r50_8xb2-12e_coco.py"}
        imports = [] if family == "detr" else ["ddqjobs.detect.models"]
        workers = 0 if session.tiny() else 4
        size = (200, 120) if session.tiny() else (1333, 800)
        return CONFIG.format(
            base=str(known[family]),
            imports=imports,
            folder=f"{folder}/",
            resize=self.resize.format(size=size),
            size=size,
            workers=workers,
        )

    def _experiment(self) -> dict[str, Any]:
        tasks = {}
        for run in self.runs:
            gpus, small = self.gpus_of(run), SMALL[run.split("-")[0]] if session.tiny() else {}
            tasks[run] = {
                "kind": "train",
                "once": True,
                "code": run,
                "options": {
                    "speed": "True",
                    "randomness.seed": str(SEED),
                    "randomness.deterministic": "True",
                    **small,
                },
                "resources": {"gpus": gpus, "cpus": 1 if session.tiny() else 8 * gpus, "time": "20m"},
                "variables": {
                    "DDQJOBS_SAVE_EVERY": str(
                        (2 if session.tiny() else EVERY) if _interrupted(run) else 10**6
                    )
                },
            }
        codes = {
            run: {
                "launcher": "torchrun",
                "commands": {"train": [*_TRAIN, str(self.root / f"{run}.py"), *_WORDS]},
            }
            for run in self.runs
        }
        return {
            "name": "session",
            "implementations": {},
            "models": {},
            "phases": {},
            "codes": codes,
            "tasks": tasks,
        }

    def interrupted(self, run: str) -> dict[str, Any]:
        """All processes of a training killed in the middle; it goes on after ``ddqjobs retry``."""
        waiting = self._begin(run)
        at = self._kill(run, self.expected(run) // 2 + 1, waiting)
        waiting.wait(max(5.0, self.left()))
        if not self._done(run):
            argv = self.command("retry", "session", run)
            subprocess.run(argv, cwd=self.root, env=session.variables(), check=True)
            self.submit(run)
        return {"killed at": at, **self._went_on(run)}

    def worker(self, run: str) -> dict[str, Any]:
        """One process of a training killed: the seconds until its attempt is over and until the next one has
        done an iteration, if there is one, and what ``ddqjobs submit`` says."""
        waiting = self._begin(run)
        at = self._until(run, self.expected(run) // 2 + 1, waiting)
        os.kill(session.trainers(run)[-1], signal.SIGKILL)
        killed = time.monotonic()
        while not (self.attempt(run) / "exit.json").exists() and self.left() > 5:
            time.sleep(0.1)
        report: dict[str, Any] = {"killed at": at, "over after s": round(time.monotonic() - killed, 1)}
        while waiting.poll() is None and progress.read(self.attempt(run, 2) / "work_dir") is None:
            time.sleep(0.1)
        report["an iteration of the next after s"] = round(time.monotonic() - killed, 1)
        with contextlib.suppress(subprocess.TimeoutExpired):  # what is known by then is a result too
            waiting.wait(max(5.0, self.left()))
        report["said"] = (self.root / f"{run}.txt").read_text()[-1500:]
        return {**report, **(self._went_on(run) if self._done(run) else {"log": self.tail(run)[-1500:]})}

    def _done(self, run: str) -> bool:
        return (self.attempt(run).parents[1] / "product.json").exists()

    def _went_on(self, run: str) -> dict[str, Any]:
        """Return the iteration that the last attempt began at. Raise RuntimeError if it did not resume."""
        attempts = sorted(path.name for path in self.attempt(run).parent.iterdir())
        started = progress.read(self.attempt(run, len(attempts)) / "work_dir")
        if len(attempts) < 2 or started is None or not 0 < started.start < self.expected(run):
            raise RuntimeError(f"{run}: it did not go on: attempts {attempts}, {started}")
        return {"went on from": started.start, "attempts": attempts}

    def _begin(self, run: str) -> subprocess.Popen[bytes]:
        argv = self.command("submit", "session", run, "--wait")
        with (self.root / f"{run}.txt").open("w") as log_file:
            return subprocess.Popen(
                argv, cwd=self.root, env=session.variables(), stdout=log_file, stderr=log_file
            )

    def _until(self, run: str, at: int, waiting: subprocess.Popen[bytes]) -> int:
        """Wait until so many iterations are done; the iterations then."""
        while (state := progress.read(self.attempt(run) / "work_dir")) is None or state.end < at:
            if self.left() < 30 or waiting.poll() is not None:
                raise RuntimeError(f"it did not come to iteration {at}: {self.tail(run)}")
            time.sleep(0.05)
        return state.end


TIMED = tuple(f"{family}-{where}" for where in ("all", "one") for family in ITERATIONS)
BESIDE = ("fcn-again", "rcnn-again", "fcn-killed", "rcnn-killed", "rcnn-worker")
_TRAIN = ("{python}", "-m", "ddqjobs.detect.train")
_WORDS = ("--work-dir", "{work_dir}", "{options}")


def _interrupted(run: str) -> bool:
    return run.split("-")[1] in ("killed", "worker")


def without_boxes(images: int, gpus: int) -> dict[str, int]:
    """In how many iterations no process, some of them, and all have a box in their batch."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    order = [n + 1 for n in torch.randperm(images, generator=generator).tolist()]
    counts = {"none": 0, "some": 0, "all": 0}
    for at in range(0, images // gpus, session.BATCH):
        having = [any(n % 4 for n in order[rank::gpus][at : at + session.BATCH]) for rank in range(gpus)]
        counts["all" if all(having) else "some" if any(having) else "none"] += 1
    return counts


def main() -> int:
    """Every part that there is time for; the exit code."""
    argv = dict(enumerate(sys.argv))
    out, seconds, gpus = Path(argv[1]).absolute(), float(argv.get(2, 900)), int(argv.get(3, 2))
    out.mkdir(parents=True, exist_ok=True)
    os.environ.update({k: v for k, v in session.variables().items() if k.startswith("BENCH_")})
    timed = Several(out, seconds, gpus, *TIMED)
    timed.prepare()
    print("batches with boxes", without_boxes(gpus * session.BATCH * timed.expected("fcn-all"), gpus))
    timed.part("a all GPUs", 120, timed.submit, *TIMED[:3])
    others = {run: Several(out, timed.left(), gpus, run) for run in BESIDE}

    def beside(run: str) -> dict[str, Any]:
        other = others[run]
        other.prepare()
        way = getattr(other, _LATER[run.split("-")[1]])
        return {run: way(run)}

    def bits() -> dict[str, Any]:
        report: dict[str, Any] = {}
        with ThreadPoolExecutor(len(others)) as pool:
            for future in [pool.submit(beside, run) for run in others]:
                try:
                    report.update(future.result())
                except Exception as error:  # the others are worth as much
                    report["error"] = f"{report.get('error', '')} {type(error).__name__}: {error}"[-3000:]
        for run in others:
            if run in report:
                first = f"{run.split('-')[0]}-all"
                report[f"{run} against {first}"] = compare(timed, first, others[run], run)
        return report

    timed.part("b bits", 90, bits)
    timed.part("c one GPU", 60, timed.submit, *TIMED[3:])
    return verdict.end(timed.problems)


_LATER = {"again": "submit", "killed": "interrupted", "worker": "worker"}


def compare(one: Several, first: str, two: Several, second: str) -> dict[str, Any]:
    """Compare losses and gradient norms of a run of each project, bit by bit."""
    report = session.scalars.compare(one.log(first), two.log(second))
    counts = [report["metrics"]["iterations"], report["a"]["iterations"], report["b"]["iterations"]]
    if counts != [one.expected(first)] * 3:
        return {"bit_equal": False, "incomplete": counts}
    return {"bit_equal": report["bit_equal"], **report["metrics"]}


if __name__ == "__main__":
    sys.exit(main())
