"""Check what runs need besides a scheduler and environments: configurations, inputs, code, data, weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ddqjobs.base.errors import listed
from ddqjobs.base.findings import Line, error, ok, warning
from ddqjobs.data import links, weights
from ddqjobs.doctor import missing
from ddqjobs.doctor.subject import Subject
from ddqjobs.spec.model import TaskKind


def check_needs(subject: Subject) -> Iterator[Line]:
    """Yield what is missing here of what the runs read."""
    yield from _configurations(subject)
    yield from _inputs_and_code(subject)
    yield from _data(subject)
    yield from _weights(subject)


def _configurations(subject: Subject) -> Iterator[Line]:
    for why, remedy in missing.absent_configurations(subject).values():
        yield error("configurations", f"runs wait for ever: {why}", remedy)


def _inputs_and_code(subject: Subject) -> Iterator[Line]:
    trees = missing.absent_trees(subject)
    for tree, remedy in trees.items():
        yield error("code tree", f"{tree} is not there", remedy)
    for tree, (why, remedy) in missing.doubtful_trees(subject).items():
        yield warning("code tree", f"{tree} {why}", remedy)
    absent = missing.absent_inputs(subject)
    if absent:
        more = f" and {len(absent) - 3} more" if absent[3:] else ""
        remedy = "download or link them; paths stand in the experiment file"
        yield error("inputs and code", f"missing: {', '.join(absent[:3])}{more}", remedy)
    elif all(path.exists() for _, path in subject.paths) and subject.paths:
        message = f"all {len(subject.paths)} inputs and code trees named by path are there"
        yield ok("inputs and code", message)


def _data(subject: Subject) -> Iterator[Line]:
    """Yield the data sets and the links that the experiment declares, as `ddqjobs data link` sees them; then
    any other links that lead nowhere."""
    for name, lacks in missing.absent_data(subject).items():
        dataset = subject.experiment.datasets[name]
        if not lacks:
            yield error(
                "data", f"data set {name}: {dataset.path} is not there", "bring it there, or fix its path"
            )
            continue
        message = f"data set {name}: {dataset.path} lacks {listed(lacks, 4)}"
        # Which split a run reads is not known, but tests read one only.
        whole = any(not {split.annotations, split.images} & {*lacks} for split in dataset.splits.values())
        trains = any(run.kind is TaskKind.TRAIN for run in subject.runs)
        level = warning if whole and not trains else error
        yield level("data", message, f"bring that there, or fix datasets.{name}.splits")
    wrong = missing.links_to_make(subject)
    command = missing.on_site(f"ddqjobs data link {subject.experiment.name}", subject.site)
    for link in wrong:
        message = link.problem or f"{link.path} is not there"
        yield error("data", message, command)
    wanted = links.look(subject.experiment, subject.project, {run.code for run in subject.runs})
    right = [link for link in wanted if link.there is links.There.RIGHT]
    if right and not wrong:
        yield ok("data", f"linked in {len(right)} code trees")
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
    """Yield what trainings would download at their start, and what runs read by path."""
    wanted = weights.wanted(subject.experiment, subject.project, subject.site, subject.runs)
    command = missing.on_site(f"ddqjobs data weights {subject.experiment.name}", subject.site)
    by_path = [w.weight.path for w in wanted if w.weight.path and not Path(w.target).is_file()]
    if by_path:
        more = f" and {len(by_path) - 3} more" if by_path[3:] else ""
        message = f"{len(by_path)} of {len(wanted)} not here: {', '.join(by_path[:3])}{more}"
        yield error("weights", message, command)
    absent = weights.absent(wanted)
    if absent:
        message = f"{', '.join(w.file for w in absent)}: not here, so a run downloads them at its start"
        yield warning("weights", message, f"{command}, unless nodes have a network")
    if wanted and not by_path and not absent:
        yield ok("weights", f"all {len(wanted)} that runs read are here")
