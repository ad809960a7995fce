"""Keep what a report reads beside the ledger: loss curves, and AP recomputed from predictions.

Nothing here changes a result. What takes long to make (a curve from a log, an AP from predictions) is kept
below ``results/<experiment>/report/cache/`` and made again when its source has changed; the folder may be
deleted at any time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ddqjobs.base import process
from ddqjobs.base.errors import DdqjobsError, InputError
from ddqjobs.base.paths import PACKAGE, expanded
from ddqjobs.base.shell_variables import inherited
from ddqjobs.base.text import clean
from ddqjobs.base.units import LOGIN_MEMORY, megabytes, size
from ddqjobs.detect.checks import resolved
from ddqjobs.detect.recompute import NO_PYCOCOTOOLS, CannotEvaluate
from ddqjobs.environments.on_site import Environments
from ddqjobs.report.annotations import annotation_file
from ddqjobs.report.loss_curves import Curve
from ddqjobs.report.recomputed import Recomputed
from ddqjobs.spec.model import Plan, PlannedRun, Product, Status, TaskKind
from ddqjobs.store import evidence
from ddqjobs.store.layout import Layout, RunFolder

LARGEST_LOG = 256 << 20  # bytes that are read for a curve; a log of DDQ DETR has 5 MB
_EVALUATION_S = 3600.0
_RECOMPUTE = PACKAGE / "detect" / "recompute.py"
_NO_EVALUATOR_CODE, _NO_MEMORY_CODE = 3, 4  # exit codes of ddqjobs.detect.recompute
NEEDS_MORE = "needs more than"
_ABORTED = "memory allocation of "  # what Rust says before it aborts
NO_EVALUATOR = "no interpreter with hotcoco or pycocotools: pip install 'ddqjobs[coco]'"
ANNOTATIONS_ABSENT = "the annotations are not there"
T = TypeVar("T")
Say = Callable[[str], None]


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A curve in the cache. ``source`` names the log it was made from, as it was then."""

    source: str
    curve: Curve


class _Made(msgspec.Struct, frozen=True, kw_only=True):
    """The digest of a run's resolved configuration."""

    resolved: str = ""


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    """A product, as far as it names a configuration."""

    digest: str = ""
    ran: _Made | None = None


class _Means(msgspec.Struct, frozen=True, kw_only=True):
    """The values that a verdict on curves looks at."""

    last: int = 0
    means: dict[str, list[float | None]] = {}


