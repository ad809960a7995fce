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
import math
import sys
from pathlib import Path
from typing import Any, Sequence

from . import files, repeat
from .compare import CannotCompare, detections, modules, scalars
from .training import distributed


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
        return {**scalars.compare(*map(scalars.load, folders)), "kind": "repeat"}
    if args.command == "losses":
        return scalars.compare(scalars.load(args.a), scalars.load(args.b))
    if args.command == "weights":
        from .compare import state_dicts

        return state_dicts.compare(args.a, args.b)
    if args.command == "modules":
        return modules.compare(_dump(args.a), _dump(args.b), args.tolerance)
    result = detections.compare(detections.load(args.a), detections.load(args.b))
    if args.logs:
        result["metrics"]["ap"] = scalars.ap(*map(scalars.load, args.logs))
    return result


def _dump(path: Path) -> dict[str, Any]:
    from .compare import dumps

    try:
        return dumps.read(path)
    except ValueError as error:
        raise CannotCompare(str(error)) from error


def _plain(value: Any) -> Any:
    """``value`` with null for the numbers that JSON does not have."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
