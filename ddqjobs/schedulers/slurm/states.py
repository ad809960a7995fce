"""Slurm's words for the state of a job, and what each means here. Pure.

A job that was preempted, timed out or lost its node may be requeued: then the queue shows it as pending, and
that is what counts. The words below for ends are reached only when the job is really over.
"""

from __future__ import annotations

import re

import msgspec

from ddqjobs.schedulers.slurm.answers import Row
from ddqjobs.spec.model import WAITS, FailureClass, JobState, Observation

_QUEUED, _HELD, _RUNNING = JobState.QUEUED, JobState.HELD, JobState.RUNNING
_STOPPED, _ENDED, _UNKNOWN = JobState.STOPPED, JobState.ENDED, JobState.UNKNOWN

# Every state that squeue(1) and sacct(1) list, of versions 20.11 to 25.05. An end without a class leaves it
# to the evidence to say why.
STATES: dict[str, tuple[JobState, FailureClass | None]] = {
    "BOOT_FAIL": (_ENDED, FailureClass.NODE),
    "CANCELLED": (_ENDED, FailureClass.CANCELLED),
    "COMPLETED": (_ENDED, None),
    "COMPLETING": (_RUNNING, None),  # on its way out, or back into the queue
    "CONFIGURING": (_QUEUED, None),  # has nodes that are still booting
    "DEADLINE": (_ENDED, FailureClass.TIMEOUT),
    "EXPEDITING": (_QUEUED, None),
    "FAILED": (_ENDED, None),
    "LAUNCH_FAILED": (_ENDED, FailureClass.NODE),
    "NODE_FAIL": (_ENDED, FailureClass.NODE),
    "OUT_OF_MEMORY": (_ENDED, FailureClass.OUT_OF_MEMORY),
    "PENDING": (_QUEUED, None),
    "POWER_UP_NODE": (_QUEUED, None),
    "PREEMPTED": (_ENDED, FailureClass.PREEMPTED),
    "RECONFIG_FAIL": (_ENDED, FailureClass.NODE),
    "REQUEUED": (_QUEUED, None),
    "REQUEUE_FED": (_QUEUED, None),
    "REQUEUE_HOLD": (_HELD, None),
    "RESIZING": (_RUNNING, None),
    "RESV_DEL_HOLD": (_HELD, None),
    "REVOKED": (_UNKNOWN, None),  # another cluster of the federation has it
    "RUNNING": (_RUNNING, None),
    "SIGNALING": (_RUNNING, None),
    "SPECIAL_EXIT": (_HELD, None),  # requeued and held
    "STAGE_OUT": (_RUNNING, None),
    "STOPPED": (_STOPPED, None),
    "SUSPENDED": (_STOPPED, None),
    "TIMEOUT": (_ENDED, FailureClass.TIMEOUT),
    "UPDATE_DB": (_RUNNING, None),
}
# JobHeldUser, JobHeldAdmin, JobHoldMaxRequeue; "launch failed requeued held", "job requeued in held state",
# with spaces or underscores: what Slurm does to a job that a node could not start.
_HELD_REASON = re.compile(r"JobHeld|JobHold|[ _]held")
_WAITS = {"Dependency": WAITS, "DependencyNeverSatisfied": f"{WAITS} (DependencyNeverSatisfied)"}
_DEPENDENCY = "a run it depends on did not end well"
_QUIET = ("", "None", "(null)", "Priority", "Resources", "NonZeroExitCode", "OutOfMemory")
_LOOK = "look at the room, inodes, quota and permissions of the results there, and whether they are mounted"
_MEMORY = "give its task more `memory` in `resources`"
ALIVE = (_QUEUED, _HELD, _RUNNING, _STOPPED)


def in_queue(row: Row) -> Observation:
    """Return the state that a row of squeue means."""
    return _marked(row, _in_queue(row))


def _marked(row: Row, seen: Observation) -> Observation:
    return msgspec.structs.replace(seen, marks=row.marks)


