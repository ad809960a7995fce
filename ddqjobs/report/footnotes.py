"""Footnotes of a report: what marks in its tables mean, and what is to be known of single results. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from ddqjobs.base.units import counted
from ddqjobs.report import ran
from ddqjobs.report.cells import Cell, ModelRow
from ddqjobs.report.results import NAN
from ddqjobs.report.run_rows import AlignRow, CheckRow
from ddqjobs.report.variants import VariantRow
from ddqjobs.report.verdict import HOLDS
from ddqjobs.spec.model import SEEDS_APART, PlannedRun, Product

_KEYS = 3  # of a checkpoint, and seeds, that are named in a footnote


def notes(
    models: Sequence[ModelRow],
    aligned: Sequence[AlignRow],
    checked: Sequence[CheckRow],
    picked: Sequence[PlannedRun],
    products: Mapping[str, Product],
    unfollowed: Iterable[str],
    variants: Sequence[VariantRow] = (),
) -> tuple[str, ...]:
    """Return all footnotes of a report; ``unfollowed`` says what configurations build on that no digest
    covers."""
    followed = (f"not followed: {what}" for what in unfollowed)
    zeros = _of_zeros(models, variants)
    return (*marks(models, aligned, checked), *zeros, *results(picked, products), *followed)


def marks(
    models: Sequence[ModelRow], aligned: Sequence[AlignRow], checked: Sequence[CheckRow]
) -> tuple[str, ...]:
    """Return the meaning of the marks in the tables; only of those that are used."""
    cells = [c for row in models for c in row.cells if c is not None]
    everything: list[Cell | AlignRow | CheckRow] = [*cells, *aligned, *checked]
    notes = []
    if any(x.adopted for x in everything):
        notes.append("† adopted: made elsewhere and entered with `ddqjobs adopt`")
    if any(x.stale for x in everything):
        notes.append("‡ stale: made by an earlier configuration, environment or code (reasons below)")
    if any(x.accepted for x in everything):
        notes.append("§ accepted: stale or other than its run, and declared valid by a user (reasons below)")
    values = [v for c in cells for v in c.values.values()]
    if any(v.text.startswith("–") for v in values):
        notes.append("– no such objects: the data set has no object of this size")
    if any(v.text.startswith(NAN) for v in values):
        notes.append("nan: the metric is no number, the training diverged")
    if any(c.judgement.n == 1 for c in cells):
        notes.append("n=1: one seed; being within the tolerance does not show that the codes are the same")
    if any(c.judgement.excluded for c in cells):
        notes.append("excluded: its machine failed it, which says nothing about the method; it is counted")
    notes += _dependent(models)
    notes += [
        f"{r.run}: {r.found.first_module}, {r.found.first_values}" for r in aligned if r.found.first_values
    ]
    return tuple(notes)


def _of_zeros(models: Sequence[ModelRow], variants: Sequence[VariantRow]) -> Iterator[str]:
    """Yield the models whose verdicts hold because all figures are 0: any two codes agree in that."""
    for row in models:
        cells = [cell for cell in row.cells if cell is not None and cell.value.quanta]
        measured = [quanta for cell in cells for quanta in cell.value.quanta]
        if not measured or any(measured):
            continue
        judged = [cell.judgement for cell in cells if not cell.difference]
        own = (v for v in variants if (v.model, v.variant) == (row.model, row.variant))
        judged += [v.judgement for v in own if not v.difference]
        if any(judgement.outcome in HOLDS for judgement in judged):
            name = row.title if row.variant == "default" else f"{row.title}, {row.variant}"
            zero = cells[0].value.text.partition(" ")[0]
            yield (
                f"{name}: {row.judged_by.name} is {zero} in all runs; that figures of 0 are equal shows "
                "nothing about the codes"
            )


def results(picked: Sequence[PlannedRun], products: Mapping[str, Product]) -> Iterator[str]:
    """Yield what is to be known of single results: how they were loaded, ended, adopted, and what ran."""
    yield from _inexact(picked, products)
    yield from _found_nothing(picked, products)
    yield from _ended_otherwise(picked, products)
    yield from _unverified(picked, products)
    yield from ran.notes(
        {planned.run.name: product for planned in picked if (product := products.get(planned.run.name))}
    )


def _inexact(picked: Sequence[PlannedRun], products: Mapping[str, Product]) -> Iterator[str]:
    """Yield the tests whose checkpoint did not load exactly: their figures are of another model."""
    for planned in picked:
        product = products.get(planned.run.name)
        inexact = product.report.get("loaded_inexactly") if product else None
        if isinstance(inexact, dict) and isinstance(keys := inexact.get("keys"), dict):
            parts = [_keys(kind, int(inexact[kind]), names) for kind, names in keys.items()]
            yield f"{planned.run.name}: its checkpoint did not load exactly: {'; '.join(parts)}"


def _found_nothing(picked: Sequence[PlannedRun], products: Mapping[str, Product]) -> Iterator[str]:
    """Yield the tests that detected nothing: their 0 says that no score was high enough to be kept."""
    for planned in picked:
        product = products.get(planned.run.name)
        if product is not None and product.report.get("detections") == 0:
            yield f"{planned.run.name}: nothing was detected in any image"


def _ended_otherwise(picked: Sequence[PlannedRun], products: Mapping[str, Product]) -> Iterator[str]:
    """Yield the trainings that stopped before their last epoch, or kept another checkpoint than its."""
    for planned in picked:
        product = products.get(planned.run.name)
        report = product.report if product else {}
        if early := report.get("stopped_early"):
            yield f"{planned.run.name}: stopped early, after {early}"
        elif kept := report.get("checkpoint"):
            yield f"{planned.run.name}: its checkpoint is {kept}, the only one it kept"


def _unverified(picked: Sequence[PlannedRun], products: Mapping[str, Product]) -> Iterator[str]:
    """Yield the adopted results with what could not be compared with their runs."""
    for planned in picked:
        product = products.get(planned.run.name)
        if product is not None and product.adoption is not None and product.adoption.unverified:
            yield f"{planned.run.name}: adopted, unverified: {', '.join(product.adoption.unverified)}"


def _keys(kind: str, count: int, names: Sequence[str]) -> str:
    more = ", ..." if count > _KEYS else ""
    return f"{counted(count, f'{kind} key')} ({', '.join(names[:_KEYS])}{more})"


def _dependent(models: Sequence[ModelRow]) -> Iterator[str]:
    """Yield the models whose variants share seeds, which pairs them, or have seeds too close to each other,
    which is a fault."""
    by_model: dict[str, list[ModelRow]] = {}
    for row in models:
        by_model.setdefault(row.model, []).append(row)
    for rows_ in by_model.values():
        shared, close = set[int](), set[tuple[int, int]]()
        for i in range(len(rows_[0].cells)):
            cells = [c for row in rows_ if (c := row.cells[i]) is not None]
            seeds = sorted(seed for c in cells for seed in c.seeds if seed is not None)
            if len(cells) > 1:
                shared |= {first for first, second in pairwise(seeds) if first == second}
                close |= {(a, b) for a, b in pairwise(seeds) if 0 < b - a < SEEDS_APART}
        if shared:
            yield (
                f"{rows_[0].title}: variants share {_listed_seeds(shared)}, as comparisons of settings need: "
                "they are compared seed by seed. A seed in two variants is not two independent results"
            )
        if close:
            first, second = min(close)
            yield (
                f"{rows_[0].title}: seeds {first} and {second} of its variants are closer than "
                f"{SEEDS_APART:,}, so their trainings may share random numbers; use seeds {SEEDS_APART:,} "
                "apart"
            )


def _listed_seeds(seeds: Collection[int]) -> str:
    more = ", ..." if len(seeds) > _KEYS else ""
    word = "seeds" if len(seeds) > 1 else "seed"
    return f"{word} {', '.join(map(str, sorted(seeds)[:_KEYS]))}{more}"
