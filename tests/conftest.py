"""Fixtures of several test files."""

import os
import signal
from typing import Any

import pytest

from tests.support.donau import donau, on_donau
from tests.support.environments import place
from tests.support.slurm import cluster, lab, on_slurm
from tests.support.trivial import trivial

__all__ = ["cluster", "donau", "lab", "on_donau", "on_slurm", "place", "trivial"]

# A shell starts background commands with Ctrl-C ignored, and whatever we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A worker of pytest-xdist is told the size of a terminal that is not the one of our tests.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)


# With pytest-xdist one worker runs the cluster's tests from beginning to end, which mostly wait for its
# timers, another the trainings, which mostly compute; the other files keep both busy to the end.
def _group(nodeid: str) -> str:
    """Tests of one group run in one worker; the controller knows nothing of a test but its name."""
    file = nodeid.partition("::")[0]
    return "slurm" if "slurm" in nodeid else "training" if "/training/" in file else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the groups that take longest."""
    for item in items:
        wanted = "slurm" if "cluster" in getattr(item, "fixturenames", ()) else "training"
        if wanted == "slurm" or item.get_closest_marker("training"):
            assert _group(item.nodeid) in ("slurm", wanted), f"{item.nodeid} is of group {wanted}"
    first = {"slurm": 0, "training": 1}
    items.sort(key=lambda item: first.get(_group(item.nodeid), 2))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One worker per group. (``--dist loadgroup`` knows no groups with pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return ByGroup(config, log)
