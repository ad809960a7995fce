"""Reads and checks experiments and sites by name or by file."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ddqjobs.base import secrets
from ddqjobs.base.errors import DdqjobsError, InputError, Problem
from ddqjobs.base.paths import PACKAGE, expanded
from ddqjobs.environments import environment
from ddqjobs.planning import canary, matrix, outside, sections
from ddqjobs.planning.digest import Digester, Find
from ddqjobs.planning.fingerprint import Fingerprints
from ddqjobs.planning.lookup import Lookup, is_file_name
from ddqjobs.planning.outside import Outside
from ddqjobs.spec import reader
from ddqjobs.spec.check import experiment as check
from ddqjobs.spec.check import inherited
from ddqjobs.spec.check import site as check_site
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.hints import hints, hints_of_site
from ddqjobs.spec.model import Run
from ddqjobs.spec.site import Site


@dataclass(frozen=True)
class Loaded:
    """An experiment with its runs (digests included) and the folder that its configurations lie below."""

    experiment: Experiment
    runs: tuple[Run, ...]
    path: Path
    absent_configs: frozenset[str] = frozenset()  # named, but not below experiments/
    trees: Mapping[str, str] = field(default_factory=dict)  # code -> state of its tree; jobs compare it
    warnings: tuple[str, ...] = ()
    unfollowed: tuple[str, ...] = ()  # what configurations build on that no digest covers
    hints: tuple[str, ...] = ()  # what is allowed and surely not meant, with file and line
    canaries: tuple[Run, ...] = ()  # runs of the plan once they were submitted (`submit --canary`)
    line_of: Callable[[tuple[str | int, ...]], tuple[str, int]] = lambda _: ("", 0)  # of a key: file, line


class Catalog(Lookup):
    """The files of a project's folder and those that ship."""

    def __init__(self, project: Path) -> None:
        super().__init__(project)
        self._sites: dict[str, reader.Document[Site]] = {}  # those that were read, by their name

    def inheriting(self, name: str) -> list[str]:
        """Return the project's own experiments whose `base` is this one."""
        names_it = re.compile(rf"(?m)^base: *['\"]?{re.escape(name)}['\"]? *(#.*)?$")
        own = self.own_experiments().items()
        return [n for n, path in own if names_it.search(path.read_text(encoding="utf-8", errors="replace"))]

    def environments(self) -> dict[str, Path]:
        """Name -> declaration of all environments."""
        return environment.declared(self.files)

    def load(self, name: str | None) -> Loaded:
        """Reads, checks and expands an experiment. Raises InputError with all problems of its files."""
        path = self.find(name)
        read, runs = self._expanded(path)
        find = self.configs_of(path)
        fingerprints = Fingerprints(self.project)
        trees = {name: fingerprints.tree(code.path) for name, code in read.value.codes.items() if code.path}
        environments = self._environments(read.value)
        digester = Digester(
            find,
            find_module,
            {name: environment.identity(environments[name])[:12] for name in environments},
            trees=trees,
            file=fingerprints.file,
            source=fingerprints.source,
        )
        named = {run.config for run in runs if "::" not in run.config}  # mmdet::... is the environment's
        absent = frozenset(c for c in named if c and find(c) is None)
        canaries = canary.canaries(read.value, runs)
        digested = digester.digest_all(read.value, (*runs, *canaries))
        fingerprints.save()
        runs, canaries = digested[: len(runs)], digested[len(runs) :]
        return Loaded(
            read.value,
            runs,
            path,
            absent,
            trees,
            tuple(fingerprints.warnings),
            digester.unfollowed(runs, self._covers(read.value, environments)),
            tuple(hints(read.value, runs, read.line_of)),
            canaries,
            read.line_of,
        )

    def expand(self, name: str | None) -> tuple[reader.Document[Experiment], tuple[Run, ...]]:
        """Return an experiment as its files say it, and its runs without digests. Raises InputError,
        MissingError."""
        return self._expanded(self.find(name))

    def _expanded(self, path: Path) -> tuple[reader.Document[Experiment], tuple[Run, ...]]:
        known = self.environments()
        read = reader.load(
            path,
            Experiment,
            self.base_of_experiment,
            lambda document: [
                *check.check(document.value, document.line_of, known),
                *sections.check_experiment(document),
                *inherited.check(document),
                *_file_name(document, path),
            ],
            sections.of_experiments(),
        )
        _remember_secrets(read.value)
        try:
            return read, matrix.expand(read.value)
        except matrix.UnmatchedError as error:
            raise InputError([_unmatched(error, read)]) from None

    def files_of(self, loaded: Loaded) -> Digester:
        """Return what reads the configurations and the task code of an experiment as they are today."""
        return Digester(self.configs_of(loaded.path), find_module, {})

    def configs_of(self, experiment: Path) -> Find:
        """Return what finds a configuration of an experiment's file by its path below ``experiments/``."""
        beside = experiment.resolve().parent

        def find(relative: str) -> Path | None:
            path = beside / relative
            return path if path.is_file() else self.files.find(f"experiments/{relative}")

        return find

    def _environments(self, experiment: Experiment) -> dict[str, environment.Environment]:
        """Name -> environment of each one that the experiment's codes use."""
        names = dict.fromkeys(code.environment for code in experiment.codes.values() if code.environment)
        return {name: environment.load(name, self.files) for name in names}

    def _covers(
        self, experiment: Experiment, environments: Mapping[str, environment.Environment]
    ) -> Callable[[Run, Outside], bool]:
        """Return what tells whether a run's environment or its code's tree has a module. Of an environment
        without a lock nothing is known but what ``custom_imports`` names: the rest is taken for there."""

        @functools.cache
        def known(name: str, code: str, module: str) -> bool:
            there = environments[name] if name else None
            path = experiment.codes[code].path
            tree = expanded(self.project, path) if path else None
            return outside.known(
                module,
                packages=environment.pins(there.lock) if there else (),
                folder=environment.location(self.project / ".environments", there) if there else None,
                tree=tree,
            ) or (tree is not None and not tree.is_dir())  # its revision is all that is known here

        def covers(run: Run, named: Outside) -> bool:
            locked = run.environment and environments[run.environment].lock
            return (not locked and not named.custom) or known(run.environment, run.code, named.module)

        return covers

    def site(self, name: str) -> Site:
        """Reads and checks a site. Raises MissingError or InputError."""
        return self.expand_site(name).value

    def expand_site(self, name: str) -> reader.Document[Site]:
        """Return a site as its files say it. Raises MissingError or InputError."""
        read = self._site(name)
        secrets.remember(read.value.exported, read.value.secrets)
        secrets.remember(secrets.assigned(read.value.setup))
        return read

    def hints_of_site(self, site: Site, environments: Collection[str]) -> list[str]:
        """Return what a site's file says that is allowed, and surely not meant for runs in these
        environments, with file and line. Of a site that no file says nothing is known."""
        read = self._sites.get(site.name)
        if read is None or read.value != site:
            return []
        return hints_of_site(site, read.line_of, environments, self.environments())

    def _site(self, name: str) -> reader.Document[Site]:
        known = self.sites()
        path = self.files.inside(known[name]) if name in known else None
        if path is None and is_file_name(name) and Path(name).is_file():
            path = Path(name)
        if path is None:
            raise self.unknown("site", name, known)
        read = reader.load(
            path,
            Site,
            self.base_of_site,
            lambda document: [
                *check_site.check(document),
                *sections.check_site(document),
                *_folder_name(document, path),
            ],
            sections.of_sites(),
        )
        self._sites[read.value.name] = read
        return read

    def readable_sites(self) -> dict[str, Site]:
        """Return name -> site of all sites; a broken file is left out, for others to mend."""
        sites = {}
        for name in self.sites():
            with contextlib.suppress(DdqjobsError):
                sites[name] = self.site(name)
        return sites


