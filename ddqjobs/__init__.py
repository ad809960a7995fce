"""ddqjobs: from one experiment file to an AP table that says *reproduced* or *not*.

>>> import ddqjobs
>>> project = ddqjobs.open_project(".")
>>> plan = project.plan("nano")
>>> [planned.run.name for planned in plan.runs if planned.status is ddqjobs.Status.ELIGIBLE][:2]
['data', 'initial']
>>> table = project.results("nano")  # a pandas DataFrame
>>> report = project.report(plan)
>>> report.outcome is ddqjobs.Outcome.UNKNOWN
True

What ``__all__`` names is stable: docs/reference/python.md says what that means.
"""

from __future__ import annotations

from ddqjobs.base.version import VERSION as __version__

TYPE_CHECKING = False  # typing takes longer to import than the rest of a start
if TYPE_CHECKING:
    from ddqjobs.base.errors import (
        DdqjobsError,
        EnvironmentNotReadyError,
        InputError,
        MissingError,
        RunsFailedError,
        SchedulerError,
        StateError,
        TransferError,
    )
    from ddqjobs.planning.filters import Filters
    from ddqjobs.project import Project, SubmitOptions, open_project
    from ddqjobs.report.document import Report
    from ddqjobs.report.verdict import Outcome
    from ddqjobs.spec.model import JobState, Plan, PlannedRun, Product, Run, Status

__all__ = [
    "DdqjobsError",
    "EnvironmentNotReadyError",
    "Filters",
    "InputError",
    "JobState",
    "MissingError",
    "Outcome",
    "Plan",
    "PlannedRun",
    "Product",
    "Project",
    "Report",
    "Run",
    "RunsFailedError",
    "SchedulerError",
    "StateError",
    "Status",
    "SubmitOptions",
    "TransferError",
    "__version__",
    "open_project",
]
# Module -> what comes from it; imported late, because the command line and jobs must not pay for it.
_HOMES = {
    "ddqjobs.base.errors": (
        "DdqjobsError", "EnvironmentNotReadyError", "InputError", "MissingError", "RunsFailedError",
        "SchedulerError", "StateError", "TransferError",
    ),
    "ddqjobs.planning.filters": ("Filters",),
    "ddqjobs.project": ("Project", "SubmitOptions", "open_project"),
    "ddqjobs.report.document": ("Report",),
    "ddqjobs.report.verdict": ("Outcome",),
    "ddqjobs.spec.model": ("JobState", "Plan", "PlannedRun", "Product", "Run", "Status"),
}  # fmt: skip


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            import importlib

            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'ddqjobs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
