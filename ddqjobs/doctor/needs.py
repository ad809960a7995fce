"""What runs need besides a scheduler and environments: configurations, inputs, code, data, weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ddqjobs.base.findings import Line, error, ok, warning
from ddqjobs.base.units import counted
from ddqjobs.data import links, weights
from ddqjobs.doctor.subject import Subject


def check_needs(subject: Subject) -> Iterator[Line]:
    """Yield what is missing here of what the runs read."""
    yield from _configurations(subject)
    yield from _inputs_and_code(subject)
    yield from _data(subject)
    yield from _weights(subject)


def _configurations(subject: Subject) -> Iterator[Line]:
    names = {run.name for run in subject.runs}
    blocked = {name: why for name, why in subject.workspace.blocked().items() if name in names}
    if blocked:
        name, why = next(iter(blocked.items()))
        found = f"waiting for ever: {counted(len(blocked), 'run')}: {name}: {why}"
        yield error("configurations", found, "write the file")


def _inputs_and_code(subject: Subject) -> Iterator[Line]:
    missing = [text for text, path in subject.paths if not path.exists()]
    if missing:
        more = f" and {len(missing) - 3} more" if missing[3:] else ""
        remedy = "download or link them; paths stand in the experiment file"
        yield error("inputs and code", f"missing: {', '.join(missing[:3])}{more}", remedy)
    elif subject.paths:
        found = f"all {len(subject.paths)} inputs and code trees named by path are there"
        yield ok("inputs and code", found)


def _data(subject: Subject) -> Iterator[Line]:
    """Yield the links that the experiment declares, as `ddqjobs data link` sees them; then any others that
    lead nowhere."""
    wanted = links.look(subject.experiment, subject.project, {run.code for run in subject.runs})
    wanted = [link for link in wanted if link.there is not links.There.NO_TREE]  # missing, as said above
    wrong = [link for link in wanted if link.there is not links.There.RIGHT]
    for link in wrong:
        found = link.problem or f"{link.path} is not there"
        yield error("data", found, f"ddqjobs data link {subject.experiment.name}")
    if wanted and not wrong:
        yield ok("data", f"linked in {len(wanted)} code trees")
    said = {str(link.path) for link in wrong}
    for tree in dict.fromkeys(path for _, path in subject.paths if path.is_dir()):
        for dangling in _dangling(tree):
            if str(dangling) not in said:
                yield error("data", f"{dangling} leads nowhere", "link the data set again")


def _dangling(tree: Path) -> Iterator[Path]:
    """Yield links at the top of a code tree, and in its data folder, that lead nowhere."""
    for folder in (tree, tree / "data"):
        if folder.is_dir():
            yield from (path for path in sorted(folder.iterdir()) if path.is_symlink() and not path.exists())


def _weights(subject: Subject) -> Iterator[Line]:
    """Yield what trainings would download at their start."""
    wanted = weights.wanted(subject.experiment, subject.project, subject.site, subject.runs)
    cached = [w for w in wanted if not w.weight.path]
    missing = weights.absent(wanted)
    if missing:
        found = f"{', '.join(w.file for w in missing)}: not here, so a run downloads them at its start"
        remedy = f"ddqjobs data weights {subject.experiment.name}, unless nodes have a network"
        yield warning("weights", found, remedy)
    elif cached:
        yield ok("weights", f"all {len(cached)} that runs would download are here")
