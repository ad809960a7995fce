"""The supervisor: one process that gives slots to jobs, in order, and starts them.

It remembers nothing that is not on disk: killed at any moment, the next one goes on. Order: first come,
first served, a requeued job keeps its place. A job that fits may overtake one that waits for slots, but
only for ``patience_s``; then nothing is started until that one has its slots.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ddqjobs.base import process
from ddqjobs.base.frozen import Owner
from ddqjobs.schedulers.base import Element
from ddqjobs.schedulers.local.disk import Watched, acquire
from ddqjobs.schedulers.local.queue import History, Queue, TornError
from ddqjobs.schedulers.local.records import Claim, End, Filed, Reason, Settings, Slots, job_id, start_id
from ddqjobs.schedulers.local.slots import Free
from ddqjobs.schedulers.local.starts import Start, kill_orphans, sweep_folders

_POLL_S = 0.1
_MOST_TRIES = 3  # launchers that end without having claimed their start


@dataclass
class Job:
    """A job that is not over."""

    id: str
    filed: Filed
    element: Element
    waits_since: float | None = None  # for slots, the rest being ready


@dataclass
class Running:
    """A start that has slots, whether or not its launcher has begun."""

    job: str
    restart: int
    slots: Slots
    owner: Owner | None = None  # the launcher, once it has claimed the start
    start: Start | None = None  # None: of a supervisor before us
    tries: int = 0

    @property
    def id(self) -> str:
        """Name of the start."""
        return start_id(self.job, self.restart)


class Supervisor:
    """The jobs that are queued and running, and one :meth:`step` after the other."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._history = History(queue, complain)
        self._submissions = Watched(queue.submissions)
        self._cancels = Watched(queue.cancel)
        self._holds = Watched(queue.hold)
        self._known: set[str] = set()
        self._open: dict[str, Job] = {}
        self._running: dict[str, Running] = {}  # by job
        self._leaving: list[Start] = []  # recorded as ended, process not yet reaped
        self._settings = Settings(host="", cpus=1)
        self._settings_at = (0, 0)
        self._cancelled: set[str] = set()
        self._held: set[str] = set()
        self._adopted = False
        self._ended = True  # jobs ended whose environments are not forgotten yet
        self._changed = False  # something happened that may end or start a queued job

    @property
    def linger_s(self) -> float:
        """Return how long to stay without work."""
        return self._settings.linger_s

    def step(self) -> bool:
        """Looks once at everything and acts; False if there is no work."""
        # Who is dead must be asked before the ends are read: an end recorded in between counts.
        dead = [r for r in self._running.values() if r.owner is not None and not _alive(r.owner)]
        self._take_ends()
        self._take_in()
        self._take_settings()
        self._take_cancels()
        self._take_holds()
        if not self._adopted:
            self._adopt()
        self._bury([r for r in dead if self._running.get(r.job) is r])
        if self._changed:
            while self._changed:  # what ends may end others, and a launcher may record an end meanwhile
                self._changed = False
                self._settle()
            self._schedule()
        self._follow()
        self._forget_environments()
        self._leaving = [start for start in self._leaving if not _gone(start)]
        return bool(self._open or self._leaving)

    def has_mail(self) -> bool:
        """Return whether something was submitted that no step has seen; only looks."""
        return not self._submissions.fresh() <= self._known

    # --- what changed

    def _take_in(self) -> None:
        fresh = self._submissions.names() - self._known
        for name in fresh:
            self._known.add(name)
            try:
                filed = self._queue.load(name.removesuffix(".json"))
            except TornError as error:
                complain(f"skipped: {error}")
                continue
            for element in filed.submission.elements if filed else ():
                job = job_id(filed.submission.token, element.index) if filed else ""
                if filed and job not in self._history.ends:
                    self._open[job] = Job(job, filed, element)
        if fresh:
            # Two submitters may publish in another order than they read the clock in.
            in_order = sorted(self._open.values(), key=lambda j: (j.filed.at, j.filed.submission.token))
            self._open = {job.id: job for job in in_order}
        self._changed |= bool(fresh)

    def _take_ends(self) -> None:
        ends = self._history.refresh()
        for end in ends:
            final = end.reason is not Reason.REQUEUE
            running = self._running.get(end.job)
            if running is not None and running.restart == end.restart:
                del self._running[end.job]
                if running.start is not None:
                    self._leaving.append(running.start)
            if final:
                self._open.pop(end.job, None)
                self._cancelled.discard(end.job)
            if self._adopted:
                self._queue.forget(start_id(end.job, end.restart), end.job, final=final)
        self._changed |= bool(ends)
        self._ended |= bool(ends)

    def _forget_environments(self) -> None:
        """Remove what the submitters' shells held as soon as no job needs it."""
        if self._ended:
            self._ended = False
            needed = {job.filed.environment for job in self._open.values()}
            self._queue.forget_environments({name.removesuffix(".json") for name in self._known} - needed)

    def _take_settings(self) -> None:
        try:
            status = self._queue.settings_path.stat()
        except FileNotFoundError:  # removed by hand; the next submission writes it again
            return
        if (status.st_ino, status.st_mtime_ns) == self._settings_at:
            return
        self._settings = self._queue.settings() or self._settings
        self._settings_at = (status.st_ino, status.st_mtime_ns)
        self._changed = True

    def _take_cancels(self) -> None:
        names = self._cancels.names() & self._open.keys()
        fresh = names - self._cancelled
        self._cancelled |= fresh
        self._changed |= bool(fresh)

    def _take_holds(self) -> None:
        held = self._holds.names() & self._open.keys()
        self._changed |= bool(self._held - held)  # a released one may start
        self._held = held
        for job in held:
            self._open[job].waits_since = None  # it does not wait for slots

    def _adopt(self) -> None:
        """Takes over what a supervisor before us had given slots to, with these very slots: the launcher
        that it started may still come, and whichever of the two comes first runs on the same GPUs."""
        for job in self._open.values():
            restart = self._history.restart(job.id)
            slots = self._queue.slots(start_id(job.id, restart))
            if slots is not None:
                self._running[job.id] = Running(job.id, restart, slots)
        starts = {r.id for r in self._running.values()}
        self._queue.sweep(starts, set(self._open))
        sweep_folders(self._queue.launch, starts)
        self._adopted = True

    # --- what ends without a launcher

    def _bury(self, dead: list[Running]) -> None:
        for running in dead:
            kill_orphans(running.job, running.restart, self._queue.script(running.id))
            self._queue.record([End(job=running.job, restart=running.restart, reason=Reason.DIED)])
        self._take_ends()

    def _settle(self) -> None:
        """Ends queued jobs that are cancelled or can never start."""
        fresh: dict[str, End] = {}
        for job in self._open.values():
            if job.id not in self._running:
                end = self._hopeless(job, fresh)
                if end is not None:
                    fresh[job.id] = end
        self._queue.record(fresh.values())
        self._take_ends()

    def _hopeless(self, job: Job, fresh: dict[str, End]) -> End | None:
        def ended(reason: Reason, note: str = "") -> End:
            return End(job=job.id, restart=self._history.restart(job.id), reason=reason, note=note)

        if job.id in self._cancelled:
            return ended(Reason.CANCELLED)
        asked, there = job.filed.submission.resources.gpus, len(self._settings.gpus)
        if asked > there:  # taken out since the submission
            return ended(Reason.NOT_STARTED, f"{asked} GPUs asked for, {there} there")
        for before in job.element.after:
            end = fresh.get(before) or self._history.ends.get(before)
            if end is not None and not end.well:
                return ended(
                    Reason.DEPENDENCY,
                    f"{self._queue.run_of(before)}, which it needs, ended with {end.detail}",
                )
        return None

    # --- starting

    def _schedule(self) -> None:
        free = Free(self._settings, (r.slots for r in self._running.values()))
        now = time.monotonic()
        for job in self._open.values():
            if job.id in self._running or job.id in self._held or not self._ready(job):
                continue
            slots = free.take(job.filed.submission.resources)
            if slots is not None:
                self._start(job, slots)
                continue
            job.waits_since = job.waits_since or now
            if free.cpus <= 0 or now - job.waits_since > self._settings.patience_s:
                return

    def _ready(self, job: Job) -> bool:
        ends = (self._history.ends.get(before) for before in job.element.after)
        return all(end is not None and end.well for end in ends)

    def _start(self, job: Job, slots: Slots) -> None:
        running = Running(job.id, self._history.restart(job.id), slots)
        self._queue.assign(running.id, slots)
        job.waits_since = None
        self._running[job.id] = running  # from here on _follow starts it, and again if it must

    def _follow(self) -> None:
        """Looks after starts whose launcher has not begun yet."""
        for running in [r for r in self._running.values() if r.owner is None]:
            over = running.start is None or running.start.over()
            claim = self._queue.claim(running.id)  # after `over`: it may have claimed and ended since
            if claim is not None and claim.owner is not None:
                running.owner = claim.owner
            elif claim is not None and claim.void is not None:
                self._queue.record([claim.void])
                self._take_ends()
            elif over and running.tries < _MOST_TRIES:
                time_s = self._open[running.job].filed.submission.resources.time_s
                running.start = Start(self._queue.root, running.job, running.restart, time_s)
                running.tries += 1
            elif over:
                self._give_up(running)

    def _give_up(self, running: Running) -> None:
        message = running.start.last_words() if running.start else ""
        note = f"{_MOST_TRIES} launchers ended before they began; the last one said: {message or 'nothing'}"
        end = End(job=running.job, restart=running.restart, reason=Reason.NOT_STARTED, note=note)
        self._queue.take(running.id, Claim(void=end))  # the next look finds it, or a faster launcher


