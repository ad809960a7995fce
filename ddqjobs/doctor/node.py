"""Looks around on a node, by a small job that answers through the shared folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from ddqjobs.base import files
from ddqjobs.base.findings import Line, error, warning
from ddqjobs.base.frozen import Frozen
from ddqjobs.doctor.judgements import clocks, judge, read
from ddqjobs.spec.model import JobState, Resources
from ddqjobs.submission.node_folder import Request
from ddqjobs.submission.node_job import LOOK_S, Ended, NodeJob, NodeJobs, Script
from ddqjobs.submission.script import DOCTOR, Context

_LIMIT_S = 300  # the job's own


class Probe(Frozen, frozen=True, kw_only=True):
    """What the job gets, and how long it is waited for."""

    gpus: int
    patience_s: float

    @property
    def resources(self) -> Resources:
        """Return what it asks the site for."""
        return Resources(gpus=self.gpus, time_s=_LIMIT_S)


def look(jobs: NodeJobs, probe: Probe, script: Script, context: Context, results: Path) -> Iterator[Line]:
    """Submit the job, wait for its answer, judge it; leave nothing behind. ``results`` is the folder that
    the site's nodes must share.

    Raises SchedulerError, StateError, OSError.
    """
    request = Request(name=DOCTOR, command=(), resources=probe.resources, site=jobs.site.name)
    notes: list[str] = []
    heard = _Heard()
    with jobs.job(request, context.token, notes.append) as job:
        _prepare(job.folder.path)
        job.submit(script, context, notes.append)
        ended = job.follow(heard, lambda _: None, probe.patience_s)
        lines = list(_judge(job, ended, heard, results) if ended.code == 0 else _silent(job, ended, probe))
        notes.clear()  # of the submission: it is over by now
    yield from lines
    yield from (warning("compute node", note, "see the site's queue") for note in notes)


class _Heard:
    """Hears the job's lines, and compares the node's clock with ours when it comes."""

    def __init__(self) -> None:
        self.skew_s: float | None = None

    def __call__(self, line: str) -> None:
        here = time.time()
        for answer in read(line):
            if answer.what == "clock":
                self.skew_s = float(answer.words) - here


def _prepare(folder: Path) -> None:
    """Take the names that the node must find taken, and write the file that it replaces."""
    (folder / "taken").write_text("command line\n")
    (folder / "taken.d").mkdir()
    (folder / "old").write_text("command line\n")


def _judge(job: NodeJob, ended: Ended, heard: _Heard, results: Path) -> Iterator[Line]:
    if heard.skew_s is not None:
        yield clocks(heard.skew_s, 2 * LOOK_S)
    yield from judge(read(ended.output), _seen_here(job.folder.path), str(results))


def _seen_here(folder: Path) -> dict[str, bool]:
    """Return what must be true here of the node's doings, in words, and whether it is."""
    words = "the command line could take a name that a node has taken"
    return {
        words: not files.create(folder / "mine", b"") and (folder / "mine.d").is_dir(),
        "what a node renamed over a file is not seen here": (folder / "old").read_text() == "node\n",
        "what a node did to a taken name is seen here": (folder / "taken").read_text() == "command line\n",
    }


def _silent(job: NodeJob, ended: Ended, probe: Probe) -> Iterator[Line]:
    """Return why there is no answer."""
    if ended.code is None and ended.seen.state is not JobState.ENDED:
        state = f"{ended.seen.state.value} {ended.seen.detail}".strip()
        found = f"the probe job has not answered within {probe.patience_s:g} s: {state}"
        yield warning("compute node", found, "the queue may be full: try later, or give it more --patience")
        return
    how = ended.seen.detail if ended.code is None else f"exit {ended.code}"
    last = job.folder.last_words()
    found = f"the probe job ended without an answer ({how})" + (f": {last}" if last else "")
    remedy = "see that the results folder is the same there, and the site's `setup:`"
    yield error("compute node", found, remedy)
