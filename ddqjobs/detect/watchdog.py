"""Ends a task that does not get on: no new line in its log and no progress for a declared time.

    python -m ddqjobs.detect.watchdog --task PID --spare PID --limit SECONDS

Started by the launch script beside the task. A task that hangs (a collective that waits for a dead process,
a file server that does not answer) would else keep its GPUs until its time limit. What counts is that
something is written: the attempt's ``stdout.log`` and the files in its work_dir, where a training leaves
its progress after every iteration. It writes ``hang.json`` into the attempt's folder, by which the launch
script knows the class of the failure, and ends every process of the attempt on this node, workers in
sessions of their own included: first with TERM, after ten seconds with KILL. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Iterator, Sequence

from . import files

NOTE = "hang.json"
_DEPTH = 3  # of a detector's logs below the work_dir
_PATIENCE_S = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Watch until the task ends (0) or had to be ended (1)."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.watchdog", description=__doc__.split("\n")[0])
    parser.add_argument("--task", type=int, required=True, help="pid of the task")
    parser.add_argument(
        "--spare", type=int, nargs="*", default=[], help="pids of the attempt that are no part of it"
    )
    parser.add_argument("--limit", type=float, required=True, help="seconds without a sign of life")
    args = parser.parse_args(argv)
    attempt_dir = Path(os.environ["DDQJOBS_ATTEMPT_DIR"])
    if not stands_still(attempt_dir, args.task, args.limit):
        return 0
    note = f"no new log line and no progress for {args.limit:g} s"
    files.replace_json(attempt_dir / NOTE, {"note": note, "limit": args.limit})
    print(f"watchdog: {note}: the task is ended", file=sys.stderr, flush=True)
    end(attempt_dir, {os.getpid(), os.getppid(), *args.spare})
    return 1


def stands_still(attempt_dir: Path, task: int, limit: float) -> bool:
    """Wait until nothing was written for ``limit`` seconds (True) or the task is gone (False).

    Time in which this process was stopped itself, as with a suspended job, does not count; nor do the
    clocks of file servers.
    """
    pause = min(max(limit / 20, 0.1), 15.0)
    last, idle, before = signs(attempt_dir), 0.0, time.monotonic()
    while Path(f"/proc/{task}").exists():
        time.sleep(pause)
        now = time.monotonic()
        idle, before = idle + min(now - before, 2 * pause), now
        seen = signs(attempt_dir)
        if seen != last:
            last, idle = seen, 0.0
        elif idle >= limit:
            return Path(f"/proc/{task}").exists()
    return False


def signs(attempt_dir: Path) -> tuple[int, int, int]:
    """Newest change, number and size of the files that a task writes."""
    newest = count = size = 0
    for path in [attempt_dir / "stdout.log", *_files(attempt_dir / "work_dir", _DEPTH)]:
        try:
            status = path.stat()
        except OSError:
            continue
        newest, count, size = max(newest, status.st_mtime_ns), count + 1, size + status.st_size
    return newest, count, size


def end(attempt_dir: Path, spare: set[int]) -> None:
    """End the processes of the attempt on this node. Whoever does not go is reported, not waited for."""
    for number, patience in ((signal.SIGTERM, _PATIENCE_S), (signal.SIGKILL, _PATIENCE_S)):
        until = time.monotonic() + patience
        victims = processes(attempt_dir) - spare
        for pid in victims:
            try:
                os.kill(pid, number)
            except OSError:
                pass
        while victims and time.monotonic() < until:
            time.sleep(0.1)
            victims = processes(attempt_dir) - spare
    left = processes(attempt_dir) - spare
    if left:
        print(f"watchdog: {sorted(left)} cannot be ended", file=sys.stderr, flush=True)


def processes(attempt_dir: Path) -> set[int]:
    """Processes that were started with this attempt's environment, and are no zombies."""
    mark = b"DDQJOBS_ATTEMPT_DIR=" + os.fsencode(str(attempt_dir))
    pids = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # gone, or another user's
            if mark in variables:
                pids.add(int(entry.name))
    return pids


def _files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = list(os.scandir(str(folder)))
    except OSError:
        return
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        elif depth and entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), depth - 1)


if __name__ == "__main__":
    sys.exit(main())
