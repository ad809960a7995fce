"""Copies an input to a node's own disk, once per node, and says where it is then.

    python -m ddqjobs.detect.stage copy SOURCE FOLDER     # prints the path of the copy
    python -m ddqjobs.detect.stage use DESCRIPTOR COPY    # 0: it stays as long as the descriptor is open

Called by the launch script on each node, before the task. A run never fails for want of a copy: then ``copy``
prints nothing but one warning on stderr, and the input is read where it lies. Exit code 75: a stop was asked
for meanwhile. Standard library only.

In FOLDER/ddqjobs-UID/ each source has a folder of its own, and in it each of its states one, named by the
digest of its manifest: relative path, size and time of change of every file. ::

    <source>/lock             locked by who copies or removes; the system frees it when its process dies
    <source>/<state>.tmp/     a copy in the making, of whoever holds the lock; anybody else's is rubbish
    <source>/<state>/<name>   a whole copy: renamed, so it is there whole or not at all

A source that has changed has another state. Copies of other states are removed once nobody uses them: a task
holds a shared lock on the state's folder, by a descriptor that it inherits from its shell.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

from .job import exit_codes

_SPARE = 64 << 20  # bytes that stay free
_BLOCK = 4096  # of a usual file system: what a file takes at least
_CHUNK = 16 << 20
_THREADS = 8  # network file systems answer slowly, and many questions at once
_POLL_S, _LOOK_S, _TELL_S = 0.2, 1.0, 60.0


class Entry(NamedTuple):
    """A file of a source: path below it (``.`` for a source that is one), bytes, change in nanoseconds. A
    folder's path ends with a slash."""

    path: str
    size: int
    changed: int


class Stopped(Exception):
    """The task was asked to stop."""


class CannotStage(Exception):
    """There is no copy; the message is one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.stage", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    copying = commands.add_parser("copy")
    copying.add_argument("source", type=Path)
    copying.add_argument("folder", help="on the node's own disk; empty: none is declared there")
    using = commands.add_parser("use")
    using.add_argument("descriptor", type=int)
    using.add_argument("copy", type=Path)
    args = parser.parse_args(argv)
    if args.command == "use":
        return 0 if use(args.descriptor, args.copy) else 1
    try:
        print(stage(args.source, args.folder))
    except Stopped:
        return exit_codes.STOPPED
    except (CannotStage, OSError) as error:
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        _say(f"warning: {args.source} is not staged: {why}; it is read where it lies")
    return 0


def stage(source: Path, folder: str) -> Path:
    """The path of a whole copy of ``source`` as it is now. Raises CannotStage, OSError, Stopped."""
    real = source.resolve()
    place = _own_folder(folder) / hashlib.sha256(os.fsencode(str(real))).hexdigest()[:16]
    place.mkdir(exist_ok=True)
    with _locked(place / "lock"):
        entries = manifest(real)
        state = place / digest(entries)
        whole = _whole(state / real.name, entries)
        _tidy(place, state if whole else None)
        if not whole:
            if state.exists():
                raise CannotStage(f"its copy {state} is damaged, and a task uses it")
            _require_room(place, entries)
            _copy(real, entries, state)
    return state / real.name


def use(descriptor: int, copy: Path) -> bool:
    """Locks the folder of a copy, opened before, against removal; False if it is gone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return os.path.samestat(os.fstat(descriptor), copy.parent.stat()) and copy.exists()
    except OSError:
        return False


def manifest(source: Path) -> list[Entry]:
    """All files and folders of a source, links followed, by path. Raises OSError and CannotStage."""
    if not source.is_dir():
        return [_entry(source, ".")]
    return sorted(_walk(source, "", ()))


def digest(entries: Sequence[Entry]) -> str:
    """Names a state of a source."""
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:16]


def _walk(folder: Path, below: str, above: tuple[tuple[int, int], ...]) -> Iterator[Entry]:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise CannotStage(f"it has a symbolic link loop at {folder}")
    with os.scandir(str(folder)) as listing:
        items = list(listing)
    for item in items:
        path = below + item.name
        if item.is_dir():
            yield Entry(path + "/", 0, 0)
            yield from _walk(Path(item.path), path + "/", (*above, here))
        else:
            yield _entry(Path(item.path), path)


def _entry(file: Path, path: str) -> Entry:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise CannotStage(f"{file} is not a regular file")
    return Entry(path, status.st_size, status.st_mtime_ns)


