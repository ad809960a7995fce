"""Choose what `ddqjobs doctor` looks at: the runs to come of one experiment, and the site on which they will
run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ddqjobs.base.paths import expanded
from ddqjobs.environments.on_site import Environments
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Run
from ddqjobs.spec.site import Site
from ddqjobs.submission.workspace import Workspace


@dataclass(frozen=True)
class Subject:
    """An experiment's runs that are not done, on a site."""

    workspace: Workspace
    environments: Environments
    runs: Sequence[Run]

    @property
    def site(self) -> Site:
        """The site."""
        return self.workspace.site

    @property
    def experiment(self) -> Experiment:
        """The experiment."""
        return self.workspace.loaded.experiment

    @property
    def project(self) -> Path:
        """The project's folder."""
        return self.workspace.catalog.project

    @property
    def environment_names(self) -> list[str]:
        """The environments that the runs need, each once."""
        return list(dict.fromkeys(r.environment for r in self.runs if r.environment))

    @cached_property
    def paths(self) -> list[tuple[str, Path]]:
        """(as written, path here) of inputs and code trees that the runs name."""
        texts = [i.path for r in self.runs for _, i in r.inputs if i.path] + [r.workdir for r in self.runs]
        named = dict.fromkeys(text for text in texts if text)
        return [(text, expanded(self.project, text)) for text in named]
