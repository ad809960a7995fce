"""Runs that read an input which is staged on the node's own disk, and where they read it."""

from __future__ import annotations

from pathlib import Path

from tests.support.trivial import TrivialProject, task

READ = (
    'echo "$DDQJOBS_RUN" >> "$TRACE"; cp "$DDQJOBS_INPUT_B/file" "$DDQJOBS_WORK_DIR/out.txt"; '
    'echo "$DDQJOBS_INPUT_B" > "$DDQJOBS_WORK_DIR/where$DDQJOBS_NODE_RANK"'
)
MAKE = 'mkdir "$DDQJOBS_WORK_DIR/data"; echo content > "$DDQJOBS_WORK_DIR/data/file"'


def declare(project: TrivialProject, *, stage: list[str], **keys: object) -> None:
    """``data`` makes a folder, and two runs read it."""
    tasks = {
        "data": task(products={"data": "data"}, command=["bash", "-c", MAKE]),
        "read": task(seeds=[1, 2], inputs={"b": "data.data"}, stage=stage, **keys),
    }
    project.tasks(tasks, work=READ)


def where(project: TrivialProject, run: str, rank: str = "") -> Path:
    """Return the path that a run read its input from."""
    text = (project.results / "runs" / run / "attempts" / "1" / "work_dir" / f"where{rank}").read_text()
    return Path(text.rstrip("\n"))
