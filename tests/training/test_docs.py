"""The commands of the documentation, run in a project made as its pages say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ddqjobs.base import process
from tests.support.paths import ROOT

LIMIT_S = 7200.0


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
def test_every_line_of_the_pages_that_can_run_here_does(tmp_path: Path) -> None:
    argv = [sys.executable, str(ROOT / "tools/run_docs.py"), str(tmp_path / "home")]
    done = process.run(argv, timeout=LIMIT_S, cwd=ROOT)
    assert done.code == 0, done.stdout[-8000:] + done.stderr[-2000:]
