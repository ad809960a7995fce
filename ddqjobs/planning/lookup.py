"""Finds experiments and sites by name or by file, and the runs of an experiment in a hurry."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ddqjobs.base.errors import InputError, MissingError, nearest
from ddqjobs.base.text import clean
from ddqjobs.planning import matrix
from ddqjobs.spec import grid, reader
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Run
from ddqjobs.spec.shipped import EXPERIMENTS, SITES, Files, shipped_root

_LONGEST_BASE = 1000  # characters of a path


class Lookup:
    """The files of a project's folder and those that ship, by name."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.files = Files(project)

    def experiments(self) -> dict[str, Path]:
        """Name -> file of all experiments, the project's own first."""
        return self.files.names(EXPERIMENTS)

    def own_experiments(self) -> dict[str, Path]:
        """Those in the project's own folder."""
        return {name: path for name, path in self.experiments().items() if path.is_relative_to(self.project)}

    def sites(self) -> dict[str, Path]:
        """Name -> file of all sites."""
        return self.files.names(SITES)

    def find(self, name: str | None) -> Path:
        """The experiment's file. ``None`` means the project's only one. Raises MissingError listing them."""
        known = self.experiments()
        if name is None:
            own = self.own_experiments() or known
            if len(own) == 1:
                return self.files.inside(next(iter(own.values())))
            raise MissingError(f"name an experiment: {', '.join(own) or 'there is none in this project'}")
        if name in known:
            return self.files.inside(known[name])
        if is_file_name(name):
            path = Path(name)
            if path.is_file():
                return path
            raise MissingError(f"{clean(name)}: no such file")
        raise self.unknown("experiment", name, known)

    def unknown(self, what: str, name: str, known: Iterable[str]) -> MissingError:
        """Return the error for a name of no experiment or site, with what is probably wrong."""
        known, pattern = list(known), EXPERIMENTS if what == "experiment" else SITES
        reasons = f"{nearest(name, known)}{self.files.misnamed(pattern, name)}"
        if not any((self.project / folder).is_dir() for folder in ("experiments", "results")):
            reasons += f"; {self.project} is no project, go to yours or name it with -C DIR"
        return MissingError(f"unknown {what} '{clean(name)}'{reasons}; there are: {', '.join(known)}")

    def runs(self, name: str) -> tuple[tuple[Run, ...], tuple[Path, ...]]:
        """Return the runs of an experiment, without digests, and the files that they were read from.

        For completion: its types are checked, and nothing else, which would take as long again to import.
        Raises InputError, MissingError, UnmatchedError.
        """
        read = reader.load(self.find(name), Experiment, self.base_of_experiment)
        if any(grid.size(task) > grid.MOST for task in read.value.tasks.values()):
            raise InputError(f"{clean(name)}: a grid of more than {grid.MOST:,} combinations")
        return matrix.expand(read.value), read.files

    def base_of_experiment(self, base: str, named_by: Path) -> Path:
        """Return the file that `base:` of an experiment means. Raise MissingError, InputError."""
        return self._resolve(base, named_by, self.experiments(), "experiment")

    def base_of_site(self, base: str, named_by: Path) -> Path:
        """Return the file that `base:` of a site means. Raise MissingError, InputError."""
        return self._resolve(base, named_by, self.sites(), "site")

    def _resolve(self, base: str, named_by: Path, known: dict[str, Path], what: str) -> Path:
        if is_file_name(base):
            return self._inside(named_by.parent / base, base, named_by)
        if base not in known:
            raise MissingError(
                f"unknown {what} '{base}'{nearest(base, known)}; there are: {', '.join(known)}"
            )
        if known[base].resolve() == named_by.resolve():  # an override that inherits what it overrides
            shipped = shipped_root() / known[base].relative_to(self.project)
            if shipped.is_file():
                return shipped
        return self.files.inside(known[base])

    def _inside(self, path: Path, base: str, named_by: Path) -> Path:
        """Return the path of a base. Raise InputError if it leads out of the project and of the folder of the
        file that names it: a file of somebody else's must not show the lines of a private one."""
        if len(base) > _LONGEST_BASE:
            raise InputError(f"a path of {len(base)} characters; at most {_LONGEST_BASE} are allowed")
        real = Path(os.path.realpath(path))
        roots = (*self.files.roots, Path(os.path.realpath(named_by.parent)))
        if not any(real.is_relative_to(root) for root in roots):
            raise InputError(f"'{clean(base)}' leads out of the project; copy the file into it")
        return path


def is_file_name(text: str) -> bool:
    """Return whether the user means a file rather than a name."""
    return "/" in text or text.endswith((".yaml", ".yml"))
