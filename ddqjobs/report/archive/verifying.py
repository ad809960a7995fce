"""Verify an archive anywhere, without a network: digests, records, AP from predictions, verdicts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ddqjobs.base.errors import InputError
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.units import counted
from ddqjobs.detect import files as job_files
from ddqjobs.environments.on_site import Environments
from ddqjobs.planning import plan as planning
from ddqjobs.report.archive import crate
from ddqjobs.report.archive.opening import BrokenError, Opened
from ddqjobs.report.archive.writing import FORMAT, INDEX, Index, judged
from ddqjobs.report.cache import ReportFiles
from ddqjobs.report.recomputed import Recomputed, recomputed_rows
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Plan, Product, Status, TaskKind
from ddqjobs.store import evidence
from ddqjobs.store.history import History
from ddqjobs.store.store import Store

_LARGEST = 256 << 20  # bytes of a document
# What of a report is a verdict; the rest says when and where.
_VERDICTS = ("models", "alignment", "curves", "recomputed", "checks", "summary", "overall", "outcome", "ok")
T = TypeVar("T")
Say = Callable[[str], None]


class Check(Frozen, frozen=True, kw_only=True):
    """One thing that was looked at. ``holds`` is None where it could not be."""

    what: str
    holds: bool | None
    found: str


class Verified(Frozen, frozen=True, kw_only=True):
    """What holds of an archive."""

    file: str
    sha256: str
    experiment: str
    overall: str
    ok: bool
    checks: tuple[Check, ...]


@dataclass
class _Inside:
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
        return f"results/{self.experiment.name}"


def verify(path: Path, environments: Environments, say: Say = lambda _: None) -> Verified:
    """Verify an archive; ``environments`` may have an interpreter with pycocotools. Raise InputError for a
    file that is no archive, or one of a newer format."""
    sha256 = job_files.sha256(path) if path.is_file() else ""
    checks: list[Check] = []
    name, overall = "", ""
    with tempfile.TemporaryDirectory(prefix="ddqjobs-archive-") as temporary:
        try:
            inside = _unpacked(path, Path(temporary), checks, say)
            name = inside.experiment.name
            overall = _all(inside, environments, checks, say)
        except BrokenError as error:
            checks.append(Check(what="files", holds=False, found=str(error)))
    return Verified(
        file=str(path),
        sha256=sha256,
        experiment=name,
        overall=overall,
        ok=all(check.holds is not False for check in checks),
        checks=tuple(checks),
    )


def _unpacked(path: Path, folder: Path, checks: list[Check], say: Say) -> _Inside:
    with closing(Opened(path)) as archive:
        digests = archive.digests()
        say(f"unpacking {counted(len(digests), 'file')}")
        differing = archive.unpack(folder, digests)
    if differing:
        shown = ", ".join(differing[:3]) + (f" and {len(differing) - 3} more" if differing[3:] else "")
        raise BrokenError(f"not what their digests say: {shown}")
    words = f"{counted(len(digests), 'file')} are what their SHA-256 say, nothing else is inside"
    checks.append(Check(what="files", holds=True, found=words))
    index = _read(folder / INDEX, Index)
    if index.format > FORMAT:
        raise InputError(f"{path}: format {index.format}, written by ddqjobs {index.ddqjobs}; update ddqjobs")
    experiment = _read(folder / "experiment.json", Experiment)
    recorded = _read(folder / "plan.json", Plan)
    if not experiment.name == index.experiment == recorded.experiment:
        raise BrokenError("its experiment has several names")
    store = Store(folder / "results" / experiment.name)
    history = store.history()
    plan = planning.build(
        (p.run for p in recorded.runs),
        history,
        experiment=recorded.experiment,
        site=recorded.site,
        missing={p.run.name for p in recorded.runs if p.gone},
        blocked={p.run.name: p.reason for p in recorded.runs if p.blocked},
    )
    gone = {p.run.name for p in plan.runs if p.gone}
    products = {
        name: story.done.product
        for name, story in history.runs.items()
        if story.done is not None and story.done.product is not None and name not in gone
    }
    return _Inside(folder, digests, index, experiment, plan, recorded, products, history)


def _all(inside: _Inside, environments: Environments, checks: list[Check], say: Say) -> str:
    annotations = {run: inside.folder / name for run, name in inside.index.annotations.items()}
    files = ReportFiles(inside.folder / inside.top, environments, annotations)
    checks.append(_crate(inside))
    checks.append(_runs(inside))
    checks.append(_artifacts(inside))
    report = judged(inside.experiment, inside.plan, inside.products, files)
    shutil.rmtree(files.cache / "recomputed", ignore_errors=True)  # what follows is computed here and now
    checks.extend(_recomputed(inside, files.recompute(inside.plan.runs, inside.products, say)))
    checks.append(_verdicts(inside, msgspec.json.decode(msgspec.json.encode(report))))
    return report.overall


def _crate(inside: _Inside) -> Check:
    """Look whether the metadata describe the files that are there."""
    metadata = _read(inside.folder / crate.METADATA, dict[str, Any])
    graph = metadata.get("@graph")
    described = {
        item.get("@id"): item.get("sha256")
        for item in (graph if isinstance(graph, list) else ())
        if isinstance(item, dict) and item.get("@type") == "File"
    }
    there = {
        crate.identifier(name): digest for name, digest in inside.digests.items() if name != crate.METADATA
    }
    if described != there:
        return Check(what="crate", holds=False, found=f"{crate.METADATA} describes other files")
    return Check(what="crate", holds=True, found=f"{crate.METADATA} describes all files")


def _runs(inside: _Inside) -> Check:
    """Look whether plan, ledger and products tell the same of each run."""
    wrong = []
    for here, there in zip(inside.plan.runs, inside.recorded.runs, strict=True):
        state = (here.status, bool(here.stale), bool(here.accepted))
        if state != (there.status, bool(there.stale), bool(there.accepted)):
            wrong.append(f"{here.run.name} is {here.status.value} by the ledger")
    for name, product in inside.products.items():
        left = evidence.product(inside.folder / inside.top / "runs" / name)
        if left != product:
            wrong.append(f"{name}'s product.json is not what the ledger recorded")
    done = sum(p.status is Status.DONE for p in inside.plan.runs)
    words = f"{done} of {counted(len(inside.plan.runs), 'run')} done, by ledger, plan and products"
    return _check("runs", wrong, words)


def _artifacts(inside: _Inside) -> Check:
    """Look whether each file that a product recorded is inside and is that file, or was left out."""
    wrong, there, absent = [], 0, 0
    for name, product in inside.products.items():
        for artifact, path in product.artifacts.items():
            member = f"{inside.top}/runs/{name}/{path}"
            if member in inside.digests:
                digest = inside.index.original.get(member, inside.digests[member])
                there += 1
                if product.sha256.get(artifact, digest) != digest:
                    wrong.append(f"{artifact} of {name} is not the file that was recorded")
            elif member in inside.index.left_out:
                absent += 1
            else:
                wrong.append(f"{artifact} of {name} is not inside")
    return _check("artifacts", wrong, f"{there} are the files that were recorded, {absent} were left out")


def _recomputed(inside: _Inside, found: Mapping[str, Recomputed]) -> Iterator[Check]:
    """Yield whether AP computed from the predictions is the AP that each test printed."""
    rows = recomputed_rows(inside.plan.runs, inside.products, found)
    equal = [row for row in rows if row.judgement.good]
    wrong = [row for row in rows if row.judgement.outcome is not None and not row.judgement.good]
    rest = [row for row in rows if row.judgement.outcome is None]
    tests = sum(p.run.kind is TaskKind.TEST and p.run.name in inside.products for p in inside.plan.runs)
    if wrong or equal:
        words = f"computed from the predictions of {counted(len(equal), 'test')} of {tests}, as printed"
        yield _check("AP", [f"{row.run} {row.judgement.word}" for row in wrong], words)
    for reason in dict.fromkeys(row.judgement.word for row in rest):
        names = [row.run for row in rest if row.judgement.word == reason]
        more = f" and {len(names) - 3} more" if names[3:] else ""
        why = reason.removeprefix("not recomputed: ")
        yield Check(what="AP", holds=None, found=f"{', '.join(names[:3])}{more}: {why}")


def _verdicts(inside: _Inside, report: Mapping[str, Any]) -> Check:
    """Look whether the evidence gives the verdicts that the archive's report has."""
    recorded = _read(inside.folder / "report" / "judged.json", dict[str, Any])
    wrong = [f"{key} of the report" for key in _VERDICTS if recorded.get(key) != report.get(key)]
    return _check("verdicts", wrong, f"{report['overall']}, as the report says")


def _check(what: str, wrong: list[str], right: str) -> Check:
    more = f" and {len(wrong) - 3} more" if wrong[3:] else ""
    return Check(what=what, holds=not wrong, found="; ".join(wrong[:3]) + more if wrong else right)


def _read(path: Path, kind: type[T]) -> T:
    try:
        if path.stat().st_size > _LARGEST:
            raise BrokenError(f"{path.name}: too large")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BrokenError(f"{path.name}: absent, or not what it must be") from error
