"""Looks whether a finished attempt left its product, and if so puts ``product.json`` in place.

    python -m ddqjobs.detect.product

Called by the launch script after the task, whatever its exit code; all it needs is in the environment
(``docs/reference/job-contract.md``). Standard library only. Exit codes: 0 the product is in place; 2 the
environment or run.json cannot be used; 3 the product is not there or not whole; 4 it is, but this attempt may
no longer speak for the run (its own ``attempts/<n>/product.json`` stays as a record). Each says why in one
line.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple
from xml.etree import ElementTree

from . import files, loaded, proof
from .checks import resolved, truth
from .job import checkpoints, claim, costs, curves, ending, installed, logs, progress, tested

OK, UNUSABLE, NOT_WHOLE, LOST = 0, 2, 3, 4


class NotWhole(Exception):
    """The product is missing or torn; the message says what."""


class Output(NamedTuple):
    """The files that a task left: artifacts as paths below the work_dir."""

    artifacts: dict[str, Path]
    metrics: dict[str, float | None]
    report: dict[str, Any]


class Attempt(NamedTuple):
    """The attempt that this process is about, from the environment and run.json."""

    run: dict[str, Any]
    run_dir: Path
    attempt_dir: Path
    work_dir: Path
    number: int
    ticket: str
    adopted_from: str
    adoption: dict[str, Any]  # what its examination found
    exited_0: bool


def main(variables: Mapping[str, str] = os.environ) -> int:
    """Look, and put the product in place; see the module."""
    try:
        attempt = _attempt(variables)
    except (KeyError, ValueError, OSError) as error:
        print(f"product: cannot be looked for: {type(error).__name__}: {error}", file=sys.stderr)
        return UNUSABLE
    try:
        output = look(
            attempt.run, attempt.work_dir, adopted=bool(attempt.adopted_from), exited_0=attempt.exited_0
        )
    except NotWhole as problem:
        why = f"{problem}{_adoptable(attempt)}"
        print(f"product: none: {why}")
        # For the script's last word, which is JSON.
        files.replace_text(attempt.attempt_dir / "no_product", re.sub(r'[\x00-\x1f"\\]', "'", why))
        return NOT_WHOLE
    if attempt.run["kind"] == "train" and not attempt.adopted_from:
        digests = functools.partial(checkpoints.digest, attempt.run_dir)
        output.report.update(progress.account(attempt.run_dir, attempt.number, digests))
    product = _product(attempt, output)
    files.replace_json(attempt.attempt_dir / "product.json", product)
    job = claim.from_environment(variables)
    steps: list[Callable[[], None]] = [lambda: _link(attempt, output), lambda: _publish(attempt, product)]
    for step in steps:
        why_lost = job.lost()
        if why_lost:
            print(f"product: whole, but not put in place: {why_lost}")
            return LOST
        step()
    if attempt.run["kind"] == "train" and not attempt.adopted_from:  # adopted files are not ours to remove
        checkpoints.prune(job, attempt.work_dir, keep=0)
    print(f"product: {', '.join(sorted(output.artifacts)) or 'nothing to keep'}")
    return OK


def look(run: Mapping[str, Any], work_dir: Path, *, adopted: bool = False, exited_0: bool = False) -> Output:
    """The product of a run of ``run['kind']`` in ``work_dir``. Raises NotWhole.

    Of an ``adopted`` training a checkpoint is enough: who takes it in says that the training was over. One
    that ``exited_0`` says so itself: it may have had no validation, or may have stopped early.
    """
    if not work_dir.is_dir():
        raise NotWhole(f"no folder {work_dir.name}")
    if run["kind"] == "train":
        output = _adopted_training(work_dir) if adopted else _train(work_dir, exited_0)
    else:
        output = _LOOK[run["kind"]](work_dir)
    for name, pattern in run.get("products", ()):
        output.artifacts[name] = _declared(work_dir, name, pattern)
    if not (output.artifacts or exited_0 or adopted):
        raise NotWhole("the task left no files and did not exit with 0")
    return output


def _adoptable(attempt: Attempt) -> str:
    """Return how a training that exited 0 without its product can be taken as it is, if it can."""
    run = attempt.run
    if run["kind"] != "train" or not attempt.exited_0 or attempt.adopted_from:
        return ""
    try:
        look(run, attempt.work_dir, adopted=True)
    except NotWhole:
        return ""
    command = ("adopt", run.get("experiment", "EXPERIMENT"), run["name"], str(attempt.work_dir))
    return f"; `ddqjobs {' '.join(map(shlex.quote, command))} --because WHY` adopts it as it is"


def _attempt(variables: Mapping[str, str]) -> Attempt:
    """Raises KeyError, ValueError or OSError for what is missing or makes no sense."""
    attempt_dir = Path(variables["DDQJOBS_ATTEMPT_DIR"])
    run = json.loads((attempt_dir / "run.json").read_text(encoding="utf-8"))
    if not isinstance(run, dict) or run.get("kind") not in _KINDS or not isinstance(run.get("name"), str):
        raise ValueError("run.json: the name is missing or the kind is unknown")
    for item in run.get("products", ()):
        if not (isinstance(item, (list, tuple)) and len(item) == 2 and all(isinstance(i, str) for i in item)):
            raise ValueError("run.json: products are not pairs of artifact and glob")
        if not re.match(r"^[A-Za-z0-9][A-Za-z0-9._-]*$", item[0]):
            raise ValueError(f"run.json: invalid artifact name {item[0]!r}")
    return Attempt(
        run,
        Path(variables["DDQJOBS_RUN_DIR"]),
        attempt_dir,
        Path(variables["DDQJOBS_WORK_DIR"]),
        int(variables["DDQJOBS_ATTEMPT"]),
        variables.get("DDQJOBS_TICKET", ""),
        variables.get("DDQJOBS_ADOPTED_FROM", ""),
        json.loads(variables.get("DDQJOBS_ADOPTION", "{}")),
        variables.get("DDQJOBS_EXIT_CODE") == "0",
    )


def _product(attempt: Attempt, output: Output) -> dict[str, Any]:
    """JSON of ``ddqjobs.spec.model.Product``."""
    prefix = attempt.work_dir.relative_to(attempt.run_dir)
    adopted = {"adopted_from": attempt.adopted_from, "adoption": attempt.adoption}
    ran = proof.summary(attempt.attempt_dir / "proof.json")
    if ran:
        ran.update(loaded.collect(attempt.attempt_dir, ran.pop("roots"), os.environ.get("DDQJOBS_TREE", "")))
        ran["changed"] = _changed(ran.pop("built"), attempt.attempt_dir / "loaded.txt")
        ran["annotations"] = truth.read(attempt.attempt_dir)
        digest = attempt.run.get("digest", "")
        ran["earlier"] = _earlier(attempt, ran)
        ran["differs"] = resolved.compare(attempt.run_dir / "attempts", digest)
        everybody = attempt.run_dir.parents[2] / resolved.ALL
        ran["resolved"] = resolved.keep(everybody, digest, attempt.attempt_dir / resolved.NAME)
    return {
        **(adopted if attempt.adopted_from else {}),
        **({"ran": ran} if ran else {}),
        "run": attempt.run["name"],
        "digest": attempt.run.get("digest", ""),
        "kind": attempt.run["kind"],
        "attempt": attempt.number,
        "ticket": attempt.ticket,
        "finished_at": time.time(),
        "metrics": output.metrics,
        "artifacts": {name: (prefix / path).as_posix() for name, path in output.artifacts.items()},
        "sha256": {
            name: files.sha256(attempt.work_dir / path)
            for name, path in output.artifacts.items()
            if (attempt.work_dir / path).is_file()
        },
        "report": _plain(output.report),
    }


def _earlier(attempt: Attempt, ran: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the attempts ran with whose checkpoints a training may have gone on from, where they had
    another machine or other versions."""
    setups = []  # type: list[dict[str, Any]]
    keys = ["processor", "instructions", "gpus", "driver", "packages"]
    for number in range(1, attempt.number if attempt.run["kind"] == "train" else 1):
        folder = attempt.attempt_dir.parent / str(number)
        one = proof.summary(folder / "proof.json")
        kept = {key: one[key] for key in keys if key in one}
        differs = any(kept[key] != ran.get(key) for key in kept) and kept not in setups
        of_digest = checkpoints.digest(attempt.run_dir, number) == attempt.run.get("digest", "")
        if differs and of_digest and any((folder / "work_dir").rglob("*.pth")):
            setups.append(kept)
    return setups


