"""Find what a file adds and never uses: a variant, or something with nearly the name of a thing of its base.

A misspelt task lacks its `kind` and is found by its type. A misspelt variant, code, phase or implementation
is whole, however little it says: what was meant would go on as the base has it, without a word.
"""

from __future__ import annotations

from collections.abc import Iterator

from ddqjobs.base.errors import Problem, nearest
from ddqjobs.spec.checker import no_such_entry
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.inheritance import added_to, names_beside
from ddqjobs.spec.nodes import Path
from ddqjobs.spec.reader import Document

_NEEDS = {
    "implementations": "a model that has it",
    "codes": "a model or a task that names it",
    "phases": "a task that belongs to it",
    "variants": "a task that names it",
}


def check(read: Document[Experiment]) -> list[Problem]:
    """All problems, by file and line."""
    return sorted(Problem(*read.line_of(path), message) for path, message in _unused(read))


def _unused(read: Document[Experiment]) -> Iterator[tuple[Path, str]]:
    used = _used(read.value)
    for section, needed in _NEEDS.items():
        for name in getattr(read.value, section).keys() - used[section]:
            path: Path = (section, name)
            node = read.root.below(path)
            base = added_to(read.bases, node, path) if node is not None else None
            if base is not None and nearest(name, names_beside(base, path)):
                yield path, f"{no_such_entry(base, path)} a new one needs {needed}"
            elif section == "variants" and read.line_of(path)[0] == str(read.files[-1]):
                yield path, f"no task runs variant '{name}'; name it in a task's `variants`, or remove it"


def _used(e: Experiment) -> dict[str, set[str]]:
    """The names in each section that something else names."""
    entries = [entry for model in e.models.values() for entry in model.implementations.values()]
    tasks = e.tasks.values()
    datasets = [code for dataset in e.datasets.values() for code in dataset.codes or ()]
    return {
        "implementations": {name for model in e.models.values() for name in model.implementations},
        "codes": {*(entry.code for entry in entries), *(task.code or "" for task in tasks), *datasets},
        "phases": {*(task.phase or "" for task in tasks), *(phase.against for phase in e.phases.values())},
        "variants": {"default", e.baseline or "", *(v for task in tasks for v in task.variants or ())},
    }
