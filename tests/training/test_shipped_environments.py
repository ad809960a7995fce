"""The shipped environments of the miniature, built anew and verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddqjobs.environments import environment as environments
from ddqjobs.environments.build import build
from ddqjobs.environments.environment import load
from ddqjobs.spec.shipped import Files


@pytest.mark.parametrize("name", ["mini-legacy", "mini-new"])
def test_shipped_environments_build(name: str, tmp_path: Path) -> None:
    environment = load(name, Files(tmp_path))
    ready = build(environment, tmp_path / "environments", progress=print)
    assert ready.packages == environments.pins(environment.lock)
    assert '"ok": true' in ready.checks["ops"].output
