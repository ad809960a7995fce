"""A project whose trainings and tests are all over, as ddqjobs itself would have left it: two codes, a curve
for each training. Nothing is trained: for the report it makes no difference."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random

import msgspec

from ddqjobs.detect.job import curves, logs
from ddqjobs.project import Project, open_project
from ddqjobs.spec.model import Product, Run, TaskKind
from ddqjobs.store.ledger import Finished, Intent, Ledger, Submitted
from ddqjobs.submission.script import manifest_line

AT = 1_790_000_000.0  # when the first run began, seconds since the epoch
TERMS = ("loss_cls", "loss_bbox", "loss_iou", "enc_loss_cls", "enc_loss_bbox", "dn_loss_cls", "aux_loss_cls")


def experiment(models: int, seeds: int) -> str:
    """YAML of phases 3 and 4 of a plan like the paper's."""
    listed = ", ".join(str(1000 * i) for i in range(seeds))
    lines = [
        "name: paper",
        "title: Trainings that are over",
        "implementations: {legacy: the release, new: the new code}",
        "codes:",
        "  old: {title: mmdet 2, commands: {train: ['true', '{seed}'], test: ['true']}}",
        "  new: {title: mmdet 3, commands: {train: ['true', '{seed}'], test: ['true']}}",
        "phases:",
        "  3: {title: train the release, tolerance: {ap: 0.2}}",
        "  4: {title: train the new code, against: 3, tolerance: {ap: 0.2}}",
        "resources: {gpus: 8, time: 2d}",
        "models:",
    ]
    for i in range(models):
        sides = "{legacy: {code: old}, new: {code: new}}"
        lines.append(f"  m{i:03d}: {{reference: {{ap: 51.3, source: a paper}}, implementations: {sides}}}")
    lines.append("tasks:")
    for phase, side in ((3, "legacy"), (4, "new")):
        common = f"phase: {phase}, implementation: {side}, seeds: [{listed}]"
        lines.append(f"  p{phase}-train: {{kind: train, {common}, hours: 26}}")
        lines.append(
            f"  p{phase}-test: {{kind: test, {common}, inputs: {{checkpoint: p{phase}-train.checkpoint}}}}"
        )
    return "\n".join(lines) + "\n"


def a_log(rows: int, seed: int, *, terms: int = len(TERMS), layers: int = 2) -> logs.Log:
    """A training's log: losses that fall and rattle, a learning rate with warm-up and a step, 12 epochs."""
    random, train = Random(seed), []
    for i in range(rows):
        done = i / rows
        lr = 2e-4 * min(1.0, (i + 1) / 2000) * (0.1 if done > 11 / 12 else 1.0)
        values = {"lr": lr, "grad_norm": 20 + 10 * random.random()}
        for k, term in enumerate(TERMS[:terms]):
            level = (1 + k / 4) * (0.3 + math.exp(-4 * done)) * (0.9 + 0.2 * random.random())
            values[term] = level
            values.update({f"d{layer}.{term}": level for layer in range(layers - 1)})
        values["loss"] = sum(value for name, value in values.items() if "loss" in name)
        train.append(logs.Train(1 + 12 * i // rows, 0, i + 1, values))
    val = [logs.Val(e, {"bbox_mAP": round(0.513 * (1 - math.exp(-e / 2.2)), 3)}) for e in range(1, 13)]
    return logs.Log(train, val, [], 0, [])


def ap_of(run: Run) -> float:
    """Seeds scatter by a tenth of a point; both codes alike."""
    return 0.513 + ((run.seed or 0) // 1000 % 3 - 1) / 1000


def make(root: Path, *, models: int = 1, seeds: int = 3, rows: int = 400, distinct: int = 4) -> Project:
    """Writes the project. ``distinct`` logs are made and thinned; trainings take turns with them."""
    (root / "experiments").mkdir(parents=True)
    (root / "experiments" / "paper.yaml").write_text(experiment(models, seeds))
    project = open_project(root)
    workspace = project.workspace("paper")
    thin = [json.dumps(curves.thin(a_log(rows, i))) for i in range(distinct)]
    runs = workspace.loaded.runs
    token = "token"
    submission = workspace.results / "submissions" / token
    submission.mkdir(parents=True)
    (submission / "job.sh").write_text('#!/usr/bin/env bash\necho "$token"\n')
    functions = [f"element_{i}() {{\n  export DDQJOBS_RUN={run.name}\n}}\n" for i, run in enumerate(runs)]
    (submission / "elements.sh").write_text("".join(functions))
    (submission / "manifest.jsonl").write_text("".join(map(manifest_line, runs, functions)))
    ledger = Ledger(workspace.results / "ledger")
    ledger.append(
        Intent(token=token, site="local", scheduler="local", runs=[r.name for r in runs],
               digests=[r.digest for r in runs], host="h", pid=1, start=1),
        Submitted(token=token, jobs={str(i): f"{token}.{i}" for i in range(len(runs))}),
    )  # fmt: skip
    ledger.append(
        *(_end(workspace.store.run_dir(r.name), r, i, thin[i % distinct]) for i, r in enumerate(runs))
    )
    ledger.close()
    return open_project(root)


def _end(folder: Path, run: Run, number: int, curve: str) -> Finished:
    attempt = folder / "attempts" / "1"
    work_dir = attempt / "work_dir"
    work_dir.mkdir(parents=True)
    ticket, start = f"token.{number}", AT + 600.0 * number
    end = start + (93_600 if run.kind is TaskKind.TRAIN else 600)
    started = {"ticket": ticket, "job": ticket, "host": f"node{number % 4}", "pid": 1, "at": start}
    (attempt / "started.json").write_text(json.dumps(started))
    (attempt / "exit.json").write_text(json.dumps({"code": 0, "product": 0, "at": end}))
    (attempt / "stdout.log").write_text("".join(f"Epoch(train) line {i}\n" for i in range(40)))
    artifacts = {}
    if run.kind is TaskKind.TRAIN:
        (work_dir / curves.NAME).write_text(curve)
        artifacts["curve"] = f"attempts/1/work_dir/{curves.NAME}"
    product = Product(
        run=run.name,
        digest=run.digest,
        kind=run.kind,
        attempt=1,
        ticket=ticket,
        finished_at=end,
        metrics={"bbox_mAP": ap_of(run), "bbox_mAP_50": 0.69},
        artifacts=artifacts,
    )
    (folder / "product.json").write_bytes(msgspec.json.encode(product))
    return Finished(run=run.name, ticket=ticket, product=product, attempts=1, started_at=start, ended_at=end)
