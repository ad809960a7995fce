"""Golden files: whole texts, compared byte by byte.

``DDQJOBS_GOLDEN=write pytest ...`` writes them anew; a test that wrote fails, so that nobody takes it for a
comparison. Look at ``git diff`` and run again without the variable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.paths import TESTS

GOLDEN = TESTS / "golden"


def compare(folder: str, texts: Mapping[str, str]) -> None:
    """The files of ``tests/golden/<folder>`` are exactly these: same names, same bytes."""
    place = GOLDEN / folder
    if os.environ.get("DDQJOBS_GOLDEN") == "write":
        _write(place, texts)
        pytest.fail(f"wrote {len(texts)} files below {place}; run again without DDQJOBS_GOLDEN")
    assert sorted(path.name for path in place.iterdir()) == sorted(texts)
    for name, text in texts.items():
        assert text.encode() == (place / name).read_bytes(), f"{place / name} differs"


def _write(place: Path, texts: Mapping[str, str]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for path in place.iterdir():
        path.unlink()
    for name, text in texts.items():
        (place / name).write_bytes(text.encode())
