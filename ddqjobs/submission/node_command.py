"""A command of ours as a job of a site: what `env build --on-node` runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ddqjobs.base.process import user
from ddqjobs.planning.catalog import Catalog
from ddqjobs.schedulers.registry import make_scheduler
from ddqjobs.spec.model import Resources
from ddqjobs.spec.site import Site
from ddqjobs.submission.node_folder import Request
from ddqjobs.submission.node_job import NodeJobs
from ddqjobs.submission.rendering import new_token, renderer_of
from ddqjobs.submission.script import ENV, Context


def run(
    catalog: Catalog,
    site: Site,
    base_dir: Path,
    argv: Sequence[str],
    resources: Resources,
    say: Callable[[str], None],
) -> int:
    """Run the command for a project and hand on its output; return its exit code. ``base_dir`` is for the
    job's files. Raise SchedulerError, InputError."""
    root = str(catalog.project.absolute())
    command = (*argv, "--project", root)
    renderer = renderer_of(catalog)
    return NodeJobs(make_scheduler(site, catalog.project), site, base_dir.absolute()).run(
        Request(name=ENV, command=command, resources=resources, site=site.name, follows=True),
        lambda context: renderer.node_command(site, context, resources, " ".join(argv[2:]), command),
        Context(results="", project=root, code="", token=new_token(), user=user()),
        say,
    )
