"""The report says what a user would: cells, verdicts, what is missing, and the same in every format."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ddqjobs.cli.describe import summary
from ddqjobs.cli.output import COLOURS
from ddqjobs.detect.job.training_progress import Progress
from ddqjobs.report.columns import COLUMNS
from ddqjobs.report.document import Report, build, rules
from ddqjobs.report.formats import FORMATS, render
from ddqjobs.report.loss_curves import Curve
from ddqjobs.report.missing import MANY
from ddqjobs.report.page import facts, glance
from ddqjobs.report.page.findings import findings
from ddqjobs.report.recomputed import Recomputed, exact_points
from ddqjobs.report.results import frame
from ddqjobs.report.verdict import Outcome
from ddqjobs.spec import experiment as e
from ddqjobs.spec.model import (
    FailureClass,
    Input,
    JobState,
    Plan,
    PlannedRun,
    Product,
    Resources,
    Run,
    Status,
    TaskKind,
)

TOLERANCES = {"1": 0.1, "2": 0.0, "3": 0.2, "4": 0.2}
AGAINST = {"1": "reference", "2": "1", "3": "reference", "4": "3"}
SIDES = {"1": "legacy", "2": "new", "3": "legacy", "4": "new"}


def experiment(models: Mapping[str, float | str | None], title: str = "", **titles: str) -> e.Experiment:
    """Four phases as in the paper's plan; a model's reference is a figure, a task's name, or None."""

    def reference(value: float | str | None) -> e.ReferenceAP:
        return e.ReferenceAP(task=value) if isinstance(value, str) else e.ReferenceAP(ap=value)

    return e.Experiment(
        name="mini",
        title=title,
        implementations={"legacy": "", "new": ""},
        codes={},
        models={
            name: e.Model(title=titles.get(name, ""), reference=reference(value), implementations={})
            for name, value in models.items()
        },
        phases={
            name: e.Phase(title=f"phase {name}", against=AGAINST[name], tolerance=e.Tolerance(ap=ap))
            for name, ap in TOLERANCES.items()
        },
        variants={"seed7": e.Variant(seed=7, reference=False)},
        tasks={},
    )


def run(phase: str, model: str, kind: TaskKind = TaskKind.TEST, **more: object) -> Run:
    values: dict[str, object] = {
        "name": f"p{phase}-{kind.value}.{model}",
        "experiment": "mini",
        "task": f"p{phase}-{kind.value}",
        "kind": kind,
        "phase": phase,
        "model": model,
        "implementation": SIDES.get(phase, ""),
        "tolerances": (("ap", TOLERANCES[phase]),) if phase in TOLERANCES else (),
        "digest": "d1",
    }
    return Run(**{**values, **more})  # type: ignore[arg-type]


def reads(upstream: str) -> tuple[tuple[str, Input], ...]:
    return (("checkpoint", Input(run=upstream, artifact="checkpoint")),)


class Desk:
    """Collects runs and products of one made-up experiment."""

    def __init__(self, models: Mapping[str, float | str | None], **titles: str) -> None:
        self.experiment = experiment(models, **titles)
        self.planned: list[PlannedRun] = []
        self.products: dict[str, Product] = {}
        self.progress: dict[str, Progress] = {}

    def done(
        self, run: Run, ap: float | dict[str, float | None] | None, stale: str = "", **more: object
    ) -> None:
        metrics = ap if isinstance(ap, dict) else {"bbox_mAP": ap}
        self.planned.append(
            PlannedRun(run=run, status=Status.DONE, reason="product", attempts=1, stale=stale)
        )
        self.products[run.name] = Product(
            run=run.name,
            digest="d1",
            kind=run.kind,
            attempt=1,
            metrics=metrics,
            **more,  # type: ignore[arg-type]
        )

    def undone(self, run: Run, status: Status, **more: object) -> None:
        self.planned.append(PlannedRun(run=run, status=status, reason="why", **more))  # type: ignore[arg-type]

    def report(self, **more: object) -> Report:
        plan = Plan(experiment="mini", site="local", runs=tuple(self.planned))
        return build(self.experiment, plan, self.products, progress=self.progress, **more)  # type: ignore[arg-type]


def cell(report: Report, phase: str, row: int = 0) -> tuple[str, str, str]:
    """(AP, difference, verdict) of a phase in one of the report's rows."""
    index = next(i for i, c in enumerate(report.columns) if c.phase == phase)
    phase_cell = report.models[row].cells[index]
    assert phase_cell is not None
    return phase_cell.values["AP"].text, phase_cell.difference_text, phase_cell.judgement.word


@pytest.mark.parametrize(
    ("ap", "expected", "ok"),
    [
        (0.513, ("51.3", "0.0", "within tolerance (n=1)"), True),
        (0.512, ("51.2", "-0.1", "within tolerance (n=1)"), True),
        (0.511, ("51.1", "-0.2", "edge of tolerance (n=1)"), True),
        (0.51, ("51.0", "-0.3", "outside: short (n=1)"), False),
        (0.515, ("51.5", "+0.2", "edge of tolerance (n=1)"), True),
        (0.516, ("51.6", "+0.3", "exceeds: check (n=1)"), False),
        (None, ("nan", "", "short: diverged"), False),
        (float("nan"), ("nan", "", "short: diverged"), False),
        (-1.0, ("–", "", "unknown: AP: no such objects"), False),
        ({}, ("missing", "", "unknown: AP: missing"), False),
    ],
)
def test_one_seed_against_the_published_figure(
    ap: float | dict[str, float | None] | None, expected: tuple[str, str, str], ok: bool
) -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("3", "detr"), ap)
    report = desk.report()
    assert cell(report, "3") == expected
    assert report.ok is ok
    assert "equivalent" not in render(report, "table")


