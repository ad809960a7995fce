"""Words of ``djob`` and what each means here. Pure. The words are the site's (``donau.dialect.states``)."""

from __future__ import annotations

import msgspec

from ddqjobs.schedulers.donau.options import Donau, DonauDialect
from ddqjobs.schedulers.donau.tables import Cells, cell
from ddqjobs.spec.model import FailureClass, JobState, Observation

_STATES = {
    "queued": JobState.QUEUED,
    "held": JobState.HELD,
    "running": JobState.RUNNING,
    "stopped": JobState.STOPPED,
    "ended": JobState.ENDED,
    "failed": JobState.ENDED,
}


def observe(cells: Cells, dialect: DonauDialect) -> Observation:
    """Return the state that a row or the details of a job mean. A word that nobody knows is no end."""
    word = cell(cells, dialect.columns.state)
    meaning = dialect.states.get(word)
    if meaning is None:
        said = (
            f"djob says {word[:40]!r}, which means nothing here" if word else "djob does not tell its state"
        )
        return Observation(state=JobState.UNKNOWN, detail=said)
    state = _STATES[meaning]
    node = cell(cells, dialect.columns.node) if state is JobState.RUNNING else ""
    if state is JobState.ENDED:
        return Observation(state=state, detail=f"Donau says {word}")
    return Observation(
        state=state,
        detail="" if state in (JobState.RUNNING, JobState.HELD) or word == "PENDING" else word,
        node=node,
    )


def failed(cells: Cells, dialect: DonauDialect) -> bool:
    """Return whether these cells say of a job that it failed, so that it is worth asking why."""
    return dialect.states.get(cell(cells, dialect.columns.state)) == "failed"


def explained(seen: Observation, cells: Cells, site: Donau) -> Observation:
    """An end with what its exit code tells. The exit code is Donau's word, so it only adds to an end."""
    dialect = site.dialect
    if dialect is None or seen.state is not JobState.ENDED:
        return seen
    code = cell(cells, dialect.columns.exit_code)
    if not code.isdecimal() or not code.isascii():
        return seen
    message = cell(cells, dialect.columns.message)
    detail = f"{seen.detail}, exit {code}" + (f" ({message[:100]})" if message else "")
    number, failure = int(code), None
    if number in dialect.cancelled:
        failure = FailureClass.CANCELLED
    elif site.requeue is not None and number == site.requeue.code:
        failure = FailureClass.TIMEOUT  # asked to be started again more often than Donau was told to
    return msgspec.structs.replace(seen, detail=detail, failure=failure, exit_code=number)
