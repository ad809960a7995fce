"""Describe an archive as an RO-Crate 1.1 (https://w3id.org/ro/crate/1.1): its files and what made them. Pure.

Written here and not by the `rocrate` package: docs/decisions/0011-ro-crate-by-hand.md.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from ddqjobs.base.frozen import Frozen
from ddqjobs.spec.model import PlannedRun, Product

METADATA = "ro-crate-metadata.json"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".yaml": "application/yaml",
    ".html": "text/html",
    ".md": "text/markdown",
    ".py": "text/x-python",
    ".sh": "application/x-sh",
    ".xml": "application/xml",
    ".csv": "text/csv",
}
_ROLES = (
    ("report/", "the report"),
    ("specification/", "the experiment as its author wrote it"),
    ("locks/", "what an environment consists of"),
    ("annotations/", "what AP is computed with"),
)


class Entry(Frozen, frozen=True, kw_only=True):
    """A file of an archive. ``original`` is its SHA-256 before paths and secrets were taken out, if any."""

    name: str
    sha256: str
    size: int
    original: str = ""


def metadata(
    experiment: str,
    title: str,
    verdict: str,
    version: str,
    at: float,
    entries: Iterable[Entry],
    runs: Iterable[PlannedRun],
    products: Mapping[str, Product],
) -> dict[str, Any]:
    """Return the crate's metadata. ``at`` (seconds since the epoch) is when the last thing in it happened."""
    files = [_file(entry) for entry in entries]
    known = {file["@id"] for file in files}
    actions = [
        _action(planned, products[planned.run.name], f"results/{experiment}/runs", known)
        for planned in runs
        if planned.run.name in products
    ]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{experiment}: {title}" if title else experiment,
        "description": f"Evidence of a reproduction by ddqjobs. {verdict}",
        "datePublished": _date(at),
        "license": "not stated: that of the code, data and results inside",
        "hasPart": [{"@id": file["@id"]} for file in files],
        "mentions": [{"@id": action["@id"]} for action in actions],
    }
    described = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": SPECIFICATION},
        "about": {"@id": "./"},
    }
    software = {
        "@id": "#ddqjobs",
        "@type": "SoftwareApplication",
        "name": "ddqjobs",
        "softwareVersion": version,
    }
    # RO-Crate 1.1 has no word for a checksum; its profile for workflow runs has.
    context = [f"{SPECIFICATION}/context", {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}]
    return {"@context": context, "@graph": [described, root, software, *files, *actions]}


def identifier(name: str) -> str:
    """Return a file's name as the relative URI that names it in the metadata.

    >>> identifier("results/a b.json")
    'results/a%20b.json'
    """
    return quote(name)


def _file(entry: Entry) -> dict[str, Any]:
    description = {
        "@id": identifier(entry.name),
        "@type": "File",
        "name": entry.name.rpartition("/")[2],
        "contentSize": str(entry.size),
        "sha256": entry.sha256,
        "encodingFormat": _TYPES.get("." + entry.name.rpartition(".")[2], "application/octet-stream"),
    }
    role = next((role for start, role in _ROLES if entry.name.startswith(start)), "")
    return {**description, "description": role} if role else description


def _action(planned: PlannedRun, product: Product, top: str, known: set[str]) -> dict[str, Any]:
    """Return what made the results of a run."""
    names = [f"{top}/{product.run}/{path}" for path in product.artifacts.values()]
    return {
        "@id": f"#run-{product.run}",
        "@type": "CreateAction",
        "name": product.run,
        "description": f"digest {product.digest}; {planned.reason}",
        "endTime": _date(product.finished_at),
        "instrument": {"@id": "#ddqjobs"},
        "result": [{"@id": name} for name in map(identifier, names) if name in known],
    }


def _date(at: float) -> str:
    return datetime.datetime.fromtimestamp(int(at), datetime.timezone.utc).isoformat()