@pytest.mark.parametrize(
    ("legacy", "new", "word", "outcome"),
    [
        (0.513, 0.513, "equal (n=1)", Outcome.EQUAL),
        (0.513, 0.512, "not equal (n=1)", Outcome.DIFFERS),
        (0.513, 0.514, "not equal (n=1)", Outcome.DIFFERS),
        (0.51, 0.510, "equal (n=1)", Outcome.EQUAL),
    ],
)
def test_tolerance_zero_means_the_same_three_decimals(
    legacy: float, new: float, word: str, outcome: Outcome
) -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("1", "detr"), legacy)
    desk.done(run("2", "detr"), new)
    report = desk.report()
    assert cell(report, "2")[2] == word
    phase_cell = report.models[0].cells[1]
    assert phase_cell is not None
    assert phase_cell.judgement.outcome is outcome
    assert "equal to three decimals to the 51." in phase_cell.judgement.rule


def seeds(phase: str, values: Mapping[int, float], desk: Desk) -> None:
    for seed, ap in values.items():
        desk.done(run(phase, "detr", name=f"p{phase}.s{seed}", seed=seed), ap)


def test_three_seeds_are_mean_and_deviation_and_say_n() -> None:
    desk = Desk({"detr": 51.3})
    seeds("3", {0: 0.511, 1: 0.512, 2: 0.513}, desk)
    report = desk.report()
    assert cell(report, "3") == ("51.2 ± 0.10 SD (n=3)", "-0.1", "within tolerance (n=3)")
    assert report.summary[0].text == "phase 3: reproduced 1 of 1"


def test_phases_are_compared_seed_by_seed_where_both_have_them() -> None:
    desk = Desk({"detr": 51.3})
    seeds("3", {0: 0.400, 1: 0.512}, desk)
    seeds("4", {1: 0.511, 2: 0.600}, desk)
    report = desk.report()
    phase_cell = report.models[0].cells[1]
    assert phase_cell is not None
    assert (phase_cell.difference_text, phase_cell.judgement.word) == ("-0.1", "within tolerance (n=1)")
    assert "phase 4: equal within tolerance 1 of 1" in [summary.text for summary in report.summary]
    assert "seed by seed" in phase_cell.judgement.rule


def test_a_mean_on_the_very_edge_of_the_tolerance() -> None:
    desk = Desk({"detr": 51.3})
    seeds("3", {0: 0.510, 1: 0.511, 2: 0.512}, desk)
    assert cell(desk.report(), "3")[1:] == ("-0.2", "edge of tolerance (n=3)")
    desk = Desk({"detr": 51.3})
    seeds("3", {0: 0.510, 1: 0.511, 2: 0.511}, desk)
    assert cell(desk.report(), "3")[1:] == ("-0.233", "outside: short (n=3)")


def test_some_seeds_done_is_not_a_verdict_yet() -> None:
    desk = Desk({"detr": 51.3})
    seeds("3", {0: 0.513, 1: 0.513}, desk)
    desk.undone(run("3", "detr", name="p3.s2", seed=2), Status.WAITING)
    report = desk.report()
    assert cell(report, "3") == ("51.3 ± 0.00 SD (2 of 3)", "0.0", "unknown: 2 of 3 seeds done")
    assert not report.ok


@pytest.mark.parametrize(
    ("status", "more", "text"),
    [
        (Status.ACTIVE, {"state": JobState.RUNNING}, "running (epoch 3/12)"),
        (Status.ACTIVE, {"state": JobState.QUEUED}, "queued"),
        (Status.ACTIVE, {}, "submitted"),
        (Status.ACTIVE, {"state": JobState.UNKNOWN}, "state unknown"),
        (Status.FAILED, {"failure": FailureClass.CODE}, "failed: code"),
        (Status.WAITING, {}, "waiting"),
        (Status.ELIGIBLE, {}, "eligible"),
    ],
)
def test_each_kind_of_no_number_reads_differently(status: Status, more: dict[str, object], text: str) -> None:
    desk = Desk({"detr": 51.3})
    desk.undone(run("3", "detr"), status, **more)
    desk.progress["p3-test.detr"] = Progress(epoch=3, epochs=12)
    report = desk.report()
    assert cell(report, "3") == (text, "", f"unknown: {text}")
    assert not report.ok


def test_a_test_that_waits_for_a_failed_training_says_of_what_it_failed() -> None:
    desk = Desk({"detr": 51.3})
    desk.undone(run("3", "detr", TaskKind.TRAIN), Status.FAILED, failure=FailureClass.OUT_OF_MEMORY)
    desk.undone(run("3", "detr", inputs=reads("p3-train.detr")), Status.WAITING)
    text = "waiting (out-of-memory)"
    assert cell(desk.report(), "3") == (text, "", f"unknown: {text}")


def test_optional_runs_are_neither_missing_nor_held_against_anyone() -> None:
    desk = Desk({"detr": 51.3, "fcn": 41.5})
    desk.done(run("3", "detr"), 0.513)
    desk.undone(run("3", "fcn", optional=True), Status.ELIGIBLE)
    report = desk.report()
    assert cell(report, "3", row=1) == ("optional", "", "not asked for")
    assert report.summary[0].text == "phase 3: reproduced 1 of 1"
    assert report.ok
    assert report.missing == ()
    assert report.outcome is Outcome.REPRODUCED


def test_a_model_without_reference_and_a_variant_it_does_not_hold_for_have_no_verdict() -> None:
    desk = Desk({"detr": 51.3, "toy": None})
    desk.done(run("3", "detr", name="a", variant="seed7", comparable=False), 0.1)
    desk.done(run("4", "detr", name="b", variant="seed7", comparable=False), 0.1)
    desk.done(run("3", "toy"), 0.2)
    report = desk.report()
    assert cell(report, "3") == ("10.0", "", "no reference for this variant")
    assert cell(report, "4")[2] == "within tolerance (n=1)"
    assert cell(report, "3", row=1) == ("20.0", "", "no reference")
    assert report.ok


