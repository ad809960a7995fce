"""The only door to :mod:`subprocess`: argv in, :class:`Completed` out, always with a time limit.

A command is a list of words, never a shell string. What it does (fails, prints bytes that are no text,
does not end, does not exist) comes back as data; only our own mistakes raise.

Also here, because it needs ``/proc``: who a process is. A pid alone does not tell; a pid with its start
time, boot and host does (:class:`~ddqjobs.base.frozen.Owner`).
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddqjobs.base.frozen import Owner

Argument = str | os.PathLike[str]
Environment = Mapping[str, str] | Mapping[bytes, bytes]
Child = subprocess.Popen[bytes]

_DYING_S = 0.01  # between two looks at what was killed
NOT_STARTED = 127  # as a shell says when a command cannot be started

# Forks once more and becomes the daemon. A tiny interpreter of its own does it, because forking this one
# is unsafe as soon as it has threads.
_DETACH = """
import os, sys
pid = os.fork()
if pid:
    os.write(1, b"%d" % pid)
    os._exit(0)
os.dup2(2, 1)
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Completed:
    """The end of a command."""

    argv: tuple[str, ...]
    code: int  # negative: ended by that signal; NOT_STARTED: see stderr
    stdout: str
    stderr: str
    timed_out: bool = False


def run(
    argv: Sequence[Argument],
    *,
    timeout: float,
    stdin: str | None = None,
    env: Environment | None = None,
    cwd: Argument | None = None,
    log: Path | None = None,
) -> Completed:
    """Runs a command to its end, or to the end of its time, when its whole session is killed.

    Without ``stdin`` it reads an end of file. Output is decoded as UTF-8, what cannot be is replaced. With
    ``log`` both outputs are appended to that file as they come, and ``stdout`` is what was appended. Raises
    OSError if the log cannot be opened.
    """
    command = _words(argv)
    if log is not None:
        return _run_logged(command, timeout, log, env=env, cwd=cwd)
    # Memory files, not pipes: a child that stays behind and keeps a pipe open must not hold us up.
    with _memory() as out, _memory() as err, _memory((stdin or "").encode()) as source:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if stdin is None else source,
                stdout=out,
                stderr=err,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            return Completed(command, NOT_STARTED, "", f"cannot start {command[0]}: {error}")
        timed_out = _wait(child, timeout)
        return Completed(command, child.returncode, _text(out), _text(err), timed_out)


def _run_logged(command: tuple[str, ...], timeout: float, log: Path, **where: Any) -> Completed:
    with log.open("a+b") as file:
        begin = file.seek(0, os.SEEK_END)
        try:
            child = start(command, output=file.fileno(), **where)
        except OSError as error:
            return Completed(command, NOT_STARTED, "", f"cannot start {command[0]}: {error}\n")
        timed_out = _wait(child, timeout)
        size = file.seek(0, os.SEEK_END) - begin
        return Completed(command, child.returncode, _text(file.fileno(), begin, size), "", timed_out)


def attach(argv: Sequence[Argument], *, env: Environment | None = None) -> int:
    """Runs a command on our own terminal, or whatever our input and output are, to its end; its exit code, or
    128 + its signal. A Ctrl-C is the command's: it gets it from the terminal. Raises OSError."""
    # A handler, not SIG_IGN: what is ignored would stay ignored in the command.
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        code = subprocess.call(_words(argv), env=env)
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def start(argv: Sequence[Argument], *, output: int, env: Environment | None, cwd: Argument | None) -> Child:
    """Starts a command in a session of its own, both outputs to a descriptor, and does not wait.

    For whoever watches over what it started. Raises OSError.
    """
    return subprocess.Popen(
        _words(argv),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )


def spawn_detached(
    argv: Sequence[Argument],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Argument = "/",
    keep: Sequence[int] = (),
) -> int:
    """Starts a daemon and returns its pid: a session of its own, no terminal, nobody's child.

    It outlives us and our terminal. It inherits no descriptor but those in ``keep``; what it prints is
    appended to ``log``. Raises OSError if it cannot be started.
    """
    command = _words(argv)
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(f"{command[0]}: no such program")
    with log.open("ab") as sink:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _DETACH, program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            env=env,
            cwd=cwd,
            pass_fds=keep,
            start_new_session=True,
        )
        answer, _ = child.communicate()
    if child.returncode or not answer:
        raise ChildProcessError(f"{command[0]} could not be started: see {log}")
    return int(answer)


