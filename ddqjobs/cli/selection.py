"""Read what a user names on the command line: an experiment, a site and filters, the same for most
commands."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddqjobs.cli import completion
from ddqjobs.cli.exits import RUNS_GO_ON, reporting
from ddqjobs.cli.output import inform, note, warn

if TYPE_CHECKING:
    from ddqjobs.planning.filters import Filters
    from ddqjobs.project import Project
    from ddqjobs.spec.model import Plan, PlannedRun


class Selection:
    """The choice of a user on the command line: a project, an experiment, a site, filters."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._project: Project | None = None
        self._experiment: str | None = None
        self._runs: tuple[str, ...] = ()

    @property
    def project(self) -> Project:
        """The project, opened once."""
        if self._project is None:
            from ddqjobs.project import open_project

            self._project = open_project(self._options["folder"])
            self._project.tell = note
            self._project.inform = inform
            self._project.undelivered = warn
            self._split(self._project, list(self._options["names"] or ()))
        return self._project

    def add(self, word: str) -> None:
        """Add a word of the command line that another parameter took."""
        self._options["names"] = [*(self._options["names"] or ()), word]

    def _split(self, project: Project, names: list[str]) -> None:
        """The first name is an experiment if one has this name; the others are runs."""
        from ddqjobs.planning.lookup import is_file_name

        if names and (names[0] in project.catalog.experiments() or is_file_name(names[0])):
            self._experiment = names.pop(0)
        elif names and len(project.catalog.own_experiments()) != 1:
            project.catalog.find(names[0])  # raises: no such experiment, and a run needs one
        elif names:
            self._require_run(project, names[0])
        self._runs = tuple(names)

    @staticmethod
    def _require_run(project: Project, word: str) -> None:
        """A first word that is neither an experiment nor a run: said in terms of both."""
        from ddqjobs.base.errors import MissingError, nearest
        from ddqjobs.base.text import clean
        from ddqjobs.planning.filters import matches
        from ddqjobs.spec.shipped import EXPERIMENTS

        loaded = project.load()
        names = [run.name for run in (*loaded.runs, *loaded.canaries)]
        if not any(matches(word, (name,)) for name in names):
            experiments = project.catalog.experiments()
            why = nearest(word, [*experiments, *names]) + project.catalog.files.misnamed(EXPERIMENTS, word)
            raise MissingError(
                f"'{clean(word)}' is neither an experiment nor a run of {loaded.experiment.name}"
                f"{why}; experiments: {', '.join(experiments)}; "
                f"`ddqjobs plan {loaded.experiment.name}` lists its runs"
            )

    @property
    def experiment(self) -> str | None:
        """The experiment's name or file; None if it was left out."""
        return self._experiment if self.project else None

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that are named."""
        return self._runs if self.project else ()

    @property
    def site(self) -> str | None:
        """The site's name or file; None for the default."""
        site: str | None = self._options["site"]
        return site

    @property
    def filters(self) -> Filters:
        """All filters."""
        from ddqjobs.planning.filters import Filters

        options = self._options
        return Filters(
            phases=tuple(options["phase"] or ()),
            models=tuple(options["model"] or ()),
            implementations=tuple(options["implementation"] or ()),
            tasks=tuple(options["task"] or ()),
            variants=tuple(options["variant"] or ()),
            seeds=tuple(options["seed"] or ()),
            states=tuple(options["state"] or ()),
            runs=self.runs,
        )


def one_selected(selection: Selection, does: str) -> tuple[Plan, PlannedRun]:
    """The only run that the filters leave, for a command that ``does`` something with one. Raises
    InputError."""
    from ddqjobs.base.errors import InputError
    from ddqjobs.planning.filters import select

    plan = selection.project.plan(selection.experiment, site=selection.site)
    chosen = select(plan, selection.filters)
    if len(chosen) != 1:
        names = ", ".join(planned.run.name for planned in chosen[:6]) + (", ..." if len(chosen) > 6 else "")
        raise InputError(f"{does} one run at a time; name one of {names}")
    return plan, chosen[0]


def _several(name: str, help_text: str) -> Any:
    return Annotated[
        list[str] | None,
        typer.Option(
            f"--{name}",
            metavar=name.upper(),
            help=help_text,
            rich_help_panel="Filters",
            autocompletion=completion.of_filter(name),
        ),
    ]


NAMES = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[EXPERIMENT] [RUN]...",
        help="An experiment (default: the only one of the project), then names of runs; globs work.",
        autocompletion=completion.words,
        show_default=False,
    ),
]
FOLDER = Annotated[
    str | None,
    typer.Option(
        "--project",
        "-C",
        metavar="DIR",
        envvar="DDQJOBS_PROJECT",
        help="The project's folder; default: this folder or the nearest above it.",
    ),
]
SITE = Annotated[
    str | None,
    typer.Option(
        "--site",
        metavar="SITE",
        envvar="DDQJOBS_SITE",
        help="Site where jobs run; default: local.",
        autocompletion=completion.sites,
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]
_PARAMETERS: dict[str, Any] = {
    "names": NAMES,
    "phase": _several("phase", "Runs of this phase; repeatable."),
    "model": _several("model", "Runs of this model; globs like 'ddq-detr-*'."),
    "implementation": _several(
        "implementation", "Runs of this implementation: legacy, new, or as the experiment names it."
    ),
    "task": _several("task", "A task's name or kind: train, test, convert, align, ..."),
    "variant": _several("variant", "Runs of this variant."),
    "seed": Annotated[
        list[int] | None, typer.Option("--seed", help="Runs with this seed.", rich_help_panel="Filters")
    ],
    "state": _several(
        "state",
        "State of the run (done, active, eligible, waiting, failed, cancelled, stale) or of its job (queued, "
        "held, running, ...).",
    ),
    "site": SITE,
    "folder": FOLDER,
}


def filtered(function: Callable[..., None], *, interrupted: str = RUNS_GO_ON) -> Callable[..., None]:
    """Gives a command the shared filters; it receives them as one ``selection: Selection``."""
    own = [
        parameter
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
        if name != "selection"
    ]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _PARAMETERS.items()
    ]

    @functools.wraps(function)
    def command(**arguments: Any) -> None:
        options = {name: arguments.pop(name) for name in _PARAMETERS}
        function(selection=Selection(**options), **arguments)

    parameters = (
        shared[:1]
        + [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        + shared[1:]
    )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return reporting(command, interrupted=interrupted)


def a_number(value: float | None) -> float | None:
    """Refuses nan, which every comparison with a range lets through."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is not a number.")
    return value