def test_a_variant_that_the_other_phase_lacks_is_compared_with_its_default() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("3", "detr"), 0.513)
    desk.done(run("4", "detr", name="b", variant="seed7"), 0.512)
    assert cell(desk.report(), "4", row=1) == ("51.2", "-0.1", "within tolerance (n=1)")


def test_the_reference_may_be_the_ap_of_a_run() -> None:
    desk = Desk({"detr": "prepare"})
    prepare = run("", "", TaskKind.PREPARE, name="prepare", task="prepare")
    desk.undone(prepare, Status.WAITING)
    desk.done(run("1", "detr"), 0.354)
    assert cell(desk.report(), "1")[2] == "unknown: task prepare is waiting"
    desk.planned.pop(0)
    desk.done(prepare, 0.354)
    report = desk.report()
    assert cell(report, "1") == ("35.4", "0.0", "within tolerance (n=1)")
    assert (report.models[0].reference, report.checks[0].headline) == (35.4, "AP 35.4")


def test_tests_speak_for_a_phase_that_also_trains() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("3", "detr", TaskKind.TRAIN), 0.1)
    desk.done(run("3", "detr"), 0.513)
    assert cell(desk.report(), "3")[0] == "51.3"


def test_two_test_tasks_in_one_phase_are_two_columns() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("2", "detr", name="a", task="released"), 0.513)
    desk.done(run("2", "detr", name="b", task="converted"), 0.513)
    assert [c.task for c in desk.report().columns] == ["released", "converted"]


def test_adopted_and_stale_results_are_marked_and_explained() -> None:
    desk = Desk({"detr": 51.3, "fcn": 41.5})
    desk.done(run("3", "detr"), 0.513, adopted_from="/elsewhere/work_dir")
    desk.done(run("3", "fcn"), 0.415, stale="config changed")
    text = render(desk.report(), "table")
    assert "51.3 †" in text
    assert "41.5 ‡" in text
    assert "† adopted" in text
    assert "p3-test.fcn: config changed" in text
    assert "ddqjobs submit mini --stale p3-test.fcn" in text


def test_a_checkpoint_that_did_not_load_exactly_is_a_finding() -> None:
    desk = Desk({"detr": 51.3})
    keys = {"missing": ["a", "b", "c", "d"], "unexpected": ["e"]}
    loaded = {"missing": 36, "unexpected": 1, "keys": keys}
    desk.done(run("3", "detr"), 0.513, report={"loaded_inexactly": loaded})
    finding = "did not load exactly: 36 missing keys (a, b, c, ...); 1 unexpected key (e)"
    assert f"p3-test.detr: its checkpoint {finding}" in desk.report().footnotes


def test_a_test_that_detected_nothing_is_named() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("3", "detr"), 0.0, report={"detections": 0})
    desk.done(run("4", "detr"), 0.0, report={"detections": 9})
    assert [note for note in desk.report().footnotes if "detected" in note] == [
        "p3-test.detr: nothing was detected in any image"
    ]


@pytest.mark.parametrize(
    ("legacy", "new", "noted"),
    [
        ((0.0, 0.0004), (0.0, 0.0), True),
        ((0.001, 0.0), (0.0, 0.0), False),  # 0.1 is a figure
        ((0.0, 0.0), (0.4, 0.4), False),  # nothing holds of it
    ],
)
def test_a_model_whose_figures_are_all_0_is_named(
    legacy: tuple[float, float], new: tuple[float, float], noted: bool
) -> None:
    desk = Desk({"detr": None}, detr="DDQ DETR")
    for phase, values in (("3", legacy), ("4", new)):
        seeds(phase, dict(zip((0, 1000), values, strict=True)), desk)
    report = desk.report()
    note = "DDQ DETR: AP is 0.0 in all runs; that figures of 0 are equal shows nothing about the codes"
    assert [line for line in report.footnotes if "figures of 0" in line] == [note] * noted
    assert all((note in render(report, form)) is noted for form in ("table", "markdown", "json"))
    assert report.models[0].cells[1] is not None
    assert report.models[0].cells[1].judgement.good is (new == (0.0, 0.0))


def test_variants_whose_figures_are_all_0_are_named() -> None:
    notes = [note for note in swept(times=0.0).footnotes if "figures of 0" in note]
    assert [note.partition(":")[0] for note in notes] == ["detr, lr-0.0001", "detr, lr-0.0002"], notes


def test_a_training_that_stopped_early_is_named() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("3", "detr"), 0.513, report={"checkpoint": "epoch_2.pth", "stopped_early": "epoch 2 of 5"})
    desk.done(run("4", "detr"), 0.513, report={"checkpoint": "best_coco_bbox_mAP_epoch_4.pth"})
    notes = desk.report().footnotes
    assert "p3-test.detr: stopped early, after epoch 2 of 5" in notes
    assert "p4-test.detr: its checkpoint is best_coco_bbox_mAP_epoch_4.pth, the only one it kept" in notes


def test_a_done_run_whose_product_is_gone_says_so() -> None:
    desk = Desk({"detr": 51.3})
    desk.undone(run("3", "detr"), Status.DONE)
    report = desk.report()
    assert cell(report, "3")[0] == "product missing"
    assert not report.ok
    assert report.missing[0].command == "ddqjobs submit mini --stale p3-test.detr"


def test_what_is_missing_names_the_command_that_brings_it() -> None:
    desk = Desk({f"m{i}": 1.0 for i in range(15)})
    desk.undone(run("3", "m0"), Status.FAILED, failure=FailureClass.HANG)
    for i in range(1, 15):
        desk.undone(run("3", f"m{i}"), Status.ELIGIBLE)
    failed, eligible = desk.report().missing
    assert failed.command == "ddqjobs retry mini p3-test.m0"
    assert (len(eligible.runs), eligible.command) == (14, "ddqjobs submit mini")
    assert "p3-test.m6 and 8 more): ddqjobs submit mini" in render(desk.report(), "table")
    # Of a part all are named: a command without names would take the others too.
    part = desk.report(only=[f"p3-test.m{i}" for i in range(1, 14)]).missing[0]
    assert part.command.split()[2:] == ["mini", *part.runs]


