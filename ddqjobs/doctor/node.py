"""Looks around on a node, by a small job that answers through the shared folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from ddqjobs.base import files
from ddqjobs.base.errors import StateError
from ddqjobs.base.findings import Line, error, warning
from ddqjobs.doctor.judgements import clocks, judge, read
from ddqjobs.doctor.missing import environment_problems
from ddqjobs.doctor.subject import Subject
from ddqjobs.spec.model import JobState, Resources
from ddqjobs.submission.node_folder import Request
from ddqjobs.submission.node_job import LOOK_S, Ended, NodeJob, NodeJobs, Script
from ddqjobs.submission.rendering import Rendering, new_token
from ddqjobs.submission.script import DOCTOR

_LIMIT_S = 300  # the job's own


def check_node(subject: Subject, gpus: int, patience_s: float) -> Iterator[Line]:
    """Submit the job, wait ``patience_s`` seconds for its answer, judge it; leave nothing behind.

    Raises SchedulerError, StateError, OSError.
    """
    workspace, site = subject.workspace, subject.site
    resources = Resources(gpus=gpus, time_s=_LIMIT_S)
    request = Request(name=DOCTOR, command=(), resources=resources, site=site.name)
    jobs = NodeJobs(workspace.scheduler(site.name), site, workspace.results)
    notes: list[str] = []
    heard = _Heard()
    context = Rendering(workspace, subject.environments).context(new_token())
    with jobs.job(request, context.token, notes.append) as job:
        _prepare(job.folder.path)
        job.submit(_script(subject, resources), context, notes.append)
        ended = job.follow(heard, lambda _: None, patience_s)
        if ended.code == 0:
            lines = list(_judge(job, ended, heard, str(workspace.results)))
        else:
            lines = [_silent(job, ended, patience_s)]
        notes.clear()  # of the submission: it is over by now
    yield from lines
    yield from (warning("compute node", note, "see the site's queue") for note in notes)


def _script(subject: Subject, resources: Resources) -> Script:
    """Return what renders the job's script."""
    rendering = Rendering(subject.workspace, subject.environments)
    unready = environment_problems(subject)  # said already: a node has nothing to add
    names = [name for name in subject.environment_names if name not in unready]
    paths = [text for text, _ in subject.paths]
    return lambda context: rendering.doctor(context, resources, names, paths)


class _Heard:
    """Hears the job's lines, and compares the node's clock with ours when it comes."""

    def __init__(self) -> None:
        self.skew_s: float | None = None

    def __call__(self, line: str) -> None:
        here = time.time()
        for answer in read(line):
            if answer.what == "clock":
                try:
                    self.skew_s = float(answer.words) - here
                except ValueError as problem:
                    raise StateError(f"a node's clock cannot be read: {answer.words!r}") from problem


def _prepare(folder: Path) -> None:
    """Take the names that the node must find taken, and write the file that it replaces."""
    (folder / "taken").write_text("command line\n")
    (folder / "taken.d").mkdir()
    (folder / "old").write_text("command line\n")


def _judge(job: NodeJob, ended: Ended, heard: _Heard, results: str) -> Iterator[Line]:
    if heard.skew_s is not None:
        yield clocks(heard.skew_s, 2 * LOOK_S)
    yield from judge(read(ended.output), _seen_here(job.folder.path), results)


def _seen_here(folder: Path) -> dict[str, bool]:
    """Return fault -> whether it is absent: what the command line sees of what a node did."""
    fault = "the command line could take a name that a node has taken"
    return {
        fault: not files.create(folder / "mine", b"") and (folder / "mine.d").is_dir(),
        "what a node renamed over a file is not seen here": (folder / "old").read_text() == "node\n",
        "what a node did to a taken name is seen here": (folder / "taken").read_text() == "command line\n",
    }


def _silent(job: NodeJob, ended: Ended, patience_s: float) -> Line:
    """Return why there is no answer."""
    if ended.code is None and ended.seen.state is not JobState.ENDED:
        state = f"{ended.seen.state.value} {ended.seen.detail}".strip()
        message = f"the probe job has not answered within {patience_s:g} s: {state}"
        return warning(
            "compute node", message, "the queue may be full: try later, or give it more --patience"
        )
    how = ended.seen.detail if ended.code is None else f"exit {ended.code}"
    last = job.folder.last_words()
    message = f"the probe job ended without an answer ({how})" + (f": {last}" if last else "")
    return error(
        "compute node", message, "see that the results folder is the same there, and the site's `setup:`"
    )
