"""The HTML page shows what lies behind the numbers, whatever the logs hold."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from ddqjobs.detect.job import curves
from ddqjobs.project import Project, open_project
from ddqjobs.report.formats import FORMATS, render
from ddqjobs.report.loss_curves import Curve
from ddqjobs.report.page import charts, facts, glance, panels, timeline
from ddqjobs.spec.model import Attempt, FailureClass, Plan, PlannedRun, Status
from tests.support import paper as paper_support
from tests.support.trivial import a_run

VOID = {"meta", "link", "br", "hr", "img", "path", "rect", "use", "input"}


class Reader(HTMLParser):
    """Reads a page strictly: elements close in order, names are unique, links lead somewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} has a handler"
            if name == "id":
                self.names.append(value or "")
            elif name == "href":
                (self.links if (value or "").startswith("#") else self.loads).append(value or "")
            elif name in ("src", "srcset", "data", "action"):
                self.loads.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return paper_support.make(tmp_path_factory.mktemp("paper") / "project", seeds=3)


@pytest.fixture
def own(tmp_path: Path) -> Project:
    """A project that a test may damage."""
    return paper_support.make(tmp_path / "project", seeds=1, rows=60)


def page(project: Project, **more: object) -> str:
    fresh = open_project(project.root)
    return fresh.report_page(fresh.report("paper"), **more)  # type: ignore[arg-type]


def attempt_dir(project: Project, run: str, number: int = 1) -> Path:
    return project.root / "results" / "paper" / "runs" / run / "attempts" / str(number)


def test_the_page_is_whole_and_loads_nothing(paper: Project) -> None:
    text = page(paper)
    read = Reader(text)
    assert len(set(read.names)) == len(read.names)
    assert {link[1:] for link in read.links} <= set(read.names)
    assert set(read.loads) <= {"data:,"}
    assert "default-src 'none'" in text
    assert "url(http" not in text
    assert "@import" not in text


def test_the_policy_lets_in_the_page_s_own_script_and_nothing_else(paper: Project) -> None:
    text = page(paper)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    expected = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    assert policy == expected
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|eval|innerHTML|import)\b", script)