def test_many_runs_of_a_part_are_brought_by_a_filter_that_takes_no_others() -> None:
    desk = Desk({f"m{i}": 1.0 for i in range(8)})
    for i in range(8):
        desk.undone(run("3", f"m{i}"), Status.ELIGIBLE)
        desk.undone(run("4", f"m{i}"), Status.ELIGIBLE)
    part = [f"p3-test.m{i}" for i in range(8)]
    assert desk.report(only=part).missing[0].command == "ddqjobs submit mini --task p3-test"
    desk.undone(run("3", "other"), Status.WAITING)  # which that would take, too
    command = "ddqjobs submit mini --state eligible --task p3-test"
    assert desk.report(only=part).missing[0].command == command
    desk.undone(run("3", "another"), Status.ELIGIBLE)
    assert desk.report(only=part).missing[0].command.split()[3:] == part  # no filter takes them alone


def test_what_waits_for_a_stale_run_is_brought_by_running_that_again() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("3", "detr", TaskKind.TRAIN), 0.513, stale="stale: code changed since it ran")
    desk.undone(run("3", "detr", inputs=reads("p3-train.detr")), Status.WAITING)
    desk.undone(run("4", "detr", inputs=reads("p3-test.detr")), Status.WAITING)
    report = desk.report()
    held, stale = report.missing
    assert (held.what, held.runs) == ("waiting for stale runs", ("p3-test.detr", "p4-test.detr"))
    assert held.command == "ddqjobs submit mini --stale --wait"
    assert stale.command == "ddqjobs submit mini --stale p3-train.detr"
    assert report.overall == "overall: unknown; 1 of 3 required runs done, 1 of them stale"


def test_a_failed_smoke_run_is_enough_for_check_to_fail() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("3", "detr"), 0.513)
    desk.undone(run("", "detr", TaskKind.SMOKE), Status.FAILED, failure=FailureClass.CODE)
    report = desk.report()
    assert not report.ok
    assert report.overall == "overall: unknown; 1 of 2 required runs done"
    assert report.checks[0].says == "failed: code"


def test_a_canary_shows_no_ap() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("", "detr", TaskKind.SMOKE, name="canary.M", task="canary"), 0.003)
    desk.done(run("", "detr", TaskKind.SMOKE, name="p4-smoke.detr", task="p4-smoke"), 0.003)
    assert [row.headline for row in desk.report().checks] == ["ran", "AP 0.3"]


def test_an_empty_report_is_not_ok() -> None:
    assert not Desk({}).report().ok


@pytest.mark.parametrize(
    ("metrics", "headline", "word"),
    [
        ({"tests": 12.0, "failures": 0.0, "errors": 0.0, "skipped": 2.0}, "12 tests", "passed"),
        ({"tests": 12.0, "failures": 1.0, "errors": 1.0}, "12 tests", "failed: 2 failed"),
        ({"tests": 2.0, "skipped": 2.0}, "2 tests", "unknown: no test ran"),
    ],
)
def test_unit_tests_pass_only_if_some_ran_and_none_failed(
    metrics: dict[str, float | None], headline: str, word: str
) -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("2", "detr", TaskKind.UNITTEST), metrics)
    row = desk.report().checks[0]
    assert row.headline.startswith(headline)
    assert row.judgement.word == word


@pytest.mark.parametrize(
    ("findings", "headline", "word"),
    [
        (
            {"tensors": 684, "dropped": ["a", "b"], "missing": []},
            "684 tensors mapped, 2 dropped, 0 missing",
            "passed",
        ),
        ({"tensors": 683, "missing": ["neck.0"]}, "683 tensors mapped, 1 missing", "failed: keys missing"),
        ({"source": "x.pth"}, "converted", "done"),
    ],
)
def test_conversions_account_for_every_key(findings: dict[str, object], headline: str, word: str) -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("2", "detr", TaskKind.CONVERT), {}, report=findings)
    row = desk.report().checks[0]
    assert (row.headline, row.judgement.word) == (headline, word)


def test_filtered_reports_still_compare_with_what_they_do_not_show() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("3", "detr"), 0.513)
    desk.done(run("4", "detr"), 0.512)
    report = desk.report(only={"p4-test.detr"})
    assert [c.phase for c in report.columns] == ["4"]
    assert cell(report, "4")[1] == "-0.1"
    assert len(report.runs) == 1


def four_phases() -> Desk:
    desk = Desk({"detr": 51.3, "fcn": 41.5}, detr="DDQ DETR-4scale R-50 12e", fcn="DDQ FCN R-50 12e")
    for phase, ap in {"1": 0.513, "2": 0.513, "3": 0.511, "4": 0.510}.items():
        desk.done(run(phase, "detr"), {"bbox_mAP": ap, "bbox_mAP_50": 0.7, "bbox_mAP_s": -1.0})
    desk.done(run("1", "fcn"), 0.412, adopted_from="elsewhere")
    desk.undone(run("2", "fcn"), Status.ACTIVE, state=JobState.RUNNING)
    desk.undone(run("3", "fcn", optional=True), Status.ELIGIBLE)
    return desk


@pytest.mark.parametrize("width", [None, 200, 130, 100, 60, 20])
def test_the_terminal_table_fits_the_terminal(width: int | None) -> None:
    text = render(four_phases().report(metrics=("AP50", "APs")), "table", width=width)
    tables = text.split("\n\nSummary")[0].splitlines()[2:]
    assert all(len(line) <= (width or 1000) for line in tables)
    if width is None or width > 100:
        assert "51.3" in text
    assert "phase 1: reproduced 1 of 2 (1 short)" in text


