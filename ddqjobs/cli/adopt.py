"""``ddqjobs adopt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli import completion
from ddqjobs.cli.output import say, say_json
from ddqjobs.cli.selection import JSON, Selection, filtered, one_selected

if TYPE_CHECKING:
    from ddqjobs.spec.model import Product


@filtered
def adopt(
    selection: Selection,
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[PATH]", help="A detector's work_dir, or a checkpoint.", show_default=False),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="EXPERIMENT",
            help="Instead of PATH: adopt the results with the same digest from this experiment; name the "
            "experiment itself after renaming tasks.",
            autocompletion=completion.experiments,
        ),
    ] = None,
    because: Annotated[
        str,
        typer.Option(
            "--because",
            metavar="TEXT",
            help="Why a result counts although it differs from what the run would produce.",
        ),
    ] = "",
    as_json: JSON = False,
) -> None:
    """Adopt results that exist already. They are examined first, and every report marks them as adopted.

    Examples: ddqjobs adopt ddq p3-train.ddq-detr-4scale ~/old/work_dirs/ddq_detr;
    ddqjobs adopt ddq-2 --from ddq; ddqjobs adopt ddq --from ddq
    """
    adopted = (
        _of_experiment(selection, source, path, because) if source else _of_path(selection, path, because)
    )
    if as_json:
        say_json("adopt", adopted=adopted)
        return
    for run, product in adopted.items():
        say(f"adopted {_origin(run, product.adopted_from, bool(source))} ({_content(product)})")
        if product.adoption is not None and product.adoption.unverified:
            say(f"  unverified: {', '.join(product.adoption.unverified)}")
        if product.adoption is not None and product.adoption.because:
            say(f"  differs: {'; '.join(product.adoption.differences)}")


def _origin(run: str, place: str, of_experiment: bool) -> str:
    """Return in words which run was adopted, and from where; in an experiment it may have another name."""
    if not of_experiment:
        return f"run {run} from {place}"
    there, _, experiment = place.rpartition(" of ")
    return f"run {run} from {'' if there == run else f'run {there} of '}experiment {experiment}"


def _content(product: Product) -> str:
    metrics = ", ".join(f"{key} {value}" for key, value in product.metrics.items() if value is not None)
    return metrics or f"artifacts: {', '.join(product.artifacts)}"


def _of_path(selection: Selection, path: Path | None, because: str) -> Mapping[str, Product]:
    from ddqjobs.base.errors import InputError

    if path is None or not selection.filters.any:
        raise InputError("adopt needs a run and a path: ddqjobs adopt EXPERIMENT RUN PATH")
    plan, planned = one_selected(selection, "adopt works on")
    name = planned.run.name
    return {name: selection.project.adopt(plan, name, path, because, site=selection.site)}


def _of_experiment(
    selection: Selection, source: str, path: Path | None, because: str
) -> Mapping[str, Product]:
    from ddqjobs.base.errors import InputError, StateError
    from ddqjobs.planning.filters import select

    if path is not None:  # with --from there is none: the last word is an experiment's or a run's name
        selection.add(str(path))
    if because:
        raise InputError("--because goes with a path: results of the same digest do not differ")
    project = selection.project
    plan = project.plan(selection.experiment, site=selection.site)
    runs = select(plan, selection.filters)
    adopted = project.adopt_from(plan, runs, source, site=selection.site)
    if not adopted:
        what = counted(len(runs), "run")
        raise StateError(
            f"nothing to adopt: {source} has no result with the digest of an unfinished or stale run "
            f"({what} selected)"
        )
    return adopted
