"""A job -> the options of its script's ``#SBATCH`` lines. Pure."""

from __future__ import annotations

from ddqjobs.base.units import seconds
from ddqjobs.schedulers.backend import Job
from ddqjobs.schedulers.slurm.options import further, generic_resources, lines, of
from ddqjobs.spec.site import Site


def options(site: Site, job: Job) -> list[str]:
    """Return the options in the script's order: those that name the job first, free ones last."""
    r, slurm = job.resources, of(job.resources)
    array = _array(job, site.limits.array_running)
    pairs = [
        ("--nodes", r.nodes),
        ("--ntasks-per-node", 1),
        ("--cpus-per-task", r.cpus),
        ("--gres", generic_resources(slurm, r.gpus)),
        ("--mem", f"{_mebibytes(r.memory_mb)}M" if r.memory_mb else ""),
        ("--time", _time(r.time_s)),
        ("--signal", f"B:USR1@{_warning(site, r.time_s)}"),
        ("--open-mode", "append"),
        ("--output", f"{job.out}/" + ("%a.log" if array else "0.log")),
        ("--array", array),
    ]
    asked = [f"{flag}={value}" for flag, value in pairs if value != ""]
    both = [f"--job-name={job.name}", f"--comment={job.token}"]
    return [*both, *lines(slurm, job.user), *asked, "--requeue", *further(slurm)]


def _array(job: Job, running: int) -> str:
    """Return the value of ``--array``; empty for an only element of index 0, which is no array."""
    if job.count == 1:
        return f"{job.first}" if job.first else ""
    return f"{job.first}-{job.first + job.count - 1}" + (f"%{running}" if running else "")


def _mebibytes(megabytes: int) -> int:
    """Return 10^6 bytes in Slurm's M, which are 2^20 bytes: a node of 250 GiB has ``RealMemory=256000``."""
    return round(megabytes * 10**6 / 2**20)


def _warning(site: Site, time_s: int) -> int:
    """Return how many seconds before the limit a job is asked to stop: at most half of its time, so that it
    is not asked as soon as it begins."""
    return min(seconds(site.warning), time_s // 2)


def _time(time_s: int) -> str:
    return f"{time_s // 86400}-{time_s // 3600 % 24:02d}:{time_s // 60 % 60:02d}:{time_s % 60:02d}"