def test_colour_follows_verdicts_and_never_changes_the_text() -> None:
    report = four_phases().report()
    used: set[str] = set()

    def style(name: str, text: str) -> str:
        used.add(name)
        return f"\x1b[1m{text}\x1b[0m"

    coloured = render(report, "table", width=250, style=style)
    plain = re.sub(r"\x1b\[\dm", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == render(report, "table", width=250).splitlines()
    assert used == {"head", "reproduced", "equal", "short", "unknown"}


def test_the_json_document_keeps_its_keys() -> None:
    document = json.loads(render(four_phases().report(), "json"))
    assert list(document) == [
        *("version", "kind", "experiment", "title", "ok", "outcome", "overall", "metrics", "columns"),
        *(
            "models",
            "alignment",
            "curves",
            "variants",
            "recomputed",
            "classes",
            "checks",
            "summary",
            "missing",
            "hours",
        ),
        *("footnotes", "runs"),
    ]
    assert (document["version"], document["kind"], document["ok"]) == (2, "report", False)
    assert list(document["runs"][0]) == list(COLUMNS)
    assert list(document["models"][0]["cells"][0]) == [
        *("values", "reference", "difference", "difference_text", "tolerance", "judgement", "required"),
        *("adopted", "stale", "accepted", "runs", "seeds"),
    ]
    judgement = document["models"][0]["cells"][0]["judgement"]
    assert list(judgement) == ["outcome", "word", "brief", "rule", "n", "excluded", "test"]
    assert document["models"][0]["cells"][0]["values"]["AP"]["quanta"] == [513]


def test_classes_are_compared_where_the_ap_table_compares() -> None:
    desk, recomputed = Desk({"detr": 51.3}), dict[str, Recomputed]()
    for phase, implementation, task, classes in (
        ("3", "legacy", "all", {"a": 0.4}),
        ("3", "legacy", "again", {"a": 0.1}),
        ("3", "new", "all", {"a": 0.55}),
        ("3", "new", "all", {}),  # not computed
        ("4", "legacy", "fast", {"a": 0.5}),
        ("4", "new", "fast", {"a": 0.6}),
        ("4", "new", "slow", {"a": 0.8}),
    ):
        name = f"r{len(recomputed)}"
        desk.done(run(phase, "detr", name=name, task=task, implementation=implementation), 0.5)
        recomputed[name] = Recomputed(run=name, classes=classes)
    report = desk.report(recomputed=recomputed)
    assert [(r.implementation, r.task, round(r.ap), round(r.other)) for r in report.classes] == [
        ("new", "slow", 80, 55),
        ("legacy", "fast", 50, 40),
        ("new", "fast", 60, 55),
    ]
    assert re.search(r"detr +a +4 new slow +80\.0 +3 +55\.0 +\+25\.0", render(report, "table", width=200))


@pytest.mark.parametrize(
    ("logged", "outcome", "word"),
    [
        ({"segm_mAP": 0.4}, None, "the log has no box AP"),
        ({"a/bbox_mAP": 0.9, "b/bbox_mAP": 0.5}, None, "the log has no box AP"),
        ({"a/bbox_mAP": 0.9}, Outcome.DIFFERS, "differs: AP"),
        ({"bbox_mAP": 0.5, "a/bbox_mAP_50": 0.1}, Outcome.DIFFERS, "differs: AP50"),
        ({"bbox_mAP": 0.5, "segm_mAP": 0.4}, Outcome.EQUAL, "equal"),
    ],
)
def test_only_a_printed_box_ap_can_be_equal_to_the_recomputed_one(
    logged: dict[str, float | None], outcome: Outcome | None, word: str
) -> None:
    desk = Desk({"detr": None})
    desk.done(run("3", "detr"), logged)
    again = Recomputed(run="p3-test.detr", metrics={"bbox_mAP": 0.5, "bbox_mAP_50": 0.7})
    (row,) = desk.report(recomputed={again.run: again}).recomputed
    assert (row.judgement.outcome, row.judgement.word) == (outcome, word)
    exact = exact_points({again.run: again}, desk.products)
    assert exact == ({again.run: 50.0} if outcome is Outcome.EQUAL else {})


def test_json_writes_nan_as_null() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("3", "detr"), float("nan"))
    document = json.loads(render(desk.report(), "json"), parse_constant=pytest.fail)
    assert document["runs"][0]["AP"] is None
    assert document["runs"][0]["metric_notes"].startswith("AP: nan")


def test_csv_is_the_flat_frame() -> None:
    desk = four_phases()
    read = list(csv.DictReader(io.StringIO(render(desk.report(), "csv"))))
    plan = Plan(experiment="mini", site="local", runs=tuple(desk.planned))
    table = frame(desk.experiment, plan, desk.products)
    assert list(read[0]) == list(table.columns)
    assert [row["run"] for row in read] == list(table["run"])
    assert [row["ap_quanta"] for row in read][:3] == ["513", "513", "511"]


HOSTILE = "a|b \"q\" 'x' $(rm) `id` \\ & % # _ ~ ^ { } <b> @me "
HOSTILE += "\x1b[31mred\x07 \x9b2J \u202e \n| new 中文 =1+1"


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_names_are_data_in_every_format(form: str) -> None:
    desk = Desk({"detr": 51.3}, detr=HOSTILE)
    desk.experiment = experiment({"detr": 51.3}, title=HOSTILE, detr=HOSTILE)
    desk.done(run("3", "detr", name=HOSTILE), 0.513, stale=HOSTILE, adopted_from="=" + HOSTILE)
    text = render(desk.report(), form)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "中文" in text


