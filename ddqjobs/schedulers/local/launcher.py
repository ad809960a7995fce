"""Runs one start of a job: claims it, starts the script, watches over its processes, records its end.

This is what submitit runs. It needs nobody: the supervisor may die, and so may the terminal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import time
from pathlib import Path
from types import FrameType

from ddqjobs.base import process
from ddqjobs.detect.job import exit_codes
from ddqjobs.schedulers.local.disk import patiently
from ddqjobs.schedulers.local.queue import Queue
from ddqjobs.schedulers.local.records import (
    MOST_RESTARTS,
    Claim,
    End,
    Filed,
    Reason,
    split_job,
    start_id,
)

_TICK_S = 0.2  # how soon a wish to cancel is seen; an end is seen at once
_LEAVE_S = 1.0  # what outlives the script may finish by itself for so long: `tee` has lines to write
_SET_CHILD_SUBREAPER = 36  # prctl: orphans among the script's descendants become our children


def launch(root: str, job: str, restart: int) -> None:
    """Runs that start of that job, unless somebody else has it."""
    os.setsid()  # the supervisor's group may be killed as a whole
    bell = Bell()
    queue = Queue(Path(root))
    claim = Claim(owner=process.myself())
    if not patiently(lambda: queue.take(start_id(job, restart), claim)):
        return
    # After the claim: whoever holds a job and then sees no claim can be sure that it does not run.
    if queue.held(job):
        end = End(job=job, restart=restart, reason=Reason.REQUEUE, note="held before it began")
        patiently(lambda: queue.record([end]))
        return
    try:
        end = _run(queue, job, restart, bell)
    except Exception as error:  # an end must be recorded whatever happens; what happened is in its note
        note = f"{type(error).__name__}: {error}"
        end = End(job=job, restart=restart, reason=Reason.NOT_STARTED, note=note)
    patiently(lambda: queue.record([end]))


class Bell:
    """Rings when a child ends or somebody signals us, so that nobody has to look all the time.

    Replaces submitit's handlers. All are functions, for what is ignored stays ignored in children.
    """

    def __init__(self) -> None:
        self.told_to_end = False
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT):
            signal.signal(number, _ignore)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)

    def wait(self, seconds: float) -> None:
        """Until it rings, at most so long."""
        if select.select([self._read], [], [], max(0.0, seconds))[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read, 4096)

    def _tell(self, _number: int, _frame: FrameType | None) -> None:
        self.told_to_end = True


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A signal that only rings."""


def _run(queue: Queue, job: str, restart: int, bell: Bell) -> End:
    token, index = split_job(job) or ("", 0)
    filed = queue.load(token)
    if filed is None:
        raise FileNotFoundError(f"no submission {token}")
    start = start_id(job, restart)
    if queue.wish(job, start) is Reason.CANCELLED:
        return End(job=job, restart=restart, reason=Reason.CANCELLED)
    ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    script = _start_script(queue, filed, job, index, restart)
    with contextlib.suppress(OSError):  # only for finding it should we be killed; a full disk is no reason
        queue.note_script(start, process.identify(script.pid))
    watch = Watch(queue, filed, job, restart, script.pid, bell)
    status = watch.until_end()
    _sweep(script.pid, bell, filed.grace_s)
    script.wait()
    return watch.end(status)


def _start_script(queue: Queue, filed: Filed, job: str, index: int, restart: int) -> process.Child:
    slots = queue.slots(start_id(job, restart))
    gpus = slots.gpus if slots else ()
    variables = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # nvidia-smi's order, in which the indices count
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)) or "-1",
        "DDQJOBS_INDEX": str(index),
        "DDQJOBS_JOB_ID": job,
        "DDQJOBS_RESTART": str(restart),
    }
    environment = queue.environment(filed.environment)
    environment.update((name.encode(), value.encode()) for name, value in variables.items())
    folder = Path(filed.submission.folder)
    log = filed.submission.out / f"{index}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as output:
        return process.start(
            ["bash", filed.submission.script], output=output.fileno(), env=environment, cwd=folder
        )


