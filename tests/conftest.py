"""Fixtures of several test files, and the tier of each test.

A test's folder decides its tier. ``make fast`` runs ``tests/unit``, ``make test`` all folders. Two marks
move single tests: ``slow`` from fast to test, for more than about 3 s; ``long`` to
``make test-long``, for storms, corpora and all models, where one representative stays in ``make test``.
"""

import os
import signal
from collections import Counter
from typing import Any

import pytest

from ddqjobs.base.paths import PACKAGE
from tests.support.donau import donau, on_donau
from tests.support.environments import place
from tests.support.nano import undisturbed
from tests.support.paths import ROOT
from tests.support.slurm import cluster, lab, on_slurm
from tests.support.trivial import trivial
from tests.support.upgrade import upgraded

__all__ = ["cluster", "donau", "lab", "on_donau", "on_slurm", "place", "trivial", "undisturbed", "upgraded"]

# A shell starts background commands with Ctrl-C ignored, and whatever we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What whoever starts the tests has in the shell, and what pytest-xdist tells its workers of a terminal. A
# test that is about one of these sets it.
_OF_THE_SHELL = (
    *("COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "PAGER", "PYTHONPATH"),
    *("PYTHONWARNINGS", "PYTHONUSERBASE", "LD_PRELOAD", "LD_AUDIT"),
    *("DDQJOBS_SITE", "DDQJOBS_PROJECT", "CUDA_VISIBLE_DEVICES"),
)
for name in list(os.environ):
    if name in _OF_THE_SHELL or name.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SRUN_")):
        del os.environ[name]
# Servers of the tests' own are not behind the proxy that packages may be.
for name in ("no_proxy", "NO_PROXY"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost,127.0.0.1"]))

# Fixtures that need more than this machine's Python and shell, and the folders where their tests belong.
_FOLDERS = {"cluster": ("slurm", "training"), "donau": ("donau", "training")}
# Trainings that share nothing with the others, and take as long as all of them.
_ALONE = ("tests/training/test_in_environments.py", "tests/training/test_zoo.py")


def _folder(nodeid: str) -> str:
    """Return the folder below tests/ of a test."""
    return nodeid.split("/")[1]


def _group(nodeid: str) -> str:
    """Return the group of a test: tests of one group run in one worker of pytest-xdist.

    One worker runs the cluster's tests from beginning to end, which mostly wait for its timers, another the
    trainings, of which several look at one nano; the other files keep all workers busy to the end. The
    controller knows nothing of a test but its name.
    """
    folder, file = _folder(nodeid), nodeid.partition("::")[0]
    return folder if folder in ("slurm", "training") and file not in _ALONE else file


def pytest_configure(config: pytest.Config) -> None:
    """Check that tests of an installed ddqjobs do not see the checkout's: see tools/test_pythons.py."""
    if config.getoption("importmode") == "append":
        assert not PACKAGE.is_relative_to(ROOT / "ddqjobs"), f"{PACKAGE} is not the installed one"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Check that each test is in its folder, and begin with the groups that take longest."""
    for item in items:
        folder = _folder(item.nodeid)
        for fixture in getattr(item, "fixturenames", ()):
            folders = _FOLDERS.get(fixture, (folder,))
            assert folder in folders, f"{item.nodeid} needs {fixture}: it belongs in tests/{folders[0]}"
    first = ("slurm", "training", *_ALONE)
    items.sort(key=lambda item: first.index(group) if (group := _group(item.nodeid)) in first else len(first))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole groups with ``--dist loadscope``. (``loadgroup`` knows none with pytest 9.2.)"""
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return ByGroup(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print one line for each reason for which tests did not run."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if reason.startswith("could not import"):
            reason += " (make test runs what needs it in the built environments)"
        reasons[reason] += 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"NOT RUN ({count}): {reason}", yellow=True, bold=True)
