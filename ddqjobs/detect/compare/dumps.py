"""Dumps of an implementation's values: npz files with keys ``<order>|<name>|<call>|<part>``. NumPy only."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Dict

from .. import files

Arrays = Dict[str, Any]


def write(path: Path, dump: Arrays) -> None:
    """Write a dump, atomically."""
    import numpy as np

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.savez(stream, **dump)

    files.replace(path, fill)


def read(path: Path) -> Arrays:
    """The arrays of a dump, in order. Raises ValueError for another file."""
    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a dump: {str(error).splitlines()[0][:200]}") from error
    if not arrays or any(key.count("|") != 3 for key in arrays):
        raise ValueError(f"{path}: not a dump of ddqjobs.detect.capture")
    return arrays
