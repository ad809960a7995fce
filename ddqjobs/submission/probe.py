"""A small job that looks around on a node and answers through the shared folder: for `ddqjobs doctor`."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ddqjobs.base.errors import SchedulerError, StateError
from ddqjobs.base.findings import Line, error, warning
from ddqjobs.base.frozen import Frozen
from ddqjobs.doctor.examination import clocks, judge, read
from ddqjobs.schedulers.base import Element, Scheduler, Submission
from ddqjobs.spec.model import JobState, Observation, Resources
from ddqjobs.spec.site import Site
from ddqjobs.store.claims import create_exclusively
from ddqjobs.submission.script import on_site

_LOOK_S = 0.1
_ASK_EVERY_S = 3.0
_LIMIT_S = 300  # the job's own


class Question(Frozen, frozen=True, kw_only=True):
    """The job's folder, which must not exist, its token, and how to write its script once the folder does."""

    folder: Path
    token: str
    gpus: int = 0


def resources(site: Site, gpus: int) -> Resources:
    """What the job asks for."""
    return on_site(Resources(gpus=gpus, time_s=_LIMIT_S), site)


def ask(scheduler: Scheduler, site: Site, question: Question, script: str, patience_s: float) -> list[Line]:
    """Submits the job, waits for its answer at most ``patience_s`` seconds, judges it, leaves nothing behind.

    Raises SchedulerError and OSError.
    """
    folder = question.folder
    (folder / "out").mkdir(parents=True)
    try:
        (folder / "taken").write_text("command line\n")
        (folder / "taken.d").mkdir()
        (folder / "old").write_text("command line\n")
        (folder / "job.sh").write_text(script)
        element = Element(index=0, run="doctor")
        jobs = scheduler.submit(
            Submission(
                token=question.token,
                name="ddqjobs.doctor",
                folder=str(folder),
                resources=resources(site, question.gpus),
                elements=(element,),
            )
        )
        return list(_wait(scheduler, folder, jobs[0], patience_s))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(scheduler: Scheduler, folder: Path, job: str, patience_s: float) -> Iterator[Line]:
    end = time.monotonic() + patience_s
    skew: float | None = None
    asked, seen = 0.0, Observation(state=JobState.QUEUED)
    while not (folder / "answer").exists():
        if skew is None and (folder / "clock").exists():
            skew = _skew(folder / "clock")
        if time.monotonic() - asked > _ASK_EVERY_S:
            asked = time.monotonic()
            seen = scheduler.query([job])[job]
        over = seen.state is JobState.ENDED and not _appears(lambda: (folder / "answer").exists())
        if over or time.monotonic() > end:
            scheduler.cancel([job])
            yield _silent(folder, seen, patience_s, over=over)
            return
        time.sleep(_LOOK_S)
    skew = _skew(folder / "clock") if skew is None else skew
    yield clocks(skew, 2 * _LOOK_S)
    answers = read((folder / "answer").read_text(errors="replace"))
    yield from judge(answers, _seen_here(folder), str(folder.parent.parent))
    with contextlib.suppress(SchedulerError):  # its output's folder goes: let it end first
        _appears(lambda: scheduler.query([job])[job].state is JobState.ENDED)


def _skew(clock: Path) -> float:
    here = time.time()
    try:
        return float(clock.read_text()) - here
    except (OSError, ValueError) as error_:
        raise StateError(f"{clock}: {error_}") from error_


def _appears(there: Callable[[], bool], limit_s: float = 20.0) -> bool:
    """Whether it is there within the time that file systems and schedulers take to tell."""
    end = time.monotonic() + limit_s
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_S)
    return True


def _seen_here(folder: Path) -> dict[str, bool]:
    """What must be true here of the node's doings, in words, and whether it is."""
    words = "the command line could take a name that a node has taken"
    return {
        words: not create_exclusively(folder / "mine", b"") and (folder / "mine.d").is_dir(),
        "what a node renamed over a file is not seen here": (folder / "old").read_text() == "node\n",
        "what a node did to a taken name is seen here": (folder / "taken").read_text() == "command line\n",
    }


def _silent(folder: Path, seen: Observation, patience_s: float, *, over: bool) -> Line:
    """No answer came."""
    if not over:
        state = f"{seen.state.value} {seen.detail}".strip()
        found = f"the probe job has not answered within {patience_s:g} s: {state}"
        return warning("compute node", found, "the queue may be full: try later, or give it more --patience")
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = (folder / "out" / "0.log").read_text(errors="replace").strip().splitlines()
    last = f": {lines[-1][:200]}" if lines else ""
    found = f"the probe job ended without an answer ({seen.detail}){last}"
    return error(
        "compute node", found, "see that the results folder is the same there, and the site's `setup:`"
    )
