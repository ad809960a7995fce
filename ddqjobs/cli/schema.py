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

    import msgspec

    from ddqjobs.report import document as report
    from ddqjobs.spec import environment, experiment, reader, site

    kinds: dict[str, type[msgspec.Struct]] = {
        "experiment": experiment.Experiment,
        "site": site.Site,
        "environment": environment.Declaration,
        "report": report.Report,
    }
    put(json.dumps(reader.schema(kinds[kind], f"ddqjobs {kind}"), indent=2))
