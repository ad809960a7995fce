"""Brings one file from the web or from a folder: resumed where it was cut, checked, put in its place last.

What has come so far lies beside the target, in a hidden folder that bears the process's name: ``body`` and
``from.json``, which says whose bytes they are. Two processes never write one such folder. What a process that
was killed left behind is taken over by renaming it, which only one can do, and goes on where it ended if the
server says that its file is still the same (``If-Range``). Only a whole file that was accepted is renamed to
the target.
"""

from __future__ import annotations

import base64
import contextlib
import glob
import http.client
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import msgspec

from ddqjobs.base.errors import TransferError, refusal
from ddqjobs.base.files import replace
from ddqjobs.base.frozen import Frozen, Owner
from ddqjobs.base.process import alive, boot_id, myself
from ddqjobs.base.units import size
from ddqjobs.detect import files

Progress = Callable[[str, int, int | None], None]
"""(what, bytes done, bytes in all or None)"""
Accept = Callable[[Path, str], str]
"""(a whole file, its SHA-256) -> why it is not wanted; empty: it is."""

_BLOCK = 1 << 20
_ABANDONED_S = 24 * 3600.0  # what a process of another host has not touched for so long is nobody's
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # answers that another try may better


class Limits(Frozen, frozen=True, kw_only=True):
    """``tries`` in a row without a new byte; before the n-th further one a pause of n times ``pause_s``."""

    tries: int = 4
    pause_s: float = 1.0
    timeout_s: float = 60.0  # without a byte


class _From(Frozen, frozen=True, kw_only=True):
    """Origin of a body's bytes. ``validator`` is the server's strong ETag, or the time of the last change."""

    source: str
    size: int | None = None
    validator: str = ""


def fetch(
    source: str | Path, target: Path, accept: Accept, progress: Progress, limits: Limits | None = None
) -> str:
    """Brings the file at an http(s) URL or path to ``target``; its SHA-256. Raises TransferError, and then
    ``target`` is as it was."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _Part.take(target)
        try:
            return _fetch(source, part, target, accept, progress, limits or Limits())
        finally:
            if not part.length:
                part.forget()
    except OSError as error:
        raise TransferError(f"{error.filename or target}: {error.strerror or error}") from error


def _fetch(
    source: str | Path, part: _Part, target: Path, accept: Accept, progress: Progress, limits: Limits
) -> str:
    if isinstance(source, Path):
        _copy(source, part, progress)
    else:
        _download(source, part, progress, limits)
    digest = files.sha256(part.body)
    why = accept(part.body, digest)
    if why:
        part.forget()
        raise TransferError(f"{source}: {why}")
    part.land(target)
    return digest


def tidy(target: Path) -> None:
    """Removes what processes that are no more left of this file beside its target."""
    for folder in _left_behind(target):
        _discard(folder)
    for trash in target.parent.glob(f".{glob.escape(target.name)}.*.trash"):
        shutil.rmtree(trash, ignore_errors=True)


class _Part:
    """The part of a file that has come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.body = folder / "body"
        self._note = folder / "from.json"

    @classmethod
    def take(cls, target: Path) -> _Part:
        """This process's own, with the largest that a process left that is no more."""
        mine = target.parent / f".{target.name}.{_tag(myself())}.part"
        for folder in sorted(_left_behind(target), key=_length, reverse=True):
            if mine.exists():
                _discard(folder)
            else:
                with contextlib.suppress(OSError):  # another process was faster
                    folder.rename(mine)
        mine.mkdir(exist_ok=True)
        return cls(mine)

    @property
    def length(self) -> int:
        """Bytes so far."""
        return self.body.stat().st_size if self.body.exists() else 0

    def origin(self) -> _From | None:
        """Return the origin of these bytes; None if it is not known."""
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=_From)
        except (OSError, msgspec.MsgspecError):
            return None

    def restart(self, origin: _From) -> None:
        """Empties it for another file. The note goes first, so that no byte ever has a wrong one."""
        try:
            self._note.unlink(missing_ok=True)
            self.body.write_bytes(b"")
            replace(self._note, msgspec.json.encode(origin))
        except OSError as error:
            raise self._refused(error) from error

    def append(self, block: bytes) -> None:
        """More bytes. Raises TransferError: no fault of the server's, and no other try will help."""
        try:
            with self.body.open("ab") as stream:
                stream.write(block)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> TransferError:
        kept = f"; {size(self.length)} that have come stay for the next time" if self.length else ""
        return TransferError(f"{self._folder.parent}: {refusal(error, self._folder.parent)}{kept}")

    def land(self, target: Path) -> None:
        """Puts the whole file in its place."""
        files.flush(self.body)
        self.body.replace(target)
        files.flush(target.parent)
        self.forget()

    def forget(self) -> None:
        """Removes it."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _tag(owner: Owner) -> str:
    """A process as part of a file's name."""
    return f"{owner.host[:64]}-{owner.pid}-{owner.start}-{owner.boot[:8]}"


