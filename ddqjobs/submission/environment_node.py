"""Runs a build or verification as a job of the site's scheduler, and shows its log while it waits.

No ticket and no claim: two such jobs of one environment take turns like two command lines, and the second
finds it ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddqjobs.base.errors import SchedulerError
from ddqjobs.schedulers.base import Element, Scheduler, Submission, SubmitUnknownError
from ddqjobs.spec.model import JobState, Observation, Resources
from ddqjobs.spec.site import Site
from ddqjobs.submission.script import Context, Renderer, on_site

_LOOK_S = 0.2
_ASK_EVERY_S = 5.0
_GRACE_S = 30.0  # for file systems that show what a node wrote only after a while


@dataclass(frozen=True)
class NodeJob:
    """What to run on a node: a command of ours, with what, from where. ``folder`` is for its files."""

    argv: Sequence[str]
    title: str
    resources: Resources
    project: Path
    folder: Path
    token: str
    user: str


def run(
    scheduler: Scheduler, site: Site, renderer: Renderer, job: NodeJob, say: Callable[[str], None]
) -> int:
    """Submits the command, waits for its end, hands on what it prints line by line; its exit code.

    Raises SchedulerError if the job was not taken, or ended without saying how.
    """
    context = Context(
        results=str(job.folder), project=str(job.project), code="", token=job.token, user=job.user
    )
    folder = job.folder / "submissions" / job.token
    (folder / "out").mkdir(parents=True)
    script = renderer.node_command(site, context, job.resources, job.title, job.argv)
    (folder / "job.sh").write_text(script, encoding="utf-8")
    submission = Submission(
        token=job.token,
        name="ddqjobs.env",
        folder=str(folder),
        resources=on_site(job.resources, site),
        elements=(Element(index=0, run="env"),),
    )
    name = _submit(scheduler, submission)
    say(f"job {name} of site {site.name}; its output: {folder / 'out'}")
    return _follow(scheduler, folder, name, say)


def _submit(scheduler: Scheduler, submission: Submission) -> str:
    try:
        return scheduler.submit(submission)[0]
    except SubmitUnknownError:
        found = scheduler.find(submission.token)
        if found is None:
            raise
        return found[0]


def _follow(scheduler: Scheduler, folder: Path, job: str, say: Callable[[str], None]) -> int:
    at, asked, ended = 0, 0.0, 0.0
    seen = Observation(state=JobState.QUEUED)
    while True:
        at = _tell(folder / "out", at, say)
        if (folder / "exit").exists():
            _tell(folder / "out", at, say)
            return int((folder / "exit").read_text())
        if time.monotonic() - asked > _ASK_EVERY_S:
            asked = time.monotonic()
            before, seen = seen.state, _asked(scheduler, job, seen)
            if seen.state is not before:
                say(f"job {job} is {seen.state.value}")
        if seen.state is JobState.ENDED:
            ended = ended or time.monotonic()
            if time.monotonic() - ended > _GRACE_S:
                raise SchedulerError(
                    f"job {job} ended without saying how ({seen.detail}); see {folder / 'out'}"
                )
        time.sleep(_LOOK_S)


def _asked(scheduler: Scheduler, job: str, last: Observation) -> Observation:
    """What the scheduler says of the job; what it said last if it does not answer."""
    try:
        return scheduler.query([job])[job]
    except SchedulerError:
        return last


def _tell(out: Path, at: int, say: Callable[[str], None]) -> int:
    """Hands on the whole lines that came; where they ended. Each scheduler names the file in its own way."""
    logs = sorted(path for path in out.iterdir() if path.suffix in (".log", ".out"))
    try:
        data = logs[0].read_bytes()[at:] if logs else b""
    except OSError:
        return at
    whole = data[: data.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        say(line)
    return at + len(whole)
