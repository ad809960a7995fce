"""List what runs to come lack on this machine, each with what brings it. Nothing is started to find out."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ddqjobs.base.errors import listed
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.paths import expanded
from ddqjobs.data import links, weights
from ddqjobs.detect.job.work_tree import GitError, WorkTree
from ddqjobs.doctor.subject import Subject
from ddqjobs.environments.environment import ENTER
from ddqjobs.schedulers.registry import backend
from ddqjobs.spec.dataset import Dataset
from ddqjobs.spec.model import PlannedRun, Run, Status
from ddqjobs.spec.site import DEFAULT_SITE, Site
from ddqjobs.submission import absent
from ddqjobs.submission.impossible import Kinds, hurried
from ddqjobs.submission.rendering import Rendering

_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_OTHER_COMMIT = "is at another commit than its revision"


class Missing(Frozen, frozen=True, kw_only=True):
    """Some of the things of one ``kind`` that the runs need: ``names``, of ``needed`` in all, and the command
    that brings them, or what a person must do."""

    kind: str
    names: tuple[str, ...]
    needed: int
    remedy: str


def missing(subject: Subject) -> list[Missing]:
    """Return what is not here, in the order in which one brings it. Raises InputError for a wrong env.yaml,
    StateError for an unreadable record of checksums."""
    return [
        *_configurations(subject),
        *_environments(subject),
        *_trees(subject),
        *_data(subject),
        *_weights(subject),
        *_inputs(subject),
        *_gpus(subject),
        *_impossible(subject),
    ]


def to_come(runs: Sequence[PlannedRun]) -> list[Run]:
    """Return the runs that are still to start; optional ones only where there are no others."""
    waiting = [planned.run for planned in runs if planned.status not in (Status.DONE, Status.ACTIVE)]
    return [run for run in waiting if not run.optional] or waiting


def environment_problems(subject: Subject) -> dict[str, tuple[str, str]]:
    """Return environment -> what is wrong, and what mends it: of those that are not ready here, and of
    existing ones that the site names and that are not here."""
    problems = {}
    for name in subject.environment_names:
        if name in subject.site.activate:
            absent_part, remedy = subject.environments.entrance_problem(name)
            if absent_part:
                problems[name] = (absent_part, remedy)
            continue
        why = " ".join(subject.environments.problem(name).split())
        if f"; {ENTER}" in why:
            reason, _, remedy = why.partition("; ")
            problems[name] = (reason.removeprefix(f"environment {name} "), remedy)
        elif why:
            reason, _, command = why.partition("; run: ")
            reason = reason.removeprefix(f"environment {name} ")
            problems[name] = (reason, command or on_site(f"ddqjobs env build {name}", subject.site))
    return problems


def absent_trees(subject: Subject) -> dict[str, str]:
    """Return code tree, as the experiment writes it -> what brings it, of those that are not here."""
    return {
        text: _brings(subject, code, text)
        for text, code in _codes_of_trees(subject).items()
        if not expanded(subject.project, text).exists()
    }


def doubtful_trees(subject: Subject) -> dict[str, tuple[str, str]]:
    """Return code tree -> why it is not known to be the declared revision, and what to do, of those that are
    here. Of a tree that an environment brings only another commit counts: builds fetch a commit, not its
    tags."""
    doubts = {}
    for text, code in _codes_of_trees(subject).items():
        revision, folder = subject.experiment.codes[code].revision, expanded(subject.project, text)
        doubt = _doubt(folder, text, code, revision) if revision and folder.is_dir() else None
        if doubt and (doubt[0] == _OTHER_COMMIT or not _build(subject, code, text)):
            doubts[text] = doubt
    return doubts


def _doubt(folder: Path, text: str, code: str, revision: str) -> tuple[str, str] | None:
    """Return the same of one tree; nothing where it is the revision, or git cannot be asked."""
    if not (folder / ".git").exists():
        return (
            "is not a git repository, so its revision cannot be compared",
            f"make sure that it is {revision}",
        )
    try:
        tree = WorkTree(folder)
        head = tree.head()
    except GitError:
        return None
    git, fix = f"git -C {_word(text)}", f"or fix codes.{code}.revision"
    for name in (revision, f"origin/{revision}"):  # the second: a branch that was never checked out
        with contextlib.suppress(GitError):
            other = head != tree.commit(name)
            return (_OTHER_COMMIT, f"{git} checkout {shlex.quote(revision)}, {fix}") if other else None
    whole = " --unshallow" if _COMMIT.fullmatch(revision) and (folder / ".git/shallow").exists() else ""
    return f"has no revision {revision}", f"{git} fetch --tags{whole}, {fix}"


def _codes_of_trees(subject: Subject) -> dict[str, str]:
    """Return code tree, as the experiment writes it -> a code whose runs are in it."""
    codes = dict.fromkeys(run.code for run in subject.runs if run.workdir)
    return {subject.experiment.codes[c].path: c for c in codes if c in subject.experiment.codes}


def _build(subject: Subject, code: str, tree: str) -> str:
    """Return the command that builds a code's environment, if that brings the tree; else nothing."""
    name = subject.experiment.codes[code].environment
    if name in subject.environments.declared and name not in subject.site.activate:
        declared = subject.environments.load(name).declaration.trees.values()
        wanted = expanded(subject.project, tree)
        if any(t.link and expanded(subject.project, t.link) == wanted for t in declared):
            return on_site(f"ddqjobs env build {name}", subject.site)
    return ""