def _left_behind(target: Path) -> list[Path]:
    """Folders of processes that are no more."""
    leftovers = target.parent.glob(f".{glob.escape(target.name)}.*.part")
    return [
        folder for folder in leftovers if not _used(folder, folder.name[len(target.name) + 2 : -len(".part")])
    ]


def _used(folder: Path, tag: str) -> bool:
    said = re.fullmatch(r"(.+)-(\d+)-(\d+)-([0-9a-f]{8})", tag)
    if said is None:
        return True  # none of ours
    host = socket.gethostname()
    if said[1] != host[:64]:
        return time.time() - _touched(folder) < _ABANDONED_S
    here = said[4] == boot_id()[:8]
    return here and alive(Owner(host=host, pid=int(said[2]), start=int(said[3]), boot=boot_id()))


def _touched(folder: Path) -> float:
    for path in (folder / "body", folder):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return time.time()


def _length(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return (folder / "body").stat().st_size
    return 0


def _discard(folder: Path) -> None:
    """Renamed first: whoever takes it over meanwhile must not lose it under its hands."""
    trash = folder.with_name(f"{folder.name}.{os.urandom(4).hex()}.trash")
    with contextlib.suppress(OSError):
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def _copy(source: Path, part: _Part, progress: Progress) -> None:
    with source.open("rb") as stream:
        total = os.fstat(stream.fileno()).st_size
        _require_room(part, total)
        part.restart(_From(source=str(source), size=total))
        done = 0
        while block := stream.read(_BLOCK):
            part.append(block)
            done += len(block)
            progress(source.name, done, total)


def _require_room(part: _Part, more: int) -> None:
    free = shutil.disk_usage(part.body.parent).free
    if more > free:
        where = part.body.parent.parent
        raise TransferError(f"{where}: {size(more)} still to download, {size(free)} free; make room there")


def _download(url: str, part: _Part, progress: Progress, limits: Limits) -> None:
    """Until it is whole. Raises TransferError."""
    url, login = _apart(url)
    failures = 0
    while True:
        before = part.length
        try:
            if _once(url, login, part, progress, limits):
                return
            why = "the connection was cut"
        except urllib.error.HTTPError as error:
            error.close()
            why = f"the server answers {error.code} {error.reason}"
            if error.code not in _PASSING:
                raise TransferError(f"{url}: {why}") from None
        except (OSError, http.client.HTTPException) as error:
            why = _words(error)
        failures = 1 if part.length > before else failures + 1
        if failures >= limits.tries:
            kept = f"; {size(part.length)} that have come stay for the next time" if part.length else ""
            raise TransferError(f"{url}: {why}, {failures} times in a row{kept}")
        time.sleep(limits.pause_s * failures)


def _apart(url: str) -> tuple[str, str]:
    """Return a URL without the user's name and password, which urllib takes for a host's name, and these as
    HTTP has them; so neither messages nor files show them."""
    parts = urllib.parse.urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    if not login:
        return url, ""
    code = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
    return parts._replace(netloc=host).geturl(), f"Basic {code}"


def _words(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "the server is silent"
    said = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return " ".join(said.split()) or type(cause).__name__


def _once(url: str, login: str, part: _Part, progress: Progress, limits: Limits) -> bool:
    """One request: whether the file is whole afterwards."""
    known = part.origin()
    have = part.length if known is not None and known.source == url and known.validator else 0
    if known is not None and have and have == known.size:
        return True
    request = urllib.request.Request(url, headers={"User-Agent": "ddqjobs", "Accept-Encoding": "identity"})
    if login:
        request.add_unredirected_header("Authorization", login)  # for this server only
    if known is not None and have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known.validator)
    try:
        answer = urllib.request.urlopen(request, timeout=limits.timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        part.restart(_From(source=url))  # it has fewer bytes than we: another file
        return False
    with answer:
        total = _begin(url, answer, part, have, known)
        if total is not None:
            _require_room(part, total - part.length)
        name = url.rpartition("/")[2]
        progress(name, part.length, total)
        while block := answer.read1(_BLOCK):
            part.append(block)
            progress(name, part.length, total)
    return total is None or part.length == total


def _begin(
    url: str, answer: http.client.HTTPResponse, part: _Part, have: int, known: _From | None
) -> int | None:
    """Makes the part ready for what the answer brings; bytes of the whole file, if the server says it."""
    if answer.status == 206:
        said = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if said is not None and known is not None and (int(said[1]), int(said[2])) == (have, known.size):
            return known.size
        part.restart(_From(source=url))
        raise http.client.HTTPException("the server sent another part than the one asked for")
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    etag = answer.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
    part.restart(_From(source=url, size=total, validator=validator if total is not None else ""))
    return total