def _changed(built: str, loaded_files: Path) -> list[str]:
    """Return the first of the loaded files of the environment that are not what was built: an attempt's
    start has time to compare some of them only."""
    if not built or not loaded_files.is_file():
        return []
    return installed.changed(Path(built), loaded_files.read_text(encoding="utf-8").splitlines())[:10]


def _link(attempt: Attempt, output: Output) -> None:
    """Put a relative link at ``artifacts/<artifact>`` for each artifact."""
    folder = attempt.run_dir / "artifacts"
    folder.mkdir(exist_ok=True)
    for name, path in output.artifacts.items():
        target = os.path.relpath(str(attempt.work_dir / path), str(folder))

        def write(temporary: Path, target: str = target) -> None:
            temporary.symlink_to(target)

        files.replace(folder / name, write)


def _publish(attempt: Attempt, product: dict[str, Any]) -> None:
    files.replace_json(attempt.run_dir / "product.json", product)


def _declared(work_dir: Path, name: str, pattern: str) -> Path:
    """Return what a declared glob matches; of several the last in natural order (epoch_12 after epoch_9)."""
    if pattern.startswith("/") or ".." in Path(pattern).parts:
        raise NotWhole(f"{pattern!r} of {name} leads out of the work_dir")
    matches = list(work_dir.glob(pattern)) if pattern not in ("", ".") else [work_dir]
    for path in sorted(matches, key=lambda path: ending.natural(str(path)), reverse=True):
        if any(path.iterdir()) if path.is_dir() else path.stat().st_size:
            if path.suffix == ".pth" and files.torn(path):
                raise NotWhole(f"{path.name} of {name}, {files.torn(path)}")
            relative = path.relative_to(work_dir)
            if not _is_utf8(str(relative)):
                raise NotWhole(f"the name {os.fsencode(str(relative))!r} of {name} is not UTF-8")
            return relative
    raise NotWhole(f"{'only what is empty' if matches else 'nothing'} matches {pattern!r} of {name}")


