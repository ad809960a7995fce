"""The links by which code trees find data sets: where they must be, what is there, and making them."""

from __future__ import annotations

import os
from collections.abc import Collection
from enum import Enum
from pathlib import Path

from ddqjobs.base import files
from ddqjobs.base.errors import StateError
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.paths import expanded
from ddqjobs.spec.experiment import Experiment


class There(str, Enum):
    """The kinds of things at a link's place."""

    RIGHT = "linked"
    NOTHING = "absent"
    ELSEWHERE = "leads elsewhere"
    FOLDER = "a folder or file"  # a real one: never touched
    NO_TREE = "no code tree"
    NO_DATA = "no data set"


class Link(Frozen, frozen=True, kw_only=True):
    """A link of a data set in the tree of a code, and what is there now."""

    dataset: str
    code: str
    path: str
    target: str
    there: There
    leads: str = ""  # where a link leads that leads elsewhere

    @property
    def problem(self) -> str:
        """Return why it cannot be made, and what to do; empty if it can, or is there. A link that leads
        elsewhere is a problem to whoever does not want it replaced."""
        problems = {
            There.NO_TREE: f"{self.path}: the code tree of {self.code} is not there: bring it, or leave it "
            "out with a filter",
            There.NO_DATA: f"{self.target}: data set {self.dataset} is not there: bring it, or fix its path "
            "in the experiment",
            There.FOLDER: f"{self.path}: a real folder or file in the link's place stays: move it away",
            There.ELSEWHERE: f"{self.path}: is a link to {self.leads}, not to {self.target}: "
            "--relink replaces it",
        }
        return problems.get(self.there, "")


def look(experiment: Experiment, project: Path, codes: Collection[str] | None = None) -> list[Link]:
    """Every link that the experiment wants in the trees of these codes (None: of all)."""
    links = []
    for name, dataset in experiment.datasets.items():
        target = expanded(project, dataset.path)
        for code in linked(experiment, name):
            if dataset.link and (codes is None or code in codes):
                tree = expanded(project, experiment.codes[code].path)
                path = tree / dataset.link
                there = _there(tree, path, target)
                leads = str(path.readlink()) if there is There.ELSEWHERE else ""
                links.append(
                    Link(
                        dataset=name,
                        code=code,
                        path=str(path),
                        target=str(target),
                        there=there,
                        leads=leads,
                    )
                )
    return links


def linked(experiment: Experiment, dataset: str) -> list[str]:
    """Codes whose tree gets a link."""
    named = experiment.datasets[dataset].codes
    return [n for n, c in experiment.codes.items() if c.path and (named is None or n in named)]


def to_make(links: list[Link], *, relink: bool = False) -> list[Link]:
    """Those that are absent, and with ``relink`` those that lead elsewhere."""
    wanted = (There.NOTHING, There.ELSEWHERE) if relink else (There.NOTHING,)
    return [link for link in links if link.there in wanted]


def refuse(links: list[Link], todo: list[Link]) -> None:
    """Raises StateError with all reasons why the others cannot be made, if there are any."""
    reasons = [link.problem for link in links if link.problem and link not in todo]
    if reasons:
        raise StateError("\n".join(reasons))


def make(links: list[Link], todo: list[Link]) -> None:
    """Makes those of :func:`to_make`; raises StateError as :func:`refuse` does, and then none is made."""
    refuse(links, todo)
    for link in todo:
        _make(Path(link.path), link.target, replace=link.there is There.ELSEWHERE)


def _there(tree: Path, path: Path, target: Path) -> There:
    if not tree.is_dir():
        return There.NO_TREE
    if not target.is_dir():
        return There.NO_DATA
    link = path.is_symlink()  # asked first: another terminal may make the right one between two questions
    if os.path.realpath(path) == os.path.realpath(target):
        return There.RIGHT
    if link:
        return There.ELSEWHERE
    return There.FOLDER if os.path.lexists(path) and not path.is_symlink() else There.NOTHING


def _make(path: Path, target: str, *, replace: bool) -> None:
    """Never over anything but a link: a rename of a link onto a folder is refused by the system, and what
    came to be there since we looked is not replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not replace:
            path.symlink_to(target)
            return
        files.link(path, target)
    except FileExistsError as error:
        if os.path.realpath(path) != os.path.realpath(target):  # else another terminal was faster
            raise StateError(
                f"{path}: something was created there in the meantime; run the command again"
            ) from error
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