def _in_queue(row: Row) -> Observation:
    word, state, failure = _look_up(row)
    if state is _UNKNOWN:
        return _unknown(row, "squeue")
    if word == "CANCELLED" and row.reason == "DependencyNeverSatisfied":
        return Observation(state=_ENDED, detail=_DEPENDENCY, failure=FailureClass.DEPENDENCY)
    if word == "PENDING" and _HELD_REASON.search(row.reason):
        # One that an administrator holds is not ours to release: then the reason is worth a word.
        return Observation(state=_HELD, detail="" if row.reason == "JobHeldUser" else row.reason)
    if state is _ENDED:
        return _ended(word, row, failure)
    detail = "" if row.reason in _QUIET else _WAITS.get(row.reason, row.reason)
    if word not in ("PENDING", "RUNNING"):
        detail = f"{word}, {detail}" if detail else word
    return Observation(state=state, detail=detail, node=row.node if state is _RUNNING else "")


def launched(row: Row) -> bool:
    """Return whether a job in the queue has not failed before its script began: only accounting says why."""
    return row.reason != "JobLaunchFailure" or not row.state.startswith("FAILED")


def explained(seen: Observation, told: Observation) -> Observation:
    """Return the state of a job that squeue shows as failed before its script began, with what accounting
    says of it: its reason, or, while accounting lags behind or does not answer, nothing for certain."""
    lags = told.state is _UNKNOWN and not told.forgotten
    return msgspec.structs.replace(told, marks=seen.marks, twins=seen.twins) if told.failure or lags else seen


def left_queue(row: Row) -> Observation:
    """Return the state that a row of sacct means, of a job that squeue does not show."""
    if row.nameless:
        return Observation(
            state=_UNKNOWN, detail="it has left the queue, and accounting does not say yet whose job it was"
        )
    return _marked(row, _left_queue(row))


def _left_queue(row: Row) -> Observation:
    word, state, failure = _look_up(row)
    if state is _UNKNOWN:
        return _unknown(row, "sacct")
    if state in ALIVE:  # accounting lags behind
        return Observation(
            state=_UNKNOWN, detail=f"it has left the queue, and accounting still says {row.state}"
        )
    # By itself (not "by UID") the controller cancels only what waits for something that cannot come any more.
    # The reason is not always there: 24.11 says None.
    if row.state == "CANCELLED" and not row.node:
        return Observation(state=_ENDED, detail=_DEPENDENCY, failure=FailureClass.DEPENDENCY)
    # Accounting keeps the reason for which the job last waited: it says nothing about the end.
    return _ended(word, row._replace(reason=""), failure)


def _look_up(row: Row) -> tuple[str, JobState, FailureClass | None]:
    word = row.state.partition(" ")[0].rstrip("+")  # CANCELLED by UID; sacct cuts off with a +
    return (word, *STATES.get(word, (_UNKNOWN, None)))


def _unknown(row: Row, command: str) -> Observation:
    return Observation(state=_UNKNOWN, detail=f"{command} says {row.state[:40]!r}, which means nothing here")


def _ended(word: str, row: Row, failure: FailureClass | None) -> Observation:
    detail = f"Slurm says {row.state}"
    if row.reason not in (*_QUIET, "Dependency", "BeginTime", "Reservation"):
        detail += f" ({row.reason})"
    code, _, signal = row.exit.partition(":")
    if row.exit not in ("", "0:0") and word == "FAILED":
        detail += f", exit {code}" if code != "0" else f", signal {signal}"
    if failure is FailureClass.OUT_OF_MEMORY:
        detail += f", {_MEMORY}"
    if row.exit == "0:53" and word == "FAILED":
        failure = FailureClass.STORAGE
        detail += ", its output folder was not there on the node, or could not be written; " + _LOOK
    number = int(code) if word == "FAILED" and code.isdecimal() and signal == "0" else None
    return Observation(state=_ENDED, detail=detail, node=row.node, failure=failure, exit_code=number)
