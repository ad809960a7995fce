"""Turn what an experiment names by path (code trees, input files, sources) into text that changes with its
content.

Checkpoints are large, and parsing all task code takes a tenth of a second: so the digest of a file is kept
(``results/.fingerprints.json``) and taken again when its size, time or inode says that it may be another one.
The file may be lost at any time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import msgspec

from ddqjobs.base.files import ordinary, replace
from ddqjobs.base.paths import expanded
from ddqjobs.detect import files, tree
from ddqjobs.planning import syntax
from ddqjobs.planning.digest import FORMAT, Content
from ddqjobs.planning.syntax import READER, Source

State = tuple[int, int, int]  # size, time of change in ns, inode
_TICK_NS = 2_000_000_000  # file systems may take two changes within this time for one


class Kept(msgspec.Struct):
    """The content of ``.fingerprints.json``; sources only as this Python and this format read them."""

    reader: tuple[int, ...] = ()
    files: dict[str, tuple[State, str]] = {}
    sources: dict[str, tuple[State, Source]] = {}


def _state(at: os.stat_result) -> State:
    """Return what tells a file from another one; the time of the inode's change, which no program that copies
    files sets back."""
    return at.st_size, at.st_ctime_ns, at.st_ino


def _settled(at: os.stat_result) -> bool:
    """Return whether a file that changes from now on has another state."""
    return time.time_ns() - at.st_ctime_ns > _TICK_NS


class Fingerprints:
    """Fingerprints of paths as a project's experiments write them: ``~`` and ``$VARIABLES`` are ours here,
    relative ones are below the project. ``warnings`` says what could not be told."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._place_kept = project / "results" / ".fingerprints.json"
        self._read: Kept | None = None
        self._unsaved = False
        self.warnings: list[str] = []

    def tree(self, path: str) -> str:
        """SHA-256 of a code tree's state (:func:`ddqjobs.detect.tree.digest`); empty where it is not."""
        try:
            return tree.digest(expanded(self._project, path))
        except tree.UntoldError as error:
            self.warnings.append(f"code tree {error}; its changes are not noticed")
            return ""

    def file(self, path: str) -> Content:
        """Return the content of a file; empty for a folder and for what is not on this machine."""
        place = expanded(self._project, path)
        try:
            if not ordinary(place):
                return Content()
            at = place.stat()
            state, settled = _state(at), _settled(at)
            known = self._kept.files.get(str(place))
            if known is not None and known[0] == state:
                return Content(known[1], at.st_size, at.st_ctime_ns)
            digest = files.sha256(place)
        except OSError as error:
            self.warnings.append(f"{place}: {error.strerror}; its content is not noticed")
            return Content()
        if settled:
            self._kept.files[str(place)] = (state, digest)
            self._unsaved = True
            self.save()  # at once: it may have taken minutes
        return Content(digest, at.st_size, at.st_ctime_ns if settled else 0)

    def source(self, path: Path) -> Source:
        """Return what counts of a configuration or module; call :meth:`save` when all are read."""
        at = path.stat()
        state, settled = _state(at), _settled(at)
        known = self._kept.sources.get(str(path))
        if known is not None and known[0] == state:
            return known[1]
        source = syntax.read_file(path)
        if settled:
            self._kept.sources[str(path)] = (state, source)
            self._unsaved = True
        return source

    @property
    def _kept(self) -> Kept:
        if self._read is None:
            try:
                self._read = msgspec.json.decode(self._place_kept.read_bytes(), type=Kept)
            except (OSError, msgspec.MsgspecError):
                self._read = Kept()
            reader = (FORMAT, READER, *sys.version_info[:2])
            if self._read.reader != reader:
                self._read = Kept(reader=reader, files=self._read.files)
        return self._read

    def save(self) -> None:
        """Keep what was read, for the next command."""
        if not self._unsaved or not self._place_kept.parent.is_dir():
            return  # nothing was ever submitted here: looking leaves no traces
        with contextlib.suppress(OSError):  # it only saves time
            replace(self._place_kept, msgspec.json.encode(self._kept))
            self._unsaved = False