def test_markdown_rows_keep_their_columns_and_latex_its_specials() -> None:
    desk = Desk({"detr": 51.3}, detr=HOSTILE)
    desk.done(run("3", "detr"), 0.511)
    lines = [line for line in render(desk.report(), "markdown").splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "<b>" not in "".join(lines)
    latex = render(desk.report(), "latex")
    row = next(line for line in latex.splitlines() if "textasciitilde" in line)
    assert row.count(" & ") == 4
    assert not re.search(r"(?<!\\)[#%_]", row)
    assert "$-$0.2" in row


def test_latex_names_each_phase_once_above_its_columns_and_fits_the_line() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("1", "detr"), 0.513)
    desk.done(run("3", "detr"), 0.511)
    rows = render(desk.report(), "latex").splitlines()
    above, rules, below = rows[rows.index(r"\toprule") + 1 :][:3]
    assert above.count(r"\multicolumn{3}{c}{phase ") == 2
    assert rules == r"\cmidrule(lr){3-5} \cmidrule(lr){6-8}"
    assert below == r"{}model & reference & AP & diff & verdict & AP & diff & verdict \\"
    assert rows.count(r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%") == sum(
        row == r"\centering" for row in rows
    )


def test_json_round_trips_hostile_text() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("3", "detr", name=HOSTILE), 0.513)
    assert json.loads(render(desk.report(), "json"))["runs"][0]["run"] == HOSTILE


def test_spreadsheets_see_no_formula() -> None:
    desk = Desk({"detr": 51.3})
    desk.done(run("3", "detr"), 0.513, adopted_from="=HYPERLINK(1)")
    assert "'=HYPERLINK(1)" in render(desk.report(), "csv")


def align(metrics: dict[str, float | None], tolerances: Sequence[tuple[str, float]]) -> Report:
    desk = Desk({"detr": 51.3})
    desk.done(run("2", "detr", TaskKind.ALIGN, tolerances=tuple(tolerances)), metrics)
    return desk.report()


PREDICTIONS = {"box": 0.004, "score": 0.0, "unmatched": 0.0}
LOSSES = {"iterations": 50.0, "loss": 0.0002, "first_difference": 7.0, "left_over": 0.0}
BIT_EQUAL = {"iterations": 50.0, "loss": 0.0, "left_over": 0.0}


@pytest.mark.parametrize(
    ("metrics", "tolerances", "line", "ok"),
    [
        (PREDICTIONS, [("box", 0.01), ("loss", 0.1)], "2      0.004 0 0 within tolerance", True),
        (PREDICTIONS, [("box", 0.001)], "2 0.004 0 0 outside: box", False),
        (LOSSES, [("loss", 0.001)], "2 iteration 7 of 50 0.0002 within tolerance", True),
        (BIT_EQUAL, [("loss", 0.0)], "2 none of 50 0 equal", True),
        (LOSSES, [], "2 iteration 7 of 50 0.0002 no tolerance given", True),
        (
            {**LOSSES, "loss": None},
            [("loss", 1.0)],
            "2 iteration 7 of 50 nan outside: loss",
            False,
        ),
        ({}, [("loss", 1.0)], "2 unknown: nothing was compared", False),
    ],
)
def test_alignment_rows_show_the_differences_and_judge_by_the_run_s_tolerances(
    metrics: dict[str, float | None], tolerances: Sequence[tuple[str, float]], line: str, ok: bool
) -> None:
    report = align(metrics, tolerances)
    row = next(text for text in render(report, "table").splitlines() if text.startswith("p2-align.detr"))
    assert row.split()[1:] == line.split()
    assert report.ok is ok


def test_the_difference_in_ap_of_an_alignment_is_called_one() -> None:
    text = render(align({**PREDICTIONS, "ap": 0.0}, [("ap", 0.1)]), "table")
    table = text[text.index("Alignment") :].splitlines()
    assert table[1].split()[:4] == ["run", "phase", "AP", "diff"], table
    assert "0.0" in next(line for line in table if line.startswith("p2-align.detr")).split()


SIDE = {"shape": [2, 3], "type": "float32", "not_finite": 0, "min": -1.0, "max": 2.0, "mean": 0.5, "std": 1.0}
NO_NUMBERS = dict.fromkeys(("min", "max", "mean", "std"))
MODULES = {"module": 0.25, "differing": 2.0, "modules": 40.0, "left_over": 0.0}


@pytest.mark.parametrize(
    ("metrics", "first", "tolerances", "line"),
    [
        (MODULES, "neck.convs.1", [("module", 1e-5)], "0.25 neck.convs.1 of 40 outside: modules"),
        ({**MODULES, "module": 0.0}, None, [("module", 1e-5)], "0 none of 40 equal"),
        (MODULES, "neck.convs.1", [], "0.25 neck.convs.1 of 40 no tolerance given"),
    ],
)
def test_the_first_module_that_differs_is_named(
    metrics: dict[str, float | None], first: str | None, tolerances: Sequence[tuple[str, float]], line: str
) -> None:
    desk = Desk({"detr": 51.3})
    findings: dict[str, object] = {"first": {"name": first} if first else None}
    aligned = run("2", "detr", TaskKind.ALIGN, tolerances=tuple(tolerances))
    desk.done(aligned, metrics, report=findings)
    text = render(desk.report(), "table")
    row = next(text for text in text.splitlines() if text.startswith("p2-align.detr"))
    assert row.split()[2:] == line.split()


@pytest.mark.parametrize(
    ("gap", "b", "note"),
    [
        (
            0.5,
            SIDE,
            "value of call 0 differs by 0.5: (2, 3) float32, -1 to 2, mean 0.5, deviation 1 against ",
        ),
        (None, None, "against nothing"),
        (None, {**SIDE, "not_finite": 6, **NO_NUMBERS}, "against (2, 3) float32"),
        (
            None,
            {**SIDE, "not_finite": 1},
            "against (2, 3) float32, -1 to 2, mean 0.5, deviation 1, 1 not finite",
        ),
    ],
)
def test_values_of_the_first_module_that_differs_are_told(gap: float | None, b: object, note: str) -> None:
    desk = Desk({"detr": 51.3})
    first = {"name": "neck", "call": 0, "part": "value", "difference": gap, "a": SIDE, "b": b}
    desk.done(run("2", "detr", TaskKind.ALIGN), {**MODULES, "module": gap}, report={"first": first})
    (footnote,) = [text for text in desk.report().footnotes if text.startswith("p2-align.detr")]
    assert footnote.startswith("p2-align.detr: neck, value of call 0 ")
    assert note in footnote


