"""Take in results that exist already: a detector's work_dir or checkpoint, or a run of another experiment."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ddqjobs.base import files, process
from ddqjobs.base.errors import DdqjobsError, InputError, MissingError, StateError
from ddqjobs.base.paths import PACKAGE, expanded
from ddqjobs.base.process import user
from ddqjobs.base.shell_variables import inherited
from ddqjobs.detect import files as job_files
from ddqjobs.detect.job import exit_codes
from ddqjobs.environments import environment as declarations
from ddqjobs.environments.on_site import Environments
from ddqjobs.planning import settings
from ddqjobs.spec.model import Adoption, PlannedRun, Product, Run, Status
from ddqjobs.store import evidence
from ddqjobs.store.layout import AttemptFolder, RunFolder
from ddqjobs.store.ledger import Finished
from ddqjobs.submission.examination import Expected, examine
from ddqjobs.submission.workspace import Workspace

_TIMEOUT_S = 600.0
# What an attempt has beside its work_dir, and is as true of a result taken from another experiment.
_BESIDE = ("stdout.log", "proof.json", "loaded.txt")


def adopt(
    workspace: Workspace, environments: Environments, planned: PlannedRun, path: Path, because: str = ""
) -> Product:
    """Make ``path`` the product of a run, as an attempt whose work_dir links to the files there.

    Raises MissingError, StateError (the run is active or done), InputError (nothing there is such a product,
    or it differs from the run's and there is no reason ``because`` it counts all the same).
    """
    path = path.expanduser().absolute()
    if not path.exists():
        raise MissingError(f"{path}: no such file or folder")
    _require_open(planned)
    adoption = _examined(workspace, environments, planned.run, path, because)
    attempt = _Attempt.begun(workspace, planned.run, f"{path}")
    attempt.link(path)
    return attempt.finished(attempt.looked_for(workspace, adoption))


def adopt_from(workspace: Workspace, planned: Sequence[PlannedRun], other: Workspace) -> dict[str, Product]:
    """Take in the results of another experiment, or of this one's runs that it no longer has, that have the
    digests of these runs; return them by run. Runs that are done or active, and those whose digest it has
    not, are left as they are.

    Raises StateError and InputError, of a file that is not what was recorded.
    """
    kept = {run.name for run in workspace.loaded.runs} if other.results == workspace.results else set()
    results = {product.digest: product for product in other.products().values() if product.run not in kept}
    adopted = {}
    for one in planned:
        theirs = results.get(one.run.digest)
        if theirs is not None and (one.status not in (Status.ACTIVE, Status.DONE) or one.stale):
            adopted[one.run.name] = _taken(workspace, one.run, other, theirs)
    return adopted


def _require_open(planned: PlannedRun) -> None:
    name = planned.run.name
    if planned.status is Status.ACTIVE:
        raise StateError(f"{name} is active ({planned.reason}); cancel it first: `ddqjobs cancel {name}`")
    if planned.status is Status.DONE and not planned.stale:
        raise StateError(f"{name} is done already; its result is kept")


def _examined(
    workspace: Workspace, environments: Environments, run: Run, path: Path, because: str
) -> Adoption:
    examination = examine(_expected(workspace, environments, run), path)
    if examination.differences and not because.strip():
        raise InputError(
            f"{path}: not adopted: {'; '.join(examination.differences)}. If it counts all the same, say why "
            "with --because TEXT, and every report shows it"
        )
    if because and not examination.differences:
        because = ""
    return Adoption(
        differences=tuple(examination.differences),
        unverified=tuple(examination.unverified),
        because=" ".join(because.split()),
        by=user() if because else "",
        at=time.time(),
    )


def _expected(workspace: Workspace, environments: Environments, run: Run) -> Expected:
    products = workspace.products()
    inputs = {role: _input(workspace, value.run, value.artifact, value.path, products)
              for role, value in run.inputs}  # fmt: skip
    try:
        packages = declarations.pins(environments.load(run.environment).lock) if run.environment else {}
    except DdqjobsError:
        packages = {}
    read, absent = _settings(workspace, environments, run)
    return Expected(
        run=run,
        settings=read,
        absent=absent,
        packages=packages,
        inputs={role: path for role, path in inputs.items() if path is not None and path.is_file()},
    )


def _input(
    workspace: Workspace, run: str, artifact: str, path: str, products: dict[str, Product]
) -> Path | None:
    if path:
        return expanded(workspace.catalog.project, path)
    relative = products[run].artifacts.get(artifact) if run in products else None
    return workspace.store.run_dir(run) / relative if relative else None


def _settings(
    workspace: Workspace, environments: Environments, run: Run
) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return what the run's configuration and options set, and the names of what was not found."""
    find = _Configurations(workspace, environments, run)
    path = find.named(run.config)
    read = settings.of_file(path, find.base) if path is not None else {}
    absent = tuple(find.absent) if path is not None else (run.config,) if run.config else ()
    return (settings.with_options(read, run.options) if read else {}), absent


class _Configurations:
    """Finds a run's configuration and its bases: in code tree, project, shipped files and environment."""

    def __init__(self, workspace: Workspace, environments: Environments, run: Run) -> None:
        self._run, self._environments = run, environments
        self._project = workspace.catalog.project
        self._find = workspace.catalog.configs_of(workspace.loaded.path)
        self._places: dict[Path, str] = {}
        self.absent: list[str] = []  # bases that were not found

    def named(self, name: str) -> Path | None:
        """Return the file of a configuration by its name in the experiment."""
        if "::" in name:
            return self._of_package(name)
        if self._run.workdir:
            tree = expanded(self._project, self._run.workdir) / name
            if name and tree.is_file():
                return tree
        path = self._find(name) if name else None
        if path is not None:
            self._places[path] = name
        return path

    def base(self, name: str, named_by: Path) -> Path | None:
        """Return the file that a ``_base_`` names."""
        path = self._base(name, named_by)
        if path is None:
            self.absent.append(name)
        return path

    def _base(self, name: str, named_by: Path) -> Path | None:
        if "::" in name:
            return self._of_package(name)
        path = named_by.parent / name
        if path.is_file() or named_by not in self._places:
            return path if path.is_file() else None
        return self.named(os.path.normpath(Path(self._places[named_by]).parent / name))

    def _of_package(self, name: str) -> Path | None:
        """Return the file of ``mmdet::ddq/...`` in the run's environment, where it is built here."""
        package, _, relative = name.partition("::")
        try:
            folder = self._environments.location(self._run.environment)
        except DdqjobsError:
            return None
        if not package.isidentifier() or ".." in Path(relative).parts:
            return None
        places = folder.glob(f"lib/python3*/site-packages/{package}/.mim/configs")
        return next((place / relative for place in places if (place / relative).is_file()), None)


def _taken(workspace: Workspace, run: Run, other: Workspace, theirs: Product) -> Product:
    """Make a result of another experiment, of the same digest, the product of a run."""
    folder = RunFolder(other.store.run_dir(theirs.run))
    for artifact, digest in theirs.sha256.items():
        path = folder.path / theirs.artifacts[artifact]
        if not path.is_file() or job_files.sha256(path) != digest:
            raise InputError(f"{path}: not adopted: it is not the file that was recorded")
    experiment = other.loaded.experiment.name
    attempt = _Attempt.begun(workspace, run, f"{theirs.run} of {experiment}")
    source = folder.attempt(theirs.attempt)
    if source.work_dir.is_dir():
        attempt.link(source.work_dir)
    for name in _BESIDE:
        if (source.path / name).exists():
            attempt.beside(source.path / name)
    before, here = f"attempts/{theirs.attempt}/", f"attempts/{attempt.number}/"
    product = msgspec.structs.replace(
        theirs,
        run=run.name,
        attempt=attempt.number,
        ticket=attempt.ticket,
        adopted_from=attempt.source,
        artifacts={k: v.replace(before, here, 1) for k, v in theirs.artifacts.items()},
    )
    attempt.publish(product)
    return attempt.finished(product)


class _Attempt:
    """An attempt that no job made."""

    def __init__(
        self, workspace: Workspace, run: Run, source: str, number: int, folder: AttemptFolder
    ) -> None:
        self.run, self.source, self.number, self.folder = run, source, number, folder
        self.ticket = ""  # until it is claimed
        self._store = workspace.store
        self._run_dir = workspace.store.run_dir(run.name)

    @classmethod
    def begun(cls, workspace: Workspace, run: Run, source: str) -> _Attempt:
        """Reserve the next attempt of a run."""
        workspace.store.ledger.begin()  # runs without a ledger would stop every later command
        run_folder = RunFolder(workspace.store.run_dir(run.name))
        run_folder.attempts.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            folder = run_folder.attempt(number)
            try:
                folder.path.mkdir()
            except FileExistsError:
                number += 1
            else:
                break
        folder.work_dir.mkdir()
        attempt = cls(workspace, run, source, number, folder)
        folder.run.write_bytes(msgspec.json.encode(run))
        attempt.claim()
        started = {
            "ticket": attempt.ticket,
            "job": "adopted",
            "host": "",
            "pid": os.getpid(),
            "at": time.time(),
        }
        folder.started.write_bytes(msgspec.json.encode(started))
        return attempt

    def claim(self) -> None:
        """Take the first ticket that nobody had: those of attempts that were removed are void."""
        base = f"adopted-{self.run.name}-{self.number}"
        names = (base if not again else f"{base}.{again}" for again in itertools.count())
        claims = self._store.claims
        self.ticket = next(name for name in names if claims.take(name, f"run\nadopted from {self.source}\n"))

    def link(self, path: Path) -> None:
        """Link to a file, or to all that lies in a folder, from the work_dir."""
        for source in sorted(path.iterdir()) if path.is_dir() else (path,):
            self._symlink(self.folder.work_dir, source)

    def beside(self, path: Path) -> None:
        """Link to a file from beside the work_dir."""
        self._symlink(self.folder.path, path)

    def _symlink(self, folder: Path, source: Path) -> None:
        """Make a link that survives a move of the results, where the source is one of them."""
        own = source.is_relative_to(self._store.layout.root.parent)
        (folder / source.name).symlink_to(os.path.relpath(source, folder) if own else source)

    def looked_for(self, workspace: Workspace, adoption: Adoption) -> Product:
        """Have the product looked for as a job has. Raise InputError."""
        variables = {
            "DDQJOBS_RUN_DIR": str(self._run_dir),
            "DDQJOBS_ATTEMPT": str(self.number),
            "DDQJOBS_ATTEMPT_DIR": str(self.folder.path),
            "DDQJOBS_WORK_DIR": str(self.folder.work_dir),
            "DDQJOBS_TICKET": self.ticket,
            "DDQJOBS_CLAIM": str(workspace.store.claims.path(self.ticket)),
            "DDQJOBS_STOP": str(self.folder.stop),
            "DDQJOBS_ADOPTED_FROM": self.source,
            "DDQJOBS_ADOPTION": msgspec.json.encode(adoption).decode(),
            "PYTHONPATH": str(PACKAGE.parent),
        }
        argv = [sys.executable, "-m", "ddqjobs.detect.product"]
        done = process.run(argv, timeout=_TIMEOUT_S, env={**inherited(os.environ), **variables})
        product = evidence.product(self._run_dir)
        if done.code == 0 and product is not None and product.ticket == self.ticket:
            return product
        lines = (done.stdout + done.stderr).strip().splitlines()
        why = lines[-1] if lines else f"exit {done.code}"
        ending = {"code": exit_codes.NO_INPUT, "product": 3, "failure": "data", "note": "not adopted"}
        self.folder.exit.write_bytes(msgspec.json.encode(ending) + b"\n")
        raise InputError(f"{self.source}: not adopted: {why}")

    def publish(self, product: Product) -> None:
        """Put a product in place that is known already, as a job does: its links, then itself."""
        run_folder = RunFolder(self._run_dir)
        run_folder.artifacts.mkdir(exist_ok=True)
        for name, relative in product.artifacts.items():
            files.link(run_folder.artifacts / name, f"../{relative}")
        text = msgspec.json.format(msgspec.json.encode(product), indent=1) + b"\n"
        files.replace(self.folder.product, text)
        files.replace(run_folder.product, text)

    def finished(self, product: Product) -> Product:
        """Record the run as done."""
        reason = f"adopted from {self.source}"
        self._store.ledger.append(
            Finished(
                run=self.run.name, ticket=self.ticket, product=product, attempts=self.number, reason=reason
            )
        )
        return product
