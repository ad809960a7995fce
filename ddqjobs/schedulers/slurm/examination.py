"""What Slurm says of itself and of jobs to come: for `ddqjobs doctor`. Nothing is submitted here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ddqjobs.base import process
from ddqjobs.schedulers.slurm.scheduler import environment

_ASK_S = 60.0
_SETTING = re.compile(r"^(\w+)\s*=\s*(.*)$", re.MULTILINE)


def configuration() -> tuple[dict[str, str], str]:
    """(what ``scontrol show config`` says, why it could not be asked)."""
    done = _run(["scontrol", "show", "config"])
    return ({}, words(done)) if done.code or done.timed_out else (settings(done.stdout), "")


def settings(text: str) -> dict[str, str]:
    """``Name = value`` lines of ``scontrol show config``. Pure."""
    return {name: value.strip() for name, value in _SETTING.findall(text)}


def accounting() -> str:
    """Why accounting does not answer; empty if it does."""
    done = _run(["sacct", "-X", "--noheader", "--starttime=now"])
    return words(done) if done.code or done.timed_out else ""


def refusal(options: Sequence[str]) -> str:
    """Why Slurm would refuse a job with these options, by ``sbatch --test-only``; empty if it would not. It
    uses up a job id, and answers on stderr."""
    done = _run(["sbatch", "--test-only", *options, "--wrap=true"])
    return words(done) if done.code or done.timed_out else ""


def words(done: process.Completed) -> str:
    """The most telling line of what a command said."""
    if done.timed_out:
        return f"{done.argv[0]} gave no answer within {_ASK_S:g} s"
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    told = [line.removeprefix("allocation failure: ") for line in lines if "failure" in line]
    errors = [line.removeprefix("sbatch: error: ") for line in lines if "error" in line]
    return ": ".join(dict.fromkeys([*errors[:1], *told[:1]])) or (lines or ["it said nothing"])[-1]


def _run(argv: Sequence[str]) -> process.Completed:
    return process.run(argv, timeout=_ASK_S, env=environment())
