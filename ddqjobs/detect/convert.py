"""Brings a checkpoint of one code base to another, every key accounted for.

    python -m ddqjobs.detect.convert SRC --out CHECKPOINT --report REPORT --config CONFIG
        [--mapping identity] [--cfg-options k=v ...]

Runs in the target's environment. Exit code 2, one line and nothing written, for a file that cannot be loaded
safely or does not fit the model. The report is JSON::

    mapping          name of the mapping
    source, target   {"sha256", "bytes"} of the two files
    tensors          number of tensors in the target, all bit-equal to the source's
    dropped          [{"key", "reason"}]: tied duplicates, which are the same tensors under a second name
    metadata         whether state_dict._metadata was there; it is kept, since mmdet takes a checkpoint
                     without it for one of before version 1 and renames keys
"""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Sequence

from . import files, runtime

# After a training step mmdet's DDQ DETR holds the head's branches in its decoder as well.
TIED = (("decoder.aux_reg_branches.", "bbox_head.aux_reg_branches."),)
MAPPINGS: dict[str, Callable[[str], str]] = {"identity": lambda key: key}
_META = ("dataset_meta", "epoch", "iter", "experiment_name", "mmengine_version", "time")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.convert", description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--config", required=True, help="configuration of the target model")
    parser.add_argument("--mapping", choices=sorted(MAPPINGS), default="identity")
    parser.add_argument("--cfg-options", nargs="*", default=[], metavar="key=value")
    args = parser.parse_args(argv)
    runtime.set_up()
    try:
        checkpoint = runtime.load_checkpoint(args.source)
        model = runtime.build_model(runtime.load_config(args.config, args.cfg_options))
        report = convert(checkpoint, model.state_dict(), args.source, args.out, args.mapping)
    except (runtime.CannotLoad, FileNotFoundError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2
    files.replace_json(args.report, report)
    print(f"convert: {report['tensors']} tensors, {len(report['dropped'])} tied duplicates dropped")
    return 0


def convert(checkpoint: Any, target: Any, source: Path, out: Path, mapping: str) -> dict[str, Any]:
    """Write the checkpoint with the weights under the target's names; the report.

    ``target`` is the state_dict of the target model. Raises CannotLoad if a weight is missing, left over,
    or of another shape or type.
    """
    state = checkpoint.get("state_dict", checkpoint)
    renamed = _rename(state, MAPPINGS[mapping])
    dropped = _tied(renamed, target)
    kept = OrderedDict((key, value) for key, value in renamed.items() if key not in dropped)
    _fit(kept, target, source)
    metadata = getattr(state, "_metadata", None)
    if metadata is not None:
        kept._metadata = metadata  # type: ignore[attr-defined]
    digest = files.sha256(source)
    meta = {k: v for k, v in (checkpoint.get("meta") or {}).items() if k in _META}
    content = {"meta": {**meta, "converted_from": digest}, "state_dict": kept}
    runtime.save(content, out, lambda written: _same(written, kept))
    return {
        "mapping": mapping,
        "source": {"sha256": digest, "bytes": source.stat().st_size},
        "target": {"sha256": files.sha256(out), "bytes": out.stat().st_size},
        "tensors": len(kept),
        "dropped": [{"key": key, "reason": reason} for key, reason in sorted(dropped.items())],
        "metadata": metadata is not None,
    }


def _rename(state: Any, mapping: Callable[[str], str]) -> dict[str, Any]:
    import torch

    renamed: dict[str, Any] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise runtime.CannotLoad(f"the state_dict holds {str(key)[:80]!r}, which is no tensor")
        if mapping(key) in renamed:
            raise runtime.CannotLoad(f"two weights become {mapping(key)}")
        renamed[mapping(key)] = value
    return renamed


def _tied(state: dict[str, Any], target: Any) -> dict[str, str]:
    """Keys that the target does not have and that are bit-equal to the weight they are tied to."""
    import torch

    found: dict[str, str] = {}
    for key in state:
        for copy, original in TIED:
            other = original + key[len(copy) :]
            if key in target or not key.startswith(copy) or other not in state:
                continue
            if torch.equal(state[key], state[other]):
                shared = state[key].data_ptr() == state[other].data_ptr()
                found[key] = f"tied to {other} ({'same storage' if shared else 'bit-equal'})"
    return found


def _fit(state: dict[str, Any], target: Any, source: Path) -> None:
    """Raises CannotLoad unless keys, shapes and types are the target's."""
    problems: list[tuple[str, list[str]]] = [
        ("missing", [k for k in target if k not in state]),
        ("unknown to the model", [k for k in state if k not in target]),
        ("of another shape", [k for k in state if k in target and state[k].shape != target[k].shape]),
        ("of another type", [k for k in state if k in target and state[k].dtype != target[k].dtype]),
    ]
    words = [f"{len(keys)} weights {what}, e.g. {keys[0]}" for what, keys in problems if keys]
    if words:
        raise runtime.CannotLoad(f"{source} does not fit the model: {'; '.join(words)}")


def _same(written: Path, state: dict[str, Any]) -> None:
    """Raises CannotLoad unless the written file holds the same bits under the same keys."""
    import torch

    again = runtime.load_checkpoint(written)["state_dict"]
    differ = [k for k in state if k not in again or not torch.equal(again[k], state[k])]
    # NaN differs from itself: compare the bits of what is left.
    differ = [k for k in differ if k not in again or again[k].numpy().tobytes() != state[k].numpy().tobytes()]
    if differ or list(again) != list(state):
        raise runtime.CannotLoad(f"what was written differs from what was read: {differ[:1]}")


if __name__ == "__main__":
    sys.exit(main())
