"""Unpack an archive that anybody may have made, and require that what it names is inside of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from ddqjobs.base.errors import InputError
from ddqjobs.base.text import clean
from ddqjobs.base.units import counted
from ddqjobs.planning import plan as planning
from ddqjobs.report.archive.opening import BrokenError, Opened
from ddqjobs.report.archive.writing import FORMAT, INDEX, Index
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Plan, PlannedRun, Product
from ddqjobs.store.history import History
from ddqjobs.store.store import Store

_LARGEST = 256 << 20  # bytes of a document
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,239}")  # of names that dots join; a file adds its ending
_SHOWN = 100  # characters of a name
T = TypeVar("T")
Say = Callable[[str], None]


@dataclass
class Inside:
    """An archive that was unpacked."""

    folder: Path
    digests: Mapping[str, str]
    index: Index
    experiment: Experiment
    plan: Plan  # of the archive's ledger and runs, made here
    recorded: Plan  # as the archive has it
    products: Mapping[str, Product]
    history: History = field(repr=False)

    @property
    def top(self) -> str:
        """The folder of the results."""
        return f"results/{self.experiment.name}"

    def member(self, run: str, artifact: str) -> str:
        """Return the name of an artifact of a run; of one that its product does not have, an empty one."""
        path = self.products[run].artifacts.get(artifact, "")
        return f"{self.top}/runs/{run}/{path}" if path else ""


def unpacked(path: Path, folder: Path, say: Say) -> Inside:
    """Unpack an archive below a folder. Raise BrokenError for one that is not what it says or that names
    files outside of it, InputError for what is no archive, or one of a newer format."""
    with closing(Opened(path)) as archive:
        digests = archive.digests()
        say(f"unpacking {counted(len(digests), 'file')}")
        differing = archive.unpack(folder, digests)
    if differing:
        shown = ", ".join(differing[:3]) + (f" and {len(differing) - 3} more" if differing[3:] else "")
        raise BrokenError(f"digests differ: {shown}")
    index = read(folder / INDEX, Index)
    if index.format > FORMAT:
        raise InputError(f"{path}: format {index.format}, written by ddqjobs {index.ddqjobs}; update ddqjobs")
    for run, name in index.annotations.items():
        if name not in digests:
            raise BrokenError(f"annotations of {_shown(run)}: {_shown(name)} is not inside")
    experiment = read(folder / "experiment.json", Experiment)
    recorded = read(folder / "plan.json", Plan)
    if not experiment.name == index.experiment == recorded.experiment:
        raise BrokenError("experiment names differ")
    _require_plan(recorded.runs)
    history = Store(folder / "results" / experiment.name).history()
    _require_names(history.runs)
    plan = planning.build(
        (planned.run for planned in recorded.runs),
        history,
        experiment=recorded.experiment,
        site=recorded.site,
        missing={planned.run.name for planned in recorded.runs if planned.gone},
        blocked={planned.run.name: planned.reason for planned in recorded.runs if planned.blocked},
    )
    gone = {planned.run.name for planned in plan.runs if planned.gone}
    products = {
        name: story.done.product
        for name, story in history.runs.items()
        if story.done is not None and story.done.product is not None and name not in gone
    }
    for name, product in products.items():
        _require_inside(name, product)
    return Inside(folder, digests, index, experiment, plan, recorded, products, history)


def read(path: Path, kind: type[T]) -> T:
    """Return a document. Raise BrokenError for what is absent, too large or something else."""
    try:
        if path.stat().st_size > _LARGEST:
            raise BrokenError(f"{path.name}: too large")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenError(f"{path.name}: missing or invalid") from error


def _require_plan(runs: Iterable[PlannedRun]) -> None:
    """Require names that stay inside, each once, and upstream runs first."""
    seen: set[str] = set()
    for planned in runs:
        _require_names((planned.run.name, *filter(None, [planned.run.environment])))
        if planned.run.name in seen:
            raise BrokenError(f"plan.json: {_shown(planned.run.name)} appears twice")
        for upstream in planned.run.upstream:
            if upstream not in seen:
                raise BrokenError(
                    f"plan.json: {_shown(planned.run.name)} reads {_shown(upstream)}, "
                    "which does not come before it"
                )
        seen.add(planned.run.name)


def _require_names(names: Iterable[str]) -> None:
    """Names of runs become names of files, also of files that are written."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise BrokenError(f"{_shown(name)}: not a name")


def _require_inside(run: str, product: Product) -> None:
    for artifact, path in product.artifacts.items():
        if path.startswith("/") or "\0" in path or any(part in ("", "..") for part in path.split("/")):
            raise BrokenError(f"{_shown(artifact)} of {run}: {_shown(path)} is not a path in the archive")


def _shown(text: str) -> str:
    return repr(clean(text[:_SHOWN]))
