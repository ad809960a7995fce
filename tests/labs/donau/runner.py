"""Runs one job: a process per replica, its time limit, its end. ``python runner.py FOLDER JOB``."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.labs.donau.state import CANCELLED, Job, hosts_of, locked

GRACE_S = 2.0  # between TERM and KILL of a cancellation


def main(folder: Path, number: str) -> None:
    """Runs the job to its end, and once more as often as it is requeued."""
    cancelled: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: cancelled.append(time.monotonic()))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # whoever started us has held it back
    with locked(folder) as state:
        job, data = dict(state.jobs[number]), dict(state.data)
    count = 1 if job["cosched"] else job["replicas"] - data["missing"]
    children = [start(folder, job, data, n) for n in range(count)]
    codes = wait(children, job["time"] or 10**9, data["last_signal"], cancelled)
    code = max((128 - c if c < 0 else c for c in codes), default=0)
    with locked(folder) as state:
        ended = state.jobs[number]
        if ended["cancelled"]:
            ended["state"], ended["exit"] = "FAILED", CANCELLED
        elif requeued(ended, code):
            ended["state"] = "PENDING"
        else:
            ended["state"], ended["exit"] = ("FAILED" if code else "SUCCEEDED"), code
        state.start()


def requeued(job: Job, code: int) -> bool:
    """Tell whether ``-jr 'N(exitCode=A-B)'`` asks for another start."""
    match = re.fullmatch(r"(\d+)\(exitCode=(\d+)-(\d+)\)", job["requeue"])
    if match is None:
        return False
    times, low, high = map(int, match.groups())
    return low <= code <= high and job["starts"] <= times


def start(folder: Path, job: Job, data: dict[str, Any], replica: int) -> subprocess.Popen[bytes]:
    """One replica, in a session of its own."""
    hosts = hosts_of(job, data)
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("DDQJOBS_", "DONAULAB_JOB"))}
    variables.update(BATCH_JOB_ID=job["id"], CCS_JOB_ID=job["id"], HOSTNAME=hosts[replica % len(hosts)])
    if job["cosched"]:
        allocation = folder / f"alloc.{job['id']}"
        listed = data["stale"] or hosts
        chosen = [listed[n % len(listed)] for n in range(job["replicas"])]
        allocation.write_text("".join(f"{host} 48 1\n" for host in chosen))
        variables[data["allocation"]] = str(allocation)
    out = output(job["stdout"] or os.devnull, job)
    err = output(job["stderr"], job) if job["stderr"] else out
    try:
        with Path(out).open("ab") as o, Path(err).open("ab") as e:
            return subprocess.Popen(
                [job["script"]], stdin=subprocess.DEVNULL, stdout=o, stderr=e, env=variables,
                cwd=job["cwd"], start_new_session=True,
            )  # fmt: skip
    except PermissionError:
        return subprocess.Popen(["sh", "-c", "exit 126"])
    except OSError:
        return subprocess.Popen(["sh", "-c", "exit 127"])


def output(path: str, job: Job) -> str:
    """A path with %J and %I filled in."""
    return path.replace("%J", job["id"]).replace("%I", "0")


def wait(
    children: list[subprocess.Popen[bytes]], limit_s: float, last_signal: str, cancelled: list[float]
) -> list[int]:
    """Exit codes of all replicas. TERM to this process fills the list: TERM, then KILL to all."""
    end = time.monotonic() + limit_s
    signal_sent = False
    while any(child.poll() is None for child in children):
        now = time.monotonic()
        if cancelled and not signal_sent:
            signal_sent = True
            send(children, signal.SIGCONT)
            send(children, signal.SIGTERM)
        if cancelled and now > cancelled[0] + GRACE_S:
            send(children, signal.SIGKILL)
        if now > end:
            if last_signal == "TERM" and now < end + GRACE_S:
                send(children, signal.SIGTERM)
            else:
                send(children, signal.SIGKILL)
        time.sleep(0.03)
    return [child.returncode for child in children]


def send(children: list[subprocess.Popen[bytes]], number: int) -> None:
    """Signals every process of the replicas' sessions."""
    for child in children:
        for pid in session(child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def session(leader: int) -> list[int]:
    """Processes of a session."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader:
                pids.append(int(entry.name))
    return pids


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
