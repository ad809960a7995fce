"""Results that are judged by another metric than box AP."""

from __future__ import annotations

import csv
import io
import json

import msgspec
import pytest

from ddqjobs.report.compare import as_text, compare
from ddqjobs.report.formats import render
from ddqjobs.report.loss_curves import Curve
from ddqjobs.report.page import panels, words
from ddqjobs.report.results import frame
from ddqjobs.report.verdict import quanta
from ddqjobs.spec import experiment as e
from ddqjobs.spec.metric import Metric, found_as
from ddqjobs.spec.model import Plan, Run, TaskKind
from tests.unit.report.test_document import Desk, run

PQ = Metric(name="PQ", key="PQ", unit="points", scale=1, decimals=2)
MISS = Metric(name="mMR", key="mMR", direction="lower")


def judged(name: str, phase: str = "3", allowed: float = 0.25) -> Run:
    return run(phase, name, tolerances=(("ap", 9.0), ("metric", allowed)))


def desk_of(metrics: dict[str, Metric | None], value: float) -> Desk:
    """Return an experiment whose models have these metrics and one published figure."""
    desk = Desk(dict.fromkeys(metrics))
    models = {
        name: e.Model(
            reference=e.ReferenceAP(value=value) if metric else e.ReferenceAP(ap=51.3),
            metric=metric,
            implementations={},
        )
        for name, metric in metrics.items()
    }
    desk.experiment = msgspec.structs.replace(desk.experiment, models=models)
    return desk


@pytest.mark.parametrize(
    ("metric", "logged", "expected"),
    [
        (PQ, 39.4, ("39.40", "0.00", "within tolerance (n=1)")),
        (PQ, 39.155, ("39.16", "-0.24", "within tolerance (n=1)")),  # half to even
        (PQ, 39.15, ("39.15", "-0.25", "edge of tolerance (n=1)")),
        (PQ, 39.1, ("39.10", "-0.30", "outside: short (n=1)")),
        (PQ, 39.7, ("39.70", "+0.30", "exceeds: check (n=1)")),
        (MISS, 0.394, ("39.4", "0.0", "within tolerance (n=1)")),
        (MISS, 0.398, ("39.8", "+0.4", "outside: short (n=1)")),  # more misses are worse
        (MISS, 0.390, ("39.0", "-0.4", "exceeds: check (n=1)")),
        (PQ, None, ("nan", "", "short: diverged")),
    ],
)
def test_a_result_is_judged_in_its_own_unit(
    metric: Metric, logged: float | None, expected: tuple[str, str, str]
) -> None:
    desk = desk_of({"m": metric}, 39.4)
    desk.done(judged("m"), {f"some_evaluator/{metric.key}": logged})
    report = desk.report()
    cell = report.models[0].cells[0]
    assert cell is not None
    assert (cell.value.text, cell.difference_text, cell.judgement.word) == expected
    assert report.metrics == (metric.name,)
    assert "AP" not in cell.judgement.rule


@pytest.mark.parametrize(("rounding", "expected"), [("half-even", 2), ("half-up", 3), ("down", 2)])
def test_rounding(rounding: str, expected: int) -> None:
    metric = msgspec.convert({"scale": 1, "decimals": 0, "rounding": rounding}, Metric)
    assert quanta(2.5, metric) == expected
    assert quanta(-0.5, metric) == {"half-even": 0, "half-up": -1, "down": 0}[rounding]


def mixed() -> Desk:
    desk = desk_of({"panoptic": PQ, "boxes": None}, 39.4)
    desk.done(judged("panoptic"), {"coco_panoptic/PQ": 39.1, "coco_panoptic/SQ": 80.0})
    desk.done(run("3", "boxes"), 0.513)
    return desk


def test_several_metrics_in_one_table() -> None:
    report = mixed().report(metrics=("PQ",))
    assert report.metrics == ("result", "PQ")
    assert [row.judged_by.name for row in report.models] == ["PQ", "AP"]
    assert report.models[0].reference == 39.4
    text = render(report, "table", width=None)
    lines = [line.split() for line in text.splitlines() if "3" in line]
    assert any(line[:4] == ["panoptic", "PQ", "39.40", "39.10"] for line in lines), text
    assert any(line[:4] == ["boxes", "AP", "51.3", "51.3"] for line in lines), text
    assert "PQ within 0.25 points of the published 39.40" in text
    assert " & ".join(["model", "metric", "reference", "result"]) in render(report, "latex")
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(render(report, "csv")))}
    panoptic_row = rows["p3-test.panoptic"]
    assert (panoptic_row["metric"], panoptic_row["value"], panoptic_row["unit"]) == ("PQ", "39.1", "points")
    assert (rows["p3-test.boxes"]["AP"], rows["p3-test.boxes"]["metric"]) == ("51.3", "")
    models = json.loads(render(report, "json"))["models"]
    assert (models[0]["metric"]["name"], models[0]["cells"][0]["values"]["PQ"]["decimals"]) == ("PQ", 2)
    assert "metric" not in models[1]


