"""Files: replace and create them atomically, digest, tell a whole checkpoint from a torn one.

Standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterable, Iterator, Mapping

_BLOCK = 1 << 20
# From network file systems that cannot flush, most of them only folders.
_CANNOT = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


class SameFile(ValueError):
    """The file that would be written is the one that is read, or would be written twice; the message is one
    line."""


def keep_apart(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None]) -> None:
    """Raises SameFile if an output (option -> path) is one of the inputs or another output, whatever it is
    called: by another spelling, a symbolic or a hard link. None stands for what was left out."""
    read = [path for path in inputs if path is not None]
    written: list[tuple[str, Path]] = []
    for option, path in outputs.items():
        if path is None:
            continue
        for other in read:
            if _same(path, other):
                raise SameFile(f"{option} {path} is the input {other}: choose another; nothing was written")
        for earlier, other in written:
            if _same(path, other):
                raise SameFile(f"{option} {path} is {earlier}, too: choose another; nothing was written")
        written.append((option, path))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # not there yet
        return os.path.realpath(str(one)) == os.path.realpath(str(other))


class Unsettled(OSError):
    """The file is in its place, but it is not known whether it would survive a power failure."""


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk and rename it to ``path``.

    Whatever fails, ``path`` is as it was and no temporary file stays. Raises OSError, or Unsettled if only
    the folder cannot be flushed.
    """
    with _beside(path, write) as temporary:
        temporary.replace(path)
    _settle(path)


def create(path: Path, write: Callable[[Path], object]) -> bool:
    """Like :func:`replace`, but return False and leave ``path`` alone if it exists. Of several processes,
    on any hosts, exactly one gets True."""
    with _beside(path, write) as temporary:
        try:
            os.link(str(temporary), str(path))
        except FileExistsError:
            # An NFS client whose first answer was lost asks again, and hears that its own link exists.
            if temporary.stat().st_nlink == 1:
                return False
    _settle(path)
    return True


@contextmanager
def _beside(path: Path, write: Callable[[Path], object]) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        write(temporary)
        if not temporary.is_symlink():
            flush(temporary)
        yield temporary
    finally:
        try:
            temporary.unlink()
        except OSError:
            pass


def _settle(path: Path) -> None:
    try:
        flush(path.parent)
    except OSError as error:
        raise Unsettled(error.errno, f"{path}: {error.strerror}") from error


def replace_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    replace(path, write)


def replace_json(path: Path, value: object) -> None:
    """Replace a JSON file atomically. Raises ValueError for NaN: JSON has none."""
    replace_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def flush(path: Path) -> None:
    """Have the operating system write a file or folder to disk. Raises OSError."""
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Digest of a file, hexadecimal."""
    import hashlib  # slow to come, and most who write files do without

    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def words(error: Exception) -> str:
    """Return an error's words without a colon: in a reason one stands between its class and it."""
    said = error.strerror or "" if isinstance(error, OSError) else str(error)
    return said.replace(": ", ", ").replace(":", "")


def torn(path: Path) -> str | None:
    """Return why a checkpoint is not whole, in a few words; None if it is.

    torch.save writes a zip whose directory comes last, so a writer that was killed leaves none. Checkpoints
    of torch before 1.6 are bare pickles: their end marker is looked for.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(2)
            size = stream.seek(0, os.SEEK_END)
        if size == 0:
            return "empty"
        if head[:1] == b"\x80":
            return None  # a bare pickle: nothing short of loading it tells more
        with zipfile.ZipFile(str(path)) as archive:
            names = archive.namelist()
        return None if any(n.endswith("data.pkl") for n in names) else "not a torch checkpoint"
    except zipfile.BadZipFile:
        return "torn or no checkpoint"
    except OSError as error:
        return error.strerror or "unreadable"


def damaged(path: Path) -> str | None:
    """Return why a checkpoint is not as it was written, in a few words; None if it is. Read all of it.

    torch.load does not look at the checksums that torch.save writes for each tensor: weights with flipped
    bits would be taken for good ones. Bare pickles have none.
    """
    why = torn(path)
    if why or not zipfile.is_zipfile(str(path)):
        return why
    try:
        with zipfile.ZipFile(str(path)) as archive:
            bad = archive.testzip()
        return f"damaged: the checksum of {bad} is another one" if bad else None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        return f"damaged: {str(error).splitlines()[0][:200]}"
    except OSError as error:
        return error.strerror or "unreadable"
