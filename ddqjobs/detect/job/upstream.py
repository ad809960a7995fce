"""Tell whether the inputs of an attempt are still what the runs before it left. Standard library only.

A product names the SHA-256 of its files, and a run those of the files that it was planned with. A file that
was touched since then is digested once more: copied over by hand, trained further, or taken back from a
backup, it would be tested under another's name.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Callable, Mapping

from .. import files

Touched = Callable[[os.stat_result], bool]


def problem(run_dir: Path, run: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """Return in one line which input is another file than was recorded, or than was submitted; empty if
    there is none."""
    for role, read in run.get("inputs", ()):
        if read.get("run"):
            source = _of_run(run_dir.parent / read["run"], read.get("artifact", ""))
            complaint = f"is not what {read['run']} left, {{}} was changed since: bring it back"
        else:
            name = "DDQJOBS_INPUT_" + re.sub(r"[^A-Za-z0-9_]", "_", role).upper()
            source = Path(variables.get(name, "")), read.get("sha256", ""), _other_than(read)
            again = f"`ddqjobs retry {called(run_dir)}` takes it as it is"
            complaint = "is not what was submitted, {} was changed since: " + again
        path, digest, touched = source
        if digest and _is_touched(path, touched) and files.sha256(path) != digest:
            return f"input {role} {complaint.format(path)}"
    return ""


def called(run_dir: Path) -> str:
    """Return what a command calls the run of a folder: experiment and name."""
    return f"{run_dir.parent.parent.name} {run_dir.name}"


def _of_run(folder: Path, artifact: str) -> tuple[Path, str, Touched]:
    """Return the file of an artifact, its digest, and what tells that it was touched since then."""
    try:
        said = json.loads((folder / "product.json").read_text(encoding="utf-8"))
        path = folder / said["artifacts"][artifact]
        taken_at = float(said["finished_at"])
        return path, said["sha256"].get(artifact, ""), lambda at: at.st_ctime > taken_at
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return folder, "", lambda _: True


def _other_than(read: Mapping[str, Any]) -> Touched:
    """Return what tells a file from that whose content was submitted. No clock of another machine counts."""
    known = read.get("size", 0), read.get("changed_ns", 0)
    return lambda at: (at.st_size, at.st_ctime_ns) != known


def _is_touched(path: Path, touched: Touched) -> bool:
    try:
        return path.is_file() and touched(path.stat())
    except OSError:
        return False
