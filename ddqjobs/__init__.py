"""ddqjobs: from one experiment file to an AP table that says *reproduced* or *not*.

>>> import ddqjobs
>>> project = ddqjobs.open_project(".")
>>> project.results("mini")  # a pandas DataFrame
"""

from __future__ import annotations

from ddqjobs.base.version import VERSION as __version__

TYPE_CHECKING = False  # typing takes longer to import than the rest of a start
if TYPE_CHECKING:
    from ddqjobs.project import Project, open_project

__all__ = ["Project", "__version__", "open_project"]


def __getattr__(name: str) -> object:
    # Late, because `ddqjobs --help` and the job side must not pay for the front door.
    if name in ("Project", "open_project"):
        from ddqjobs import project

        return getattr(project, name)
    raise AttributeError(f"module 'ddqjobs' has no attribute {name!r}")
