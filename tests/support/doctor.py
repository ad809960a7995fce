"""An experiment for ``doctor`` to examine, and its answer as a dictionary."""

from __future__ import annotations

from tests.support.cli import Ran

INPUTS = """
name: tiny
implementations: {}
codes: {shell: {path: tree}}
models: {}
tasks:
  one: {kind: smoke, once: true, code: shell, command: ["true"], inputs: {weights: "path:weights.pth"}}
  many: {kind: smoke, once: true, code: shell, command: ["true"], optional: true, resources: {gpus: 8}}
"""


def lines(ran: Ran) -> dict[str, list[tuple[str, str]]]:
    """Return {what: [(level, what was found)]} of the lines."""
    out: dict[str, list[tuple[str, str]]] = {}
    for line in ran.json["lines"]:
        out.setdefault(line["what"], []).append((line["level"], line["found"]))
    return out
