"""What an experiment names by path, as text that changes with its content: code trees and input files.

Checkpoints are large, so the digest of a file is kept (``results/.fingerprints.json``) and taken again when
its size, time or inode says that it may be another one. The file may be lost at any time.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ddqjobs.base.paths import expanded
from ddqjobs.detect import files, tree

Seen = tuple[int, int, int, str]  # size, time of change in ns, inode, SHA-256


class Fingerprints:
    """Fingerprints of paths as a project's experiments write them: ``~`` and ``$VARIABLES`` are ours here,
    relative ones are below the project. ``warnings`` says what could not be told."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._kept = project / "results" / ".fingerprints.json"
        self._seen: dict[str, Seen] | None = None
        self.warnings: list[str] = []

    def tree(self, path: str) -> str:
        """SHA-256 of a code tree's state (:func:`ddqjobs.detect.tree.digest`); empty where it is not."""
        try:
            return tree.digest(self._place(path))
        except tree.UntoldError as error:
            self.warnings.append(f"code tree {error}; its changes are not noticed")
            return ""

    def file(self, path: str) -> str:
        """SHA-256 of a file's content; empty for a folder and for what is not on this machine."""
        place = self._place(path)
        try:
            if not place.is_file():
                return ""
            at = place.stat()
            known = self._known().get(str(place))
            if known is not None and known[:3] == (at.st_size, at.st_mtime_ns, at.st_ino):
                return known[3]
            digest = files.sha256(place)
        except OSError as error:
            self.warnings.append(f"{place}: {error.strerror}; its content is not noticed")
            return ""
        self._keep(str(place), (at.st_size, at.st_mtime_ns, at.st_ino, digest))
        return digest

    def _place(self, path: str) -> Path:
        return expanded(self._project, path)

    def _known(self) -> dict[str, Seen]:
        if self._seen is None:
            try:
                self._seen = msgspec.json.decode(self._kept.read_bytes(), type=dict[str, Seen])
            except (OSError, msgspec.MsgspecError):
                self._seen = {}
        return self._seen

    def _keep(self, place: str, seen: Seen) -> None:
        self._known()[place] = seen
        if not self._kept.parent.is_dir():
            return  # nothing was ever submitted here: looking leaves no traces
        draft = self._kept.with_name(f"{self._kept.name}.{os.getpid()}")
        try:
            draft.write_bytes(msgspec.json.encode(self._known()))
            draft.replace(self._kept)
        except OSError:  # it only saves time
            draft.unlink(missing_ok=True)