def _is_utf8(name: str) -> bool:
    """Return whether a file's name can be written into JSON. Python keeps other bytes as half a surrogate
    pair."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _anything(work_dir: Path) -> Output:
    log = logs.read(work_dir)
    return Output({}, _metrics(log), {})


def _convert(work_dir: Path) -> Output:
    _checkpoint(work_dir / "checkpoint.pth")
    report = _json(work_dir / "convert.json")
    return Output({"checkpoint": Path("checkpoint.pth"), "convert": Path("convert.json")}, {}, report)


def _train(work_dir: Path, exited_0: bool) -> Output:
    log = logs.read(work_dir)
    try:
        last, report = ending.of(work_dir, log, exited_0)
    except ending.NoEnd as why:
        raise NotWhole(str(why)) from why
    _checkpoint(last)
    return _with_log(work_dir, log, Output({"checkpoint": last.relative_to(work_dir)}, _metrics(log), report))


def final_checkpoint(work_dir: Path) -> Path | None:
    """Return the checkpoint that an adopted training is taken for; None if it has none."""
    series = sorted(work_dir.glob("*.pth"), key=lambda path: ending.natural(path.name))
    for prefix in ("epoch_", "iter_", ""):
        matching = [path for path in series if path.name.startswith(prefix)]
        if matching:
            return matching[-1]
    return None


def _adopted_training(work_dir: Path) -> Output:
    last = final_checkpoint(work_dir)
    if last is None:
        raise NotWhole("no checkpoint (*.pth)")
    _checkpoint(last)
    log = logs.read(work_dir)
    output = Output({"checkpoint": Path(last.name)}, _metrics(log), {})
    return _with_log(work_dir, log, output) if log.train or log.val else output


def _test(work_dir: Path) -> Output:
    log = logs.read(work_dir)
    if not log.test or not log.metrics:
        why = "not evaluated, or no score reached score_thr"
        if tested.found_nothing(work_dir):
            why = "nothing was detected; lower score_thr, or train longer"
        raise NotWhole(f"the log has no metrics of a test ({why})")
    artifacts = {}
    if (work_dir / tested.PREDICTIONS).is_file():
        artifacts["predictions"] = Path(tested.PREDICTIONS)
    report = {"loaded_inexactly": tested.inexact(work_dir), "detections": tested.detections(work_dir)}
    kept = {key: value for key, value in report.items() if value not in ({}, None)}
    return _with_log(work_dir, log, Output(artifacts, _metrics(log), kept))


def _align(work_dir: Path) -> Output:
    report = _json(work_dir / "align.json")
    metrics = report.pop("metrics", {})
    if not isinstance(metrics, dict):
        raise NotWhole("metrics of align.json is not an object")
    return Output({"align": Path("align.json")}, {k: _number(v) for k, v in metrics.items()}, report)


def _unittest(work_dir: Path) -> Output:
    try:
        root = ElementTree.parse(str(work_dir / "junit.xml")).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise NotWhole(f"junit.xml cannot be read, {files.words(error)}") from error
    suites = [root] if root.tag == "testsuite" else root.findall("testsuite")
    metrics: dict[str, float | None] = {}
    for key in ("tests", "failures", "errors", "skipped", "time"):
        metrics[key] = _number(sum(_number(s.get(key, 0)) or 0.0 for s in suites))
    return Output({"junit": Path("junit.xml")}, metrics, {})


_LOOK: dict[str, Callable[[Path], Output]] = {
    "prepare": _anything,
    "smoke": _anything,
    "convert": _convert,
    "test": _test,
    "align": _align,
    "unittest": _unittest,
}
_KINDS = frozenset({*_LOOK, "train"})


def _with_log(work_dir: Path, log: logs.Log, output: Output) -> Output:
    """Add the artifact ``log``: the whole curve in one file, and where it comes from; of a training also
    ``curve``, the same thinned for the report."""
    files.replace_text(work_dir / logs.MERGED, logs.to_lines(log))
    output.artifacts["log"] = Path(logs.MERGED)
    if log.train:
        files.replace_text(work_dir / curves.NAME, json.dumps(curves.thin(log)) + "\n")
        output.artifacts["curve"] = Path(curves.NAME)
    sources = [Path(f).relative_to(work_dir).as_posix() for f in log.files]
    if log.train:
        output.report["costs"] = costs.of(log)
    output.report.update(logs=sources, iterations=len(log.train), skipped_lines=log.skipped)
    return output


def _checkpoint(path: Path) -> None:
    why = files.torn(path)
    if why:
        raise NotWhole(f"{path.name}, {why}")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NotWhole(f"{path.name} cannot be read, {files.words(error)}") from error
    if not isinstance(value, dict):
        raise NotWhole(f"{path.name} is not a JSON object")
    return value


def _metrics(log: logs.Log) -> dict[str, float | None]:
    return {key: _number(value) for key, value in log.metrics.items()}


def _number(value: object) -> float | None:
    """A finite float; None for NaN, infinity and what is no number."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _plain(value: Any) -> Any:
    """``value`` with null for the numbers that JSON does not have."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return _number(value) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
