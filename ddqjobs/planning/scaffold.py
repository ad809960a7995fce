"""A new project: its folders and the files to start from."""

from __future__ import annotations

from pathlib import Path

from ddqjobs.base.errors import StateError

_EXPERIMENT = """\
# A variant of the miniature experiment: what is not said here is inherited.
# `ddqjobs schema experiment` prints all keys; `ddqjobs plan my-mini` shows what it makes of them.
base: mini
name: my-mini
title: my first experiment
"""

_README = """\
# A ddqjobs project

    ddqjobs plan                 # what there is to do, and why
    ddqjobs submit --dry-run     # the scripts, without submitting
    ddqjobs submit --wait        # do it
    ddqjobs report               # the AP table

`experiments/`, `templates/` (sites) and `envs/` override what ships with ddqjobs, file by file.
"""


def init(folder: Path) -> list[Path]:
    """Make a project in ``folder``; what is there already stays as it is. Return the new files. Raise
    StateError."""
    text = {
        "experiments/my-mini.yaml": _EXPERIMENT,
        "results/.gitignore": "*\n!.gitignore\n",
        ".gitignore": ".environments/\n.weights/\n",
        "README.md": _README,
    }
    made: list[Path] = []
    try:
        for name in ("experiments", "templates", "envs", "results"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for relative, content in text.items():
            path = folder / relative
            if not path.exists():
                path.write_text(content)
                made.append(path)
    except OSError as error:
        raise StateError(f"{error.filename or folder}: {error.strerror}") from error
    return made
