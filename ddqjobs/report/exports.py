"""Results for other tools: MLflow, Weights & Biases (offline), TensorBoard, written by their own libraries.

Each library is an optional extra and is imported only here, when it is asked for. Every done run with
metrics becomes one run of the tool: its parameters and digest, its metrics, and the whole curve of its log.
The target folder must be new or empty: nothing of what lies there is mixed with this, or written twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ddqjobs.base.errors import MissingError, StateError
from ddqjobs.base.secrets import masked
from ddqjobs.report.cache import LARGEST_LOG
from ddqjobs.spec import grid
from ddqjobs.spec.model import Plan, Product

EXTRAS = {"mlflow": "mlflow", "wandb-offline": "wandb", "tensorboard": "tensorboard"}
_BATCH = 1000  # metrics of one call, MLflow's limit
Point = tuple[int, str, float]  # step, name, value


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """One run for another tool."""

    name: str
    at: float  # when its product was made, seconds since the epoch
    parameters: dict[str, str]
    metrics: dict[str, float]
    log: Path | None = None


def collect(
    plan: Plan, products: Mapping[str, Product], runs_folder: Path, shown: Iterable[str]
) -> list[Exported]:
    """The done runs among ``shown`` that have metrics."""
    wanted = set(shown)
    runs = []
    for planned in plan.runs:
        product = products.get(planned.run.name)
        if product is None or planned.run.name not in wanted or not product.metrics:
            continue
        run = planned.run
        parameters = {
            "experiment": run.experiment,
            "task": run.task,
            "kind": run.kind.value,
            "phase": run.phase,
            "model": run.model,
            "implementation": run.implementation,
            "variant": run.variant,
            "seed": "" if run.seed is None else str(run.seed),
            "deterministic": str(run.deterministic).lower(),
            "code": run.code,
            "environment": run.environment,
            "config": run.config,
            "options": " ".join(run.options),
            "digest": product.digest,
            **{f"grid.{key}": grid.shown(value) for key, value in run.grid},
        }
        log = product.artifacts.get("log")
        runs.append(
            Exported(
                name=run.name,
                at=product.finished_at,
                parameters={key: masked(value) for key, value in parameters.items() if value},
                metrics={k: v for k, v in product.metrics.items() if v is not None and math.isfinite(v)},
                log=runs_folder / run.name / log if log else None,
            )
        )
    return runs


def points(run: Exported) -> Iterator[Point]:
    """Every finite value of a run's log, in order of steps: losses by iteration, metrics of validations as
    ``val/...`` by the iteration that they follow."""
    from ddqjobs.detect.job import logs

    try:
        if run.log is None or run.log.stat().st_size > LARGEST_LOG:
            return
        log = logs.read(run.log)
    except OSError:
        return
    length = max((row.iteration for row in log.train), default=0)
    rows: list[tuple[int, str, Mapping[str, float]]] = []
    for row in log.train:
        step = row.step or (row.epoch - 1) * length + row.iteration
        rows.append((step, "", row.values))
    rows += [(val.step or val.epoch, "val/", val.values) for val in log.val]
    for step, prefix, values in sorted(rows, key=lambda r: r[0]):
        yield from ((step, prefix + name, value) for name, value in values.items() if math.isfinite(value))


def export(kind: str, folder: Path, experiment: str, runs: Sequence[Exported]) -> int:
    """Writes ``runs`` for a tool of :data:`EXTRAS` into ``folder``; returns how many. Raises MissingError
    where the tool's library is not installed, StateError for a folder that is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StateError(f"{folder}: exists and is not empty; give --out another folder")
    if not runs:
        raise MissingError("no done run with metrics to export; `ddqjobs status` shows what is missing")
    try:
        write = _WRITERS[kind]()
    except ImportError as error:
        raise MissingError(
            f"{kind} is not installed ({error}): pip install 'ddqjobs[{EXTRAS[kind]}]'"
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, experiment, runs)
    except OSError as error:
        raise StateError(f"{folder}: {error.strerror or error}") from error
    return len(runs)


Writer = Callable[[Path, str, Sequence[Exported]], None]


def _tensorboard() -> Writer:
    from tensorboard.summary import Writer as Summary

    def write(folder: Path, _experiment: str, runs: Sequence[Exported]) -> None:
        for run in runs:
            summary = Summary(str(folder / run.name))
            said = "; ".join(f"{key}: {value}" for key, value in run.parameters.items())
            step = 0
            for step, name, value in points(run):
                summary.add_scalar(name, value, step, wall_time=run.at)
            for name, value in run.metrics.items():
                summary.add_scalar(f"final/{name}", value, step, wall_time=run.at, description=said)
            summary.close()

    return write


def _mlflow() -> Writer:
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    def write(folder: Path, experiment: str, runs: Sequence[Exported]) -> None:
        # A database: MLflow no longer develops its store of plain files.
        client = MlflowClient(tracking_uri=f"sqlite:///{folder.resolve() / 'mlflow.db'}")
        target = client.create_experiment(experiment, (folder.resolve() / "artifacts").as_uri())
        for run in runs:
            at = int(1000 * run.at)
            created = client.create_run(target, run_name=run.name, start_time=at)
            identity = created.info.run_id
            client.log_batch(identity, params=[Param(k, v[:6000]) for k, v in run.parameters.items()])
            step, batch = 0, []
            for step, name, value in points(run):
                batch.append(Metric(name, value, at, step))
                if len(batch) == _BATCH:
                    client.log_batch(identity, metrics=batch)
                    batch = []
            batch += [Metric(f"final/{name}", value, at, step) for name, value in run.metrics.items()]
            client.log_batch(identity, metrics=batch)
            client.set_terminated(identity, end_time=at)

    return write


def _wandb() -> Writer:
    import wandb

    def write(folder: Path, experiment: str, runs: Sequence[Exported]) -> None:
        settings = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
        for run in runs:
            wandb_run = wandb.init(
                project=experiment,
                name=run.name,
                dir=str(folder),
                mode="offline",
                config=dict(run.parameters),
                settings=settings,
            )
            for step, values in _by_step(points(run)):
                wandb_run.log(values, step=step)
            wandb_run.summary.update({f"final/{name}": value for name, value in run.metrics.items()})
            wandb_run.finish()

    return write


def _by_step(series: Iterable[Point]) -> Iterator[tuple[int, dict[str, Any]]]:
    now = -1
    values: dict[str, Any] = {}
    for step, name, value in series:
        if step != now and values:
            yield now, values
            values = {}
        now = step
        values[name] = value
    if values:
        yield now, values


_WRITERS: dict[str, Callable[[], Writer]] = {
    "mlflow": _mlflow,
    "wandb-offline": _wandb,
    "tensorboard": _tensorboard,
}
