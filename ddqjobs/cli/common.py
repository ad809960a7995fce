"""What all commands share: filters, errors, output. The only place that prints, with the commands."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ddqjobs.planning.filters import Filters
    from ddqjobs.project import Project
    from ddqjobs.spec.model import Plan, PlannedRun

JSON_VERSION = 1
COLOURS = {
    "done": "green",
    "active": "cyan",
    "eligible": "yellow",
    "waiting": None,
    "failed": "red",
    "ok": "green",
    "warning": "yellow",
    "error": "red",
}


class Selection:
    """What a user named on the command line: a project, an experiment, a site, filters."""

    def __init__(self, **words: Any) -> None:
        self._words = words
        self._project: Project | None = None
        self._experiment: str | None = None
        self._runs: tuple[str, ...] = ()

    @property
    def project(self) -> Project:
        """The project, opened once."""
        if self._project is None:
            from ddqjobs.project import open_project

            self._project = open_project(self._words["folder"])
            self._split(self._project, list(self._words["words"] or ()))
        return self._project

    def _split(self, project: Project, words: list[str]) -> None:
        """The first word is an experiment if one has this name; the others are runs."""
        from ddqjobs.planning.catalog import is_file_name

        if words and (words[0] in project.catalog.experiments() or is_file_name(words[0])):
            self._experiment = words.pop(0)
        elif words and len(project.catalog.own_experiments()) != 1:
            project.catalog.find(words[0])  # raises: no such experiment, and a run needs one
        elif words:
            self._require_run(project, words[0])
        self._runs = tuple(words)

    @staticmethod
    def _require_run(project: Project, word: str) -> None:
        """A first word that is neither an experiment nor a run: said in terms of both."""
        from ddqjobs.base.errors import MissingError, nearest
        from ddqjobs.base.text import clean
        from ddqjobs.planning.filters import matches

        loaded = project.load()
        names = [run.name for run in (*loaded.runs, *loaded.canaries)]
        if not any(matches(word, (name,)) for name in names):
            experiments = project.catalog.experiments()
            raise MissingError(
                f"'{clean(word)}' is neither an experiment nor a run of {loaded.experiment.name}"
                f"{nearest(word, [*experiments, *names])}; experiments: {', '.join(experiments)}; "
                f"`ddqjobs plan {loaded.experiment.name}` lists its runs"
            )

    @property
    def experiment(self) -> str | None:
        """The experiment's name or file; None if it was left out."""
        return self._experiment if self.project else None

    @property
    def site(self) -> str | None:
        """The site's name or file; None for the default."""
        site: str | None = self._words["site"]
        return site

    @property
    def filters(self) -> Filters:
        """All filters."""
        from ddqjobs.planning.filters import Filters

        assert self.project
        words = self._words
        return Filters(
            phases=tuple(words["phase"] or ()),
            models=tuple(words["model"] or ()),
            implementations=tuple(words["implementation"] or ()),
            tasks=tuple(words["task"] or ()),
            variants=tuple(words["variant"] or ()),
            seeds=tuple(words["seed"] or ()),
            states=tuple(words["state"] or ()),
            runs=self._runs,
        )


def one_selected(selection: Selection, does: str) -> tuple[Plan, PlannedRun]:
    """The only run that the filters leave, for a command that ``does`` something with one. Raises
    InputError."""
    from ddqjobs.base.errors import InputError
    from ddqjobs.planning.filters import select

    made = selection.project.plan(selection.experiment, site=selection.site)
    chosen = select(made, selection.filters)
    if len(chosen) != 1:
        names = ", ".join(p.run.name for p in chosen[:6]) + (", ..." if len(chosen) > 6 else "")
        raise InputError(f"{does} one run at a time; name one of {names}")
    return made, chosen[0]


def complete_words(incomplete: str) -> list[str]:
    """Experiments, and the runs of the project's only one, for the shell's completion."""
    try:
        from ddqjobs.project import open_project

        project = open_project()
        names = list(project.catalog.experiments())
        if len(project.catalog.own_experiments()) == 1:
            names += [run.name for run in project.load().runs]
        return [name for name in names if name.startswith(incomplete)]
    except Exception:  # whatever is wrong: who presses Tab gets no words, and no traceback between theirs
        return []


def complete_sites(incomplete: str) -> list[str]:
    """Sites, for the shell's completion."""
    try:
        from ddqjobs.project import open_project

        return [name for name in open_project().catalog.sites() if name.startswith(incomplete)]
    except Exception:  # as above
        return []


def _several(name: str, words: str) -> Any:
    return Annotated[
        list[str] | None,
        typer.Option(f"--{name}", metavar=name.upper(), help=words, rich_help_panel="Filters"),
    ]


