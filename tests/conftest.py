"""Fixtures of several test files."""

import signal

import pytest
from donau_support import donau, on_donau
from environment_support import place
from slurm_support import cluster, lab, on_slurm
from support import trivial

__all__ = ["cluster", "donau", "lab", "on_donau", "on_slurm", "place", "trivial"]

# A shell starts background commands with Ctrl-C ignored, and whatever we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What one worker runs from beginning to end, longest first: the cluster's tests, which mostly wait for its
# timers, and the trainings, which mostly compute. The other files keep the workers busy to the end.
_GROUPS = ("slurm", "training")


def _group(item: pytest.Item) -> str:
    if "cluster" in getattr(item, "fixturenames", ()):
        return "slurm"
    return "training" if item.get_closest_marker("training") else item.path.name


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tells pytest-xdist which tests belong together."""
    item.add_marker(pytest.mark.xdist_group(_group(item)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the groups that take longest."""
    items.sort(key=lambda item: _GROUPS.index(g) if (g := _group(item)) in _GROUPS else len(_GROUPS))
