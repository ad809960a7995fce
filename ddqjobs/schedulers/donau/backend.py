"""Donau as a backend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ddqjobs.base.errors import StateError
from ddqjobs.base.findings import Line
from ddqjobs.base.units import seconds
from ddqjobs.schedulers.backend import Backend, Found, Job, Shell, Surroundings
from ddqjobs.schedulers.base import Capabilities, Scheduler, Submission
from ddqjobs.schedulers.donau import checks, directives, options
from ddqjobs.spec.site import Site


class DonauBackend(Backend):
    """Donau."""

    name = options.NAME
    site_section = options.Donau
    directive = "#DSUB"
    allowed = re.compile(r"[A-Za-z0-9@._:=;,/%+\[\]()*!'\" -]*")

    def check_site(self, site: Site) -> Found:
        return checks.problems(site)

    def capabilities(self, site: Site) -> Capabilities:
        """No arrays: no variable tells a job its index. Dependencies, and nodes to avoid, where the site says
        that they work."""
        donau = options.of(site)
        return Capabilities(
            dependencies=donau.dependencies, avoids=donau.avoid, restarts=False, marks=True, probes=False
        )

    def connect(self, site: Site, project: Path) -> Scheduler:
        from ddqjobs.schedulers.donau.scheduler import DonauScheduler

        return DonauScheduler(
            site.name,
            options.of(site),
            submit_s=seconds(site.submit_timeout),
            calls_per_minute=site.limits.calls_per_minute,
        )

    def directives(self, site: Site, job: Job) -> list[str]:
        return directives.options(options.of(site), job)

    def submit_words(self, site: Site, submission: Submission) -> list[str]:
        from ddqjobs.schedulers.donau.scheduler import submit_words

        dialect, after = options.of(site).dialect, submission.elements[0].after
        return submit_words(dialect, str(submission.script), after, submission.avoid) if dialect else []

    def job_id(self, site: Site) -> Sequence[str]:
        return options.of(site).launch.job

    def values(self, site: Site) -> Mapping[str, object]:
        donau = options.of(site)
        return {"donau": donau, "meet_s": seconds(donau.launch.meet)}

    def examine(self, site: Site, surroundings: Surroundings) -> Iterator[Line]:
        from ddqjobs.schedulers.donau import examination

        return examination.examine(examination.context(site, surroundings), surroundings.facts)

    def shell(self, site: Site, job: Job, *, terminal: bool, named: Sequence[str]) -> Shell:
        raise StateError(
            f"site {site.name}: nothing is known of interactive jobs in Donau (`ddqjobs docs donau`); "
            "`ddqjobs submit EXPERIMENT RUN --dry-run` shows the run's script"
        )
