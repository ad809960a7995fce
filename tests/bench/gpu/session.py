"""Measurements that need several GPUs, in one call of some 550 seconds, most worth first:

    python -m tests.bench.gpu.session OUT [SECONDS [GPUS]]

Trainings go through ``ddqjobs submit`` on the local site, by torchrun and NCCL: DDQ DETR-4scale R-50 at full
size, ``speed=True``, deterministic, seed 7. (a) two trainings on all GPUS (two, if not said), compared bit by
bit, and a third that is killed with SIGKILL in the middle and goes on; (b) two on one GPU each, at the same
time, for images per second; (c) deformable attention at the decoder's shapes, beside mmcv's if MMCV_SOURCE
names its source; (d) inference of one image. mmcv's operator is built right before (c), while nothing is
timed, and not beside the trainings. A part begins only if its share of the time is left; with one GPU there
is no (b). Trainings begin in a scratch project that is made anew.

Exit code 1, with a line on stderr for each, if a part failed, was left out, or is not bit-equal where it
should be. ``BENCH_TINY=1`` is the rehearsal on a machine without GPUs: a small model, gloo, without (c).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ddqjobs.detect.compare import scalars
from ddqjobs.detect.job import logs, progress
from tests.bench.gpu import data, verdict
from tests.bench.gpu.__main__ import configs

CONFIG = Path(__file__).with_name("session_config.py")
REPO = Path(__file__).resolve().parents[3]
ATTENTION_S, INFERENCE_S = 30, 25  # the least that these parts need
# Iterations of the trainings on all GPUs, and on one each; how often the one that is killed saves.
ALL, ONE, BATCH, EVERY = 200, 80, 2, 45
_TINY = (
    "model.num_queries=30",
    "model.encoder.num_layers=1",
    "model.decoder.num_layers=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "train_dataloader.dataset.pipeline.3.scale=(200,120)",
    "val_dataloader.dataset.pipeline.1.scale=(200,120)",
)


def tiny() -> bool:
    """Tell whether this is the rehearsal."""
    return bool(os.environ.get("BENCH_TINY"))


def tiny_options() -> list[str]:
    """Return the options that make the model small in the rehearsal; none otherwise."""
    return list(_TINY) if tiny() else []


class Session:
    """The scratch project, the results so far, and the time."""

    def __init__(self, out: Path, seconds: float, gpus: int) -> None:
        self.out, self.until, self.gpus = out, time.monotonic() + seconds, gpus
        scratch = Path(os.environ.get("BENCH_SCRATCH", str(out / "scratch"))).absolute()
        self.root = scratch / "session"
        self.iterations, self.every = ({1: 6, gpus: 6}, 2) if tiny() else ({1: ONE, gpus: ALL}, EVERY)
        self.results: dict[str, Any] = {}
        self.problems: list[tuple[str, str]] = []

    def left(self) -> float:
        """Seconds."""
        return self.until - time.monotonic()

    def part(self, name: str, needs: float, work: Any, *args: Any) -> None:
        """Do a part if there is time for it; whatever it raises is its result."""
        if self.left() < needs:
            why = f"left out: {self.left():.0f} s left, it needs {needs:.0f}"
            self.results[name] = why
            self.problems.append((name, why))
        else:
            began = time.monotonic()
            try:
                outcome = work(*args)
            except Exception as error:  # the other parts are worth as much
                outcome = {"error": f"{type(error).__name__}: {error}"[-3000:]}
            self.results[name] = {"wall_s": round(time.monotonic() - began, 1), **outcome}
            self.problems += [(name, why) for why in judge(outcome)]
        print(name, json.dumps(self.results[name]), flush=True)
        (self.out / "session.json").write_text(json.dumps(self.results, indent=1))

    def prepare(self) -> None:
        """Data, configuration, experiment and site, all new: a run of before would be taken for done."""
        (self.out / "session.json").unlink(missing_ok=True)
        if self.root.exists():
            shutil.rmtree(self.root)
        for gpus in self.iterations:
            folder = self.root / f"data-{gpus}"
            data.write(folder, gpus * BATCH * self.iterations[gpus])
            whole = json.loads((folder / "train.json").read_text())
            whole["images"] = whole["images"][:4]
            image_ids = {image["id"] for image in whole["images"]}
            whole["annotations"] = [a for a in whole["annotations"] if a["image_id"] in image_ids]
            (folder / "val.json").write_text(json.dumps(whole))
        site = {
            "name": "local",
            "scheduler": "local",
            "python": sys.executable,
            "warning": "5s",
            "grace": "1s",
        }
        if tiny():
            self._pretended_gpus()
        for path, value in (
            ("templates/local/site.yaml", site),
            ("experiments/session.yaml", self._experiment()),
        ):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(json.dumps(value))

    def _pretended_gpus(self) -> None:
        """Install the program that the local site asks for GPUs, in the rehearsal."""
        tool = self.root / "bin" / "nvidia-smi"
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text(f"#!/bin/sh\nseq 0 {self.gpus - 1}\n")
        tool.chmod(0o755)
        os.environ["PATH"] = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"

    def _experiment(self) -> dict[str, Any]:
        options = dict(o.split("=", 1) for o in tiny_options())
        options.update({"speed": "True", "randomness.seed": "7", "randomness.deterministic": "True"})
        tasks = {}
        many = ((name, self.gpus) for name in ("all-a", "all-b", "all-killed"))
        for name, gpus in (*many, ("one-a", 1), ("one-b", 1)):
            tasks[name] = {
                "kind": "train",
                "once": True,
                "code": "ddq",
                "options": options,
                "resources": {"gpus": gpus, "cpus": 1 if tiny() else 8 * gpus, "time": "20m"},
                "variables": {
                    "BENCH_DATA": str(self.root / f"data-{gpus}"),
                    "DDQJOBS_SAVE_EVERY": str(self.every if name == "all-killed" else 10**6),
                },
            }
        command = [
            "{python}",
            "-m",
            "ddqjobs.detect.train",
            str(CONFIG),
            "--work-dir",
            "{work_dir}",
            "{options}",
        ]
        return {
            "name": "session",
            "implementations": {},
            "models": {},
            "phases": {},
            "codes": {
                "ddq": {
                    "launcher": "torchrun",
                    "variables": {"BENCH_REPO": str(REPO), **configs()},
                    "commands": {"train": command},
                }
            },
            "tasks": tasks,
        }

    def command(self, *arguments: str) -> list[str]:
        """A ddqjobs command in the scratch project."""
        return [sys.executable, "-m", "ddqjobs", *arguments, "--site", "local"]

    def submit(self, *runs: str) -> dict[str, Any]:
        """``ddqjobs submit --wait``. Raises RuntimeError with the end of a log."""
        argv = self.command("submit", "session", *runs, "--wait")
        done = subprocess.run(
            argv, cwd=self.root, env=variables(), timeout=max(5.0, self.left()), check=False
        )
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: " + " | ".join(self.tail(run) for run in runs))
        return {run: self.speed(run) for run in runs}

    def attempt(self, run: str, number: int = 1) -> Path:
        """Folder of an attempt."""
        return self.root / "results" / "session" / "runs" / run / "attempts" / str(number)

    def tail(self, run: str) -> str:
        """The end of the last attempt's log."""
        log_paths = sorted((self.attempt(run).parent).glob("*/stdout.log"))
        return f"{run}: {log_paths[-1].read_text()[-2500:]}" if log_paths else f"{run}: no log"

    def log(self, run: str) -> logs.Log:
        """The curve of a done run."""
        return logs.read(self.root / "results" / "session" / "runs" / run / "artifacts" / "log")

    def speed(self, run: str) -> dict[str, Any]:
        """Seconds per iteration (median of the second half), images per second, and the hook's figures.
        Raises RuntimeError for a training that is too short."""
        rows = self.log(run).train
        if len(rows) != self.expected(run):
            raise RuntimeError(f"{run}: {len(rows)} iterations, not {self.expected(run)}")
        seconds = statistics.median(row.values["time"] for row in rows[len(rows) // 2 :])
        gpus = self.gpus_of(run)
        last = rows[-1].values
        usage = {key: last.get(key) for key in ("memory", "gpu_busy", "gpu_hours", "gpu_hours_to_come")}
        return {"iterations": len(rows), "s": seconds, "images/s": gpus * BATCH / seconds, **usage}

    def gpus_of(self, run: str) -> int:
        """On how many GPUs a run trains."""
        return self.gpus if run.startswith("all") else 1

    def expected(self, run: str) -> int:
        """Return the number of iterations of a run."""
        return self.iterations[self.gpus_of(run)]

    def equal(self, one: str, two: str) -> dict[str, Any]:
        """Losses and gradient norms of two runs, bit by bit. Raises RuntimeError if one is too short."""
        report = scalars.compare(self.log(one), self.log(two))
        counts = [report["metrics"]["iterations"], report["a"]["iterations"], report["b"]["iterations"]]
        if counts != [self.expected(one)] * 3:
            raise RuntimeError(
                f"{one} against {two}: {counts[0]} iterations compared of {counts[1]} and {counts[2]}, "
                f"not {self.expected(one)}"
            )
        return {"bit_equal": report["bit_equal"], **report["metrics"]}

    # ------------------------------------------------------------------------------------------ the parts

    def all(self) -> dict[str, Any]:
        """(a) the same training twice."""
        results = self.submit("all-a", "all-b")
        return {**results, "all-a against all-b": self.equal("all-a", "all-b")}

    def killed(self) -> dict[str, Any]:
        """(a) killed in the middle, retried, compared with the one that was left alone."""
        waiting = subprocess.Popen(
            self.command("submit", "session", "all-killed", "--wait"), cwd=self.root, env=variables()
        )
        at = self._kill("all-killed", self.iterations[self.gpus] // 2 + 1, waiting)
        waiting.wait(max(5.0, self.left()))
        if not (self.attempt("all-killed").parents[1] / "product.json").exists():
            subprocess.run(
                self.command("retry", "session", "all-killed"), cwd=self.root, env=variables(), check=True
            )
            self.submit("all-killed")
        attempts = sorted(path.name for path in self.attempt("all-killed").parent.iterdir())
        if len(attempts) < 2:
            raise RuntimeError("it was killed, and yet its first attempt is its only one")
        started = progress.read(self.attempt("all-killed", len(attempts)) / "work_dir")
        if started is None or not 0 < started.start < self.expected("all-killed"):
            raise RuntimeError(f"it was killed at {at} and did not go on: {started}")
        return {
            "killed at": at,
            "went on from": started.start,
            "attempts": attempts,
            "against all-a": self.equal("all-a", "all-killed"),
        }

    def _kill(self, run: str, at: int, waiting: subprocess.Popen[bytes]) -> int:
        """SIGKILL all processes of a training once so many iterations are done; the iterations then."""
        while True:
            state = progress.read(self.attempt(run) / "work_dir")
            if state is not None and state.end >= at:
                break
            if self.left() < 30 or waiting.poll() is not None:
                raise RuntimeError(f"it did not come to iteration {at}: {self.tail(run)}")
            time.sleep(0.05)
        pids = trainers(run)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        if not pids:
            raise RuntimeError(f"no process of {run} was found to kill")
        return state.end

    def one(self) -> dict[str, Any]:
        """(b) the same training on two GPUs at once."""
        results = self.submit("one-a", "one-b")
        result = {**results, "one-a against one-b": self.equal("one-a", "one-b")}
        if isinstance(self.results.get("a all GPUs"), dict) and "all-a" in self.results["a all GPUs"]:
            together = self.results["a all GPUs"]["all-a"]["images/s"]
            result["all GPUs over one"] = together / results["one-a"]["images/s"]
        return result

    def build(self) -> dict[str, Any]:
        """(c) mmcv's operator, with the time that (c) and (d) leave; its compilers end with it."""
        argv = [sys.executable, "-m", "tests.bench.gpu.yardstick"]
        log = self.out / "yardstick.log"
        with log.open("w") as stream:
            building = subprocess.Popen(
                argv, cwd=REPO, env=variables(), stdout=stream, stderr=stream, start_new_session=True
            )
            try:
                code = building.wait(max(5.0, self.left() - ATTENTION_S - INFERENCE_S))
            except subprocess.TimeoutExpired:
                os.killpg(building.pid, signal.SIGKILL)
                building.wait()
                # torch's, for which the next build would wait without end
                (REPO / os.environ.get("MMCV_BUILD", "mmcv-build") / "lock").unlink(missing_ok=True)
                raise
        if code:
            raise RuntimeError(f"exit {code}: {log.read_text()[-2500:]}")
        return {"built": True}

    def module(self, name: str, *arguments: str) -> dict[str, Any]:
        """(c), (d) another script of this folder; what it found also if it says that something is wrong."""
        target = self.out / f"{name}.json"
        target.unlink(missing_ok=True)
        argv = [sys.executable, "-m", f"tests.bench.gpu.{name}", str(target), *arguments]
        done = subprocess.run(
            argv,
            cwd=REPO,
            env=variables(),
            text=True,
            capture_output=True,
            timeout=max(5.0, self.left()),
            check=False,
        )
        result = {"found": json.loads(target.read_text())} if target.exists() else {}
        if done.returncode or not result:
            return {**result, "error": f"exit {done.returncode}: {done.stderr[-2500:]}"}
        return result


def judge(outcome: dict[str, Any]) -> list[str]:
    """List the faults of a part's result: an error, comparisons that are not bit-equal."""
    why = [outcome["error"]] if "error" in outcome else []
    for name, value in outcome.items():
        if isinstance(value, dict) and value.get("bit_equal", True) is not True:
            why.append(
                f"{name}: not bit-equal, first difference at iteration {value.get('first_difference')}"
            )
    return why


def variables() -> dict[str, str]:
    """The environment of everything that is started."""
    paths = [str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = {"OMP_NUM_THREADS": "1"} if tiny() else {}
    known = {"BENCH_REPO": str(REPO), **configs(), "PYTHONUNBUFFERED": "1", **threads}
    return {**os.environ, **known, "PYTHONPATH": os.pathsep.join(paths)}


def trainers(run: str) -> list[int]:
    """Processes of a run's training: not the script that waits for them, nor the launcher of several."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        ours = any(
            v.startswith(b"DDQJOBS_RUN_DIR=") and v.endswith(f"/runs/{run}".encode()) for v in environment
        )
        several = any(v.startswith(b"LOCAL_RANK=") for v in environment)
        if ours and (several or argv[1:3] == [b"-m", b"ddqjobs.detect.train"]):
            pids.append(int(folder.name))
    return pids


def main() -> int:
    """Every part that there is time for; the exit code."""
    argv = dict(enumerate(sys.argv))
    out, seconds, gpus = Path(argv[1]).absolute(), float(argv.get(2, 560)), int(argv.get(3, 2))
    out.mkdir(parents=True, exist_ok=True)
    os.environ.update({k: v for k, v in variables().items() if k.startswith("BENCH_")})
    session = Session(out, seconds, gpus)
    session.prepare()
    session.part("a all GPUs", 150, session.all)
    session.part("a killed and resumed", 130, session.killed)
    if gpus > 1:
        session.part("b one GPU", 60, session.one)
    if tiny():
        session.results["c attention"] = "not in the rehearsal: needs a GPU"
        print("c attention", session.results["c attention"], flush=True)
    else:
        if os.environ.get("MMCV_SOURCE"):
            session.part("c build of mmcv's", ATTENTION_S + INFERENCE_S + 5, session.build)
            if not (isinstance(built := session.results["c build of mmcv's"], dict) and "built" in built):
                del os.environ["MMCV_SOURCE"]  # ours can be measured all the same
        shapes = ("encoder", "decoder 900", "decoder 1350")
        session.part("c attention", ATTENTION_S, session.module, "attention", *shapes)
    session.part("d inference", INFERENCE_S, session.module, "inference")
    return verdict.end(session.problems)


if __name__ == "__main__":
    sys.exit(main())
