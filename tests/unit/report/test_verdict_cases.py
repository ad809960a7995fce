"""Hand-made cases, each with the verdict that a statistician gives; docs/explanation/verdicts.md has why."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from ddqjobs.report.document import Report
from ddqjobs.report.recomputed import Recomputed
from ddqjobs.spec import experiment as e
from ddqjobs.spec.model import FailureClass, Input, Run, Status, TaskKind
from tests.support.paths import ROOT
from tests.unit.report.test_document import Desk, cell, experiment, run

DOCUMENT = ROOT / "docs/explanation/verdicts.md"
Case = Callable[[Desk], None]


def one_test(phase: str, seed: int | None, **more: Any) -> Run:
    return run(phase, "detr", name=f"p{phase}.s{seed}", seed=seed, **more)


def seeds(phase: str, **values: float | None) -> Case:
    """``s1000=0.513``: the AP of seed 1000 in a phase."""

    def case(desk: Desk) -> None:
        for seed, ap in values.items():
            desk.done(one_test(phase, int(seed[1:])), ap)

    return case


def failed(seed: int, failure: FailureClass) -> Case:
    return lambda desk: desk.undone(one_test("3", seed), Status.FAILED, failure=failure)


def diverged_training(desk: Desk) -> None:
    """Its loss became NaN, so that nothing is there to test."""
    training = run("3", "detr", TaskKind.TRAIN, name="p3-train.s2000", seed=2000)
    desk.undone(training, Status.FAILED, failure=FailureClass.DIVERGED)
    waiting = one_test("3", 2000, inputs=(("checkpoint", Input(artifact="checkpoint", run=training.name)),))
    desk.undone(waiting, Status.WAITING)


def rounded_to_one(desk: Desk) -> None:
    """The paper says 51."""
    reference = e.ReferenceAP(ap=51, rounded_to=1)
    models = {"detr": e.Model(reference=reference, implementations={})}
    desk.experiment = e.Experiment(
        **{f: getattr(desk.experiment, f) for f in desk.experiment.__struct_fields__ if f != "models"},
        models=models,
    )


def every(*cases: Case) -> Case:
    def case(desk: Desk) -> None:
        for one in cases:
            one(desk)

    return case


THREE = seeds("3", s0=0.513, s1000=0.513, s2000=0.513)
SPREAD = seeds("3", s0=0.509, s1000=0.513, s2000=0.517)
# Name in the document -> (phase that is judged, what there is, the verdict).
CASES: dict[str, tuple[str, Case, str]] = {
    "one seed": ("3", seeds("3", s0=0.512), "within tolerance (n=1)"),
    "one seed on the very edge": ("3", seeds("3", s0=0.511), "edge of tolerance (n=1)"),
    "one seed below": ("3", seeds("3", s0=0.510), "outside: short (n=1)"),
    "one seed above": ("3", seeds("3", s0=0.516), "exceeds: check (n=1)"),
    "two decimals in the log": ("3", seeds("3", s0=0.51), "outside: short (n=1)"),
    "two decimals in the paper": (
        "3",
        every(rounded_to_one, seeds("3", s0=0.513)),
        "unknown: the reference is rounded too coarsely (n=1)",
    ),
    "two decimals in the paper, far away": (
        "3",
        every(rounded_to_one, seeds("3", s0=0.500)),
        "outside: short (n=1)",
    ),
    "three equal seeds": ("3", THREE, "within tolerance, equivalent (n=3)"),
    "three seeds that scatter": (
        "3",
        seeds("3", s0=0.511, s1000=0.513, s2000=0.515),
        "within tolerance, equivalence not shown (n=3)",
    ),
    "three seeds, mean on the very edge": (
        "3",
        seeds("3", s0=0.510, s1000=0.511, s2000=0.512),
        "edge of tolerance, equivalence not shown (n=3)",
    ),
    "three seeds next to each other": (
        "3",
        seeds("3", s0=0.513, s1=0.513, s2=0.513),
        "within tolerance (n=3)",
    ),
    "a NaN": ("3", seeds("3", s0=0.513, s1000=0.513, s2000=None), "short: diverged (1 of 3)"),
    "a training that diverged": (
        "3",
        every(seeds("3", s0=0.513, s1000=0.513), diverged_training),
        "short: diverged (1 of 3)",
    ),
    "a crashed node": (
        "3",
        every(seeds("3", s0=0.513, s1000=0.513), failed(2000, FailureClass.NODE)),
        "within tolerance (n=2, 1 excluded)",
    ),
    "a crashed node, three left": (
        "3",
        every(THREE, failed(3000, FailureClass.PREEMPTED)),
        "within tolerance, equivalent (n=3, 1 excluded)",
    ),
    "a bug": (
        "3",
        every(seeds("3", s0=0.513, s1000=0.513), failed(2000, FailureClass.CODE)),
        "unknown: 2 of 3 seeds done",
    ),
    "a run that was cancelled": (
        "3",
        every(seeds("3", s0=0.513, s1000=0.513), failed(2000, FailureClass.CANCELLED)),
        "unknown: 2 of 3 seeds done",
    ),
    "both codes, the same seeds": (
        "4",
        every(SPREAD, seeds("4", s0=0.509, s1000=0.513, s2000=0.517)),
        "within tolerance, equivalent (n=3)",
    ),
    "both codes, seeds of their own": (
        "4",
        every(SPREAD, seeds("4", s3000=0.509, s4000=0.513, s5000=0.517)),
        "within tolerance, equivalence not shown (n=3)",
    ),
    "both codes, one has a single seed": (
        "4",
        every(seeds("3", s0=0.513), seeds("4", s1000=0.513, s2000=0.513, s3000=0.513)),
        "within tolerance (n=1)",
    ),
    "both codes detect next to nothing": (
        "4",
        every(seeds("3", s0=0.0, s1000=0.0004, s2000=0.0), seeds("4", s0=0.0, s1000=0.0, s2000=0.0)),
        "within tolerance (n=3)",
    ),
    "the other code diverged": (
        "4",
        every(seeds("3", s0=0.513, s1000=None), seeds("4", s0=0.513, s1000=0.513)),
        "unknown: phase 3 diverged in 1 of 2 runs",
    ),
}


def report_of(case: Case) -> Report:
    desk = Desk({"detr": 51.3})
    case(desk)
    return desk.report()


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_a_statistician_s(name: str) -> None:
    phase, case, word = CASES[name]
    assert cell(report_of(case), phase)[2] == word


def test_the_document_tells_exactly_these_cases() -> None:
    rows = re.findall(r"^\| ([^|]+) \|[^|]*\| `([^`]+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert dict(rows) == {name: word for name, (_, _, word) in CASES.items()}
    assert len(rows) == len(CASES)


def rule(case: Case, phase: str = "3") -> str:
    report = report_of(case)
    index = next(i for i, c in enumerate(report.columns) if c.phase == phase)
    phase_cell = report.models[0].cells[index]
    assert phase_cell is not None
    return phase_cell.judgement.rule


def test_the_rule_says_which_test_was_made_and_with_what_power() -> None:
    text = rule(CASES["three seeds that scatter"][1])
    assert "AP within 0.2 points of the published 51.3; n=3, mean; one-sample TOST: 90 % interval" in text
    assert "power 12 % at a standard deviation of 0.20" in text
    assert "80 % takes 11 seeds" in text
    assert "seed-paired TOST" in rule(CASES["both codes, the same seeds"][1], "4")
    assert "Welch TOST" in rule(CASES["both codes, seeds of their own"][1], "4")
    assert "takes 18 seeds per arm" not in rule(CASES["both codes, seeds of their own"][1], "4")


def test_the_rule_says_why_there_is_no_test() -> None:
    near = rule(CASES["three seeds next to each other"][1])
    assert near.endswith(
        "no equivalence test: 1 independent seeds of 3 (seeds closer than 1,000 are not independent)"
    )
    alone = rule(CASES["both codes, one has a single seed"][1], "4")
    assert alone.endswith("no equivalence test: 1 independent seeds to compare with")
    assert "1 crashed run excluded" in rule(CASES["a crashed node"][1])


def test_rounding_counts_only_where_nothing_better_is_known() -> None:
    desk = Desk({"detr": 51.3})
    THREE(desk)
    rounded = desk.report().models[0].cells[0]
    recomputed = {
        f"p3.s{seed}": Recomputed(run=f"p3.s{seed}", metrics={"bbox_mAP": ap})
        for seed, ap in {0: 0.51304, 1000: 0.51302, 2000: 0.51309}.items()
    }
    exact = desk.report(recomputed=recomputed).models[0].cells[0]
    assert rounded is not None
    assert exact is not None
    assert rounded.judgement.test is not None
    assert exact.judgement.test is not None
    assert rounded.judgement.test.sd == pytest.approx(0.1 / 12**0.5)
    assert exact.judgement.test.difference == pytest.approx(0.005)
    assert exact.judgement.test.sd < 0.005


def test_the_same_seed_with_and_without_the_flag_is_not_two_results() -> None:
    desk = Desk({"detr": None})
    desk.experiment = experiment({"detr": None})
    desk.done(run("3", "detr", name="a", variant="seed7", seed=7), 0.5)
    desk.done(run("3", "detr", name="b", variant="seed7-det", seed=7, deterministic=True), 0.5)
    (note,) = (n for n in desk.report().footnotes if "variants" in n)
    assert note.endswith(
        ": variants share seed 7, as comparisons of settings need: they are compared seed by seed. A seed in "
        "two variants is not two independent results"
    )
    near = Desk({"detr": None})
    near.done(run("3", "detr", name="a", variant="seed7", seed=7), 0.5)
    near.done(run("3", "detr", name="b", variant="other", seed=1006), 0.5)
    (note,) = (n for n in near.report().footnotes if "variants" in n)
    assert note.endswith(
        ": seeds 7 and 1006 of its variants are closer than 1,000, so their trainings may share random "
        "numbers; use seeds 1,000 apart"
    )
    far = Desk({"detr": None})
    far.done(run("3", "detr", name="a", variant="seed7", seed=7), 0.5)
    far.done(run("3", "detr", name="b", variant="other", seed=1007), 0.5)
    assert not [n for n in far.report().footnotes if "variants" in n]