def identify(pid: int) -> Owner:
    """Return who the process with this pid is now. Raise ProcessLookupError if there is none."""
    try:
        start_time, _ = _stat(pid)
    except (OSError, IndexError, ValueError) as error:
        raise ProcessLookupError(f"no process {pid}") from error
    return Owner(host=socket.gethostname(), pid=pid, start=start_time, boot=boot_id())


_ME: dict[int, Owner] = {}  # by pid: a forked process is somebody else


def myself() -> Owner:
    """Return who this process is."""
    pid = os.getpid()
    if pid not in _ME:
        _ME[pid] = identify(pid)
    return _ME[pid]


def user() -> str:
    """Return the user's name; the number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def alive(owner: Owner) -> bool:
    """Return whether that very process still runs. A zombie does not.

    One on another host counts as alive: from here nobody can say otherwise.
    """
    if owner.host != socket.gethostname():
        return True
    if owner.boot != boot_id():
        return False
    try:
        start_time, state = _stat(owner.pid)
    except (OSError, IndexError, ValueError):
        return _of_another_user(owner.pid)
    return start_time == owner.start and state not in "ZX"


def _of_another_user(pid: int) -> bool:
    """Return whether there is such a process that /proc hides from us (mount option hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


@functools.cache
def boot_id() -> str:
    """Changes with every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def children(pid: int) -> list[int]:
    """Pids whose parent is ``pid``, zombies included."""
    pids = []
    for entry in _processes():
        with contextlib.suppress(OSError, IndexError, ValueError):
            if int(_fields(entry)[1]) == pid:
                pids.append(entry)
    return pids


def with_environment(wanted: Mapping[str, str]) -> list[int]:
    """Pids of our processes that were started with all these variables: finds those of a job whose
    launcher is gone, wherever they went."""
    marks = {os.fsencode(f"{name}={value}") for name, value in wanted.items()}
    pids = []
    for pid in _processes():
        with contextlib.suppress(OSError):
            if marks <= set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")):
                pids.append(pid)
    return pids


def with_last_argument(word: str) -> list[int]:
    """Pids of processes whose last argument is that word."""
    end = b"\0" + os.fsencode(word) + b"\0"
    pids = []
    for pid in _processes():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(end):
                pids.append(pid)
    return pids


def signal_group(pid: int, number: int) -> None:
    """Signals a process group; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _words(argv: Sequence[Argument]) -> tuple[str, ...]:
    return tuple(os.fspath(word) for word in argv)


def _wait(child: subprocess.Popen[bytes], timeout: float) -> bool:
    """Waits for the end; True if the time was over first. The session is dead whenever this is left early."""
    try:
        child.wait(0 if _told_of_the_end(child.pid, timeout) else timeout)
    except subprocess.TimeoutExpired:
        return True
    else:
        return False
    finally:
        if child.returncode is None:  # time-out, Ctrl-C
            _kill_session(child.pid)
            child.wait()


def _kill_session(leader: int) -> None:
    """Kill a child and all that it started in its session. Its group is not enough: ninja gives each compiler
    a group of its own."""
    signal_group(leader, signal.SIGKILL)
    while others := [pid for pid in _processes() if pid != leader and _runs_in(leader, pid)]:
        for pid in others:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_DYING_S)


def _runs_in(session: int, pid: int) -> bool:
    """Return whether a process runs in a session. A zombie does not run."""
    try:
        fields = _fields(pid)
        return int(fields[3]) == session and fields[0] not in "ZX"
    except (OSError, IndexError, ValueError):
        return False


def _told_of_the_end(pid: int, timeout: float) -> bool:
    """Waits for the end of a child or of the time, whichever comes first, without looking again and again
    (``Popen.wait`` looks every 50 ms); False where the kernel cannot tell (before Linux 5.3)."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(min(max(0, math.ceil(timeout * 1000)), 2**31 - 1))  # a negative one would be for ever
    finally:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def _memory(content: bytes = b"") -> Iterator[int]:
    descriptor = os.memfd_create("ddqjobs")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _text(descriptor: int, begin: int = 0, size: int | None = None) -> str:
    size = os.fstat(descriptor).st_size if size is None else size
    return os.pread(descriptor, size, begin).decode(errors="replace")


def _processes() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def _fields(pid: int) -> list[str]:
    """Fields 3 and later of /proc/PID/stat; field 2, the name, may hold anything, even ``)``."""
    line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return line.rpartition(")")[2].split()


def _stat(pid: int) -> tuple[int, str]:
    fields = _fields(pid)
    return int(fields[19]), fields[0]
