"""Tell whether the inputs of an attempt are still what the runs before it left. Standard library only.

A product names the SHA-256 of its files. A file that was touched since is digested once more: copied over by
hand, trained further, or taken back from a backup, it would be tested under another's name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator, Mapping

from .. import files


def problem(run_dir: Path, run: Mapping[str, Any]) -> str:
    """Return in one line which input is another file than was recorded; empty if there is none."""
    return next(_problems(run_dir, run), "")


def _problems(run_dir: Path, run: Mapping[str, Any]) -> Iterator[str]:
    for role, read in run.get("inputs", ()):
        name, artifact = read.get("run", ""), read.get("artifact", "")
        folder = run_dir.parent / name
        product = _product(folder) if name else {}
        digest = product.get("sha256", {}).get(artifact)
        path = folder / product.get("artifacts", {}).get(artifact, "")
        if digest and _touched(path, product) and files.sha256(path) != digest:
            yield f"input {role} is not what {name} left, {path} was changed since: bring it back"


def _product(folder: Path) -> Mapping[str, Any]:
    try:
        said = json.loads((folder / "product.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _touched(path: Path, product: Mapping[str, Any]) -> bool:
    try:
        return path.is_file() and path.stat().st_ctime > product.get("finished_at", 0)
    except OSError:
        return False