def test_ten_thousand_runs_take_seconds() -> None:
    models = {f"m{i}": 51.3 for i in range(2500)}
    desk = Desk(models)
    for model in models:
        for phase in TOLERANCES:
            desk.done(run(phase, model, resources=Resources(gpus=8), hours=1.0), 0.513)
    start = time.process_time()
    render(desk.report(), "table", width=160)
    assert time.process_time() - start < 5


EXACT: dict[str, Any] = {
    "seed": 7,
    "deterministic": True,
    "config": "a.py",
    "options": ("randomness.seed=7", "randomness.deterministic=True"),
}


def repeated(
    desk: Desk, bit_equal: bool, first: float | None = None, stale: str = "", **more: object
) -> None:
    metrics: dict[str, float | None] = {
        "iterations": 50.0,
        "loss": 0.0 if bit_equal else 1e-6,
        "left_over": 0.0,
    }
    if first is not None:
        metrics["first_difference"] = first
    repeat_run = run("3", "detr", TaskKind.ALIGN, **{**EXACT, "tolerances": (), **more})
    desk.done(repeat_run, metrics, stale, report={"kind": "repeat", "bit_equal": bit_equal})


@pytest.mark.parametrize(
    ("tried", "proof", "ok"),
    [
        (None, "not proven", True),
        ({"bit_equal": True}, "bit-equal over 50 iterations", True),
        ({"bit_equal": False, "first": 3.0}, "differs from iteration 3", False),
        ({"bit_equal": True, "seed": 9, "options": ("randomness.seed=9", EXACT["options"][1])},
         "bit-equal over 50 iterations (seed 9)", True),
        ({"bit_equal": True, "config": "b.py"}, "not proven", True),
        ({"bit_equal": True, "options": ("randomness.seed=7",), "deterministic": False}, "not proven", True),
        ({"bit_equal": True, "stale": "its code has changed"}, "not proven", False),
    ],
)  # fmt: skip
def test_the_deterministic_flag_stands_beside_its_proof(
    tried: dict[str, Any] | None, proof: str, ok: bool
) -> None:
    desk = Desk({"detr": None})
    desk.done(run("3", "detr", TaskKind.TRAIN, **EXACT), 0.5)
    if tried is not None:
        repeated(desk, **tried)
    report = desk.report()
    assert report.ok is ok
    for form in ("table", "markdown"):
        assert f"p3-train.detr: {proof}" in render(report, form)
    rows = {row["run"]: row["repeats"] for row in json.loads(render(report, "json"))["runs"]}
    assert rows["p3-train.detr"] == proof
    if tried is not None:
        assert rows["p3-align.detr"] == ""
        verdict = next(r.judgement.word for r in report.alignment)
        assert verdict == ("equal" if tried["bit_equal"] else "outside: not bit-equal")


def test_what_trainings_take_is_a_table() -> None:
    desk = Desk({"detr": None})
    costs = {"seconds_per_iteration": 0.319, "gpu_busy": 0.834, "peak_memory_mb": 11687.0, "gpu_hours": 12.25}
    desk.done(run("4", "detr", TaskKind.TRAIN), 0.5, report={"costs": costs})
    nothing = {"seconds_per_iteration": 2.5, "gpu_busy": None, "peak_memory_mb": None, "gpu_hours": None}
    desk.done(run("4", "on-the-cpu", TaskKind.TRAIN), 0.5, report={"costs": nothing})
    running = run("4", "running", TaskKind.TRAIN)
    desk.undone(running, Status.ACTIVE, state=JobState.RUNNING)
    desk.progress[running.name] = Progress(gpu_busy=0.5, gpu_hours=1.5, gpu_hours_to_come=3.0)
    lines = render(desk.report(), "table").splitlines()
    table = {fields[0]: fields[1:] for fields in map(str.split, lines) if len(fields) > 1}
    assert table["p4-train.detr"] == ["0.319", "83%", "11687", "12.2"]
    assert table["p4-train.on-the-cpu"] == ["2.5", "none", "none", "none"]
    assert table["p4-train.running"] == ["50%", "none", "1.5", "3"]


def swept(baseline: str | None = None, trained: bool = False, times: float = 1.0) -> Report:
    """A grid of two rates and three seeds in phase 4; phase 3 has the first rate only."""
    desk = Desk({"detr": 51.3})
    desk.experiment = msgspec.structs.replace(desk.experiment, baseline=baseline)
    for phase, rate, aps in (("3", 1e-4, (0.51, 0.512, 0.511)), ("4", 1e-4, (0.51, 0.511, 0.512)),
                             ("4", 2e-4, (0.52, 0.521, 0.522))):  # fmt: skip
        for seed, ap in zip((0, 1000, 2000), aps, strict=True):
            name = f"p{phase}-test.detr.lr-{rate}.s{seed}"
            grid = (("lr", rate),)
            desk.done(
                run(phase, "detr", name=name, variant=f"lr-{rate}", seed=seed, grid=grid, comparable=False),
                ap * times,
            )
    if not trained:
        return desk.report()
    curves = {}
    for phase, loss in (("3", 1.0), ("4", 1.5)):
        for rate in (1e-4, 2e-4):
            for seed in (0, 1000):
                name = f"p{phase}-train.detr.lr-{rate}.s{seed}"
                variant = f"lr-{rate}"
                desk.done(run(phase, "detr", TaskKind.TRAIN, name=name, variant=variant, seed=seed), None)
                curves[name] = Curve(last=80, means={"loss": [loss, loss + seed / 1e5]})
    return desk.report(curves=curves)