def test_nothing_is_masked_in_the_policy(paper: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (digest,) = re.findall(r"'sha256-([^']*)'", page(paper))
    monkeypatch.setenv("A_TOKEN", digest[5:30])
    assert f"'sha256-{digest}'" in page(paper)


def test_it_shows_verdicts_their_rules_and_the_tolerance(paper: Project) -> None:
    read = Reader(page(paper))
    assert "51.3 ± 0.10 SD (n=3)" in read.text
    assert "within tolerance, equivalent (n=3)" in read.text
    assert "seed-paired TOST: 90 % interval" in read.text
    assert "phase 3: reproduced 1 of 1; equivalence shown in 1 of 1 (3+ seeds)" in read.text
    assert "overall: reproduced; 12 of 12 required runs done" in read.text


def test_each_run_has_its_evidence(paper: Project) -> None:
    text = page(paper)
    start = text.index('<details class="run" data-find="p4-train.m000.s1000 ')
    page_text = Reader(text[start:].split("</details>")[0] + "</details>").text
    for expected in ("seed", "1000", "definition", "upstream", "Epoch(train) line 39", "submission token"):
        assert expected.lower() in page_text.lower()
    assert "export DDQJOBS_RUN=p4-train.m000.s1000" in page_text
    assert "DDQJOBS_RUN=p4-train.m000.s2000" not in page_text


def test_without_scripts_in_the_manifest_the_page_shows_the_elements_as_a_whole(
    own: Project,
) -> None:
    submission = own.root / "results" / "paper" / "submissions" / "token"
    lines = map(json.loads, (submission / "manifest.jsonl").read_text().splitlines())
    older = [{key: value for key, value in line.items() if key != "script"} for line in lines]
    (submission / "manifest.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in older))
    page_text = Reader(page(own)).text
    assert page_text.count("export DDQJOBS_RUN=p4-train.m000.s0") == 1
    (submission / "manifest.jsonl").write_text("torn {\n")
    assert "export DDQJOBS_RUN=p4-train.m000.s0" in Reader(page(own)).text


def test_curves_of_both_codes_lie_over_each_other(paper: Project) -> None:
    fresh = open_project(paper.root)
    workspace = fresh.workspace("paper")
    plan = fresh.plan("paper")
    run_curves = fresh.reports(workspace).files.curves(plan, workspace.products())
    (group,) = panels.groups(workspace.loaded.experiment, plan, run_curves, {})
    assert [panel.title for panel in group.panels] == ["loss", "loss difference", "AP", "AP difference"]
    assert [panel.title for panel in group.more][:2] == ["lr", "grad_norm"]
    assert sorted({line.style for line in group.panels[0].lines}) == [0, 1]
    assert len(group.panels[0].lines) == 6
    drawn = charts.draw(group.panels[0])
    assert drawn.count("series-0") >= 3
    assert drawn.count("series-1") >= 3
    assert not re.search(r"#[0-9a-f]{6}", drawn)


def test_smoothing_is_offered_with_a_second_line_for_each_loss(paper: Project) -> None:
    text = page(paper)
    assert '<input type="checkbox" id="smooth"> draw the loss as means of fortieths' in text
    both = [re.findall(rf'class="line series-\d dash-\d+ {kind}" data-name="([^"]+)"', text)
            for kind in ("raw", "smooth")]  # fmt: skip
    assert both[0] == both[1]
    assert len(both[0]) >= 6
    # Without a choice the lines as logged are drawn; it takes no script to choose.
    assert ".chart .line.smooth { display: none; }" in text
    assert "body:has(#smooth:checked) .line.smooth { display: inline; }" in text
    assert "body:has(#smooth:checked) .line.raw { display: none; }" in text


@pytest.mark.parametrize(("seeds", "repeats"), [(10, False), (13, True)])
def test_trainings_of_many_seeds_are_told_apart_by_their_dashes(
    tmp_path: Path, seeds: int, repeats: bool
) -> None:
    project = paper_support.make(tmp_path / "project", seeds=seeds, rows=4)
    text = page(project)
    start = text.index('<h2 id="curves">')
    legend = re.search(r'<ul class="legend">(.*?)</ul>', text[start:], re.DOTALL)
    assert legend is not None
    looks = re.findall(r'class="(series-\d+ dash-\d+)"', legend[1])
    assert len(looks) == 2 * seeds
    assert (len(set(looks)) < len(looks), "dashes repeat after 12 trainings of a code" in text) == (
        repeats,
        repeats,
    )
    drawn = re.findall(r"\.(dash-\d+) \{ stroke-dasharray: ([\d. ]+);", text)
    assert len({dash for _, dash in drawn}) == len(drawn) == charts.DASHES - 1  # and one without


def test_the_difference_of_curves_is_the_second_code_s_from_the_first_s(paper: Project) -> None:
    workspace = paper.workspace("paper")
    (one, two) = [
        planned
        for planned in paper.plan("paper").runs
        if planned.run.kind.value == "train" and planned.run.seed == 0
    ]
    curve = Curve(last=80, means={"loss": [2.0, 4.0]}, val={"bbox_mAP": [(1, 0.1), (2, 0.4)]})
    other = Curve(last=80, means={"loss": [2.2, None]}, val={"bbox_mAP": [(1, 0.11), (2, 0.39)]})
    run_curves = {one.run.name: curve, two.run.name: other}
    (group,) = panels.groups(workspace.loaded.experiment, paper.plan("paper"), run_curves, {})
    points = {panel.title: [y for _, y in panel.lines[0].points] for panel in group.panels}
    assert points["loss difference"] == [pytest.approx(10), None]
    assert points["AP difference"] == pytest.approx([1, -1])


def test_hours_are_planned_and_used_and_cost(paper: Project) -> None:
    rows = [row for row in open_project(paper.root).report("paper").hours if not row.model]
    assert [(h.phase, h.done, h.runs) for h in rows] == [("3", 6, 6), ("4", 6, 6), ("", 12, 12)]
    # Three trainings of 26 hours as planned, and three tests that took ten minutes each, on 8 GPUs.
    assert (rows[0].wall, rows[0].planned, rows[0].used, rows[0].to_come) == pytest.approx(
        (78.5, 628, 628, 0)
    )
    assert rows[0].efficiency == 1
    text = Reader(page(paper, price=2.5)).text
    assert "a GPU hour costs 2.5" in text
    assert "1,570.00" in text
    sentence = "efficiency is the share of these hours that ended with a product"
    assert f"Wall hours are those of all jobs, from their first start to their last end; {sentence}" in text


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31mred\x1b]8;;http://x\x07 "
HOSTILE += "\u202e &amp; '\"` ]]>\n"


def test_hostile_logs_are_data(own: Project) -> None:
    folder = attempt_dir(own, "p3-train.m000.s0")
    (folder / "stdout.log").write_text(HOSTILE * 30)
    (attempt_dir(own, "p4-train.m000.s0") / "stdout.log").write_bytes(bytes(range(256)) * 500)
    (folder / "exit.json").write_text(json.dumps({"code": 1, "note": HOSTILE, "at": paper_support.AT}))
    curve = curves.thin(paper_support.a_log(50, 1))
    curve["terms"][HOSTILE] = [[1, 2.0], [2, 1.0]]
    (folder / "work_dir" / curves.NAME).write_text(json.dumps(curve))
    config = folder / "work_dir" / "20260101_000000" / "vis_data"
    config.mkdir(parents=True)
    (config / "config.py").write_text(f"model = dict(name={HOSTILE!r})\n")
    text = page(own)
    read = Reader(text)
    assert text.count("<script>") == 1  # the page's own
    assert "img" not in read.tags
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "<script>alert(1)</script>" in read.text
    assert r"\x1b[31mred" in read.text


def test_a_curve_by_something_else_is_not_taken(own: Project) -> None:
    folder = attempt_dir(own, "p3-train.m000.s0") / "work_dir"
    for value in (HOSTILE, 7):
        curve = {**curves.thin(paper_support.a_log(50, 1)), "val_by": value}
        (folder / curves.NAME).write_text(json.dumps(curve))
        text = page(own)
        assert text.count("<script>") == 1
        assert "img" not in Reader(text).tags
    panel = charts.Panel(title="AP", x=HOSTILE, lines=())
    assert not re.search("<(script|img)|[\x1b\u202e]", charts.draw(panel))


@pytest.mark.parametrize(
    "values", [(1e308, -1e308), (5e-324, 0.0), (5e-324, 5e-324), (1e300, -1e300), (1.0, 1 + 2e-16)]
)
def test_every_finite_value_can_be_drawn(values: tuple[float, float]) -> None:
    line = charts.Line(label="x", style=0, points=[(1, values[0]), (10**400, 1.0), (3, values[1])])
    drawn = charts.draw(charts.Panel(title="loss", x="iteration", lines=(line,), zero=True))
    assert not re.search(r"\b(nan|inf)\b", drawn)


def test_a_huge_log_is_not_read(own: Project) -> None:
    folder = attempt_dir(own, "p3-train.m000.s0")
    (folder / "work_dir" / curves.NAME).unlink()
    log = folder / "work_dir" / "log.jsonl"
    with log.open("wb") as file:
        file.truncate(1 << 30)
    with (folder / "stdout.log").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe last line\n")
    product = json.loads((folder.parent.parent / "product.json").read_text())
    assert product["artifacts"] == {"curve": f"attempts/1/work_dir/{curves.NAME}"}
    _record(own, "p3-train.m000.s0", artifacts={"log": "attempts/1/work_dir/log.jsonl"})
    read = Reader(page(own))
    assert "its log has 1,024 MiB, more than the 256 MiB that are read" in read.text
    assert "the last line" in read.text


def _record(project: Project, run: str, **product: object) -> None:
    """Another product for a done run, in the ledger where products are remembered."""
    (segment,) = (project.root / "results" / "paper" / "ledger").glob("*.jsonl")
    lines = []
    for line in segment.read_text().splitlines():
        record = json.loads(line)
        if record["record"] == "finished" and record["run"] == run:
            record["product"].update(product)
        lines.append(json.dumps(record))
    segment.write_text("\n".join(lines) + "\n")


def test_who_declared_a_result_valid_and_why_is_in_every_format(own: Project) -> None:
    by_word, taken_in = "p3-test.m000.s0", "p4-test.m000.s0"
    digest = next(r.digest for r in own.workspace("paper").loaded.runs if r.name == by_word)
    number, _, parts = digest.partition(":")
    _record(own, by_word, digest=f"{number}:{'-'.join(['0' * 12, *parts.split('-')[1:]])}")
    adoption = {"differences": ["epochs"], "because": "the last epoch is enough", "by": "ann", "at": 1.0}
    _record(own, taken_in, adopted_from="/elsewhere", adoption=adoption)
    fresh = open_project(own.root)
    fresh.accept("paper", [by_word], "only the log interval changed")
    report = open_project(own.root).report("paper")
    texts = {form: render(report, form) for form in FORMATS}
    texts["html"] = Reader(page(own)).text.split("Accepted by a user")[1].split("Runs")[0]
    for form, text in texts.items():
        assert "only the log interval changed" in text, form
        assert "by ann on 1970-01-0" in text or "by ann on 1969-12-31" in text, form
        assert "though epochs: the last epoch is enough" in text, form


def test_a_torn_or_binary_training_log_costs_its_lines_only(own: Project) -> None:
    folder = attempt_dir(own, "p3-train.m000.s0") / "work_dir"
    (folder / curves.NAME).unlink()
    good = '{"loss": 1.5, "epoch": 1, "step": %d}\n'
    (folder / "log.jsonl").write_bytes(
        (good % 1).encode() + bytes(range(200, 256)) + b"\n" + (good % 2).encode() + b'{"loss": 1'
    )
    _record(own, "p3-train.m000.s0", artifacts={"log": "attempts/1/work_dir/log.jsonl"})
    text = Reader(page(own)).text
    assert "p3-train.m000.s0: 1 lines of its log are no rows and were passed over" in text


def test_two_attempts_that_wrote_into_one_log_make_one_curve(own: Project) -> None:
    """Rows of both interleaved: where the training went back, what came before from there on is dropped."""
    folder = attempt_dir(own, "p3-train.m000.s0") / "work_dir"
    (folder / curves.NAME).unlink()
    steps = [1, 2, 3, 1, 4, 2, 5, 3, 4, 5, 6]
    lines = [json.dumps({"loss": float(i), "epoch": 1, "step": step}) for i, step in enumerate(steps)]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    _record(own, "p3-train.m000.s0", artifacts={"log": "attempts/1/work_dir/log.jsonl"})
    fresh = open_project(own.root)
    workspace = fresh.workspace("paper")
    run_curves = fresh.reports(workspace).files.curves(fresh.plan("paper"), workspace.products())
    xs = [x for x, _ in run_curves["p3-train.m000.s0"].terms["loss"]]
    assert xs == sorted(set(xs))
    assert xs[-1] == 6


def test_clocks_that_go_backwards_and_overlap_are_said(own: Project) -> None:
    first = attempt_dir(own, "p3-train.m000.s0")
    second = attempt_dir(own, "p3-train.m000.s0", 2)
    third = attempt_dir(own, "p3-train.m000.s0", 3)
    for folder in (second, third):
        folder.mkdir()
    at = paper_support.AT
    (first / "exit.json").write_text(json.dumps({"code": 137, "at": at - 7200}))
    (second / "started.json").write_text(json.dumps({"ticket": "token.0", "host": "b", "at": at + 10}))
    (second / "exit.json").write_text(json.dumps({"code": 75, "stopped": True, "at": at + 500}))
    (third / "started.json").write_text(json.dumps({"ticket": "token.0", "host": "c", "at": 1e300}))
    read = Reader(page(own))
    assert "its clock went back by 2h00m" in read.text
    assert "2: asked to stop" in read.text
    assert "its clock was wrong" in read.text
    assert "3: left no last word" in read.text


@pytest.mark.parametrize(
    ("attempt", "state"),
    [
        (Attempt(number=1, started_at=paper_support.AT, ended_at=paper_support.AT + 1, exit_code=0), "done"),
        (
            Attempt(number=1, started_at=paper_support.AT, ended_at=paper_support.AT + 1, exit_code=1),
            "failed",
        ),
        (Attempt(number=1, started_at=float("nan")), "failed"),
        (Attempt(number=1, started_at=-5.0, ended_at=paper_support.AT), "failed"),
    ],
)
def test_a_bar_is_always_inside_the_line(paper: Project, attempt: Attempt, state: str) -> None:
    planned = paper.plan("paper").runs[0]
    sane = Attempt(number=2, started_at=paper_support.AT, ended_at=paper_support.AT + 100, exit_code=0)
    known = facts.Facts(
        runs={planned.run.name: facts.RunFacts(attempts=(attempt, sane))}, scripts={}, environments=()
    )
    line = timeline.time_line([planned], known, paper_support.AT + 200)
    assert line is not None
    bar = line.rows[0][1][0]
    assert 0 <= bar.left <= 100
    assert 0 <= bar.width <= 100
    assert bar.state == state


def test_the_difference_of_configurations_is_by_key(tmp_path: Path) -> None:
    for name, depth, extra in (("a", 50, ""), ("b", 101, "new_key = 1\n")):
        folder = tmp_path / name / "work_dir"
        folder.mkdir(parents=True)
        text = (
            f"model = dict(backbone=dict(depth={depth}), path='{tmp_path / name}/x')\nold = [1, 2]\n{extra}"
        )
        (folder / "config.py").write_text(text)
    a, b = (facts.dumped(tmp_path / n / "work_dir", str(tmp_path / n)) for n in "ab")
    assert facts.difference(a, b) == ("  model.backbone.depth: 50 -> 101", "+ new_key: 1")
    assert facts.difference(b, a) == ("  model.backbone.depth: 101 -> 50", "- new_key: 1")
    assert facts.dumped(tmp_path / "none", "") == {}


def test_thinning_twice_keeps_the_extremes() -> None:
    points: list[charts.Point] = [
        (i, None if i == 500 else (-9.0 if i == 333 else 99.0 if i == 777 else 1.0)) for i in range(1000)
    ]
    thin = panels.extremes(points, 50)
    assert {(333, -9.0), (777, 99.0), (500, None), points[0], points[-1]} <= set(thin)
    assert len(thin) <= 3 * 20 + 2
    assert panels.extremes([], 5) == []


@pytest.mark.parametrize(
    ("value", "text"), [(1.5e-4, "1.5e-4"), (5e-5, "5e-5"), (2e-4, "2e-4"), (0.0, "0"), (1e-10, "1e-10")]
)
def test_small_ticks_are_read_as_they_are(value: float, text: str) -> None:
    assert charts.tiny(value) == text


def test_a_page_of_very_many_runs_leaves_out_the_evidence_of_those_that_are_well(
    paper: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = list(paper.plan("paper").runs)
    planned[7] = msgspec.structs.replace(planned[7], status=Status.FAILED)
    planned[9] = msgspec.structs.replace(planned[9], status=Status.ACTIVE)
    assert facts.first(planned, 3) == [planned[0], planned[7], planned[9]]
    monkeypatch.setattr(facts, "first", lambda runs: runs[:2])
    read = Reader(page(paper))
    assert {link[1:] for link in read.links} <= set(read.names)
    assert "The evidence of 10 runs is left out" in read.text
    assert "done p4-test.m000.s2000 0.17 h" in read.text


def test_a_cause_s_command_retries_its_own_runs_only_and_names_the_site() -> None:
    runs = [
        PlannedRun(run=a_run(f"r{n}"), status=Status.FAILED, reason="why", failure=kind)
        for n, kind in enumerate([FailureClass.HANG] * 40 + [FailureClass.CODE] * 2)
    ]
    nothing = facts.Facts(runs={}, scripts={}, environments=())
    many, few = glance.causes(Plan(experiment="e", site="here", runs=tuple(runs)), nothing)
    assert many.command.split()[5:] == [f"r{n}" for n in range(40)]
    assert few.command == "ddqjobs retry e --site here r40 r41"
    (few,) = glance.causes(Plan(experiment="e", site="local", runs=tuple(runs[40:])), nothing)
    assert few.command == "ddqjobs retry e r40 r41"


def test_the_page_is_small(paper: Project) -> None:
    assert len(page(paper).encode()) < 1_000_000
