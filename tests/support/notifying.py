"""Record an event and send it, killed with SIGKILL before each line of doing so, then once more to the end.

    python -m tests.support.notifying FOLDER ADDRESS EVERY

FOLDER/N is the outbox of the N-th try, EVERY lines after the one before. Prints how many there were.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from ddqjobs.notify.outbox import Event, Outbox
from ddqjobs.notify.sender import deliver
from ddqjobs.spec.notify import Channel, Secret

LINES_OF = ("notify/outbox.py", "notify/sender.py", "detect/files.py", "base/files.py")
CHANNEL = Channel(by="webhook", url=Secret(variable="ADDRESS"))


def work(folder: Path) -> None:
    """Record what is to be told unless it is, and send what was not sent."""
    outbox = Outbox(folder)
    head = outbox.heads().get("end")
    event = Event(kind="end", title=folder.name, facts={"state": "1"})
    if head is None:
        outbox.add(event, None, ["hook"])
    deliver(outbox, "hook", CHANNEL)


def forked(folder: Path, kill_at: int) -> bool:
    """Work in a process that is killed before a line; return whether it was."""
    pid = os.fork()
    if not pid:
        if kill_at:
            sys.settrace(killer(kill_at))
        work(folder)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def killer(countdown: int) -> Any:
    """Return a trace function that kills this process before the given line of ours."""

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal countdown
        if not frame.f_code.co_filename.endswith(LINES_OF):
            return None
        if event == "line":
            countdown -= 1
            if not countdown:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def main(folder: str, address: str, every: str) -> None:
    """Kill before each line in turn, or before every so many-th."""
    os.environ["ADDRESS"] = address
    tries = 0
    while True:
        tries += 1
        place = Path(folder) / str(tries)
        killed = forked(place, 1 + (tries - 1) * int(every))
        forked(place, 0)
        if not killed:
            break
    sys.stdout.write(f"{tries}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
