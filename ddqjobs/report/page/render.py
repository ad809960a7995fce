"""Fills the page's templates. Everything in them is data: secrets masked, escaped, with control characters
spelled out."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ddqjobs.base.secrets import masked
from ddqjobs.base.text import clean
from ddqjobs.base.units import clock
from ddqjobs.report import missing, verdict_colours
from ddqjobs.report.document import Report, rules
from ddqjobs.report.gallery import Gallery
from ddqjobs.report.grids import HOURS, Grid, grids
from ddqjobs.report.hours import hours_order
from ddqjobs.report.lookup import label
from ddqjobs.report.loss_curves import Curve
from ddqjobs.report.page import charts, detections, findings, glance, panels, tables, timeline
from ddqjobs.report.page.charts import Panel
from ddqjobs.report.page.facts import Facts
from ddqjobs.report.page.words import measure, moment
from ddqjobs.report.verdict import Outcome
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Plan, Product

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

_FOLDER = Path(__file__).parent
_SIGNS = {"reproduced": "✓", "equal": "✓", "short": "✗", "differs": "≠", "exceeds": "↑", "unknown": "?"}
_MOST_ROWS = 2000  # of a table of single runs; all of them are in the other formats
_MOST_CLASSES = 3  # that a sentence names; the table has more
_MOST_APART = 2  # models with losses further apart than seeds whose curves a large matrix unfolds
_SMALL = 24  # runs; on a page of more the tables behind the first ones are folded


class Pictures(msgspec.Struct, frozen=True, kw_only=True):
    """One model's curves, drawn."""

    group: panels.Group
    drawn: tuple[tuple[Panel, str], ...]  # with SVG
    more: tuple[tuple[Panel, str], ...]  # folded
    apart: bool  # its losses are further apart than seeds
    unfolded: bool  # where a screen is wide


def page(
    experiment: Experiment,
    plan: Plan,
    report: Report,
    facts: Facts,
    curves: Mapping[str, Curve],
    products: Mapping[str, Product],
    *,
    price: float | None = None,
    currency: str = "",
    to_come: Mapping[str, float] | None = None,
    share: Callable[[str], str] | None = None,
    gallery: Gallery | None = None,
    now: float | None = None,
    reload_s: int = 0,
) -> str:
    """Return the whole page. ``price`` is of a GPU hour, in ``currency``; ``to_come``: run -> GPU hours;
    ``gallery``: images with boxes; ``share`` leaves out of each text what is not for others."""
    at = time.time() if now is None else now
    wanted = {row.run for row in report.runs}
    shown = msgspec.structs.replace(
        plan, runs=tuple(planned for planned in plan.runs if planned.run.name in wanted)
    )
    numbers = {planned.run.name: i for i, planned in enumerate(shown.runs)}
    environment = _environment(lambda run: _raw(f"run-{numbers[run]}" if run in numbers else ""), share)
    environment.filters["cost"] = lambda hours: f"{(price or 0) * hours:,.2f} {currency}".rstrip()
    return environment.get_template("page.html.j2").render(
        **_head(report, plan.site, at),
        **_results(experiment, shown, report, facts, to_come or {}),
        **_drawn_curves(experiment, shown, report, curves),
        **_detections(experiment, shown, report, gallery),
        **_runs(experiment, shown, report, facts, products, at),
        experiment=experiment,
        report=report,
        extremes=findings.extremes(report, gallery),
        alike=findings.alike(report, gallery),
        reload_s=reload_s,
        price=price,
        currency=currency,
        small=len(shown.runs) <= _SMALL,
    )


def _head(report: Report, site: str, at: float) -> dict[str, object]:
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    return {
        "css": _raw(f"{verdict_colours.css()}\n{(_FOLDER / 'page.css').read_text(encoding='utf-8')}"),
        "script": _raw(script),
        "script_hash": _raw(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()),
        "made": moment(at),
        "again": missing.command(("report", "--format", "json"), report.experiment, site=site),
        "site": site,
    }


def _results(
    experiment: Experiment, plan: Plan, report: Report, facts: Facts, to_come: Mapping[str, float]
) -> dict[str, object]:
    """Return tables: at a glance, AP, hours, checks, and the rules of their verdicts."""
    return {
        "titles": {row.model: row.title for row in report.models},
        "glance": glance.glance(report, plan, facts, to_come),
        "findings": findings.findings(report, plan.runs),
        "most_findings": findings.MOST,
        "tried_again": missing.AGAIN,
        "column_names": [(tables.column_name(c), c.title) for c in report.columns],
        "tables": tables.tables(report, facts, {planned.run.name: planned for planned in plan.runs}),
        "rules": rules(report),
        "grids": _other_grids(report),
        "most_rows": _MOST_ROWS,
        "hours": [row for row in report.hours if not row.model],
        "by_model": _by_model(report),
        "codes": list(experiment.codes.items()),
    }


