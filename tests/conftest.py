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

# What a worker runs from beginning to end, longest first: the one cluster, which mostly waits for its own
# timers, and the trainings, which mostly compute. The other files keep the workers busy to the end.
_GROUPS = ("slurm", "training")


def _group(item: pytest.Item) -> str:
    if "cluster" in getattr(item, "fixturenames", ()):
        return "slurm"
    return "training" if item.get_closest_marker("training") else item.path.name


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tells pytest-xdist which tests belong together, and begins with those that take longest."""
    groups = {item: _group(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _GROUPS.index(groups[item]) if groups[item] in _GROUPS else len(_GROUPS))
