"""The outcome of a check of configurations. Pure."""

from __future__ import annotations

import msgspec

from ddqjobs.base.errors import Problem
from ddqjobs.base.frozen import Frozen


class Finding(Frozen, frozen=True, kw_only=True):
    """One thing that is wrong with the configuration of some runs."""

    file: str  # where the experiment says it
    line: int
    runs: tuple[str, ...]
    environment: str
    level: str
    kind: str
    key: str
    text: str
    nearest: str = ""

    def problem(self) -> Problem:
        """Return the finding as a line of the experiment's file."""
        more = f" and {len(self.runs) - 1} more" if self.runs[1:] else ""
        near = f"; the nearest is {self.nearest}" if self.nearest else ""
        return Problem(self.file, self.line, f"{self.runs[0]}{more}: {self.text}{near}")


class Resolved(Frozen, frozen=True, kw_only=True):
    """The form of a configuration that was looked at, with its options."""

    runs: tuple[str, ...]
    environment: str
    configuration: dict[str, object]


class Checked(Frozen, frozen=True, kw_only=True):
    """The outcome of a check."""

    runs: int = 0  # that load a configuration
    total: int = 0  # configurations that they load: one for each command, environment and set of options
    configurations: int = 0  # that were looked at
    passed: int = 0  # that had been looked at before, or are fine
    not_checked: int = 0  # that could not be looked at, for the reasons in `unchecked`
    findings: tuple[Finding, ...] = ()
    unchecked: dict[str, str] = msgspec.field(default_factory=dict)  # environment -> why it gave no answer
    resolved: tuple[Resolved, ...] = ()  # of those that were looked at and load
    notes: tuple[str, ...] = ()  # what each process said of itself: seconds, memory

    @property
    def errors(self) -> list[Finding]:
        """Return the findings that keep runs from being submitted."""
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def reasons(self) -> list[str]:
        """Return a line for each environment that gave no answer."""
        return [
            f"not checked {f'in environment {name}' if name else 'without an environment'}: {why}"
            for name, why in self.unchecked.items()
        ]