def _drawn_curves(
    experiment: Experiment, plan: Plan, report: Report, curves: Mapping[str, Curve]
) -> dict[str, object]:
    wanted = {row.run for row in report.runs}
    apart = {run for row in report.curves if row.judgement.outcome is Outcome.DIFFERS for run in row.runs}
    pictures = _draw(experiment, plan, curves, {m.model: m.title for m in report.models}, wanted, apart)
    lines = (line for g in pictures for panel, _ in (*g.drawn, *g.more) for line in panel.lines)
    models = {(m.model, m.variant) for m in report.models}
    return {
        "pictures": pictures,
        "smoothable": any(line.smooth for line in lines),
        "undrawn": len(models) - len(pictures) if pictures else 0,
    }


def _detections(
    experiment: Experiment, plan: Plan, report: Report, gallery: Gallery | None
) -> dict[str, object]:
    return {
        "classes": [row for row in report.classes if round(row.difference, 1)][:_MOST_CLASSES],
        "commonest": detections.commonest(report),
        "recalls": detections.recalls(experiment, plan, report),
        "halls": detections.halls(experiment, plan, gallery) if gallery else [],
        "photos": list(detections.images(gallery)) if gallery else [],
        "photo_notes": gallery.notes if gallery else (),
    }


def _runs(
    experiment: Experiment,
    plan: Plan,
    report: Report,
    facts: Facts,
    products: Mapping[str, Product],
    at: float,
) -> dict[str, object]:
    return {
        "facts": facts,
        "scripts": {token: f"script-{i}" for i, token in enumerate(facts.scripts)},
        "groups": tables.run_groups(experiment, report, plan.runs, facts, products),
        "line": timeline.time_line(plan.runs, facts, at),
        "left_out": len(plan.runs) - len(facts.runs),
    }


def _by_model(report: Report) -> list[tuple[str, list[object]]]:
    """Return the GPU hours as rows of models, the sum last, and columns of phases, the sum last."""
    cells = {(row.model, row.phase): row for row in report.hours}
    models, phases = hours_order(report.hours)
    return [(model, [cells.get((model, phase)) for phase in phases]) for model in models]


def _environment(anchor: Callable[[str], str], share: Callable[[str], str] | None) -> jinja2.Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    @lru_cache(maxsize=1 << 16)
    def shown(text: str) -> str:
        return clean(masked(text) if share is None else share(masked(text)))

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: shown(value) if type(value) is str else value,
    )
    environment.globals.update(anchor=anchor, signs=_SIGNS, colours=charts.STYLES, dashes=charts.DASHES)
    environment.filters.update(
        lines=lambda texts: _lines("\n".join(texts), shown),
        text=lambda text: _lines(str(text), shown),
        svg=_raw,
        moment=moment,
        duration=clock,
        phase=lambda phase: label(phase) if phase else "all",
        sign=lambda outcome: _SIGNS.get(outcome.value if outcome else "", "–"),
        tone=lambda outcome: outcome.value if outcome else "none",
        hours=_hours,
        measure=measure,
    )
    return environment


def _raw(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)


def _hours(hours: float | None) -> str:
    """Return ``1,248``, ``12.5``, ``0.2``; empty for None."""
    if hours is None:
        return ""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 or not hours else f"{hours:.2f}"


def _lines(text: str, shown: Callable[[str], str]) -> Markup:
    from markupsafe import Markup, escape

    # Masked as a whole first: a secret may go on in the next line.
    return Markup("\n").join(escape(shown(line)) for line in masked(text).split("\n"))


def _other_grids(report: Report) -> list[Grid]:
    others = [grid for grid in grids(report) if grid.title not in (report.metrics[0], HOURS)]
    return [msgspec.structs.replace(grid, rows=grid.rows[:_MOST_ROWS]) for grid in others]


def _draw(
    experiment: Experiment,
    plan: Plan,
    curves: Mapping[str, Curve],
    titles: Mapping[str, str],
    wanted: set[str],
    apart: set[str],
) -> list[Pictures]:
    shown = {name: curve for name, curve in curves.items() if name in wanted}
    pictures: list[Pictures] = []
    for group in panels.groups(experiment, plan, shown, titles):
        is_apart = any(run in apart for *_, run in group.legend)
        pictures.append(
            Pictures(
                group=group,
                drawn=_drawn(group.panels),
                more=_drawn(group.more),
                apart=is_apart,
                unfolded=is_apart and sum(earlier.apart for earlier in pictures) < _MOST_APART,
            )
        )
    return pictures


def _drawn(group_panels: Sequence[Panel]) -> tuple[tuple[Panel, str], ...]:
    return tuple((panel, masked(charts.draw(panel))) for panel in group_panels)
