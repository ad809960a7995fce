"""Fills the page's template. Everything in it is data: secrets masked, escaped, with control characters
spelled out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ddqjobs.base.secrets import masked
from ddqjobs.base.text import clean
from ddqjobs.base.units import clock
from ddqjobs.report.cells import Cell, ModelRow
from ddqjobs.report.document import Report, rules
from ddqjobs.report.grids import Grid, grids
from ddqjobs.report.lookup import Column, label
from ddqjobs.report.loss_curves import Curve
from ddqjobs.report.page import plots, view
from ddqjobs.report.page.facts import Facts, RunFacts
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Plan, PlannedRun, Product

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

_FOLDER = Path(__file__).parent
_SIGNS = {"reproduced": "✓", "equal": "✓", "short": "✗", "differs": "≠", "exceeds": "↑", "unknown": "?"}
NO_PLOTS = "The curves need matplotlib: pip install 'ddqjobs[page]', then make this page again."


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One run on the page."""

    planned: PlannedRun
    facts: RunFacts
    product: Product | None
    metrics: list[tuple[str, str]]
    repeats: str  # what repeating showed of its deterministic flag; empty without one


class Pictures(msgspec.Struct, frozen=True, kw_only=True):
    """One model's curves, drawn."""

    group: view.Group
    drawn: tuple[tuple[str, str], ...]  # title, SVG


def page(
    experiment: Experiment,
    plan: Plan,
    report: Report,
    facts: Facts,
    curves: Mapping[str, Curve],
    products: Mapping[str, Product],
    *,
    price: float | None = None,
    now: float | None = None,
) -> str:
    """The whole page. ``price`` is of a GPU hour, in whatever currency."""
    from markupsafe import Markup

    at = time.time() if now is None else now
    shown = [p for p in plan.runs if p.run.name in facts.runs]
    numbers = {p.run.name: i for i, p in enumerate(shown)}
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            css=Markup((_FOLDER / "page.css").read_text()),
            experiment=experiment,
            report=report,
            made=view.moment(at),
            site=plan.site,
            columns=[_head(c) for c in report.columns],
            table=_table(report),
            anchor=lambda run: f"run-{numbers[run]}" if run in numbers else "",
            rules=rules(report),
            signs=_SIGNS,
            grids=_other_grids(report),
            pictures=_draw(experiment, plan, curves, {m.model: m.title for m in report.models}, facts),
            no_plots="" if plots.available() else NO_PLOTS,
            line=view.time_line(shown, facts, at),
            hours=view.hours(experiment, shown, facts),
            price=price,
            codes=[(name, code) for name, code in experiment.codes.items()],
            facts=facts,
            scripts={token: f"script-{i}" for i, token in enumerate(facts.scripts)},
            entries=_entries(shown, report, facts, products),
        )
    )


def _entries(
    shown: Sequence[PlannedRun], report: Report, facts: Facts, products: Mapping[str, Product]
) -> list[Entry]:
    repeats = {row.run: row.repeats for row in report.runs}
    return [
        Entry(
            planned=p,
            facts=facts.runs[p.run.name],
            product=products.get(p.run.name),
            metrics=view.metrics(products[p.run.name]) if p.run.name in products else [],
            repeats=repeats.get(p.run.name, ""),
        )
        for p in shown
    ]


def _table(report: Report) -> list[tuple[ModelRow, list[tuple[Cell | None, view.Strip | None, str]]]]:
    """Rows of the AP table; of each cell also its strip, and what a screen reader hears of that."""
    return [
        (row, [(c, None if c is None else view.strip(c), _says(c)) for c in row.cells])
        for row in report.models
    ]


def _environment() -> jinja2.Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(masked(value)) if type(value) is str else value,
    )
    environment.filters.update(
        lines=lambda texts: _lines("\n".join(texts)),
        text=lambda text: _lines(str(text)),
        svg=Markup,
        moment=view.moment,
        duration=clock,
        sign=lambda outcome: _SIGNS.get(outcome.value if outcome else "", "–"),
        tone=lambda outcome: outcome.value if outcome else "none",
    )
    return environment


def _lines(text: str) -> Markup:
    from markupsafe import Markup, escape

    return Markup("\n").join(escape(clean(line)) for line in masked(text).split("\n"))


def _head(column: Column) -> tuple[str, str]:
    name = " ".join(filter(None, (label(column.phase), column.implementation, column.task)))
    return name, column.title


def _says(cell: Cell | None) -> str:
    """What a screen reader hears of a strip."""
    if cell is None or cell.tolerance is None or cell.reference is None:
        return ""
    return f"{cell.values['AP'].text} against {cell.reference:g} ± {cell.tolerance:g}"


def _other_grids(report: Report) -> list[Grid]:
    return [grid for grid in grids(report) if grid.title != "AP"]


def _draw(
    experiment: Experiment,
    plan: Plan,
    curves: Mapping[str, Curve],
    titles: Mapping[str, str],
    facts: Facts,
) -> list[Pictures]:
    shown = {name: curve for name, curve in curves.items() if name in facts.runs}
    made = []
    for i, group in enumerate(view.groups(experiment, plan, shown, titles)):
        drawn: Sequence[str] = plots.draw(group.panels, f"g{i}") if plots.available() else []
        pairs = tuple(zip((panel.title for panel in group.panels), drawn, strict=False))
        made.append(Pictures(group=group, drawn=pairs))
    return made
