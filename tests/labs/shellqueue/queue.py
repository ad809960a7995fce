"""A queue of one machine with three commands, for the example of docs/how-to/adding-a-scheduler.md.

::

    qput --name=NAME [--after=JOB]... SCRIPT    job 7
    qls                                         7 R NAME          (W waits, R runs, E has ended)
    qrm JOB...

``python queue.py COMMAND ...`` in the folder ``$SHELLQUEUE``: a folder per job. A job waits for those that it
comes after, and ends without a start if one of them failed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ["SHELLQUEUE"])


def put(arguments: list[str]) -> None:
    *options, script = arguments
    name = next(word.partition("=")[2] for word in options if word.startswith("--name="))
    after = [word.partition("=")[2] for word in options if word.startswith("--after=")]
    for number in itertools.count(1):
        with contextlib.suppress(FileExistsError):
            (ROOT / str(number)).mkdir()
            break
    (ROOT / str(number) / "name").write_text(name)
    null = subprocess.DEVNULL
    argv = [sys.executable, __file__, "run", str(number), script, *after]
    child = subprocess.Popen(argv, stdin=null, stdout=null, stderr=null, start_new_session=True)
    (ROOT / str(number) / "pid").write_text(str(child.pid))
    print(f"job {number}")


def run(arguments: list[str]) -> None:
    number, script, *after = arguments
    while not all((ROOT / job / "exit").exists() for job in after):
        time.sleep(0.05)
    code = 1
    if all((ROOT / job / "exit").read_text() == "0" for job in after):
        (ROOT / number / "started").touch()
        with (ROOT / number / "log").open("w") as log:
            variables = {**os.environ, "SHELLQUEUE_JOB": number}
            code = subprocess.call(["bash", script], env=variables, stdout=log, stderr=log)
    (ROOT / number / ".exit").write_text(str(code))
    (ROOT / number / ".exit").rename(ROOT / number / "exit")


def ls(_words: list[str]) -> None:
    for job in sorted(ROOT.iterdir(), key=lambda path: int(path.name)):
        state = "E" if (job / "exit").exists() else "R" if (job / "started").exists() else "W"
        if (job / "name").exists():
            print(job.name, state, (job / "name").read_text())


def rm(arguments: list[str]) -> None:
    for number in arguments:
        if not (ROOT / number / "exit").exists():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int((ROOT / number / "pid").read_text()), signal.SIGKILL)
            (ROOT / number / "exit").write_text("143")


if __name__ == "__main__":
    {"put": put, "run": run, "ls": ls, "rm": rm}[sys.argv[1]](sys.argv[2:])
