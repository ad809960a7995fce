"""Measures how far two results are from each other. Judges nothing: tolerances are the experiment's.

    python -m ddqjobs.detect.align predictions A B --out align.json [--logs LOG_A LOG_B]
    python -m ddqjobs.detect.align losses LOG_A LOG_B --out align.json
    python -m ddqjobs.detect.align weights CHECKPOINT_A CHECKPOINT_B --out align.json
    python -m ddqjobs.detect.align modules DUMP_A DUMP_B --out align.json [--tolerance 1e-5]
    python -m ddqjobs.detect.align repeat CONFIG --iterations N --work-dir W --out align.json
                                          [--cfg-options key=value ...]

Dumps are those of :mod:`ddqjobs.detect.capture`. Inputs of ``losses`` and ``--logs`` are a work_dir, a
scalars.json or the artifact ``log`` of a run. NumPy for predictions and modules, torch for weights, nothing
for losses. ``repeat`` trains CONFIG twice for its first N iterations and compares the two as ``losses`` does.
Exit code 2, one line, for inputs that cannot be compared and an --out that is one of them; 1 if a training
of ``repeat`` fails.
The result is JSON; a number is null where a NaN or an infinity stands against a number::

    kind        predictions, losses, weights, modules or repeat (with the metrics of losses)
    bit_equal   whether everything compared is the same, bit by bit
    metrics     what tolerances are for, see below
    a, b        what each input holds (counts)

    predictions metrics: box, score (largest difference of matched boxes: pixels, absolute), matched,
                unmatched (boxes), unmatched_score (highest score of an unmatched box), images, not_finite;
                with --logs also ap (difference of bbox_mAP, b - a, in AP points)
                worst_box, worst_score: image_id, label
    losses      metrics: loss (largest relative difference of any loss term), total (of the loss itself),
                grad_norm, iterations (common ones), left_over (iterations and loss terms
                that only one side has), first_difference (iteration, from 1; null: none),
                not_finite
                terms: {term: {"relative": ..., "at": iteration}};  only_a, only_b: terms on one side
                val: {epoch: difference of bbox_mAP, b - a, fraction}
    weights     metrics: weight (largest absolute difference), differing, tensors, not_finite
                worst: name;  only_a, only_b, shapes: names
    modules     metrics: module (largest difference, in parts of the largest value), differing, modules,
                left_over (names on one side only, or without a part that both have)
                first: the first that differs: name (``data.*``: the data, before any module), call, part,
                difference, and a, b: shape, type, min, max, mean, std, not_finite; null: none
                differing: the first twenty names;  only_a, only_b, apart (no common part): names
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from . import files, repeat
from .compare import modules
from .job import logs
from .training import distributed

MIN_OVERLAP = 0.5  # boxes that overlap less are not the same detection
_ARRAYS = ("image_ids", "offsets", "boxes", "scores", "labels")


class CannotCompare(ValueError):
    """The inputs cannot be compared; the message is one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.align", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("predictions", "losses", "weights", "modules"):
        command = commands.add_parser(name)
        command.add_argument("a", type=Path)
        command.add_argument("b", type=Path)
        command.add_argument("--out", type=Path, required=True)
        if name == "predictions":
            command.add_argument("--logs", type=Path, nargs=2, metavar=("LOG_A", "LOG_B"))
        if name == "modules":
            command.add_argument("--tolerance", type=float, default=modules.TOLERANCE)
    _add_repeat(commands.add_parser("repeat"))
    args = parser.parse_args(argv)
    try:
        files.keep_apart({"--out": args.out}, _inputs(args))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        result = _compare(args)
        if distributed.rank():
            return 0  # the first process speaks for all
        files.replace_json(args.out, _plain(result))
    except (CannotCompare, files.SameFile, OSError) as error:
        print(f"align: {error}", file=sys.stderr)
        return 2
    except repeat.CannotRepeat as error:
        print(f"align: {error}", file=sys.stderr)
        return error.code
    if args.command == "modules":
        print(f"align: {modules.sentence(result)}")
    if args.command == "repeat":
        print(f"align: {_repeats(result)}")
    print(f"align: {'bit-equal' if result['bit_equal'] else 'different'}: {_plain(result['metrics'])}")
    return 0