def test_the_variants_of_a_grid_are_compared_with_the_first_or_with_the_baseline() -> None:
    report = swept()
    rows = [(r.variant, r.difference_text, r.judgement.word) for r in report.variants]
    assert rows == [
        ("lr-0.0001", "", "the baseline"),
        ("lr-0.0002", "+1.0", "differs: higher, equivalence not shown (n=3)"),
    ]
    rule = report.variants[1].judgement.rule
    assert rule.startswith(
        "AP within 0.2 points of the 51.1 of the other variant, lr-0.0001; n=3, seed by seed"
    )
    assert report.ok  # a search fails nothing: phase 4 equals phase 3 where both were run
    other = swept("lr-0.0002").variants
    assert [(r.variant, r.difference_text) for r in other] == [("lr-0.0001", "-1.0"), ("lr-0.0002", "")]
    assert swept("seed7").variants == ()


@pytest.mark.parametrize(
    ("also", "compared"),
    [
        (None, ["p3-tuned.detr.tuned", "p3-test.detr.released"]),
        # Two tasks test one variant: each task is compared with its own baseline.
        (("p3-test", "tuned"), ["p3-test.detr.released", "p3-test.detr.tuned"]),
    ],
)
def test_the_baseline_may_be_a_variant_of_another_task(
    also: tuple[str, str] | None, compared: list[str]
) -> None:
    desk = Desk({"detr": 51.3})
    desk.experiment = msgspec.structs.replace(desk.experiment, baseline="released")
    for task, variant in filter(None, [("p3-tuned", "tuned"), ("p3-test", "released"), also]):
        name = f"{task}.detr.{variant}"
        desk.done(run("3", "detr", name=name, task=task, variant=variant), 0.513)
    rows = desk.report().variants
    assert sorted(name for row in rows for name in row.runs) == sorted(compared)
    assert {row.others for row in rows} == {("p3-test.detr.released",)}


def test_a_baseline_changes_nothing_for_a_model_without_that_variant() -> None:
    desk = Desk({"detr": 51.3, "fcn": 41.5})
    desk.experiment = msgspec.structs.replace(desk.experiment, baseline="lr-0.0001")
    for rate, ap in ((1e-4, 0.513), (2e-4, 0.52)):
        grid, name = (("lr", rate),), f"p3-test.detr.lr-{rate}"
        desk.done(run("3", "detr", name=name, variant=f"lr-{rate}", grid=grid, comparable=rate == 1e-4), ap)
    desk.done(run("3", "fcn"), 0.415)
    report = desk.report()
    words = {(row.model, row.variant): cell(report, "3", i)[2] for i, row in enumerate(report.models)}
    assert words == {
        ("detr", "lr-0.0001"): "within tolerance (n=1)",
        ("detr", "lr-0.0002"): "no reference for this variant",
        ("fcn", "default"): "within tolerance (n=1)",
    }
    assert {row.model for row in report.variants} == {"detr"}


def test_rules_and_findings_name_the_variant_whose_loss_curves_they_are_about() -> None:
    report = swept(trained=True)
    (names,) = [names for rule, names in rules(report).items() if "mean loss" in rule]
    assert names == [f"loss curves of detr, lr-{rate}, phase 4" for rate in (1e-4, 2e-4)]
    explained = [finding.why for finding in findings(report, []) if "loss curves" in finding.what]
    assert [why.partition(", phase")[0] for why in explained[0]] == ["detr, lr-0.0001", "detr, lr-0.0002"]


def test_parameters_are_columns_of_every_table() -> None:
    report = swept()
    for name in ("markdown", "latex", "table"):
        text = render(report, name)
        assert re.search(r"variant\W+lr\b", text)
        assert "0.0002" in text
    table = list(csv.DictReader(io.StringIO(render(report, "csv"))))
    assert [row["grid.lr"] for row in table] == ["0.0001"] * 6 + ["0.0002"] * 3
    document = json.loads(render(report, "json"))
    assert document["runs"][-1]["grid"] == document["models"][-1]["grid"] == {"lr": 0.0002}


def test_what_was_cancelled_is_counted_and_brought_back_by_itself() -> None:
    desk = Desk({"detr": 51.3})
    ends = {"bad": FailureClass.CODE, "mine": FailureClass.CANCELLED}
    names = {word: [f"{word}{i}" for i in range(n)] for word, n in (("bad", MANY + 1), ("mine", 2))}
    for word, failure in ends.items():
        for name in names[word]:
            desk.undone(run("3", name), Status.FAILED, failure=failure)
    report = desk.report()
    missing = {m.what: m for m in report.missing}
    assert {what: len(m.runs) for what, m in missing.items()} == {"failed": MANY + 1, "cancelled": 2}
    # A bare `retry` would take both.
    assert missing["failed"].command == "ddqjobs retry mini --state failed"
    assert set(missing["cancelled"].command.split()[3:]) == set(missing["cancelled"].runs)
    plan = Plan(experiment="mini", site="local", runs=tuple(desk.planned))
    overview = glance.glance(report, plan, facts.Facts(runs={}, scripts={}, environments=()), {})
    assert [(c.state, c.count) for c in overview.counts] == [("cancelled", 2), ("failed", MANY + 1)]
    assert [cause.title for cause in overview.causes] == ["code"]
    css = (Path(glance.__file__).parent / "page.css").read_text()
    colours = dict(re.findall(r"\.part\.(cancelled|failed) { fill: (.*?); }", css))
    assert colours["cancelled"] != colours["failed"]
    assert COLOURS["cancelled"] != COLOURS["failed"]
    assert summary(plan, plan.runs) == f"mini on local: {MANY + 3} runs: {MANY + 1} failed, 2 cancelled"
