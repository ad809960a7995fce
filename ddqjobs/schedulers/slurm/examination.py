"""Ask Slurm about itself and about jobs to come, for `ddqjobs doctor`. Nothing is submitted here."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence

from ddqjobs.base import process
from ddqjobs.base.errors import SchedulerError
from ddqjobs.base.findings import Line, error, ok, warning
from ddqjobs.schedulers.slurm.scheduler import FULL, environment
from ddqjobs.spec.site import Site

_ASK_S = 60.0
# What no node, partition, account or limit will ever allow. A controller that does not answer, and nodes that
# are down or busy, are told in the same way, and pass.
_REFUSED = re.compile(
    r"^(?:sbatch: )?(?:error: [Ii]nvalid |unrecognized option |allocation failure: (?:Invalid|User's group"
    r"|Requested (?:node configuration|time limit)|Job violates accounting|Job size|Access/permission))",
    re.MULTILINE,
)
_SETTING = re.compile(r"^(\w+)\s*=\s*(.*)$", re.MULTILINE)


def examine(site: Site) -> Iterator[Line]:
    """Yield whether Slurm answers, whether the site's limits are within its own, and who keeps accounts."""
    began = time.monotonic()
    settings, why = configuration()
    if why:
        remedy = "load Slurm's commands, or choose another --site; a controller that is down needs its admin"
        yield error("scheduler", f"Slurm cannot be asked: {why}", remedy)
        return
    took = time.monotonic() - began
    yield ok("scheduler", f"Slurm {settings.get('SLURM_VERSION', '?')} answers in {took:.2f} s")
    yield from _limits(site, settings)
    if "none" in settings.get("AccountingStorageType", "none"):
        yield ok("accounting", "none here: what leaves the queue is judged by its evidence")
    elif why := accounting():
        remedy = "states of ended jobs stay unknown until sacct answers; tell its admin"
        yield warning("accounting", f"sacct does not answer: {why}", remedy)
    else:
        yield ok("accounting", "sacct answers")


def _limits(site: Site, settings: dict[str, str]) -> Iterator[Line]:
    limits = site.limits
    largest = largest_array(settings)
    jobs = int(settings.get("MaxJobCount") or 10_000)
    if (limits.array_size or 1000) > largest:
        yield error("limits", f"arrays of {limits.array_size or 1000}, Slurm takes {largest}",
                    f"limits: {{array_size: {largest}}} in the site file")  # fmt: skip
    elif limits.jobs_in_queue > jobs:
        yield warning("limits", f"{limits.jobs_in_queue} jobs in the queue, Slurm takes {jobs} of all",
                      "lower limits.jobs_in_queue in the site file")  # fmt: skip
    else:
        yield ok("limits", f"arrays up to {largest}, {jobs} jobs of all users")


def configuration() -> tuple[dict[str, str], str]:
    """(what ``scontrol show config`` says, why it could not be asked)."""
    done = _run(["scontrol", "show", "config"])
    return ({}, words(done)) if done.code or done.timed_out else (settings(done.stdout), "")


def settings(text: str) -> dict[str, str]:
    """``Name = value`` lines of ``scontrol show config``. Pure."""
    return {name: value.strip() for name, value in _SETTING.findall(text)}


def largest_array(settings: Mapping[str, str]) -> int:
    """Return the most elements of an array; 1 where a cluster takes none (a MaxArraySize of 0).

    >>> [largest_array({"MaxArraySize": size}) for size in ("1001", "2", "0", "")]
    [1000, 1, 1, 1000]
    """
    return max(1, int(settings.get("MaxArraySize") or 1001) - 1)


def accounting() -> str:
    """Return why accounting does not answer; empty if it does."""
    done = _run(["sacct", "-X", "--noheader", "--starttime=now"])
    return words(done) if done.code or done.timed_out else ""


def refusal(options: Sequence[str]) -> str:
    """Return why Slurm would never take a job with these options, by ``sbatch --test-only``; empty if it
    would, now or later. It uses up a job id, and answers on stderr. Raise SchedulerError if it cannot be
    asked."""
    done = _run(["sbatch", "--test-only", *options, "--wrap=true"])
    if done.code == 0:
        return _too_long(options)
    if FULL.search(done.stderr):
        return ""
    if done.timed_out or not _REFUSED.search(done.stderr):
        raise SchedulerError(f"Slurm cannot be asked about a job: {words(done)}")
    return words(done)


def _too_long(options: Sequence[str]) -> str:
    """Return why a job that Slurm takes would never start: with EnforcePartLimits=NO its time may be above
    that of all of its partitions."""
    said = dict(option.removeprefix("--").split("=", 1) for option in options if "=" in option)
    # It shows either all partitions, hidden ones too, or the named ones.
    chosen = f"--partition={said['partition']}" if "partition" in said else "--all"
    done = _run(["sinfo", "--noheader", "--format=%P|%l", chosen])
    rows = [line.split("|") for line in done.stdout.splitlines() if "|" in line]
    limits = {name.rstrip("*"): limit for name, limit in rows if "partition" in said or name.endswith("*")}
    wanted = _duration(said.get("time", "")) or 0
    if done.code or not limits or any((_duration(limit) or math.inf) >= wanted for limit in limits.values()):
        return ""
    partitions = ", ".join(f"{name} ({limit})" for name, limit in limits.items())
    return f"its time is above the limit of partition {partitions}, so it would wait for ever"


def _duration(text: str) -> int | None:
    """Return the seconds of ``[D-]H:M:S``, ``M:S`` or ``M``, as Slurm writes times; None without a limit."""
    days, _, rest = text.rpartition("-")
    if not re.fullmatch(r"\d*", days) or not re.fullmatch(r"\d+(:\d+)*", rest):
        return None
    parts = [int(part) for part in rest.split(":")]
    if days or len(parts) == 3:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = 0, *(*parts, 0)[:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


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
