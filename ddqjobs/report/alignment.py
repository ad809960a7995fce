"""Two codes compared value by value: what an align run found, and the verdict by its tolerances. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction

import msgspec

from ddqjobs.report.verdict import (
    QUANTA_PER_POINT,
    Judgement,
    from_points,
    judge_limits,
    to_points,
    unknown,
)
from ddqjobs.spec.model import Product, Run


class Alignment(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of an align run. None: not measured (a run compares predictions, or losses, or both)."""

    box: float | None = None
    """Largest difference of coordinates of matched boxes, in pixels; null if not measured or not finite.
    Example: 0.0"""
    score: float | None = None
    """Largest difference of scores of matched boxes, 0 to 1; null if not measured or not finite. Example:
    0.0"""
    unmatched: int | None = None
    """Number of boxes of either side without a match; null if not measured. Example: 0"""
    ap_quanta: int | None = None
    """Difference in AP, in units of 0.1 points; null if not measured or if a side has no AP. Example: 0"""
    iterations: int | None = None
    """Number of iterations whose losses were compared; null if losses were not compared. Example: 50"""
    first_difference: int | None = None
    """First iteration whose losses differ; null if all are bit-equal or none were compared. Example: 17"""
    loss: float | None = None
    """Largest relative difference of losses, as a fraction; null if not measured or not finite. Example:
    1.2e-05"""
    left_over: int | None = None
    """Number of iterations and loss terms, or of modules, that only one side has; null if not measured.
    Example: 0"""
    weight: float | None = None
    """Largest absolute difference of any weight; null if not measured or not finite. Example: 0.0"""
    tensors: int | None = None
    """Number of tensors compared; null if weights were not compared. Example: 712"""
    module: float | None = None
    """Largest difference of a module's output, as a fraction of its largest value; null if not measured or
    not finite. Example: 2.4e-07"""
    modules: int | None = None
    """Number of modules compared; null if modules were not compared. Example: 418"""
    first_module: str = ""
    """Name of the first module whose output differs; empty if none does. Example: backbone.layer1.0"""
    first_values: str = ""
    """Difference of that module's output and statistics of both sides, as text; empty if none differs.
    Example: 'output 0 of call 0 differs by 0.5: (2, 3) float32, -1 to 2, mean 0.5, deviation 1 against (2, 3)
    float32, -1 to 1.5, mean 0.4, deviation 1'"""
    repeat: bool = False
    """True if the losses are those of one training's first iterations, run twice. Example: false"""
    bit_equal: bool = False
    """True if everything that was compared is equal bit by bit. Example: true"""
    ap_nan: bool = False
    """True if the difference in AP was asked for and a side has no AP. Example: false"""

    @property
    def predictions(self) -> bool:
        """Return whether predictions were compared."""
        return self.unmatched is not None or self.box is not None or self.score is not None

    @property
    def weights(self) -> bool:
        """Return whether checkpoints were compared."""
        return self.weight is not None

    @property
    def outputs(self) -> bool:
        """Return whether the outputs of modules were compared."""
        return self.module is not None

    @property
    def losses(self) -> bool:
        """Return whether loss curves were compared."""
        return self.iterations is not None or self.loss is not None


def alignment(product: Product) -> Alignment:
    """The findings of :mod:`ddqjobs.detect.align`. This function alone knows its keys."""
    ap = _number(product, "ap")
    return Alignment(
        box=_number(product, "box"),
        score=_number(product, "score"),
        unmatched=_whole(product, "unmatched"),
        ap_quanta=None
        if ap is None or math.isinf(ap)
        else round(ap * QUANTA_PER_POINT),  # in points, of two exact fractions
        iterations=_whole(product, "iterations"),
        first_difference=_whole(product, "first_difference"),
        loss=_number(product, "loss"),
        left_over=_whole(product, "left_over"),
        weight=_number(product, "weight"),
        module=_number(product, "module"),
        modules=_whole(product, "modules"),
        first_module=_first_module(product),
        first_values=_first_values(product),
        tensors=_whole(product, "tensors"),
        repeat=product.report.get("kind") == "repeat",
        bit_equal=product.report.get("bit_equal") is True,
        ap_nan=ap is not None and math.isinf(ap),
    )


