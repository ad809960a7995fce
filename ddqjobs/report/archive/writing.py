"""Write an archive: the same content gives the same bytes, and the file is whole or absent."""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ddqjobs.base import secrets
from ddqjobs.base.errors import StateError, mend
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.paths import PACKAGE
from ddqjobs.base.version import VERSION
from ddqjobs.detect import files as job_files
from ddqjobs.environments.on_site import Environments
from ddqjobs.planning.changes import without_secrets
from ddqjobs.planning.filters import Filters
from ddqjobs.report import document, formats
from ddqjobs.report.archive import crate
from ddqjobs.report.archive.contents import Contents, Member, collect
from ddqjobs.report.archive.crate import Entry
from ddqjobs.report.archive.machine_paths import MachinePaths
from ddqjobs.report.cache import ReportFiles
from ddqjobs.report.document import Report
from ddqjobs.report.reports import Reports
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Plan, Product
from ddqjobs.submission.workspace import Workspace

FORMAT = 1
INDEX = "archive.json"
MANIFEST = "manifest-sha256.txt"  # as `sha256sum --check` reads it: of all other files
_STAMP = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: times are in the files
BLOCK = 1 << 20
Say = Callable[[str], None]


class Index(Frozen, frozen=True, kw_only=True):
    """The description of an archive, beside its files: ``archive.json``."""

    format: int
    ddqjobs: str
    experiment: str
    original: dict[str, str] = msgspec.field(default_factory=dict)  # name -> SHA-256 before it was rewritten
    left_out: dict[str, str] = msgspec.field(default_factory=dict)  # name -> why
    annotations: dict[str, str] = msgspec.field(default_factory=dict)  # run -> name


class Written(Frozen, frozen=True, kw_only=True):
    """An archive that was written."""

    path: str
    sha256: str
    size: int  # bytes
    files: int
    left_out: dict[str, str]
    seconds: float


def write(
    workspace: Workspace, environments: Environments, path: Path, *, weights: bool, say: Say
) -> Written:
    """Write the archive of an experiment to ``path``, in place of a file that is there. Raise StateError."""
    begun = time.monotonic()
    reports = Reports(workspace, environments)
    whole = reports.document(Filters(), metrics=None, recompute=False, at=None, say=say)
    plan, products = workspace.plan(refresh=False), workspace.products()
    contents = collect(workspace, environments, plan, products, weights=weights)
    experiment = workspace.loaded.experiment
    at = max((record.at for record in workspace.store.ledger.read()), default=0.0)
    runs = tuple(
        msgspec.structs.replace(planned, run=without_secrets(planned.run), notes=()) for planned in plan.runs
    )
    contents.add("experiment.json", _json(experiment))
    contents.add("plan.json", _json(msgspec.structs.replace(plan, runs=runs)))
    contents.add("report/judged.json", _json(judged(experiment, plan, products, reports.files)))
    contents.add("report/report.json", formats.render(whole, "json").encode())
    contents.add("report/report.md", formats.render(whole, "markdown").encode())
    contents.add("report/report.html", reports.page(whole, None, False, say, at).encode())
    writer = _Writer(experiment.name, _paths(workspace, environments), say)
    describe = _describer(whole, workspace, plan, products, at)
    try:
        job_files.replace(path.resolve(), lambda temporary: writer.write(temporary, contents, describe))
    except OSError as error:
        raise StateError(f"{path}: {error.strerror or error}; {mend(error)}") from error
    return Written(
        path=str(path),
        sha256=job_files.sha256(path),
        size=path.stat().st_size,
        files=len(writer.entries),
        left_out=dict(sorted(contents.left_out.items())),
        seconds=round(time.monotonic() - begun, 2),
    )


