"""Data sets and weights of an experiment on one site: what is declared, what is there, what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ddqjobs.base.errors import MissingError, nearest
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.paths import expanded
from ddqjobs.data import coco, links, weights
from ddqjobs.data.annotation_file import Progress
from ddqjobs.data.findings import Finding
from ddqjobs.data.links import Link
from ddqjobs.data.mend import mend
from ddqjobs.data.weights import Wanted
from ddqjobs.spec.dataset import Dataset
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Run
from ddqjobs.spec.site import Site


class Verified(Frozen, frozen=True, kw_only=True):
    """The findings about a data set's split; nothing: it is whole."""

    dataset: str
    split: str
    findings: tuple[Finding, ...] = ()
    opened: int = 0  # images looked into
    images: int = 0  # annotated images that are there


class Data:
    """The experiment's data, as far as ``runs`` need it (None: all of it)."""

    def __init__(
        self,
        experiment: Experiment,
        project: Path,
        site: Site,
        runs: Sequence[Run] | None = None,
        classes: Callable[[], Mapping[str, tuple[str, ...]]] = dict,
    ) -> None:
        """``classes``: configuration -> the classes that it declares, of the runs, asked for by verify."""
        self._experiment, self.project, self._site, self._runs = experiment, project, site, runs
        self._classes = classes

    def links(self) -> list[Link]:
        """Links of data sets in code trees. Raises MissingError if the experiment declares none."""
        if not any(d.link for d in self._experiment.datasets.values()):
            raise MissingError(self._nothing("links of data sets", "datasets: NAME: link"))
        return links.look(self._experiment, self.project, self._codes())

    def weights(self) -> list[Wanted]:
        """Weights with what is known of them. Raises MissingError if the experiment declares none."""
        if not self._experiment.weights:
            raise MissingError(self._nothing("weights", "weights"))
        return weights.wanted(self._experiment, self.project, self._site, self._runs)

    def splits(self, names: Sequence[str] = ()) -> list[tuple[str, str]]:
        """(data set, split) to verify. Raises MissingError for a name of a split that there is not."""
        declared = self._experiment.datasets.values()
        there = list(dict.fromkeys(split for dataset in declared for split in dataset.splits))
        if not there:
            raise MissingError(self._nothing("splits of a data set", "datasets: NAME: splits"))
        for name in names:
            if name not in there:
                raise MissingError(
                    f"unknown split '{name}'{nearest(name, there)}; there are: {', '.join(there)}"
                )
        return [
            (name, split)
            for name, dataset in self._datasets().items()
            for split in dataset.splits
            if not names or split in names
        ]

    def verify(self, dataset: str, split: str, sample: int | None, progress: Progress) -> Verified:
        """Look at one split, opening ``sample`` of its images, or all."""
        declared = self._experiment.datasets[dataset]
        root = expanded(self.project, declared.path)
        # Which of several data sets a configuration reads is not known: its classes then say.
        only = len(self._experiment.datasets) == 1
        report = coco.examine(
            root, declared, declared.splits[split], self._classes(), sample, progress, only=only
        )
        return Verified(
            dataset=dataset,
            split=split,
            findings=report.findings,
            opened=report.opened,
            images=report.images,
        )

    def mend(self, dataset: str, split: str, out: Path) -> dict[str, int]:
        """Write a split's mended annotations to ``out``; return what was mended, and how often."""
        declared = self._experiment.datasets[dataset]
        return mend(expanded(self.project, declared.path) / declared.splits[split].annotations, out)

    def _codes(self) -> set[str] | None:
        return None if self._runs is None else {run.code for run in self._runs}

    def _datasets(self) -> dict[str, Dataset]:
        codes = self._codes()
        declared = self._experiment.datasets.items()
        return {n: d for n, d in declared if codes is None or d.codes is None or codes & {*d.codes}}

    def _nothing(self, what: str, key: str) -> str:
        name = self._experiment.name
        return f"experiment {name} declares no {what}; `ddqjobs docs data` says how (key `{key}:`)"