def test_exports_follow_an_experiment_s_own_metric() -> None:
    lower = msgspec.structs.replace(MISS, unit="%", decimals=2, rounding="half-up")
    desk = desk_of({"m": None, "n": None}, 0.0)
    models = {n: e.Model(reference=e.ReferenceAP(value=39.4), implementations={}) for n in ("m", "n")}
    desk.experiment = msgspec.structs.replace(desk.experiment, models=models, metric=lower)
    desk.done(judged("m"), {"mMR": 0.39805})
    desk.done(judged("n"), {"mMR": 0.38})
    report = desk.report()
    first, second = json.loads(render(report, "json"))["models"]
    assert first["metric"] == second["metric"] == {
        "name": "mMR", "key": "mMR", "unit": "%", "direction": "lower", "decimals": 2, "rounding": "half-up",
    }  # fmt: skip
    assert (first["cells"][0]["values"]["mMR"]["text"], first["reference_text"]) == ("39.81", "39.40")
    rows = list(csv.DictReader(io.StringIO(render(report, "csv"))))
    assert [(r["metric"], float(r["value"]), r["unit"], r["direction"]) for r in rows] == [
        ("mMR", 39.81, "%", "lower"), ("mMR", 38.0, "%", "lower"),
    ]  # fmt: skip
    latex = render(report, "latex")
    assert r"{}m & 39.40 & 39.81 & +0.41 & short (n=1) \\" in latex  # more misses are worse
    assert r"{}n & 39.40 & 38.00 & $-$1.40 & exceeds: check (n=1) \\" in latex
    assert r"mMR within 0.25 \% of the published 39.40" in latex


def test_a_table_of_rows_and_a_comparison_have_it() -> None:
    desk = mixed()
    plan = Plan(experiment="mini", site="local", runs=tuple(desk.planned))
    table = frame(desk.experiment, plan, desk.products)
    assert table["value"].tolist()[0] == 39.1
    assert words.metrics(desk.products["p3-test.panoptic"], PQ) == [
        ("PQ", "39.10"),
        ("coco_panoptic/SQ", "80"),
    ]
    alone, later = desk_of({"m": PQ}, 39.4), desk_of({"m": PQ}, 39.4)
    alone.done(judged("m"), {"PQ": 39.1})
    later.done(judged("m"), {"PQ": 39.35})
    text = as_text(compare(alone.report(), later.report(), "a", "b"), "x").grids[0]
    assert text.header[2:4] == ("PQ A", "PQ B")
    assert text.rows[0][4] == "+0.25"


def test_a_difference_is_only_of_what_is_judged_alike() -> None:
    reports = []
    for metric in (Metric(), Metric(decimals=2), Metric(rounding="down")):
        desk = desk_of({"m": metric}, 51.3)
        desk.done(judged("m"), {"bbox_mAP": 0.513})
        reports.append(desk.report())
    for other in reports[1:]:
        (row,) = compare(reports[0], other, "a", "b").rows
        assert (row.ap_a[:4], row.ap_b[:4], row.difference, row.difference_text) == ("51.3", "51.3", None, "")
    (row,) = compare(reports[1], reports[1], "a", "b").rows
    assert (row.difference, row.difference_text) == (0.0, "0.00")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("coco/segm_mAP", "segm_mAP"),
        ("test/coco/segm_mAP", "segm_mAP"),
        ("lvis/segm_mAP", None),
        ("val/coco_panoptic/PQ", "coco_panoptic/PQ"),
        ("coco/PQ", None),  # another evaluator's
        ("PQ", "coco_panoptic/PQ"),
    ],
)
def test_a_key_may_be_written_as_the_log_prints_it(key: str, expected: str | None) -> None:
    assert found_as(key, ("bbox_mAP", "segm_mAP", "coco_panoptic/PQ")) == expected


def test_curves_follow() -> None:
    desk = desk_of({"m": PQ}, 39.4)
    for phase, side in (("3", "legacy"), ("4", "new")):
        desk.done(run(phase, "m", TaskKind.TRAIN, implementation=side), {})
    curves = {
        planned.run.name: Curve(rows=2, last=2, val={"coco_panoptic/PQ": [(1, 30.0), (2, 39.0 + i)]})
        for i, planned in enumerate(desk.planned)
    }
    plan = Plan(experiment="mini", site="local", runs=tuple(desk.planned))
    (group,) = panels.groups(desk.experiment, plan, curves, {})
    assert [panel.title for panel in group.panels] == ["PQ", "PQ difference"]
    assert [final[4] for final in group.finals] == ["39.00", "40.00"]
    assert group.metric == "PQ"


def test_box_ap_is_shown_beside_it_where_asked_for() -> None:
    desk = desk_of({"m": Metric(name="mask AP", key="segm_mAP")}, 39.4)
    desk.done(judged("m"), {"bbox_mAP": 0.5, "segm_mAP": 0.394})
    report = desk.report(metrics=("AP",))
    assert report.metrics == ("mask AP", "AP")
    cell = report.models[0].cells[0]
    assert cell is not None
    assert [value.text for value in cell.values.values()] == ["39.4", "50.0"]
    assert words.measure(report) == "mask AP in points"