def _inputs(args: argparse.Namespace) -> list[Path]:
    if args.command == "repeat":
        return [Path(args.config)]
    return [args.a, args.b, *(getattr(args, "logs", None) or ())]


def _add_repeat(command: argparse.ArgumentParser) -> None:
    command.add_argument("config")
    command.add_argument("--iterations", type=int, required=True)
    command.add_argument("--work-dir", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--cfg-options", nargs="*", default=[], metavar="key=value")


def _repeats(result: dict[str, Any]) -> str:
    metrics = result["metrics"]
    if result["bit_equal"]:
        return f"bit-equal over {metrics['iterations']} iterations"
    first = metrics["first_difference"]
    return "differs" if first is None else f"differs from iteration {first}"


def _compare(args: argparse.Namespace) -> dict[str, Any]:
    if args.command == "repeat":
        folders = repeat.twice(args.config, args.iterations, args.work_dir, args.cfg_options)
        if distributed.rank():
            return {}
        return {**losses(*map(_log, folders)), "kind": "repeat"}
    if args.command == "losses":
        return losses(_log(args.a), _log(args.b))
    if args.command == "weights":
        return weights(args.a, args.b)
    if args.command == "modules":
        return modules.compare(_dump(args.a), _dump(args.b), args.tolerance)
    result = predictions(load_predictions(args.a), load_predictions(args.b))
    if args.logs:
        result["metrics"]["ap"] = _ap(*(_log(path) for path in args.logs))
    return result


def _dump(path: Path) -> dict[str, Any]:
    from .compare import dumps

    try:
        return dumps.read(path)
    except ValueError as error:
        raise CannotCompare(str(error)) from error


# ---------------------------------------------------------------------------------------------- predictions


class _Worst:
    """Largest difference seen, and where."""

    def __init__(self) -> None:
        self.value = 0.0
        self.where: dict[str, int] = {}

    def see(self, value: float, **where: int) -> None:
        if value > self.value or (value == self.value == 0.0 and not self.where):
            self.value, self.where = value, where


def load_predictions(path: Path) -> dict[str, Any]:
    """Arrays of a predictions.npz, or of COCO results (the JSON that mmdet's evaluators write).

    Raises CannotCompare for a file that is torn or inconsistent."""
    import numpy as np

    with path.open("rb") as stream:
        first = stream.read(1)
    arrays = _coco_results(path) if first == b"[" else _archive(path)
    count, images = len(arrays["boxes"]), len(arrays["image_ids"])
    offsets = arrays["offsets"]
    whole = arrays["boxes"].shape == (count, 4) and offsets.shape == (images + 1,)
    whole = whole and offsets[0] == 0 and offsets[-1] == count and bool((np.diff(offsets) >= 0).all())
    if not whole or not len(arrays["scores"]) == len(arrays["labels"]) == count:
        raise CannotCompare(f"{path}: arrays do not belong together")
    if len(set(arrays["image_ids"].tolist())) != images:
        raise CannotCompare(f"{path}: an image is there twice")
    return arrays


def _archive(path: Path) -> dict[str, Any]:
    import numpy as np

    try:
        # An open file: np.load leaves a path's file open when the zip is torn.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in _ARRAYS}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CannotCompare(f"{path}: no predictions: {str(error).splitlines()[0][:200]}") from error


def _coco_results(path: Path) -> dict[str, Any]:
    """``[{"image_id", "bbox": [x, y, w, h], "score", "category_id"}, ...]`` as arrays, images by id."""
    import numpy as np

    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        ids = np.array([row["image_id"] for row in rows], np.int64)
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        scores = np.array([row["score"] for row in rows], np.float64)
        labels = np.array([row["category_id"] for row in rows], np.int64)
    except (ValueError, KeyError, TypeError) as error:
        raise CannotCompare(f"{path}: no COCO results: {type(error).__name__}: {error}") from error
    boxes[:, 2:] += boxes[:, :2]
    order = np.lexsort((-scores, ids))
    images, counts = np.unique(ids, return_counts=True)
    arrays = {"image_ids": images, "offsets": np.concatenate([[0], np.cumsum(counts)])}
    return {**arrays, "boxes": boxes[order], "scores": scores[order], "labels": labels[order]}


def predictions(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Compare detections image by image; see the module. Raises CannotCompare if no image is common."""
    places = {int(image): i for i, image in enumerate(b["image_ids"])}
    common = [(i, places[int(image)]) for i, image in enumerate(a["image_ids"]) if int(image) in places]
    if not common:
        raise CannotCompare("the two predictions have no image in common")
    box, score = _Worst(), _Worst()
    matched = not_finite = 0
    left = _only(a, {i for i, _ in common}) + _only(b, {j for _, j in common})
    for i, j in common:
        one, two = _image(a, i), _image(b, j)
        pairs = match(one, two)
        matched += len(pairs)
        left += _unmatched(one, [p for p, _ in pairs]) + _unmatched(two, [q for _, q in pairs])
        not_finite += _see(one, two, pairs, int(a["image_ids"][i]), box, score)
    same = all(a[n].dtype == b[n].dtype and a[n].tobytes() == b[n].tobytes() for n in _ARRAYS)
    metrics = {
        "box": math.nan if not_finite else box.value,
        "score": math.nan if not_finite else score.value,
        "matched": matched,
        "unmatched": len(left),
        "unmatched_score": max(left, default=0.0),
        "images": len(common),
        "not_finite": not_finite,
    }
    sizes = [{"images": len(x["image_ids"]), "boxes": len(x["boxes"])} for x in (a, b)]
    result = {"kind": "predictions", "bit_equal": same, "metrics": metrics, "a": sizes[0], "b": sizes[1]}
    return {**result, "worst_box": box.where, "worst_score": score.where}


def _only(side: dict[str, Any], common: set[int]) -> list[float]:
    """Scores of all detections in images that the other side has not got (no detection there, no row)."""
    rest = [i for i in range(len(side["image_ids"])) if i not in common]
    return [float(score) for i in rest for score in _image(side, i)[1]]


def match(a: tuple[Any, Any, Any], b: tuple[Any, Any, Any]) -> list[tuple[int, int]]:
    """Pairs of detections (boxes, scores, labels) that are the same: by falling score of ``a`` each takes
    the free one of its label with the largest overlap, of equally large ones that of the nearest score."""
    import numpy as np

    if not len(a[0]) or not len(b[0]):
        return []
    overlap = _overlap(a[0].astype(np.float64), b[0].astype(np.float64))
    overlap[a[2][:, None] != b[2][None]] = -1.0
    pairs: list[tuple[int, int]] = []
    for i in np.argsort(-a[1], kind="stable").tolist():
        row = overlap[i]
        best = row.max()
        if best < MIN_OVERLAP:
            continue
        choices = np.flatnonzero(row == best)
        gap = np.abs(b[1][choices].astype(np.float64) - float(a[1][i]))
        j = int(choices[int(np.argmin(gap))])
        pairs.append((i, j))
        overlap[:, j] = -1.0
    return pairs


def _overlap(a: Any, b: Any) -> Any:
    """(n, m) intersection over union; 1 for equal boxes, also those without area, and -1 for NaN."""
    import numpy as np

    with np.errstate(all="ignore"):
        low = np.maximum(a[:, None, :2], b[None, :, :2])
        high = np.minimum(a[:, None, 2:], b[None, :, 2:])
        inter = np.prod(np.clip(high - low, 0, None), axis=2)
        areas = [np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b)]
        overlap = inter / (areas[0][:, None] + areas[1][None] - inter)
    overlap[(a[:, None] == b[None]).all(2)] = 1.0
    return np.nan_to_num(overlap, nan=-1.0, posinf=-1.0, neginf=-1.0)


def _image(arrays: dict[str, Any], index: int) -> tuple[Any, Any, Any]:
    start, end = arrays["offsets"][index : index + 2]
    return arrays["boxes"][start:end], arrays["scores"][start:end], arrays["labels"][start:end]


def _unmatched(image: tuple[Any, Any, Any], taken: list[int]) -> list[float]:
    """Scores of the detections that found no partner; NaN as 1, so that it is not overlooked."""
    used = set(taken)
    rest = [float(s) for i, s in enumerate(image[1]) if i not in used]
    return [s if math.isfinite(s) else 1.0 for s in rest]


def _see(one: Any, two: Any, pairs: list[tuple[int, int]], image: int, box: _Worst, score: _Worst) -> int:
    """Note the differences of the pairs of an image; how many of them are not finite."""
    import numpy as np

    if not pairs:
        return 0
    i, j = (list(side) for side in zip(*pairs))
    with np.errstate(invalid="ignore"):
        coordinates = np.abs(one[0][i].astype(np.float64) - two[0][j].astype(np.float64)).max(1)
        scores = np.abs(one[1][i].astype(np.float64) - two[1][j].astype(np.float64))
    for values, worst in ((coordinates, box), (scores, score)):
        values = np.where(np.isfinite(values), values, 0.0)
        at = int(np.argmax(values))
        worst.see(float(values[at]), image_id=image, label=int(one[2][i[at]]))
    return int((~np.isfinite(coordinates) | ~np.isfinite(scores)).sum())


# --------------------------------------------------------------------------------------------------- losses


class _Curve(NamedTuple):
    rows: dict[int, dict[str, float]]  # iteration over all epochs -> values
    terms: list[str]


def losses(a: logs.Log, b: logs.Log) -> dict[str, Any]:
    """Compare two loss curves; see the module. Raises CannotCompare if no iteration is common."""
    one, two = _curves(a, b)
    common = sorted(set(one.rows) & set(two.rows))
    if not common:
        raise CannotCompare("the two logs have no training iteration in common")
    terms = [t for t in one.terms if t in two.terms]
    if not any("loss" in t for t in terms):
        raise CannotCompare("the two logs have no loss term in common")
    worst = {t: _term(one, two, t, common) for t in terms}
    not_finite = sum(w["not_finite"] for w in worst.values())
    first = [s for s in common if any(_bits(one, s, t) != _bits(two, s, t) for t in terms)][:1]
    sides = [[t for t in x.terms if t not in y.terms] for x, y in ((one, two), (two, one))]
    counts = [{"iterations": len(x.rows), "validations": len(log.val)} for x, log in ((one, a), (two, b))]
    metrics = {
        "loss": _largest([w["relative"] for t, w in worst.items() if "loss" in t]),
        "total": worst["loss"]["relative"] if "loss" in worst else None,
        "grad_norm": worst["grad_norm"]["relative"] if "grad_norm" in worst else None,
        "iterations": len(common),
        "left_over": len(set(one.rows) ^ set(two.rows)) + sum("loss" in t for side in sides for t in side),
        "first_difference": first[0] if first else None,
        "not_finite": not_finite,
    }
    return {
        "kind": "losses",
        "bit_equal": not first and not any(sides) and set(one.rows) == set(two.rows),
        "metrics": metrics,
        "a": counts[0],
        "b": counts[1],
        "terms": {t: {"relative": w["relative"], "at": w["at"]} for t, w in worst.items()},
        "only_a": sides[0],
        "only_b": sides[1],
        "val": _validations(a, b),
    }


def _log(path: Path) -> logs.Log:
    log = logs.read(path)
    if not (log.train or log.val or log.test):
        raise CannotCompare(f"{path}: no log in it")
    return log


def _curves(a: logs.Log, b: logs.Log) -> tuple[_Curve, _Curve]:
    """Both curves by iteration over all epochs. mmcv counts within the epoch: the length of an epoch is then
    taken from the other log, or from this one's own numbering if both are mmcv's."""
    length = next((n for n in (_length(a), _length(b)) if n), 0) or _most(a, b)
    curves = []
    for log in (a, b):
        rows = {r.step or (r.epoch - 1) * length + r.iteration: r.values for r in log.train}
        names = {name: None for values in rows.values() for name in values}
        curves.append(_Curve(rows, [n for n in names if "loss" in n or n == "grad_norm"]))
    return curves[0], curves[1]


def _length(log: logs.Log) -> int:
    """Iterations per epoch: how far the first logged iterations of epochs 1 and 2 are apart. 0: unknown."""
    first = {row.epoch: row.step for row in reversed(log.train) if row.step}
    return first[2] - first[1] if 1 in first and 2 in first else 0


def _most(a: logs.Log, b: logs.Log) -> int:
    return max([r.iteration for log in (a, b) for r in log.train], default=0)


def _term(one: _Curve, two: _Curve, term: str, common: list[int]) -> dict[str, Any]:
    """Largest relative difference of a term and the first iteration where it is reached."""
    worst: dict[str, Any] = {"relative": 0.0, "at": None, "not_finite": 0}
    for step in common:
        x, y = one.rows[step].get(term), two.rows[step].get(term)
        if x is None or y is None:
            continue
        if not (math.isfinite(x) and math.isfinite(y)):
            if _bits(one, step, term) != _bits(two, step, term):
                worst["not_finite"] += 1
                if worst["not_finite"] == 1:
                    worst.update(relative=math.nan, at=step)
            continue
        relative = abs(x - y) / max(abs(x), abs(y)) if x != y else 0.0
        if relative > worst["relative"]:
            worst.update(relative=relative, at=step)
    return worst


def _bits(curve: _Curve, step: int, term: str) -> bytes | None:
    value = curve.rows[step].get(term)
    if value is None:
        return None
    return b"nan" if math.isnan(value) else struct.pack("<d", value)


def _validations(a: logs.Log, b: logs.Log) -> dict[str, float | None]:
    other = {v.epoch: v.values.get("bbox_mAP") for v in b.val}
    found: dict[str, float | None] = {}
    for row in a.val:
        x, y = row.values.get("bbox_mAP"), other.get(row.epoch)
        if x is not None and y is not None:
            found[str(row.epoch)] = round(y - x, 6)
    return found


def _ap(a: logs.Log, b: logs.Log) -> float | None:
    """Difference of the two logs' final bbox_mAP in AP points, None if one has none."""
    x, y = (log.metrics.get("bbox_mAP") for log in (a, b))
    return None if x is None or y is None else round(100 * (y - x), 4)


def _largest(values: list[float]) -> float:
    """Largest of the values; NaN if one is NaN."""
    return math.nan if any(math.isnan(v) for v in values) else max(values, default=0.0)


# -------------------------------------------------------------------------------------------------- weights


def weights(a: Path, b: Path) -> dict[str, Any]:
    """Compare the state_dicts of two checkpoints; see the module. Raises CannotCompare."""
    from . import runtime

    runtime.allow_checkpoints()
    try:
        states = [runtime.load_checkpoint(path) for path in (a, b)]
    except runtime.CannotLoad as error:
        raise CannotCompare(str(error)) from error
    one, two = (state.get("state_dict", state) for state in states)
    common = [k for k in one if k in two]
    shapes = [k for k in common if one[k].shape != two[k].shape or one[k].dtype != two[k].dtype]
    worst, name, differing, not_finite = 0.0, None, 0, 0
    for key in [k for k in common if k not in shapes]:
        if one[key].numpy().tobytes() == two[key].numpy().tobytes():
            continue
        differing += 1
        gap = float((one[key].double() - two[key].double()).abs().max())
        not_finite += not math.isfinite(gap)
        if gap > worst or name is None:
            worst, name = gap, key
    only = [[k for k in x if k not in y] for x, y in ((one, two), (two, one))]
    metrics = {
        "weight": math.nan if not_finite else worst,
        "differing": differing,
        "tensors": len(common),
        "not_finite": not_finite,
    }
    return {
        "kind": "weights",
        "bit_equal": not (differing or shapes or any(only)),
        "metrics": metrics,
        "a": {"tensors": len(one)},
        "b": {"tensors": len(two)},
        "worst": name,
        "only_a": only[0],
        "only_b": only[1],
        "shapes": shapes,
    }


def _plain(value: Any) -> Any:
    """``value`` with null for the numbers that JSON does not have."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
