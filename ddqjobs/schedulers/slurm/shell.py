"""The directives of a job -> the command line of an interactive step with the same resources. Pure."""

from __future__ import annotations

from collections.abc import Sequence

# Of the options that a job's script carries, what makes no sense for an interactive step.
_BATCH_ONLY = (
    "--comment", "--ntasks-per-node", "--signal", "--open-mode", "--output", "--error", "--array", "--mail-",
    "--requeue", "--no-requeue", "--dependency", "--nodes",
)  # fmt: skip


def srun(directives: Sequence[str], *, terminal: bool) -> tuple[str, ...]:
    """Return ``srun`` with the options that the run's own script would carry, on one node."""
    kept = [option for option in directives if not option.startswith(_BATCH_ONLY)]
    return ("srun", "--nodes=1", "--ntasks=1", *kept, *(["--pty"] if terminal else []), "bash")