def _unmatched(error: matrix.UnmatchedError, read: reader.Document[Experiment]) -> Problem:
    """Return the problem at a line of the user's own file, if one has to do with it, rather than of its
    base."""
    file, line = declared = read.line_of(error.path)
    own, _ = read.line_of(())
    if file == own:
        return Problem(file, line, str(error))
    place = next((at for path in error.others if (at := read.line_of(path))[0] == own), declared)
    where = f" ({file}:{line})" if place != declared else ""
    return Problem(*place, f"{error.task}{where} {error.message}")


def _remember_secrets(experiment: Experiment) -> None:
    """Have the secrets masked that an experiment and our own shell hold."""
    secrets.remember(os.environ)
    for code in experiment.codes.values():
        secrets.remember(code.variables)
        for command in code.commands.values():
            secrets.remember(secrets.told(command))
    for task in experiment.tasks.values():
        secrets.remember(task.variables)
        secrets.remember(secrets.told(task.command or ()))


def find_module(relative: str) -> Path | None:
    """A file of the task code by its path from the package's parent (``ddqjobs/detect/train.py``)."""
    path = PACKAGE.parent / relative
    return path if path.is_file() else None


def _file_name(read: reader.Document[Experiment], path: Path) -> list[Problem]:
    """An experiment is found by its file's name, and its results lie under its own: they must agree."""
    name = read.value.name
    if path.parent.name != "experiments" or path.stem == name:
        return []
    message = f"name is '{name}', but the file is {path.name}: make them the same, or they share results"
    return [Problem(*read.line_of(("name",)), message)]


def _folder_name(read: reader.Document[Site], path: Path) -> list[Problem]:
    """A site is found by its folder's name, and commands that are printed have its own: they must agree."""
    name, folder = read.value.name, path.absolute().parent.name
    if path.absolute().match("templates/*/site.yaml") and folder != name:
        own = str(read.files[-1])
        file, line = read.line_of(("name",))
        if file == own:
            message = f"name must be '{folder}', like its folder, by which --site finds it"
            return [Problem(file, line, message)]
        return [Problem(own, 1, f"the name '{name}' is that of its base; add `name: {folder}`")]
    return []