def _brings(subject: Subject, code: str, tree: str) -> str:
    """Return what brings a code tree: its environment's build, if that declares it."""
    build = _build(subject, code, tree)
    if build:
        return build
    repository, revision = subject.experiment.codes[code].repository, subject.experiment.codes[code].revision
    if repository:
        return _clone(repository, revision, tree)
    at = f" at {revision}" if revision else ""
    return f"clone the code there{at}, or fix codes.{code}.path; codes.{code}.repository makes this a command"


def _clone(repository: str, revision: str, tree: str) -> str:
    """Return the command that brings a tree at its revision. `git clone` takes no commits."""
    url, folder = shlex.quote(repository), _word(tree)
    if not revision:
        return f"git clone {url} {folder}"
    if _COMMIT.fullmatch(revision):
        return f"git clone {url} {folder} && git -C {folder} checkout {revision}"
    return f"git clone --branch {shlex.quote(revision)} {url} {folder}"


def _word(path: str) -> str:
    """Return a path as a word for the shell, which expands ``~`` and variables."""
    return path if re.fullmatch(r"[\w~$./+@:-]+", path) else shlex.quote(path)


def absent_data(subject: Subject) -> dict[str, tuple[str, ...]]:
    """Return data set -> what its folder lacks of the declared splits (files and folders below it; none: the
    folder itself is not here), of those that the runs' codes read and that are not whole."""
    absent: dict[str, tuple[str, ...]] = {}
    for name, dataset in _data_of(subject).items():
        folder = expanded(subject.project, dataset.path)
        lacks: list[str] = []
        for split in dataset.splits.values():
            lacks += [] if (folder / split.annotations).is_file() else [split.annotations]
            lacks += [] if (folder / split.images).is_dir() else [split.images]
        if not folder.is_dir():
            absent[name] = ()
        elif lacks:
            absent[name] = tuple(dict.fromkeys(lacks))
    return absent


def _data_of(subject: Subject) -> dict[str, Dataset]:
    """Return the data sets that the runs' codes read."""
    codes = {run.code for run in subject.runs}
    datasets = subject.experiment.datasets.items()
    return {n: d for n, d in datasets if d.codes is None or not codes.isdisjoint(d.codes)}


def links_to_make(subject: Subject) -> list[links.Link]:
    """Return the links to data sets that are wrong or not there, where the tree and the data set are."""
    wanted = links.look(subject.experiment, subject.project, {run.code for run in subject.runs})
    good = (links.There.RIGHT, links.There.NO_TREE, links.There.NO_DATA)
    return [link for link in wanted if link.there not in good]


def absent_inputs(subject: Subject) -> list[str]:
    """Return the inputs named by path that are not here, but for declared weights."""
    declared = {weight.path for weight in subject.experiment.weights.values()}
    return [text for text in _inputs_of(subject) if text not in declared and not _there(subject, text)]


def on_site(command: str, site: Site) -> str:
    """Return a command of ddqjobs that names the site, unless it is the one without a name."""
    return command if site.name == DEFAULT_SITE else f"{command} --site {site.name}"


def absent_configurations(subject: Subject) -> dict[str, tuple[str, str]]:
    """Return configuration -> why it is not there, and what mends it."""
    return {
        one.config: (one.why, f"write the file, or fix {one.file}:{one.line}{_meant(one.nearest)}")
        for one in absent.configurations(subject.workspace, subject.runs)
    }


def _meant(nearest: str) -> str:
    return f"; did you mean {nearest}?" if nearest else ""


def _configurations(subject: Subject) -> Iterator[Missing]:
    remedies = {name: remedy for name, (_, remedy) in absent_configurations(subject).items()}
    needed = len({(run.workdir, run.config) for run in subject.runs if run.config})
    yield from _grouped("configurations", remedies, needed)


def _environments(subject: Subject) -> Iterator[Missing]:
    remedies = {name: remedy for name, (_, remedy) in environment_problems(subject).items()}
    joined = {name: _verb(remedy, name) for name, remedy in remedies.items()}
    yield from _grouped("environments", joined, len(subject.environment_names))


