"""An align run is judged by its own tolerances, of which those apply that speak of what it compared."""

from __future__ import annotations

import pytest

from ddqjobs.report.alignment import Alignment, alignment, judge_alignment
from ddqjobs.report.verdict import Outcome
from ddqjobs.spec.model import Product, Run, TaskKind


def aligned(*tolerances: tuple[str, float]) -> Run:
    return Run(name="a", experiment="x", task="t", kind=TaskKind.ALIGN, tolerances=tolerances)


PREDICTIONS = Alignment(box=0.0, score=0.0, unmatched=0)
LOSSES = Alignment(iterations=50, loss=1e-6, first_difference=3, left_over=0)


@pytest.mark.parametrize(
    ("comparison", "tolerances", "word"),
    [
        (PREDICTIONS, (("box", 0.01), ("loss", 0.1)), "equal"),
        (Alignment(weight=0.0, tensors=206), (("weight", 1e-6),), "equal"),
        (Alignment(weight=0.5, tensors=206), (("weight", 1e-6),), "outside: weights"),
        (Alignment(box=0.0, unmatched=0, ap_nan=True), (("ap", 0.2),), "outside: AP"),
        (LOSSES, (("box", 0.01), ("loss", 0.1)), "within tolerance"),
        (LOSSES, (("loss", 1e-7),), "outside: loss"),
        (LOSSES, (), "no tolerance given"),
        (Alignment(box=0.0, score=0.0, unmatched=3), (("box", 0.01),), "outside: unmatched boxes"),
        (Alignment(box=0.0, unmatched=0, ap_quanta=-2), (("ap", 0.2),), "within tolerance"),
        (Alignment(box=0.0, unmatched=0, ap_quanta=-3), (("ap", 0.2),), "outside: AP"),
        (Alignment(unmatched=0), (("box", 0.01),), "unknown: no box measured"),
        (Alignment(), (("box", 0.01),), "unknown: nothing was compared"),
    ],
)
def test_an_alignment_is_judged_by_what_it_compared(
    comparison: Alignment, tolerances: tuple[tuple[str, float], ...], word: str
) -> None:
    assert judge_alignment(comparison, aligned(*tolerances)).word == word


def test_a_nan_difference_keeps_no_tolerance() -> None:
    comparison = alignment(
        Product(
            run="a", digest="made", kind=TaskKind.ALIGN, attempt=2, metrics={"iterations": 5.0, "loss": None}
        )
    )
    judged = judge_alignment(comparison, aligned(("loss", 10.0)))
    assert judged.outcome is Outcome.DIFFERS