def complain(message: str) -> None:
    """Says in the supervisor's log what was found wrong."""
    try:
        sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {message}\n")
        sys.stderr.flush()
    except OSError:
        pass  # the disk is full; the next complaint will come


def supervise(queue: Queue, lock: int) -> None:
    """Works until there is nothing left to do. ``lock``: descriptor of the queue's lock, held by us."""
    queue.create()
    queue.set_supervisor(process.myself())
    supervisor = Supervisor(queue)
    idle_since = time.monotonic()
    complaint = ""
    while queue.exists:
        try:
            busy = supervisor.step()
        except Exception as error:  # a full disk, a bug met by one job: the others must go on
            busy = True
            if str(error) != complaint:
                complaint = str(error)
                complain(traceback.format_exc())
            time.sleep(1)
        if busy:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > supervisor.linger_s:
            # Whoever submits looks at the lock after publishing. If he found it held, we see what he
            # published when we look once more; if not, he starts a supervisor himself.
            fcntl.flock(lock, fcntl.LOCK_UN)
            if not supervisor.has_mail() or not acquire(lock):
                return
        time.sleep(_POLL_S)


def _alive(owner: Owner) -> bool:
    """On this machine, also if its name has changed: boot id, pid and start time tell."""
    return process.alive(msgspec.structs.replace(owner, host=socket.gethostname()))


def _gone(start: Start) -> bool:
    if not start.over():
        return False
    start.clean()
    return True


def main(arguments: list[str]) -> int:
    """``STATE_DIR [LOCK]``: LOCK is the descriptor of the held lock; whoever starts us hands it over, so
    that there is no moment without an owner and never a second supervisor."""
    queue = Queue(Path(arguments[0]))
    if len(arguments) > 1:
        lock = int(arguments[1])
        os.set_inheritable(lock, False)
    else:
        lock = os.open(queue.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if acquire(lock):
        supervise(queue, lock)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
