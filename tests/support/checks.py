"""A project whose runs load configurations in an environment that the site enters, and that has no torch."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.trivial import EXPERIMENT, TrivialProject

LOCK = "torch==1.0\n"
OPTIONS = {"lr": 0.1, "+extra.key": 3}


def detector(project: TrivialProject) -> None:
    """Makes the project's only run one of a detector, with options; the site must enter ``tiny``."""
    folder = project.root / "envs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "env.yaml").write_text('name: tiny\npython: "3.11"\n')
    (folder / "requirements.txt").write_text("torch\n")  # a detector's
    (folder / "lock.txt").write_text(LOCK)
    (project.root / "entered").mkdir()
    (project.root / "entered/activate").write_text("")
    (project.root / "entered/python").symlink_to(sys.executable)
    (project.root / "experiments/configs").mkdir(parents=True)
    (project.root / "experiments/configs/a.py").write_text("lr = 1\n")
    command = ["sh", "-c", "echo done > out.txt", "{config}", "{options}"]
    project.write(
        f"experiments/{EXPERIMENT}.yaml",
        {
            "name": EXPERIMENT,
            "implementations": {},
            "models": {},
            "codes": {"mm": {"environment": "tiny", "seed_option": "seed"}},
            "tasks": {
                "first": {
                    "kind": "smoke",
                    "once": True,
                    "code": "mm",
                    "config": "configs/a.py",
                    "options": OPTIONS,
                    "command": command,
                }
            },
        },
    )


def entered(project: TrivialProject) -> dict[str, str]:
    """Return what the site's file says under ``activate``."""
    return {"tiny": str(Path(project.root) / "entered/activate")}
