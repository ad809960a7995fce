"""List what goes into an archive, by its name there, and what is left out and why."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ddqjobs.base import files
from ddqjobs.base.errors import DdqjobsError
from ddqjobs.base.paths import expanded
from ddqjobs.base.text import clean
from ddqjobs.detect import files as job_files
from ddqjobs.detect.checks import resolved
from ddqjobs.environments.on_site import Environments
from ddqjobs.planning.catalog import Catalog
from ddqjobs.report.annotations import annotation_file
from ddqjobs.report.cache import ReportFiles
from ddqjobs.spec.model import Plan, PlannedRun, Product, TaskKind
from ddqjobs.store.layout import RunFolder
from ddqjobs.submission.workspace import Workspace

WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors", ".pkl")
TEXTS = (".json", ".jsonl", ".log", ".py", ".txt", ".yaml", ".yml", ".xml", ".csv", ".md", ".sh", ".out", "")
_LARGEST_TEXT = 256 << 20  # bytes; it is read into memory
_OF_OTHERS = "an input of other runs"
_SECRET = ("secret_setup.sh", "secrets.sh")
_BASE = re.compile(r"^base:\s*['\"]?([^'\"#\s]+)", re.MULTILINE)


@dataclass(frozen=True, order=True)
class Member:
    """A file of an archive. The bytes of an ``exact`` one are evidence: they are never rewritten."""

    name: str
    path: Path | None = None
    data: bytes = b""
    exact: bool = False

    @property
    def written(self) -> bool:
        """Return whether somebody wrote it: code, configurations and locks."""
        return self.name.startswith(("specification/", "locks/")) or "/code/" in self.name

    @property
    def ours(self) -> bool:
        """Return whether it is ddqjobs' own code, which knows no machine and no secret."""
        return "/code/" in self.name and "/ddqjobs/detect/" in self.name


@dataclass
class Contents:
    """Members by name, and what is not among them."""

    members: dict[str, Member] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # name -> why
    annotations: dict[str, str] = field(
        default_factory=dict
    )  # run -> name of the file its AP is computed with

    def add(self, name: str, source: Path | bytes, *, exact: bool = False) -> None:
        """Put a file or bytes into the archive."""
        if isinstance(source, bytes):
            self.members[name] = Member(name, data=source, exact=exact)
        elif not _portable(name):
            self.left_out[clean(name)] = "its name"
        elif not files.ordinary(source):
            self.left_out[name] = "no regular file"
        else:
            self.members[name] = Member(name, source, exact=exact)


def _portable(name: str) -> bool:
    """Tell a name that a zip can hold and that every system can unpack."""
    return name.isprintable() and "\\" not in name


def collect(
    workspace: Workspace,
    environments: Environments,
    plan: Plan,
    products: Mapping[str, Product],
    *,
    weights: bool,
) -> Contents:
    """Return what an experiment left: all of its runs, also those that the plan no longer has."""
    contents = Contents()
    _specification(contents, workspace.catalog, workspace.loaded.path)
    for name in dict.fromkeys(planned.run.environment for planned in plan.runs if planned.run.environment):
        _lock(contents, environments, name)
    root, top = workspace.results, f"results/{workspace.loaded.experiment.name}"
    _plain(contents, root, top, (root / "format.json", *_below(root / "ledger"), *_below(root / "code")))
    _plain(contents, root, top, _below(root / "submissions"))
    recomputed = root / "report" / "cache" / "recomputed"
    _plain(contents, root, top, _below(recomputed))
    _resolved(contents, ReportFiles(root, environments), products)
    folder = workspace.store.layout.runs
    for run in sorted(workspace.store.run_folders()):
        _run(contents, RunFolder(folder / run), f"{top}/runs/{run}", products.get(run), weights=weights)
    digest = functools.cache(job_files.sha256)  # tests share their annotations
    for planned in plan.runs:
        if planned.run.name in products:
            _annotations(
                contents,
                planned,
                products[planned.run.name],
                folder / planned.run.name,
                workspace.catalog.project,
                digest,
            )
    return contents


def _specification(contents: Contents, catalog: Catalog, path: Path) -> None:
    """Add the experiment's file and those that it inherits from."""
    known = catalog.experiments()
    todo = [path]
    while todo:
        file = todo.pop()
        name = f"specification/{file.name}"
        if name in contents.members or not file.is_file():
            continue
        contents.add(name, file)
        for base in _BASE.findall(file.read_text(encoding="utf-8", errors="replace")):
            todo.append(known.get(base) or file.parent / base)


