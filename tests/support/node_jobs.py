"""Commands of a project as jobs of its site, as ``env build --on-node`` runs them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ddqjobs.planning.catalog import Catalog
from ddqjobs.schedulers.base import Element, Scheduler, Submission
from ddqjobs.schedulers.registry import make_scheduler
from ddqjobs.spec.model import JobState, Resources
from ddqjobs.spec.site import Site
from ddqjobs.submission.node_folder import Request
from ddqjobs.submission.node_job import NodeJobs
from ddqjobs.submission.rendering import new_token
from ddqjobs.submission.script import ENV, Context, Renderer
from tests.support.trivial import TrivialProject, until


class NodeProject(TrivialProject):
    """A project and what a command on a node has said. ``hear`` is called with each line."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.forget()

    def forget(self) -> None:
        """Begins with nothing said."""
        self.said: list[str] = []
        self.hear: Callable[[str], object] = lambda _: None

    def declared(self) -> Site:
        """The site."""
        return Catalog(self.root).site(os.environ.get("DDQJOBS_SITE", "local"))

    def scheduler(self) -> Scheduler:
        """The site's scheduler, as a command finds it."""
        return make_scheduler(self.declared(), self.root)

    def node(self, *argv: str, gpus: int = 0, time_s: int = 600) -> int:
        """Runs a command as a job; its exit code."""
        site, resources = self.declared(), Resources(gpus=gpus, time_s=time_s)
        renderer = Renderer([root / "templates" for root in Catalog(self.root).files.roots])

        def script(context: Context) -> str:
            return renderer.node_command(site, context, resources, "a test", argv)

        def say(line: str) -> None:
            self.said.append(line)
            self.hear(line)

        return NodeJobs(self.scheduler(), site, self.root).run(
            Request(name=ENV, command=argv, resources=resources, site=site.name, follows=True),
            script,
            Context(results="", project=str(self.root), code="", token=new_token(), user="me"),
            say,
        )

    def folders(self) -> list[Path]:
        """Return the folders that jobs left."""
        submissions = self.root / ".jobs" / "submissions"
        return sorted(submissions.iterdir()) if submissions.is_dir() else []

    @contextlib.contextmanager
    def occupied(self) -> Iterator[None]:
        """A job that has all slots of the local site, until the end."""
        token, scheduler = new_token(), self.scheduler()
        folder = self.root / token
        folder.mkdir()
        (folder / "job.sh").write_text("sleep 600\n")
        one = (Element(index=0, run="r"),)
        submission = Submission(
            token=token,
            name="other",
            folder=str(folder),
            resources=Resources(cpus=1, time_s=600),
            elements=one,
        )
        job = scheduler.submit(submission)[0]
        until(lambda: scheduler.query([job])[job].state is JobState.RUNNING)
        try:
            yield
        finally:
            scheduler.cancel([job])