WORDS = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[EXPERIMENT] [RUN]...",
        help="An experiment (may be left out if the project has only one), then names of runs; globs work.",
        autocompletion=complete_words,
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
        help="The project's folder; if left out: here, or above.",
    ),
]
SITE = Annotated[
    str | None,
    typer.Option(
        "--site",
        metavar="SITE",
        envvar="DDQJOBS_SITE",
        help="Where jobs run; local if left out.",
        autocompletion=complete_sites,
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]
_PARAMETERS: dict[str, Any] = {
    "words": WORDS,
    "phase": _several("phase", "Runs of this phase; repeatable."),
    "model": _several("model", "Runs of this model; globs like 'ddq-detr-*'."),
    "implementation": _several("implementation", "legacy or new, as the experiment calls them."),
    "task": _several("task", "A task's name or kind: train, test, convert, align, ..."),
    "variant": _several("variant", "Runs of this variant."),
    "seed": Annotated[
        list[int] | None, typer.Option("--seed", help="Runs with this seed.", rich_help_panel="Filters")
    ],
    "state": _several(
        "state", "done, active, eligible, waiting, failed, stale; or of its job: queued, held, running, ..."
    ),
    "site": SITE,
    "folder": FOLDER,
}


RUNS_GO_ON = "what was submitted so far is recorded, and runs go on: see `ddqjobs status`"
SAME_AGAIN = "what is whole by now stays, and the same command goes on from there"


def filtered(function: Callable[..., None], *, interrupted: str = RUNS_GO_ON) -> Callable[..., None]:
    """Gives a command the shared filters; it receives them as one ``selection: Selection``."""
    own = [
        p for name, p in inspect.signature(function, eval_str=True).parameters.items() if name != "selection"
    ]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _PARAMETERS.items()
    ]

    @functools.wraps(function)
    def command(**arguments: Any) -> None:
        words = {name: arguments.pop(name) for name in _PARAMETERS}
        function(selection=Selection(**words), **arguments)

    parameters = shared[:1] + [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared[1:]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return reporting(command, interrupted=interrupted)


def a_number(value: float | None) -> float | None:
    """Refuses nan, which every comparison with a range lets through."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is not a number.")
    return value


def reporting(function: Callable[..., None], *, interrupted: str = RUNS_GO_ON) -> Callable[..., None]:
    """Turns our errors into one clear message and their exit code; Ctrl-C into 130, saying what it means."""

    @functools.wraps(function)
    def command(*args: Any, **arguments: Any) -> None:
        from ddqjobs.base.errors import DdqjobsError

        try:
            function(*args, **arguments)
        except DdqjobsError as error:
            fail(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            fail(f"interrupted; {interrupted}")
            raise typer.Exit(130) from None
        except typer.Abort:  # at a question
            fail("interrupted; nothing was done")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            silence()  # whoever read us has gone; there is nobody left to tell
            raise typer.Exit(141) from None
        except OSError as error:
            refused(error)
            raise typer.Exit(2) from None

    return command


class OutputError(OSError):
    """Standard output took no more."""


def refused(error: OSError) -> None:
    """Says what the operating system refused where nothing closer to it did."""
    why = error.strerror or str(error)
    if isinstance(error, OutputError):
        fail(f"the output cannot be written: {why}")
        silence()
    elif error.filename:
        fail(f"{os.fsdecode(error.filename)}: {why}")
    elif not _here():
        fail("the folder that this shell is in was removed: change to another, then run the command again")
    else:
        fail(why)


def _here() -> bool:
    """Whether the working folder is still there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def silence() -> None:
    """Throws away what is left to print: a stream that refused it would complain once more at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str) -> None:
    """An error message on stderr, each line with what it is."""
    for line in message.splitlines():
        _tell(f"error: {line}", fg="red")


def warn(message: str) -> None:
    """A warning on stderr."""
    _tell(f"warning: {message}", fg="yellow")


def note(text: str) -> None:
    """A line on stderr for who waits at a terminal: what takes long just now."""
    if sys.stderr.isatty():
        _tell(text, dim=True)


def _tell(text: str, **look: Any) -> None:
    """A line on stderr. Where that is closed or full there is nobody to tell, and the exit code still says
    what it says."""
    from ddqjobs.base.text import clean

    with contextlib.suppress(OSError):
        typer.echo(style(clean(text), **look) if sys.stderr.isatty() else clean(text), err=True)


def style(text: str, *, fg: str | None = None, **look: Any) -> str:
    """Text with a colour or another look, as far as the terminal's user wants it (https://no-color.org)."""
    if os.environ.get("TERM") == "dumb":
        return text
    colour = None if os.environ.get("NO_COLOR") else fg
    return typer.style(text, fg=colour, **look) if colour or look else text


def ensure_streams() -> None:
    """Gives a process that was started with closed streams (`>&-`) others that lead nowhere: the next file
    that is opened would get their number, and whatever a child prints."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # numbers 0, 1, 2: lowest first
        if getattr(sys, name) is None:
            stream = os.fdopen(os.open(os.devnull, os.O_RDWR), mode)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def say(text: str) -> None:
    """A line on stdout, with everything that a terminal might act upon spelled out."""
    from ddqjobs.base.text import clean

    put(clean(text))


def put(text: str) -> None:
    """Text on stdout as it is: what was made harmless already, or must reach a file unchanged."""
    # Some locales cannot say everything that a name may hold; a path's undecodable bytes no locale can.
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error


def say_json(kind: str, **content: object) -> None:
    """One versioned JSON document on stdout."""
    import msgspec

    document = {"version": JSON_VERSION, "kind": kind, **content}
    put(msgspec.json.format(msgspec.json.encode(document), indent=1).decode())


def settle(warnings: Sequence[str]) -> None:
    """The last thing that a command does: says on stderr what could not be asked, and then exits with 3."""
    for warning in dict.fromkeys(warnings):
        warn(warning)
    if warnings:
        raise typer.Exit(3)


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, align: str = "", status: int | None = None
) -> str:
    """A table as wide as the terminal (unlimited when piped); ``status`` is the column that gets colours."""
    import shutil

    from ddqjobs.base.text import format_table

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None

    def paint(row: int, column: int, text: str) -> str:
        if row < 0:
            return style(text, bold=True)
        return style(text, fg=COLOURS.get(text.strip()) if column == status else None)

    return format_table(header, rows, align=align, width=width, paint=paint if terminal else None)
