"""Accept names and objects alike: experiments, sites, runs and filters as a program has them. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

from ddqjobs.base.errors import InputError
from ddqjobs.planning.filters import Filters, one_run
from ddqjobs.spec.model import Plan, PlannedRun, Run
from ddqjobs.spec.site import Site


class OfExperiment(Protocol):
    """Whatever knows the name of its experiment: a plan, a report, a run."""

    @property
    def experiment(self) -> str:
        """Return the name."""


AnyExperiment = str | os.PathLike[str] | OfExperiment | None  # None: the project's only one
AnyPlan = Plan | AnyExperiment
AnySite = str | Site | None
AnyRun = str | Run | PlannedRun
AnyRuns = AnyRun | Iterable[AnyRun]
AnyFilters = Filters | AnyRuns | None


def experiment(given: AnyExperiment) -> str | None:
    """Return the name or file of an experiment.

    >>> experiment(Plan(experiment="mini", site="local", runs=()))
    'mini'
    """
    if given is None or isinstance(given, str):
        return given
    return os.fspath(given) if isinstance(given, os.PathLike) else given.experiment


def site(given: AnySite) -> str | None:
    """Return the name or file of a site."""
    return given.name if isinstance(given, Site) else given


def name(given: AnyRun) -> str:
    """Return the name of a run."""
    if isinstance(given, str):
        return given
    return given.run.name if isinstance(given, PlannedRun) else given.name


def planned(plan: Plan, given: AnyRun) -> PlannedRun:
    """Return a run as it is planned; one that is stays as it is. Raise MissingError."""
    return given if isinstance(given, PlannedRun) else one_run(plan, name(given))


def several(plan: Plan, given: AnyRuns) -> tuple[PlannedRun, ...]:
    """Return one run or several as they are planned. Raise MissingError."""
    if isinstance(given, (str, Run, PlannedRun)):
        return (planned(plan, given),)
    return tuple(planned(plan, one) for one in given)


def filters(given: AnyFilters) -> Filters:
    """Return filters that leave what is given: all (None), these runs by name, glob or object. Raise
    InputError of an empty list.

    >>> filters(["p2-train.*", "eval"]).runs
    ('p2-train.*', 'eval')
    """
    if given is None:
        return Filters()
    if isinstance(given, Filters):
        return given
    if isinstance(given, (str, Run, PlannedRun)):
        return Filters(runs=(name(given),))
    names = tuple(name(one) for one in given)
    if not names:  # filters without any word would let all pass
        raise InputError("no runs were given; None means all of them")
    return Filters(runs=names)
