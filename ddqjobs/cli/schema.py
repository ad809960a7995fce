"""``ddqjobs schema``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from ddqjobs.cli.exits import reporting
from ddqjobs.cli.output import put


@reporting
def schema(
    kind: Annotated[
        Literal["experiment", "site", "environment", "user", "report"],
        typer.Argument(metavar="KIND", help="Of file: experiment, site, environment, user or report."),
    ],
    key: Annotated[
        str, typer.Argument(metavar="[KEY]", help="Explain this key: tasks.resources.time, or just time.")
    ] = "",
) -> None:
    """Print the JSON Schema of a kind of file, so that editors complete and check it; of `report`, what
    `ddqjobs report --format json` prints. With a key, print what it means, its default and an example.

    For editors, begin the YAML file with `# yaml-language-server: $schema=experiment.schema.json`.
    Examples: ddqjobs schema experiment > experiment.schema.json; ddqjobs schema site limits
    """
    import json

    json_schema = document(kind)
    put(_explained(json_schema, kind, key) if key else json.dumps(json_schema, indent=2))


def document(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of a kind of file: experiment, site, environment, user or report."""
    from ddqjobs.planning import sections
    from ddqjobs.report import document as report
    from ddqjobs.spec import environment, notify
    from ddqjobs.spec import schema as schemas

    if kind == "environment":
        return schemas.schema(environment.Declaration, f"ddqjobs {kind}")
    if kind == "user":
        return schemas.schema(notify.User, f"ddqjobs {kind}")
    if kind == "report":
        return schemas.schema(report.Report, f"ddqjobs {kind}")
    return sections.schema("site" if kind == "site" else "experiment")


def _explained(schema: dict[str, Any], kind: str, key_path: str) -> str:
    """Return what the keys mean that ``key_path`` stands for. Raises InputError if there is none."""
    from ddqjobs.base.errors import InputError, nearest
    from ddqjobs.spec import keys

    every = keys.of(schema)
    matches = keys.chosen(every, key_path)
    if not matches:
        names = {key.path for key in every} | {key.path.rpartition(".")[2] for key in every}
        hint = _elsewhere(kind, key_path) or nearest(key_path, names)
        raise InputError(f"{kind} files have no key {key_path}{hint}")
    return "\n\n".join(map(_lines, matches))


def _elsewhere(kind: str, key_path: str) -> str:
    """Return which other files have a key, and what explains it there; empty if none has it."""
    commands = {other: command for other, command in explaining(key_path).items() if other != kind}
    return f"; {' and '.join(commands)} files have it: {' or '.join(commands.values())}" if commands else ""


def explaining(key_path: str) -> dict[str, str]:
    """Return kind of file -> the command that explains a key, of the kinds that have it."""
    from ddqjobs.spec import keys

    return {
        kind: f"`ddqjobs schema {kind} {key_path}`"
        for kind in ("experiment", "site", "environment", "user")
        if keys.chosen(keys.of(document(kind)), key_path)
    }


def _lines(key: Any) -> str:
    lines = [f"{key.path}: {key.form}{', required' if key.required else ''}", f"  {key.text}"]
    lines += [f"  default: {key.default}"] if key.default else []
    lines += [f"  example: {key.example}"] if key.example else []
    return "\n".join(lines)
