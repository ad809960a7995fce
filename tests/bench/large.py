"""A project with an experiment of 10,000 finished runs, as ddqjobs itself would have left it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ddqjobs.project import open_project
from ddqjobs.spec.model import Product, Run, TaskKind
from ddqjobs.store.evidence import product
from ddqjobs.store.ledger import Finished, Intent, Ledger, Submitted

MODELS, SEEDS = 50, 100  # x 2 tasks = 10,000 runs
_CHUNK = 500


def experiment(models: int = MODELS, seeds: int = SEEDS) -> str:
    """YAML of a matrix: each model trained and tested with each seed."""
    lines = [
        "name: large",
        "implementations: {new: new code}",
        "codes: {shell: {commands: {train: ['true', '{seed}'], test: ['true']}}}",
        "phases: {1: {title: train, tolerance: {ap: 0.2}}}",
        "models:",
    ]
    lines += [
        f"  m{i:03d}: {{reference: {{ap: 51.3}}, implementations: {{new: {{code: shell}}}}}}"
        for i in range(models)
    ]
    listed = ", ".join(str(1000 * i) for i in range(seeds))
    lines += [
        "tasks:",
        f"  train: {{kind: train, phase: 1, implementation: new, seeds: [{listed}]}}",
        f"  test: {{kind: test, phase: 1, implementation: new, seeds: [{listed}],"
        " inputs: {checkpoint: train.checkpoint}}",
    ]
    return "\n".join(lines) + "\n"


def make(root: Path) -> int:
    """Writes the project below ``root``; returns the number of runs."""
    (root / "experiments").mkdir(parents=True)
    (root / "experiments" / "large.yaml").write_text(experiment())
    project = open_project(root)
    runs = project.load("large").runs
    results = project.workspace("large").results
    ledger = Ledger(results / "ledger")
    for start in range(0, len(runs), _CHUNK):
        _submission(ledger, results, runs[start : start + _CHUNK], f"token-{start:06d}")
    return len(runs)


def _submission(ledger: Ledger, results: Path, runs: tuple[Run, ...], token: str) -> None:
    ledger.append(
        Intent(
            token=token,
            site="local",
            scheduler="local",
            runs=[r.name for r in runs],
            digests=[r.digest for r in runs],
            host="bench",
            pid=1,
            start=1,
        ),
        Submitted(token=token, jobs={str(i): f"{token}.{i}" for i in range(len(runs))}),
    )
    ends = []
    for i, run in enumerate(runs):
        record = _product(run, f"{token}.{i}")
        folder = results / "runs" / run.name
        attempt = folder / "attempts" / "1"
        attempt.mkdir(parents=True)
        (folder / "product.json").write_bytes(msgspec.json.encode(record))
        assert product(folder) == record
        ends.append(
            Finished(
                run=run.name, ticket=record.ticket, product=record, attempts=1, started_at=1.0, ended_at=9.0
            )
        )
    ledger.append(*ends)


def _product(run: Run, ticket: str) -> Product:
    shift = (sum(run.name.encode()) % 5 - 2) / 1000
    metrics = {f"bbox_mAP{suffix}": 0.513 + shift for suffix in ("", "_50", "_75", "_s", "_m", "_l")}
    artifacts = {"log": "attempts/1/work_dir/scalars.json"}
    if run.kind is TaskKind.TRAIN:
        artifacts["checkpoint"] = "attempts/1/work_dir/epoch_12.pth"
    return Product(
        run=run.name,
        digest=run.digest,
        kind=run.kind,
        attempt=1,
        ticket=ticket,
        finished_at=9.0,
        metrics=dict(metrics),
        artifacts=artifacts,
    )
