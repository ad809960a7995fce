"""The format of a results folder: a number in ``results/<experiment>/format.json``.

Raised when an older ddqjobs would misread what a newer one writes. A newer folder is refused with the version
that wrote it, before anything is read or written; an older one is read. The file is made with the first
record of a ledger; a folder without it was made before there were formats, and is format 1.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ddqjobs.base import files
from ddqjobs.base.errors import StateError
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.version import VERSION
from ddqjobs.store.layout import Layout

FORMAT = 1


class Mark(Frozen, frozen=True, kw_only=True):
    """The content of the file. ``version`` is the ddqjobs that made the folder."""

    format: int
    version: str


def check(results: Path) -> None:
    """Raise StateError if a results folder was made by a newer ddqjobs, or does not say by which."""
    path = Layout(results).format
    try:
        mark = msgspec.json.decode(path.read_bytes(), type=Mark)
    except (FileNotFoundError, NotADirectoryError):
        return  # whoever writes next says what is in the way
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}; make it readable") from error
    except msgspec.MsgspecError as error:
        raise StateError(
            f"{path}: not a results format ({error}); restore the file, or delete it if ddqjobs {VERSION} "
            "made this folder"
        ) from error
    if mark.format > FORMAT:
        raise StateError(
            f"{results}: made by ddqjobs {mark.version} in results format {mark.format}; this is ddqjobs "
            f"{VERSION}, which reads formats up to {FORMAT}; install ddqjobs {mark.version} or later"
        )


def mark(results: Path) -> None:
    """Write the format of a results folder that has none yet."""
    files.create(Layout(results).format, msgspec.json.encode(Mark(format=FORMAT, version=VERSION)) + b"\n")
