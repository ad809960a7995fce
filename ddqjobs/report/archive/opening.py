"""Open an archive that anybody may have made: names, sizes and digests first, then what is inside."""

from __future__ import annotations

import hashlib
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from ddqjobs.base.errors import InputError
from ddqjobs.base.text import clean
from ddqjobs.base.units import counted
from ddqjobs.report.archive.contents import WEIGHTS
from ddqjobs.report.archive.writing import MANIFEST

MOST_FILES = 1_000_000
_LARGEST_LIST = 256 << 20  # bytes of the list of digests
_RATIO, _ANYWAY = 100, 1 << 30  # as large as it unpacks at most: times its own size, and bytes
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_BLOCK = 1 << 20
_DAMAGED = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, ValueError)
_LONGEST_NAME, _LONGEST_PART = 2048, 255  # bytes that file systems take; the first below another folder


class BrokenError(Exception):
    """A part of an archive does not hold; the message is one line."""


class Opened:
    """An archive whose names and sizes are harmless."""

    def __init__(self, path: Path) -> None:
        """Raise InputError for what is no archive of ours, BrokenError for a hostile one."""
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise InputError(f"{path}: cannot be read as an archive: {why}") from error
        infos = self._zip.infolist()
        if MANIFEST not in self._zip.NameToInfo:
            raise InputError(f"{path}: not an archive of ddqjobs (it has no {MANIFEST})")
        _require_harmless(infos, path.stat().st_size)
        self.sizes = {info.filename: info.file_size for info in infos}

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def digests(self) -> dict[str, str]:
        """Return name -> SHA-256 as the archive lists them. Raise BrokenError unless these are its files."""
        listed = {}
        for line in self.read(MANIFEST, _LARGEST_LIST).decode("utf-8", "replace").splitlines():
            match = _LINE.fullmatch(line)
            if match is None or match[2] in listed:
                raise BrokenError(f"{MANIFEST}: not a list of digests: {clean(line[:100])}")
            listed[match[2]] = match[1]
        there = self.sizes.keys() - {MANIFEST}
        _none(there - listed.keys(), "inside and not listed")
        _none(listed.keys() - there, "listed and not inside")
        return listed

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content. Raise BrokenError if it is absent, damaged or larger than ``limit``."""
        if (
            self.sizes.get(name, self._zip.NameToInfo[name].file_size if name == MANIFEST else limit + 1)
            > limit
        ):
            raise BrokenError(f"{clean(name)}: absent, or too large")
        try:
            return self._zip.read(name)
        except _DAMAGED as error:
            raise BrokenError(f"{clean(name)}: damaged ({error})") from error

    def unpack(self, folder: Path, digests: Mapping[str, str]) -> list[str]:
        """Unpack all but weights below a folder; return the names of files that are not what their digests
        say. Raise BrokenError for damaged ones."""
        differing = []
        for name, wanted in digests.items():
            target = folder / name if not name.endswith(WEIGHTS) else None
            if self._one(name, target) != wanted:
                differing.append(name)
        return differing

    def _one(self, name: str, target: Path | None) -> str:
        digest = hashlib.sha256()
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._zip.open(name) as source, (target or Path("/dev/null")).open("wb") as out:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    out.write(block)
        except _DAMAGED as error:
            raise BrokenError(f"{clean(name)}: damaged ({error})") from error
        return digest.hexdigest()


def _require_harmless(infos: list[zipfile.ZipInfo], size: int) -> None:
    if len(infos) > MOST_FILES:
        raise BrokenError(f"{len(infos):,} files inside; at most {MOST_FILES:,} are read")
    total = sum(info.file_size for info in infos)
    if total > max(_ANYWAY, _RATIO * size):
        raise BrokenError(
            f"refused: unpacks to {total >> 20:,} MiB, {total // max(size, 1):,} times its size"
        )
    names: set[str] = set()
    for info in infos:
        name = info.filename
        damaged = "damaged (it begins before the archive)" if info.header_offset < 0 else ""
        why = damaged or _harm(info) or ("twice inside" if name in names else "")
        if why:
            raise BrokenError(f"{clean(name[:200])!r}: {why}")
        names.add(name)
    folders = {name[: match.start()] for name in names for match in re.finditer("/", name)}
    _none(folders & names, "a file and a folder")


def _harm(info: zipfile.ZipInfo) -> str:
    """Return why a member may not be unpacked; empty if it may."""
    name = info.filename
    if not name or name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name):
        return "a path out of the archive"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "a path out of the archive" if ".." in name.split("/") else "not the path of a file"
    longest = max(len(part.encode()) for part in name.split("/"))
    if any(ord(c) < 32 for c in name) or longest > _LONGEST_PART or len(name.encode()) > _LONGEST_NAME:
        return "not a name of a file"
    mode = info.external_attr >> 16
    if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
        return "a link or a device"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "compressed in an unusual way"
    return "encrypted" if info.flag_bits & 1 else ""


def _none(names: set[str], what: str) -> None:
    if names:
        first = clean(min(names)[:200])
        raise BrokenError(f"{counted(len(names), 'file')} {what}, first {first}")