def judged(
    experiment: Experiment,
    plan: Plan,
    products: Mapping[str, Product],
    files: ReportFiles,
    metrics: Sequence[str] | None = (),
) -> Report:
    """Return the report that nothing but the evidence decides: no progress, no clock, no scheduler."""
    products = files.compared(products)
    curves = files.curves(document.compared(experiment, plan), products)
    kept = files.recomputed(products)
    return document.build(experiment, plan, products, recomputed=kept, curves=curves, metrics=metrics)


def _describer(
    whole: Report, workspace: Workspace, plan: Plan, products: Mapping[str, Product], at: float
) -> Callable[[list[Entry]], dict[str, Any]]:
    title = workspace.loaded.experiment.title
    return lambda entries: crate.metadata(
        whole.experiment, title, whole.overall, VERSION, at, entries, plan.runs, products
    )


def _paths(workspace: Workspace, environments: Environments) -> MachinePaths:
    project = workspace.catalog.project
    folders = {
        str(workspace.results): "{results}",
        str(project): "{project}",
        str(environments.base): "{environments}",
        str(PACKAGE.parent): "{ddqjobs}",
        str(Path.home()): "~",
    }
    real = {str(Path(folder).resolve()): word for folder, word in folders.items()}
    return MachinePaths({**real, **folders})


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


class _Writer:
    """Writes members in order, and knows what it has written."""

    def __init__(self, experiment: str, paths: MachinePaths, say: Say) -> None:
        self.entries: list[Entry] = []
        self._experiment = experiment
        self._paths, self._say, self._told = paths, say, time.monotonic()

    def write(
        self, path: Path, contents: Contents, describe: Callable[[list[Entry]], dict[str, Any]]
    ) -> None:
        """Write all members, then the metadata, then the digests of all."""
        self.entries = []
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for number, member in enumerate(sorted(contents.members.values()), start=1):
                self._tell(number, len(contents.members))
                self._member(archive, member, contents)
            found_left_out = {self._clean(k): self._clean(v) for k, v in sorted(contents.left_out.items())}
            index = Index(
                format=FORMAT,
                ddqjobs=VERSION,
                experiment=self._experiment,
                original={e.name: e.original for e in self.entries if e.original},
                left_out=found_left_out,
                annotations=dict(sorted(contents.annotations.items())),
            )
            self._bytes(archive, INDEX, _json(index))
            self._bytes(archive, crate.METADATA, self._clean(_json(describe(self.entries)).decode()).encode())
            lines = "".join(f"{e.sha256}  {e.name}\n" for e in self.entries)
            self._bytes(archive, MANIFEST, lines.encode())

    def _tell(self, number: int, count: int) -> None:
        if time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            self._say(f"{number} of {count} files")

    def _clean(self, text: str, *, written: bool = False) -> str:
        return secrets.masked(self._paths.masked(text, written=written))

    def _member(self, archive: zipfile.ZipFile, member: Member, contents: Contents) -> None:
        if member.path is None or not member.exact:
            data = member.data if member.path is None else member.path.read_bytes()
            if b"\0" in data[:BLOCK] and not member.exact:
                contents.left_out[member.name] = "binary"
                return
            text = data.decode("utf-8", "surrogateescape")
            text = text if member.ours else self._clean(text, written=member.written)
            cleaned = text.encode("utf-8", "surrogateescape")
            original = hashlib.sha256(data).hexdigest() if cleaned != data else ""
            self._bytes(archive, member.name, cleaned, original)
            return
        digest, size = hashlib.sha256(), 0
        with member.path.open("rb") as source, archive.open(_info(member.name), "w", force_zip64=True) as out:
            while block := source.read(BLOCK):
                digest.update(block)
                size += len(block)
                out.write(block)
        self.entries.append(Entry(name=member.name, sha256=digest.hexdigest(), size=size))

    def _bytes(self, archive: zipfile.ZipFile, name: str, data: bytes, original: str = "") -> None:
        archive.writestr(_info(name), data)
        digest = hashlib.sha256(data).hexdigest()
        self.entries.append(Entry(name=name, sha256=digest, size=len(data), original=original))


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _STAMP)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o100644 << 16
    return info
