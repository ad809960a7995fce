"""Tell whether this attempt may still speak for its run. Standard library only.

A node that came back from the dead goes on computing although its job was given up, or was started again
elsewhere. Such an attempt must write no checkpoint and no product any more; it finds out here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Mapping, NamedTuple


class Job(NamedTuple):
    """The job's folders and files, from its environment; None outside of a job."""

    run_dir: Path | None
    attempt: int
    claim: Path | None
    stop: Path | None

    def lost(self) -> str:
        """Return why this attempt may not speak for its run, in one line; empty while it may."""
        return self._claim_lost() or self._superseded()

    def stop_asked(self) -> bool:
        """Return whether the stop file is there."""
        return self.stop is not None and self.stop.exists()

    def given_up(self) -> str:
        """As :meth:`lost`, while the work goes on: a claim that cannot be read is no reason to end it. File
        servers have their moments; before anything is written :meth:`lost` is asked."""
        readable = self.claim is not None and self.claim.exists()
        return (self._claim_lost() if readable else "") or self._superseded()

    def _claim_lost(self) -> str:
        if self.claim is None:
            return ""
        try:
            with self.claim.open(encoding="utf-8", errors="replace") as stream:
                fields = stream.readline(4096).split()
        except OSError as error:
            return f"claim {self.claim.name} cannot be read: {error.strerror}"
        if fields[:1] == ["run"]:
            return ""
        return f"claim {self.claim.name} says {fields[0] if fields else 'nothing'!r}, not 'run'"

    def _superseded(self) -> str:
        newest = max(attempts(self.run_dir), default=0) if self.run_dir is not None else 0
        return f"attempt {newest} is newer than attempt {self.attempt}" if newest > self.attempt else ""


def from_environment(variables: Mapping[str, str] = os.environ) -> Job:
    """Return the job of this process (docs/reference/job-contract.md); without its variables one that may do
    all."""
    number = variables.get("DDQJOBS_ATTEMPT", "")
    return Job(
        _path(variables, "DDQJOBS_RUN_DIR"),
        int(number) if number.isdigit() else 1,
        _path(variables, "DDQJOBS_CLAIM"),
        _path(variables, "DDQJOBS_STOP"),
    )


def attempts(run_dir: Path) -> list[int]:
    """Numbers of the attempts of a run, ascending; empty without any."""
    try:
        names = [entry.name for entry in (run_dir / "attempts").iterdir()]
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isdigit() and name.isascii())


def _path(variables: Mapping[str, str], name: str) -> Path | None:
    value = variables.get(name, "")
    return Path(value) if value else None
