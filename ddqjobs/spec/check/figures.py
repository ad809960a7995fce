"""Metrics and figures: those that can only be fractions, or finer than what is rounded to. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ddqjobs.spec.check.reference import Found, Path
from ddqjobs.spec.experiment import Experiment, Model, Task, Tolerance, metric_of, metrics_of, models_of
from ddqjobs.spec.metric import BOX_AP, METRICS, Metric

_DIGIT = 0.1  # AP points: detectors print a metric with three decimals, 0.513 for 51.3 points
_MOST = 100
RESERVED = "result"  # the column of tables whose models have several metrics


def figures(e: Experiment) -> Found:
    """Yield the metrics that are ambiguous, and the figures that are not in their metric's unit."""
    yield from _metrics(e)
    for name, model in e.models.items():
        yield from _reference(("models", name, "reference"), model, metric_of(e, name))
    for at, tolerance, metrics in _tolerances(e):
        yield from _tolerance((*at, "tolerance"), tolerance, metrics)


def _metrics(e: Experiment) -> Found:
    declared: list[tuple[Path, Metric]] = [(("metric",), e.metric)]
    declared += [(("models", n, "metric"), m.metric) for n, m in e.models.items() if m.metric is not None]
    first: dict[str, Metric] = {}
    for at, metric in declared:
        key = METRICS.get(metric.name)
        if metric.name == RESERVED:
            yield (*at, "name"), f"'{RESERVED}' is the column of several metrics; choose another name"
        elif key is not None and key != metric.key:
            yield (*at, "name"), f"'{metric.name}' is the name of {key}; choose another one for {metric.key}"
        elif first.setdefault(metric.name, metric) != metric:
            yield (*at, "name"), f"two metrics are named '{metric.name}', and they differ"
        if metric.is_box_ap and not metric.is_fraction:
            # Its references and tolerances are given as ap, in points: another scale is another unit.
            yield (
                (*at, "scale"),
                f"box AP is logged as a fraction and judged in points; leave scale out, or write "
                f"{BOX_AP.scale:g}",
            )


def _reference(at: Path, model: Model, metric: Metric) -> Found:
    ap, value = model.reference.ap, model.reference.value
    if ap is not None and value is not None:
        yield at, "a reference is one figure: ap (of box AP) or value (of any metric)"
        return
    if ap is not None and not metric.is_box_ap:
        yield (*at, "ap"), f"ap is box AP, and this model is judged by {metric.name}; write value: {ap:g}"
        return
    figure, key = (ap, "ap") if value is None else (value, "value")
    if figure is None or not metric.is_fraction:
        return
    name = "AP" if metric.is_box_ap else metric.name
    if 0 < figure < 1:
        yield (*at, key), f"{figure:g} is a fraction; write {name} in points: {100 * figure:g}"
    elif not 0 <= figure <= _MOST:
        yield (*at, key), f"{figure:g} is not a valid {name}; write {name} in points, from 0 to {_MOST}"


def _tolerance(at: Path, tolerance: Tolerance, metrics: list[Metric]) -> Found:
    boxes = [metric for metric in metrics if metric.is_box_ap]
    others = [metric for metric in metrics if not metric.is_box_ap]
    if tolerance.ap is not None and others and not boxes:
        yield (*at, "ap"), f"ap is box AP, and its models are judged by {others[0].name}; write metric"
    elif tolerance.metric is not None and boxes and not others:
        yield (*at, "metric"), "its models are judged by box AP; write ap"
    elif tolerance.ap is not None and 0 < tolerance.ap < _DIGIT and boxes in ([], [BOX_AP]):
        yield (
            (*at, "ap"),
            f"{tolerance.ap:g} AP points is less than the last printed digit ({_DIGIT:g}); "
            f"for a fraction write {100 * tolerance.ap:g}, for equal figures 0",
        )
    else:
        given = [(metric, "ap", tolerance.ap) for metric in boxes]
        given += [(metric, "metric", tolerance.metric) for metric in others]
        for metric, key, value in given:
            if value is not None and 0 < value < 1 / metric.quanta:
                digit = f"{1 / metric.quanta:g} {metric.unit}".rstrip()
                yield (
                    (*at, key),
                    f"{value:g} is less than the last digit of {metric.name} ({digit}); "
                    "for equal figures write 0",
                )
                return


def _tolerances(e: Experiment) -> Iterator[tuple[Path, Tolerance, list[Metric]]]:
    """Yield each tolerance with the metrics of the models that it is for."""
    by_phase: dict[str, dict[str, Metric]] = {}
    for name, task in e.tasks.items():
        metrics = _of_task(e, task)
        by_phase.setdefault(task.phase or "", {}).update(metrics)
        yield ("tasks", name), task.tolerance, list((metrics or metrics_of(e)).values())
    for name, phase in e.phases.items():
        yield ("phases", name), phase.tolerance, list((by_phase.get(name) or metrics_of(e)).values())


def _of_task(e: Experiment, task: Task) -> dict[str, Metric]:
    metrics = (metric_of(e, model) for model, _ in models_of(e, task) if model)
    return {metric.name: metric for metric in metrics}
