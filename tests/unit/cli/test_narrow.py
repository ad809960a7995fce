"""At every width a run's name is whole and no run looks like another; results stack instead of being cut."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from ddqjobs.base.narrow import listed, stacked
from ddqjobs.base.text import cells, clean
from ddqjobs.cli.overview import overview, state
from ddqjobs.cli.watch.board import Size, View, draw
from ddqjobs.planning.estimate import estimates
from ddqjobs.spec.model import JobState, Plan, PlannedRun, Resources, Status
from ddqjobs.store.history import History
from ddqjobs.submission.workspace import RunState
from tests.support.trivial import a_run

HEADER = ("RUN", "STATE", "PROGRESS", "JOB", "NODE", "REASON")
LEAVE_OUT = ("NODE", "JOB", "PROGRESS")
NAMES = st.one_of(
    st.from_regex(r"p[1-4]-[a-z]{3,12}\.ddq-[a-z0-9-]{3,40}(\.[a-z0-9_-]{3,30})?", fullmatch=True),
    st.text(min_size=1, max_size=90).filter(lambda text: text.strip() == text),
)
WORDS = st.sampled_from(
    ["", "done", "running", "n1", "81234_5", "epoch 3/12, 50/100, eta 1h01m", "why " * 30]
)
RUNS = st.lists(
    st.tuples(NAMES, st.sampled_from([s.value for s in Status]), WORDS, WORDS, WORDS, WORDS),
    min_size=1,
    max_size=8,
    unique_by=lambda row: clean(row[0]),
)


@settings(max_examples=60, deadline=None)
@given(rows=RUNS, width=st.integers(60, 200))
def test_no_run_looks_like_another(rows: list[tuple[str, ...]], width: int) -> None:
    header, *blocks = listed(HEADER, rows, width=width, leave_out=LEAVE_OUT)
    assert len(blocks) == len(rows)
    for row, block in zip(rows, blocks, strict=True):
        assert max(map(cells, [*header, *block])) <= width
        assert "".join(block).startswith(clean(row[0]))
        assert row[1] in "\n".join(block)
    assert len({tuple(block) for block in blocks}) == len(rows)


def test_the_table_of_tasks_fits_and_loses_no_count() -> None:
    kinds = [*Status, *JobState]
    planned = [
        PlannedRun(run=a_run(f"r{n}", task=f"p3-train-{n % 3}", resources=Resources(gpus=8)),
                   status=kind if isinstance(kind, Status) else Status.ACTIVE,
                   state=kind if isinstance(kind, JobState) else None, reason="")
        for n, kind in enumerate(kinds * 4)
    ]  # fmt: skip
    costs = estimates((planned_run.run for planned_run in planned), History(()))
    piped = overview(planned, costs, state, width=None)
    assert {"DONE", "RUNNING", "QUEUED", "FAILED"} <= set(piped.split("\n")[0].split())
    for width in (60, 80, 100, 140):
        text = overview(planned, costs, state, width=width)
        assert max(map(cells, text.split("\n"))) <= width
        assert all(name in text for name in ("p3-train-0", "p3-train-1", "p3-train-2", "all"))
        numbers = re.findall(r"\b(\d+)\b(?! runs?\b)", re.sub("p3-train-.", "", text))
        assert sum(map(int, numbers)) == 2 * len(planned)  # of the tasks, and of all


def test_other_columns_go_first_and_reasons_last() -> None:
    rows = [("p3-train.ddq-detr-4scale", "running", "epoch 3/12", "81234_5", "node-17", "because " * 5)]

    def titles(width: int) -> list[str]:
        return listed(HEADER, rows, width=width, leave_out=LEAVE_OUT)[0][0].split()

    assert titles(120) == ["RUN", "STATE", "PROGRESS", "JOB", "NODE", "REASON"]
    assert titles(88) == ["RUN", "STATE", "PROGRESS", "JOB", "REASON"]
    assert titles(60) == ["RUN", "STATE", "REASON"]
    assert listed(HEADER, rows, width=40, leave_out=LEAVE_OUT)[1] == [
        "p3-train.ddq-detr-4scale",
        "  running  because because because beca…",
    ]


@settings(max_examples=20, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=6, unique_by=clean), width=st.integers(60, 160))
def test_the_watched_list_has_whole_names(names: list[str], width: int) -> None:
    states = [
        RunState(
            planned=PlannedRun(run=a_run(name), status=Status.ACTIVE, state=JobState.RUNNING, reason="r")
        )
        for name in names
    ]
    screen = draw(Plan(experiment="e", site="s", runs=()), states, View(), Size(width, 60), head="")
    text = re.sub(r"\x1b\[[0-9;]*m", "", "".join(screen.lines))
    assert all(clean(name) in text for name in names)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(NAMES, WORDS, st.text(max_size=120)), min_size=1, max_size=5),
    width=st.integers(60, 120),
)
def test_a_stacked_table_loses_nothing(rows: list[tuple[str, ...]], width: int) -> None:
    lines = stacked(("run", "phase", "verdict"), rows, width=width).split("\n")
    assert max(map(cells, lines)) <= width
    text = "".join("".join(lines).split())
    for row in rows:
        assert "".join(clean(row[0]).split()) in text
        assert "".join(clean(row[2]).split()) in text


def test_a_stacked_table_keeps_its_columns_where_it_can() -> None:
    rows = [
        ("a long name of a model", "phase 1", "41.5", "within tolerance and more"),
        ("", "phase 2", "4.0", "x"),
    ]
    header = ("model", "phase", "AP", "verdict")
    assert stacked(header, rows, width=40, align="llrl").split("\n") == [
        "model",
        "  phase      AP  verdict",
        "a long name of a model",
        "  phase 1  41.5  within tolerance and",
        "                 more",
        "  phase 2   4.0  x",
    ]
    assert stacked(header, rows, width=24, align="llrl").split("\n") == [
        "a long name of a model",
        "  phase    phase 1",
        "  AP       41.5",
        "  verdict  within",
        "           tolerance and",
        "           more",
        "  phase    phase 2",
        "  AP       4.0",
        "  verdict  x",
    ]
