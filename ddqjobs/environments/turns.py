"""Turns to build an environment, and the folder of each build: builds of one environment one after the
other, a build that was killed is gone on with, and what nobody needs is removed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ddqjobs.base import process
from ddqjobs.base.files import replace
from ddqjobs.base.frozen import Owner
from ddqjobs.environments.environment import BUILT, READY, Environment, identity, links
from ddqjobs.environments.tools import MARK, Progress

ABANDONED = 24 * 3600.0  # a build of another host that was not touched for so long is nobody's
_OWNER = ".owner"  # in a build's folder: the process that builds
_TO_START_S = 0.3  # from fork to exec, on a busy machine


@contextlib.contextmanager
def turn(base_dir: Path, name: str, progress: Progress) -> Iterator[bool]:
    """Holds the environment's lock; says for whom it waits. True if it is surely ours alone.

    The kernel drops the lock with its holder, however that ends. Where a file system has no locks there is
    no waiting, and none is needed for safety: two builds never share a folder, the last one linked wins.
    """
    path = base_dir / ".locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        said = False
        while (held := _try_lock(file.fileno())) is False:
            if not said:
                file.seek(0)
                progress(f"{name}: waiting for the build of pid {file.read().strip() or '?'}")
                said = True
            time.sleep(0.2)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield held is True


def _try_lock(descriptor: int) -> bool | None:
    """True: held; False: somebody else holds it; None: there are no locks here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        return None
    return True


def take_folder(builds: Path, identity: str, *, alone: bool) -> Path:
    """The folder to build in: one of the same identity that was not finished and is nobody's any more, with
    what was started in it ended; else a new one. It is there, and ours, before anything is started in it."""
    for number in itertools.count(1):
        folder = builds / f"{identity[:12]}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if (folder / BUILT).exists() or not _take_over(folder, alone=alone):
                continue
        replace(folder / _OWNER, msgspec.json.encode(process.myself()))
        return folder
    raise AssertionError


def release_folder(folder: Path) -> None:
    """Lets the next build go on in a folder whose build failed."""
    (folder / _OWNER).unlink(missing_ok=True)


def _take_over(folder: Path, *, alone: bool) -> bool:
    """Takes an unfinished build from its owner if that is gone. Of two that try, one succeeds."""
    owner = _owner(folder)
    ended = alone and (owner is None or owner.host == socket.gethostname())
    if not (ended or _dead(folder)):
        return False
    taken = folder / f"{_OWNER}.{process.myself().pid}"
    try:
        (folder / _OWNER).rename(taken)
        taken.unlink()
    except FileNotFoundError:  # killed before it could say its name, or somebody else was faster
        if not alone:
            return False
    end_all({MARK: str(folder)})
    return True


def sweep(base_dir: Path, environment: Environment) -> None:
    """Removes what broken builds left, and ends what they left running. Called with the lock held.

    Builds with a ready.json stay, linked or not: a job may be running in them. Unfinished ones stay for the
    next build of the same identity.
    """
    builds = base_dir / ".builds" / environment.name
    used = {link.resolve() for link in links(base_dir, environment.name)}
    present = f"{identity(environment)[:12]}-"
    for folder in builds.iterdir() if builds.is_dir() else ():
        if folder.is_symlink():
            folder.unlink(missing_ok=True)
        elif folder.resolve() in used or (folder / READY).exists():
            continue
        elif (folder / BUILT).exists() or (not folder.name.startswith(present) and _dead(folder)):
            remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Removes a build, after the end of what was started for it."""
    end_all({MARK: str(folder)})
    for proof in (READY, BUILT):  # first: half removed is not built
        (folder / proof).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _owner(folder: Path) -> Owner | None:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((folder / _OWNER).read_bytes(), type=Owner)
    return None


def _dead(folder: Path) -> bool:
    """Return whether nobody builds in this folder any more. Of another host's builds we know only their
    age."""
    owner = _owner(folder)
    if owner is not None and owner.host == socket.gethostname():
        return not process.alive(owner)
    with contextlib.suppress(OSError):
        return time.time() - folder.stat().st_mtime > ABANDONED
    return False


def end_all(marks: dict[str, str]) -> None:
    """Kills the processes that have these variables, and waits a moment for their end."""
    now = quiet = time.monotonic()
    end = now + 5
    # A process that was forked but is not yet the program that it will be still has its parent's variables.
    while now < end and now - quiet < _TO_START_S:
        for pid in process.with_environment(marks):
            process.signal_group(pid, signal.SIGKILL)
            quiet = now
        time.sleep(0.02)
        now = time.monotonic()


@contextlib.contextmanager
def temporary(base_dir: Path) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=base_dir, prefix=".tmp-", ignore_cleanup_errors=True) as name:
        yield Path(name)
