"""Tell whether the inputs of an attempt are still what the runs before it left. Standard library only.

A product names the SHA-256 of its files. A file that was touched since is digested once more: copied over by
hand, trained further, or taken back from a backup, it would be tested under another's name.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Mapping

from .. import files


def problem(run_dir: Path, run: Mapping[str, Any], variables: Mapping[str, str], since: float) -> str:
    """Return in one line which input is another file than was recorded, or than at the submission at the time
    ``since``; empty if there is none."""
    for role, read in run.get("inputs", ()):
        if read.get("run"):
            found = _of_run(run_dir.parent / read["run"], read.get("artifact", ""))
            words = f"is not what {read['run']} left, {{}} was changed since: bring it back"
        else:
            name = "DDQJOBS_INPUT_" + re.sub(r"[^A-Za-z0-9_]", "_", role).upper()
            found = Path(variables.get(name, "")), read.get("sha256", ""), since
            words = "is not what was submitted, {} was changed since: `ddqjobs retry` takes it as it is"
        path, digest, known = found
        if digest and _touched(path, known) and files.sha256(path) != digest:
            return f"input {role} {words.format(path)}"
    return ""


def _of_run(folder: Path, artifact: str) -> tuple[Path, str, float]:
    """Return the file of an artifact, its digest, and when that was taken."""
    try:
        said = json.loads((folder / "product.json").read_text(encoding="utf-8"))
        path = folder / said["artifacts"][artifact]
        return path, said["sha256"].get(artifact, ""), float(said["finished_at"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return folder, "", 0.0


def _touched(path: Path, since: float) -> bool:
    try:
        return path.is_file() and path.stat().st_ctime > since
    except OSError:
        return False
