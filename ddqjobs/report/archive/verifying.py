"""Verify an archive anywhere, without a network: digests, records, AP from predictions, verdicts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ddqjobs.base.frozen import Frozen
from ddqjobs.base.units import LOGIN_MEMORY, counted
from ddqjobs.detect import files as job_files
from ddqjobs.detect.recompute import NO_PYCOCOTOOLS
from ddqjobs.environments.on_site import Environments
from ddqjobs.report.archive import crate
from ddqjobs.report.archive.contents import TEXTS, WEIGHTS
from ddqjobs.report.archive.opening import BrokenError
from ddqjobs.report.archive.unpacked import Inside, read, unpacked
from ddqjobs.report.archive.writing import BLOCK, judged
from ddqjobs.report.cache import ANNOTATIONS_ABSENT, NEEDS_MORE, NO_EVALUATOR, ReportFiles
from ddqjobs.report.recomputed import NO_BOX_AP, NOT_RECOMPUTED, Recomputed, recomputed_rows
from ddqjobs.spec.model import Status, TaskKind
from ddqjobs.store import evidence

# What records that nobody of us wrote make Python raise: nested too deeply, times beyond all calendars.
_TROUBLES = (RecursionError, ValueError, LookupError, TypeError, AttributeError, OverflowError)
_LONGEST = 200  # characters of what is said of them
# What of a report is a verdict, and what of that decides; the rest says when, where and in which words. A
# newer ddqjobs says more of the same.
_VERDICTS = ("models", "alignment", "curves", "recomputed", "checks", "summary", "overall", "outcome", "ok")
_DECISIVE = frozenset(
    (
        *("run", "runs", "phase", "model", "variant", "overall", "outcome", "ok", "word", "required"),
        *(
            "mean",
            "reference",
            "difference",
            "tolerance",
            "printed",
            "recomputed",
            "distance",
            "box",
            "score",
        ),
        *("unmatched", "good", "short", "differs", "exceeds", "unknown", "judged"),
    )
)
Say = Callable[[str], None]


class Check(Frozen, frozen=True, kw_only=True):
    """One thing that was looked at. ``holds`` is None where it could not be."""

    what: str
    holds: bool | None
    found: str


class Verified(Frozen, frozen=True, kw_only=True):
    """The findings about an archive."""

    file: str
    sha256: str
    experiment: str
    overall: str
    ok: bool
    checks: tuple[Check, ...]


def verify(
    path: Path, environments: Environments, say: Say = lambda _: None, memory: str = LOGIN_MEMORY
) -> Verified:
    """Verify an archive; ``environments`` may have an interpreter with an evaluator, which takes
    ``memory`` at most. Raise InputError for a
    file that is no archive, or one of a newer format."""
    sha256 = job_files.sha256(path) if path.is_file() else ""
    checks: list[Check] = []
    name, overall = "", ""
    with tempfile.TemporaryDirectory(prefix="ddqjobs-archive-") as temporary:
        try:
            inside = unpacked(path, Path(temporary), say)
            files = counted(len(inside.digests), "file")
            text = f"{files} are what their SHA-256 say, nothing else is inside"
            checks.append(Check(what="files", holds=True, found=text))
            name = inside.experiment.name
            overall = _all(inside, environments, checks, say, memory)
        except BrokenError as error:
            checks.append(Check(what="files", holds=False, found=str(error)))
        except _TROUBLES as error:
            text = f"its records cannot be used: {type(error).__name__}: {error}".split("\n")[0]
            checks.append(Check(what="records", holds=False, found=text[:_LONGEST]))
    return Verified(
        file=str(path),
        sha256=sha256,
        experiment=name,
        overall=overall,
        ok=all(check.holds is not False for check in checks),
        checks=tuple(checks),
    )


def _all(inside: Inside, environments: Environments, checks: list[Check], say: Say, memory: str) -> str:
    annotations = {run: inside.folder / name for run, name in inside.index.annotations.items()}
    files = ReportFiles(inside.folder / inside.top, environments, annotations, archived=True)
    checks.append(_crate(inside))
    checks.append(_runs(inside))
    checks.append(_artifacts(inside))
    verdicts, overall = _verdicts(inside, files)
    shutil.rmtree(files.cache / "recomputed", ignore_errors=True)  # what follows is computed here and now
    checks.extend(_recomputed(inside, files.recompute(inside.plan.runs, inside.products, say, memory)))
    checks.append(verdicts)
    return overall


def _crate(inside: Inside) -> Check:
    """Look whether the metadata describe the files that are there."""
    metadata = read(inside.folder / crate.METADATA, dict[str, Any])
    graph = metadata.get("@graph")
    described = {
        item.get("@id"): item.get("sha256")
        for item in (graph if isinstance(graph, list) else ())
        if isinstance(item, dict) and item.get("@type") == "File" and isinstance(item.get("@id"), str)
    }
    there = {
        crate.identifier(name): digest for name, digest in inside.digests.items() if name != crate.METADATA
    }
    if described != there:
        return Check(what="crate", holds=False, found=f"{crate.METADATA} describes other files")
    return Check(what="crate", holds=True, found=f"{crate.METADATA} describes all files")


def _runs(inside: Inside) -> Check:
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
    done = sum(planned.status is Status.DONE for planned in inside.plan.runs)
    text = f"{done} of {counted(len(inside.plan.runs), 'run')} done, by ledger, plan and products"
    return _check("runs", wrong, text)


def _artifacts(inside: Inside) -> Check:
    """Look whether each file that a product recorded is inside and is that file, or was left out. Of a text
    that was rewritten only what it was before is known."""
    annotations = set(inside.index.annotations.values())
    wrong = [f"{name} was rewritten" for name in sorted(annotations & inside.index.original.keys())]
    there, rewritten, absent = 0, 0, 0
    for name, product in inside.products.items():
        for artifact in product.artifacts:
            member = inside.member(name, artifact)
            if member in inside.digests:
                digest = inside.digests[member]
                original = inside.index.original.get(member, digest)
                other = original != digest
                if product.sha256.get(artifact, original) != original:
                    wrong.append(f"{artifact} of {name} is not the file that was recorded")
                elif other and (artifact == "predictions" or not _text(inside.folder / member)):
                    wrong.append(f"{artifact} of {name} was rewritten")
                there, rewritten = there + (not other), rewritten + other
            elif member in inside.index.left_out:
                absent += 1
            else:
                wrong.append(f"{artifact} of {name} is not inside")
    text = f"{there} are the files that were recorded, "
    text += f"{rewritten} are texts that were rewritten, " if rewritten else ""
    return _check("artifacts", wrong, f"{text}{absent} were left out")


def _text(path: Path) -> bool:
    """Tell a file that an archive may have rewritten."""
    if path.suffix not in TEXTS:
        return False
    with path.open("rb") as stream:
        return b"\0" not in stream.read(BLOCK)


def _recomputed(inside: Inside, recomputed: Mapping[str, Recomputed]) -> Iterator[Check]:
    """Yield whether AP computed from the predictions is the AP that each test printed."""
    rows = recomputed_rows(inside.plan.runs, inside.products, recomputed)
    computed = [row for row in rows if row.judgement.outcome is not None and row.printed is not None]
    equal = [row for row in computed if row.judgement.good]
    wrong = [f"{row.run} {row.judgement.word}" for row in computed if not row.judgement.good]
    rest = {
        row.run: "it printed no AP" if row.judgement.outcome is not None else _why(row.judgement.word)
        for row in rows
        if row not in computed
    }
    for name in [name for name in rest if _evaluable(inside, name, rest[name])]:
        wrong.append(f"{name}: what is inside cannot be evaluated: {rest.pop(name)}")
    tests = sum(
        planned.run.kind is TaskKind.TEST and planned.run.name in inside.products
        for planned in inside.plan.runs
    )
    if wrong or equal:
        text = f"computed from the predictions of {counted(len(equal), 'test')} of {tests}, as printed"
        yield _check("AP", wrong, text)
    for reason in dict.fromkeys(rest.values()):
        names = [name for name in rest if rest[name] == reason]
        more = f" and {len(names) - 3} more" if names[3:] else ""
        yield Check(what="AP", holds=None, found=f"{', '.join(names[:3])}{more}: {reason}")


def _why(word: str) -> str:
    return word.removeprefix(f"{NOT_RECOMPUTED}: ")


def _evaluable(inside: Inside, name: str, problem: str) -> bool:
    """Tell a test whose predictions are inside, and whose AP could have been computed here."""
    member = inside.member(name, "predictions")
    there = member in inside.digests and not member.endswith(WEIGHTS)  # weights are not unpacked
    absent = problem in (NO_EVALUATOR, ANNOTATIONS_ABSENT, NO_BOX_AP) or problem.endswith(NO_PYCOCOTOOLS)
    return there and not absent and not problem.startswith(NEEDS_MORE)


def _verdicts(inside: Inside, files: ReportFiles) -> tuple[Check, str]:
    """Look whether the evidence gives the verdicts that the archive's report has; that of all of it."""
    wrong, overall = [], ""
    for name, metrics, called in (
        ("judged.json", (), "the report"),
        ("report.json", None, "report.json"),
    ):
        recorded = read(inside.folder / "report" / name, dict[str, Any])
        report = judged(inside.experiment, inside.plan, inside.products, files, metrics)
        here, overall = msgspec.json.decode(msgspec.json.encode(report)), report.overall
        wrong += [
            f"{key} of {called}"
            for key in _VERDICTS
            if _decisive(key, recorded.get(key)) != _decisive(key, here[key])
        ]
    right = f"{overall}, as the report says; its page and its text are not compared"
    return _check("verdicts", wrong, right), overall


def _decisive(key: str, value: Any) -> Any:
    """Return what of a verdict decides; None for what does not."""
    if isinstance(value, dict):
        open_ = "outcome" in value and value["outcome"] is None  # the words say how far a run is
        told = {k: _decisive(k, v) for k, v in value.items() if not (open_ and k == "word")}
        return {k: v for k, v in told.items() if v is not None} or None
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return [_decisive(key, v) for v in value]
    return value if key in _DECISIVE else None


def _check(what: str, wrong: list[str], right: str) -> Check:
    more = f" and {len(wrong) - 3} more" if wrong[3:] else ""
    return Check(what=what, holds=not wrong, found="; ".join(wrong[:3]) + more if wrong else right)