_Limit = tuple[str, float | None, float | None]  # what was measured, its value, what is allowed
_Limits = Mapping[str, float]  # the run's tolerances


def judge_alignment(findings: Alignment, run: Run) -> Judgement:
    """Return the verdict on an align run by its tolerances, of which those apply that speak of what it
    compared.

    A box without a partner differs by more than any tolerance, so wherever boxes or scores are limited no
    box may be left over. A repeated training is equal, bit by bit, or is not: that has no tolerance.
    """
    if not (findings.predictions or findings.losses or findings.weights or findings.outputs):
        return unknown(
            "nothing was compared", "an alignment compares weights, modules, predictions or losses"
        )
    if findings.repeat:
        return judge_limits([("not bit-equal", 0.0 if findings.bit_equal else math.inf, 0.0)])
    limits = dict(run.tolerances)
    return judge_limits([limit for part in _PARTS for limit in part(findings, limits)])


def _predictions(findings: Alignment, limits: _Limits) -> Iterator[_Limit]:
    if not findings.predictions:
        return
    yield "box", findings.box, limits.get("box")
    yield "score", findings.score, limits.get("score")
    if "box" in limits or "score" in limits:
        yield "unmatched boxes", findings.unmatched, 0
    if "ap" in limits and findings.ap_quanta is not None:
        # Both sides of the comparison come from exact fractions, so that the very edge is inside.
        yield "AP", to_points(Fraction(abs(findings.ap_quanta))), to_points(from_points(limits["ap"]))
    elif "ap" in limits and findings.ap_nan:
        yield "AP", math.inf, limits["ap"]


def _weights(findings: Alignment, limits: _Limits) -> Iterator[_Limit]:
    if findings.weights:
        yield "weights", findings.weight, limits.get("weight")


def _outputs(findings: Alignment, limits: _Limits) -> Iterator[_Limit]:
    if findings.outputs:
        yield "modules", findings.module, limits.get("module")
        if "module" in limits:
            yield "modules on one side only", findings.left_over, 0


def _losses(findings: Alignment, limits: _Limits) -> Iterator[_Limit]:
    if findings.losses:
        yield "loss", findings.loss, limits.get("loss")
        if "loss" in limits:
            yield "iterations and terms on one side only", findings.left_over, 0


_PARTS = (_predictions, _weights, _outputs, _losses)


def _first_module(product: Product) -> str:
    first = product.report.get("first")
    name = first.get("name") if isinstance(first, dict) else None
    return name if isinstance(name, str) else ""


def _first_values(product: Product) -> str:
    """``differs by 0.5: (2, 3) float32, -1 to 2, mean 0.5, deviation 1 against nothing``."""
    first = product.report.get("first")
    if not isinstance(first, dict) or "difference" not in first:
        return ""
    gap = first["difference"]
    how = "cannot be compared" if gap is None else f"differs by {gap:.3g}"
    part = f"{first.get('part')} of call {first.get('call')} {how}"
    return f"{part}: {_statistics(first.get('a'))} against {_statistics(first.get('b'))}"


def _statistics(statistics: object) -> str:
    """Return the result of :func:`ddqjobs.detect.compare.modules.statistics` in words."""
    if not isinstance(statistics, dict):
        return "nothing"
    shape = f"({', '.join(str(side) for side in statistics.get('shape', ()))}) {statistics.get('type')}"
    if statistics.get("min") is None:
        return shape
    numbers = {key: f"{statistics[key]:.6g}" for key in ("min", "max", "mean", "std")}
    text = (
        f"{shape}, {numbers['min']} to {numbers['max']}, mean {numbers['mean']}, deviation {numbers['std']}"
    )
    return f"{text}, {statistics['not_finite']} not finite" if statistics.get("not_finite") else text


def _number(product: Product, key: str) -> float | None:
    """A metric as it is; infinity for NaN (null), because a NaN difference keeps no tolerance."""
    if key not in product.metrics:
        return None
    value = product.metrics[key]
    return math.inf if value is None or math.isnan(value) else value


def _whole(product: Product, key: str) -> int | None:
    value = product.metrics.get(key)
    return None if value is None or not math.isfinite(value) else int(value)
