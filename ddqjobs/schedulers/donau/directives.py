"""A job -> the options of its script's ``#DSUB`` lines. Pure."""

from __future__ import annotations

from ddqjobs.schedulers.backend import Job
from ddqjobs.schedulers.donau.options import Donau


def options(donau: Donau, job: Job) -> list[str]:
    """Return the options of the one script known to have run at BSCC (docs/reference/donau.md), plus a
    time limit."""
    assert donau.dialect is not None, "checked when the site file was read"
    option, r = donau.dialect.options, job.resources
    items = [f"cpu={r.cpus}", f"gpu={r.gpus}" if r.gpus else "", f"mem={r.memory_mb}" if r.memory_mb else ""]
    out = f"{job.out}/%J.out"
    pairs = [
        (option.name, job.name),
        (option.account, donau.account.replace("{user}", job.user)),
        (option.queue, donau.queue),
        (option.label, donau.label),
        (option.job_type, donau.job_type),
        (option.resources, "'" + ";".join(filter(None, items)) + "'"),
        (option.replicas, str(r.nodes)),
        (option.nodes, str(r.nodes)),
        (option.time, str(r.time_s)),
        (option.requeue, f"'{donau.requeue.value}'" if donau.requeue else ""),
        (option.stderr, out),
        (option.stdout, out),
    ]
    return [f"{flag} {value}" for flag, value in pairs if flag and value] + list(donau.extra)
