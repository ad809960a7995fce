"""Projects with results that an older ddqjobs made (tools/record_results.py)."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.paths import RECORDED, ROOT

ARCHIVES = sorted(RECORDED.glob("results-*.tar.xz"))


@pytest.fixture(params=ARCHIVES, ids=[path.name.removesuffix(".tar.xz") for path in ARCHIVES])
def upgraded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project with recorded results, on this machine's local site."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    site = {
        "name": "local", "scheduler": "local", "grace": "0s", "python": sys.executable,
        "environments": str(ROOT / ".environments"),
    }  # fmt: skip
    (tmp_path / "templates" / "local").mkdir(parents=True)
    (tmp_path / "templates" / "local" / "site.yaml").write_text(json.dumps(site))
    return tmp_path