def _own_folder(folder: str) -> Path:
    """Our folder there; nobody else's, since what is in it is taken for the input."""
    above = Path(folder)
    if not above.is_absolute():
        raise CannotStage(f"stage_to is {folder!r} on this node, not an absolute path")
    if not above.parent.is_dir():
        raise CannotStage(f"there is no folder {above.parent} on this node")
    above.mkdir(exist_ok=True)
    own = above / f"ddqjobs-{os.geteuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    status = own.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise CannotStage(f"{own} is not a folder that belongs to you")
    return own


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits for the lock, and says so now and then: a watchdog looks for signs of life."""
    file = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        told = -_TELL_S
        while not _try(file):
            if time.monotonic() - told >= _TELL_S:
                told = time.monotonic()
                _say("another job copies the input to this node: waiting")
            _heed_stop()
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(file)


def _try(file: int) -> bool:
    """Locks an open file or folder for us alone, unless it is locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def _whole(copy: Path, entries: Sequence[Entry]) -> bool:
    """Return whether a copy is there with the right sizes: a node that lost its power may have files cut
    short."""
    try:
        return all(e.path.endswith("/") or (copy / e.path).stat().st_size == e.size for e in entries)
    except OSError:
        return False


def _tidy(place: Path, keep: Path | None) -> None:
    """Removes copies of other states that no task uses, and what killed copiers left. Needs the lock."""
    for entry in place.iterdir():
        if entry == keep or not entry.is_dir():
            continue
        folder = os.open(str(entry), os.O_RDONLY)
        try:
            if _try(folder):
                doomed = entry if entry.suffix else entry.with_name(f"{entry.name}-{os.getpid()}.tmp")
                entry.rename(doomed)  # gone at once: no copy is ever seen half
                shutil.rmtree(str(doomed))
        finally:
            os.close(folder)


def _require_room(place: Path, entries: Sequence[Entry]) -> None:
    needed = sum((e.size // _BLOCK + 1) * _BLOCK for e in entries) + _SPARE
    free = shutil.disk_usage(str(place)).free
    if free < needed:
        raise CannotStage(f"it needs {_gib(needed)}, and {place} has {_gib(free)}")


def _copy(source: Path, entries: Sequence[Entry], state: Path) -> None:
    """Copies into a temporary folder, and renames it when all is there and the source has not changed."""
    draft = state.with_name(state.name + ".tmp")
    begun = time.monotonic()
    _say(f"copying {source} to {state.parent}: {_gib(sum(e.size for e in entries))}, {len(entries)} files")
    try:
        draft.mkdir()
        _fill(source, draft / source.name, entries)
        if manifest(source) != entries:
            raise CannotStage("it changed while it was copied")
        draft.rename(state)
    except BaseException:
        shutil.rmtree(str(draft), ignore_errors=True)
        raise
    _say(f"copied in {time.monotonic() - begun:.1f} s")


def _fill(source: Path, target: Path, entries: Sequence[Entry]) -> None:
    """Copies folders, then files, several at a time. Whatever fails ends all."""
    ended: list[bool] = []
    if source.is_dir():
        target.mkdir()
    for entry in entries:
        if entry.path.endswith("/"):
            (target / entry.path).mkdir()
    with ThreadPoolExecutor(_THREADS) as pool:
        files = [e for e in entries if not e.path.endswith("/")]
        waiting = {pool.submit(_copy_file, source / e.path, target / e.path, ended) for e in files}
        told = time.monotonic()
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=_LOOK_S, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                _heed_stop()
                if waiting and time.monotonic() - told >= _TELL_S:
                    told = time.monotonic()
                    _say(f"{len(files) - len(waiting)} of {len(files)} files copied")
        except BaseException:
            ended.append(True)
            raise


def _copy_file(source: Path, target: Path, ended: Sequence[bool]) -> None:
    if ended:
        return
    with source.open("rb") as given, target.open("wb") as taken:
        chunk = b"-"
        while chunk and not ended:
            chunk = given.read(_CHUNK)
            taken.write(chunk)
    status = source.stat()
    os.utime(str(target), ns=(status.st_atime_ns, status.st_mtime_ns))
    if status.st_mode & stat.S_IXUSR:
        target.chmod(target.stat().st_mode | stat.S_IXUSR)


def _heed_stop() -> None:
    stop = os.environ.get("DDQJOBS_STOP", "")
    if stop and Path(stop).exists():
        raise Stopped


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _say(text: str) -> None:
    print(f"stage: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