def _lock(contents: Contents, environments: Environments, name: str) -> None:
    try:
        environment = environments.load(name)
    except DdqjobsError:
        contents.left_out[f"locks/{name}"] = "the environment cannot be read"
        return
    for path in (environment.path, environment.requirements, environment.overrides, environment.lock_path):
        if path is not None and path.is_file():
            contents.add(f"locks/{name}/{path.name}", path)


def _resolved(contents: Contents, report: ReportFiles, products: Mapping[str, Product]) -> None:
    """Add the configurations that the report compares, also those of other experiments."""
    for name in sorted(report.configurations(products)):
        contents.add(f"results/{resolved.ALL}/{name}", report.resolved / name)


def _plain(contents: Contents, root: Path, top: str, paths: Iterable[Path]) -> None:
    for path in paths:
        if path.name not in _SECRET and path.is_file():
            contents.add(f"{top}/{path.relative_to(root).as_posix()}", path)


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in order; links are not followed."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if not path.is_symlink() and path.is_file() and "__pycache__" not in path.parts:
            yield path


def _run(contents: Contents, run: RunFolder, top: str, product: Product | None, *, weights: bool) -> None:
    if run.product.is_file():
        contents.add(f"{top}/{run.product.name}", run.product)
    artifacts = {path: name for name, path in product.artifacts.items()} if product is not None else {}
    follow = product is not None and bool(product.adopted_from)
    prepared = product is not None and product.kind is TaskKind.PREPARE
    for path, folder in _attempts(run, artifacts, follow=follow):
        relative = path.relative_to(run.path).as_posix()
        name = f"{top}/{relative}"
        if folder:
            contents.left_out[name] = "a folder of data"
        elif path.suffix in WEIGHTS:
            if weights and relative in artifacts:
                contents.add(name, path, exact=True)
            else:
                contents.left_out[name] = "weights" if relative in artifacts else "weights that no run needs"
        elif relative in artifacts and (weights or not prepared or path.suffix in TEXTS):
            binary = path.suffix not in TEXTS or path.stat().st_size > _LARGEST_TEXT
            contents.add(name, path, exact=binary or artifacts[relative] == "predictions")
        elif path.suffix in TEXTS and path.stat().st_size <= _LARGEST_TEXT:
            contents.add(name, path)
        else:
            large = path.suffix in TEXTS
            contents.left_out[name] = "large" if large else _OF_OTHERS if relative in artifacts else "no text"
    for relative in artifacts:
        if not (run.path / relative).exists():
            contents.left_out[f"{top}/{relative}"] = "gone"


def _attempts(run: RunFolder, artifacts: Collection[str], *, follow: bool) -> Iterator[tuple[Path, bool]]:
    """Yield each file of a run's attempts, and each artifact that is a folder, which is not looked into.
    Links are followed in adopted results only: those consist of them."""
    seen: set[str] = set()
    for folder, names, leaves in os.walk(run.attempts, followlinks=follow):
        real = os.path.realpath(folder)
        inside = [Path(folder, name) for name in sorted(names)]
        as_product = [child for child in inside if child.relative_to(run.path).as_posix() in artifacts]
        names[:] = [] if real in seen else [child.name for child in inside if child not in as_product]
        seen.add(real)
        yield from ((path, True) for path in as_product)
        for leaf in sorted(leaves):
            path = Path(folder, leaf)
            if (follow or not path.is_symlink()) and path.is_file():
                yield path, False


def _annotations(
    contents: Contents,
    planned: PlannedRun,
    product: Product,
    folder: Path,
    project: Path,
    digest: Callable[[Path], str],
) -> None:
    """Add the annotations that a test was evaluated with, once for all tests that share them."""
    if planned.run.kind is not TaskKind.TEST or "predictions" not in product.artifacts:
        return
    work_dir = RunFolder(folder).attempt(product.attempt).work_dir
    tree = expanded(project, planned.run.workdir) if planned.run.workdir else work_dir
    try:
        path = annotation_file(work_dir, tree)
    except (OSError, ValueError):
        path = Path()
    if not path.is_file():
        contents.left_out[f"annotations of {planned.run.name}"] = "not there"
        return
    name = f"annotations/{digest(path.resolve())[:16]}-{path.name}"
    contents.annotations[planned.run.name] = name
    if name not in contents.members:
        contents.add(name, path, exact=True)
