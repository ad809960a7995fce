"""A new project: its folders and the files to start from."""

from __future__ import annotations

import re
from pathlib import Path

from ddqjobs.base.errors import InputError, StateError, nearest
from ddqjobs.spec.shipped import shipped_root

_EXPERIMENT = """\
# A variant of the miniature experiment: anything you omit is inherited.
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


def init(folder: Path, source: str = "") -> list[Path]:
    """Make a project in ``folder``, with a copy of the shipped experiment ``source`` and its configurations,
    or with a variant of the miniature. What is there already stays as it is. Return the new files. Raise
    InputError, StateError."""
    text = {
        **(_copied(source) if source else {"experiments/my-mini.yaml": _EXPERIMENT}),
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
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
                made.append(path)
    except OSError as error:
        raise StateError(f"{error.filename or folder}: {error.strerror}") from error
    return made


def _copied(source: str) -> dict[str, str]:
    """Return the files of a shipped experiment under a name of their own: path and text."""
    shipped = shipped_root() / "experiments"
    names = {path.stem for path in shipped.glob("*.yaml")}
    if source not in names:
        hint = nearest(source, names) or f"; there are {', '.join(sorted(names))}"
        raise InputError(f"no experiment {source} ships with ddqjobs{hint}")
    text = (shipped / f"{source}.yaml").read_text(encoding="utf-8")
    copies = {f"experiments/my-{source}.yaml": re.sub(r"(?m)^name: .*$", f"name: my-{source}", text, count=1)}
    for name in sorted(set(re.findall(r"\bconfigs/[\w./-]+\.py\b", text))):
        if (shipped / name).is_file():
            copies[f"experiments/{name}"] = (shipped / name).read_text(encoding="utf-8")
    return copies