class ReportFiles:
    """The files of one experiment's results folder that its report reads."""

    def __init__(
        self,
        results: Path,
        environments: Environments,
        annotations: Mapping[str, Path] | None = None,
        *,
        archived: bool = False,
    ) -> None:
        # Run -> file. None: of each test the one that its own configuration names.
        self._annotations = annotations
        self._results = results
        self._archived = archived  # then what lies here was all that counted
        self.runs = Layout(results).runs
        self.resolved = Layout(results).resolved()
        self.cache = Layout(results).cache
        self._environments = environments

    # -- configurations ---------------------------------------------------------------------------------

    def compared(self, products: Mapping[str, Product]) -> dict[str, Product]:
        """Return the products; those whose configuration differs from another run's of the same digest, also
        one of another experiment, say in which places."""
        names = _names(self.resolved) if self._archived else self.configurations(products)
        groups: dict[str, list[str]] = {}
        for name in sorted(names):
            groups.setdefault(f"{name.partition('-')[0]}-", []).append(name)
        several = {start: names for start, names in groups.items() if len(names) > 1}
        return {name: self._compared(product, several) for name, product in products.items()}

    def _compared(self, product: Product, several: Mapping[str, list[str]]) -> Product:
        ran = product.ran
        if not several or ran is None or not ran.resolved or ran.differs:
            return product
        own = resolved.name(product.digest, ran.resolved)
        group = several.get(resolved.of_digest(product.digest), [])
        if own not in group:
            return product
        here = resolved.read(self.resolved / own)
        others = (resolved.read(self.resolved / name) for name in group if name != own)
        places = next(
            (differences for other in others if (differences := resolved.first_differences(here, other))), ()
        )
        if not places and not self._archived:
            return product  # one was recorded before secrets became marks
        # In an archive, paths of the machine are the same word.
        places = places or ("paths of the machine",)
        return msgspec.structs.replace(product, ran=msgspec.structs.replace(ran, differs=places))

    def configurations(self, products: Mapping[str, Product]) -> set[str]:
        """Return the names of the kept configurations of the products' digests that a product has now, also
        one of another experiment: those of results that were made again since say nothing of these."""
        ours = tuple({resolved.of_digest(product.digest) for product in products.values()})
        there = {name for name in _names(self.resolved) if name.startswith(ours)}
        named = {_configuration(product) for product in products.values()} & there
        for path in self._results.parent.glob("*/runs/*/product.json") if there - named else ():
            if path.parents[2].name != self._results.name:
                named |= {_configuration(_read(path, _Named))} & there
        return named

    # -- curves -----------------------------------------------------------------------------------------

    def curves(
        self,
        plan: Plan,
        products: Mapping[str, Product],
        say: Say = lambda _: None,
        *,
        means_only: bool = False,
    ) -> dict[str, Curve]:
        """Return run -> loss curve of every training that has begun to log; with ``means_only`` the points of
        a curve, most of its file, are not taken where its job has left it."""
        curves = {}
        for planned in plan.runs:
            if planned.run.kind is not TaskKind.TRAIN or (
                not planned.attempts and planned.status is not Status.ACTIVE
            ):
                continue
            curve = self._curve(planned, products.get(planned.run.name), say, _Means if means_only else Curve)
            if curve is not None:
                curves[planned.run.name] = curve
        return curves

    def _curve(
        self, planned: PlannedRun, product: Product | None, say: Say, kind: type[Curve | _Means]
    ) -> Curve | None:
        folder = self.runs / planned.run.name
        if product is not None and "curve" in product.artifacts:
            kept = _read(folder / product.artifacts["curve"], kind)
            if kept is not None:
                return kept if isinstance(kept, Curve) else Curve(last=kept.last, means=kept.means)
        log = folder / product.artifacts.get("log", "-") if product is not None else _newest(folder)
        if log is None or not log.exists():
            return None
        return self._thinned(planned.run.name, log, say)

    def _thinned(self, run: str, log: Path, say: Say) -> Curve | None:
        from ddqjobs.detect.job import curves, logs

        try:
            sources = logs.log_files(log) if log.is_dir() else [log]
            stats = [path.stat() for path in sources]
        except OSError as error:
            return Curve(problem=f"{log.name}: {error.strerror}")
        if not sources:
            return None
        size = sum(s.st_size for s in stats)
        if size > LARGEST_LOG:
            return Curve(
                problem=f"its log has {size >> 20:,} MiB, more than the {LARGEST_LOG >> 20} MiB that are read"
            )
        source = "; ".join(
            f"{path}:{stat.st_size}:{stat.st_mtime_ns}" for path, stat in zip(sources, stats, strict=True)
        )
        path = self.cache / "curves" / f"{run}.json"
        kept = _read(path, _Kept)
        if kept is not None and kept.source == source:
            return kept.curve
        say(f"reading the log of {run}")
        try:
            log_ = logs.read(log)
        except OSError as error:
            return Curve(problem=f"{log.name}: {error.strerror}")
        try:
            curve = msgspec.convert(curves.thin(log_), Curve)
        except msgspec.ValidationError as error:
            return Curve(problem=f"{log.name}: {error}")
        _write(path, _Kept(source=source, curve=curve))
        return curve

    # -- AP from predictions ----------------------------------------------------------------------------

    def recomputed(self, products: Mapping[str, Product]) -> dict[str, Recomputed]:
        """Run -> what was recomputed from the predictions that its product still has."""
        folder = self.cache / "recomputed"
        try:
            there = {path.name.removesuffix(".json") for path in folder.iterdir()}
        except OSError:
            return {}
        recomputed = {}
        for name in there & products.keys():
            kept = _read(folder / f"{name}.json", Recomputed)
            if kept is not None and kept.key == products[name].sha256.get("predictions"):
                recomputed[name] = kept
        return recomputed

    def recompute(
        self,
        runs: Iterable[PlannedRun],
        products: Mapping[str, Product],
        say: Say = lambda _: None,
        memory: str = LOGIN_MEMORY,
    ) -> dict[str, Recomputed]:
        """Return the same after recomputing those of the runs that are not recomputed yet, each within
        ``memory``. Raise InputError for what is not a valid size."""
        size = _bytes(memory)
        recomputed = self.recomputed(products)
        for planned in runs:
            name = planned.run.name
            if (
                planned.run.kind is not TaskKind.TEST
                or planned.status is not Status.DONE
                or name not in products
            ):
                continue
            if name in recomputed and recomputed[name].precision:
                continue
            say(f"computing AP from the predictions of {name}")
            again = self._recompute(planned, products[name], size)
            if again.problem and name in recomputed and not recomputed[name].problem:
                continue  # what an older version kept holds: the predictions are the same
            recomputed[name] = again
            _write(self.cache / "recomputed" / f"{name}.json", again)
        return recomputed

    def _recompute(self, planned: PlannedRun, product: Product, memory: int) -> Recomputed:
        name, key = planned.run.name, product.sha256.get("predictions", "")
        if "predictions" not in product.artifacts:
            return Recomputed(run=name, key=key, problem="the test left no predictions")
        folder = self.runs / name
        work_dir = RunFolder(folder).attempt(product.attempt).work_dir
        what = folder / product.artifacts["predictions"]
        try:
            annotations = self._annotations_of(planned, work_dir)
        except (CannotEvaluate, OSError) as error:
            return Recomputed(run=name, key=key, problem=clean(str(error)))
        said = NO_EVALUATOR
        for python in self._pythons(planned.run.environment):
            argv: list[str | Path] = [python, _RECOMPUTE, what, annotations, "--memory", str(memory)]
            done = process.run(argv, timeout=_EVALUATION_S, env=_variables(python))
            if done.code == 0:
                return _answer(name, key, done.stdout)
            if done.code == process.NOT_STARTED:
                continue
            last = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
            message = clean(last[-1].removeprefix("recompute: "))
            if done.code == _NO_MEMORY_CODE or _ABORTED in done.stderr:
                said = _needs_more(memory)
                break
            if done.code != _NO_EVALUATOR_CODE:
                said = message
                break
            if message.endswith(NO_PYCOCOTOOLS):
                said = message
        return Recomputed(run=name, key=key, problem=said)

    def _annotations_of(self, planned: PlannedRun, work_dir: Path) -> Path:
        """Return the annotations of a test. Raise CannotEvaluate, OSError."""
        if self._annotations is None:
            tree = (
                expanded(self._environments.project, planned.run.workdir) if planned.run.workdir else work_dir
            )
            return annotation_file(work_dir, tree)
        if planned.run.name not in self._annotations:
            raise CannotEvaluate(ANNOTATIONS_ABSENT)
        return self._annotations[planned.run.name]

    def _pythons(self, environment: str) -> list[Path]:
        """Return ours, which may have the faster evaluator; the test's own, where it is built here."""
        ours = [Path(sys.executable)]
        try:
            return [*ours, self._environments.python(environment)] if environment else ours
        except DdqjobsError:
            return ours