class Watch:
    """Looks after a running script: warning, time limit, wishes; and says how it ended."""

    def __init__(self, queue: Queue, filed: Filed, job: str, restart: int, pid: int, bell: Bell) -> None:
        self._queue, self._job, self._restart, self._pid, self._bell = queue, job, restart, pid, bell
        self._limit = float(filed.submission.resources.time_s)
        self._grace = filed.grace_s
        began = time.monotonic()
        warning = min(max(filed.warning_s, 1.0), self._limit / 4)
        self._warn_at = began + self._limit - warning
        self._limit_at = began + self._limit
        self._kill_at = float("inf")
        self._asked: Reason | None = None  # why we ended it; None if it ended by itself
        self._told = False

    def until_end(self) -> os.waitid_result:
        """Waits for the script. Leaves it a zombie, so that its pid still means its group."""
        while True:
            status = _reap_others(self._pid)
            if status is not None:
                return status
            now = time.monotonic()
            self._look(now)
            coming = min(self._warn_at, self._limit_at, self._kill_at)
            self._bell.wait(min(_TICK_S, coming - now))

    def _look(self, now: float) -> None:
        if now >= self._kill_at:
            process.signal_group(self._pid, signal.SIGKILL)
            self._kill_at = now + 1
        wish = self._queue.wish(self._job, start_id(self._job, self._restart))
        if now >= self._limit_at:
            self._limit_at = float("inf")
            wish = wish or Reason.LIMIT
        if self._bell.told_to_end and not self._told:
            self._told = True
            self._terminate(now)
        if wish is not None and wish is not self._asked:
            if self._asked is None:
                self._terminate(now)
            self._asked = wish
        if now >= self._warn_at:
            self._warn_at = float("inf")
            if self._asked is None:
                # To the script alone: torchrun and its like die of it and leave their workers behind.
                os.kill(self._pid, signal.SIGUSR1)

    def _terminate(self, now: float) -> None:
        self._kill_at = min(self._kill_at, now + self._grace)
        process.signal_group(self._pid, signal.SIGTERM)

    def end(self, status: os.waitid_result) -> End:
        """Return how it ended. A script that asks for another start gets it, also when its time was over."""
        exited = status.si_code == os.CLD_EXITED
        code = status.si_status if exited else None
        again = code == exit_codes.STOPPED and self._asked is not Reason.CANCELLED
        reason, note = self._asked or Reason.EXIT, ""
        if again and self._restart < MOST_RESTARTS:
            reason = Reason.REQUEUE
        elif again and reason is Reason.EXIT:
            note = f"restarted {MOST_RESTARTS} times already"
        elif reason is Reason.LIMIT:
            note = f"{self._limit:g} s"
        return End(
            job=self._job,
            restart=self._restart,
            reason=reason,
            code=code,
            signal=None if exited else status.si_status,
            note=note,
        )


def _reap_others(script: int) -> os.waitid_result | None:
    """Reaps orphans that became ours; the script's own end is returned, not reaped."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while True:
        ended = os.waitid(os.P_PID, script, flags)
        if ended is not None:
            return ended
        other = os.waitid(os.P_ALL, 0, flags)
        if other is None:
            return None
        if other.si_pid != script:
            os.waitpid(other.si_pid, 0)


def _sweep(script: int, bell: Bell, grace: float) -> None:
    """Ends whatever the script left behind, in its group or out of it."""
    began = time.monotonic()
    terminated = False
    while others := _others(script):
        passed = time.monotonic() - began
        if passed > _LEAVE_S + grace:
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        elif passed > _LEAVE_S and not terminated:
            terminated = True
            process.signal_group(script, signal.SIGTERM)
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        bell.wait(0.05)


def _others(script: int) -> list[int]:
    """Our children but the script, which is a zombie: all its descendants come to us in the end."""
    others = [pid for pid in process.children(os.getpid()) if pid != script]
    return [pid for pid in others if os.waitpid(pid, os.WNOHANG)[0] == 0]
