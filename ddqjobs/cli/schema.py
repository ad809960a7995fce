"""``ddqjobs schema``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ddqjobs.cli.exits import reporting
from ddqjobs.cli.output import put


@reporting
def schema(
    kind: Annotated[
        Literal["experiment", "site", "environment", "report"],
        typer.Argument(metavar="KIND", help="Of file: experiment, site, environment or report."),
    ],
) -> None:
    """Print the JSON Schema of a kind of file, so that editors complete and check it; of `report`, what
    `ddqjobs report --format json` prints.

    Example: ddqjobs schema experiment > experiment.schema.json, and as the first line of the YAML file:
    # yaml-language-server: $schema=experiment.schema.json
    """
    import json

    from ddqjobs.planning import sections
    from ddqjobs.report import document as report
    from ddqjobs.spec import environment
    from ddqjobs.spec import schema as schemas

    if kind == "environment":
        made = schemas.schema(environment.Declaration, f"ddqjobs {kind}")
    elif kind == "report":
        made = schemas.schema(report.Report, f"ddqjobs {kind}")
    else:
        made = sections.schema(kind)
    put(json.dumps(made, indent=2))
