"""A temporary project of trivial shell runs, and two ways to call ``ddqjobs`` in it: here, and as a user."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from ddqjobs.cli.commands import app
from tests.support.trivial import EXPERIMENT, TrivialProject

LIMIT_S = 90.0

# Two models, a task that comes first, one that needs it, one that nobody needs. `wait` ends when a file
# `go` lies in the project, so that a test decides when a run is over.
TINY = r"""
name: tiny
title: trivial runs
implementations: {only: the only one}
codes:
  shell: {title: bash, path: .}
models:
  m1: {implementations: {only: {code: shell}}}
  m2: {implementations: {only: {code: shell}}}
phases:
  "1": {title: one}
tasks:
  first:
    kind: prepare
    once: true
    code: shell
    hours: 0.5
    command: [bash, -c, 'echo hello from first; echo data > "$DDQJOBS_WORK_DIR/out.txt"']
    products: {out: out.txt}
  second:
    kind: prepare
    phase: "1"
    implementation: only
    inputs: {source: first.out}
    command: [bash, -c, 'cp "$1" "$DDQJOBS_WORK_DIR/out.txt"', bash, "{input.source}"]
    products: {out: out.txt}
  broken:
    kind: prepare
    implementation: only
    models: [m1]
    optional: true
    command: [bash, -c, 'echo this went wrong; exit 3']
    products: {out: out.txt}
  wait:
    kind: prepare
    once: true
    code: shell
    optional: true
    command:
      - bash
      - -c
      - |
        echo waiting
        until [ -e go ] || [ -e "$DDQJOBS_STOP" ]; do sleep 0.05; done
        echo ready
        [ -e go ] && echo x > "$DDQJOBS_WORK_DIR/out.txt"
    products: {out: out.txt}
"""


@dataclass(frozen=True)
class Ran:
    """The result of a call."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one document on stdout."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


class Place(TrivialProject):
    """A project folder with the experiment ``tiny``."""

    def __init__(self, root: Path, experiment: str = TINY) -> None:
        super().__init__(root)
        (root / "experiments" / f"{EXPERIMENT}.yaml").unlink()
        self.text("experiments/tiny.yaml", experiment)

    def text(self, relative: str, text: str) -> Path:
        """A file of the project."""
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def invoke(self, *arguments: str) -> Ran:
        """The command line in this process: what it prints, and its exit code. A traceback fails the test."""
        result = CliRunner().invoke(app, [*arguments, "-C", str(self.root)], catch_exceptions=False)
        return Ran(result.exit_code, result.stdout, result.stderr)

    def spawn(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """The same as a process of its own, in the project's folder."""
        options = {
            "env": environment(),
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **options,
        }
        return subprocess.Popen(ddqjobs(*arguments), cwd=self.root, text=True, **options)

    def call(self, *arguments: str, **options: Any) -> Ran:
        """Like :meth:`spawn`, to its end."""
        return finish(self.spawn(*arguments, **options))

    def states(self) -> dict[str, str]:
        """Run -> status."""
        return {r["run"]: r["status"] for r in self.invoke("plan", "tiny", "--json").json["runs"]}

    def attempts(self, run: str) -> int:
        """Return how often a run was started."""
        folder = self.root / "results" / "tiny" / "runs" / run / "attempts"
        return len(list(folder.iterdir())) if folder.is_dir() else 0

    def log(self, run: str, attempt: int = 1) -> Path:
        """Log of an attempt."""
        return self.root / "results" / "tiny" / "runs" / run / "attempts" / str(attempt) / "stdout.log"


def ddqjobs(*arguments: str) -> list[str]:
    """argv of the command line."""
    return [sys.executable, "-m", "ddqjobs", *arguments]


def environment(**more: str) -> dict[str, str]:
    """Variables of a user's shell that has nothing to do with this test."""
    foreign = ("DDQJOBS_", "PYTEST_", "_TYPER", "COLUMNS", "LINES")  # the size is the terminal's own
    return {**{k: v for k, v in os.environ.items() if not k.startswith(foreign)}, "TERM": "xterm", **more}


def finish(process: subprocess.Popen[str]) -> Ran:
    """Waits for a process."""
    out, err = process.communicate(timeout=LIMIT_S)
    return Ran(process.returncode, out or "", err or "")


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C."""
    process.send_signal(signal.SIGINT)


@contextlib.contextmanager
def opened(root: Path, experiment: str = TINY) -> Iterator[Place]:
    """A place that leaves no process behind."""
    place = Place(root, experiment)
    try:
        yield place
    finally:
        place.close()


class Terminal:
    """A pseudo-terminal of a given size, the command in it, and its keyboard."""

    def __init__(
        self, place: Place, *arguments: str, columns: int = 70, rows: int = 20, **variables: str
    ) -> None:
        self.output = b""
        self._end, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = place.spawn(
            *arguments,
            env=environment(**variables),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(inside)

    def read_until(self, text: str, times: int = 1) -> str:
        """Waits until a text was shown so often; all that was shown until then."""
        end = time.monotonic() + LIMIT_S
        while self.output.count(text.encode()) < times:
            assert time.monotonic() < end, self.output
            assert self._more(), self.output
        return self.output.decode(errors="replace")

    def type(self, text: str) -> None:
        """Keys."""
        os.write(self._end, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Changes its size; the kernel tells the command."""
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def insist_on_ctrl_c(self) -> None:
        """Ctrl-C until it is heard: Python misses one that comes just before it blocks in a read."""
        while self.process.poll() is None:
            interrupt(self.process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)

    def close(self) -> tuple[int, str]:
        """(exit code, all that was shown) once the command has ended."""
        end = time.monotonic() + LIMIT_S
        while self._more():
            assert time.monotonic() < end, self.output[-1000:]
        os.close(self._end)
        return self.process.wait(LIMIT_S), self.output.decode()

    def _more(self) -> bool:
        screen = select.poll()
        screen.register(self._end, select.POLLIN)
        assert screen.poll(LIMIT_S * 1000), self.output
        with contextlib.suppress(OSError):  # the other end is closed
            data = os.read(self._end, 65536)
            self.output += data
            return bool(data)
        return False