def _bytes(memory: str) -> int:
    try:
        return megabytes(memory) * 1_000_000
    except ValueError as error:
        raise InputError(f"memory: {error}") from None


def _needs_more(memory: int) -> str:
    more = f"--memory {-(-memory // 2**30) * 4}GiB, best in a job, allows more"
    return f"{NEEDS_MORE} {size(memory)} of memory; {more}"


def _variables(python: Path) -> dict[str, str]:
    """Return the variables for an interpreter: ours may need all, an environment's has what a job has."""
    return dict(os.environ) if python == Path(sys.executable) else inherited(os.environ)


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    metrics: dict[str, float | None]
    errors: dict[str, int] = {}
    sizes: dict[str, dict[str, int]] = {}
    classes: dict[str, float] = {}
    precision: dict[str, list[float]] = {}


def _answer(run: str, key: str, text: str) -> Recomputed:
    try:
        answer = msgspec.json.decode(text.strip().splitlines()[-1], type=_Answer)
    except (msgspec.MsgspecError, IndexError, RecursionError):
        return Recomputed(run=run, key=key, problem="its answer cannot be read")
    return Recomputed(
        run=run, key=key, metrics=answer.metrics, errors=answer.errors, sizes=answer.sizes,
        classes=answer.classes, precision=answer.precision,
    )  # fmt: skip


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _configuration(product: Product | _Named | None) -> str:
    """Return the name under which a product's configuration is kept; empty if it was not recorded."""
    ran = product.ran if product is not None else None
    return resolved.name(product.digest, ran.resolved) if product and ran and ran.resolved else ""


def _newest(folder: Path) -> Path | None:
    """The work_dir of a run's newest attempt."""
    numbers = evidence.numbers(folder)
    return RunFolder(folder).attempt(numbers[-1]).work_dir if numbers else None


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None


def _write(path: Path, value: object) -> None:
    """Keeps a value; a disk that is full or read-only costs only time."""
    from ddqjobs.base import files

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, msgspec.json.encode(value))
    except OSError:
        pass