def _verb(remedy: str, name: str) -> str:
    """Return a command without the environment's name, where one command builds several."""
    return remedy.replace(f" {name}", "", 1) if remedy.startswith(_FOR_SEVERAL) else remedy


def _trees(subject: Subject) -> Iterator[Missing]:
    yield from _grouped("code trees", absent_trees(subject), len(_trees_of(subject)))
    doubts = {
        tree: remedy if why == _OTHER_COMMIT else f"{tree} {why}; {remedy}"
        for tree, (why, remedy) in doubtful_trees(subject).items()
    }
    yield from _grouped("code trees at their revision", doubts, len(_trees_of(subject)))


def _data(subject: Subject) -> Iterator[Missing]:
    needed = _data_of(subject)
    for name, lacks in absent_data(subject).items():
        path = needed[name].path
        partly = f"bring {listed(lacks, 2)} to {path}, or fix datasets.{name}.splits"
        remedy = partly if lacks else f"bring it to {path}"
        yield Missing(kind="data sets", names=(name,), needed=len(needed), remedy=remedy)
    wrong = links_to_make(subject)
    if wrong:
        command = on_site(f"ddqjobs data link {subject.experiment.name}", subject.site)
        names = tuple(link.path for link in wrong)
        wanted = links.look(subject.experiment, subject.project, {run.code for run in subject.runs})
        yield Missing(kind="links to data", names=names, needed=len(wanted), remedy=command)


def _weights(subject: Subject) -> Iterator[Missing]:
    wanted = weights.wanted(subject.experiment, subject.project, subject.site, subject.runs)
    names = tuple(w.file for w in wanted if not Path(w.target).is_file())
    if names:
        command = on_site(f"ddqjobs data weights {subject.experiment.name}", subject.site)
        yield Missing(kind="weights", names=names, needed=len(wanted), remedy=command)


def _inputs(subject: Subject) -> Iterator[Missing]:
    names = tuple(absent_inputs(subject))
    if names:
        needed = len(_inputs_of(subject))
        yield Missing(kind="inputs", names=names, needed=needed, remedy="bring them there")


def _gpus(subject: Subject) -> Iterator[Missing]:
    there = backend(subject.site).gpus_here(subject.site)
    most = max((run.resources.gpus for run in subject.runs), default=0)
    if there is not None and most > there:
        names = tuple(run.name for run in subject.runs if run.resources.gpus > there)
        remedy = f"choose another --site: there are {there} GPUs here, and a run needs {most}"
        yield Missing(kind="GPUs for runs", names=names, needed=len(subject.runs), remedy=remedy)


def mends_jobs(site: Site) -> str:
    """Return what mends a job that the site's scheduler would refuse."""
    return f"fix `{site.scheduler}:` of the site or the experiment, the site's limits, or the resources"


def _impossible(subject: Subject) -> Iterator[Missing]:
    for kind in hurried(subject.runs, subject.site):
        names = tuple(run.name for run in kind.runs)
        yield Missing(kind="time before the warning", names=names, needed=len(subject.runs), remedy=kind.why)
    kinds = Kinds(subject.workspace, Rendering(subject.workspace, subject.environments))
    for kind in kinds.recorded(subject.runs):
        remedy = f"{kind.why}: {mends_jobs(subject.site)}; `ddqjobs doctor` asks again"
        names = tuple(run.name for run in kind.runs)
        yield Missing(kind="jobs that can be taken", names=names, needed=len(subject.runs), remedy=remedy)


def _grouped(kind: str, remedies: Mapping[str, str], needed: int) -> Iterator[Missing]:
    by_remedy: dict[str, list[str]] = {}
    for name, remedy in remedies.items():
        by_remedy.setdefault(remedy, []).append(name)
    for remedy, names in by_remedy.items():
        yield Missing(kind=kind, names=tuple(names), needed=needed, remedy=_for_all(remedy, names))


def _for_all(remedy: str, names: Sequence[str]) -> str:
    """Return the remedy with the names behind its verb, if it is one for several environments."""
    verb = next((v for v in _FOR_SEVERAL if remedy == v or remedy.startswith(f"{v} --site ")), "")
    return f"{verb} {' '.join(names)}{remedy.removeprefix(verb)}" if verb else remedy


def _there(subject: Subject, text: str) -> bool:
    return expanded(subject.project, text).exists()


def _inputs_of(subject: Subject) -> Sequence[str]:
    return list(dict.fromkeys(i.path for run in subject.runs for _, i in run.inputs if i.path))


def _trees_of(subject: Subject) -> Sequence[str]:
    return list(dict.fromkeys(run.workdir for run in subject.runs if run.workdir))


_FOR_SEVERAL = ("ddqjobs env build", "ddqjobs env lock")  # names of environments follow
