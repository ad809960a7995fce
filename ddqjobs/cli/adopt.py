"""``ddqjobs adopt``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddqjobs.cli.exits import reporting
from ddqjobs.cli.output import say, say_json
from ddqjobs.cli.selection import FOLDER, JSON, SITE


@reporting
def adopt(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A detector's work_dir, or a checkpoint.")],
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="The run's experiment.")
    ] = None,
    site: SITE = None,
    folder: FOLDER = None,
    as_json: JSON = False,
) -> None:
    """Take in a result that exists already; every report marks it as adopted.

    Example: ddqjobs adopt -e ddq p3-train.ddq-detr-4scale ~/old/work_dirs/ddq_detr
    """
    from ddqjobs.project import open_project

    project = open_project(folder)
    plan = project.plan(experiment, site=site)
    product = project.adopt(plan, run, path, site=site)
    if as_json:
        say_json("adopt", run=run, product=product)
    else:
        found = ", ".join(f"{k} {v}" for k, v in product.metrics.items() if v is not None) or ", ".join(
            product.artifacts
        )
        say(f"adopted {run} from {path}: {found}")
