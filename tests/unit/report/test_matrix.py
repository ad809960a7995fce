"""The page of a matrix of 112 runs, some of which failed: one unit, and the causes of failures."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from ddqjobs.project import open_project
from ddqjobs.report.classes import ClassRow
from ddqjobs.report.document import Report
from ddqjobs.report.formats import render
from ddqjobs.report.gallery import Gallery, Shot, Wall
from ddqjobs.report.hours import HoursRow, hours_order
from ddqjobs.report.page import charts, facts, findings, glance
from ddqjobs.report.page.charts import Line, Panel
from ddqjobs.report.verdict import Outcome
from ddqjobs.spec.metric import METRICS
from ddqjobs.spec.model import JobState, Status
from tests.support import matrix
from tests.unit.report.test_page import Reader


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matrix.make(tmp_path_factory.mktemp("matrix") / "project", rows=30, distinct=2, terms=1).root


@pytest.fixture(scope="module")
def report(root: Path) -> Report:
    return open_project(root).report("matrix", metrics=list(METRICS))


@pytest.fixture(scope="module")
def page(root: Path, report: Report) -> str:
    return open_project(root).report_page(report, price=2.5)


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    return Reader(page)


def test_higher_results_are_not_short_and_not_unknown(report: Report) -> None:
    summaries = {s.phase: s.text for s in report.summary}
    assert summaries["1"] == "phase 1: reproduced 6 of 7 (1 exceeds)"
    assert summaries["2"].startswith("phase 2: equal within tolerance 6 of 7 (1 differs)")
    assert (report.summary[0].exceeds, report.summary[0].unknown, report.summary[1].short) == (1, 0, 0)
    assert report.ok is False


def test_a_failed_attempt_is_named_as_status_names_it(read: Reader) -> None:
    assert f"1: out-of-memory: GPU memory (exit 1), {matrix.OUT_OF_MEMORY}" in read.text
    assert not re.search(r"\d: exit 1\b", read.text)


def test_hours_without_an_estimate_are_not_called_free_of_gpus(read: Reader) -> None:
    assert "no GPUs" not in read.text


def test_metrics_have_one_unit_and_words_for_what_is_not_there(read: Reader) -> None:
    assert "AP50 59.1" in read.text
    assert "bbox_mAP" not in read.text
    assert "51.3 ± 0.10 SD (n=3)" in read.text


def test_no_two_trainings_of_a_panel_share_colour_and_dash(page: str) -> None:
    for legend in re.findall(r'<ul class="legend">(.*?)</ul>', page, re.DOTALL):
        styles = re.findall(r'class="(series-\d dash-\d+)"', legend)
        assert len(set(styles)) == len(styles) > 1


def test_failures_stand_first_by_cause_with_the_last_line_and_the_command(page: str, read: Reader) -> None:
    assert page.index("Failures by cause") < page.index("Models and phases") < page.index("AP by phase")
    card = read.text[read.text.index("Failures by cause") : read.text.index("Models and phases")]
    assert "out-of-memory 3 runs, 3 wait for them" in card
    assert f"{matrix.OUT_OF_MEMORY}p4-train.detr-5scale.s0" in card.replace(" p4", "p4")
    names = " ".join(f"p4-train.detr-5scale.s{seed}" for seed in (0, 1000, 2000))
    assert f"ddqjobs retry matrix {names}" in card
    assert "diverged 1 run, 1 waits for it" in card


def test_what_failed_and_may_be_tried_again_is_a_cause_with_what_mends_it(page: str, read: Reader) -> None:
    card = read.text[read.text.index("Failures by cause") : read.text.index("Models and phases")]
    full = card[card.index("storage 1 run, to be tried again, 1 waits for it") :].split(" run")[1]
    assert "[Errno 28] No space left on device" in full
    assert "Free room on the disk first. ddqjobs submit matrix p4-train.rcnn-36e.s2000" in card
    broken = card[card.index("node 1 run, to be tried again") :]
    assert "uncorrectable ECC error encountered" in broken
    assert "which node it was (gpu-a002.cluster.example). To try once more: ddqjobs submit" in broken
    assert "ddqjobs submit matrix p3-train.swinl.s1000" in broken


def test_no_command_of_outstanding_runs_submits_onto_the_full_disk_unsaid(
    report: Report, read: Reader
) -> None:
    there = read.text[read.text.index("Outstanding runs") :]
    assert "2 failed, to be tried again" in there
    assert "First fix what is listed there." in there
    (eligible,) = (m for m in report.missing if m.what == "eligible")
    assert eligible.command.split()[3:] == list(eligible.runs)
    assert "p4-train.rcnn-36e.s2000" not in eligible.runs


def test_the_command_for_all_failures_says_that_some_need_mending_first(read: Reader) -> None:
    there = read.text[read.text.index("Outstanding runs") :]
    warning = (
        "This repeats failures of every cause; first fix what is listed there at out-of-memory, diverged."
    )
    assert there.index("ddqjobs retry matrix") < there.index(warning) < there.index("ddqjobs submit matrix")


def test_the_heat_map_says_ap_verdict_and_what_remains(read: Reader) -> None:
    heat = read.text[read.text.index("Models and phases") : read.text.index("Outstanding runs")]
    assert "45.2 +0.4 ↑ exceeds 1 of 1 runs done" in heat
    assert "41.5 0.0 ✗ short 1 of 6 runs diverged" in heat
    assert "out-of-memory ? unknown 3 of 6 runs failed, 1,157 GPU h to come, 2,892.00" in heat
    assert "eligible ? unknown 0 of 6 runs done, 2,837 GPU h to come, 7,092.00" in heat


def test_no_tolerance_is_drawn_where_no_difference_is_allowed(page: str) -> None:
    heat = page[page.index('id="heat-title"') : page.index("Outstanding runs")]
    row = heat[heat.index("DDQ R-CNN, R-50, 12e") :].split("</tr>")[0]
    first, second, third = re.findall(r'<svg class="needle".*?</svg>', row)[:3]
    assert ('class="allowed"' in first, 'class="allowed"' in third) == (True, True)  # 0.2
    assert 'class="allowed"' not in second
    assert 'class="at" d="M98.0 ' in second  # 0.1 above, where 0 is allowed
    assert 'd="M50.0 ' in heat


def test_each_verdict_that_does_not_hold_is_explained(read: Reader) -> None:
    section = read.text[
        read.text.index("Verdicts that do not hold (9), and why") : read.text.index("Models and")
    ]
    assert (
        "differs DDQ R-CNN, R-50, 12e, phase 4 new 44.5 is 0.5 above phase 3 (44.0); 0.2 is allowed; 3 "
        "seeds, 90 % interval +0.43 to +0.57; look at phase 3 first: it falls short of the published 44.6 "
        "by 0.6, this result is 0.1 below it"
    ) in section
    assert (
        "short DDQ FCN, R-50, 12e, phase 4 new p4-train.fcn-12e.s1000 diverged: exit 1, FloatingPointError: "
        "Loss is nan at iteration 2,150; 41.5 is that of phase 3 (41.5); 0.2 is allowed; 2 of 3 seeds done"
    ) in section
    assert "exceeds DDQ FCN, R-50, 36e, phase 1 legacy 45.2 is 0.4 above the published AP (44.8)" in section
    assert "alignment nevertheless: within tolerance" in section
    assert (
        "no verdict yet: 4 DDQ R-CNN, R-50, 36e, phase 4 new: 2 of 3 seeds done, "
        "1 to be tried again after storage; " in section
    )
    assert "DDQ DETR-5scale, R-50, 12e, phase 4 new: 0 of 3 seeds done, 3 out-of-memory; " in section


def test_curves_further_apart_than_seeds_and_stale_results_are_among_the_findings(
    root: Path, report: Report
) -> None:
    plan = open_project(root).plan("matrix")
    first, *others = plan.runs
    stale = msgspec.structs.replace(first, stale="of an earlier configuration: configs/old.py changed")
    line = report.curves[0]
    verdict = msgspec.structs.replace(line.judgement, outcome=Outcome.DIFFERS, word="further than seeds")
    far = msgspec.structs.replace(line, distance=0.04, spread=0.02, judgement=verdict)
    changed = msgspec.structs.replace(report, curves=(far,))
    reasons = {f.what: f.why for f in findings.findings(changed, [stale, *others])}
    assert reasons["beside the verdicts, loss curves further apart than seeds: 1 of 1"] == (
        "DDQ FCN, R-50, 12e, phase 4 (4.0 % apart, seeds 2.0 %)",
    )
    assert reasons["results of another configuration, environment or code: 1"] == (
        f"of an earlier configuration: configs/old.py changed: {first.run.name}",
    )


def test_the_first_screen_says_where_the_codes_differ_most(report: Report, read: Reader) -> None:
    assert "The codes differ most in AP: +0.5 (DDQ R-CNN, R-50, 12e, phase 4 from phase 3)" in read.text
    row = ClassRow(phase="4", implementation="new", task="", against="3", model="swinl", variant="default",
                   name="cat", ap=50.0, other=52.5, difference=-2.5)  # fmt: skip
    shot = Shot(
        key="1",
        file="a.jpg",
        width=1,
        height=1,
        truth=(),
        ours=(),
        theirs=(),
        errors=({}, {"missed": 1}),
        apart=2.0,
    )
    wall = Wall(title="Swin-L", ours="phase 4", theirs="phase 3", runs=("a", "b"), differing=(shot,),
                failing=(), alike=0)  # fmt: skip
    gallery = Gallery(walls=(wall,), images={}, notes=())
    extremes = findings.extremes(msgspec.structs.replace(report, classes=(row,)), gallery)
    assert [(f.what, f.text) for f in extremes[1:]] == [
        ("by class", "cat -2.5 (DDQ DETR-4scale, Swin-L, 30e, phase 4 from phase 3)"),
        ("by image", "a.jpg (Swin-L, phase 3 and phase 4)"),
    ]


def test_the_first_screen_says_that_codes_do_not_differ(report: Report) -> None:
    rows = tuple(
        msgspec.structs.replace(
            row,
            cells=tuple(cell and msgspec.structs.replace(cell, difference=0.0) for cell in row.cells),
        )
        for row in report.models
    )
    same = msgspec.structs.replace(report, models=rows)
    assert findings.alike(same, None) == "in AP (14 of 14 comparisons made)"
    assert findings.alike(report, None) == ""


def test_what_is_to_run_says_its_hours_and_their_cost(root: Path, report: Report, read: Reader) -> None:
    there = read.text[read.text.index("Outstanding runs") :]
    assert re.search(r"\b3 eligible 2,832 GPU h, 7,080.00ddqjobs submit matrix p4-train.swinl.s0 ", there)
    page = open_project(root).report_page(report, price=2.5, currency="EUR")
    text = Reader(page).text
    assert "13,595.67 EUR to come10,614 used, 26,534.78 EUR spent" in text
    assert "a GPU hour costs 2.5 EUR" in text


def test_when_the_rest_is_done_is_said_also_where_nothing_runs(root: Path, read: Reader) -> None:
    assert "about 28 days with one run at a time on 8 GPUs" in read.text
    plan = open_project(root).plan("matrix")
    first, *others = plan.runs
    running = msgspec.structs.replace(first, status=Status.ACTIVE, state=JobState.RUNNING)
    at_work = glance.glance(
        open_project(root).report("matrix"),
        msgspec.structs.replace(plan, runs=(running, *others)),
        facts.Facts(runs={}, scripts={}, environments=()),
        {},
    )
    assert at_work.when == "about 28 days on the 8 GPUs now in use"


def test_strips_of_a_phase_share_one_scale(page: str) -> None:
    table = page[page.index('id="phase-2"') : page.index('id="phase-3"')]
    bands = set(re.findall(r'class="band" x="([\d.]+)"', table))
    assert len(bands) == 1  # the tolerance is as wide in each line
    assert re.findall(r'<span style="left:[\d.]+%">([^<]*)</span>', table) == ["−0.5", "0.0", "+0.5"]


def test_gpu_hours_by_phase_and_model_are_also_in_the_table(report: Report) -> None:
    text = render(report, "table", width=200)
    grid = text[text.index("GPU hours: used + to come") :].split("\n\n")[0]
    assert re.search(r"DDQ FCN, R-50, 12e .* 61\d\.\d \+ 113\.6$", grid, re.MULTILINE)
    assert re.search(r"^all .* 10,613\.\d \+ 5,438\.\d$", grid, re.MULTILINE)


def test_phases_that_the_first_model_has_not_stand_in_order() -> None:
    def row(model: str, phase: str) -> HoursRow:
        return HoursRow(
            phase=phase, model=model, runs=1, done=0, wall=0, kept=0, planned=1, used=0, to_come=1
        )

    rows = [row("a", "1"), row("a", ""), row("b", "1"), row("b", "2"), row("b", "")]
    assert hours_order([*rows, row("", "1"), row("", "2"), row("", "")]) == (["a", "b", ""], ["1", "2", ""])


def test_the_configuration_of_both_codes_is_compared_at_the_cell(page: str) -> None:
    table = page[page.index('id="phase-3"') :]
    row = table[table.index("DDQ DETR-4scale, R-50") :].split("</tr>")[0]
    assert "model.workers: 3 -&gt; 8" in row
    assert "p3-train.detr-4scale.s0" in row


@pytest.mark.parametrize("form", ["html", "json", "csv"])
def test_what_is_shared_names_no_path_and_no_node(root: Path, report: Report, page: str, form: str) -> None:
    project = open_project(root)
    whole = page if form == "html" else render(report, form)
    shared = project.report("matrix", share=True)
    text = project.report_page(report, share=True) if form == "html" else render(shared, form)
    assert "gpu-a00" in whole
    for private in ("gpu-a00", "cluster.example", "/scratch", "erika", str(root), "login1"):
        assert private not in text
    if form == "html":
        assert "/scratch/erika" in whole
        assert (
            "[path]/ddq_detr_head.py" in Reader(text).text
        )  # which line of which file failed is still there
        assert "DDQJOBS_RUN" not in text


def test_the_head_of_a_run_says_state_hours_node_and_the_versions_that_ran(page: str) -> None:
    summaries = re.findall(r'<summary class="line">(.*?<span class="name">(.*?)</span>.*?)</summary>', page)
    heads = {name: re.sub(r"<[^>]*>", "", head).split() for head, name in summaries}
    assert len(heads) == 112
    assert heads["p3-train.detr-4scale.s0"][:4] == ["done", "p3-train.detr-4scale.s0", "26.0", "h"]
    for run, versions in (("p3-test.swinl.s0", "torch 1.9.0"), ("p4-test.fcn-12e.s0", "torch 2.4.1")):
        summary = " ".join(heads[run])
        assert re.search(r" h gpu-a00\d\.cluster\.example Python 3", summary)
        assert versions in summary


def test_ticks_of_small_numbers_keep_their_digits() -> None:
    line = Line(label="a", style=0, points=[(1, 0.021), (2, 0.034), (3, 0.048)])
    drawn = charts.draw(Panel(title="loss", x="epoch", lines=(line,)))
    ticks = re.findall(r"<text[^>]*>(0\.0\d+)</text>", drawn)
    assert len(set(ticks)) == len(ticks) >= 2
