"""The paper's matrix in the middle of its work: seven models, four phases, three seeds, 112 runs. Most are
done, some failed, some are to come, as ddqjobs itself would have left them. Nothing is trained."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ddqjobs.detect.job import curves
from ddqjobs.project import Project, open_project
from ddqjobs.spec.model import FailureClass, Product, Ran, Run, TaskKind
from ddqjobs.store.layout import RunFolder
from ddqjobs.store.ledger import AnyRecord, Finished, Intent, Ledger, Submitted
from ddqjobs.submission.script import manifest_line
from tests.support.paper import AT, a_log

# Model -> title, published AP, hours of a training.
MODELS = {
    "fcn-12e": ("DDQ FCN, R-50, 12e", 41.5, 14),
    "fcn-36e": ("DDQ FCN, R-50, 36e", 44.8, 41),
    "rcnn-12e": ("DDQ R-CNN, R-50, 12e", 44.6, 16),
    "rcnn-36e": ("DDQ R-CNN, R-50, 36e", 48.1, 48),
    "detr-4scale": ("DDQ DETR-4scale, R-50, 12e", 51.3, 26),
    "detr-5scale": ("DDQ DETR-5scale, R-50, 12e", 52.1, 48),
    "swinl": ("DDQ DETR-4scale, Swin-L, 30e", 58.7, 118),
}
HOST = "gpu-a{:03d}.cluster.example"
OUT_OF_MEMORY = "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.44 GiB"
# Run, or the beginning of its name -> class, reason, end of the log. The rest of a failed training waits.
FAILURES = {
    "p4-train.detr-5scale": (
        FailureClass.OUT_OF_MEMORY,
        f"GPU memory (exit 1), {OUT_OF_MEMORY}",
        f'  File "/scratch/erika/ddq/models/ddq_detr_head.py", line 311, in loss\n{OUT_OF_MEMORY}',
    ),
    "p4-train.rcnn-36e.s2000": (
        FailureClass.STORAGE,
        "no room on a disk, free some (exit 1), OSError: [Errno 28] No space left on device",
        "OSError: [Errno 28] No space left on device: '/scratch/erika/ddq/epoch_21.pth'",
    ),
    "p3-train.swinl.s1000": (
        FailureClass.NODE,
        "exit 1, RuntimeError: CUDA error: uncorrectable ECC error encountered",
        "RuntimeError: CUDA error: uncorrectable ECC error encountered",
    ),
    "p4-train.fcn-12e.s1000": (
        FailureClass.DIVERGED,
        "exit 1, FloatingPointError: Loss is nan at iteration 2,150",
        "FloatingPointError: Loss is nan at iteration 2,150",
    ),
}
TO_COME = ("p4-train.swinl", "p4-test.swinl")
SHIFTS = {  # AP in thousandths away from the published figure
    "p1-test.fcn-36e": 4, "p2-test.fcn-36e": 4, "p2-test.rcnn-12e": 1, "p3-test.rcnn-12e": -6,
    "p4-test.rcnn-12e": -1,
}  # fmt: skip


def experiment(models: Iterable[str] = MODELS) -> str:
    """Return the YAML of the four phases."""
    sides = "{legacy: {code: old, config: configs/old.py}, new: {code: new, config: configs/new.py}}"
    lines = [
        "name: matrix",
        "title: DDQ in four phases",
        "implementations: {legacy: the release, new: the new code}",
        "codes:",
        "  old: {title: mmdet 2, commands: {train: ['true', '{seed}'], test: ['true'], convert: ['true']}}",
        "  new: {title: mmdet 3, commands: {train: ['true', '{seed}'], test: ['true'], convert: ['true']}}",
        "phases:",
        "  1: {title: released weights in the release, tolerance: {ap: 0.2}}",
        "  2: {title: released weights in the new code, against: 1, tolerance: {ap: 0}}",
        "  3: {title: training the release, tolerance: {ap: 0.2}}",
        "  4: {title: training the new code, against: 3, tolerance: {ap: 0.2}}",
        "resources: {gpus: 8, time: 5d}",
        "models:",
    ]
    for name in models:
        title, ap, hours = MODELS[name]
        lines += [
            f"  {name}:",
            f"    title: {title}",
            f"    reference: {{ap: {ap}, source: README of the release}}",
            f"    hours: {{p3-train: {hours}, p4-train: {hours}}}",
            f"    implementations: {sides}",
        ]
    one = "kind: test, hours: 0.2"
    lines += [
        "tasks:",
        f"  p1-test: {{{one}, phase: 1, implementation: legacy}}",
        "  p2-convert: {kind: convert, phase: 2, implementation: new, hours: 0.1, resources: {gpus: 0}}",
        f"  p2-test: {{{one}, phase: 2, implementation: new, inputs: {{checkpoint: p2-convert.checkpoint}}}}",
        "  p2-align: {kind: align, phase: 2, implementation: new, command: ['true'], hours: 0.2,",
        "    tolerance: {box: 0.1, score: 1.0e-3}, resources: {gpus: 0}, inputs: {new: p2-test.predictions}}",
    ]
    for phase, side in ((3, "legacy"), (4, "new")):
        common = f"phase: {phase}, implementation: {side}, seeds: [0, 1000, 2000]"
        lines.append(f"  p{phase}-train: {{kind: train, {common}}}")
        lines.append(
            f"  p{phase}-test: {{{one}, {common}, inputs: {{checkpoint: p{phase}-train.checkpoint}}}}"
        )
    return "\n".join(lines) + "\n"


def make(root: Path, *, rows: int = 300, distinct: int = 6, terms: int = 7) -> Project:
    """Write the project. ``distinct`` logs of so many loss terms are made; trainings take turns with them."""
    (root / "experiments" / "configs").mkdir(parents=True)
    for side in ("old", "new"):
        (root / "experiments" / "configs" / f"{side}.py").write_text("model = dict(num_queries=900)\n")
    (root / "experiments" / "matrix.yaml").write_text(experiment())
    workspace = open_project(root).workspace("matrix")
    thin = [json.dumps(curves.thin(a_log(rows, i, terms=terms, layers=1))) for i in range(distinct)]
    submitted = [run for run in workspace.loaded.runs if not _is_to_come(run.name)]
    token = "20261101-a1b2c3"
    folder = workspace.results / "submissions" / token
    folder.mkdir(parents=True)
    (folder / "job.sh").write_text('#!/usr/bin/env bash\ncd /scratch/erika/ddq\necho "$token"\n')
    functions = [
        f"element_{i}() {{\n  export DDQJOBS_RUN={run.name}\n}}\n" for i, run in enumerate(submitted)
    ]
    (folder / "manifest.jsonl").write_text("".join(map(manifest_line, submitted, functions)))
    records: list[AnyRecord] = [
        Intent(token=token, site="local", scheduler="local", runs=[r.name for r in submitted],
               digests=[r.digest for r in submitted], host="login1", pid=1, start=1, at=AT - 60),
        Submitted(token=token, jobs={str(i): f"{token}.{i}" for i in range(len(submitted))}, at=AT - 50),
    ]  # fmt: skip
    records += [
        _end(workspace.store.run_dir(run.name), run, i, f"{token}.{i}", thin[i % distinct])
        for i, run in enumerate(submitted)
    ]
    with_ledger = Ledger(workspace.results / "ledger")
    with_ledger.append(*records)
    with_ledger.close()
    return open_project(root)


def failure_of(run: str) -> tuple[FailureClass, str, str] | None:
    """Return how a run failed; None for any other."""
    return next((failure for begin, failure in FAILURES.items() if run.startswith(begin)), None)


def _is_to_come(run: str) -> bool:
    """Return whether a run was not submitted: it waits for a training that failed, or is to come."""
    training = run.replace("-test", "-train")
    return run.startswith(TO_COME) or (training != run and failure_of(training) is not None)


def ap_of(run: Run) -> float:
    """Return the AP as a fraction: seeds scatter by a tenth of a point, and some cells are off."""
    shift = next((value for begin, value in SHIFTS.items() if run.name.startswith(begin)), 0)
    scatter = 0 if run.seed is None else run.seed // 1000 - 1
    return round(MODELS[run.model][1] * 10 + shift + scatter) / 1000


def _metrics(run: Run) -> dict[str, float | None]:
    if run.kind is TaskKind.ALIGN:
        far = zlib.crc32(run.model.encode()) % 90 / 1000
        return {"box": far, "score": far / 200, "unmatched": 0}
    if run.kind is TaskKind.CONVERT:
        return {"tensors": 512, "dropped": 4, "missing": 0, "unexpected": 0}
    ap = ap_of(run)
    more = {"_50": 0.176, "_75": 0.042, "_s": -0.17, "_m": 0.035, "_l": 0.16}
    return {"bbox_mAP": ap, **{f"bbox_mAP{key}": round(ap + far, 3) for key, far in more.items()}}


def _ran(run: Run) -> Ran:
    new = run.implementation == "new"
    packages = (
        {"torch": "2.4.1", "mmcv": "2.1.0", "mmdet": "3.3.0"}
        if new
        else {"torch": "1.9.0", "mmdet": "2.26.0"}
    )
    return Ran(python="3.11.9" if new else "3.8.20", packages=packages, processor="AMD EPYC 7763",
               gpus=("NVIDIA A100-SXM4-80GB",) * 8)  # fmt: skip


def _end(folder: Path, run: Run, number: int, ticket: str, curve: str) -> Finished:
    """Write a run's evidence, and return the record of its end."""
    files = RunFolder(folder).attempt(1)
    files.work_dir.mkdir(parents=True)
    failed = failure_of(run.name)
    trained = 3600.0 * MODELS[run.model][2] if run.kind is TaskKind.TRAIN else 700.0
    start = AT + 9000.0 * number
    end = start + trained * (0.4 if failed else 1)
    host = HOST.format(number % 9)
    started = {"ticket": ticket, "job": str(81000 + number), "host": host, "pid": 1, "at": start}
    files.started.write_text(json.dumps(started))
    files.exit.write_text(json.dumps({"code": 1 if failed else 0, "product": 0, "at": end}))
    log = "".join(f"Epoch(train) [{i}][7300/7330] lr: 2.0e-04 loss: {9 / i:.4f}\n" for i in range(1, 13))
    files.log.write_text(log + (f"{failed[2]}\n" if failed else ""))
    artifacts = {}
    if run.kind is TaskKind.TRAIN:
        (files.work_dir / curves.NAME).write_text(curve)
        artifacts["curve"] = f"attempts/1/work_dir/{curves.NAME}"
    side = 3 if run.implementation == "legacy" else 8
    (files.work_dir / "config.py").write_text(f"model = dict(num_queries=900, workers={side})\n")
    if failed:
        return Finished(run=run.name, ticket=ticket, failure=failed[0], reason=failed[1], attempts=1,
                        node=host, started_at=start, ended_at=end, at=end)  # fmt: skip
    product = Product(run=run.name, digest=run.digest, kind=run.kind, attempt=1, ticket=ticket,
                      finished_at=end,
                      metrics=_metrics(run) if run.kind is not TaskKind.TRAIN else {"bbox_mAP": ap_of(run)},
                      artifacts=artifacts, ran=_ran(run))  # fmt: skip
    RunFolder(folder).product.write_bytes(msgspec.json.encode(product))
    return Finished(run=run.name, ticket=ticket, product=product, attempts=1, node=host,
                    started_at=start, ended_at=end, at=end)  # fmt: skip
